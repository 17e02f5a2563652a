//! The arguments of MAIL and RCPT: a path and parameters (RFC 5321 section 4.1.1.2, 4.1.1.3, 4.1.2).

use super::address::{Address, take_path};
use super::{Enhanced, Limits, Mail, Offer, Rcpt, Reply};

/// Longest ENVID, in octets (RFC 3461 section 4.4).
const ENVID_BYTES_MAX: usize = 100;
/// Longest ORCPT, in octets (RFC 3461 section 4.2).
const ORCPT_BYTES_MAX: usize = 500;

const SYNTAX_MAIL: Reply = Reply::new(501, Enhanced(5, 5, 4), "Syntax: MAIL FROM:<address>");
const SYNTAX_RCPT: Reply = Reply::new(501, Enhanced(5, 5, 4), "Syntax: RCPT TO:<address>");
const BAD_SENDER: Reply = Reply::new(501, Enhanced(5, 1, 7), "Bad sender address syntax");
const BAD_RECIPIENT: Reply = Reply::new(501, Enhanced(5, 1, 3), "Bad recipient address syntax");
const BAD_PARAMETER: Reply = Reply::new(501, Enhanced(5, 5, 4), "Bad parameter syntax");
const TWICE: Reply = Reply::new(501, Enhanced(5, 5, 4), "Parameter given twice");
const UNKNOWN: Reply = Reply::new(555, Enhanced(5, 5, 4), "Parameter not recognized");
const TOO_BIG: Reply = Reply::new(552, Enhanced(5, 3, 4), "Message too big");
// RFC 6531 section 3.5.
const NEEDS_SMTPUTF8: Reply = Reply::new(553, Enhanced(5, 6, 7), "Address needs SMTPUTF8");

/// The parameters `keyword[=value]` in an argument, in their order.
pub(super) fn params(text: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    text.split(|&octet| octet == b' ').filter(|param| !param.is_empty()).map(|param| {
        match memchr::memchr(b'=', param) {
            Some(equals) => (&param[..equals], Some(&param[equals + 1..])),
            None => (param, None),
        }
    })
}

/// Reads the argument of MAIL, trailing white space removed.
pub(super) fn mail<'b>(argument: &'b [u8], offer: &Offer, limits: &Limits) -> Result<Mail<'b>, Reply> {
    let (path, params_text) = path(argument, b"FROM:").ok_or(SYNTAX_MAIL)?;
    let sender = if path.is_empty() { None } else { Some(Address::parse(path).ok_or(BAD_SENDER)?) };
    let mut seen = Seen::default();
    let mut mail = Mail { sender, size: None, smtputf8: false, params: params_text };
    for (keyword, value) in params(params_text) {
        let param = Param::of_mail(keyword, offer).ok_or(UNKNOWN)?;
        seen.once(param)?;
        match (param, value) {
            (Param::Size, Some(value)) => mail.size = Some(size(value).ok_or(BAD_PARAMETER)?),
            (Param::Smtputf8, None) => mail.smtputf8 = true,
            (Param::Body, Some(value)) if is_one_of(value, &["7BIT", "8BITMIME"]) => {}
            (Param::Ret, Some(value)) if is_one_of(value, &["FULL", "HDRS"]) => {}
            (Param::Envid, Some(value)) if value.len() <= ENVID_BYTES_MAX && is_xtext(value) => {}
            (
                Param::Size
                | Param::Smtputf8
                | Param::Body
                | Param::Ret
                | Param::Envid
                | Param::Notify
                | Param::Orcpt,
                _,
            ) => return Err(BAD_PARAMETER),
        }
    }
    if mail.size.is_some_and(|size| size > limits.message_bytes_max) {
        return Err(TOO_BIG);
    }
    if sender.is_some_and(|sender| !sender.is_ascii()) && !mail.smtputf8 {
        return Err(NEEDS_SMTPUTF8);
    }
    Ok(mail)
}

/// Reads the argument of RCPT, trailing white space removed. `smtputf8`: MAIL said so.
pub(super) fn rcpt<'b>(argument: &'b [u8], offer: &Offer, smtputf8: bool) -> Result<Rcpt<'b>, Reply> {
    let (path, params_text) = path(argument, b"TO:").ok_or(SYNTAX_RCPT)?;
    // `<postmaster>` is the one path without a domain (RFC 5321 section 4.1.1.3).
    let recipient = if path.eq_ignore_ascii_case(b"postmaster") {
        Address { local: path, domain: b"" }
    } else {
        Address::parse(path).ok_or(BAD_RECIPIENT)?
    };
    let mut seen = Seen::default();
    for (keyword, value) in params(params_text) {
        let param = Param::of_rcpt(keyword, offer).ok_or(UNKNOWN)?;
        seen.once(param)?;
        match (param, value) {
            (Param::Notify, Some(value)) if is_notify(value) => {}
            (Param::Orcpt, Some(value)) if value.len() <= ORCPT_BYTES_MAX && is_orcpt(value, smtputf8) => {}
            (
                Param::Size
                | Param::Smtputf8
                | Param::Body
                | Param::Ret
                | Param::Envid
                | Param::Notify
                | Param::Orcpt,
                _,
            ) => return Err(BAD_PARAMETER),
        }
    }
    if !recipient.is_ascii() && !smtputf8 {
        return Err(NEEDS_SMTPUTF8);
    }
    Ok(Rcpt { recipient, params: params_text })
}

