//! What `docs/upstream.md` says of several servers: its list is read from the page, one of the two is not there, and
//! `backstop status` tells how they are.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::client::Client;
use lab::edge::{Edge, Settings};
use lab::mta::Operator;
use lab::program::Profile;
use lab::{EDGE, Host, Lab, MTA};
use serde_json::Value;

use super::Page;
use crate::message;

const PATIENCE: Duration = Duration::from_secs(60);

/// What is told of the server at this address.
fn told<'s>(status: &'s Value, address: &str) -> Result<&'s Value> {
    let all = status["upstreams"].as_array().context("status has no upstreams")?;
    all.iter().find(|one| one["address"] == address).with_context(|| format!("{address} is not in {status}"))
}

#[test]
fn of_several_servers_one_takes_the_place_of_another_and_status_tells_how_they_are() -> Result<()> {
    let lab = Lab::up("docs-several")?;
    let operator = lab.operator(&Operator::default())?;
    let (gone, there) = (format!("{MTA}:2525"), format!("{MTA}:25"));
    let list = Page::read("upstream")?
        .block("toml", 0)?
        .replace("192.0.2.30:25", &gone)
        .replace("192.0.2.31:25", &there);
    ensure!(list.contains(&gone) && list.contains(&there), "{list}");
    let mut edge = Edge::start(&lab, &Settings::default().merge(&list), Profile::Dev)?;
    let deliver = |id: &str| -> Result<()> {
        let mut client = Client::connect(&lab, Host::Internet, None, (EDGE, 25).into())?;
        client.command("EHLO far.example")?;
        let (_, reply) = client.transaction("a@far.example", "alice@example.jp", &message(id))?;
        ensure!(reply.code == 250, "{id}: {reply}");
        operator.mailbox("alice@example.jp").wait_for_one(&format!("X-Returned: {id}"), PATIENCE)?;
        Ok(())
    };
    deliver("by-the-second")?;

    let status = edge.json(&lab, &["status"])?;
    let (first, second) = (told(&status, &gone)?, told(&status, &there)?);
    assert_eq!((&first["up"], &first["connections"]), (&false.into(), &0.into()), "{status}");
    assert!(first["last_error"].as_str().is_some_and(|error| error.contains("refused")), "{status}");
    assert!(first["since_secs"].is_u64() && first["last_error_secs"].is_u64(), "{status}");
    assert_eq!((&second["up"], &second["last_error"]), (&true.into(), &Value::Null), "{status}");
    assert_eq!((&second["connections_max"], &second["waiting"]), (&500.into(), &0.into()), "{status}");
    assert_eq!((&second["inbound"], &second["outbound"]), (&true.into(), &false.into()), "{status}");
    // The next hop is one of them.
    assert_eq!(told(&status, &format!("{MTA}:10026"))?["outbound"], true, "{status}");
    let table = edge.command(&lab, &["status"], b"")?;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains(&format!("upstream {gone}: DOWN for ")), "{table}");
    assert!(table.contains(&format!("upstream {there}: up for ")), "{table}");

    // It comes: asked every two seconds, it is seen to be up again.
    let listener = lab.in_host(Host::Mta, || Ok(std::net::TcpListener::bind((MTA, 2525))?))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A server that says what it must, and ends.
            let _ = answer(&stream);
        }
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = edge.json(&lab, &["status"])?;
        let first = told(&status, &gone)?;
        if first["up"] == true {
            assert!(first["last_error"].is_string(), "its last error is still told: {status}");
            break;
        }
        ensure!(Instant::now() < deadline, "it is not seen to be up: {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
    edge.stop()
}

/// A greeting, and a yes to each line.
fn answer(stream: &std::net::TcpStream) -> std::io::Result<()> {
    use std::io::{BufRead as _, BufReader, Write as _};
    let (mut input, mut output, mut line) = (BufReader::new(stream), stream, String::new());
    output.write_all(b"220 late.example ESMTP\r\n")?;
    while input.read_line(&mut line)? > 0 {
        output.write_all(b"250 late.example\r\n")?;
        line.clear();
    }
    Ok(())
}
