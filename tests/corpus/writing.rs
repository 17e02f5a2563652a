//! The ways in which a bounce may be written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What ends a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LineEnd {
    Lf,
    CrLf,
}

impl LineEnd {
    pub(crate) const ALL: [Self; 2] = [Self::Lf, Self::CrLf];
}

/// How a body is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Writing {
    /// As the file has it.
    AsItIs,
    /// Quoted-printable, lines of at most so many characters.
    QuotedPrintable(usize),
    /// Base64, lines of so many characters.
    Base64(usize),
}

impl Writing {
    /// The widths of the RFCs, and narrow ones, at which every token is torn.
    pub(crate) const ALL: [Self; 6] = [
        Self::AsItIs,
        Self::QuotedPrintable(76),
        Self::QuotedPrintable(23),
        Self::Base64(76),
        Self::Base64(60),
        Self::Base64(19),
    ];

    /// The message (lines end with LF) with its body written so. The header stays as it is; what it says of the
    /// encoding is not true then, which the scanner must not mind.
    pub(crate) fn write(self, message: &[u8]) -> Vec<u8> {
        let body = message.windows(2).position(|two| two == b"\n\n").map_or(message.len(), |at| at + 2);
        let (header, body) = message.split_at(body);
        match self {
            Self::AsItIs => message.to_vec(),
            Self::QuotedPrintable(width) => [header, &quoted_printable(body, width)].concat(),
            // Encoders take text with CRLF (RFC 2045 section 6.8).
            Self::Base64(width) => {
                [header, &base64_lines(&with_line_ends(body, LineEnd::CrLf), width)].concat()
            }
        }
    }
}

/// The text with every line end (LF or CRLF) as said.
pub(crate) fn with_line_ends(text: &[u8], line_end: LineEnd) -> Vec<u8> {
    let line_end = match line_end {
        LineEnd::Lf => &b"\n"[..],
        LineEnd::CrLf => b"\r\n",
    };
    let mut all = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|&c| c == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                all.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                all.extend_from_slice(line_end);
            }
            None => all.extend_from_slice(line),
        }
    }
    all
}

/// Base64 in lines of so many characters, with LF.
pub(crate) fn base64_lines(octets: &[u8], width: usize) -> Vec<u8> {
    let encoded = STANDARD.encode(octets);
    encoded.as_bytes().chunks(width).flat_map(|line| [line, b"\n"].concat()).collect()
}

/// Quoted-printable (RFC 2045 section 6.7) in lines of at most so many characters, with LF.
fn quoted_printable(text: &[u8], width: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for line in text.split_inclusive(|&c| c == b'\n') {
        let (line, ends) = line.strip_suffix(b"\n").map_or((line, false), |line| (line, true));
        let mut column = 0;
        for (at, &octet) in line.iter().enumerate() {
            let last = at + 1 == line.len();
            let literal = (b'!'..=b'~').contains(&octet) && octet != b'=' || octet == b' ' && !last;
            let written = if literal { vec![octet] } else { format!("={octet:02X}").into_bytes() };
            if column + written.len() >= width {
                all.extend_from_slice(b"=\n");
                column = 0;
            }
            column += written.len();
            all.extend(written);
        }
        if ends {
            all.push(b'\n');
        }
    }
    all
}
