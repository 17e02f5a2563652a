//! The ledger's file in the state directory. Its owner writes it whole; `backstop status` and `filter` read it also while
//! no edge runs.

use std::path::Path;

use edge_core::watch::Ledger;
use serde::{Deserialize, Serialize};

use crate::state::{self, StateDir, StateError};

/// The file.
pub const NAME: &str = "watch.json";

/// Where a file goes that cannot be read, so that nothing is lost with it.
const UNREADABLE: &str = "watch.json.unreadable";

/// Raised when an older edge could not read what a newer one writes.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Writing<'l> {
    version: u32,
    ledger: &'l Ledger,
}

#[derive(Deserialize)]
struct Reading {
    version: u32,
    ledger: Ledger,
}

/// Why a ledger cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is no ledger.
    #[error("{path}: this is no ledger of watching: {cause}", path = path.display())]
    NotALedger {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// The ledger in the state directory `dir`, whoever keeps it; `None`: there is none.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read(dir: &Path) -> Result<Option<Ledger>, BookError> {
    let Some(octets) = state::read(dir, NAME)? else { return Ok(None) };
    let wrong = |cause: String| BookError::NotALedger { path: dir.join(NAME), cause };
    let reading: Reading = serde_json::from_slice(&octets).map_err(|error| wrong(error.to_string()))?;
    if reading.version != VERSION {
        return Err(wrong(format!("its version is {}, and this is for {VERSION}", reading.version)));
    }
    Ok(Some(reading.ledger))
}

/// The ledger to go on with. One that cannot be read is put aside, and said: mail is not to wait for it.
pub(super) fn open(state: &StateDir) -> Option<Ledger> {
    let error = match read(state.path()) {
        Ok(ledger) => return ledger,
        Err(error) => error,
    };
    let aside = state.read(NAME).and_then(|octets| state.replace(UNREADABLE, &octets.unwrap_or_default()));
    match aside {
        Ok(()) => {
            tracing::error!("{error}; watching begins anew, and the file stays beside it as {UNREADABLE}")
        }
        Err(second) => tracing::error!("{error}; watching begins anew ({second})"),
    }
    None
}

/// Writes it.
///
/// # Errors
/// The disk takes it not; the one before is still there.
pub(crate) fn save(state: &StateDir, ledger: &Ledger) -> Result<(), BookError> {
    let octets = serde_json::to_vec(&Writing { version: VERSION, ledger })
        .map_err(|error| BookError::NotALedger { path: state.path().join(NAME), cause: error.to_string() })?;
    Ok(state.replace(NAME, &octets)?)
}

#[cfg(test)]
mod tests {
    use edge_core::time::UnixMillis;

    use super::*;

    #[test]
    fn a_ledger_is_read_back_also_by_who_does_not_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let mut ledger = Ledger::begin(UnixMillis::from_secs(1_795_000_000), None);
        ledger.signed(UnixMillis::from_secs(1_795_000_001));
        save(&state, &ledger).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(ledger));
    }

    #[test]
    fn a_ledger_that_cannot_be_read_is_put_aside_and_watching_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        for broken in ["", "{", r#"{"version":2,"ledger":{}}"#, "[]"] {
            std::fs::write(dir.path().join(NAME), broken).unwrap();
            assert!(read(dir.path()).unwrap_err().to_string().contains(NAME), "{broken}");
            assert_eq!(open(&state), None, "{broken}");
            assert_eq!(state.read(UNREADABLE).unwrap().unwrap(), broken.as_bytes());
        }
    }
}
