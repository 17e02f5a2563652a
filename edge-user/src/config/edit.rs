//! Changing the file by a program: comments, order and layout stay, what comes out is checked before it is written,
//! and a reader sees the old file or the new one, never half of one.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use toml_edit::{ArrayOfTables, DocumentMut, Item};

use super::load::{Loaded, parse};
use super::problem::Problems;

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A call of the system failed.
    #[error("{}: cannot {what}: {cause}", path.display())]
    Io {
        /// Of which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is no TOML as it is.
    #[error("{}: this is no TOML: {fault}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: toml_edit::TomlError,
    },
    /// Its filters stand in a list of braces.
    #[error("{}: `filter` is written as a list in braces; write each filter as a section [[filter]] first", .0.display())]
    InlineFilters(PathBuf),
    /// It would be wrong with the change.
    #[error("nothing was changed; with this change the file would be wrong:\n{0}")]
    Invalid(Problems),
}

/// A file that is being changed; no other command changes it meanwhile.
#[derive(Debug)]
pub struct Edit {
    path: PathBuf,
    document: DocumentMut,
    _lock: Flock<File>,
}

impl Edit {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or is no TOML.
    pub fn open(path: &Path) -> Result<Self, EditError> {
        // A link stays a link: what it points to is changed.
        let path = std::fs::canonicalize(path).map_err(io(path, "find it"))?;
        // The folder is locked, because the file itself is replaced.
        let folder = File::open(folder_of(&path)).map_err(io(&path, "open its directory"))?;
        let lock = Flock::lock(folder, FlockArg::LockExclusive)
            .map_err(|(_, errno)| io(&path, "lock its directory")(errno.into()))?;
        let text = std::fs::read_to_string(&path).map_err(io(&path, "read it"))?;
        let document = text.parse().map_err(|fault| EditError::NotToml { path: path.clone(), fault })?;
        Ok(Self { path, document, _lock: lock })
    }

    /// The sections `[[filter]]`.
    ///
    /// # Errors
    /// They are written in another way.
    pub fn filters(&mut self) -> Result<&mut ArrayOfTables, EditError> {
        let path = &self.path;
        self.document
            .entry("filter")
            .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
            .as_array_of_tables_mut()
            .ok_or_else(|| EditError::InlineFilters(path.clone()))
    }

    /// What the file would say, without writing it.
    ///
    /// # Errors
    /// It would be wrong.
    pub fn check(&self) -> Result<Loaded, EditError> {
        parse(&self.document.to_string(), &self.path).map_err(EditError::Invalid)
    }

    /// Checks the whole and puts it in the file's place.
    ///
    /// # Errors
    /// It would be wrong (then nothing is written), or cannot be written.
    pub fn save(self) -> Result<Loaded, EditError> {
        let text = self.document.to_string();
        let loaded = parse(&text, &self.path).map_err(EditError::Invalid)?;
        let beside = self.path.with_extension(format!("{}.new", std::process::id()));
        let written = self.write_beside(&beside, &text).and_then(|()| std::fs::rename(&beside, &self.path));
        if let Err(cause) = written {
            // What is left over is only untidy; the fault to report is the one before.
            let _ = std::fs::remove_file(&beside);
            return Err(io(&self.path, "write it")(cause));
        }
        File::open(folder_of(&self.path))
            .and_then(|folder| folder.sync_all())
            .map_err(io(&self.path, "sync its directory"))?;
        Ok(loaded)
    }

    /// Writes and syncs the text under another name, with the file's own mode and owner.
    fn write_beside(&self, beside: &Path, text: &str) -> std::io::Result<()> {
        let old = std::fs::metadata(&self.path)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(old.mode() & 0o7777).open(beside)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        // The umask may have taken some of the mode.
        file.set_permissions(old.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> EditError {
    let path = path.to_owned();
    move |cause| EditError::Io { path, what, cause }
}
