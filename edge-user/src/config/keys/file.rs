//! One key file, a few lines of TOML:
//!
//! ```toml
//! # Backstop signing key: whoever can read this can forge proofs.
//! id = 7
//! created = "2026-11-24T20:31:00Z"
//! retired = "2027-02-24T08:00:00Z"    # only in a key that signs no more
//! secret = "<43 characters of base64url>"
//! ```
//!
//! It is read by hand and not by a TOML library, which would leave copies of the secret behind.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_core::signature::Key;
use edge_core::time::UnixMillis;
use zeroize::Zeroizing;

use super::{KeyDirError, Readers};

/// Octets of the largest key file that is read.
const FILE_BYTES_MAX: usize = 4096;

/// Reads the key file of the key `id`, which nobody but `readers` may read.
pub(super) fn read(path: &Path, id: u8, readers: Readers) -> Result<Key, KeyDirError> {
    let open = KeyDirError::io(path, "open the key");
    let mut file = File::open(path).map_err(open)?;
    let metadata = file.metadata().map_err(KeyDirError::io(path, "look at the key"))?;
    super::owned(path, &metadata)?;
    if !readers.suit(&metadata) {
        let mode = metadata.permissions().mode() & 0o7777;
        return Err(KeyDirError::Exposed { path: path.to_owned(), mode, right: readers.mode() });
    }
    // As large as it may become from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(vec![0; FILE_BYTES_MAX + 1]);
    let mut len = 0;
    while len < text.len() {
        match file.read(&mut text[len..]).map_err(KeyDirError::io(path, "read the key"))? {
            0 => break,
            more => len += more,
        }
    }
    let malformed = |wrong| KeyDirError::Malformed { path: path.to_owned(), wrong };
    if len > FILE_BYTES_MAX {
        return Err(malformed(format!("larger than {FILE_BYTES_MAX} octets: no key file")));
    }
    let text = str::from_utf8(&text[..len]).map_err(|_| malformed("not UTF-8: no key file".into()))?;
    parse(text, id).map_err(malformed)
}

/// Writes a new key file; an existing one is never replaced.
pub(super) fn create(path: &Path, key: &Key, readers: Readers) -> Result<(), KeyDirError> {
    let written = write_beside(path, key, readers)?;
    let renamed = nix::fcntl::renameat2(
        nix::fcntl::AT_FDCWD,
        &written,
        nix::fcntl::AT_FDCWD,
        path,
        nix::fcntl::RenameFlags::RENAME_NOREPLACE,
    );
    tidy(&written, path, renamed.map_err(Into::into), "put the key in its place")
}

/// Replaces a key file.
pub(super) fn replace(path: &Path, key: &Key, readers: Readers) -> Result<(), KeyDirError> {
    let written = write_beside(path, key, readers)?;
    let renamed = std::fs::rename(&written, path);
    tidy(&written, path, renamed, "put the key in its place")
}

fn tidy(
    beside: &Path,
    path: &Path,
    done: std::io::Result<()>,
    what: &'static str,
) -> Result<(), KeyDirError> {
    done.map_err(|cause| {
        // What is left over is only untidy; the fault to report is the one before.
        let _ = std::fs::remove_file(beside);
        KeyDirError::io(path, what)(cause)
    })
}

/// Writes and syncs the key under a name that is no key file's. Where the disk is full, half a file does not stay.
fn write_beside(path: &Path, key: &Key, readers: Readers) -> Result<PathBuf, KeyDirError> {
    let beside = path.with_extension("key.new");
    // Left there by a command that was killed; the directory's lock says that nobody is writing it now.
    match std::fs::remove_file(&beside) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
        Err(cause) => return Err(KeyDirError::io(&beside, "remove an unfinished key")(cause)),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(KeyDirError::io(&beside, "create the key"))?;
    let written = readers
        .let_in(&file)
        .and_then(|()| file.write_all(format(key).as_bytes()))
        .and_then(|()| file.sync_all());
    tidy(&beside, &beside, written, "write the key")?;
    Ok(beside)
}

fn format(key: &Key) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX));
    text.push_str("# Backstop signing key: whoever can read this can forge proofs.\n");
    text.push_str(&format!("id = {}\ncreated = \"{}\"\n", key.id(), rfc3339(key.created())));
    if let Some(retired) = key.retired() {
        text.push_str(&format!("retired = \"{}\"\n", rfc3339(retired)));
    }
    text.push_str("secret = \"");
    text.push_str(&key.tag_secret());
    text.push_str("\"\n");
    text
}

fn parse(text: &str, id: u8) -> Result<Key, String> {
    let (mut own_id, mut created, mut retired, mut secret) = (None, None, None, None);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is not shown: it may be the secret.
        let (name, value) =
            line.split_once('=').ok_or_else(|| format!("line {number}: expected `name = value`"))?;
        let (name, value) = (name.trim(), value.trim());
        let place = match name {
            "id" => &mut own_id,
            "created" => &mut created,
            "retired" => &mut retired,
            "secret" => &mut secret,
            _ => {
                return Err(format!(
                    "line {number}: `{name}` is unknown; expected id, created, retired or secret"
                ));
            }
        };
        if place.replace(value).is_some() {
            return Err(format!("line {number}: `{name}` stands there twice"));
        }
    }
    let own_id: u8 =
        needed(own_id, "id")?.parse().map_err(|_| "`id` must be a number up to 255".to_owned())?;
    if own_id != id {
        return Err(format!("`id` is {own_id}, but the file's name says {id}"));
    }
    let created = time(needed(created, "created")?, "created")?;
    let mut octets = Zeroizing::new([0; 32]);
    let secret = quoted(needed(secret, "secret")?).unwrap_or_default();
    if URL_SAFE_NO_PAD.decode_slice(secret, octets.as_mut_slice()) != Ok(32) {
        return Err("`secret` must be 43 characters of base64url in quotes".into());
    }
    let key = Key::new(id, *octets, created);
    match retired {
        Some(retired) => Ok(key.retired_at(time(retired, "retired")?)),
        None => Ok(key),
    }
}

fn needed<'t>(value: Option<&'t str>, name: &str) -> Result<&'t str, String> {
    value.ok_or_else(|| format!("`{name}` is missing"))
}

/// What stands in quotes; a comment may follow.
fn quoted(value: &str) -> Option<&str> {
    let (inner, behind) = value.strip_prefix('"')?.split_once('"')?;
    let behind = behind.trim_start();
    (behind.is_empty() || behind.starts_with('#')).then_some(inner)
}

fn time(value: &str, name: &str) -> Result<UnixMillis, String> {
    quoted(value)
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .map(UnixMillis::from_secs)
        .ok_or_else(|| format!("`{name}` must be a time as \"2026-11-24T20:31:00Z\""))
}

/// A time as RFC 3339 has it, in whole seconds.
#[must_use]
pub fn rfc3339(time: UnixMillis) -> String {
    let secs = i64::try_from(time.secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs)
        .map_or_else(|_| format!("{secs} s after 1970"), |time| time.to_string())
}
