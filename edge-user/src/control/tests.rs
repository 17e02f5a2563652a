//! The socket itself, with a daemon that only remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::Control;

#[derive(Default)]
struct Remembering {
    log: Mutex<Vec<(u32, String, String)>>,
}

impl Daemon for Remembering {
    fn answer(&self, request: &Request) -> Reply {
        match request {
            Request::Version => Reply::Version { version: "0".into(), file: PathBuf::new() },
            Request::Unban { .. } => Reply::Unbanned { was_banned: false },
            Request::Ban { .. } => Reply::Failed { error: "never".into() },
            Request::Status
            | Request::Bans
            | Request::Explain { .. }
            | Request::Watched
            | Request::Quarantine(_)
            | Request::HandOver
            | Request::Reload => Reply::Reloaded { filters: 1, keys: 2, file: PathBuf::new() },
        }
    }

    fn hand_over(&self, successor: Successor) {
        successor.give(&[]).unwrap();
        self.log.lock().unwrap().push((0, "served".into(), successor.serves().to_string()));
    }

    fn log(&self, uid: u32, request: String, outcome: String) {
        self.log.lock().unwrap().push((uid, request, outcome));
    }
}

struct Place {
    _folder: tempfile::TempDir,
    settings: Control,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let settings = Control { socket: folder.path().join("run/control.sock"), ..Control::default() };
    Place { _folder: folder, settings }
}

fn serve(place: &Place) -> (Server, Arc<Remembering>) {
    let daemon = Arc::new(Remembering::default());
    let server = Listener::bind(&place.settings).unwrap().serve(Arc::clone(&daemon)).unwrap();
    (server, daemon)
}

#[test]
fn a_change_is_logged_with_its_uid_and_outcome_and_a_question_is_not() {
    let place = place();
    let (_server, daemon) = serve(&place);
    let mut client = Client::connect(&place.settings.socket).unwrap();
    assert_eq!(
        client.ask(&Request::Version).unwrap(),
        Reply::Version { version: "0".into(), file: PathBuf::new() }
    );
    assert_eq!(
        client.ask(&Request::Unban { source: "192.0.2.7".into() }).unwrap(),
        Reply::Unbanned { was_banned: false }
    );
    let refused = client.ask(&Request::Ban { source: "192.0.2.7".into(), secs: 60 }).unwrap_err();
    assert_eq!(refused.to_string(), "never");
    let uid = nix::unistd::Uid::effective().as_raw();
    assert_eq!(
        *daemon.log.lock().unwrap(),
        [
            (uid, "ban del 192.0.2.7".to_owned(), "was not banned".to_owned()),
            (uid, "ban add 192.0.2.7 for 60 s".to_owned(), "refused: never".to_owned()),
        ]
    );
}

#[test]
fn the_socket_is_closed_to_others_by_its_mode() {
    let place = place();
    let _server = serve(&place);
    let mode = std::fs::metadata(&place.settings.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn a_second_daemon_is_refused_by_name_and_a_dead_ones_socket_is_replaced() {
    let place = place();
    let (server, _) = serve(&place);
    let taken = Listener::bind(&place.settings).unwrap_err();
    assert!(matches!(taken, BindError::Taken { .. }), "{taken}");
    assert!(taken.to_string().contains(&format!("pid {}", std::process::id())), "{taken}");
    drop(server);
    // What a crash leaves behind: a socket that nobody answers at.
    let _ = std::fs::remove_file(&place.settings.socket);
    drop(UnixListener::bind(&place.settings.socket).unwrap());
    // A child that another test has just forked has the listening socket until its exec.
    let begun = tokio::time::Instant::now();
    while !matches!(Client::connect(&place.settings.socket), Err(ClientError::NotRunning(_))) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "somebody answers");
        std::thread::yield_now();
    }
    Listener::bind(&place.settings).unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let place = place();
    std::fs::create_dir_all(place.settings.socket.parent().unwrap()).unwrap();
    std::fs::write(&place.settings.socket, "mine").unwrap();
    assert!(matches!(Listener::bind(&place.settings), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read(&place.settings.socket).unwrap(), b"mine");
}

#[test]
fn a_missing_group_is_named_with_what_helps() {
    let mut place = place();
    place.settings.read_group = Some("no-such-group-here".into());
    let error = Listener::bind(&place.settings).unwrap_err().to_string();
    assert!(error.contains("no-such-group-here") && error.contains("groupadd"), "{error}");
}

#[test]
fn nonsense_and_endless_lines_are_answered_and_bounded() {
    let place = place();
    let _server = serve(&place);
    let ask = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&place.settings.socket).unwrap();
        // The daemon may close before it took everything.
        let _ = stream.write_all(bytes);
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    assert!(ask(b"hello\n").contains("no such request"));
    assert!(ask(b"{\"request\":\"unban\",\"source\":\"x\",\"for\":1}\n").contains("no such request"));
    assert!(ask(b"{\"request\":\"erase\"}\n").contains("no such request"));
    assert!(ask(&vec![b'x'; REQUEST_BYTES_MAX as usize]).contains("one line of at most"));
}

#[test]
fn one_caller_too_many_is_told_so() {
    let place = place();
    let _server = serve(&place);
    let mut held: Vec<_> =
        (0..CONNECTIONS_MAX).map(|_| Client::connect(&place.settings.socket).unwrap()).collect();
    for client in &mut held {
        client.ask(&Request::Version).unwrap();
    }
    let refused = Client::connect(&place.settings.socket).unwrap().ask(&Request::Version).unwrap_err();
    assert!(refused.to_string().contains("try again"), "{refused}");
    drop(held);
}

#[test]
fn a_socket_that_never_answered_does_not_stay() {
    let place = place();
    let bound = Listener::bind(&place.settings).unwrap();
    assert!(place.settings.socket.exists());
    drop(bound);
    assert!(!place.settings.socket.exists());
}
