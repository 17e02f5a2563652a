//! Loading, attaching and adopting.
//!
//! First the maps are made or adopted, and filled: who always passes, then the rest. Only then the program comes to
//! the interface, so it never judges by half a list. An adopted link is kept and its program replaced atomically: not
//! one packet passes unjudged during an upgrade, and drivers that stop the link when a program comes are spared it.

use std::net::IpAddr;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;

use aya::maps::{Array, Map, MapData, MapError, RingBuf};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode as AyaMode};
use aya::programs::{ProgramError, Xdp as Program};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use edge_ebpf::{PORT_WORDS, Settings, map_names};
use ipnet::IpNet;
use tracing::{info, warn};

use super::error::{DataplaneError, Difference};
use super::lock::PinLock;
use super::pins::{self, Pins, remove_file};
use super::samples::Samples;
use super::{AttachedMode, Dataplane, OBJECT, allow, interface, lists, verify};
use crate::config::{Xdp, XdpMode};

/// What a user other than root needs. The verifier takes packet offsets that the packet itself says from nobody without
/// CAP_PERFMON.
const MEANS: &str =
    "this needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; a map's size is bounded by memory";

/// The pinned maps.
#[derive(Debug)]
pub(super) struct Maps {
    pins: Pins,
}

impl Maps {
    /// Opens a map by its name.
    pub(super) fn open<M: TryFrom<Map, Error = MapError>>(
        &self,
        name: &'static str,
    ) -> Result<M, DataplaneError> {
        MapData::from_pin(self.pins.map(name))
            .and_then(Map::from_map_data)
            .and_then(M::try_from)
            .map_err(DataplaneError::map("open", name))
    }
}

pub(super) fn attach(
    settings: &Xdp,
    always_pass: &[IpAddr],
    never_ban: &[IpNet],
) -> Result<Dataplane, DataplaneError> {
    if settings.ports.contains(&edge_ebpf::SSH_PORT) {
        return Err(DataplaneError::SshPort);
    }
    interface::index(&settings.interface)?;
    let pins = Pins::own(&settings.pin_dir);
    pins::create_dir(&settings.pin_dir, &settings.pin_dir)?;
    let lock = PinLock::take(&settings.pin_dir)?;
    let fresh = !pins.dir().exists();
    pins.create()?;
    compare(&pins, settings)?;
    let done = attach_with(settings, &pins, always_pass, never_ban);
    if done.is_err() && fresh {
        // Whatever failed, the first error is the one to tell.
        let _ = pins.remove();
    }
    done.map(|dataplane| Dataplane { lock: Mutex::new(Some(lock)), ..dataplane })
}

fn attach_with(
    settings: &Xdp,
    pins: &Pins,
    always_pass: &[IpAddr],
    never_ban: &[IpNet],
) -> Result<Dataplane, DataplaneError> {
    let interface = &settings.interface;
    let mut ebpf = load_object(settings, pins)?;
    let maps = Maps { pins: pins.clone() };
    let allowed = allow::allowed(always_pass, &settings.allow);
    let never_banned = allow::never_banned(never_ban);
    lists::spare(&maps, &allowed, &never_banned, settings.prefixes_max)?;
    lists::block(&maps, &settings.block, settings.prefixes_max)?;
    write_settings(&maps, settings)?;
    write_ports(&maps, &settings.ports)?;

    let program = ebpf.program_mut(edge_ebpf::PROGRAM).expect("the object has the program");
    let program: &mut Program = program.try_into().expect("the program is XDP");
    verify::load(program).map_err(refused_for("load", interface, Some(MEANS)))?;
    let adopted = match adopt(settings, program)? {
        Some(Adopted::Own) => true,
        Some(Adopted::Other(other, link)) => {
            link.pin(pins.link()).map_err(refused("pin the link of", interface))?;
            other.remove()?;
            true
        }
        None => {
            let link = attach_anew(settings, program)?;
            link.pin(pins.link()).map_err(refused("pin the link of", interface))?;
            false
        }
    };
    remove_file(&pins.program())?;
    program.pin(pins.program()).map_err(refused("pin", interface))?;

    let kernel_log = EbpfLogger::init(&mut ebpf)
        .inspect_err(|error| warn!(%error, "the XDP program's own messages cannot be read"))
        .ok();
    let mut dataplane = open(settings, &maps)?;
    dataplane.adopted = adopted;
    dataplane.kernel_log = kernel_log.map(Mutex::new);
    let ring: RingBuf<MapData> = maps.open(map_names::SAMPLES)?;
    dataplane.samples = Mutex::new(Some(Samples::new(ring)));
    info!(
        %interface,
        mode = %dataplane.mode,
        adopted,
        watch = settings.watch,
        "XDP is attached"
    );
    Ok(dataplane)
}

