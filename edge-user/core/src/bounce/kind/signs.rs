//! What in a message speaks for a bounce, and for which one.
//!
//! Four grades: a delivery report (RFC 3464); fields and senders that only bounces have; an original that comes back;
//! words. The first decides. The second forbids every kind that is no bounce. The third forbids those that return no
//! original. The fourth forbids those that only fields tell.

use std::borrow::Cow;

use super::mime::{Part, lines};
use super::report::DELIVERY_STATUS;
use super::{Kind, Told, html, words};
use crate::bounce::names::split_name;
use crate::bounce::returned::{FIELDS_MIN, indent, is_common};

/// Octets of text, of all parts together and without their tags, that are searched for words. What a bounce has to say it
/// says first.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// The message, and what was found in it.
#[derive(Debug)]
pub(super) struct Signs<'a, 'm> {
    /// The message itself, then its parts.
    pub(super) parts: &'a [Part<'m>],
    /// The message itself.
    pub(super) root: &'a Part<'m>,
    /// Its Subject, decoded, in lowercase.
    pub(super) subject: String,
    from: String,
    /// The beginning of its text in lowercase, with single spaces.
    text: String,
    returns_part: bool,
    returns_text: bool,
    has_reply_code: bool,
    text_says_failure: bool,
    text_says_delay: bool,
}

