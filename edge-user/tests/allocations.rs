//! A refused session allocates nothing, once its worker has served some: the real engine on the loopback, and an
//! allocator that counts by thread. What the runtime allocates on the worker's thread counts too.
#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edge_core::signature::{Key, Keys};
use edge_core::time::UnixMillis;
use edge_user::config::LogFormat;
use edge_user::engine::{Edge, Listeners, clock, serve_at};
use edge_user::telemetry::{Direction, EventLog, Settings};
use tokio::sync::watch;

/// Threads are told apart by the last digits of their numbers.
const THREADS: usize = 4096;

static ALLOCATIONS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS[thread(nix::unistd::gettid().as_raw())].fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, octets: *mut u8, layout: Layout) {
        // SAFETY: as above; what is freed here was allocated there.
        unsafe { System.dealloc(octets, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn thread(number: i32) -> usize {
    number as usize % THREADS
}

/// The slot of this process's thread of that name.
fn slot_of(name: &str) -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("this process has threads")
        .map(|task| task.expect("an entry").path())
        .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name))
        .and_then(|task| task.file_name()?.to_str()?.parse().ok())
        .map(thread)
        .expect("the worker runs")
}

/// An upstream that knows nobody.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || answer(client.expect("a connection")));
        }
    });
    address
}

fn answer(mut client: TcpStream) -> Option<()> {
    use std::io::BufRead as _;
    client.write_all(b"220 upstream.example ESMTP\r\n").ok()?;
    let mut lines = std::io::BufReader::new(client.try_clone().ok()?).lines();
    while let Some(Ok(line)) = lines.next() {
        let reply: &[u8] = match line.get(..4)? {
            "RCPT" => b"550 5.1.1 nobody\r\n",
            "QUIT" => b"221 2.0.0 bye\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        client.write_all(reply).ok()?;
    }
    None
}

fn edge() -> SocketAddr {
    let text = format!(
        r#"
hostname = "edge.example"
[inbound]
listen = ["127.0.0.1:2525"]
[[domain]]
name = "ours.example"
upstream = "{}"
[signature]
keys = "/nowhere"
[reputation]
connections_burst = 1000000
unproven_burst = 1000000
"#,
        upstream()
    );
    let loaded = edge_user::config::parse(&text, std::path::Path::new("test")).expect("it is right");
    let mut config = loaded.config;
    config.inbound.listen[0].set_port(0);
    let settings =
        Settings { format: LogFormat::Json, hasher: None, queue_lines_max: 1000, clock: clock::system_now };
    let log = EventLog::start(settings, std::io::sink()).expect("a thread");
    let keys = Keys::new(vec![Key::new(1, [7; 32], UnixMillis(0))]).expect("one key");
    let edge = Edge::new(config, keys, None, log, None).expect("an edge");
    let listeners = Listeners::bind(&edge, 1).expect("a port");
    let address = listeners.addresses(Direction::Inbound)[0];
    std::thread::spawn(move || {
        let (_stop, stopped) = watch::channel(false);
        let late = serve_at(edge, listeners, stopped, || false).expect("it serves");
        late.join().expect("it ends");
    });
    address
}

/// A bounce to nobody, refused in answer to RCPT.
fn refused(edge: SocketAddr) {
    let mut client = TcpStream::connect(edge).expect("the edge listens");
    client.set_read_timeout(Some(Duration::from_secs(30))).expect("a TCP socket");
    for (line, code) in [
        (&b""[..], b"220"),
        (b"EHLO reflector.example\r\n", b"250"),
        (b"MAIL FROM:<>\r\n", b"250"),
        (b"RCPT TO:<nobody@ours.example>\r\n", b"550"),
        (b"QUIT\r\n", b"221"),
    ] {
        client.write_all(line).expect("the edge reads");
        let mut reply = [0; 1024];
        let length = client.read(&mut reply).expect("a reply in time");
        assert!(reply[..length].starts_with(code), "{}", reply[..length].escape_ascii());
    }
    assert_eq!(client.read(&mut [0; 16]).expect("the edge closes"), 0);
}

#[test]
fn a_refused_session_allocates_nothing_in_steady_state() {
    let edge = edge();
    // Behind the begin of the flood that this is, whose line in the log is the worker's first.
    (0..300).for_each(|_| refused(edge));
    let worker = slot_of("worker-0");
    let before = ALLOCATIONS[worker].load(Ordering::Relaxed);
    assert!(before > 0, "the worker is counted");
    (0..1000).for_each(|_| refused(edge));
    let after = ALLOCATIONS[worker].load(Ordering::Relaxed);
    assert_eq!(after - before, 0, "allocations in a thousand sessions");
}
