//! TLS with others' programs: Postfix and Exim as clients, Postfix as upstream and next hop, OpenSSL's client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::client::{Client, submit};
use lab::edge::{Edge, Settings};
use lab::mta::{Far, Operator, SUBMISSION, Software};
use lab::program::Profile;
use lab::{EDGE, Host, Lab, MTA};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::message;

const PATIENCE: Duration = Duration::from_secs(60);
/// Where certificates and keys lie in the lab.
pub(crate) const FOLDER: &str = "/run/lab/tls";
/// Its own authority, and what that, or nobody, vouches for.
const MAKE: &str = r#"set -eu
ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout "$1.key" -out "$1.pem" -subj "/CN=$2" -days 2 2>/dev/null; }
leaf() {
  openssl req -new -newkey "$3" $4 -noenc -keyout "$1.key" -out "$1.csr" -subj "/CN=$2" 2>/dev/null
  printf 'subjectAltName=DNS:%s\n' "$2" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}
ca ca lab; ca self nobody
leaf edge edge.example.jp ec "-pkeyopt ec_paramgen_curve:prime256v1"
leaf other mx.other.example rsa:2048 ""
leaf renewed edge.example.jp ec "-pkeyopt ec_paramgen_curve:prime256v1"
leaf mail mail.example.jp ec "-pkeyopt ec_paramgen_curve:prime256v1"
chmod 644 *.key
"#;

