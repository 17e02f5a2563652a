//! What among the unproven looks like an answer to mail of ours: senders that do not go through the signer yet.

use serde::{Deserialize, Serialize};

use super::{Tally, moment};
use crate::source::Source;
use crate::time::UnixMillis;

/// Most findings that are kept; the rarest, and among those the longest unseen, make room.
pub const FINDINGS_MAX: usize = 256;

/// So many messages must have come through a forwarder before it is taken for one.
pub const FORWARDED_MIN: u64 = 3;

/// Why an unproven message looks like ours. The strongest first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "evidence", rename_all = "snake_case")]
pub enum Evidence {
    /// The returned original has a DKIM signature of a domain of ours, and it verifies with the key in the DNS.
    Dkim {
        /// The signature's domain (`d=`).
        domain: String,
        /// Its selector (`s=`): most often names the service that signed.
        selector: String,
        /// What of the original was there to be verified.
        verified: Verified,
    },
    /// A server passed it on that received it for a mailbox elsewhere: a user's other mailbox, or a forwarder, that may
    /// belong into `[[trusted_forwarder]]`. It counts from [`FORWARDED_MIN`] messages on.
    Forwarder {
        /// The server.
        source: Source,
        /// The domain of the mailbox that it first came to.
        mailbox_domain: String,
    },
    /// The oldest `Received` field of the returned original names a host of ours. Weak: who forges mail can write one.
    Received {
        /// The host or address, as the field has it.
        host: String,
        /// The domain of ours that the bounce came to.
        domain: String,
    },
}

/// What of an original a signature was verified over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// Header fields and body: the whole message is as it was signed.
    Message,
    /// The header fields that were signed; the body did not come back, or not whole.
    Header,
}

impl Evidence {
    /// Whether a forger could have made it up.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        match self {
            Self::Dkim { .. } => false,
            Self::Forwarder { .. } | Self::Received { .. } => true,
        }
    }
}

/// One message, as an example.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Example {
    /// From where the bounce came.
    pub source: String,
    /// Its recipient; hashed where the log's are.
    pub recipient: String,
    /// The returned original's Message-ID; hashed where the log's addresses are.
    pub message_id: Option<String>,
    /// Its subject, cut short; left out where the log's addresses are hashed.
    pub subject: Option<String>,
}

/// What looks like ours for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// Why.
    #[serde(flatten)]
    pub evidence: Evidence,
    /// How often, and when.
    #[serde(flatten)]
    pub tally: Tally,
    /// The latest.
    pub example: Example,
}

impl Finding {
    /// Whether it came often enough to be believed.
    #[must_use]
    pub fn counts(&self) -> bool {
        match self.evidence {
            Evidence::Dkim { .. } | Evidence::Received { .. } => true,
            Evidence::Forwarder { .. } => self.tally.count >= FORWARDED_MIN,
        }
    }
}

/// All findings.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Notes one more; whether it counts as ours.
    pub fn note(&mut self, evidence: Evidence, example: Example, now: UnixMillis) -> bool {
        if let Some(known) = self.0.iter_mut().find(|known| known.evidence == evidence) {
            known.tally.again(now);
            known.example = example;
            return known.counts();
        }
        if self.0.len() >= FINDINGS_MAX {
            // What a forger can make up in any number does not push out what he cannot.
            let rarest = (0..self.0.len()).min_by_key(|place| {
                let finding = &self.0[*place];
                (!finding.evidence.is_weak(), finding.tally.count, finding.tally.last)
            });
            if let Some(place) = rarest {
                self.0.swap_remove(place);
            }
        }
        let finding = Finding { evidence, tally: Tally::once(now), example };
        let counts = finding.counts();
        self.0.push(finding);
        counts
    }

    /// Those that count, the strongest evidence first, then what came most often.
    #[must_use]
    pub fn list(&self) -> Vec<Finding> {
        let mut list: Vec<Finding> = self.0.iter().filter(|finding| finding.counts()).cloned().collect();
        list.sort_by(|a, b| {
            (a.evidence.is_weak().cmp(&b.evidence.is_weak()))
                .then(b.tally.count.cmp(&a.tally.count))
                .then_with(|| a.evidence.cmp(&b.evidence))
        });
        list
    }

    /// Forgets what was not seen since `before`.
    pub fn forget(&mut self, before: UnixMillis) {
        self.0.retain(|finding| finding.tally.last >= before);
        self.0.truncate(FINDINGS_MAX);
    }
}

/// The first signature of this installation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FirstSignature {
    /// When.
    #[serde(with = "moment")]
    pub at: UnixMillis,
    /// It is not known but taken from the oldest key: the state that knew it was lost, or never there.
    pub by_oldest_key: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_795_000_000);

    fn dkim(selector: &str) -> Evidence {
        Evidence::Dkim { domain: "example.jp".into(), selector: selector.into(), verified: Verified::Message }
    }

    fn received(host: usize) -> Evidence {
        Evidence::Received { host: format!("h{host}"), domain: "example.jp".into() }
    }

    #[test]
    fn a_forwarder_is_believed_when_it_passed_on_several() {
        let forwarder = || Evidence::Forwarder {
            source: "192.0.2.7".parse().unwrap(),
            mailbox_domain: "univ.example".into(),
        };
        let mut findings = Findings::default();
        let counted: Vec<bool> =
            (0..4).map(|_| findings.note(forwarder(), Example::default(), NOW)).collect();
        assert_eq!(counted, [false, false, true, true]);
        assert_eq!(findings.list()[0].tally.count, 4);
    }

    #[test]
    fn what_can_be_made_up_pushes_out_nothing_that_cannot() {
        let mut findings = Findings::default();
        findings.note(dkim("shop"), Example::default(), NOW);
        for host in 0..2 * FINDINGS_MAX {
            findings.note(received(host), Example::default(), NOW);
            findings.note(received(host), Example::default(), NOW);
        }
        let list = findings.list();
        assert_eq!(list.len(), FINDINGS_MAX);
        assert_eq!(list[0].evidence, dkim("shop"), "and the strongest stands first");
    }

    #[test]
    fn findings_read_back_as_they_were_written_and_are_forgotten_in_time() {
        let mut findings = Findings::default();
        let example = Example { source: "192.0.2.7".into(), ..Example::default() };
        findings.note(dkim("shop"), example, NOW);
        let text = serde_json::to_string(&findings).unwrap();
        assert!(text.contains(r#""evidence":"dkim","domain":"example.jp","selector":"shop""#), "{text}");
        assert_eq!(serde_json::from_str::<Findings>(&text).unwrap(), findings);
        findings.forget(NOW);
        assert_eq!(findings.list().len(), 1);
        findings.forget(UnixMillis(NOW.0 + 1));
        assert!(findings.list().is_empty());
    }
}
