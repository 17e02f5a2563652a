//! The project's files, as the rules look at them.

use std::fs;
use std::path::Path;

/// A text file of the project.
pub(crate) struct Source {
    /// From the project's folder.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl Source {
    /// Lines of code (comments aside) that name one of `words`, with their place.
    pub(crate) fn naming(&self, words: &[&str]) -> Vec<String> {
        self.code()
            .filter(|(_, line)| words.iter().any(|word| names(line, word)))
            .map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim()))
            .collect()
    }

    /// The parts of the crate that are used, by line: `crate::config::X` uses `config`.
    pub(crate) fn parts_used(&self) -> Vec<(usize, String)> {
        let mut used = Vec::new();
        for (number, line) in self.code() {
            for after in line.split("crate::").skip(1) {
                let part: String =
                    after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                used.push((number, part));
            }
        }
        used
    }

    /// Without the unit tests at its end.
    pub(crate) fn code_without_tests(&self) -> Self {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        Self { path: self.path.clone(), text: self.text[..end].to_owned() }
    }

    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(number, line)| (number + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// Whether `line` has `word` in it, not as a part of a longer name.
fn names(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part_of_name);
        let after = line[at + word.len()..].chars().next().is_some_and(part_of_name);
        !(before && word.starts_with(part_of_name) || after && word.ends_with(part_of_name))
    })
}

/// How the paths of files begin that are built for tests only: modules declared under `#[cfg(test)]`.
pub(crate) fn test_modules(sources: &[Source]) -> Vec<String> {
    let mut modules = Vec::new();
    for source in sources {
        let folder = match source.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
            Some(_) | None => source.path.trim_end_matches(".rs").to_owned(),
        };
        for declared in source.text.split("#[cfg(test)]\n").skip(1) {
            let (path, declared) = match declared.strip_prefix("#[path = \"") {
                Some(rest) => {
                    let beside = folder.rsplit_once('/').map_or("", |(beside, _)| beside);
                    let (path, rest) = rest.split_once("\"]\n").expect("a path attribute ends on its line");
                    (Some(format!("{beside}/{path}")), rest)
                }
                None => (None, declared),
            };
            let Some(name) = declared.strip_prefix("mod ").and_then(|rest| rest.split_once('\n')) else {
                continue;
            };
            let Some(name) = name.0.strip_suffix(';') else { continue };
            modules.push(path.unwrap_or_else(|| format!("{folder}/{name}")));
        }
    }
    modules
}

/// All files of the project whose name ends so.
pub(crate) fn files(extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(lab::program::root(), extension, &mut found);
    assert!(!found.is_empty(), "no .{extension} file in {}", lab::program::root().display());
    found
}

fn walk(folder: &Path, extension: &str, found: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                walk(&path, extension, found);
            }
        } else if path.extension().is_some_and(|own| own == extension) {
            let shown =
                path.strip_prefix(lab::program::root()).expect("below the root").display().to_string();
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{shown}: {error}"));
            found.push(Source { path: shown, text });
        }
    }
}

/// A file by its path from the project's folder.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(lab::program::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
