//! The daemon's side of the socket: who may call, bounds, and the log of changes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::handover::Successor;
use super::peer::{self, Groups, Peer};
use super::protocol::{Access, Reply, Request};
use super::{CONNECTIONS_MAX, IDLE_MAX, REQUEST_BYTES_MAX};
use crate::config::Control;

/// What answers requests.
pub trait Daemon: Send + Sync + 'static {
    /// Does what is asked. The caller was found to be allowed to ask.
    fn answer(&self, request: &Request) -> Reply;

    /// Lets `successor` take its place. The caller was found to be allowed to ask.
    fn hand_over(&self, successor: Successor) {
        // Its connection closes: it knows that it gets nothing.
        drop(successor);
    }

    /// For the log: a change, or something refused. `outcome` is `done`, or why not.
    fn log(&self, uid: u32, request: String, outcome: String);
}

/// Why the socket cannot be.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon holds it.
    #[error(
        "another backstop{pid} answers at {socket}; stop it first, take over from it with `--take-over`, or give this one a \
         `socket` of its own in [control]"
    )]
    Taken {
        /// Its path.
        socket: PathBuf,
        /// ` (pid N)`, where known.
        pid: String,
    },
    /// Something else stands at its path.
    #[error("{0} is no socket, and is left alone; move it away, or name another `socket` in [control]")]
    NotASocket(PathBuf),
    /// A group of the configuration does not exist.
    #[error("[control]: {0}")]
    Group(String),
    /// A call failed.
    #[error("{what} {path}: {error}; the folder must exist and be writable for the daemon's user")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Whether the groups of the configuration exist, for who only checks it.
///
/// # Errors
/// One does not.
pub fn check_groups(settings: &Control) -> Result<(), BindError> {
    groups(settings).map(drop)
}

fn groups(settings: &Control) -> Result<Groups, BindError> {
    let lookup =
        |name: &Option<String>| name.as_deref().map(peer::group).transpose().map_err(BindError::Group);
    Ok(Groups { read: lookup(&settings.read_group)?, write: lookup(&settings.write_group)? })
}

/// What only root may do for a group that it is no member of.
const NOT_A_MEMBER: &str =
    "cannot give to its group (the daemon's user must be a member: usermod --append --groups GROUP backstop)";

/// The socket, bound but not answering yet: a daemon takes it before it touches anything else, so that two never
/// share an interface.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    groups: Groups,
    /// Held as long as the daemon lives; the kernel lets go of it even after a crash.
    lock: File,
}

impl Listener {
    /// Takes the socket: mode 0660, of the reading group where there is one, else of the writing group. A socket
    /// that a daemon left behind is replaced.
    ///
    /// # Errors
    /// Another daemon answers there, or the place cannot be used.
    pub fn bind(settings: &Control) -> Result<Self, BindError> {
        let groups = groups(settings)?;
        let path = settings.socket.clone();
        let lock = lock(&path)?;
        remove_stale(&path)?;
        let io = |what| {
            let path = path.clone();
            move |error| BindError::Io { what, path, error }
        };
        let listener = UnixListener::bind(&path).map_err(io("cannot listen at"))?;
        // From here on, whatever fails removes the socket.
        let bound = Self { listener, path: path.clone(), groups, lock };
        if let Some(group) = groups.read.or(groups.write) {
            std::os::unix::fs::chown(&path, None, Some(group.as_raw())).map_err(io(NOT_A_MEMBER))?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660))
            .map_err(io("cannot set the mode of"))?;
        Ok(bound)
    }

    /// Answers from now on, on a thread of its own, until the [`Server`] is dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn serve(self, daemon: Arc<impl Daemon>) -> io::Result<Server> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let path = self.path.clone();
        let accepting = move || accept(&self, &daemon, &stopped);
        let thread = thread::Builder::new().name("control".into()).spawn(accepting)?;
        Ok(Server { path, stop, thread: Some(thread) })
    }
}

impl Drop for Listener {
    /// A start that failed leaves no socket. The lock is still held here, so it is nobody else's.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // A child that was forked elsewhere in this process shares the lock until its exec; closing the file alone would
        // leave it held until then.
        let _ = self.lock.unlock();
    }
}

/// The answering socket. Dropped, it is gone.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread out of `accept`; where it cannot be reached it ends with the process. It takes the socket away
        // before the lock: whoever has the lock next finds the place free, and keeps what he puts there.
        if UnixStream::connect(&self.path).is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

