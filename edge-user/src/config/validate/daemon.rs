//! Limits, the control socket, the log.

use std::os::unix::ffi::OsStrExt as _;

use super::{at_least, at_most};
use crate::config::reader::Reader;
use crate::config::{Config, READ_BUFFER_BYTES};

/// The longest path of a Unix socket (`sun_path` less the NUL).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Most connections to an upstream that may be set: far beyond every server, far below what a semaphore counts.
const UPSTREAM_CONNECTIONS_MAX: usize = 100_000;

/// Most messages that a quarantine may be set to hold.
const QUARANTINE_MESSAGES_MAX: usize = 100_000;

/// The longest wait that may be set, in seconds: nobody waits longer, and a clock can still count it.
pub(super) const WAIT_SECS_MAX: u64 = 86_400;

pub(super) fn validate(config: &Config, reader: &mut Reader<'_>) {
    limits(config, reader);
    let socket = &config.control.socket;
    if !socket.is_absolute() {
        reader.error(
            "control.socket",
            "expected an absolute path: the command line must find it from anywhere",
        );
    }
    if !config.state.dir.is_absolute() {
        reader.error("state.dir", "expected an absolute path: the service starts elsewhere");
    }
    let length = socket.as_os_str().as_bytes().len();
    if length > SOCKET_PATH_BYTES_MAX {
        reader.error(
            "control.socket",
            format!("expected a path of at most {SOCKET_PATH_BYTES_MAX} octets, found {length}"),
        );
    }
    let quarantine = &config.quarantine;
    at_least(reader, "quarantine.messages_max", quarantine.messages_max, 1);
    // The control socket lists all of them in one reply.
    at_most(
        reader,
        "quarantine.messages_max",
        quarantine.messages_max,
        ("what one list can show", QUARANTINE_MESSAGES_MAX),
    );
    at_least(reader, "quarantine.bytes_max", quarantine.bytes_max, 1);
    at_least(reader, "quarantine.messages_per_source_max", quarantine.messages_per_source_max, 1);
    at_least(reader, "quarantine.bytes_per_source_max", quarantine.bytes_per_source_max, 1);
    at_least(reader, "quarantine.days", quarantine.days, 1);
    at_least(reader, "log.queue_lines_max", config.log.queue_lines_max, 1);
}

fn limits(config: &Config, reader: &mut Reader<'_>) {
    let l = &config.limits;
    for (key, value, min) in [
        ("sessions_max", l.sessions_max, 1),
        ("sessions_per_source_max", l.sessions_per_source_max, 1),
        // RFC 5321 section 4.5.3.1.4.
        ("line_bytes_max", l.line_bytes_max, 512),
        ("recipients_max", l.recipients_max, 1),
        ("hold_bytes_max", l.hold_bytes_max, 1),
        ("hold_total_bytes_max", l.hold_total_bytes_max, 1),
        // A text line may have 1,000 octets (RFC 5321 section 4.5.3.1.6).
        ("header_bytes_max", l.header_bytes_max, 1000),
        ("mailbox_cache_max", l.mailbox_cache_max, 1),
        ("upstream_connections_max", l.upstream_connections_max, 1),
    ] {
        at_least(reader, &format!("limits.{key}"), value, min);
    }
    at_most(
        reader,
        "limits.line_bytes_max",
        l.line_bytes_max,
        ("the read buffer that a line must fit into", READ_BUFFER_BYTES),
    );
    at_least(reader, "limits.errors_max", l.errors_max, 1);
    at_least(reader, "limits.upstream_messages_max", l.upstream_messages_max, 1);
    at_most(
        reader,
        "limits.upstream_connections_max",
        l.upstream_connections_max,
        ("what can be counted", UPSTREAM_CONNECTIONS_MAX),
    );
    at_most(
        reader,
        "limits.upstream_idle_max",
        l.upstream_idle_max,
        ("limits.upstream_connections_max", l.upstream_connections_max),
    );
    if l.upstream_idle_secs >= 300 {
        reader.warning(
            "limits.upstream_idle_secs",
            "most servers end a connection that is idle for 300 seconds; keep it shorter, so that the edge is first",
        );
    }
    at_least(reader, "limits.body_bytes_per_sec_min", l.body_bytes_per_sec_min, 1);
    // RFC 5321 section 4.5.3.1.7.
    at_least(reader, "limits.message_bytes_max", l.message_bytes_max, 64 << 10);
    for (key, secs) in [
        ("client_idle_secs", l.client_idle_secs),
        ("client_greet_secs", l.client_greet_secs),
        ("progress_secs", l.progress_secs),
        ("upstream_connect_secs", l.upstream_connect_secs),
        ("upstream_reply_secs", l.upstream_reply_secs),
        ("upstream_wait_secs", l.upstream_wait_secs),
        ("upstream_idle_secs", l.upstream_idle_secs),
        ("upstream_age_secs", l.upstream_age_secs),
    ] {
        let path = format!("limits.{key}");
        at_least(reader, &path, secs, 1);
        at_most(reader, &path, secs, ("a day in seconds", WAIT_SECS_MAX));
    }
    for (key, secs) in
        [("client_idle_secs", l.client_idle_secs), ("upstream_reply_secs", l.upstream_reply_secs)]
    {
        if (1..300).contains(&secs) {
            let text = "RFC 5321 (4.5.3.2) asks for at least 300: who is slow and honest has that time";
            reader.warning(&format!("limits.{key}"), text);
        }
    }
    if (1..100).contains(&l.recipients_max) {
        reader.warning("limits.recipients_max", "RFC 5321 (4.5.3.1.8) asks for at least 100");
    }
    if l.hold_bytes_max < 64 << 10 {
        reader.warning(
            "limits.hold_bytes_max",
            "in real bounces the proof may lie up to 65 KB in: less than 65536 refuses some that are real",
        );
    }
    at_most(
        reader,
        "limits.hold_bytes_max",
        l.hold_bytes_max,
        ("limits.hold_total_bytes_max", l.hold_total_bytes_max),
    );
}
