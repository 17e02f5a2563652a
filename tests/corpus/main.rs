//! The scanner on real bounces, as dozens of mail systems sent them: how many of them bring a token back?
//!
//! `BACKSTOP_BOUNCES` names the collection (`INDEX.tsv` and the files it lists); by default `../shared/bounces` from
//! the workspace. It is not part of the project; without it these tests fail.
//!
//! Into each file a token is put where our header field would stand in the original's header section, in the file's
//! own encoding; then the whole body is written anew as quoted-printable and as base64; each with LF and with CRLF.
//! A file counts as found when the token is found in every writing. What cannot be found is explained by name in
//! `misses.rs`: a miss without an explanation fails, and so does an explanation that is not true any more.

mod kinds;
mod misses;
mod planting;
mod record;
mod writing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use edge_core::bounce::{Found, Scanner, read};
use edge_core::mailbox::Mailbox;
use edge_core::signature::{Key, Keys, TokenText, tokens};
use edge_core::time::UnixMillis;

use misses::{MISSES, Why};
use planting::plant;
use writing::{LineEnd, Writing};

const NOW: UnixMillis = UnixMillis::from_secs(1_795_000_000);
const MAX_AGE: Duration = Duration::from_secs(16 * 86_400);

/// Octets of a piece that the scanner gets at once, so that pieces end anywhere.
const PIECE_BYTES: usize = 1460;

/// One file of the collection, without CR before LF.
struct Bounce {
    name: String,
    text: Vec<u8>,
}

/// All files that the index lists.
fn collection() -> Vec<Bounce> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/bounces");
    let directory = PathBuf::from(std::env::var_os("BACKSTOP_BOUNCES").unwrap_or_else(|| default.into()));
    let index = directory.join("INDEX.tsv");
    let index = std::fs::read_to_string(&index).unwrap_or_else(|fault| {
        panic!("{}: {fault}; BACKSTOP_BOUNCES must name the collection of bounces", index.display())
    });
    let bounces: Vec<Bounce> = index
        .lines()
        .skip(1)
        .map(|line| {
            let name = line.split('\t').next().expect("split gives at least one").to_owned();
            let path = directory.join(&name);
            let text = std::fs::read(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
            Bounce { name, text: writing::with_line_ends(&text, LineEnd::Lf) }
        })
        .collect();
    assert!(!bounces.is_empty(), "{}: no bounce in it", directory.display());
    bounces
}

fn scan(message: &[u8]) -> Vec<Found> {
    let (mut scanner, mut all) = (Scanner::new(), Vec::new());
    message.chunks(PIECE_BYTES).for_each(|piece| scanner.scan(piece, &mut |found| all.push(found)));
    scanner.finish(&mut |found| all.push(found));
    all
}

struct Signer {
    keys: Keys,
    mailbox: Mailbox,
}

impl Signer {
    fn new() -> Self {
        let keys = Keys::new(vec![Key::new(7, [0x2a; 32], NOW)]).expect("one key has one id");
        Self { keys, mailbox: Mailbox::parse("user@example.jp").expect("it is an address") }
    }

    /// The token for the file at this place of the collection.
    fn token(&self, place: usize) -> TokenText {
        let [.., a, b] = place.to_be_bytes();
        let key = self.keys.signer(NOW).expect("the key signs");
        tokens::issue(key, &self.mailbox, 1, NOW, [a, b, 1, 2, 3, 4])
    }

    fn proves(&self, message: &[u8], token: &TokenText) -> bool {
        let verifies =
            |one: &Found| tokens::verify(&self.keys, &one.candidate, &self.mailbox, NOW, MAX_AGE).is_ok();
        scan(message).iter().any(|one| one.candidate == token.candidate() && verifies(one))
    }
}

#[test]
fn a_token_comes_back_in_every_bounce_that_returns_the_originals_header() {
    let (signer, bounces) = (Signer::new(), collection());
    let mut found_by_writing: BTreeMap<String, usize> = BTreeMap::new();
    let (mut found, mut returning) = (0, 0);
    let mut faults = Vec::new();
    for (place, Bounce { name, text }) in bounces.iter().enumerate() {
        let token = signer.token(place);
        let explained = MISSES.iter().find(|miss| miss.file == name);
        let Some(planted) = plant(text, token.as_str()) else {
            if explained.is_none() {
                faults.push(format!("{name}: no header section of an original is found in it, unexplained"));
            }
            continue;
        };
        returning += 1;
        let mut missed = Vec::new();
        for writing in Writing::ALL {
            for line_end in LineEnd::ALL {
                let message = writing::with_line_ends(&writing.write(&planted), line_end);
                let label = format!("{writing:?}, {line_end:?}");
                match signer.proves(&message, &token) {
                    true => *found_by_writing.entry(label).or_default() += 1,
                    false => missed.push(label),
                }
            }
        }
        match (missed.is_empty(), explained) {
            (true, None) => found += 1,
            (true, Some(_)) => faults.push(format!("{name}: explained as a miss, and found")),
            (false, None) => faults.push(format!("{name}: missed, unexplained, as {}", missed.join("; "))),
            (false, Some(_)) => {}
        }
    }
    for miss in MISSES {
        if !bounces.iter().any(|bounce| bounce.name == miss.file) {
            faults.push(format!("{}: explained as a miss, and not in the collection", miss.file));
        }
    }

    let share = |n: usize, of: usize| format!("{n} of {of} ({:.1} %)", 100.0 * n as f64 / of.max(1) as f64);
    println!("found: {} of all bounces", share(found, bounces.len()));
    println!("found: {} of those that return the original's header", share(found, returning));
    for (writing, found) in &found_by_writing {
        println!("  {writing}: {}", share(*found, returning));
    }
    for why in Why::ALL {
        let names: Vec<&str> = MISSES.iter().filter(|miss| miss.why == why).map(|miss| miss.file).collect();
        println!("missed, {}: {}: {}", why.text(), names.len(), names.join(" "));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nothing_is_found_in_bounces_that_hold_no_token() {
    for Bounce { name, text } in collection() {
        for writing in Writing::ALL {
            for line_end in LineEnd::ALL {
                let message = writing::with_line_ends(&writing.write(&text), line_end);
                assert_eq!(scan(&message), [], "{name} as {writing:?}, {line_end:?}");
            }
        }
    }
}

#[test]
fn what_a_bounce_says_of_itself_is_read() {
    let (mut statuses, mut reporters) = (0, 0);
    let bounces = collection();
    for Bounce { name, text } in &bounces {
        let message = writing::with_line_ends(text, LineEnd::CrLf);
        let report = read(message.chunks(PIECE_BYTES), &|_| true).report.unwrap_or_default();
        statuses += usize::from(report.status.is_some());
        reporters += usize::from(report.reporting_mta.is_some());
        let header = String::from_utf8_lossy(text).to_ascii_lowercase();
        let header = header.split("\n\n").next().unwrap_or_default();
        if header.contains("multipart/report") && header.contains("report-type=delivery-status") {
            assert_eq!(report.kind.as_deref(), Some("delivery-status"), "{name}");
        }
    }
    println!("a status is read in {statuses} of {}, a reporting server in {reporters}", bounces.len());
    assert!(statuses > 0 && reporters > 0);
}
