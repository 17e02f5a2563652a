//! A Maildir, read as a mail user would find it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A user's mailbox. It need not exist before its first message.
#[derive(Clone, Debug)]
pub struct Maildir {
    folder: PathBuf,
}

impl Maildir {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The files of its messages, in the order of their names.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for part in ["new", "cur"] {
            let folder = self.folder.join(part);
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot list {}", folder.display())),
            };
            for entry in entries {
                files.push(entry.with_context(|| format!("cannot list {}", folder.display()))?.path());
            }
        }
        files.sort();
        Ok(files)
    }

    /// Every message in it, in the order of their file names.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn messages(&self) -> Result<Vec<String>> {
        self.files()?
            .iter()
            .map(|file| {
                let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            })
            .collect()
    }

    /// How many messages it holds.
    ///
    /// # Errors
    /// As [`Maildir::messages`].
    pub fn count(&self) -> Result<usize> {
        Ok(self.messages()?.len())
    }

    /// The only message that contains `text`, as soon as it is there; it must stay the only one for a moment more.
    ///
    /// # Errors
    /// When it did not come within `patience`, or twice.
    pub fn wait_for_one(&self, text: &str, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        let matching = || -> Result<Vec<String>> {
            Ok(self.messages()?.into_iter().filter(|message| message.contains(text)).collect())
        };
        while matching()?.is_empty() {
            if Instant::now() > deadline {
                let there = self.messages()?;
                bail!(
                    "no message with {text:?} in {} within {patience:?}; there are: {there:#?}",
                    self.folder.display()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut found = matching()?;
        if found.len() > 1 {
            bail!("{} messages with {text:?}, not one: {found:#?}", found.len());
        }
        found.pop().context("the message is gone again")
    }
}