/// The path's inside and the parameters. Spaces behind the colon are no part of the grammar, but many clients send one,
/// and every server takes it.
fn path<'b, const N: usize>(argument: &'b [u8], prefix: &[u8; N]) -> Option<(&'b [u8], &'b [u8])> {
    let (word, rest) = argument.split_first_chunk()?;
    let (path, rest) = take_path(rest.trim_ascii_start())?;
    // Nearly all clients write it so, and to compare it so costs least.
    let is_prefix = word == prefix || word.eq_ignore_ascii_case(prefix);
    let right = is_prefix && (rest.is_empty() || rest[0] == b' ');
    right.then_some((path, rest.trim_ascii()))
}

/// The parameters that are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Param {
    /// RFC 1870.
    Size,
    /// RFC 6152.
    Body,
    /// RFC 6531.
    Smtputf8,
    /// RFC 3461 section 4.3.
    Ret,
    /// RFC 3461 section 4.4.
    Envid,
    /// RFC 3461 section 4.1.
    Notify,
    /// RFC 3461 section 4.2.
    Orcpt,
}

impl Param {
    fn of_mail(keyword: &[u8], offer: &Offer) -> Option<Self> {
        let is = |name: &str| keyword.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("SIZE") => Some(Self::Size),
            () if is("BODY") && offer.eight_bit_mime => Some(Self::Body),
            () if is("SMTPUTF8") && offer.smtputf8 => Some(Self::Smtputf8),
            () if is("RET") && offer.dsn => Some(Self::Ret),
            () if is("ENVID") && offer.dsn => Some(Self::Envid),
            () => None,
        }
    }

    fn of_rcpt(keyword: &[u8], offer: &Offer) -> Option<Self> {
        let is = |name: &str| keyword.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("NOTIFY") && offer.dsn => Some(Self::Notify),
            () if is("ORCPT") && offer.dsn => Some(Self::Orcpt),
            () => None,
        }
    }
}

/// The parameters that were given already.
#[derive(Default)]
struct Seen(u8);

impl Seen {
    fn once(&mut self, param: Param) -> Result<(), Reply> {
        let bit = 1 << param as u8;
        if self.0 & bit != 0 {
            return Err(TWICE);
        }
        self.0 |= bit;
        Ok(())
    }
}

fn is_one_of(value: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

/// 1*20DIGIT (RFC 1870 section 4). What exceeds 64 bits exceeds every limit.
fn size(value: &[u8]) -> Option<u64> {
    let right = (1..=20).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    right.then(|| std::str::from_utf8(value).ok()?.parse().ok().or(Some(u64::MAX)))?
}

/// NEVER, or a list of the others (RFC 3461 section 4.1).
fn is_notify(value: &[u8]) -> bool {
    let mut words = value.split(|&octet| octet == b',');
    is_one_of(value, &["NEVER"]) || words.all(|word| is_one_of(word, &["SUCCESS", "FAILURE", "DELAY"]))
}

/// `addr-type;xtext`; with SMTPUTF8 the address may be UTF-8 (RFC 6533 section 3).
fn is_orcpt(value: &[u8], smtputf8: bool) -> bool {
    let Some(semicolon) = memchr::memchr(b';', value) else { return false };
    let (kind, address) = (&value[..semicolon], &value[semicolon + 1..]);
    let is_atom =
        !kind.is_empty() && kind.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    let utf8 = || smtputf8 && std::str::from_utf8(address).is_ok();
    is_atom && !address.is_empty() && (is_xtext(address) || utf8())
}

/// Printable ASCII, with `+` only before two upper-case hex digits, and no `=` (RFC 3461 section 4).
pub(super) fn is_xtext(value: &[u8]) -> bool {
    let hex = |octet: Option<&u8>| matches!(octet, Some(b'0'..=b'9' | b'A'..=b'F'));
    let right = |(at, octet): (usize, &u8)| match octet {
        b'+' => hex(value.get(at + 1)) && hex(value.get(at + 2)),
        b'=' => false,
        _ => octet.is_ascii_graphic(),
    };
    !value.is_empty() && value.iter().enumerate().all(right)
}
