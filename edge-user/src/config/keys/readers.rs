//! Who may read keys, by the word of their directory.

use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};

/// The group that may read keys besides their owner, if the directory lets one in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Readers {
    group: Option<u32>,
}

impl Readers {
    /// As the directory's mode says: 0750 lets its group in. One that all may list (0755) says nothing of its group.
    pub(super) fn of(dir: &Metadata) -> Self {
        let lets_in = dir.mode() & 0o077 == 0o050;
        Self { group: lets_in.then_some(dir.gid()) }
    }

    /// Whether nobody else may read this key, and nobody but its owner may change it.
    pub(super) fn suit(self, key: &Metadata) -> bool {
        match key.mode() & 0o077 {
            0 => true,
            0o040 => self.group == Some(key.gid()),
            _ => false,
        }
    }

    /// The mode of a key.
    pub(super) fn mode(self) -> u32 {
        if self.group.is_some() { 0o640 } else { 0o600 }
    }

    /// Lets the group read a new key, which is its owner's alone so far.
    pub(super) fn let_in(self, key: &File) -> std::io::Result<()> {
        let Some(group) = self.group else { return Ok(()) };
        if key.metadata()?.gid() != group {
            fchown(key, None, Some(group))?;
        }
        // Not by the mode it is made with: the umask would take it away.
        key.set_permissions(Permissions::from_mode(self.mode()))
    }
}
