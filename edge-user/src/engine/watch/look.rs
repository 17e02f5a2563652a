//! Looking at a sample: does it answer mail of ours that did not go through the signer?

use std::borrow::Cow;
use std::time::Duration;

use edge_core::bounce::Scanner;
use edge_core::mailbox::Mailbox;
use edge_core::signature::{Keys, tokens};
use edge_core::source::Source;
use edge_core::time::UnixMillis;
use edge_core::watch::{Evidence, Example};
use mail_parser::{Message, MessageParser};
use memchr::memmem;

use super::dkim::{Signature, Verifier};
use super::hosts::{OwnHosts, passed_on_from};
use super::original::{header_section, original};
use super::samples::Sample;
use crate::engine::domains::Domains;
use crate::telemetry::AddressHasher;

/// Characters of each text that is kept of a stranger's message.
const TEXT_CHARS_MAX: usize = 80;

/// What is needed to look.
pub(super) struct Looking<'e> {
    pub(super) domains: &'e Domains,
    pub(super) hosts: &'e OwnHosts,
    /// Keys of tokens, and how long these prove something.
    pub(super) keys: &'e Keys,
    pub(super) max_age: Duration,
    pub(super) now: UnixMillis,
    /// Where the log's addresses are hashed.
    pub(super) hasher: Option<&'e AddressHasher>,
}

/// What a look found.
#[derive(Debug)]
pub(super) enum Seen {
    /// Nothing of ours.
    Nothing,
    /// It claims to be ours, and the DNS did not say.
    Unclear,
    /// It claims to be ours, and the DNS was not asked: too many did.
    NotAsked,
    /// It looks like ours. Only the strongest evidence counts.
    Ours(Evidence, Example),
}

impl Looking<'_> {
    /// Looks at one sample.
    pub(super) async fn look(&self, sample: &Sample, verifier: &mut Verifier) -> Seen {
        let message = without_dots(&sample.octets);
        let Some(bounce) = MessageParser::default().parse(message.as_ref()) else { return Seen::Nothing };
        let octets = original(&bounce, &message);
        let returned = octets.as_deref().and_then(|octets| MessageParser::default().parse(octets));
        let example = || self.example(sample, returned.as_ref());
        let is_ours = |domain: &str| self.domains.holds(domain);
        // What went through the signer says nothing of who does not, whoever else signed it.
        let went_through = octets
            .as_deref()
            .is_some_and(|octets| self.shows_signed(header_section(octets), &sample.recipient));
        let signed = match octets.as_deref() {
            Some(octets) if !went_through => verifier.verify(octets, &is_ours).await,
            Some(_) | None => None,
        };
        if let Some(Signature::Verifies { domain, selector, over }) = signed {
            return Seen::Ours(
                Evidence::Dkim { domain, selector: clean(&selector), verified: over },
                example(),
            );
        }
        if let Some(mailbox_domain) = passed_on_from(&bounce, &is_ours) {
            let evidence = Evidence::Forwarder { source: Source::from(sample.source), mailbox_domain };
            return Seen::Ours(evidence, example());
        }
        if let Some(host) =
            returned.as_ref().filter(|_| !went_through).and_then(|of| self.hosts.in_first_received(of))
        {
            let domain = sample.recipient.domain().to_owned();
            return Seen::Ours(Evidence::Received { host: clean(&host), domain }, example());
        }
        match signed {
            Some(Signature::Unclear) => Seen::Unclear,
            Some(Signature::NotAsked) => Seen::NotAsked,
            Some(Signature::Verifies { .. }) | None => Seen::Nothing,
        }
    }

    /// Whether a token in an original's header section shows that it went through the signer, perhaps too long ago to prove
    /// its bounce. Anybody can quote or make up a token; then the original is looked at as if it had none. Who repeats a
    /// token that was made for this mailbox only hides his own message.
    fn shows_signed(&self, header: &[u8], mailbox: &Mailbox) -> bool {
        let mut shown = false;
        Scanner::new().scan(header, &mut |found| {
            let Self { keys, now, max_age, .. } = *self;
            shown = shown || tokens::shows_signed(keys, &found.candidate, mailbox, now, max_age);
        });
        shown
    }

    fn example(&self, sample: &Sample, returned: Option<&Message<'_>>) -> Example {
        let id = returned.and_then(|original| original.message_id()).map(clean);
        let subject = returned.and_then(|original| original.subject()).map(clean);
        let recipient = sample.recipient.as_str();
        let source = sample.source.to_canonical().to_string();
        match self.hasher {
            None => Example { source, recipient: recipient.to_owned(), message_id: id, subject },
            // A Message-ID may hold a user's name; a subject holds anything.
            Some(hasher) => Example {
                source,
                recipient: hasher.hash(recipient),
                message_id: id.map(|id| hasher.hash(&id)),
                subject: None,
            },
        }
    }
}

/// A message as its author wrote it, without the dots that only the wire has (RFC 5321 section 4.5.2): its signatures are
/// over that.
fn without_dots(wire: &[u8]) -> Cow<'_, [u8]> {
    let mut rest = wire;
    let mut message = Vec::new();
    while let Some(at) = memmem::find(rest, b"\r\n..") {
        message.extend_from_slice(&rest[..at + 3]);
        rest = &rest[at + 4..];
    }
    if message.is_empty() {
        return Cow::Borrowed(wire);
    }
    message.extend_from_slice(rest);
    Cow::Owned(message)
}

/// A stranger's text, fit to be shown: visible and short.
fn clean(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_looked_at_without_the_dots_of_the_wire() {
        let rows = [
            ("", ""),
            ("a\r\n..b\r\n...\r\nc\r\n", "a\r\n.b\r\n..\r\nc\r\n"),
            ("..\r\n", "..\r\n"),
            ("a..b\r\n", "a..b\r\n"),
        ];
        for (wire, message) in rows {
            assert_eq!(&*without_dots(wire.as_bytes()), message.as_bytes(), "{wire:?}");
        }
    }
}
