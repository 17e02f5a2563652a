//! The record on real bounces: how many of them name the message that they answer?
//!
//! Which message that is, is read here in another way than the edge does: whatever stands behind `Message-ID:` in the
//! body (in its base64 too), or behind `In-Reply-To:` in the header section.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edge_core::bounce::MessageIds;
use edge_core::bounce::message_ids::Place;
use edge_core::signature::record::{Record, SentHash, canonical};

use super::misses::{MISSES, RECORD_MISSES};
use super::writing::{self, LineEnd, Writing};
use super::{Bounce, NOW, PIECE_BYTES, Signer, collection};

const MAX_AGE: Duration = Duration::from_secs(16 * 86_400);

/// The ways in which a body is written, each with a header section that says so where the edge must know.
const WRITINGS: [Writing; 4] =
    [Writing::AsItIs, Writing::QuotedPrintable(76), Writing::QuotedPrintable(30), Writing::Base64(76)];

/// Files in which no token comes back, and which are proven by the record.
const BY_RECORD_ONLY: [&str; 3] =
    ["bsd-lhost-mfilter-03.eml", "bsd-lhost-mfilter-04.eml", "bsd-rfc3834-03.eml"];

/// The messages that a bounce may answer.
fn originals(text: &[u8]) -> BTreeSet<Vec<u8>> {
    let header_ends = text.windows(2).position(|two| two == b"\n\n").map_or(text.len(), |at| at + 1);
    let (header, body) = text.split_at(header_ends);
    let mut ids = behind(header, "in-reply-to:");
    ids.extend(behind(body, "message-id:"));
    ids.extend(behind(&untorn(body), "message-id:"));
    let lines: Vec<&[u8]> = body.split(|&c| c == b'\n').collect();
    for block in lines.split(|line| line.len() < 40 && !line.ends_with(b"=")) {
        if let Ok(decoded) = STANDARD.decode(block.concat()) {
            ids.extend(behind(&decoded, "message-id:"));
        }
    }
    ids
}

/// The text as it was before quoted-printable tore lines; escapes there are none in any of these.
fn untorn(text: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(text).replace("=\n", "").into_bytes()
}

/// What stands in brackets behind `name`.
fn behind(text: &[u8], name: &str) -> BTreeSet<Vec<u8>> {
    let lower = text.to_ascii_lowercase();
    let places = lower.windows(name.len()).enumerate().filter(|(_, window)| *window == name.as_bytes());
    let value = |(at, _): (usize, _)| {
        let rest = &text[at + name.len()..];
        let rest = rest.trim_ascii_start().strip_prefix(b"<")?;
        let id = rest.split(|&c| c == b'>' || c.is_ascii_whitespace()).next()?;
        (rest.get(id.len()) == Some(&b'>')).then(|| id.to_vec())
    };
    places.filter_map(value).collect()
}

/// The message with its body written so, and a header section that says it.
fn write(writing: Writing, text: &[u8]) -> Vec<u8> {
    let written = writing.write(text);
    match writing {
        Writing::AsItIs | Writing::QuotedPrintable(_) => written,
        Writing::Base64(_) => {
            let front = b"Content-Transfer-Encoding: base64\n".to_vec();
            let renamed = |line: &[u8]| match line.to_ascii_lowercase().starts_with(b"content-") {
                true => [b"X-", line].concat(),
                false => line.to_vec(),
            };
            let header_ends = written.windows(2).position(|two| two == b"\n\n").unwrap_or(written.len());
            let (header, body) = written.split_at(header_ends);
            let header: Vec<_> = header.split_inclusive(|&c| c == b'\n').flat_map(renamed).collect();
            [front, header, body.to_vec()].concat()
        }
    }
}

fn message_ids(message: &[u8]) -> Vec<(Place, Vec<u8>)> {
    let (mut ids, mut all) = (MessageIds::new(), Vec::new());
    let mut take = |place, id: &[u8]| all.push((place, id.to_vec()));
    message.chunks(PIECE_BYTES).for_each(|piece| ids.scan(piece, &mut take));
    ids.finish(&mut take);
    all
}

#[test]
fn most_bounces_name_the_message_that_they_answer() {
    let (signer, bounces) = (Signer::new(), collection());
    let key = signer.keys.signer(NOW).expect("the key signs");
    let (mut proven, mut only, mut by_place) = (0, Vec::new(), BTreeMap::<&str, usize>::new());
    let mut faults = Vec::new();
    for Bounce { name, text } in &bounces {
        let mut record = Record::new(100_000, MAX_AGE);
        for id in originals(text) {
            let id = canonical(&id).expect("a Message-ID");
            let _ = record.remember(key.id(), SentHash::of(key, &signer.mailbox, id), 1, NOW);
        }
        let (mut missed, mut first) = (Vec::new(), "");
        // What is encoded already is not encoded again.
        let encoded = String::from_utf8_lossy(text).to_ascii_lowercase().contains("encoding: base64")
            || !behind(&untorn(text), "message-id:").is_subset(&behind(text, "message-id:"));
        for &writing in if encoded { &WRITINGS[..1] } else { &WRITINGS } {
            for line_end in LineEnd::ALL {
                let message = writing::with_line_ends(&write(writing, text), line_end);
                let ids = message_ids(&message);
                let hit =
                    ids.iter().find(|(_, id)| record.find(&signer.keys, &signer.mailbox, id, NOW).is_some());
                match hit {
                    Some((place, _)) => first = place.text(),
                    None => missed.push(format!("{writing:?}, {line_end:?}")),
                }
            }
        }
        let unproven_by_token = MISSES.iter().any(|miss| miss.file == name);
        let explained = RECORD_MISSES.iter().any(|(file, _)| file == name)
            || unproven_by_token && !BY_RECORD_ONLY.contains(&name.as_str());
        match (missed.is_empty(), explained) {
            (true, false) => {
                proven += 1;
                *by_place.entry(first).or_default() += 1;
                if unproven_by_token {
                    only.push(name.as_str());
                }
            }
            (true, true) => faults.push(format!("{name}: explained as a miss, and proven")),
            (false, true) => {}
            (false, false) => faults.push(format!("{name}: missed, unexplained, as {}", missed.join("; "))),
        }
    }
    println!("proven by the record: {proven} of {}", bounces.len());
    println!("of these, no token came back in {}: {}", only.len(), only.join(" "));
    for (place, found) in by_place {
        println!("  first by {place}: {found}");
    }
    for (file, why) in RECORD_MISSES {
        println!("missed, {}: {file}", why.text());
        if !bounces.iter().any(|bounce| bounce.name == *file) {
            faults.push(format!("{file}: explained as a miss, and not in the collection"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(only, BY_RECORD_ONLY);
}

#[test]
fn a_message_that_was_not_sent_proves_nothing() {
    let signer = Signer::new();
    let key = signer.keys.signer(NOW).expect("the key signs");
    let mut record = Record::new(100_000, MAX_AGE);
    let _ = record.remember(key.id(), SentHash::of(key, &signer.mailbox, b"never@example.jp"), 1, NOW);
    for Bounce { name, text } in collection() {
        for (place, id) in message_ids(&text) {
            let found = record.find(&signer.keys, &signer.mailbox, &id, NOW);
            assert_eq!(found, None, "{name}, {}", place.text());
        }
    }
}
