//! A user, as the kernel asks what it may do with a file: its number, its groups, the file's owner, group and mode. (No
//! access lists: they are rare where the edge keeps its files, and give more, not less.)

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Group, Uid, User, getgrouplist};

/// To read a file, or a directory's names.
pub(super) const READ: u32 = 4;
/// To change a file, or to make files in a directory.
pub(super) const WRITE: u32 = 2;
/// To pass through a directory.
pub(super) const PASS: u32 = 1;

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
}

impl Who {
    pub(super) fn of(uid: u32) -> Self {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let groups = user.and_then(|user| getgrouplist(&CString::new(user.name).ok()?, user.gid).ok());
        Self { uid, groups: groups.into_iter().flatten().map(|group| group.as_raw()).collect() }
    }

    /// The name of its own group, or its number: for commands.
    pub(super) fn group(&self) -> String {
        let gid = User::from_uid(Uid::from_raw(self.uid)).ok().flatten().map(|user| user.gid);
        let group = gid.and_then(|gid| Group::from_gid(gid).ok().flatten());
        group.map_or_else(|| gid.map_or(self.uid, |gid| gid.as_raw()).to_string(), |group| group.name)
    }

    /// Whether a file of this owner, group and mode gives it these rights.
    fn has(&self, rights: u32, owner: u32, group: u32, mode: u32) -> bool {
        let theirs = match (owner == self.uid, self.groups.contains(&group)) {
            (true, _) => mode >> 6,
            (false, true) => mode >> 3,
            (false, false) => mode,
        };
        self.uid == 0 || theirs & rights == rights
    }

    /// Whether it lacks these rights to a file that is there.
    pub(super) fn lacks(&self, rights: u32, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|file| !self.has(rights, file.uid(), file.gid(), file.mode()))
    }

    /// The first directory on the way to `dir` that it cannot pass through.
    pub(super) fn stopped_at<'a>(&self, dir: &'a Path) -> Option<&'a Path> {
        let above: Vec<&Path> = dir.ancestors().skip(1).collect();
        above.into_iter().rev().find(|above| self.lacks(PASS, above))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_a_user_may_do_is_known_by_owner_group_and_mode() {
        let who = Who { uid: 900, groups: vec![901, 902] };
        for (rights, owner, group, mode, expected) in [
            (READ, 900, 0, 0o400, true),
            (READ, 900, 901, 0o040, false),
            (READ, 0, 902, 0o640, true),
            (READ, 0, 903, 0o640, false),
            (READ | PASS, 0, 901, 0o750, true),
            (READ | PASS, 0, 901, 0o740, false),
            (READ, 0, 0, 0o604, true),
            (WRITE | PASS, 0, 0, 0o755, false),
            (WRITE | PASS, 900, 0, 0o700, true),
        ] {
            assert_eq!(who.has(rights, owner, group, mode), expected, "{rights} {owner} {group} {mode:o}");
        }
        let root = Who::of(0);
        assert!(root.groups.contains(&0) && root.has(WRITE, 900, 901, 0o400));
    }

    #[test]
    fn the_first_closed_directory_on_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let closed = folder.path().join("closed");
        fs::create_dir_all(closed.join("below")).unwrap();
        for (path, mode) in [(folder.path(), 0o755), (&closed, 0o700)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let stranger = Who { uid: 987_654, groups: Vec::new() };
        assert_eq!(stranger.stopped_at(&closed.join("below/x")), Some(closed.as_path()));
        assert_eq!(stranger.stopped_at(&closed), None);
        assert_eq!(Who::of(0).stopped_at(&closed.join("below/x")), None);
    }
}
