//! A program that passes for Backstop at a first look, and is broken in the way that its last octets name. The test
//! compiles it (`broken.rs`).

use std::os::unix::net::UnixDatagram;
use std::process::exit;
use std::time::Duration;

fn main() {
    let own = std::fs::read("/proc/self/exe").unwrap_or_default();
    let is = |fault: &str| own.ends_with(fault.as_bytes());
    let command = std::env::args().nth(1).unwrap_or_default();
    if is(&format!("hangs-at-{}", command.trim_start_matches('-'))) {
        for_ever();
    }
    match command.as_str() {
        "--version" => println!("backstop 9.9.9"),
        "check" if is("check-says-no") => {
            println!("backstop.toml:1:1: error: this version wants it otherwise");
            exit(1);
        }
        "run" if is("exits-at-once") => {
            eprintln!("something is missing at run time");
            exit(1);
        }
        "run" => {
            say_ready();
            if is("dies-soon") {
                std::thread::sleep(Duration::from_secs(1));
                exit(1);
            }
            for_ever();
        }
        "status" if is("never-healthy") => {
            eprintln!("no backstop answers");
            exit(1);
        }
        "status" => println!("{{\"running\":true,\"version\":\"9.9.9\",\"uptime_secs\":1}}"),
        _ => {}
    }
}

fn for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// As `Type=notify` has it.
fn say_ready() {
    if let Some(place) = std::env::var_os("NOTIFY_SOCKET") {
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"READY=1", place));
        if let Err(error) = sent {
            eprintln!("not heard: {error}");
        }
    }
}
