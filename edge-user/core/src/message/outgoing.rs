//! What is added to an outgoing message: tokens, a missing Message-ID; and the tag in its envelope sender.
//!
//! Pure: the header section goes in, the fields that belong in front of it come out; nothing in the message itself is
//! ever changed. The fields are never folded, and short enough not to need it.

use std::fmt::Write as _;
use std::time::Duration;

use super::header::{fields, first_mailbox};
use super::received_count::{RECEIVED_MAX, ReceivedCount};
use crate::mailbox::Mailbox;
use crate::signature::{Candidate, FIELD_NAME, Key, Keys, MAGIC, Nonce, record, tags, tokens};
use crate::smtp::Address;
use crate::time::UnixMillis;

/// A token of ours younger than this counts for the whole message; an older one is left alone beside a new one.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(86_400);

/// Most octets that are added to a message, the `Received` field included: what the SIZE offered is less than the next
/// hop's. `Received` is at most 3 lines of names (255 each), id and date; two tokens; a Message-ID.
pub const ADDED_BYTES_MAX: u64 = 2048;

/// Who signs, and for whom.
pub struct Signing<'a> {
    /// The keys; the newest signs.
    pub keys: &'a Keys,
    /// The mailbox that bounces return to: the envelope sender, in one of our own domains.
    pub sender: &'a Mailbox,
    /// Recipients of the message.
    pub recipients: u32,
    /// Whether a domain (lowercase A-label) is one of our own.
    pub is_ours: &'a dyn Fn(&str) -> bool,
    /// Now.
    pub now: UnixMillis,
    /// Random octets for this message: two tokens' nonces, and what makes its Message-ID unique.
    pub nonces: [Nonce; 3],
}

/// Why a message is not signed, and not passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unsigned {
    /// More than [`RECEIVED_MAX`] `Received` fields: it goes in circles (RFC 5321 section 6.3).
    #[error("more than {RECEIVED_MAX} Received fields")]
    Loop,
    /// No key signs now: a fault of ours.
    #[error("no key signs now")]
    NoKey,
}

/// What was added, and what the record is to remember.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Added {
    /// The fields, each with its CRLF, to stand in front of the header section.
    pub fields: String,
    /// Tokens among them.
    pub tokens: u32,
    /// The message's Message-ID, in its canonical form; `None`: the field is empty or too long.
    pub message_id: Option<Vec<u8>>,
    /// The mailbox in header From, where it is another one of ours than the sender: bounces may return there too.
    pub author: Option<Mailbox>,
}

/// Whether a header section has more `Received` fields than a message may.
#[must_use]
pub fn is_loop(section: &[u8]) -> bool {
    ReceivedCount::new().take(section)
}

