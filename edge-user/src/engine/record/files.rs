//! The record on disk: in the state directory's `record/`, for each day and key a log that is appended to while the day
//! lasts (`2026-11-24.key3.log`), and half of that when it is over (`2026-11-24.key3.set`).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use edge_core::signature::record::file::{
    Damage, ENTRY_BYTES, LOG_HEAD_BYTES, log_head, read_log, read_set, write_set,
};
use edge_core::signature::record::{DayName, DaySet, Record};
use edge_core::time::UnixMillis;
use jiff::SignedDuration;
use jiff::civil::Date;

use crate::state::{StateDir, StateError, replace};

/// The directory within the state directory.
pub(super) const DIRECTORY: &str = "record";

/// How often a directory is read again in which a file went away meanwhile.
const LOOKS_MAX: u32 = 5;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Form {
    /// A day that is over. It is read before its log.
    Set,
    /// A day that lasts, or what came to one after it was over.
    Log,
}

/// A file's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Name {
    day: DayName,
    form: Form,
    /// It was set aside.
    damaged: bool,
}

const EPOCH: Date = Date::constant(1970, 1, 1);

impl Name {
    fn log(day: DayName) -> Self {
        Self { day, form: Form::Log, damaged: false }
    }

    fn set(day: DayName) -> Self {
        Self { day, form: Form::Set, damaged: false }
    }

    fn parse(text: &str) -> Option<Self> {
        let (text, damaged) = text.strip_suffix(".damaged").map_or((text, false), |text| (text, true));
        let (text, form) = match text.rsplit_once('.')? {
            (text, "set") => (text, Form::Set),
            (text, "log") => (text, Form::Log),
            _ => return None,
        };
        let (date, key_id) = text.split_once(".key")?;
        let days = date.parse::<Date>().ok()?.duration_since(EPOCH).as_hours() / 24;
        let day = DayName { day: u32::try_from(days).ok()?, key_id: key_id.parse().ok()? };
        Some(Self { day, form, damaged })
            .filter(|name| damaged || name.to_string() == format!("{text}.{}", form.word()))
    }
}

impl Form {
    fn word(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Log => "log",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = EPOCH.saturating_add(SignedDuration::from_hours(24 * i64::from(self.day.day)));
        let damaged = if self.damaged { ".damaged" } else { "" };
        write!(f, "{date}.key{}.{}{damaged}", self.day.key_id, self.form.word())
    }
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damage(#[from] Damage),
}

/// The directory, made where it is not there.
pub(super) fn directory(state: &StateDir) -> Result<PathBuf, StateError> {
    state.directory(DIRECTORY)
}

/// Reads all that is still believed, for the daemon: what is damaged is named and set aside, what is too old is deleted,
/// and a log that a crash cut is put right.
pub(super) fn load(directory: &Path, record: &mut Record, now: UnixMillis) {
    delete_old(directory, record.oldest(now));
    let names = match names(directory) {
        Ok(names) => names,
        Err(error) => return tracing::error!("the record in {} is not read: {error}", directory.display()),
    };
    for name in names.into_iter().filter(|name| !name.damaged) {
        let path = directory.join(name.to_string());
        let read = read_into(record, name, &path).and_then(|()| match name.form {
            Form::Log => Ok(cut_to_whole_entries(&path)?),
            Form::Set => Ok(()),
        });
        if let Err(fault) = read {
            let aside = directory.join(Name { damaged: true, ..name }.to_string());
            let outcome = match fs::rename(&path, &aside) {
                Ok(()) => format!("it is set aside as {}", aside.display()),
                Err(error) => format!("it cannot be set aside: {error}"),
            };
            tracing::error!(
                "{} cannot be used: {fault}; {outcome}; bounces of that day's mail need their token or tag",
                path.display()
            );
        }
    }
}

/// Reads all that is still believed, and changes nothing. The daemon may be at work meanwhile.
pub(super) fn look(directory: &Path, record: &mut Record, now: UnixMillis) -> io::Result<()> {
    for _ in 0..LOOKS_MAX {
        let mut gone = false;
        for name in names(directory)? {
            if name.damaged || name.day.day < record.oldest(now) {
                continue;
            }
            match read_into(record, name, &directory.join(name.to_string())) {
                // A day was over just now: its log became a set.
                Err(Fault::Io(error)) if error.kind() == io::ErrorKind::NotFound => gone = true,
                Err(Fault::Io(error)) => return Err(error),
                // The daemon names it at its next start.
                Ok(()) | Err(Fault::Damage(_)) => {}
            }
        }
        if !gone {
            break;
        }
    }
    Ok(())
}

/// The record's files; none where the directory is not there.
fn names(directory: &Path) -> io::Result<Vec<Name>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(Name::parse));
    }
    names.sort_unstable();
    Ok(names)
}

fn read_into(record: &mut Record, name: Name, path: &Path) -> Result<(), Fault> {
    let octets = fs::read(path)?;
    match name.form {
        Form::Set => record.seal(name.day, read_set(name.day, &octets)?),
        Form::Log => record.restore(name.day, read_log(name.day, &octets)?),
    }
    Ok(())
}

/// What a crash left of an entry, or of the head, would shift all that are appended behind it.
fn cut_to_whole_entries(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let len = file.metadata()?.len();
    let torn = len.checked_sub(LOG_HEAD_BYTES as u64).map_or(len, |entries| entries % ENTRY_BYTES as u64);
    if torn == 0 { Ok(()) } else { file.set_len(len - torn) }
}

/// Deletes the files of days before `oldest`, those set aside too.
pub(super) fn delete_old(directory: &Path, oldest: u32) {
    for name in names(directory).unwrap_or_default() {
        if name.day.day < oldest {
            // What cannot be deleted is tried again tomorrow.
            let _ = fs::remove_file(directory.join(name.to_string()));
        }
    }
}

/// Appends to a day's log, and waits until it is on disk.
pub(super) fn append(directory: &Path, day: DayName, entries: impl Iterator<Item = u64>) -> io::Result<()> {
    let path = directory.join(Name::log(day).to_string());
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    let len = file.metadata()?.len();
    let mut octets = Vec::new();
    if len == 0 {
        octets.extend_from_slice(&log_head(day));
    }
    octets.extend(entries.flat_map(u64::to_le_bytes));
    let written = file.write_all(&octets).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // A full disk took the half of it: nothing may be appended to that.
        let _ = file.set_len(len);
        return Err(error);
    }
    if len == 0 { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Writes a day's log anew.
pub(super) fn rewrite(directory: &Path, day: DayName, entries: &[u64]) -> Result<(), StateError> {
    let mut octets = log_head(day).to_vec();
    octets.extend(entries.iter().flat_map(|entry| entry.to_le_bytes()));
    replace(directory, &Name::log(day).to_string(), &octets)
}

/// Writes a day that is over.
pub(super) fn seal(directory: &Path, day: DayName, set: &DaySet) -> Result<(), StateError> {
    replace(directory, &Name::set(day).to_string(), &write_set(day, set))
}

/// Deletes the log of a day whose set holds all of it.
pub(super) fn delete_log(directory: &Path, day: DayName) -> io::Result<()> {
    fs::remove_file(directory.join(Name::log(day).to_string()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