pub(super) fn open_pinned(settings: &Xdp) -> Result<Dataplane, DataplaneError> {
    let own = Pins::own(&settings.pin_dir);
    let dir = || settings.pin_dir.clone();
    match Pins::found(&settings.pin_dir)?.first() {
        None => Err(DataplaneError::NotPinned { dir: dir() }),
        Some(found) if *found != own => Err(DataplaneError::OtherAbi { dir: dir(), found: found.version() }),
        Some(_) => open(settings, &Maps { pins: own }),
    }
}

pub(super) fn detach(settings: &Xdp) -> Result<(), DataplaneError> {
    if !settings.pin_dir.exists() {
        return Ok(());
    }
    let _lock = PinLock::take(&settings.pin_dir)?;
    detach_by_force(settings)
}

pub(super) fn detach_by_force(settings: &Xdp) -> Result<(), DataplaneError> {
    let found = Pins::found(&settings.pin_dir)?;
    let ours: Vec<_> = found.iter().filter_map(|pins| Some(link(pins).ok()??.1)).collect();
    for pins in found {
        pins.remove()?;
    }
    ours.into_iter().for_each(|program| wait_until_off(&settings.interface, program));
    Ok(())
}

/// The kernel takes a program off a moment after its link's last reference is gone: waits for it, up to a second.
/// Where it takes longer, whoever attaches next hears that the interface is occupied.
fn wait_until_off(interface: &str, program: u32) {
    for _ in 0..100 {
        match interface::attached(interface) {
            Ok(Some(attached)) if attached.program == program => sleep(Duration::from_millis(10)),
            Ok(_) | Err(_) => break,
        }
    }
}

/// Opens what is pinned.
fn open(settings: &Xdp, maps: &Maps) -> Result<Dataplane, DataplaneError> {
    let not_attached = || DataplaneError::NotAttached { interface: settings.interface.clone() };
    let attached = interface::attached(&settings.interface)?.ok_or_else(not_attached)?;
    let (_, program) = link(&maps.pins)?.ok_or_else(not_attached)?;
    if attached.program != program {
        return Err(not_attached());
    }
    let bans_max = MapData::from_pin(maps.pins.map(map_names::BANS))
        .and_then(|map| map.info())
        .map_err(DataplaneError::map("open", map_names::BANS))?
        .max_entries();
    Ok(Dataplane {
        mode: attached.mode,
        adopted: true,
        bans_max,
        spared: lists::spared(maps)?,
        bans: Mutex::new(maps.open(map_names::BANS)?),
        settings: Mutex::new(maps.open(map_names::SETTINGS)?),
        counters: maps.open(map_names::COUNTERS)?,
        samples: Mutex::new(None),
        kernel_log: None,
        interface: settings.interface.clone(),
        program,
        pin_dir: settings.pin_dir.clone(),
        lock: Mutex::new(None),
    })
}

fn load_object(settings: &Xdp, pins: &Pins) -> Result<Ebpf, DataplaneError> {
    let mut loader = EbpfLoader::new();
    for name in map_names::ALL {
        loader.map_pin_path(name, pins.map(name));
        if let Some((size, _)) = size(name, settings) {
            loader.map_max_entries(name, size);
        }
    }
    loader.load(OBJECT).map_err(|error| DataplaneError::Program {
        what: "make the maps of",
        interface: settings.interface.clone(),
        hint: Some(MEANS),
        source: Box::new(error),
    })
}