impl Signing<'_> {
    /// The fields for a message with this header section (as on the wire).
    ///
    /// # Errors
    /// It must not be passed on.
    pub fn fields(&self, section: &[u8]) -> Result<Added, Unsigned> {
        if is_loop(section) {
            return Err(Unsigned::Loop);
        }
        let mut added = Added { fields: String::new(), tokens: 0, message_id: None, author: None };
        let [first, second, id] = self.nonces;
        self.add_token(section, self.sender, first, &mut added)?;
        // Some systems bounce to header From, whatever the envelope says. What is only passed on (SRS) a stranger wrote:
        // whom he names as its author gets no token that the stranger could read.
        let is_passed_on = tags::is_srs(self.sender.local());
        let author = author(section).filter(|author| !is_passed_on && author != self.sender);
        added.author = author.filter(|author| (self.is_ours)(author.domain()));
        if let Some(author) = added.author.clone() {
            self.add_token(section, &author, second, &mut added)?;
        }
        let there = fields(section).find(|(name, _)| name.eq_ignore_ascii_case(b"Message-ID"));
        added.message_id = match there {
            Some((_, value)) => record::canonical(value).map(<[u8]>::to_vec),
            None => {
                let [a, b, c, d, e, f] = id;
                let (millis, domain) = (self.now.0, self.sender.domain());
                let id = format!("{millis:x}.{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}@{domain}");
                write!(added.fields, "Message-ID: <{id}>\r\n").expect("a String takes all text");
                Some(id.into_bytes())
            }
        };
        Ok(added)
    }

    /// The token for the ENVID of MAIL (RFC 3461 section 4.4), where the next hop offers DSN and the sender set none. It is
    /// made before the recipients are known: it is made for `recipients` all the same, the most there can be.
    ///
    /// # Errors
    /// No key signs now.
    pub fn envid(&self) -> Result<String, Unsigned> {
        Ok(tokens::issue(self.key()?, self.sender, self.recipients, self.now, self.nonces[0])
            .as_str()
            .to_owned())
    }

    fn key(&self) -> Result<&Key, Unsigned> {
        self.keys.signer(self.now).ok_or(Unsigned::NoKey)
    }

    fn add_token(
        &self,
        section: &[u8],
        mailbox: &Mailbox,
        nonce: Nonce,
        added: &mut Added,
    ) -> Result<(), Unsigned> {
        let verifies = |candidate: Candidate| {
            tokens::verify(self.keys, &candidate, mailbox, self.now, TOKEN_AGE_MAX).is_ok()
        };
        if candidates(section).any(verifies) {
            return Ok(());
        }
        let token = tokens::issue(self.key()?, mailbox, self.recipients, self.now, nonce);
        write!(added.fields, "{FIELD_NAME}: {}\r\n", token.as_str()).expect("a String takes all text");
        added.tokens += 1;
        Ok(())
    }
}

/// What stands in the token fields that are there already.
fn candidates(section: &[u8]) -> impl Iterator<Item = Candidate> {
    fields(section)
        .filter(|(name, _)| name.eq_ignore_ascii_case(FIELD_NAME.as_bytes()))
        .filter_map(|(_, value)| Some(Candidate(value.trim_ascii().strip_prefix(MAGIC)?.try_into().ok()?)))
}

/// The mailbox in header From.
fn author(section: &[u8]) -> Option<Mailbox> {
    let (_, value) = fields(section).find(|(name, _)| name.eq_ignore_ascii_case(b"From"))?;
    first_mailbox(value)
}

