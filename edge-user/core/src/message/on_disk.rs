//! A message on disk: as Maildir readers expect it, lines end with LF and no dot is doubled.
//!
//! On the wire lines end with CRLF and a dot at a line's start is doubled (RFC 5321 section 4.5.2). Because nothing but
//! whole CRLFs is taken ([`crate::smtp::Session`] hands out no other CR or LF), both forms say the same, and the way
//! back is exact: what is sent from disk is what came, octet by octet. Pieces may be cut anywhere.

use memchr::memchr;

/// From the wire to the disk.
#[derive(Clone, Copy, Debug)]
pub struct ToDisk {
    at_line_start: bool,
    /// The last piece ended with a CR, whose LF is still to come.
    after_cr: bool,
}

impl Default for ToDisk {
    fn default() -> Self {
        Self { at_line_start: true, after_cr: false }
    }
}

impl ToDisk {
    /// Appends what the next piece is on disk.
    pub fn take(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        if self.after_cr && !piece.is_empty() {
            self.after_cr = false;
            // What never comes (a CR alone) is kept as it is.
            if piece[0] != b'\n' {
                out.push(b'\r');
            }
        }
        while !piece.is_empty() {
            if std::mem::take(&mut self.at_line_start) && piece[0] == b'.' {
                piece = &piece[1..];
            }
            let Some(end) = memchr(b'\n', piece) else {
                let (text, cr) = without_cr(piece);
                out.extend_from_slice(text);
                self.after_cr = cr;
                return;
            };
            out.extend_from_slice(without_cr(&piece[..end]).0);
            out.push(b'\n');
            self.at_line_start = true;
            piece = &piece[end + 1..];
        }
    }
}

/// A line without the CR at its end, and whether it had one.
fn without_cr(line: &[u8]) -> (&[u8], bool) {
    match line.strip_suffix(b"\r") {
        Some(line) => (line, true),
        None => (line, false),
    }
}

/// From the disk to the wire.
#[derive(Clone, Copy, Debug)]
pub struct ToWire {
    at_line_start: bool,
}

impl Default for ToWire {
    fn default() -> Self {
        Self { at_line_start: true }
    }
}

impl ToWire {
    /// Appends what the next piece is on the wire.
    pub fn take(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !piece.is_empty() {
            if std::mem::take(&mut self.at_line_start) && piece[0] == b'.' {
                out.push(b'.');
            }
            let Some(end) = memchr(b'\n', piece) else {
                return out.extend_from_slice(piece);
            };
            out.extend_from_slice(&piece[..end]);
            out.extend_from_slice(b"\r\n");
            self.at_line_start = true;
            piece = &piece[end + 1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on_disk<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
        let (mut to_disk, mut out) = (ToDisk::default(), Vec::new());
        pieces.into_iter().for_each(|piece| to_disk.take(piece, &mut out));
        out
    }

    fn on_wire<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
        let (mut to_wire, mut out) = (ToWire::default(), Vec::new());
        pieces.into_iter().for_each(|piece| to_wire.take(piece, &mut out));
        out
    }

    const ROWS: [(&str, &str); 7] = [
        ("", ""),
        ("\r\n", "\n"),
        ("a\r\n", "a\n"),
        ("Subject: x\r\n\r\n..\r\n..a.\r\n", "Subject: x\n\n.\n.a.\n"),
        ("...\r\n\r\n\r\n", "..\n\n\n"),
        ("..one\r\ntwo.\r\n.. three\r\n", ".one\ntwo.\n. three\n"),
        ("a\0b\r\n\u{e9}\r\n", "a\0b\n\u{e9}\n"),
    ];

    #[test]
    fn each_form_becomes_the_other_however_it_is_cut() {
        for (wire, disk) in ROWS.map(|(wire, disk)| (wire.as_bytes(), disk.as_bytes())) {
            for cut in 0..=wire.len() {
                let (head, tail) = wire.split_at(cut);
                assert_eq!(on_disk([head, tail]), disk, "cut before {cut}");
            }
            for cut in 0..=disk.len() {
                let (head, tail) = disk.split_at(cut);
                assert_eq!(on_wire([head, tail]), wire, "cut before {cut}");
            }
            assert_eq!(on_disk(wire.chunks(1)), disk);
            assert_eq!(on_wire(disk.chunks(1)), wire);
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_from_disk_is_what_came(
            lines in proptest::collection::vec("[.a\\x00\u{e9}]{0,4}", 0..20),
            size in 1usize..9,
        ) {
            // As a client sends it: dots at the start of lines doubled.
            let wire: String = lines
                .iter()
                .map(|line| if line.starts_with('.') { format!(".{line}\r\n") } else { format!("{line}\r\n") })
                .collect();
            let disk = on_disk(wire.as_bytes().chunks(size));
            prop_assert!(!disk.contains(&b'\r'));
            prop_assert_eq!(on_wire(disk.chunks(size)), wire.into_bytes());
        }
    }
}