pub(crate) fn certificates(lab: &Lab) -> Result<()> {
    let folder = lab.path("tls");
    std::fs::create_dir_all(&folder)?;
    let made = Command::new("sh").args(["-c", MAKE]).current_dir(&folder).output()?;
    ensure!(made.status.success(), "no certificates: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// A configuration that offers STARTTLS with two certificates.
fn settings() -> Settings {
    let pair = |settings: Settings, place: usize, name: &str| {
        settings
            .set(&format!("tls.certificate.{place}.chain"), format!("{FOLDER}/{name}.pem"))
            .set(&format!("tls.certificate.{place}.key"), format!("{FOLDER}/{name}.key"))
    };
    let settings = Settings::default().merge("[[tls.certificate]]\n[[tls.certificate]]\n");
    pair(pair(settings, 0, "edge"), 1, "other")
}

/// The tables `t` of a text.
fn tables(text: &str) -> toml::Value {
    let table: toml::Table = text.parse().expect("it is TOML");
    table["t"].clone()
}

pub(crate) fn counter(edge: &Edge, lab: &Lab, name: &str) -> Result<u64> {
    let status = edge.json(lab, &["status"])?;
    let value = status["counters"][name].as_u64();
    value.with_context(|| format!("status has no counter {name}: {status}"))
}

pub(crate) fn reload(edge: &Edge, outcome: &str) -> Result<()> {
    let before = edge.process().count(outcome);
    kill(Pid::from_raw(edge.process().pid().cast_signed()), Signal::SIGHUP)?;
    let deadline = std::time::Instant::now() + PATIENCE;
    while edge.process().count(outcome) == before {
        ensure!(std::time::Instant::now() < deadline, "no {outcome}:\n{}", edge.process().tail(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What OpenSSL's client says of a session in which it only says EHLO and QUIT.
fn s_client(lab: &Lab, options: &[&str]) -> Result<String> {
    let to = format!("{EDGE}:25");
    let ca = format!("{FOLDER}/ca.pem");
    let argv: Vec<&str> =
        ["openssl", "s_client", "-starttls", "smtp", "-connect", &to, "-CAfile", &ca, "-crlf", "-ign_eof"]
            .into_iter()
            .chain(options.iter().copied())
            .collect();
    // Its letters for itself are capitals.
    let output = lab.run_with_input(Host::Internet, &argv, b"ehlo client.example\nquit\n")?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(text.contains("221 2.0.0 Bye"), "no session: {text}");
    Ok(text)
}

/// A user's message goes by TLS to the next hop, signed; a far server returns its bounce by TLS; that goes by TLS to the
/// upstream, whose name is proven.
fn a_bounce_comes_back_by_tls(software: Software) -> Result<()> {
    let far = Far { software };
    let lab = Lab::up("tls")?;
    certificates(&lab)?;
    let operator = lab.operator(&Operator { tls: Some(FOLDER.into()), ..Operator::default() })?;
    let far_server = lab.far(far, EDGE.into())?;
    let settings = settings().set(
        "tls.upstream",
        tables(&format!(
            "[[t]]\naddress = \"{MTA}:25\"\nmode = \"verified\"\nname = \"mail.example.jp\"\nca_file = \"{FOLDER}/ca.pem\"\n\
             [[t]]\naddress = \"{MTA}:10026\"\nmode = \"opportunistic\"\n"
        )),
    );
    let mut edge = Edge::start(&lab, &settings, Profile::Dev)?;
    let check = edge.json(&lab, &["check"])?;
    ensure!(check["ok"] == true, "{check}");

    let to = format!("nobody-here@{}", far.domain());
    submit(&lab, Host::Mta, SUBMISSION, "alice@example.jp", &to, &message("by-tls"))?;
    let bounce = operator
        .mailbox("alice@example.jp")
        .wait_for_one("X-Returned: by-tls", PATIENCE)
        .with_context(|| {
            let (edge, operator, far) = (edge.process().tail(40), operator.log(), far_server.log());
            format!("the edge said:\n{edge}\nthe operator's server:\n{operator}\nthe far server:\n{far}")
        })?;
    // The upstream says how it came from the edge, and the edge how it came from the far server.
    let (head, original) = bounce.split_once("\n\n").context("a bounce has a body")?;
    assert!(head.contains("with ESMTPS id"), "{head}");
    assert!(head.contains("(using TLSv1.3 with cipher TLS_AES_"), "{head}");
    // The same of the next hop, which has the certificate that nobody vouches for.
    assert!(original.contains("(using TLSv1.3 with cipher TLS_AES_"), "{original}");
    assert!(counter(&edge, &lab, "tls_sessions")? >= 1);
    assert!(counter(&edge, &lab, "tls_upstream")? >= 2);
    assert_eq!(counter(&edge, &lab, "tls_failed")? + counter(&edge, &lab, "tls_upstream_failed")?, 0);
    edge.stop()
}

#[test]
fn a_bounce_of_postfix_comes_back_by_tls() -> Result<()> {
    a_bounce_comes_back_by_tls(Software::Postfix)
}

#[test]
fn a_bounce_of_exim_comes_back_by_tls() -> Result<()> {
    a_bounce_comes_back_by_tls(Software::Exim)
}

#[test]
fn an_upstream_that_does_not_prove_its_name_gets_nothing_until_a_reload_names_it_right() -> Result<()> {
    let lab = Lab::up("tls-name")?;
    certificates(&lab)?;
    let operator = lab.operator(&Operator { tls: Some(FOLDER.into()), ..Operator::default() })?;
    let named = |name: &str| {
        let upstream = format!(
            "[[t]]\naddress = \"{MTA}:25\"\nmode = \"verified\"\nname = \"{name}\"\nca_file = \"{FOLDER}/ca.pem\"\n"
        );
        settings().set("tls.upstream", tables(&upstream))
    };
    let mut edge = Edge::start(&lab, &named("other.example.jp"), Profile::Dev)?;
    let deliver = || -> Result<_> {
        let mut client = Client::connect(&lab, Host::Internet, None, (EDGE, 25).into())?;
        client.command("EHLO client.example")?;
        client.transaction("somebody@far.example", "alice@example.jp", &message("proven"))
    };
    let (_, reply) = deliver()?;
    assert!(reply.is("451 4.4.1"), "{reply}");
    let down = edge.process().wait_for_line("upstream_down", PATIENCE)?;
    assert!(down.contains("other.example.jp"), "{down}");
    assert_eq!(operator.mailbox("alice@example.jp").count()?, 0);
    Edge::prepare(&lab, &named("mail.example.jp"), Profile::Dev)?;
    reload(&edge, "\"event\":\"reloaded\"")?;
    let (_, reply) = deliver()?;
    assert!(reply.is("250"), "{reply}");
    operator.mailbox("alice@example.jp").wait_for_one("X-Returned: proven", PATIENCE)?;
    edge.stop()
}

#[test]
fn openssl_gets_the_certificate_that_it_asks_for_and_resumes_with_either_version() -> Result<()> {
    let lab = Lab::up("tls-openssl")?;
    certificates(&lab)?;
    let mut edge = Edge::start(&lab, &settings(), Profile::Dev)?;
    for (asked, shown) in [
        ("edge.example.jp", "edge.example.jp"),
        ("mx.other.example", "mx.other.example"),
        ("x.example", "edge.example.jp"),
    ] {
        let said = s_client(&lab, &["-servername", asked])?;
        assert!(said.contains(&format!("subject=CN = {shown}")), "{asked}: {said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{asked}: {said}");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let ticket = format!("{FOLDER}/ticket{version}");
        let first = s_client(&lab, &[version, "-sess_out", &ticket])?;
        assert!(first.contains("New, TLSv1."), "{first}");
        let again = s_client(&lab, &[version, "-sess_in", &ticket])?;
        assert!(again.contains("Reused, TLSv1."), "{again}");
    }
    assert_eq!(counter(&edge, &lab, "tls_resumed")?, 2);
    assert_eq!(counter(&edge, &lab, "tls_version_1_2")?, 2);
    edge.stop()
}

#[test]
fn a_renewed_certificate_is_shown_after_a_reload_and_a_broken_one_never() -> Result<()> {
    let lab = Lab::up("tls-reload")?;
    certificates(&lab)?;
    let mut edge = Edge::start(&lab, &settings(), Profile::Dev)?;
    let serial = |text: &str| -> Result<String> {
        let pem = text.split("-----BEGIN CERTIFICATE-----").nth(1).context("no certificate")?;
        Ok(pem.split("-----END").next().unwrap_or_default().to_owned())
    };
    let first = serial(&s_client(&lab, &[])?)?;

    // A session that stays.
    let mut open = lab.command(Host::Internet, "openssl");
    let to = format!("{EDGE}:25");
    open.args(["s_client", "-starttls", "smtp", "-connect", &to, "-quiet", "-crlf"]);
    let mut open = open.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut input = open.stdin.take().context("its input is piped")?;
    let mut output = BufReader::new(open.stdout.take().context("its output is piped")?);
    let mut says = |line: &str, wanted: &str| -> Result<()> {
        input.write_all(line.as_bytes())?;
        let mut reply = String::new();
        while !reply.starts_with(wanted) {
            reply.clear();
            ensure!(output.read_line(&mut reply)? > 0, "no {wanted} to {line}");
        }
        Ok(())
    };
    says("ehlo client.example\n", "250 ENHANCEDSTATUSCODES")?;

    let copy =
        |from: &str, to: &str| std::fs::copy(lab.path(format!("tls/{from}")), lab.path(format!("tls/{to}")));
    copy("renewed.pem", "edge.pem")?;
    // The key is still the old one's.
    reload(&edge, "\"event\":\"reload_failed\"")?;
    let failed = edge.process().wait_for_line("reload_failed", PATIENCE)?;
    assert!(failed.contains("edge.key") && failed.contains("edge.pem"), "{failed}");
    let check = edge.command(&lab, &["check"], b"")?;
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.contains("tls.certificate[0].key") && check.contains("edge.key"), "{check}");
    assert_eq!(serial(&s_client(&lab, &[])?)?, first, "the old one stays");
    says("noop\n", "250 2.0.0")?;

    copy("renewed.key", "edge.key")?;
    reload(&edge, "\"event\":\"reloaded\"")?;
    assert_ne!(serial(&s_client(&lab, &[])?)?, first);
    says("noop\n", "250 2.0.0")?;
    says("quit\n", "221")?;
    drop(input);
    ensure!(open.wait()?.success(), "the open session did not end well");
    edge.stop()
}

#[test]
fn commands_behind_starttls_in_clear_are_not_heard_on_the_wire() -> Result<()> {
    let lab = Lab::up("tls-injection")?;
    certificates(&lab)?;
    let operator = lab.operator(&Operator::default())?;
    let mut edge = Edge::start(&lab, &settings(), Profile::Dev)?;
    let injected = b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@far.example>\r\nRCPT TO:<alice@example.jp>\r\nDATA\r\n\
                     Subject: injected\r\n\r\n.\r\n";
    for pieces in [vec![&injected[..]], injected.chunks(1).collect()] {
        let mut stream = lab.connect(Host::Internet, None, (EDGE, 25).into(), PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"EHLO client.example\r\n")?;
        for piece in pieces {
            // The edge may have had enough of it.
            let _ = stream.write_all(piece);
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let text = String::from_utf8_lossy(&said).into_owned();
        let (_, behind) = text.split_once("220 2.0.0 Ready to start TLS\r\n").context("no 220")?;
        // An alert at most (RFC 8446 section 6).
        assert!(behind.is_empty() || behind.starts_with('\x15'), "{}", said.escape_ascii());
    }
    assert_eq!(operator.mailbox("alice@example.jp").count()?, 0);
    assert_eq!(counter(&edge, &lab, "tls_failed")?, 2);
    edge.stop()
}
