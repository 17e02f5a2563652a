//! The kind of every file of the collection.

use std::collections::BTreeMap;

use edge_core::bounce::{Confidence, Kind, read};

use super::writing::{LineEnd, with_line_ends};
use super::{PIECE_BYTES, collection};

/// The kind of each file that is no delivery failure, as a person reads it. All others report failures: each group of
/// names was looked through for that.
const NOT_FAILURES: &[(Kind, &[&str])] = &[
    (
        Kind::Delay,
        &[
            "bsd-lhost-exim-38.eml",
            "bsd-lhost-opensmtpd-04.eml",
            "bsd-lhost-opensmtpd-12.eml",
            "bsd-lhost-opensmtpd-16.eml",
            "bsd-lhost-sendmail-29.eml",
            "bsd-lhost-x1-04.eml",
            "bsd-lhost-zoho-04.eml",
            "bsd-rfc3464-07.eml",
            "bsd-rfc3464-09.eml",
            "bsd-rhost-gsuite-06.eml",
        ],
    ),
    (
        Kind::AutoReply,
        &[
            // Apple's Mail program leaves a list by an automatic reply.
            "bsd-arf-26.eml",
            "bsd-rfc3834-01.eml",
            "bsd-rfc3834-03.eml",
            "bsd-rfc3834-04.eml",
            "dos-rfc3834-01.eml",
        ],
    ),
    // The last is Microsoft's, without a report.
    (Kind::Complaint, &["bsd-arf-02.eml", "bsd-arf-14.eml", "bsd-arf-17.eml", "bsd-arf-24.eml"]),
    (Kind::DmarcReport, &["bsd-arf-19.eml"]),
];

/// Files whose kind is not told, each with what is told instead and why.
const MISSED: &[(&str, Kind, &str)] = &[];

fn expected(name: &str) -> Kind {
    let group = NOT_FAILURES.iter().find(|(_, names)| names.contains(&name));
    group.map_or(Kind::Failure, |(kind, _)| *kind)
}

#[test]
fn every_file_of_the_collection_is_of_its_kind() {
    let bounces = collection();
    let mut table: BTreeMap<(Kind, Confidence, &str), usize> = BTreeMap::new();
    let (mut told, mut faults) = (0, Vec::new());
    for bounce in &bounces {
        let message = with_line_ends(&bounce.text, LineEnd::CrLf);
        // Its reports are on the domains of those who collected them.
        let reading = read(message.chunks(PIECE_BYTES), &|_| true);
        *table.entry((reading.kind, reading.confidence, reading.told_by)).or_default() += 1;
        let expected = expected(&bounce.name);
        let missed = MISSED.iter().find(|(name, ..)| *name == bounce.name);
        match missed {
            None if reading.kind == expected => told += 1,
            Some((_, instead, _)) if reading.kind == *instead && *instead != expected => {}
            Some(_) | None => faults.push(format!(
                "{}: it is {}, and {} is told by {:?}",
                bounce.name,
                expected.name(),
                reading.kind.name(),
                reading.told_by
            )),
        }
        let with_lf = read([&bounce.text[..]], &|_| true);
        assert_eq!(with_lf, reading, "{} with LF", bounce.name);
    }
    let names = NOT_FAILURES.iter().flat_map(|(_, names)| *names).chain(MISSED.iter().map(|(name, ..)| name));
    for name in names {
        if !bounces.iter().any(|bounce| bounce.name == *name) {
            faults.push(format!("{name}: not in the collection"));
        }
    }
    println!("{:<14} {:<10} {:<30} files", "kind", "confidence", "told by");
    for ((kind, confidence, by), files) in &table {
        println!("{:<14} {:<10} {by:<30} {files:>5}", kind.name(), format!("{confidence:?}").to_lowercase());
    }
    println!("told as a person reads it: {told} of {}", bounces.len());
    for (name, kind, why) in MISSED {
        println!("missed: {name} counts as {}: {why}", kind.name());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The samples came to `example.jp`.
fn is_ours(domain: &str) -> bool {
    domain == "example.jp" || domain.ends_with(".example.jp")
}

/// Messages that were written for this from the standards: of each kind, and what is nearly of one. Beside each stands
/// what it is, and how sure that is.
#[test]
fn every_sample_is_of_the_kind_that_stands_beside_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/samples");
    let entries = std::fs::read_dir(folder).unwrap_or_else(|fault| panic!("{folder}: {fault}"));
    let paths = entries.map(|entry| entry.expect("an entry of a folder").path());
    let mut samples: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "eml")).collect();
    samples.sort();
    assert!(!samples.is_empty(), "{folder}: no sample in it");
    let (mut kinds, mut faults) = (BTreeMap::new(), Vec::new());
    for path in &samples {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let beside = path.with_extension("kind");
        let expected =
            std::fs::read_to_string(&beside).unwrap_or_else(|fault| panic!("{}: {fault}", beside.display()));
        let text = std::fs::read(path).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        for line_end in LineEnd::ALL {
            let message = with_line_ends(&text, line_end);
            let reading = read([&message[..]], &is_ours);
            let told =
                format!("{} {}", reading.kind.name(), format!("{:?}", reading.confidence).to_lowercase());
            if told != expected.trim() {
                faults.push(format!("{name}: {told} by {:?}, and not {}", reading.told_by, expected.trim()));
            }
            *kinds.entry(reading.kind).or_insert(0) += 1;
            for cut in 0..=message.len() {
                let (head, tail) = message.split_at(cut);
                assert_eq!(read([head, tail], &is_ours), reading, "{name}, cut before octet {cut}");
                let _ = read([head], &is_ours);
            }
        }
    }
    for kind in Kind::ALL {
        assert!(kinds.contains_key(&kind), "no sample is of the kind {}", kind.name());
    }
    println!("{} samples", samples.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
