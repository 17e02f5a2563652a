//! The Maildir itself: its three folders, the names of its files, and what is done with whole files.
//!
//! A file's name is `SECONDS.ID.HOST`, in `cur` with a mail reader's flags behind: when it came, its id, and the edge's
//! name. An id is a number: whatever a caller says, no path is made of it, but a file looked for that has it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A message's id in the quarantine: the number that its `Received` field and the log have too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id(u64);

impl Id {
    pub(super) fn of(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// What is no id.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no id of a quarantined message: expected 1 to 16 digits, 0 to 9 and a to f")]
pub struct NotAnId(String);

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        // `from_str_radix` takes a sign too.
        let digits = text.bytes().all(|octet| octet.is_ascii_digit() || (b'a'..=b'f').contains(&octet));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or_else(|| NotAnId(text.chars().take(32).collect()))
    }
}

/// A message that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its id.
    pub id: Id,
    /// When it came, in seconds since 1970, as its name says.
    pub secs: u64,
    /// Its file.
    pub path: PathBuf,
}

/// The Maildir.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
}

/// The folders that hold whole messages: `cur` is where a mail reader puts what it has shown.
const WHOLE: [&str; 2] = ["new", "cur"];
const TMP: &str = "tmp";

impl Shelf {
    /// The Maildir at `dir`, only to look at.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The same, its folders made where they are not there, for the owner only.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn make(dir: &Path) -> io::Result<Self> {
        for folder in WHOLE.into_iter().chain([TMP]) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir.join(folder))?;
        }
        sync_folder(dir)?;
        if let Some(parent) = dir.parent() {
            sync_folder(parent)?;
        }
        Ok(Self::at(dir))
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn in_tmp(&self, name: &str) -> PathBuf {
        self.dir.join(TMP).join(name)
    }

    pub(super) fn in_new(&self, name: &str) -> PathBuf {
        self.dir.join(WHOLE[0]).join(name)
    }

    /// All messages, the oldest first.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn items(&self) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for folder in WHOLE {
            items.extend(files(&self.dir.join(folder))?);
        }
        items.sort_unstable_by_key(|item| (item.secs, item.id));
        Ok(items)
    }

    /// One message. `None`: it is not there.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn find(&self, id: Id) -> io::Result<Option<Item>> {
        // In this order: a mail reader moves messages from `new` to `cur`.
        for folder in WHOLE {
            let found = each(&self.dir.join(folder))?.find(|item| !matches!(item, Ok(item) if item.id != id));
            if let Some(item) = found.transpose()? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// What lies half-written in `tmp`.
    pub(super) fn unfinished(&self) -> io::Result<Vec<Item>> {
        files(&self.dir.join(TMP))
    }

    /// Removes a message, so that it does not come back after a power cut. `false`: it was not there.
    pub(super) fn remove(&self, item: &Item) -> io::Result<bool> {
        match fs::remove_file(&item.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        item.path.parent().map_or(Ok(()), sync_folder)?;
        Ok(true)
    }
}

/// A new file that only its owner reads. Not one that is there already.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Brings a folder's entries to disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The files of a folder whose names are ours; others are left alone.
fn files(folder: &Path) -> io::Result<Vec<Item>> {
    each(folder)?.collect()
}

/// The same, one after the other.
fn each(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<Item>>> {
    #[cfg(test)]
    LISTED.set(LISTED.get() + 1);
    let item = |entry: fs::DirEntry| {
        let (secs, id) = entry.file_name().to_str().and_then(parse_name)?;
        Some(Item { id, secs, path: entry.path() })
    };
    Ok(fs::read_dir(folder)?.filter_map(move |entry| entry.map(item).transpose()))
}

#[cfg(test)]
thread_local! {
    /// How many folders this thread has listed.
    pub(super) static LISTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The name of a message's file.
pub(super) fn name(secs: u64, id: Id, hostname: &str) -> String {
    format!("{secs}.{id}.{hostname}")
}

fn parse_name(name: &str) -> Option<(u64, Id)> {
    let mut parts = name.splitn(3, '.');
    let secs = parts.next().filter(|secs| secs.bytes().all(|octet| octet.is_ascii_digit()))?;
    let (secs, id) = (secs.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().map(|_host| (secs, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_number_and_never_a_path() {
        assert_eq!("18f3a".parse::<Id>().unwrap().to_string(), "18f3a");
        assert_eq!("ffffffffffffffff".parse(), Ok(Id(u64::MAX)));
        for text in ["", "+1", "-1", "AB", "../x", "1/2", "a.b", "11111111111111111", "é", " 1"] {
            assert!(text.parse::<Id>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_says_when_and_which_and_other_names_are_nobodys() {
        let id = Id(0xab12);
        assert_eq!(parse_name(&name(1_800_000_000, id, "mx.example.jp")), Some((1_800_000_000, id)));
        assert_eq!(parse_name("1800000000.ab12.mx.example.jp:2,RS"), Some((1_800_000_000, id)));
        for other in ["", "x", ".", "1.2", "dovecot.index.log", "1.M2P3.host", "+1.2.host", "1..host"] {
            assert_eq!(parse_name(other), None, "{other:?}");
        }
    }

    #[test]
    fn messages_are_found_in_both_folders_and_others_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::make(&dir.path().join("q")).unwrap();
        assert_eq!(shelf.items().unwrap(), []);
        fs::write(shelf.in_new("20.2.mx"), "two").unwrap();
        fs::write(shelf.dir().join("cur/10.1.mx:2,S"), "one").unwrap();
        fs::write(shelf.dir().join("cur/dovecot-uidlist"), "").unwrap();
        fs::write(shelf.in_tmp("30.3.mx"), "half").unwrap();
        let ids = |items: Vec<Item>| items.iter().map(|item| item.id.0).collect::<Vec<_>>();
        assert_eq!(ids(shelf.items().unwrap()), [1, 2]);
        assert_eq!(ids(shelf.unfinished().unwrap()), [3]);
        let one = shelf.find(Id(1)).unwrap().unwrap();
        assert!(shelf.remove(&one).unwrap());
        assert!(!shelf.remove(&one).unwrap());
        assert_eq!(shelf.find(Id(1)).unwrap(), None);
    }
}
