//! Who is calling, and what the caller may do.

use std::ffi::CString;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::protocol::Access;

/// A caller, by the kernel's word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) uid: Uid,
    gid: Gid,
}

impl Peer {
    /// Asks the kernel (`SO_PEERCRED`).
    pub(super) fn of(stream: &UnixStream) -> nix::Result<Self> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        Ok(Self { uid: Uid::from_raw(credentials.uid()), gid: Gid::from_raw(credentials.gid()) })
    }

    /// Its group and those that the group database gives its user: what `id` prints.
    fn is_in(self, group: Gid) -> bool {
        if self.gid == group {
            return true;
        }
        let Ok(Some(user)) = User::from_uid(self.uid) else { return false };
        let Ok(name) = CString::new(user.name) else { return false };
        getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group))
    }
}

/// Which groups may do what.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Groups {
    pub(super) read: Option<Gid>,
    pub(super) write: Option<Gid>,
}

impl Groups {
    /// What a caller may do at most; `None`: nothing.
    pub(super) fn access_of(self, peer: Peer) -> Option<Access> {
        let member = |group: Option<Gid>| group.is_some_and(|group| peer.is_in(group));
        if peer.uid.is_root() || peer.uid == Uid::effective() {
            Some(Access::Replace)
        } else if member(self.write) {
            Some(Access::Change)
        } else if member(self.read) {
            Some(Access::Read)
        } else {
            None
        }
    }
}

/// The id of a group that the configuration names.
pub(super) fn group(name: &str) -> Result<Gid, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(format!("there is no group `{name}`; make it: groupadd --system {name}")),
        Err(error) => Err(format!("cannot look up the group `{name}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) }
    }

    /// No user of a real machine.
    const STRANGER: u32 = 4_000_000_001;
    const READERS: u32 = 4_000_000_002;
    const WRITERS: u32 = 4_000_000_003;

    #[test]
    fn root_and_the_daemons_own_user_may_change_and_strangers_nothing() {
        let groups = Groups { read: Some(Gid::from_raw(READERS)), write: Some(Gid::from_raw(WRITERS)) };
        assert_eq!(groups.access_of(peer(0, 0)), Some(Access::Replace));
        assert_eq!(groups.access_of(peer(Uid::effective().as_raw(), STRANGER)), Some(Access::Replace));
        assert_eq!(groups.access_of(peer(STRANGER, WRITERS)), Some(Access::Change));
        assert_eq!(groups.access_of(peer(STRANGER, READERS)), Some(Access::Read));
        assert_eq!(groups.access_of(peer(STRANGER, STRANGER)), None);
        assert_eq!(Groups::default().access_of(peer(STRANGER, READERS)), None);
    }
}
