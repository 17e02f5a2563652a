//! Words that systems use, in lowercase. Weak signs: each table says what its words are worth.
//!
//! The long tables are searched in one pass each, so that one more language costs a message nothing.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// A delivery failed, in many languages: for Subject and text alike.
const FAILURE: &str = include_str!("words/failure.txt");

/// Of the text of an automatic reply.
const AWAY: &str = include_str!("words/away.txt");

static IN_SUBJECT: LazyLock<AhoCorasick> = LazyLock::new(|| search(SUBJECT_FAILURE, FAILURE));
static IN_TEXT: LazyLock<AhoCorasick> = LazyLock::new(|| search(TEXT_FAILURE, FAILURE));
static IN_REPLY: LazyLock<AhoCorasick> = LazyLock::new(|| search(&[], AWAY));

fn search(words: &[&str], file: &'static str) -> AhoCorasick {
    AhoCorasick::new(words.iter().copied().chain(phrases(file)))
        .expect("a few hundred words are not too many")
}

/// The phrases of a file: one a line, without its headings.
fn phrases(file: &str) -> impl Iterator<Item = &str> {
    file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a Subject says that a delivery failed.
pub(super) fn subject_says_failure(subject: &str) -> bool {
    IN_SUBJECT.is_match(subject)
}

/// Whether a text says that a delivery failed.
pub(super) fn text_says_failure(text: &str) -> bool {
    IN_TEXT.is_match(text)
}

/// Whether a text says what people say who are away.
pub(super) fn text_says_away(text: &str) -> bool {
    IN_REPLY.is_match(text)
}

/// Whether `text` has one of `words` in it.
pub(super) fn any(words: &[&str], text: &str) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// Builds the searchers, which the first message would wait for otherwise.
pub(super) fn prepare() {
    for searcher in [&IN_SUBJECT, &IN_TEXT, &IN_REPLY] {
        LazyLock::force(searcher);
    }
}

/// A text as the tables have it: in lowercase, with single spaces, without what has no width or is left out at will.
/// That goes before words are told apart: alone between two spaces, it must not leave two of them.
pub(super) fn plain(text: &str) -> String {
    if text.is_ascii() {
        return plain_ascii(text);
    }
    let lower = text.to_lowercase();
    let mut plain = String::with_capacity(lower.len());
    let mut apart = false;
    for character in lower.chars().filter(|character| !is_left_out(*character)) {
        if character.is_whitespace() {
            apart = !plain.is_empty();
            continue;
        }
        if std::mem::take(&mut apart) {
            plain.push(' ');
        }
        plain.push(if matches!(character, '’' | 'ʼ' | '´') { '\'' } else { character });
    }
    plain
}

/// The same, octet by octet: nothing in ASCII is left out.
fn plain_ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut between = false;
    for octet in text.bytes() {
        // As Unicode has white space.
        if matches!(octet, b'\t'..=b'\r' | b' ') {
            between = !plain.is_empty();
        } else {
            if std::mem::take(&mut between) {
                plain.push(' ');
            }
            plain.push(octet.to_ascii_lowercase().into());
        }
    }
    plain
}

