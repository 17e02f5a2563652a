//! What a command prints. A reader that goes away (`backstop ban list | head -1`) ends the command in silence.

use std::io::{self, Write};

use serde::Serialize;

/// Whoever read our stdout is gone: no fault, and nobody to tell.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads our output any more")]
pub(super) struct ReaderGone;

/// Prints text as it is, to stdout; a missing newline at its end is added.
///
/// # Errors
/// Stdout takes no more.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    print_all(&[text.as_bytes(), newline.as_bytes()])
}

/// Prints octets as they are, to stdout.
///
/// # Errors
/// Stdout takes no more.
pub(super) fn print_octets(octets: &[u8]) -> anyhow::Result<()> {
    print_all(&[octets])
}

fn print_all(pieces: &[&[u8]]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match pieces.iter().try_for_each(|piece| out.write_all(piece)).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to stdout")),
    }
}

/// Prints one JSON object on one line, to stdout.
///
/// # Errors
/// Stdout takes no more.
pub(crate) fn print_json(object: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string(object)?)
}

/// Says on stderr why a command could not be done.
pub(super) fn complain(error: &anyhow::Error) {
    if !error.is::<ReaderGone>() {
        // Where stderr is gone too, the exit code still says it.
        let _ = writeln!(io::stderr().lock(), "backstop: {error:#}");
    }
}
