//! The fields of a header section (RFC 5322 section 2.2), one by one, so that who seeks one need not keep all.

use edge_octets::LineEnds;

use crate::bounce::names::{name_len, split_at_name};

/// Fields of one header section that are looked at.
const FIELDS_MAX: usize = 256;

/// Octets of a field's value that are read.
const VALUE_BYTES_MAX: usize = 4096;

/// A field's name and value, the value with its folds and its line end.
pub(in super::super) type Field<'m> = (&'m [u8], &'m [u8]);

/// The fields of a header section, in order. A line that is no field ends it, too.
#[derive(Debug)]
pub(in super::super) struct Fields<'m> {
    entity: &'m [u8],
    line_ends: LineEnds<'m>,
    /// Where the next field begins.
    at: usize,
    /// What stands behind the section, once its end was found.
    behind: Option<&'m [u8]>,
    left: usize,
}

impl<'m> Fields<'m> {
    /// Of what begins with a header section.
    pub(in super::super) fn of(entity: &'m [u8]) -> Self {
        Self { entity, line_ends: LineEnds::of(entity), at: 0, behind: None, left: FIELDS_MAX }
    }

    /// What stands behind the section's empty line, once all its fields were asked for. `None`: it does not end.
    pub(in super::super) fn behind(&self) -> Option<&'m [u8]> {
        self.behind
    }

    fn ends_before(&mut self, behind: &'m [u8]) {
        (self.at, self.behind) = (self.entity.len(), Some(behind));
    }

    /// Where the field ends that begins here: behind its line, and the folded ones behind that.
    #[inline]
    fn end(&mut self) -> usize {
        let mut at = self.at;
        loop {
            let Some(end) = self.line_ends.first(at) else { return self.entity.len() };
            at = end + 1;
            if !matches!(self.entity.get(at), Some(b' ' | b'\t')) {
                return at;
            }
        }
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Field<'m>;

    /// Inlined, so that where it stands is kept in registers while a section is walked.
    #[inline(always)]
    fn next(&mut self) -> Option<Field<'m>> {
        loop {
            let rest = &self.entity[self.at..];
            // No name goes on behind its line: of what is longer, more is looked at together.
            let name_len = name_len(rest);
            if name_len == 0 {
                match rest {
                    [] => return None,
                    [b'\n', behind @ ..] | [b'\r', b'\n', behind @ ..] => {
                        self.ends_before(behind);
                        return None;
                    }
                    _ => {}
                }
            }
            let end = self.end();
            let field = &rest[..end - self.at];
            match split_at_name(field, name_len) {
                Some((name, value)) => {
                    self.at = end;
                    if let Some(left) = self.left.checked_sub(1) {
                        self.left = left;
                        return Some((name, &value[..value.len().min(VALUE_BYTES_MAX)]));
                    }
                }
                // The separator of an mbox that some programs leave in front.
                None if self.at == 0 && (field.starts_with(b"From ") || field.starts_with(b">From ")) => {
                    self.at = end;
                }
                None => {
                    self.ends_before(rest);
                    return None;
                }
            }
        }
    }
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
    fn no_more_is_read_than_the_bounds() {
        let many = "X: y\r\n".repeat(FIELDS_MAX + 9) + "\r\nbody";
        let mut fields = Fields::of(many.as_bytes());
        assert_eq!((&mut fields).count(), FIELDS_MAX);
        assert_eq!(fields.behind(), Some(&b"body"[..]));
        let long = format!("X: {}\r\n\r\n", "y".repeat(2 * VALUE_BYTES_MAX));
        assert_eq!(Fields::of(long.as_bytes()).next().unwrap().1.len(), VALUE_BYTES_MAX);
    }
}
