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
        let reading = read(message.chunks(PIECE_BYTES));
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
        let with_lf = read([&bounce.text[..]]);
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