/// Takes the lock beside the socket: unlike the socket's file it cannot outlive its daemon.
fn lock(socket: &Path) -> Result<File, BindError> {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let io = |what| {
        let path = path.clone();
        move |error| BindError::Io { what, path, error }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(io("cannot make the folder of"))?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io("cannot open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message: without the number it is true all the same.
            let _ = (&mut file).take(20).read_to_string(&mut pid);
            let pid = pid.trim().parse::<u32>().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            return Err(BindError::Taken { socket: socket.to_owned(), pid });
        }
        Err(fs::TryLockError::Error(error)) => return Err(io("cannot lock")(error)),
    }
    let write = |file: &mut File| file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    write(&mut file).map_err(io("cannot write"))?;
    Ok(file)
}

/// With the lock held, a socket at the path has no daemon any more.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::Io { what: "cannot look at", path: path.to_owned(), error }),
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    fs::remove_file(path).map_err(|error| BindError::Io {
        what: "cannot remove",
        path: path.to_owned(),
        error,
    })
}

fn accept(listener: &Listener, daemon: &Arc<impl Daemon>, stop: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: come again when some are free, and do not spin meanwhile.
            thread::sleep(std::time::Duration::from_millis(100));
            continue;
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            refuse(stream, format!("{CONNECTIONS_MAX} callers are at the control socket already; try again"));
            continue;
        }
        let (daemon, groups) = (Arc::clone(daemon), listener.groups);
        let slot = Slot(Arc::clone(&open));
        let spawned = thread::Builder::new().name("caller".into()).spawn(move || {
            // A caller that goes away in the middle has ended its own call only.
            let _ = serve(stream, groups, &*daemon);
            drop(slot);
        });
        // Not spawned: stream and slot were dropped with the closure, the caller sees the end of the line.
        drop(spawned);
    }
}

/// One of [`CONNECTIONS_MAX`].
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refuse(stream: UnixStream, error: String) {
    // The accepting thread waits for nobody: one line fits any socket's buffer.
    let _ = stream.set_nonblocking(true);
    let _ = write_line(&stream, &Reply::Failed { error });
}

fn serve(stream: UnixStream, groups: Groups, daemon: &impl Daemon) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    let peer = Peer::of(&stream)?;
    let uid = peer.uid.as_raw();
    let Some(access) = groups.access_of(peer) else {
        daemon.log(
            uid,
            "connect".into(),
            "refused: neither root, nor the daemon's user, nor in a group of [control]".into(),
        );
        let error =
            format!("uid {uid} may not speak to this daemon; ask for a group of its [control] section");
        return write_line(&stream, &Reply::Failed { error });
    };
    let mut lines = BufReader::new(&stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut lines).take(REQUEST_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let error = format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes");
            return write_line(&stream, &Reply::Failed { error });
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(Request::HandOver) if access >= Request::HandOver.needs() => {
                daemon.log(uid, Request::HandOver.words(), "begun".into());
                daemon.hand_over(Successor::new(stream));
                return Ok(());
            }
            Ok(request) => answer(&request, access, uid, daemon),
            Err(error) => Reply::Failed { error: format!("no such request: {error}") },
        };
        write_line(&stream, &reply)?;
    }
}

fn answer(request: &Request, access: Access, uid: u32, daemon: &impl Daemon) -> Reply {
    let reply = if access < request.needs() {
        Reply::Failed {
            error: match request.needs() {
                Access::Replace => {
                    format!("uid {uid} may not take this edge's place; only root and its own user may")
                }
                Access::Read | Access::Change => format!(
                    "uid {uid} may read, not change; ask root or a member of `write_group` of [control]"
                ),
            },
        }
    } else {
        daemon.answer(request)
    };
    if request.needs() >= Access::Change {
        let outcome = match &reply {
            Reply::Failed { error } => format!("refused: {error}"),
            Reply::Version { .. }
            | Reply::Status(_)
            | Reply::Bans { .. }
            | Reply::Banned(_)
            | Reply::Unbanned { was_banned: true }
            | Reply::Explained(_)
            | Reply::Watched(_)
            | Reply::HandedOver { .. }
            | Reply::Reloaded { .. } => "done".into(),
            Reply::Quarantine(reply) => reply.outcome(),
            Reply::Unbanned { was_banned: false } => "was not banned".into(),
        };
        daemon.log(uid, request.words(), outcome);
    }
    reply
}

fn write_line(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}