impl<'a, 'm> Signs<'a, 'm> {
    /// `parts` are never empty: the message itself is the first.
    pub(super) fn of(parts: &'a [Part<'m>]) -> Self {
        let root = &parts[0];
        let (mut text, mut returns_text, mut has_reply_code) = (String::new(), false, false);
        for part in parts.iter().filter(|part| part.media_type.starts_with("text/")) {
            if part.media_type == "text/rfc822-headers" {
                continue;
            }
            let room = TEXT_BYTES_MAX.saturating_sub(text.len());
            let contents = part.contents();
            // Of a text in HTML, styles and tags may be all that stands within the room.
            let read = if part.is_html(&contents) {
                let read = html::text_of(&part.decoded(&contents));
                returns_text |= has_header_section(read.as_bytes());
                Cow::Owned(read)
            } else {
                returns_text |= has_header_section(&contents);
                part.decoded(&contents[..contents.len().min(room)])
            };
            if part.media_type == "text/calendar" || part.is_attached() {
                continue;
            }
            let begin = &read[..read.floor_char_boundary(room)];
            has_reply_code |= lines(begin.as_bytes()).any(has_code);
            text.push_str(&words::plain(begin));
            text.push(' ');
        }
        let returned = ["message/rfc822", "message/global", "message/partial", "text/rfc822-headers"];
        let returned_too = ["message/global-headers", "message/rfc822-headers"];
        let is_original = |part: &Part<'_>| {
            returned.contains(&part.media_type.as_ref()) || returned_too.contains(&part.media_type.as_ref())
        };
        Self {
            parts,
            root,
            subject: words::plain(&root.text_of("Subject")),
            from: root.text_of("From"),
            text_says_failure: words::text_says_failure(&text),
            text_says_delay: words::any(words::TEXT_DELAY, &text),
            text,
            returns_part: parts.iter().any(is_original),
            returns_text,
            has_reply_code,
        }
    }

    /// Fields, senders and a structure that only bounces have.
    pub(super) fn speaks_for_a_bounce(&self) -> bool {
        self.is_announced()
            || self.has_bounce_field()
            || self.is_from_daemon()
            || self.parts.iter().any(|part| DELIVERY_STATUS.contains(&part.media_type.as_ref()))
    }

    /// RFC 6522: it calls itself a delivery report.
    fn is_announced(&self) -> bool {
        let is_report = |part: &Part<'_>| part.media_type == "multipart/report";
        self.parts.iter().filter(|part| is_report(part)).any(|part| {
            part.report_type().is_none_or(|kind| {
                ["delivery-status", "global-delivery-status", ""]
                    .iter()
                    .any(|own| kind.eq_ignore_ascii_case(own))
            })
        })
    }

    /// Fields that mail systems give to bounces: Exim and Google; Exchange; Sendmail's comment on RFC 3834's field.
    fn has_bounce_field(&self) -> bool {
        let root = self.root;
        root.has("X-Failed-Recipients")
            || root.has("X-MS-Exchange-Message-Is-Ndr")
            || root.values("Auto-Submitted").any(|value| {
                let said = ["(failure)", "(warning-timeout)", "-notification)", "(return-receipt)"];
                value.starts_with("auto-generated") && said.iter().any(|word| value.contains(word))
            })
    }

    /// Its author is a mail system's daemon, or nobody (RFC 5321 section 6.1 has the sender null, and some From too).
    fn is_from_daemon(&self) -> bool {
        let from: String = self.from.chars().filter(|character| !character.is_whitespace()).collect();
        let daemons =
            ["mailer-daemon", "mailerdaemon", "mail-daemon", "maildaemon", "mailer_daemon", "maildelivery"];
        from.is_empty() || from.ends_with("<>") || words::any(&daemons, &from)
    }

    /// RFC 5321 section 4.5.1 has a postmaster everywhere: people and programs alike write as such.
    pub(super) fn is_from_postmaster(&self) -> bool {
        // One system of the collection writes it with one more `o`, and calls itself an administrator.
        words::any(&["postmaster", "poostmaster", "system administrator", "mail administrator"], &self.from)
    }

    /// The original comes back: in a part of its own, or in the text.
    pub(super) fn returns_an_original(&self) -> bool {
        self.returns_part || self.returns_text
    }

    /// What forbids any other structure: a header section in running text (a returned original has a part of its own in
    /// every standard, and who writes it could write the parts behind it too), or a Subject and a text that both say
    /// that a delivery failed.
    pub(super) fn looks_like_a_bounce(&self) -> bool {
        let in_text = self.text_says_failure || self.has_reply_code;
        self.returns_text || self.subject_says_failure() && in_text
    }

    /// Whether the Subject says that a delivery failed.
    pub(super) fn subject_says_failure(&self) -> bool {
        words::subject_says_failure(&self.subject)
    }

    /// Whether the text says what people say who are away, or desks that answer by themselves.
    pub(super) fn says_away(&self) -> bool {
        words::text_says_away(&self.text)
    }

    /// Whether the text speaks of how mail is carried.
    pub(super) fn speaks_of_transport(&self) -> bool {
        words::any(words::TEXT_TRANSPORT, &self.text)
    }

    /// Its author is a program by its address: a person's vacation program writes as the person.
    pub(super) fn is_from_robot(&self) -> bool {
        let robots = [
            "noreply",
            "no-reply",
            "no_reply",
            "donotreply",
            "do-not-reply",
            "mailer",
            "bounce",
            "system",
            "admin",
        ];
        words::any(&robots, &self.from)
    }

    /// Whether Subject or text say that a delivery failed.
    pub(super) fn says_failure(&self) -> bool {
        self.subject_says_failure() || self.text_says_failure
    }

    /// Whatever makes it uncertain that it is something else.
    pub(super) fn could_be_a_bounce(&self) -> bool {
        self.speaks_for_a_bounce()
            || self.is_from_postmaster()
            || self.returns_an_original()
            || self.has_reply_code
            || self.subject_says_failure()
            || words::any(words::SUBJECT_NOTICE, &self.subject)
            || self.text_says_failure
            || self.text_says_delay
    }

    /// A challenge: TMDA's field, or words.
    pub(super) fn challenge(&self) -> Option<Told> {
        if self.has_bounce_field() || self.is_from_daemon() || self.is_announced() {
            return None;
        }
        let tmda = self.root.names().any(|name| name.starts_with("x-tmda-"))
            || self.root.value("X-Delivery-Agent").starts_with("tmda");
        if tmda && !self.root.has("List-Id") {
            return Some(Told::likely(Kind::Challenge, "X-Delivery-Agent"));
        }
        let said = words::any(words::SUBJECT_CHALLENGE, &self.subject)
            || words::any(words::TEXT_CHALLENGE, &self.text);
        said.then_some(Told::likely(Kind::Challenge, "words"))
    }

    /// A bounce that has no report: by its sender or fields and its words; by its words alone where there are two.
    pub(super) fn bounce_in_words(&self) -> Option<Told> {
        let subject = |list| words::any(list, &self.subject);
        let known = self.speaks_for_a_bounce() || self.is_from_postmaster();
        let (says_failure, says_delay) = (self.text_says_failure, self.text_says_delay);
        let body_signs = [says_failure, self.has_reply_code, self.returns_an_original()];
        let body_signs = body_signs.iter().filter(|sign| **sign).count();
        if !known {
            let failed = self.subject_says_failure() && body_signs >= 1 || says_failure && body_signs >= 2;
            let delayed = says_delay && (subject(words::SUBJECT_DELAY) || self.returns_an_original());
            return match (delayed, failed) {
                (true, _) if !self.subject_says_failure() => Some(Told::likely(Kind::Delay, "words")),
                (_, true) => Some(Told::likely(Kind::Failure, "words")),
                (_, false) => None,
            };
        }
        if subject(words::SUBJECT_DELAY) || says_delay && !self.subject_says_failure() {
            return Some(Told::likely(Kind::Delay, "words"));
        }
        if subject(words::SUBJECT_SUCCESS) && !says_failure {
            return Some(Told::likely(Kind::Success, "words"));
        }
        if self.root.has("X-Failed-Recipients") {
            return Some(Told::likely(Kind::Failure, "X-Failed-Recipients"));
        }
        let failed = self.subject_says_failure() || body_signs >= 1;
        failed.then_some(Told::likely(Kind::Failure, "words"))
    }
}

