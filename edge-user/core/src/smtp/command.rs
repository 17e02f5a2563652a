//! Commands: one table row each (RFC 5321 section 4.1.1, 4.5.1).

/// The commands of RFC 5321, and those of extensions that clients try though they are not offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    /// A command of some RFC that this server does not have: 502 (RFC 5321 section 4.2.4).
    NotImplemented,
    /// A request of another protocol: cross-protocol attacks make browsers send these.
    Foreign,
}

/// What must stand behind the verb.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Argument {
    Required,
    Optional,
    None,
}

/// What must have happened before (RFC 5321 section 4.1.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    Nothing,
    /// EHLO or HELO.
    Greeting,
    /// EHLO or HELO, and no open transaction.
    NoTransaction,
    /// MAIL.
    Transaction,
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// The name as one number, where it has four letters.
    four: Option<u32>,
    pub(super) verb: Verb,
    pub(super) argument: Argument,
    pub(super) needs: Needs,
    /// The 501 text of a wrong argument.
    pub(super) syntax: &'static str,
}

const fn row(
    name: &'static str,
    verb: Verb,
    argument: Argument,
    needs: Needs,
    syntax: &'static str,
) -> Command {
    let four = match name.as_bytes() {
        [a, b, c, d] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    };
    Command { name, four, verb, argument, needs, syntax }
}

