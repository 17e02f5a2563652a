//! `backstop-service FOLDER COMMAND...`: what systemd does for a service of `Type=notify`, for tests on hosts where no
//! systemd runs. It starts COMMAND, and hears at a socket (`$NOTIFY_SOCKET`) what that says of itself.
//!
//! In FOLDER it writes `state`, a word of `systemctl is-active`, and `pid`, COMMAND's process. It ends as COMMAND ends.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result};

/// Longest message that is read, in octets.
const MESSAGE_BYTES_MAX: usize = 4096;
/// What a unit that is stopped ends by, and that is no failure of it.
const SIGTERM: i32 = 15;

/// What becomes of the command.
enum Event {
    /// It says so itself.
    Says(String),
    /// It is over.
    Ended(ExitStatus),
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().context("no folder named")?);
    let program = arguments.next().context("no command named")?;
    write(&folder, "state", "activating")?;
    let socket = folder.join("notify");
    let _ = std::fs::remove_file(&socket);
    let heard = UnixDatagram::bind(&socket).context("cannot make the socket")?;
    // The command may run as another user.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))
        .context("cannot open the socket")?;
    let mut command = Command::new(program);
    let mut child =
        command.args(arguments).env("NOTIFY_SOCKET", &socket).spawn().context("cannot start the command")?;
    write(&folder, "pid", &child.id().to_string())?;

    let (events, happened) = channel();
    let ends = events.clone();
    std::thread::spawn(move || hear(&heard, &events));
    std::thread::spawn(move || child.wait().map(|status| ends.send(Event::Ended(status))));
    let mut was_ready = false;
    for event in happened {
        match event {
            Event::Says(message) => {
                for line in message.lines() {
                    match line {
                        "READY=1" => {
                            was_ready = true;
                            write(&folder, "state", "active")?;
                        }
                        "STOPPING=1" => write(&folder, "state", "deactivating")?,
                        _ => {}
                    }
                }
            }
            Event::Ended(status) => {
                // As systemd: what ends before it is ready has failed, however it ends.
                let clean = status.success() || status.signal() == Some(SIGTERM);
                write(&folder, "state", if clean && was_ready { "inactive" } else { "failed" })?;
                break;
            }
        }
    }
    Ok(())
}

fn hear(socket: &UnixDatagram, events: &Sender<Event>) {
    let mut message = [0; MESSAGE_BYTES_MAX];
    while let Ok(length) = socket.recv(&mut message) {
        let said = String::from_utf8_lossy(&message[..length]).into_owned();
        if events.send(Event::Says(said)).is_err() {
            break;
        }
    }
}

/// Whole, or not at all: somebody may read it at any time.
fn write(folder: &Path, file: &str, text: &str) -> Result<()> {
    let new = folder.join(format!("{file}.new"));
    std::fs::write(&new, format!("{text}\n"))
        .and_then(|()| std::fs::rename(&new, folder.join(file)))
        .with_context(|| format!("cannot write {file} in {}", folder.display()))
}