/// Whether a text holds the header section of a message, as `returned` has it; a trace field (RFC 5321 section 4.4) alone is
/// enough here, where a doubt makes a bounce.
fn has_header_section(text: &[u8]) -> bool {
    let (mut common, mut has_id) = (0, false);
    for line in lines(text) {
        // Only a line with nothing in it: one of white space goes on with a field (RFC 5322 section 4.2), and who wrote
        // the original could tear its header section by such lines.
        if matches!(line, b"\n" | b"\r\n") {
            (common, has_id) = (0, false);
            continue;
        }
        // A line of text may be the rest of a folded field.
        let Some((name, value)) = split_name(&line[indent(line)..]) else { continue };
        if name.eq_ignore_ascii_case(b"Received") && value.len() > " from ".len() {
            return true;
        }
        has_id |= name.eq_ignore_ascii_case(b"Message-ID");
        common += u32::from(is_common(name));
        if has_id && common >= FIELDS_MIN {
            return true;
        }
    }
    false
}

/// Whether a line has an enhanced status code (RFC 3463) or begins with a refusal's reply code (RFC 5321 section 4.2).
fn has_code(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    if let [b'4' | b'5', b'0'..=b'5', b'0'..=b'9', b' ' | b'-', ..] = line {
        return true;
    }
    line.windows(5).enumerate().any(|(at, window)| {
        let [b'4' | b'5', b'.', b'0'..=b'7', b'.', b'0'..=b'9'] = window else { return false };
        let before = at.checked_sub(1).map(|before| line[before]);
        let digits = line[at + 4..].iter().take_while(|octet| octet.is_ascii_digit()).count();
        let behind = line.get(at + 4 + digits).copied();
        let apart =
            |octet: Option<u8>| octet.is_none_or(|octet| !octet.is_ascii_alphanumeric() && octet != b'.');
        // A sentence may end behind it.
        let ends = apart(behind)
            || behind == Some(b'.') && !line.get(at + 5 + digits).is_some_and(u8::is_ascii_digit);
        digits <= 3 && apart(before) && ends
    })
}
