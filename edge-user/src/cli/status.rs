//! `backstop status`: how a running edge is doing. Exit code 1: none runs (the NIC may still enforce its bans).

use std::fmt::Write as _;
use std::path::PathBuf;

use super::asking::configuration;
use super::{Answer, CONFIG_PATH, ban, print, print_json, watched, words};
use crate::config::Config;
use crate::control::{
    Client, ClientError, QuarantineStatus, Reply, Request, Status, UpstreamStatus, XdpStatus,
};
use crate::dataplane::{Dataplane, DataplaneError};
use crate::telemetry::Metrics;

/// From here on a quarantine is called nearly full.
const NEARLY_FULL_PERCENT: u64 = 80;

/// Sources that are shown of what watching found.
const SOURCES_SHOWN: usize = 10;

/// What the command takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    config: PathBuf,
    /// Show all that watching found, and nothing else: every source, every finding, every day.
    #[arg(long)]
    watch: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<Answer> {
    let config = configuration(&args.config)?;
    if args.watch {
        return watched::show(&config, args.json);
    }
    match Client::connect(&config.control.socket) {
        Ok(mut daemon) => {
            let Reply::Status(status) = daemon.ask(&Request::Status)? else {
                return Err(daemon.unexpected().into());
            };
            if args.json {
                let mut object = serde_json::to_value(&status)?;
                object["running"] = true.into();
                print_json(&object)?;
            } else {
                print(&table(&status))?;
            }
            Ok(Answer::Yes)
        }
        Err(gone @ ClientError::NotRunning(_)) => {
            without_a_daemon(&config, &gone, args.json)?;
            Ok(Answer::No)
        }
        Err(error) => Err(error.into()),
    }
}

/// What the NIC does by itself.
fn without_a_daemon(config: &Config, gone: &ClientError, json: bool) -> anyhow::Result<()> {
    let pinned = config.xdp.as_ref().map(|settings| (settings, Dataplane::open_pinned(settings)));
    let (xdp, bans) = match &pinned {
        Some((settings, Ok(dataplane))) => {
            let status = XdpStatus {
                interface: settings.interface.clone(),
                mode: dataplane.mode().name().into(),
                adopted: true,
                watch: dataplane.watch()?,
                packets: dataplane.counters()?.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            };
            (Some(status), ban::pinned_bans(dataplane)?.len())
        }
        Some((_, Err(_))) | None => (None, 0),
    };
    let watch = watched::on_disk(config, SOURCES_SHOWN);
    if json {
        let watch = watch.ok().flatten();
        return print_json(
            &serde_json::json!({ "running": false, "xdp": xdp, "bans": bans, "watch": watch }),
        );
    }
    let mut text = format!("{gone}\n");
    match (&xdp, &pinned) {
        (Some(xdp), _) => {
            let _ = writeln!(text, "the NIC still enforces {} bans by itself", words::number(bans as u64));
            nic(&mut text, xdp);
        }
        (
            None,
            Some((_, Err(error @ (DataplaneError::NotPinned { .. } | DataplaneError::NotAttached { .. })))),
        ) => {
            let _ = writeln!(text, "the NIC does nothing either: {error}");
        }
        (None, Some((settings, Err(error)))) => {
            let _ = writeln!(
                text,
                "what the NIC at {} does cannot be told: {}",
                settings.interface,
                all_of(error)
            );
        }
        (None, Some((_, Ok(_))) | None) => {}
    }
    match &watch {
        Ok(Some(watch)) => text += &watched::section(watch),
        Ok(None) => {}
        Err(error) => {
            let _ = writeln!(text, "{error:#}");
        }
    }
    print(&text)
}