/// A map's configured size and the setting's name; `None` where the program fixes it.
pub(super) fn size(map: &str, settings: &Xdp) -> Option<(u32, &'static str)> {
    match map {
        map_names::BANS => Some((settings.bans_max, "xdp.bans_max")),
        map_names::SYN_BUDGETS => Some((settings.sources_max, "xdp.sources_max")),
        map_names::ALLOW_V4
        | map_names::ALLOW_V6
        | map_names::BLOCKS_V4
        | map_names::BLOCKS_V6
        | map_names::NEVER_BAN_V4
        | map_names::NEVER_BAN_V6 => Some((settings.prefixes_max, "xdp.prefixes_max")),
        _ => None,
    }
}

/// Compares the pinned maps with those that the configuration asks for. Kinds, keys and values are the ABI version's.
fn compare(pins: &Pins, settings: &Xdp) -> Result<(), DataplaneError> {
    let mut differences = Vec::new();
    for name in map_names::ALL {
        let path = pins.map(name);
        let Some((wanted, what)) = size(name, settings).filter(|_| path.exists()) else { continue };
        let pinned = MapData::from_pin(path)
            .and_then(|map| map.info())
            .map_err(DataplaneError::map("open", name))?
            .max_entries();
        if pinned != wanted {
            differences.push(Difference { map: name, what, pinned, wanted });
        }
    }
    match differences.is_empty() {
        true => Ok(()),
        false => Err(DataplaneError::Differs { dir: pins.dir().to_owned(), differences }),
    }
}

fn write_settings(maps: &Maps, settings: &Xdp) -> Result<(), DataplaneError> {
    let mut map: Array<MapData, Settings> = maps.open(map_names::SETTINGS)?;
    let new = Settings {
        syn_interval_ns: Settings::syn_interval_ns(settings.syn_per_sec),
        syn_burst: settings.syn_burst,
        watch: settings.watch.into(),
        samples_per_sec: settings.samples_per_sec,
        _zero: 0,
    };
    map.set(0, new, 0).map_err(DataplaneError::map("write", map_names::SETTINGS))
}

fn write_ports(maps: &Maps, ports: &[u16]) -> Result<(), DataplaneError> {
    let mut map: Array<MapData, u64> = maps.open(map_names::PORTS)?;
    let mut words = vec![0u64; PORT_WORDS as usize];
    for port in ports {
        words[usize::from(port / 64)] |= 1 << (port % 64);
    }
    for (index, word) in (0..PORT_WORDS).zip(words) {
        map.set(index, word, 0).map_err(DataplaneError::map("write", map_names::PORTS))?;
    }
    Ok(())
}

/// Where an adopted link was pinned.
enum Adopted {
    /// Where ours belongs.
    Own,
    /// Under another ABI version, whose pins are to be removed once the link is pinned anew.
    Other(Pins, FdLink),
}

/// Puts the program in the place of the pinned one, if that is attached as the configuration wants it. What is pinned
/// and is not (the interface went away, or another one is configured now) is removed.
fn adopt(settings: &Xdp, program: &mut Program) -> Result<Option<Adopted>, DataplaneError> {
    let own = Pins::own(&settings.pin_dir);
    for pins in Pins::found(&settings.pin_dir)? {
        let Some((link, pinned)) = link(&pins)? else { continue };
        let here = interface::attached(&settings.interface)?
            .is_some_and(|attached| attached.program == pinned && suits(settings.mode, attached.mode));
        if !here {
            warn!(
                interface = settings.interface,
                pins = %pins.dir().display(),
                "what is pinned is not attached here in the configured mode: it is taken off"
            );
            drop(link);
            remove_file(&pins.link())?;
            wait_until_off(&settings.interface, pinned);
            continue;
        }
        let link = XdpLink::try_from(link).map_err(refused("adopt the link of", &settings.interface))?;
        let id = program.attach_to_link(link).map_err(refused("replace", &settings.interface))?;
        if pins == own {
            return Ok(Some(Adopted::Own));
        }
        info!(
            from = pins.version(),
            to = own.version(),
            "the map ABI changed: bans in force are not carried over"
        );
        let link = program.take_link(id).map_err(refused("replace", &settings.interface))?;
        let link = FdLink::try_from(link).map_err(refused("replace", &settings.interface))?;
        return Ok(Some(Adopted::Other(pins, link)));
    }
    Ok(None)
}

