//! Walks a parsed file by the schema that [`section!`](super::section) wrote, and gathers *all* that is wrong.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Level, Problem};
use super::section::{Field, Kind, Value};

/// Gathers problems, and remembers where each key stands, for the checks that come after reading.
pub(super) struct Reader<'t> {
    text: &'t str,
    schema: &'static [Field],
    places: HashMap<String, Range<usize>>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, schema: &'static [Field]) -> Self {
        Self { text, schema, places: HashMap::new(), problems: Vec::new() }
    }

    /// What is wrong, in the file's order, and where each key stands.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Places) {
        self.problems.sort_by_key(|problem| (problem.line, problem.column, problem.level));
        let places = self.places.iter().map(|(key, place)| (key.clone(), self.line_and_column(place.start)));
        let places = Places(places.collect());
        (self.problems, places)
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.level == Level::Error)
    }

    /// Reads the field `key` of `table`, which stands at `path`. `None`: it is wrong, and said so.
    pub(super) fn field<T: Value>(
        &mut self,
        table: &DeTable<'_>,
        path: &str,
        key: &str,
        absent: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let field_path = join(path, key);
        match table.get(key) {
            Some(value) => self.value(value, &field_path),
            None => absent().or_else(|| {
                let text = match T::KIND {
                    Kind::Plain(expected) => format!("`{key}` is missing; it is {expected}"),
                    Kind::Table(_) => format!("the section [{field_path}] is missing"),
                    Kind::Tables(_) => format!("there must be at least one section [[{field_path}]]"),
                };
                self.error(path, text);
                None
            }),
        }
    }

    /// Reads one value at `path`, and remembers the place.
    pub(super) fn value<T: Value>(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Option<T> {
        self.places.insert(path.to_owned(), value.span());
        T::read(value.get_ref(), path, self)
    }

    /// Says which keys of `table` nobody knows, and what may have been meant.
    pub(super) fn unknown_keys(&mut self, table: &DeTable<'_>, path: &str, fields: &'static [Field]) {
        for (key, _) in table.iter() {
            let name = key.get_ref().as_ref();
            if fields.iter().any(|field| field.key == name) {
                continue;
            }
            let section =
                if path.is_empty() { "at the top".to_owned() } else { format!("in [{}]", plain(path)) };
            let hint = match nearest(name, fields.iter().map(|field| field.key)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => match home_of(name, self.schema, "") {
                    Some(home) => format!("there is one in {home}"),
                    None => format!("known are {}", list(fields.iter().map(|field| field.key))),
                },
            };
            self.problem_at(
                Level::Error,
                key.span(),
                join(path, name),
                format!("there is no such key {section}; {hint}"),
            );
        }
    }

    /// The value at `path` is not what was expected.
    pub(super) fn mismatch(&mut self, path: &str, value: &DeValue<'_>, expected: &str) {
        self.error(path, format!("expected {expected}, found {}", describe(value)));
    }

    /// An error at a key; at the nearest one around it where the key itself is not in the file.
    pub(super) fn error(&mut self, path: &str, text: impl Into<String>) {
        self.problem(Level::Error, path, text.into());
    }

    /// A warning at a key.
    pub(super) fn warning(&mut self, path: &str, text: impl Into<String>) {
        self.problem(Level::Warning, path, text.into());
    }

    fn problem(&mut self, level: Level, path: &str, text: String) {
        let place = nearest_place(&self.places, path).cloned().unwrap_or(0..0);
        self.problem_at(level, place, path.to_owned(), text);
    }

    /// A problem at octets of the file.
    pub(super) fn problem_at(&mut self, level: Level, place: Range<usize>, key: String, text: String) {
        let (line, column) = self.line_and_column(place.start);
        self.problems.push(Problem { level, line, column, key, text });
    }

    /// Both from 1.
    fn line_and_column(&self, octet: usize) -> (usize, usize) {
        let before = self.text.get(..octet).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// Where keys stand in the file: line and column, from 1.
#[derive(Clone, Debug, Default)]
pub struct Places(HashMap<String, (usize, usize)>);

impl Places {
    /// Of a key, or of what is nearest around it where the file leaves the key to its default.
    #[must_use]
    pub fn of(&self, key: &str) -> Option<(usize, usize)> {
        nearest_place(&self.0, key).copied()
    }
}

/// The place of `path`, or of the nearest around it that has one.
fn nearest_place<'p, P>(places: &'p HashMap<String, P>, path: &str) -> Option<&'p P> {
    let mut around = path;
    loop {
        if let Some(place) = places.get(around) {
            return Some(place);
        }
        around = &around[..around.rfind(['.', '['])?];
    }
}

/// The nearest right spelling of `word`, if one is near: a third of its letters may be wrong.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let far = (word.chars().count() / 3).max(1);
    known
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Words for people: `a, b or c`.
pub(super) fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The section in which a key of this name stands.
fn home_of(name: &str, fields: &'static [Field], path: &str) -> Option<String> {
    fields.iter().find_map(|field| match field.kind {
        Kind::Plain(_) => None,
        Kind::Table(inner) | Kind::Tables(inner) => {
            let path = join(path, field.key);
            if inner.iter().any(|field| field.key == name) {
                let tables = matches!(field.kind, Kind::Tables(_));
                return Some(if tables { format!("[[{path}]]") } else { format!("[{path}]") });
            }
            home_of(name, inner, &path)
        }
    })
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A path without the numbers of its array elements.
fn plain(path: &str) -> String {
    path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(when) => format!("the date {when}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}
