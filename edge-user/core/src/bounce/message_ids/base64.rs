//! Base64 (RFC 2045 section 6.8), line by line, however the groups of four are cut.

/// Octets that are handed on at once.
const OCTETS: usize = 768;

/// What was read of a group, and is no octet yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decoder {
    bits: u32,
    bits_len: u32,
}

impl Decoder {
    /// Decodes a line. What is no base64 is passed over; padding ends a group.
    pub(super) fn decode(&mut self, line: &[u8], take: &mut dyn FnMut(&[u8])) {
        let (mut octets, mut len) = ([0; OCTETS], 0);
        for &character in line {
            let Some(sextet) = crate::bounce::needle::sextet(character) else {
                if character == b'=' {
                    *self = Self::default();
                }
                continue;
            };
            self.bits = self.bits << 6 | u32::from(sextet);
            self.bits_len += 6;
            if self.bits_len < 8 {
                continue;
            }
            self.bits_len -= 8;
            octets[len] = (self.bits >> self.bits_len) as u8;
            len += 1;
            if len == OCTETS {
                take(&octets);
                len = 0;
            }
        }
        take(&octets[..len]);
    }
}