/// An error with its causes.
fn all_of(error: &DataplaneError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn table(status: &Status) -> String {
    let mut text = String::new();
    let flood = match status.flood_secs {
        Some(secs) => format!("A FLOOD IS ON, for {}", words::duration(secs)),
        None => "no flood".into(),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "backstop {}, up {}: {} sessions, {} bans, {flood}",
        status.version,
        words::duration(status.uptime_secs),
        words::number(status.sessions as u64),
        words::number(status.bans as u64),
    );
    match &status.xdp {
        Some(xdp) => nic(&mut text, xdp),
        None => text.push_str("\nNIC: not protected (no [xdp], or --no-xdp)\n"),
    }
    upstreams(&mut text, &status.upstreams);
    if let Some(watch) = &status.watch {
        text += &watched::section(watch);
    }
    if let Some(quarantine) = &status.quarantine {
        text += &self::quarantine(quarantine);
    }
    text.push_str("\nSMTP\n");
    // The daemon's order where this program knows a counter, then what only the daemon knows.
    let known: Vec<&str> = Metrics::default().snapshot().into_iter().map(|(name, _)| name).collect();
    let of_known = known.iter().filter_map(|name| status.counters.get_key_value(*name));
    let of_others = status.counters.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    counters(&mut text, of_known.chain(of_others));
    counters(&mut text, [(&"log_lines_lost".to_owned(), &status.log_lines_lost)].into_iter());
    text
}

/// A warning where bounces are deferred for want of room, or will be soon.
fn quarantine(status: &QuarantineStatus) -> String {
    let nearly = |taken: u64, most: u64| taken.saturating_mul(100) > most.saturating_mul(NEARLY_FULL_PERCENT);
    let nearly =
        nearly(status.messages as u64, status.messages_max as u64) || nearly(status.bytes, status.bytes_max);
    let warning = match &status.trouble {
        Some(trouble) => format!("; IT TAKES NO MORE, and such bounces are deferred: {trouble}"),
        None if nearly => "; NEARLY FULL: past its limits such bounces are deferred".into(),
        None => String::new(),
    };
    format!(
        "\nquarantine: {} of {} messages, {} of {} MiB{warning}\n",
        words::number(status.messages as u64),
        words::number(status.messages_max as u64),
        words::number(status.bytes.div_ceil(1 << 20)),
        words::number(status.bytes_max >> 20),
    )
}

/// A line for each server that mail goes to, and one more for what went wrong there last.
fn upstreams(text: &mut String, upstreams: &[UpstreamStatus]) {
    for upstream in upstreams {
        let what = match (upstream.inbound, upstream.outbound) {
            (true, true) => "upstream and next hop",
            (false, true) => "next hop",
            (true | false, false) => "upstream",
        };
        let state = match (upstream.up, upstream.since_secs) {
            (Some(true), Some(secs)) => format!("up for {}", words::duration(secs)),
            (Some(true), None) => "up".into(),
            (Some(false), Some(secs)) => format!("DOWN for {}", words::duration(secs)),
            (Some(false), None) => "DOWN".into(),
            (None, _) => "not asked yet".into(),
        };
        let _ = write!(
            text,
            "\n{what} {}: {state}; {} of {} connections, {} of them kept",
            upstream.address,
            words::number(upstream.connections as u64),
            words::number(upstream.connections_max as u64),
            words::number(upstream.kept as u64),
        );
        if upstream.waiting > 0 {
            let _ = write!(text, "; {} SESSIONS WAIT FOR ONE", words::number(upstream.waiting as u64));
        }
        text.push('\n');
        if let (Some(error), Some(secs)) = (&upstream.last_error, upstream.last_error_secs) {
            let _ = writeln!(text, "  last error, {} ago: {error}", words::duration(secs));
        }
    }
}

fn nic(text: &mut String, xdp: &XdpStatus) {
    let watch = if xdp.watch { "watching (counts what it would drop)" } else { "enforcing" };
    let adopted = if xdp.adopted { ", taken over from an earlier daemon" } else { "" };
    let _ = match xdp.mode.as_str() {
        XdpStatus::OFF => writeln!(
            text,
            "\nNIC {}: NOT PROTECTED, the XDP program was taken off; restart the edge to attach it again",
            xdp.interface
        ),
        mode => writeln!(text, "\nNIC {}: {mode}, {watch}{adopted}", xdp.interface),
    };
    counters(text, xdp.packets.iter());
}

fn counters<'a>(text: &mut String, rows: impl Iterator<Item = (&'a String, &'a u64)>) {
    for (name, value) in rows {
        let _ = writeln!(text, "  {:32}{:>16}", name.replace('_', " "), words::number(*value));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_table_shows_every_counter_even_one_that_this_program_does_not_know() {
        let counters: BTreeMap<String, u64> = Metrics::default()
            .snapshot()
            .into_iter()
            .map(|(name, _)| (name.to_owned(), 1))
            .chain([("of_a_newer_daemon".to_owned(), 1_234_567)])
            .collect();
        let text = table(&Status { counters: counters.clone(), ..Status::default() });
        for name in counters.keys() {
            assert!(text.contains(&name.replace('_', " ")), "{name} is not in\n{text}");
        }
        assert!(text.contains("1,234,567"), "{text}");
    }

    #[test]
    fn a_quarantine_that_is_full_or_nearly_so_is_not_to_be_overlooked() {
        let status = |messages, bytes, trouble: Option<&str>| {
            let trouble = trouble.map(str::to_owned);
            let status =
                QuarantineStatus { messages, messages_max: 1000, bytes, bytes_max: 100 << 20, trouble };
            table(&Status { quarantine: Some(status), ..Status::default() })
        };
        assert!(status(2, 1, None).contains("\nquarantine: 2 of 1,000 messages, 1 of 100 MiB\n"));
        for text in [status(801, 1, None), status(1, 81 << 20, None)] {
            assert!(text.contains("NEARLY FULL"), "{text}");
        }
        assert!(status(2, 1, Some("no disk")).contains("IT TAKES NO MORE"));
    }

    #[test]
    fn each_server_has_its_line_and_one_that_is_down_is_not_to_be_overlooked() {
        let up = UpstreamStatus {
            address: "192.0.2.30:25".parse().unwrap(),
            inbound: true,
            outbound: false,
            up: Some(true),
            since_secs: Some(61),
            last_error: None,
            last_error_secs: None,
            connections: 3,
            connections_max: 500,
            kept: 2,
            waiting: 0,
        };
        let down = UpstreamStatus {
            address: "192.0.2.31:25".parse().unwrap(),
            outbound: true,
            up: Some(false),
            last_error: Some("no connection".into()),
            last_error_secs: Some(5),
            waiting: 4,
            ..up.clone()
        };
        let unasked =
            UpstreamStatus { up: None, since_secs: None, inbound: false, outbound: true, ..up.clone() };
        let text = table(&Status { upstreams: vec![up, down, unasked], ..Status::default() });
        for line in [
            "upstream 192.0.2.30:25: up for 1 min 1 s; 3 of 500 connections, 2 of them kept\n",
            "upstream and next hop 192.0.2.31:25: DOWN for 1 min 1 s; 3 of 500 connections, 2 of them kept; 4 SESSIONS \
             WAIT FOR ONE\n  last error, 5 s ago: no connection\n",
            "next hop 192.0.2.30:25: not asked yet;",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_flood_is_not_to_be_overlooked() {
        assert!(
            table(&Status { flood_secs: Some(61), ..Status::default() })
                .contains("A FLOOD IS ON, for 1 min 1 s")
        );
        assert!(table(&Status::default()).contains("no flood"));
    }
}
