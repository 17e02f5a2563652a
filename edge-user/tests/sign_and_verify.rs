//! `backstop key`, `sign` and `verify` as scripts call them: exit codes, JSON, and what goes in comes out.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const MESSAGE: &str =
    "From: User <user@example.jp>\nTo: x@example.com\nMessage-ID: <1@example.jp>\nSubject: a\n\nHello\n.\n";

struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    /// A configuration and one key.
    fn new() -> Self {
        let setup = Self { dir: tempfile::tempdir().unwrap() };
        let keys = setup.keys();
        let config = format!(
            r#"
hostname = "edge.example.jp"
[inbound]
listen = ["127.0.0.1:2525"]
[signature]
keys = "{}"
[state]
dir = "{}"
[[domain]]
name = "example.jp"
upstream = "127.0.0.1:25"
"#,
            keys.display(),
            setup.dir.path().join("state").display()
        );
        std::fs::write(setup.config(), config).unwrap();
        assert_eq!(code(&setup.key(&["new"])), 0);
        setup
    }

    fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("backstop.toml")
    }

    fn key(&self, args: &[&str]) -> Output {
        let keys = self.keys();
        backstop(&[&["key"], args, &["--dir", text(&keys)]].concat(), b"")
    }

    fn with_config(&self, command: &str, args: &[&str], stdin: &[u8]) -> Output {
        let config = self.config();
        backstop(&[&[command, "--config", text(&config)], args].concat(), stdin)
    }

    fn sign(&self, args: &[&str], message: &str) -> String {
        let output = self.with_config("sign", args, message.as_bytes());
        assert_eq!(code(&output), 0, "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn verify(&self, args: &[&str], bounce: &str) -> (i32, Value) {
        let output = self.with_config("verify", &[args, &["--json", "-"]].concat(), bounce.as_bytes());
        let finding = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (code(&output), finding)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn backstop(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_backstop"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses early reads no stdin.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn bounce_of(message: &str) -> String {
    format!("From: MAILER-DAEMON@far.example\nSubject: Undelivered\n\nUser unknown:\n\n{message}")
}

#[test]
fn a_signed_message_is_proven_when_it_bounces() {
    let setup = Setup::new();
    let signed = setup.sign(&["--sender", "User@example.jp"], MESSAGE);
    assert!(signed.starts_with("Backstop-Token: bs1."), "{signed}");
    assert!(signed.ends_with(MESSAGE), "the message itself is unchanged: {signed}");
    let (code, finding) = setup.verify(&["--recipient", "user@EXAMPLE.jp"], &bounce_of(&signed));
    assert_eq!(code, 0, "{finding}");
    assert_eq!(finding["proven"], true);
    assert_eq!(finding["proof"], "token");
    assert_eq!(finding["where"], "plain text");
    let names: Vec<&String> = finding.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(
        (&finding["kind"], &finding["confidence"]),
        (&"failure".into(), &"likely".into()),
        "{finding}"
    );
    assert_eq!(finding["told_by"], "words");
    assert!(finding["reason"].as_str().unwrap().contains("user@example.jp"));
}

#[test]
fn what_was_not_signed_for_this_mailbox_and_time_is_not_proven() {
    let setup = Setup::new();
    let bounce = bounce_of(&setup.sign(&["--sender", "user@example.jp"], MESSAGE));
    let rows = [
        (&["--recipient", "other@example.jp"][..], bounce.as_str(), "MAC"),
        (&["--recipient", "user@example.jp", "--at", "2020-01-01T00:00:00Z"], &bounce, "out of date"),
        (&["--recipient", "user@example.jp"], MESSAGE, "no token"),
        (&["--recipient", "prvs=1788000000=user@example.jp"], MESSAGE, "tag is not ours"),
    ];
    for (args, bounce, reason) in rows {
        let (code, finding) = setup.verify(args, bounce);
        assert_eq!(code, 1, "{finding}");
        assert_eq!(finding["proven"], false);
        assert_eq!((&finding["proof"], &finding["where"]), (&Value::Null, &Value::Null));
        assert!(finding["reason"].as_str().unwrap().contains(reason), "{reason}: {finding}");
    }
}

#[test]
fn a_tag_proves_by_the_recipient_alone() {
    let setup = Setup::new();
    let signed = setup.sign(&["--sender", "User@Example.jp", "--tag"], MESSAGE);
    let tagged = signed.lines().next().unwrap();
    let tagged = tagged.strip_prefix("Return-Path: <").unwrap().strip_suffix('>').unwrap();
    assert!(tagged.starts_with("prvs=1") && tagged.ends_with("=user@example.jp"), "{tagged}");
    let (code, finding) = setup.verify(&["--recipient", tagged], "Subject: nothing\n\n");
    assert_eq!((code, &finding["proof"]), (0, &Value::from("tag")), "{finding}");
    assert_eq!(finding["where"], "recipient");
}

#[test]
fn line_ends_stay_as_they_are() {
    let setup = Setup::new();
    let crlf = MESSAGE.replace('\n', "\r\n");
    let signed = setup.sign(&["--sender", "user@example.jp"], &crlf);
    assert!(signed.ends_with(&crlf));
    assert!(!signed.replace("\r\n", "").contains('\n'));
    assert!(!setup.sign(&["--sender", "user@example.jp"], MESSAGE).contains('\r'));
}

#[test]
fn what_cannot_be_done_has_exit_code_2_and_says_why() {
    let setup = Setup::new();
    let rows = [
        (setup.with_config("sign", &["--sender", "user@example.com"], b"\n"), "no [[domain]]"),
        (setup.with_config("sign", &["--sender", "user"], b"\n"), "no address"),
        (setup.with_config("verify", &["--recipient", "user@example.jp", "/missing"], b""), "/missing"),
        (setup.with_config("verify", &["--recipient", "@", "-"], b""), "no address"),
        (setup.key(&["retire", "9"]), "no key has the id 9"),
        (backstop(&["key", "list", "--dir", "/missing"], b""), "/missing"),
    ];
    for (output, reason) in rows {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 2, "{said}");
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_rotated_key_verifies_and_the_new_one_signs() {
    let setup = Setup::new();
    let bounce = bounce_of(&setup.sign(&["--sender", "user@example.jp"], MESSAGE));
    let output = setup.key(&["rotate", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("within a minute") && said.contains("systemctl reload backstop"), "{said}");
    let rotated: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&rotated["id"], &rotated["signs"]), (&Value::from(2), &Value::from(true)));
    let (code_, finding) = setup.verify(&["--recipient", "user@example.jp"], &bounce);
    assert_eq!(code_, 0, "{finding}");
    assert!(finding["reason"].as_str().unwrap().contains("key 1"));
    let list: Value = serde_json::from_slice(&setup.key(&["list", "--json"]).stdout).unwrap();
    let ids: Vec<&Value> = list["keys"].as_array().unwrap().iter().map(|key| &key["id"]).collect();
    assert_eq!(ids, [2, 1]);
    let output = setup.key(&["retire", "2"]);
    assert_eq!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no key signs any more"), "{output:?}");
    assert_eq!(code(&setup.key(&["list"])), 1, "none signs now");
    let output = setup.with_config("sign", &["--sender", "user@example.jp"], MESSAGE.as_bytes());
    assert_eq!(code(&output), 2, "no key signs: {output:?}");
}

#[test]
fn a_recipient_in_a_foreign_domain_is_none_of_ours_even_with_a_token_of_ours() {
    let setup = Setup::new();
    let signed = setup.sign(&["--sender", "user@example.jp"], MESSAGE);
    assert_eq!(setup.verify(&["--recipient", "user@example.jp"], &signed).0, 0);
    for foreign in ["user@example.com", "user@sub.example.jp", "prvs=0123abcdef=user@example.com"] {
        let (code, finding) = setup.verify(&["--recipient", foreign], &signed);
        assert_eq!((code, &finding["proven"]), (1, &false.into()), "{foreign}");
        let reason = finding["reason"].as_str().unwrap();
        assert!(reason.contains("is no domain of this edge"), "{foreign}: {reason}");
    }
}