const TABLE: &[Command] = &[
    row("MAIL", Verb::Mail, Argument::Required, Needs::NoTransaction, "Syntax: MAIL FROM:<address>"),
    row("RCPT", Verb::Rcpt, Argument::Required, Needs::Transaction, "Syntax: RCPT TO:<address>"),
    row("DATA", Verb::Data, Argument::None, Needs::Transaction, "Syntax: DATA"),
    row("EHLO", Verb::Ehlo, Argument::Required, Needs::Nothing, "Syntax: EHLO hostname"),
    row("HELO", Verb::Helo, Argument::Required, Needs::Nothing, "Syntax: HELO hostname"),
    row("QUIT", Verb::Quit, Argument::None, Needs::Nothing, "Syntax: QUIT"),
    row("RSET", Verb::Rset, Argument::None, Needs::Nothing, "Syntax: RSET"),
    row("NOOP", Verb::Noop, Argument::Optional, Needs::Nothing, "Syntax: NOOP"),
    row("VRFY", Verb::Vrfy, Argument::Required, Needs::Greeting, "Syntax: VRFY address"),
    row("HELP", Verb::Help, Argument::Optional, Needs::Nothing, "Syntax: HELP"),
    row("STARTTLS", Verb::StartTls, Argument::None, Needs::Greeting, "Syntax: STARTTLS"),
    // RFC 5321 section 4.1.1.7; RFC 4954; RFC 3030; RFC 1985; RFC 821.
    row("EXPN", Verb::NotImplemented, Argument::Optional, Needs::Nothing, ""),
    row("AUTH", Verb::NotImplemented, Argument::Optional, Needs::Nothing, ""),
    row("BDAT", Verb::NotImplemented, Argument::Optional, Needs::Nothing, ""),
    row("ETRN", Verb::NotImplemented, Argument::Optional, Needs::Nothing, ""),
    row("TURN", Verb::NotImplemented, Argument::Optional, Needs::Nothing, ""),
    row("SEND", Verb::NotImplemented, Argument::Optional, Needs::Nothing, ""),
    row("SOML", Verb::NotImplemented, Argument::Optional, Needs::Nothing, ""),
    row("SAML", Verb::NotImplemented, Argument::Optional, Needs::Nothing, ""),
    // RFC 9110 section 9.1, RFC 5789, RFC 9113 section 3.4.
    row("GET", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("HEAD", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("POST", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("PUT", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("DELETE", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("CONNECT", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("OPTIONS", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("TRACE", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("PATCH", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
    row("PRI", Verb::Foreign, Argument::Optional, Needs::Nothing, ""),
];

/// What a line without its CRLF says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said<'b> {
    /// A command of the table and its argument, white space around it removed (RFC 5321 section 4.1.1).
    Command(&'static Command, &'b [u8]),
    /// A word that is no command, or nothing at all.
    UnknownWord,
    /// Not even a word.
    Garbage,
}

/// Reads a line without its CRLF.
pub(super) fn read(line: &[u8]) -> Said<'_> {
    let line = line.trim_ascii_end();
    if let Some((command, argument)) = of_four_letters(line) {
        return if has_control(argument) { Said::Garbage } else { Said::Command(command, argument) };
    }
    let space = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (word, argument) = (&line[..space], line[space..].trim_ascii_start());
    if line.is_empty() {
        return Said::UnknownWord;
    }
    if word.is_empty() || !word.iter().all(u8::is_ascii_alphabetic) || has_control(argument) {
        return Said::Garbage;
    }
    match TABLE.iter().find(|row| word.eq_ignore_ascii_case(row.name.as_bytes())) {
        Some(command) => Said::Command(command, argument),
        None => Said::UnknownWord,
    }
}

/// The commands that nearly all lines are, found by one comparison a row.
fn of_four_letters(line: &[u8]) -> Option<(&'static Command, &[u8])> {
    let (word, rest) = line.split_first_chunk()?;
    if rest.first().is_some_and(|octet| *octet != b' ') {
        return None;
    }
    let four = u32::from_be_bytes(word.map(|octet| octet.to_ascii_uppercase()));
    let command = TABLE.iter().find(|row| row.four == Some(four))?;
    Some((command, rest.trim_ascii_start()))
}

/// Control characters have no place in any command; NUL is where C programs see a line end. Eight octets are looked at in
/// one, and the last ones, where these are fewer, once more with some before them.
fn has_control(argument: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let control = |eight: &[u8; 8]| {
        let octets = u64::from_le_bytes(*eight);
        let deletes = octets ^ (0x7f * EACH);
        let below_space = octets.wrapping_sub(0x20 * EACH) & !octets;
        let is_delete = deletes.wrapping_sub(EACH) & !deletes;
        (below_space | is_delete) & (0x80 * EACH) != 0
    };
    match argument.last_chunk() {
        Some(last) => control(last) || argument.as_chunks().0.iter().any(control),
        None => argument.iter().any(u8::is_ascii_control),
    }
}

/// Whether the first octet that a client ever sends shows that it speaks no SMTP: a TLS ClientHello (0x16) and other
/// binary protocols.
pub(super) fn is_binary(first: u8) -> bool {
    !matches!(first, b'\r' | b'\n' | b'\t' | b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_verb_and_its_argument_in_any_case() {
        let said = |line| match read(line) {
            Said::Command(command, argument) => (command.name, argument),
            other => panic!("{other:?}"),
        };
        assert_eq!(said(b"dAtA"), ("DATA", &b""[..]));
        assert_eq!(said(b"DATA \t"), ("DATA", &b""[..]));
        assert_eq!(said(b"MAIL FROM:<> SIZE=1 "), ("MAIL", &b"FROM:<> SIZE=1"[..]));
        assert_eq!(said(b"NOOP  a b"), ("NOOP", &b"a b"[..]));
    }

    #[test]
    fn what_is_no_command_is_told_apart_from_what_is_no_word() {
        for line in [&b"HELLO you"[..], b"", b" \t"] {
            assert_eq!(read(line), Said::UnknownWord, "{}", line.escape_ascii());
        }
        for line in
            [&b" NOOP"[..], b"NO\0OP", b"NOOP \0", b"NOOP\tx", b"{", b"\x16\x03", b"SSH-2.0", b"\xffNOOP"]
        {
            assert_eq!(read(line), Said::Garbage, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_control_character_is_seen_wherever_it_stands() {
        for length in 0..=20 {
            for octet in 0..=u8::MAX {
                for place in 0..length {
                    for filler in [b'~', b' ', 0x80] {
                        let mut argument = vec![filler; length];
                        argument[place] = octet;
                        assert_eq!(has_control(&argument), octet.is_ascii_control(), "{octet:#x} at {place}");
                    }
                }
            }
            assert!(!has_control(&vec![b'a'; length]));
        }
    }

    #[test]
    fn a_command_of_four_letters_is_no_part_of_a_longer_word() {
        for (line, word) in [(&b"noop"[..], true), (b"NOOPS", false), (b"NOO", false), (b"NOOP-", false)] {
            assert_eq!(of_four_letters(line).is_some(), word, "{}", line.escape_ascii());
        }
        assert_eq!(read(b"NOOPS"), Said::UnknownWord);
    }

    #[test]
    fn every_name_is_in_the_table_once() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(TABLE[..at].iter().all(|other| other.name != row.name), "{}", row.name);
        }
    }
}