/// The envelope sender with a tag, as it goes out: its local part and domain lowercased. `None`: it gets none (too long
/// a local part, one that needs quotes, one that is tagged already, or no key), and goes out as it came.
#[must_use]
pub fn tagged_sender(keys: &Keys, sender: &Address<'_>, now: UnixMillis) -> Option<String> {
    let local = std::str::from_utf8(sender.local).ok()?;
    let domain = std::str::from_utf8(sender.domain).ok()?.to_ascii_lowercase();
    let tagged = tags::issue(keys.signer(now)?, local, &domain, now)?;
    Some(format!("{tagged}@{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const MAX_AGE: Duration = Duration::from_secs(16 * 86_400);

    fn keys() -> Keys {
        Keys::new(vec![Key::new(3, [7; 32], NOW.minus(100 * HOUR))]).expect("one id")
    }

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("an address")
    }

    fn sign(section: &str, now: UnixMillis) -> Result<Added, Unsigned> {
        Signing {
            keys: &keys(),
            sender: &mailbox("user@example.jp"),
            recipients: 3,
            is_ours: &|domain| domain == "example.jp",
            now,
            nonces: [[1; 6], [2; 6], [3; 6]],
        }
        .fields(section.as_bytes())
    }

    /// The names of the mailboxes that the tokens in `fields` are bound to.
    fn bound_to(fields: &str, now: UnixMillis) -> Vec<&'static str> {
        let mailboxes = ["user@example.jp", "boss@example.jp", "user@example.com"];
        let verify = |candidate, name: &&&str| {
            tokens::verify(&keys(), &candidate, &mailbox(name), now, MAX_AGE).is_ok()
        };
        let bound = |candidate| *mailboxes.iter().find(|name| verify(candidate, name)).expect("bound");
        candidates(fields.as_bytes()).map(bound).collect()
    }

    const WITH_ID: &str = "From: user@example.jp\r\nMessage-Id: <x@y>\r\n\r\n";

    #[test]
    fn a_message_gets_one_token_bound_to_its_sender() {
        let added = sign(WITH_ID, NOW).unwrap();
        assert_eq!(added.tokens, 1);
        assert_eq!(bound_to(&added.fields, NOW), ["user@example.jp"]);
        let token = tokens::verify(
            &keys(),
            &candidates(added.fields.as_bytes()).next().unwrap(),
            &mailbox("user@example.jp"),
            NOW,
            MAX_AGE,
        );
        assert_eq!(token.unwrap().recipients_log2, 2, "three recipients");
        assert!(added.fields.starts_with("Backstop-Token: bs1."));
    }

    #[test]
    fn a_fresh_token_of_ours_is_enough_and_a_stale_or_foreign_one_is_not() {
        let earlier = sign(WITH_ID, NOW).unwrap().fields;
        let signed = format!("{earlier}{WITH_ID}");
        assert_eq!(sign(&signed, NOW.plus(23 * HOUR)).unwrap().fields, "");
        assert_eq!(sign(&signed.replace("Backstop-Token", "BACKSTOP-TOKEN"), NOW).unwrap().fields, "");
        assert_eq!(
            sign(&signed.replace("Token: ", "Token:\r\n "), NOW).unwrap().fields,
            "",
            "folded by a relay"
        );
        assert_eq!(sign(&signed, NOW.plus(26 * HOUR)).unwrap().tokens, 1, "stale");
        for foreign in ["Backstop-Token: bs1.short", "Backstop-Token: hello", "X-Backstop-Token: bs1.x"] {
            assert_eq!(sign(&format!("{foreign}\r\n{WITH_ID}"), NOW).unwrap().tokens, 1, "{foreign}");
        }
        let others = Signing {
            keys: &keys(),
            sender: &mailbox("boss@example.jp"),
            recipients: 1,
            is_ours: &|_| false,
            now: NOW,
            nonces: [[9; 6]; 3],
        };
        let others = others.fields(WITH_ID.as_bytes()).unwrap().fields;
        assert_eq!(
            bound_to(&sign(&format!("{others}{WITH_ID}"), NOW).unwrap().fields, NOW),
            ["user@example.jp"]
        );
        let in_body = format!("{WITH_ID}{earlier}");
        let section = &in_body[..WITH_ID.len()];
        assert_eq!(sign(section, NOW).unwrap().tokens, 1, "what stands in the body counts not");
    }

    #[test]
    fn another_local_author_gets_a_token_too_and_a_foreign_one_does_not() {
        let with_from = |from: &str| format!("From: {from}\r\nMessage-ID: <x@y>\r\n\r\n");
        for (from, want) in [
            ("Boss <BOSS@example.jp>", &["user@example.jp", "boss@example.jp"][..]),
            ("USER@example.jp", &["user@example.jp"]),
            ("user@example.com", &["user@example.jp"]),
            ("nonsense", &["user@example.jp"]),
        ] {
            let added = sign(&with_from(from), NOW).unwrap();
            assert_eq!(bound_to(&added.fields, NOW), want, "{from}");
            let again = sign(&format!("{}{}", added.fields, with_from(from)), NOW).unwrap();
            assert_eq!(again.fields, "", "{from}: signed twice");
        }
    }

    #[test]
    fn what_is_passed_on_gets_a_token_for_its_new_sender_and_none_for_whom_it_names_as_author() {
        let sender = mailbox("SRS0=AbCd=XY=far.example=mark@example.jp");
        let keys = keys();
        let signing = Signing {
            keys: &keys,
            sender: &sender,
            recipients: 1,
            is_ours: &|domain| domain == "example.jp",
            now: NOW,
            nonces: [[1; 6], [2; 6], [3; 6]],
        };
        let added = signing.fields(b"From: boss@example.jp\r\nMessage-ID: <x@y>\r\n\r\n").unwrap();
        assert_eq!((added.tokens, added.author), (1, None));
        let token = candidates(added.fields.as_bytes()).next().unwrap();
        assert!(tokens::verify(&keys, &token, &sender, NOW, MAX_AGE).is_ok());
        assert!(tokens::verify(&keys, &token, &mailbox("boss@example.jp"), NOW, MAX_AGE).is_err());
    }

    #[test]
    fn a_missing_message_id_is_added_and_no_line_is_long() {
        let added = sign("From: boss@example.jp\r\n\r\n", NOW).unwrap().fields;
        assert_eq!(added.matches("\r\n").count(), 3);
        assert!(added.ends_with("Message-ID: <1a3185c5000.030303030303@example.jp>\r\n"), "{added}");
        for line in added.split("\r\n") {
            assert!(line.len() <= 78 && !line.starts_with([' ', '\t', '.']), "{line}");
        }
    }

    #[test]
    fn what_the_record_is_to_remember_is_said() {
        let message_id = |section: &str| sign(section, NOW).unwrap().message_id;
        assert_eq!(message_id(WITH_ID).unwrap(), b"x@y");
        assert_eq!(message_id("Message-ID:\r\n <x@y>\r\nMessage-ID: <z@y>\r\n\r\n").unwrap(), b"x@y");
        assert_eq!(message_id("From: a\r\n\r\n").unwrap(), b"1a3185c5000.030303030303@example.jp");
        assert_eq!(message_id("Message-ID: <>\r\n\r\n"), None);
        let author = |from: &str| sign(&format!("From: {from}\r\n\r\n"), NOW).unwrap().author;
        assert_eq!(author("BOSS@example.jp"), Some(mailbox("boss@example.jp")));
        assert_eq!(author("user@example.jp"), None, "the sender");
        assert_eq!(author("boss@example.com"), None, "not ours");
    }

    #[test]
    fn a_message_that_goes_in_circles_and_one_that_nobody_can_sign_are_not_passed_on() {
        let hops = "Received: from a by b; today\r\n".repeat(50);
        assert!(sign(&format!("{hops}{WITH_ID}"), NOW).is_ok());
        assert_eq!(sign(&format!("Received: x\r\n{hops}{WITH_ID}"), NOW), Err(Unsigned::Loop));
        assert_eq!(sign(WITH_ID, NOW.minus(1000 * HOUR)), Err(Unsigned::NoKey), "before the key was made");
    }

    #[test]
    fn a_senders_tag_is_made_for_the_address_that_goes_out() {
        let tagged = |text: &str| tagged_sender(&keys(), &Address::parse(text.as_bytes()).unwrap(), NOW);
        let sender = tagged("User.Name@Example.JP").expect("a tag");
        assert!(sender.starts_with("prvs=3") && sender.ends_with("=user.name@example.jp"), "{sender}");
        let split = tags::split(&Address::parse(sender.as_bytes()).unwrap()).expect("a tag");
        assert!(tags::verify(&keys(), &split, NOW).is_ok());
        assert_eq!(tagged(&sender), None, "tagged already");
        assert_eq!(tagged(&format!("{}@example.jp", "l".repeat(49))), None);
        assert_eq!(tagged("\"a b\"@example.jp"), None);
    }

    #[test]
    fn an_envid_is_a_token_and_needs_no_xtext_escapes() {
        let sender = mailbox("user@example.jp");
        let (keys, is_ours) = (keys(), |_: &str| true);
        let signing = Signing {
            keys: &keys,
            sender: &sender,
            recipients: 100,
            is_ours: &is_ours,
            now: NOW,
            nonces: [[5; 6]; 3],
        };
        let envid = signing.envid().unwrap();
        assert!(envid.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet)));
        let candidate = Candidate(envid.as_bytes()[4..].try_into().unwrap());
        let token = tokens::verify(&keys, &candidate, &sender, NOW, MAX_AGE).unwrap();
        assert_eq!(token.uses_max(), 512);
    }
}
