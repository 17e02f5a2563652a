//! The fields of a header section (RFC 5322 section 2.2), one by one, so that who seeks one need not keep all.

/// Fields of one header section that are looked at.
const FIELDS_MAX: usize = 256;

/// Octets of a field's value that are read.
const VALUE_BYTES_MAX: usize = 4096;

/// A field's name and value, the value with its folds and its line end.
pub(in super::super) type Field<'m> = (&'m [u8], &'m [u8]);

/// The fields of a header section, in order. A line that is no field ends it, too.
#[derive(Debug)]
pub(in super::super) struct Fields<'m> {
    /// What is not read yet.
    rest: &'m [u8],
    /// What stands behind the section, once its end was found.
    behind: Option<&'m [u8]>,
    is_first: bool,
    left: usize,
}

impl<'m> Fields<'m> {
    /// Of what begins with a header section.
    pub(in super::super) fn of(entity: &'m [u8]) -> Self {
        Self { rest: entity, behind: None, is_first: true, left: FIELDS_MAX }
    }

    /// What stands behind the section's empty line, once all its fields were asked for. `None`: it does not end.
    pub(in super::super) fn behind(&self) -> Option<&'m [u8]> {
        self.behind
    }

    fn ends_before(&mut self, behind: &'m [u8]) {
        (self.rest, self.behind) = (&[], Some(behind));
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Field<'m>;

    fn next(&mut self) -> Option<Field<'m>> {
        while !self.rest.is_empty() {
            if let [b'\n', behind @ ..] | [b'\r', b'\n', behind @ ..] = self.rest {
                self.ends_before(behind);
                return None;
            }
            let (field, rest) = self.rest.split_at(field_len(self.rest));
            match split_name(field) {
                Some((name, value)) => {
                    (self.rest, self.is_first) = (rest, false);
                    if let Some(left) = self.left.checked_sub(1) {
                        self.left = left;
                        return Some((name, &value[..value.len().min(VALUE_BYTES_MAX)]));
                    }
                }
                // The separator of an mbox that some programs leave in front.
                None if self.is_first && (field.starts_with(b"From ") || field.starts_with(b">From ")) => {
                    (self.rest, self.is_first) = (rest, false);
                }
                None => {
                    self.ends_before(self.rest);
                    return None;
                }
            }
        }
        None
    }
}

/// Octets of the field that these begin with: its line, and the folded ones behind it.
fn field_len(octets: &[u8]) -> usize {
    let mut len = 0;
    loop {
        let Some(end) = memchr::memchr(b'\n', &octets[len..]) else { return octets.len() };
        len += end + 1;
        if !matches!(octets.get(len), Some(b' ' | b'\t')) {
            return len;
        }
    }
}

/// A field's name and value. White space before the colon is obsolete syntax (RFC 5322 section 4.5.8), and taken.
pub(in super::super) fn split_name(field: &[u8]) -> Option<Field<'_>> {
    let (name, rest) = field.split_at(name_len(field));
    let rest = if let [b':', ..] = rest { rest } else { rest.trim_ascii_start() };
    let value = rest.strip_prefix(b":").filter(|_| !name.is_empty())?;
    Some((name, value))
}

/// Octets that these begin with and that a name can have (RFC 5322 section 2.2): visible ones, but the colon.
#[inline]
fn name_len(octets: &[u8]) -> usize {
    // In each octet of a number: its lowest bit, its highest one.
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let (eights, rest) = octets.as_chunks::<8>();
    for (place, eight) in eights.iter().enumerate() {
        // Eight at once. A borrow or a carry spoils only what stands behind the first octet that is none of a name's, and that
        // one has its highest bit set.
        let eight = u64::from_le_bytes(*eight);
        let low = eight.wrapping_sub(ONES * 33) & !eight;
        let high = eight.wrapping_add(ONES) | eight;
        let colon = eight ^ (ONES * u64::from(b':'));
        let colon = colon.wrapping_sub(ONES) & !colon;
        let odd = (low | high | colon) & TOPS;
        if odd != 0 {
            return 8 * place + odd.trailing_zeros() as usize / 8;
        }
    }
    let is_odd = |octet: &u8| !matches!(octet, 33..=57 | 59..=126);
    8 * eights.len() + rest.iter().position(is_odd).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, said in the plainest way.
    fn plainly(entity: &[u8]) -> (Vec<Field<'_>>, Option<&[u8]>) {
        let (mut fields, mut at) = (Vec::new(), 0);
        while at < entity.len() {
            let line =
                |at: usize| at + entity[at..].split_inclusive(|octet| *octet == b'\n').next().unwrap().len();
            let mut end = line(at);
            if matches!(&entity[at..end], b"\n" | b"\r\n") {
                return (fields, Some(&entity[end..]));
            }
            while end < entity.len() && matches!(entity[end], b' ' | b'\t') {
                end = line(end);
            }
            let field = &entity[at..end];
            let colon = field.iter().position(|octet| *octet == b':').unwrap_or(field.len());
            let name = field[..colon].trim_ascii_end();
            let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && colon < field.len();
            if is_name {
                fields.push((name, &field[colon + 1..]));
            } else if at > 0 || !field.starts_with(b"From ") && !field.starts_with(b">From ") {
                return (fields, Some(&entity[at..]));
            }
            at = end;
        }
        (fields, None)
    }

    proptest! {
        #[test]
        fn fields_are_what_they_are_by_the_letter(pieces in proptest::collection::vec(prop_oneof![
            Just("\r\n"), Just("\n"), Just(" "), Just("\t"), Just(":"), Just("A: b\r\n"), Just("Status"), Just("From "),
            Just(">From x\n"), Just("\r"), Just("é"), Just("\u{b}"), Just("a-1"), Just("\r\n\r\n"), Just("\u{7f}"),
        ], 0..40)) {
            let entity = pieces.concat();
            let mut fields = Fields::of(entity.as_bytes());
            let all: Vec<_> = (&mut fields).collect();
            prop_assert_eq!((all, fields.behind()), plainly(entity.as_bytes()));
        }
    }

    #[test]
    fn a_name_is_as_long_as_its_octets_are_right() {
        for octet in 0..=u8::MAX {
            for (before, behind) in (0..20).flat_map(|before| [(before, 0), (before, 1), (before, 12)]) {
                let name = [&vec![b'~'; before][..], &[octet], &vec![b'!'; behind]].concat();
                let is_right = octet.is_ascii_graphic() && octet != b':';
                assert_eq!(
                    name_len(&name),
                    if is_right { name.len() } else { before },
                    "{}",
                    name.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn no_more_is_read_than_the_bounds() {
        let many = "X: y\r\n".repeat(FIELDS_MAX + 9) + "\r\nbody";
        let mut fields = Fields::of(many.as_bytes());
        assert_eq!((&mut fields).count(), FIELDS_MAX);
        assert_eq!(fields.behind(), Some(&b"body"[..]));
        let long = format!("X: {}\r\n\r\n", "y".repeat(2 * VALUE_BYTES_MAX));
        assert_eq!(Fields::of(long.as_bytes()).next().unwrap().1.len(), VALUE_BYTES_MAX);
    }
}
