//! `docs/tls.md`, word for word: its blocks are read from the file and carried out in the lab, at the lab's addresses,
//! with a certificate that certbot could have left there and an operator's Postfix as the upstream.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::client::Client;
use lab::edge::{Edge, Settings};
use lab::mta::Operator;
use lab::program::Profile;
use lab::{EDGE, Host, Lab, MTA};

use super::Page;
use crate::message;
use crate::tls::{FOLDER, certificates, counter, reload};

const PATIENCE: Duration = Duration::from_secs(60);

/// What is there before: the edge's group, certbot's folders with a certificate of 90 days, and a systemd that only notes
/// what it is asked for.
const BEFORE: &str = r#"groupadd --system backstop
mkdir -p /run/lab/bin /etc/letsencrypt/live/mx.example.jp /etc/letsencrypt/renewal-hooks/deploy
printf '#!/bin/sh\necho "$*" >>/run/lab/systemctl\n' >/run/lab/bin/systemctl
chmod 755 /run/lab/bin/systemctl
"#;

/// certbot gets a certificate; it keeps the name of the files.
const RENEW: &str = r#"cd /etc/letsencrypt/live/mx.example.jp
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout privkey.pem -out fullchain.pem \
    -subj /CN=mx.example.jp -addext subjectAltName=DNS:mx.example.jp -days 90 2>/dev/null
chmod 600 privkey.pem
"#;

/// Runs commands on the edge's host, as root; what they printed.
fn root(lab: &Lab, commands: &str) -> Result<String> {
    let script = format!("export PATH=/run/lab/bin:$PATH\n{commands}");
    let output = lab.run(Host::Edge, &["bash", "-euc", &script])?;
    ensure!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Systemd was asked for one reload, which now happens.
fn reloaded_as_asked(lab: &Lab, edge: &Edge) -> Result<()> {
    let asked = lab.path("systemctl");
    let words = std::fs::read_to_string(&asked).context("systemd was asked for nothing")?;
    assert_eq!(words, "reload backstop\n");
    std::fs::remove_file(&asked)?;
    reload(edge, "\"event\":\"reloaded\"")
}

/// The page's way to try it: the certificate that is shown.
fn shown_certificate(lab: &Lab, page: &Page) -> Result<String> {
    let command = page.block("sh", 1)?;
    ensure!(command.contains("-connect mx.example.jp:25 "), "{command}");
    let command = command.replace("mx.example.jp:25", &format!("{EDGE}:25"));
    let output = lab.run(Host::Internet, &["bash", "-c", command.trim()])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("TLSv1.3"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let pem = said.split("-----BEGIN CERTIFICATE-----").nth(1).context("no certificate is shown")?;
    Ok(pem.split("-----END").next().unwrap_or_default().trim().to_owned())
}

#[test]
fn the_page_for_tls_does_what_it_says() -> Result<()> {
    let page = Page::read("tls")?;
    let counts = ["sh", "toml", "ini"].map(|language| page.blocks(language).len());
    assert_eq!(counts, [2, 2, 0], "each block is run below");
    let lab = Lab::up("docs-tls")?;
    certificates(&lab)?;
    let operator = lab.operator(&Operator { tls: Some(FOLDER.into()), ..Operator::default() })?;
    let mut edge = Edge::start(&lab, &Settings::default(), Profile::Dev)?;

    // From clients.
    root(&lab, BEFORE)?;
    root(&lab, RENEW)?;
    root(&lab, &page.block("sh", 0)?)?;
    reloaded_as_asked(&lab, &edge)?;
    let installed = root(&lab, "stat -c '%a %U %G %n' /etc/backstop/tls /etc/backstop/tls/*")?;
    assert_eq!(
        installed,
        "750 root backstop /etc/backstop/tls\n640 root backstop /etc/backstop/tls/fullchain.pem\n\
         640 root backstop /etc/backstop/tls/privkey.pem\n"
    );
    let clients = page.block("toml", 0)?;
    Edge::prepare(&lab, &Settings::default().merge(&clients), Profile::Dev)?;
    let checked = edge.command(&lab, &["check"], b"")?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    reload(&edge, "\"event\":\"reloaded\"")?;
    let first = shown_certificate(&lab, &page)?;
    assert!(root(&lab, "cat /etc/letsencrypt/live/mx.example.jp/fullchain.pem")?.contains(&first));
    assert!(counter(&edge, &lab, "tls_sessions")? >= 1);
    let doctor = edge.command(&lab, &["doctor"], b"")?;
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("mx.example.jp"), "{doctor}");
    // At a renewal certbot runs what lies in the folder.
    root(&lab, RENEW)?;
    root(
        &lab,
        "export RENEWED_LINEAGE=/etc/letsencrypt/live/mx.example.jp
         for hook in /etc/letsencrypt/renewal-hooks/deploy/*; do \"$hook\"; done",
    )?;
    reloaded_as_asked(&lab, &edge)?;
    assert_ne!(shown_certificate(&lab, &page)?, first);

    // To the upstream.
    root(&lab, &format!("install -m 644 {FOLDER}/ca.pem /etc/backstop/tls/ca.pem"))?;
    let upstream = page.block("toml", 1)?.replace("192.0.2.30:25", &format!("{MTA}:25"));
    Edge::prepare(&lab, &Settings::default().merge(&(clients + &upstream)), Profile::Dev)?;
    reload(&edge, "\"event\":\"reloaded\"")?;
    let mut client = Client::connect(&lab, Host::Internet, None, (EDGE, 25).into())?;
    client.command("EHLO client.example")?;
    let (_, reply) = client.transaction("a@far.example", "alice@example.jp", &message("by-the-page"))?;
    assert!(reply.is("250"), "{reply}");
    let arrived = operator.mailbox("alice@example.jp").wait_for_one("X-Returned: by-the-page", PATIENCE)?;
    assert!(arrived.contains("with ESMTPS id"), "{arrived}");
    edge.stop()
}
