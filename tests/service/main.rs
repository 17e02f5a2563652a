//! `backstop-service FOLDER COMMAND...`: what systemd does for a service of `Type=notify`, for tests on hosts where no
//! systemd runs. It starts COMMAND, and hears at a socket (`$NOTIFY_SOCKET`) what that says of itself.
//!
//! In FOLDER it writes `state`, a word of `systemctl is-active`, and `pid`, COMMAND's process. It ends as COMMAND ends.
//!
//! What COMMAND has it keep (`FDSTORE=1`) is kept over a restart: where FOLDER has a file `restarting` when COMMAND ends, it
//! writes `keeping` there, and hands all over to the next one, which asks at the socket `store` and gives it to its COMMAND.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::store::{Store, receive};

/// How long one that ended waits for the next one.
const SUCCESSOR: Duration = Duration::from_secs(60);
/// The last word of a handover.
const ALL: &[u8] = b"ALL=1";
/// What a unit that is stopped ends by, and that is no failure of it.
const SIGTERM: i32 = 15;

/// What becomes of the command.
enum Event {
    /// It says so itself.
    Says(String, Vec<OwnedFd>),
    /// It is over.
    Ended(ExitStatus),
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().context("no folder named")?);
    let program = arguments.next().context("no command named")?;
    write(&folder, "state", "activating")?;
    let mut store = inherit(&folder)?;
    let (script, passed) = store.passed_on()?;
    let socket = folder.join("notify");
    let _ = std::fs::remove_file(&socket);
    let heard = UnixDatagram::bind(&socket).context("cannot make the socket")?;
    // The command may run as another user.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))
        .context("cannot open the socket")?;
    let mut command = Command::new("bash");
    command.arg("-euc").arg(format!("{script}exec \"$0\" \"$@\"")).arg(program).args(arguments);
    let mut child = command.env("NOTIFY_SOCKET", &socket).spawn().context("cannot start the command")?;
    drop(passed);
    write(&folder, "pid", &child.id().to_string())?;

    let (events, happened) = channel();
    let ends = events.clone();
    std::thread::spawn(move || hear(&heard, &events));
    std::thread::spawn(move || child.wait().map(|status| ends.send(Event::Ended(status))));
    let mut was_ready = false;
    for event in happened {
        match event {
            Event::Says(message, sockets) => {
                store.hear(&message, sockets)?;
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
    if folder.join("restarting").exists() && !store.0.is_empty() {
        write(&folder, "keeping", &store.0.len().to_string())?;
        return bequeath(&store, &folder);
    }
    Ok(())
}

fn hear(socket: &UnixDatagram, events: &Sender<Event>) {
    while let Ok((said, sockets)) = receive(socket) {
        if events.send(Event::Says(said, sockets)).is_err() {
            break;
        }
    }
}

/// What the one before keeps.
fn inherit(folder: &Path) -> Result<Store> {
    let mut store = Store::default();
    let keeping = folder.join("keeping");
    if !keeping.exists() {
        return Ok(store);
    }
    let path = folder.join("store");
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).context("cannot make the socket")?;
    socket.set_read_timeout(Some(SUCCESSOR))?;
    loop {
        let (said, sockets) = receive(&socket).context("the one before keeps sockets, and says nothing")?;
        if said.as_bytes() == ALL {
            break;
        }
        store.hear(&said, sockets)?;
    }
    for file in [path, keeping] {
        std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(store)
}

/// Hands what it keeps over to the next one.
fn bequeath(store: &Store, folder: &Path) -> Result<()> {
    let socket = UnixDatagram::unbound()?;
    let deadline = Instant::now() + SUCCESSOR;
    while socket.connect(folder.join("store")).is_err() {
        ensure!(Instant::now() < deadline, "nobody came for the sockets that are kept");
        std::thread::sleep(Duration::from_millis(10));
    }
    store.send(&socket)?;
    socket.send(ALL).map(drop).context("cannot end the handover")
}

/// Whole, or not at all: somebody may read it at any time.
fn write(folder: &Path, file: &str, text: &str) -> Result<()> {
    let new = folder.join(format!("{file}.new"));
    std::fs::write(&new, format!("{text}\n"))
        .and_then(|()| std::fs::rename(&new, folder.join(file)))
        .with_context(|| format!("cannot write {file} in {}", folder.display()))
}
