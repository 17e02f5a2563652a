//! Puts our header field where it would stand in the header section that a bounce returns.
//!
//! This is the test's own reading of bounces; the scanner knows nothing of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Fields by which an original's header section is known; which of them make one is said at [`Section::is_whole`].
const FIELDS: [&str; 6] = ["received", "message-id", "from", "to", "subject", "date"];

/// A section that never was under way has at least so many fields; who picks fields by hand picks fewer.
const FIELDS_MIN: usize = 6;

/// Characters of a base64 line that is taken for one.
const BASE64_LINE_MIN: usize = 40;

/// The file with the token's field in the original's header section. `None`: it returns none, or only some fields.
///
/// Where that section is in base64, the file comes back with that part decoded and written anew.
pub(crate) fn plant(file: &[u8], token: &str) -> Option<Vec<u8>> {
    plant_into(file, body_begins(file), token)
        .or_else(|| plant_into_base64(file, token))
        .or_else(|| plant_into_json(file, token))
}

fn plant_into(text: &[u8], from: usize, token: &str) -> Option<Vec<u8>> {
    let section = sections(text, from).into_iter().filter(Section::is_whole).max_by_key(Section::fields)?;
    let field = [&section.prefix, &b"Backstop-Token: "[..], token.as_bytes(), b"\n"].concat();
    let mut planted = text.to_vec();
    planted.splice(section.place..section.place, field);
    Some(planted)
}

fn plant_into_base64(file: &[u8], token: &str) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = file.split_inclusive(|&c| c == b'\n').collect();
    let is_base64 = |line: &[u8]| {
        let line = line.trim_ascii_end();
        !line.is_empty() && line.iter().all(|&c| c.is_ascii_alphanumeric() || b"+/=".contains(&c))
    };
    let mut at = 0;
    while at < lines.len() {
        let block: Vec<&[u8]> = lines[at..].iter().copied().take_while(|line| is_base64(line)).collect();
        let width = block.first().map_or(0, |line| line.trim_ascii_end().len());
        if width >= BASE64_LINE_MIN {
            let joined: Vec<u8> = block.concat().into_iter().filter(|c| !c.is_ascii_whitespace()).collect();
            let decoded = STANDARD.decode(joined).ok()?;
            if let Some(planted) = plant_into(&decoded, 0, token) {
                let encoded = super::writing::base64_lines(&planted, width);
                return Some([lines[..at].concat(), encoded, lines[at + block.len()..].concat()].concat());
            }
        }
        at += block.len().max(1);
    }
    None
}

/// Amazon's notifications bring the header section as JSON.
fn plant_into_json(file: &[u8], token: &str) -> Option<Vec<u8>> {
    const ARRAY: &[u8] = b"\"headers\":[";
    let place = file.windows(ARRAY.len()).position(|window| window == ARRAY)? + ARRAY.len();
    let field = format!(r#"{{"name":"Backstop-Token","value":"{token}"}},"#);
    let mut planted = file.to_vec();
    planted.splice(place..place, field.into_bytes());
    Some(planted)
}

/// Where the body begins: behind the first empty line.
fn body_begins(file: &[u8]) -> usize {
    file.windows(2).position(|two| two == b"\n\n").map_or(file.len(), |at| at + 2)
}

/// Lines that stand together and have the form of header fields.
#[derive(Default)]
struct Section {
    /// What stands before each line: the mark of quoted text, or indentation.
    prefix: Vec<u8>,
    /// Which of [`FIELDS`] it has.
    has: [bool; FIELDS.len()],
    /// How many fields it has.
    len: usize,
    /// Where our field would stand: before the first field that is no trace field.
    place: usize,
    place_is_set: bool,
}

impl Section {
    fn has(&self, field: &str) -> bool {
        FIELDS.iter().zip(self.has).any(|(&name, has)| has && name == field)
    }

    fn fields(&self) -> usize {
        self.has.iter().filter(|&&has| has).count()
    }

    /// A whole section has trace fields; one that never left its own system has at least what mail programs write.
    fn is_whole(&self) -> bool {
        let written = ["from", "subject", "date", "message-id"].iter().all(|field| self.has(field));
        self.place_is_set && (self.has("received") && self.fields() >= 2 || written && self.len >= FIELDS_MIN)
    }
}

fn sections(text: &[u8], from: usize) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut current: Option<Section> = None;
    let mut at = from;
    let mut line_goes_on = false;
    for line in text[from..].split_inclusive(|&c| c == b'\n') {
        let (prefix, name) = match &current {
            Some(section) if line.starts_with(&section.prefix) => {
                (section.prefix.clone(), field_name(&line[section.prefix.len()..]))
            }
            Some(_) | None => {
                let prefix = prefix(line);
                let name = field_name(&line[prefix.len()..]);
                (prefix, name)
            }
        };
        let continues = line_goes_on
            || current.as_ref().is_some_and(|section| {
                let rest = line.strip_prefix(section.prefix.as_slice()).unwrap_or_default();
                let blank = [&b" "[..], b"\t", b"=09", b"=20"].iter().any(|blank| rest.starts_with(blank));
                blank && !rest.trim_ascii().is_empty()
            });
        match (&mut current, name) {
            (Some(_), _) if continues => {}
            (Some(section), Some(name)) if section.prefix == prefix => section.take(&name, at),
            (_, Some(name)) => {
                sections.extend(current.take());
                let mut section = Section { prefix, ..Section::default() };
                section.take(&name, at);
                current = Some(section);
            }
            (_, None) => sections.extend(current.take()),
        }
        at += line.len();
        // A soft line break of quoted-printable; the end of an encoded word (RFC 2047) is none.
        let end = line.trim_ascii_end();
        line_goes_on = current.is_some() && end.ends_with(b"=") && !end.ends_with(b"?=");
    }
    sections.extend(current);
    sections
}

impl Section {
    fn take(&mut self, name: &str, at: usize) {
        self.len += 1;
        for (field, has) in FIELDS.iter().zip(&mut self.has) {
            *has |= *field == name;
        }
        let trace = ["received", "return-path"].contains(&name);
        if !trace && !self.place_is_set {
            self.place = at;
            self.place_is_set = true;
        }
    }
}

/// The marks of quoted text and the indentation before a line.
fn prefix(line: &[u8]) -> Vec<u8> {
    line.iter().copied().take_while(|c| b"> \t|".contains(c)).collect()
}

/// The name of the field that a line begins, lowercased.
fn field_name(line: &[u8]) -> Option<String> {
    let colon = line.iter().position(|&c| c == b':')?;
    let name = &line[..colon];
    let fits = !name.is_empty()
        && name[0].is_ascii_alphabetic()
        && name.iter().all(|&c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    fits.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}