/// The pinned link and its program's id.
fn link(pins: &Pins) -> Result<Option<(FdLink, u32)>, DataplaneError> {
    let path = pins.link();
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error: aya::programs::links::LinkError| {
        DataplaneError::pins("open the pin", &path)(std::io::Error::other(error))
    };
    let link = FdLink::from(PinnedLink::from_pin(&path).map_err(failed)?);
    let program = link.info().map_err(failed)?.program_id();
    Ok(Some((link, program)))
}

fn suits(wanted: XdpMode, is: AttachedMode) -> bool {
    match (wanted, is) {
        (XdpMode::Auto, _)
        | (XdpMode::Native, AttachedMode::Native)
        | (XdpMode::Generic, AttachedMode::Generic) => true,
        (XdpMode::Native, AttachedMode::Generic) | (XdpMode::Generic, AttachedMode::Native) => false,
    }
}

fn attach_anew(settings: &Xdp, program: &mut Program) -> Result<FdLink, DataplaneError> {
    let interface = &settings.interface;
    if let Some(other) = interface::attached(interface)? {
        return Err(DataplaneError::Occupied { interface: interface.clone(), program: other.program });
    }
    let mut attach = |mode| program.attach(interface, mode);
    let id = match settings.mode {
        XdpMode::Native => attach(AyaMode::Driver),
        XdpMode::Generic => attach(AyaMode::Skb),
        XdpMode::Auto => attach(AyaMode::Driver).or_else(|error| {
            let error = anyhow::Error::from(error);
            warn!(
                %interface,
                error = format!("{error:#}"),
                "no native XDP here: falling back to generic, which drops only after the kernel allocated a buffer"
            );
            attach(AyaMode::Skb)
        }),
    };
    let id = id.map_err(|error| match (settings.mode, refused("attach", interface)(error)) {
        (XdpMode::Native, DataplaneError::Program { what, interface, hint: None, source }) => {
            let hint = Some("where the driver has no native XDP, set xdp.mode to \"auto\" or \"generic\"");
            DataplaneError::Program { what, interface, hint, source }
        }
        (XdpMode::Native | XdpMode::Generic | XdpMode::Auto, error) => error,
    })?;
    let link = program.take_link(id).map_err(refused("attach", interface))?;
    FdLink::try_from(link).map_err(|error| DataplaneError::Program {
        what: "attach",
        interface: interface.clone(),
        hint: Some("XDP links came with Linux 5.9"),
        source: Box::new(error),
    })
}

/// Makes an error out of what aya says; of the verifier's log only the last line, which tells.
fn refused<E>(what: &'static str, interface: &str) -> impl FnOnce(E) -> DataplaneError
where
    E: Into<RefusedBy>,
{
    refused_for(what, interface, None)
}

/// The same with what may help.
fn refused_for<E>(
    what: &'static str,
    interface: &str,
    hint: Option<&'static str>,
) -> impl FnOnce(E) -> DataplaneError
where
    E: Into<RefusedBy>,
{
    let interface = interface.to_owned();
    move |error| {
        let RefusedBy(source) = error.into();
        DataplaneError::Program { what, interface, hint, source }
    }
}

/// What refused, ready to be a source.
struct RefusedBy(Box<dyn std::error::Error + Send + Sync>);

impl From<ProgramError> for RefusedBy {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                tracing::debug!("all that the verifier said:\n{log}");
                let statistics = ["processed ", "verification time ", "stack depth "];
                let telling = log
                    .lines()
                    .rev()
                    .find(|line| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word)));
                Self(format!("{io_error}; the verifier said: {}", telling.unwrap_or("nothing")).into())
            }
            other => Self(Box::new(other)),
        }
    }
}

impl From<aya::pin::PinError> for RefusedBy {
    fn from(error: aya::pin::PinError) -> Self {
        Self(Box::new(error))
    }
}

impl From<aya::programs::links::LinkError> for RefusedBy {
    fn from(error: aya::programs::links::LinkError) -> Self {
        Self(Box::new(error))
    }
}
