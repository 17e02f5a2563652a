//! A program that passes for Backstop at a first look, and is broken in the way that its last octets name. The test
//! compiles it (`broken.rs`).

use std::process::exit;
use std::time::Duration;

fn main() {
    let own = std::fs::read("/proc/self/exe").unwrap_or_default();
    let is = |fault: &str| own.ends_with(fault.as_bytes());
    match std::env::args().nth(1).as_deref() {
        Some("--version") => println!("backstop 9.9.9"),
        Some("check") if is("check-says-no") => {
            println!("backstop.toml:1:1: error: this version wants it otherwise");
            exit(1);
        }
        Some("run") if is("exits-at-once") => {
            eprintln!("something is missing at run time");
            exit(1);
        }
        Some("run") if is("dies-soon") => std::thread::sleep(Duration::from_secs(1)),
        Some("run") => std::thread::sleep(Duration::from_secs(3600)),
        Some("status") if is("never-healthy") => {
            eprintln!("no backstop answers");
            exit(1);
        }
        Some("status") => println!("{{\"running\":true,\"version\":\"9.9.9\",\"uptime_secs\":1}}"),
        _ => {}
    }
}
