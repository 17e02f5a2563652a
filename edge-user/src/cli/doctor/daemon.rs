//! The running daemon, over its control socket.

use super::super::words;
use super::Subject;
use super::finding::Findings;
use crate::control::{Client, ClientError, Reply, Request, Status, XdpStatus};

pub(super) fn ask(subject: &Subject, findings: &mut Findings) {
    let answer = Client::connect(&subject.config.control.socket).and_then(|mut daemon| {
        match daemon.ask(&Request::Status)? {
            Reply::Status(status) => Ok((daemon.daemon().ok().map(|(pid, _)| pid), status)),
            _ => Err(daemon.unexpected()),
        }
    });
    judge(answer, findings);
}

fn judge(answer: Result<(Option<u32>, Box<Status>), ClientError>, findings: &mut Findings) {
    let (pid, status) = match answer {
        Ok(answer) => answer,
        Err(error @ ClientError::NotRunning(_)) => {
            let (found, advice) = split(&error);
            return findings.careful("running", found, advice);
        }
        Err(ClientError::Forbidden(path)) => {
            return findings.untold("running", format!("{} is not for this user", path.display()));
        }
        Err(error) => {
            let (found, _) = split(&error);
            return findings.bad("running", found, "its log says what it does; restart it");
        }
    };
    let pid = pid.map_or(String::new(), |pid| format!("pid {pid}, "));
    findings.good(
        "running",
        format!("{pid}up {}, {} sessions", words::duration(status.uptime_secs), status.sessions),
    );
    let own = env!("CARGO_PKG_VERSION");
    if status.version == own {
        findings.good("version", format!("{own}, as this program"));
    } else {
        findings.careful(
            "version",
            format!("{} runs, and this program is {own}", status.version),
            "restart it: systemctl restart backstop",
        );
    }
    if let Some(XdpStatus { interface, mode, watch, .. }) = &status.xdp {
        match (mode.as_str(), watch) {
            (XdpStatus::OFF, _) => findings.bad(
                "network card",
                format!("the program at {interface} was taken off: nothing is dropped there"),
                "restart the edge to attach it again",
            ),
            (mode, true) => findings.good("network card", format!("{interface}, {mode}, watching only")),
            (mode, false) => findings.good("network card", format!("{interface}, {mode}, enforcing")),
        }
    }
    if let Some(secs) = status.flood_secs {
        findings.careful(
            "flood",
            format!("one is on, for {}", words::duration(secs)),
            "`backstop status` says what it costs; nothing has to be done",
        );
    }
    if status.log_lines_lost > 0 {
        findings.careful(
            "log",
            format!("{} lines were lost since the start", words::number(status.log_lines_lost)),
            "whatever reads its stderr is too slow; or raise queue_lines_max in [log]",
        );
    }
}

/// An error's first half, and what it says to do.
fn split(error: &ClientError) -> (String, String) {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((found, advice)) => (found.to_owned(), advice.to_owned()),
        None => (text, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State::{self, Bad, Careful, Good};
    use super::*;

    #[test]
    fn a_daemon_is_judged_by_its_answer() {
        let own = || Status { version: env!("CARGO_PKG_VERSION").into(), ..Status::default() };
        let xdp = |mode: &str| XdpStatus {
            interface: "eth0".into(),
            mode: mode.into(),
            adopted: false,
            watch: false,
            packets: Default::default(),
        };
        let path = || std::path::PathBuf::from("/run/x");
        let broken = || ClientError::Broken { path: path(), error: std::io::ErrorKind::TimedOut.into() };
        type Row = (Result<Status, ClientError>, Vec<(State, &'static str)>);
        let rows: Vec<Row> = vec![
            (Ok(own()), vec![(Good, "running"), (Good, "version")]),
            (Ok(Status::default()), vec![(Good, "running"), (Careful, "version")]),
            (
                Ok(Status { xdp: Some(xdp("native")), ..own() }),
                vec![(Good, "running"), (Good, "version"), (Good, "network card")],
            ),
            (
                Ok(Status {
                    xdp: Some(xdp(XdpStatus::OFF)),
                    flood_secs: Some(9),
                    log_lines_lost: 1,
                    ..own()
                }),
                vec![
                    (Good, "running"),
                    (Good, "version"),
                    (Bad, "network card"),
                    (Careful, "flood"),
                    (Careful, "log"),
                ],
            ),
            (Err(ClientError::NotRunning(path())), vec![(Careful, "running")]),
            (Err(ClientError::Forbidden(path())), vec![(Careful, "running")]),
            (Err(broken()), vec![(Bad, "running")]),
        ];
        for (answer, expected) in rows {
            let mut findings = Findings::of("daemon");
            judge(answer.map(|status| (Some(7), Box::new(status))), &mut findings);
            assert_eq!(findings.states(), expected, "{}", findings.text());
        }
    }
}
