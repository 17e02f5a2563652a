//! Looking at the network card, the pins and the kernel without touching any of them: for `backstop doctor`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya::EbpfLoader;
use aya::programs::Xdp as Program;
use edge_ebpf::map_names;

use super::error::DataplaneError;
use super::netdev::{self, XdpFeatures};
use super::pins::{self, Pins};
use super::{AttachedMode, Dataplane, OBJECT, interface, load, verify};
use crate::config::Xdp;

/// Entries of each map in [`try_kernel`]: the verifier looks at no content.
const TRIAL_ENTRIES: u32 = 16;

/// A network card.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nic {
    /// Whether it is up.
    pub up: bool,
    /// The largest packet, in octets.
    pub mtu: u32,
    /// Its driver, or its kind where it is virtual.
    pub driver: Option<String>,
    /// What the driver can do; `None`: the kernel does not say (before 6.3).
    pub features: Option<XdpFeatures>,
    /// The program on it.
    pub attached: Option<(AttachedMode, Whose)>,
}

/// Whose a program is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The one that is pinned where the configuration says.
    Ours,
    /// Of another version of Backstop, as the pins are.
    OtherAbi,
    /// Another's: its number.
    Foreign(u32),
    /// This process may not look at the pins.
    Untold,
}

/// A pin directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinDir {
    /// Whether it is, or would be, on a BPF file system.
    pub on_bpf_fs: bool,
    /// Its owner and mode, where it is there.
    pub owner: Option<(u32, u32)>,
    /// The ABI versions of what is pinned; `None`: this process may not look.
    pub versions: Option<Vec<u32>>,
}

/// Looks at the configured interface.
///
/// # Errors
/// It is not there, or the kernel does not tell.
pub fn look_at_nic(settings: &Xdp) -> Result<Nic, DataplaneError> {
    let name = &settings.interface;
    let index = interface::index(name)?;
    let sys = Path::new("/sys/class/net").join(name);
    let number = |file: &str| fs::read_to_string(sys.join(file)).ok()?.trim().parse().ok();
    let flags = fs::read_to_string(sys.join("flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
    let driver = fs::read_link(sys.join("device/driver")).ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let attached = interface::attached(name)?;
    let attached = attached.map(|attached| (attached.mode, whose(settings, attached.program)));
    Ok(Nic {
        up: flags & libc::IFF_UP as u32 != 0,
        mtu: number("mtu").unwrap_or(0),
        driver: match driver {
            Some(driver) => Some(driver),
            None => interface::kind(name)?,
        },
        features: netdev::xdp_features(index).unwrap_or(None),
        attached,
    })
}

fn whose(settings: &Xdp, program: u32) -> Whose {
    match Dataplane::open_pinned(settings) {
        Ok(_) => Whose::Ours,
        Err(DataplaneError::OtherAbi { .. }) => Whose::OtherAbi,
        Err(DataplaneError::NotPinned { .. } | DataplaneError::NotAttached { .. }) => Whose::Foreign(program),
        Err(_) => Whose::Untold,
    }
}

/// Looks at the configured pin directory.
///
/// # Errors
/// Its file system cannot be told.
pub fn look_at_pins(pin_dir: &Path) -> io::Result<PinDir> {
    let nearest = pin_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let metadata = fs::metadata(pin_dir).ok();
    Ok(PinDir {
        on_bpf_fs: pins::is_bpf_fs(nearest)?,
        owner: metadata.map(|metadata| (metadata.uid(), metadata.mode() & 0o7777)),
        versions: Pins::found(pin_dir).ok().map(|found| found.iter().map(Pins::version).collect()),
    })
}

/// Whether this kernel takes the program: loads it with small maps, attaches it to nothing, and lets go of it.
///
/// # Errors
/// It does not, or this process may not ask: with what the kernel said.
pub fn try_kernel(settings: &Xdp) -> Result<(), DataplaneError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| DataplaneError::Program {
        what: "try",
        interface: settings.interface.clone(),
        hint: None,
        source,
    };
    let mut loader = EbpfLoader::new();
    for name in map_names::ALL.into_iter().filter(|name| load::size(name, settings).is_some()) {
        loader.map_max_entries(name, TRIAL_ENTRIES);
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| failed(Box::new(error)))?;
    let program = ebpf.program_mut(edge_ebpf::PROGRAM).expect("the object has the program");
    let program: &mut Program = program.try_into().expect("the program is XDP");
    verify::load(program).map_err(|error| failed(Box::new(error)))
}
