//! What is measured: one dialogue each, the same for every server.

use std::sync::Arc;

use crate::floor::session::{NOBODYS, TAGGED};
use crate::message::{LARGE, SMALL, bounce, mail};

/// The domain whose mail is passed on, and whose mailboxes may be nobody's.
pub const DOMAIN: &str = "example.jp";
/// A domain whose bounces are discarded where nothing proves them.
pub const DISCARDED: &str = "discarded.example.jp";
/// Mailboxes of each row. What is known of a mailbox is remembered, so the first sessions must see each once.
pub const MAILBOXES: u32 = 40;
/// Messages a connection in [`Row::Pipelined20`].
const PIPELINED: u32 = 20;

/// The domain that refuses untagged bounces in answer to DATA.
#[must_use]
pub fn tagged_domain() -> String {
    format!("{TAGGED}{DOMAIN}")
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    /// A bounce to an unknown mailbox, refused in answer to RCPT; a connection each.
    RefusedRcpt,
    /// An untagged bounce, refused in answer to DATA; a connection each.
    RefusedData,
    /// A 4 KB bounce that nothing proves, read to its end and discarded; a connection each.
    ScannedDiscarded,
    /// Mail of 4 KB, passed on; a connection each.
    Proxied4k,
    /// Twenty bounces as in [`Row::ScannedDiscarded`] in one connection, each pipelined with the next one's envelope.
    Pipelined20,
    /// Mail of 10 MB, passed on; a connection each.
    Proxied10m,
    /// As [`Row::Proxied4k`], over STARTTLS; all but the first sessions are resumed.
    Tls4k,
}

/// Octets to send, and the replies that must come before the next.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is sent, in one piece as far as the socket takes it.
    pub send: Arc<[u8]>,
    /// The replies to it, by code.
    pub expect: Vec<u16>,
    /// Behind these replies all goes over TLS.
    pub secures: bool,
}

/// A session, from the greeting to 221.
pub type Dialogue = Vec<Step>;

