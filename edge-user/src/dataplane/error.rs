//! Why something could not be done at the NIC: what, where, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use edge_core::source::Source;
use ipnet::IpNet;

/// Why something could not be done at the NIC.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// There is no such interface here.
    #[error("xdp.interface: there is no interface `{interface}` in this network namespace (see `ip link`)")]
    NoInterface {
        /// Its name in the configuration.
        interface: String,
    },
    /// The pin directory is not on a BPF file system.
    #[error(
        "xdp.pin_dir: {} is not on a BPF file system, so nothing can be pinned there; run \
         `mount -t bpf bpf /sys/fs/bpf`, or mount one elsewhere and set xdp.pin_dir to a directory in it",
        dir.display()
    )]
    NotBpffs {
        /// The directory.
        dir: PathBuf,
    },
    /// A file operation on the pins failed.
    #[error("cannot {what} {}", path.display())]
    Pins {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing is pinned.
    #[error(
        "nothing is pinned under {}: no daemon has attached XDP with this xdp.pin_dir (`backstop xdp attach`)",
        dir.display()
    )]
    NotPinned {
        /// The directory.
        dir: PathBuf,
    },
    /// Another daemon holds the pins.
    #[error(
        "another backstop holds what is pinned under {}; stop it first (`systemctl stop backstop`), or give this one \
         an xdp.interface and an xdp.pin_dir of its own",
        dir.display()
    )]
    Held {
        /// The directory.
        dir: PathBuf,
    },
    /// Another version's maps are pinned.
    #[error(
        "what is pinned under {} speaks map ABI {found}, this program speaks {}; start the daemon, or run \
         `backstop xdp attach`, to replace it (bans in force are not carried over)",
        dir.display(),
        edge_ebpf::ABI_VERSION
    )]
    OtherAbi {
        /// The directory.
        dir: PathBuf,
        /// The version found.
        found: u32,
    },
    /// Pinned, but not attached to the configured interface.
    #[error("what is pinned is not attached to `{interface}`; run `backstop xdp attach`")]
    NotAttached {
        /// The interface.
        interface: String,
    },
    /// The pinned maps are not those that the configuration asks for.
    #[error(
        "the maps pinned under {} differ from the configuration: {}. Set these back, or run `backstop xdp detach` \
         and start again (bans in force are lost then)",
        dir.display(),
        list(differences)
    )]
    Differs {
        /// The directory.
        dir: PathBuf,
        /// All differences.
        differences: Vec<Difference>,
    },
    /// Somebody else's program is attached.
    #[error(
        "another XDP program (id {program}) is attached to `{interface}` already; \
         `ip link set dev {interface} xdp off` takes it off, if it is not needed"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The other program.
        program: u32,
    },
    /// The kernel did not take the program.
    #[error("cannot {what} the XDP program on `{interface}`{}", hint.map_or(String::new(), |hint| format!(" ({hint})")))]
    Program {
        /// What was tried.
        what: &'static str,
        /// The interface.
        interface: String,
        /// What may help.
        hint: Option<&'static str>,
        /// What aya or the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map operation failed.
    #[error("cannot {what} the kernel's map {map}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// The kernel said nothing useful about the interface.
    #[error("cannot ask the kernel about `{interface}` over netlink")]
    Netlink {
        /// The interface.
        interface: String,
        /// What it said.
        source: io::Error,
    },
    /// The source must not be banned.
    #[error("{banned} is not banned: {because} ({prefix})")]
    Spared {
        /// Who would have been banned.
        banned: Source,
        /// The prefix that it lies in or holds.
        prefix: IpNet,
        /// Which list that is, and where it is configured.
        because: &'static str,
    },
    /// A list in the configuration is longer than its map.
    #[error("{list} has {given} prefixes; the kernel's map holds {max} (xdp.prefixes_max)")]
    TooManyPrefixes {
        /// The list.
        list: &'static str,
        /// Its length.
        given: usize,
        /// The map's size.
        max: u32,
    },
    /// A port that is never judged was to be protected.
    #[error(
        "xdp.ports: port {} is never judged, so that no rule can lock you out of SSH",
        edge_ebpf::SSH_PORT
    )]
    SshPort,
    /// No room for another ban.
    #[error("{max} bans are in force, which is all that the kernel's map holds (xdp.bans_max)")]
    BansFull {
        /// The map's size.
        max: u32,
    },
}

impl DataplaneError {
    /// Makes an error out of a failed map operation.
    pub(super) fn map(what: &'static str, map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { what, map, source }
    }

    /// Makes an error out of a failed file operation on the pins.
    pub(super) fn pins(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Pins { what, path: path.into(), source }
    }
}

/// How a pinned map differs from the wanted one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The map.
    pub map: &'static str,
    /// What differs; the setting's name where it is configured.
    pub what: &'static str,
    /// As it is pinned.
    pub pinned: u32,
    /// As it would be made now.
    pub wanted: u32,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { map, what, pinned, wanted } = self;
        write!(f, "{map} has {what} = {pinned}, wanted is {wanted}")
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