/// What shows nothing (Unicode's `Default_Ignorable_Code_Point`: soft hyphens, joiners, marks of direction, fillers,
/// selectors of variants, tags); vowel marks of Arabic and Hebrew; the dot that lowercasing leaves of `İ`.
const fn is_left_out(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{307}'
            | '\u{34f}'
            | '\u{5b0}'..='\u{5bd}'
            | '\u{61c}'
            | '\u{640}'
            | '\u{64b}'..='\u{652}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Of a Subject: a delivery failed, besides [`FAILURE`].
const SUBJECT_FAILURE: &[&str] = &[
    "undeliver",
    "nondeliver",
    "non-deliver",
    "not deliver",
    "not be deliver",
    "n't be deliver",
    "unable to deliver",
    "delivery fail",
    "delivery has failed",
    "delivery error",
    "delivery problem",
    "failure notice",
    "failure notification",
    "failed delivery",
    "failure delivery",
    "failed mail",
    "(failure)",
    "notification: failed",
    "notification: error",
    "mail failure",
    "mail error",
    "message failed",
    "returned mail",
    "mail returned",
    "returned to sender",
    "returning message",
    "message you sent blocked",
    "error sending your mail",
    "mail system error",
    "mail could not",
    "message rejected",
    "mail rejected",
    "rejected mail",
    "rejected:",
    "[bounce]",
    "user unknown",
    "postmaster notify",
    "bounced",
    "non remis",
    "devuelto",
    "devolvida",
];

/// Of a Subject: a delivery is late.
pub(super) const SUBJECT_DELAY: &[&str] = &[
    "(delay",
    "delayed",
    "delivery delay",
    "delivery is late",
    "notification: warning",
    "could not send message for past",
    "could not send mail for past",
    "still being retried",
    "not yet been delivered",
    "delivery warning",
    "deferred mail",
    "verzögert",
    "retardé",
    "retrasado",
    "ritardo",
    "vertraagd",
    "задерж",
    "遅延",
    "延迟",
];

/// Of a Subject: a delivery went well.
pub(super) const SUBJECT_SUCCESS: &[&str] = &[
    "(success",
    "successful mail delivery",
    "delivery has been successful",
    "successfully delivered",
    "delivery success",
    "return receipt",
    "(relay",
    "relayed:",
    "delivered:",
    "(expanded",
    "expanded:",
];

/// Of a Subject: a report on a delivery, one way or the other.
pub(super) const SUBJECT_NOTICE: &[&str] =
    &["delivery status", "delivery report", "delivery notification", "status of your mail", "mail delivery"];

/// Of the text: a delivery failed, besides [`FAILURE`].
const TEXT_FAILURE: &[&str] = &[
    "could not be delivered",
    "couldn't be delivered",
    "can't be delivered",
    "cannot be delivered",
    "can not be delivered",
    "was not delivered",
    "wasn't delivered",
    "not be delivered to",
    "unable to deliver",
    "wasn't able to deliver",
    "could not deliver",
    "trouble delivering your message",
    "did not reach the following",
    "undeliverable",
    "undelivered",
    "delivery failed",
    "delivery has failed",
    "delivery failure",
    "failed to deliver",
    "failed permanently",
    "permanent fatal error",
    "permanent error",
    "permanent failure",
    "returned to sender",
    "returned to you",
    "user unknown",
    "unknown user",
    "no such user",
    "mailbox is full",
    "mailbox full",
    "account is disabled",
    "does not exist",
    "doesn't exist",
    "rejected by",
    "automatically rejected",
    "was rejected",
    "could not be sent",
    "failure reasons",
    "transcript of session",
    "remote mail server",
    "bouncedrecipients",
    "address(es) failed",
    "couldn't be found",
    "isn't a valid",
    "incorrectly constructed",
    "konnte nicht",
];

/// Of the text: it speaks of how mail is carried, in words that are the same in every language.
pub(super) const TEXT_TRANSPORT: &[&str] = &["smtp", "rcpt to", "mail from:", "mx record"];

/// Of the text: a delivery is late, and goes on.
pub(super) const TEXT_DELAY: &[&str] = &[
    "not yet been delivered",
    "delivery attempts will continue",
    "is a warning message only",
    "is delayed for more than",
    "has been delayed",
    "delivery is delayed",
    "being retried",
    "will be retried",
    "will be resent",
    "keep trying",
    "try again for",
    "continue trying",
    "not need to re-send",
    "not need to resend",
    "no need to resend",
];

/// A Subject begins so in an automatic reply, behind any `Re:`.
pub(super) const SUBJECT_AUTO_REPLY: &[&str] = &[
    "auto:",
    "auto reply",
    "auto-reply",
    "autoreply",
    "auto response",
    "auto-response",
    "autoresponse",
    "automatic reply",
    "automatic response",
    "automated reply",
    "automated response",
    "out of office",
    "out of the office",
    "out-of-office",
    "vacation",
    "on vacation",
    "away from",
    "away until",
    "i am away",
    "abwesenheit",
    "automatische antwort",
    "abwesend",
    "réponse automatique",
    "absence",
    "absent du bureau",
    "respuesta automática",
    "fuera de la oficina",
    "risposta automatica",
    "fuori sede",
    "fuori ufficio",
    "resposta automática",
    "fora do escritório",
    "automatisch antwoord",
    "afwezig",
    "autosvar",
    "automatisk svar",
    "automaattinen vastaus",
    "automatyczna odpowiedź",
    "automatická odpověď",
    "automatikus válasz",
    "otomatik yanıt",
    "автоматический ответ",
    "автоответ",
    "自動応答",
    "自動返信",
    "不在",
    "自动答复",
    "自动回复",
    "自動回覆",
    "자동 회신",
    "자동 응답",
    "부재중",
    "ausência",
    "ausencia",
    "ausente",
    "frånvaro",
    "fravær",
    "poissa",
    "nieobecność",
    "poza biurem",
    "otomatik cevap",
    "ofis dışında",
    "răspuns automat",
    "automatski odgovor",
    "balasan otomatis",
    "trả lời tự động",
    "αυτόματη απάντηση",
    "автоматична відповідь",
    "автовідповідь",
    "رد تلقائي",
    "תשובה אוטומטית",
    "מענה אוטומטי",
];

/// Of a Subject: the receiver wants the sender to prove that he is one.
pub(super) const SUBJECT_CHALLENGE: &[&str] = &[
    "requires verification",
    "verification required",
    "requires confirmation",
    "confirmation required",
    "needs to be confirmed",
    "please confirm your message",
    "please confirm your email",
    "please confirm your e-mail",
    "please verify your email",
    "please verify your message",
    "confirm you sent",
    "confirm that you sent",
    "sender verification",
    "sender confirmation",
    "challenge-response",
    "antispam uol",
];

/// Of the text: the same.
pub(super) const TEXT_CHALLENGE: &[&str] = &[
    "prove that you are human",
    "prove you are human",
    "confirm that you are a real person",
    "confirm your message",
    "confirm that you sent",
    "verify that you sent",
    "verify that you are the sender",
    "approve you as a sender",
    "added to the list of allowed senders",
    "will be delivered once you",
    "will be delivered as soon as you",
    "to release your message",
    "to deliver your message, click",
];

#[cfg(test)]
mod tests;
