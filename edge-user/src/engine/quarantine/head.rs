//! What is known of a quarantined message besides itself, and how it stands in front of it in one file.
//!
//! ```text
//! Return-Path: <>
//! Delivered-To: user@example.jp
//! Backstop-Quarantine: {
//!    "id": "19a3c...",             one field, folded as header fields are: JSON, each line behind a blank
//!    ...
//!  }
//! Received: from ...               from here on: the message as the upstream would have got it
//! ```
//! One file, so that one rename puts all of it in place; a file of its own for the envelope could be lost from its
//! message. The first two fields are for mail readers. What follows the third is the message, our `Received` field first.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;
use std::path::Path;

use edge_core::bounce::{Kind, Report};
use edge_core::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// What is read of a file to find its head, in octets: addresses, parameters and names are bounded by the session, and
/// JSON writes an octet in at most six.
const HEAD_BYTES_MAX: u64 = 32 << 10;

const FIELD: &[u8] = b"Backstop-Quarantine: ";

/// What is known of a quarantined message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Its id.
    pub id: String,
    /// When it came, in milliseconds since 1970.
    #[serde(rename = "at_ms", with = "millis")]
    pub at: UnixMillis,
    /// The client.
    pub source: IpAddr,
    /// The name it gave in EHLO or HELO.
    pub client_name: String,
    /// The envelope sender; empty is `<>`.
    pub sender: String,
    /// The parameters of MAIL.
    pub mail_params: String,
    /// The recipient, as the upstream gets it.
    pub recipient: String,
    /// The parameters of RCPT.
    pub rcpt_params: String,
    /// Why it is here: the verdict's reason, as the log names it.
    pub reason: String,
    /// The filter that put it here, by its place in the configuration of that time.
    pub filter: Option<usize>,
    /// What it is, as far as it could be told.
    #[serde(default)]
    pub kind: Kind,
    /// What the report in it says.
    pub report: Option<Report>,
}

mod millis {
    use edge_core::time::UnixMillis;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &UnixMillis, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(at.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UnixMillis, D::Error> {
        u64::deserialize(from).map(UnixMillis)
    }
}

impl Head {
    /// Appends it as header fields, as they stand on disk.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let json = serde_json::to_string_pretty(self).expect("a head has only string keys");
        let folded = json.replace('\n', "\n ");
        // An address has no line ends; what else could break a field is none of its octets either.
        let (sender, recipient) = (one_line(&self.sender), one_line(&self.recipient));
        write!(out, "Return-Path: <{sender}>\nDelivered-To: {recipient}\n").expect("a Vec takes all");
        out.extend_from_slice(FIELD);
        writeln!(out, "{folded}").expect("a Vec takes all");
    }

    /// Reads the head of a file's first octets; with it, where the message begins.
    fn parse(octets: &[u8]) -> Option<(Self, usize)> {
        let (mut end, mut value) = (0, None);
        for line in octets.split_inclusive(|octet| *octet == b'\n').take_while(|line| line.ends_with(b"\n")) {
            if value.is_some() && !line.starts_with(b" ") {
                break;
            }
            if line.starts_with(FIELD) {
                value = Some(end + FIELD.len());
            }
            end += line.len();
        }
        serde_json::from_slice(&octets[value?..end]).ok().map(|head| (head, end))
    }
}

fn one_line(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).collect()
}

/// A message's file, opened where the message begins.
#[derive(Debug)]
pub struct Opened {
    /// What is known of it.
    pub head: Head,
    /// Reads the message as it is on disk, our `Received` field first.
    pub message: File,
    /// Where in the file the message begins.
    pub start: u64,
    /// Octets of the message on disk.
    pub bytes: u64,
}

/// Opens the file of a quarantined message.
///
/// # Errors
/// It cannot be read, or is none (`InvalidData`).
pub fn open(path: &Path) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    let mut octets = Vec::new();
    (&mut file).take(HEAD_BYTES_MAX).read_to_end(&mut octets)?;
    let none = || {
        let said = format!(
            "{} is no quarantined message: its field Backstop-Quarantine is not there",
            path.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, said)
    };
    let (head, start) = Head::parse(&octets).ok_or_else(none)?;
    let start = start as u64;
    let bytes = file.metadata()?.len().saturating_sub(start);
    file.seek(SeekFrom::Start(start))?;
    Ok(Opened { head, message: file, start, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let report = Some(Report { kind: Some("delivery-status".into()), ..Report::default() });
        Head { report, ..super::super::tests::head(0xab12, UnixMillis(1_800_000_000_123)) }
    }

    #[test]
    fn what_is_written_is_read_back_with_the_place_where_the_message_begins() {
        let mut octets = Vec::new();
        head().write(&mut octets);
        let start = octets.len();
        for message in ["", "Received: x\n\ty\n\nBackstop-Quarantine: {}\n", "\n \n"] {
            octets.truncate(start);
            octets.extend_from_slice(message.as_bytes());
            // A message never begins with a blank: our own `Received` field is its first line.
            assert_eq!(Head::parse(&octets), Some((head(), start)), "{message:?}");
        }
    }

    #[test]
    fn it_is_a_header_section_that_mail_readers_take() {
        let mut octets = Vec::new();
        head().write(&mut octets);
        octets.extend_from_slice(b"Subject: x\n\nbody\n");
        let message = mail_parser::MessageParser::new().parse(&octets).unwrap();
        assert_eq!(message.subject(), Some("x"));
        assert_eq!(message.body_text(0).unwrap().trim(), "body");
        assert!(octets.starts_with(b"Return-Path: <>\nDelivered-To: \"a b"));
        assert!(octets.split(|octet| *octet == b'\n').all(|line| line.len() < 998), "RFC 5322 section 2.1.1");
    }

    #[test]
    fn a_cut_head_is_none() {
        let mut octets = Vec::new();
        head().write(&mut octets);
        for end in 0..octets.len() {
            assert_eq!(Head::parse(&octets[..end]), None, "cut before {end}");
        }
    }

    #[test]
    fn nothing_that_a_client_says_ends_the_head() {
        let evil = Head { client_name: "x\n\nBackstop-Quarantine: {}\n".into(), ..head() };
        let mut octets = Vec::new();
        evil.write(&mut octets);
        assert_eq!(Head::parse(&octets), Some((evil, octets.len())));
    }
}