impl Row {
    /// All, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::RefusedRcpt,
        Self::RefusedData,
        Self::ScannedDiscarded,
        Self::Proxied4k,
        Self::Pipelined20,
        Self::Proxied10m,
        Self::Tls4k,
    ];

    /// Its name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RefusedRcpt => "refused_rcpt",
            Self::RefusedData => "refused_data",
            Self::ScannedDiscarded => "scanned_discarded",
            Self::Proxied4k => "proxied_4k",
            Self::Pipelined20 => "pipelined_20",
            Self::Proxied10m => "proxied_10m",
            Self::Tls4k => "tls_4k",
        }
    }

    /// The row of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.name() == name)
    }

    /// Messages (or refusals) in one session: what its cost is divided by.
    #[must_use]
    pub const fn messages(self) -> u32 {
        match self {
            Self::Pipelined20 => PIPELINED,
            Self::RefusedRcpt
            | Self::RefusedData
            | Self::ScannedDiscarded
            | Self::Proxied4k
            | Self::Proxied10m
            | Self::Tls4k => 1,
        }
    }

    /// Whether it needs a server that offers STARTTLS, which the floor is not.
    #[must_use]
    pub const fn is_over_tls(self) -> bool {
        match self {
            Self::Tls4k => true,
            Self::RefusedRcpt
            | Self::RefusedData
            | Self::ScannedDiscarded
            | Self::Proxied4k
            | Self::Pipelined20
            | Self::Proxied10m => false,
        }
    }

    /// Octets of one message.
    #[must_use]
    pub const fn message_bytes(self) -> usize {
        match self {
            Self::RefusedRcpt | Self::RefusedData => 0,
            Self::ScannedDiscarded | Self::Proxied4k | Self::Pipelined20 | Self::Tls4k => SMALL,
            Self::Proxied10m => LARGE,
        }
    }

    /// Its dialogues, one for each of [`MAILBOXES`]; sessions take them by turns.
    #[must_use]
    pub fn dialogues(self) -> Vec<Dialogue> {
        // One copy of what is large.
        let large: Arc<[u8]> = match self {
            Self::Proxied10m => ended(mail(&format!("large@{DOMAIN}"), LARGE)).into(),
            Self::RefusedRcpt
            | Self::RefusedData
            | Self::ScannedDiscarded
            | Self::Proxied4k
            | Self::Pipelined20
            | Self::Tls4k => Vec::new().into(),
        };
        (0..MAILBOXES).map(|number| self.dialogue(number, &large)).collect()
    }

    fn dialogue(self, number: u32, large: &Arc<[u8]>) -> Dialogue {
        let to = |local: &str, domain: &str| format!("{local}{number:02}@{domain}");
        let mut steps = vec![step("", &[220]), step("EHLO mail.far.example\r\n", &[250])];
        let from = |sender: &str| step(&format!("MAIL FROM:<{sender}>\r\n"), &[250]);
        let rcpt = |mailbox: &str, code| step(&format!("RCPT TO:<{mailbox}>\r\n"), &[code]);
        match self {
            Self::RefusedRcpt => {
                steps.extend([from(""), rcpt(&to(NOBODYS, DOMAIN), 550)]);
            }
            Self::RefusedData => {
                let mailbox = to("u", &tagged_domain());
                steps.extend([from(""), rcpt(&mailbox, 250), step("DATA\r\n", &[550])]);
            }
            Self::ScannedDiscarded => {
                let mailbox = to("u", DISCARDED);
                steps.extend([from(""), rcpt(&mailbox, 250), step("DATA\r\n", &[354])]);
                steps.push(sent(ended(bounce(&mailbox, SMALL)), &[250]));
            }
            Self::Proxied4k | Self::Proxied10m | Self::Tls4k => {
                if self.is_over_tls() {
                    steps.push(Step { secures: true, ..step("STARTTLS\r\n", &[220]) });
                    // What was said before counts no more (RFC 3207 section 4.2).
                    steps.push(step("EHLO mail.far.example\r\n", &[250]));
                }
                let mailbox = to("u", DOMAIN);
                steps.extend([
                    from("somebody@sender.example"),
                    rcpt(&mailbox, 250),
                    step("DATA\r\n", &[354]),
                ]);
                let send = match self {
                    Self::Proxied10m => Arc::clone(large),
                    _ => ended(mail(&mailbox, SMALL)).into(),
                };
                steps.push(sent(send, &[250]));
            }
            Self::Pipelined20 => {
                let mailbox = to("u", DISCARDED);
                let envelope = format!("MAIL FROM:<>\r\nRCPT TO:<{mailbox}>\r\nDATA\r\n");
                let body = ended(bounce(&mailbox, SMALL));
                steps.push(step(&envelope, &[250, 250, 354]));
                // RFC 2920: DATA is the last of a group; what follows a message may come with it.
                let with_next: Arc<[u8]> = [&body, envelope.as_bytes()].concat().into();
                for _ in 1..PIPELINED {
                    steps.push(sent(Arc::clone(&with_next), &[250, 250, 250, 354]));
                }
                steps.push(sent([&body[..], b"QUIT\r\n"].concat(), &[250, 221]));
                return steps;
            }
        }
        steps.push(step("QUIT\r\n", &[221]));
        steps
    }
}

fn step(send: &str, expect: &[u16]) -> Step {
    sent(send.as_bytes(), expect)
}

fn sent(send: impl Into<Arc<[u8]>>, expect: &[u16]) -> Step {
    Step { send: send.into(), expect: expect.to_vec(), secures: false }
}

fn ended(mut message: Vec<u8>) -> Vec<u8> {
    message.extend_from_slice(b".\r\n");
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::session::{GREETING, Session};
    use crate::reply::Replies;

    #[test]
    fn the_floor_answers_every_dialogue_as_it_expects() {
        for row in Row::ALL.into_iter().filter(|row| !row.is_over_tls()) {
            for dialogue in row.dialogues() {
                let (mut session, mut client) = (Session::default(), Replies::default());
                let (mut waiting, mut accepted) = (Vec::new(), 0);
                let mut replies = GREETING.to_vec();
                for step in dialogue {
                    waiting.extend_from_slice(&step.send);
                    let (taken, _) = session.take(&waiting, &mut replies);
                    waiting.drain(..taken);
                    let mut codes = Vec::new();
                    client.take(&replies, |code, _| codes.push(code)).unwrap();
                    assert_eq!(codes, step.expect, "{}", row.name());
                    accepted += codes.iter().filter(|code| [354, 550].contains(code)).count();
                    replies.clear();
                }
                assert_eq!(accepted, row.messages() as usize, "{}", row.name());
            }
        }
    }

    #[test]
    fn a_row_is_found_by_its_name() {
        assert!(Row::ALL.into_iter().all(|row| Row::named(row.name()) == Some(row)));
        assert_eq!(Row::named("refused"), None);
    }
}
