//! What the documents promise is there: commands, files, links.

use crate::source::{files, read};

const DOCUMENTS: [&str; 14] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "benches/README.md",
    "docs/deploy.md",
    "docs/postfix.md",
    "docs/exim.md",
    "docs/exchange.md",
    "docs/from-watch-to-enforce.md",
    "docs/microsoft-365.md",
    "docs/limits.md",
    "docs/tls.md",
    "docs/upstream.md",
    "docs/when-mail-is-missing.md",
];

/// The commands that a text names in code: the words after `program`, up to the first that is no command's name.
fn commands<'a>(text: &'a str, program: &str) -> Vec<Vec<&'a str>> {
    let start = format!("{program} ");
    let mut found = Vec::new();
    for code in code(text) {
        for (at, _) in code.match_indices(&start) {
            let begins =
                code[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || "/=`".contains(c));
            if begins {
                let words = code[at + start.len()..].split_whitespace();
                let is_name = |word: &&str| {
                    word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
                };
                found.push(words.take_while(is_name).collect());
            }
        }
    }
    found
}

/// What stands in backticks, on a line or over several.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (place, part) in text.split("```").enumerate() {
        if place % 2 == 1 {
            found.extend(part.lines().skip(1));
        } else {
            found.extend(part.split('`').skip(1).step_by(2));
        }
    }
    found
}

#[test]
fn every_command_in_the_documents_exists() {
    let top = edge_user::cli::command();
    let mut seen = 0;
    for document in DOCUMENTS {
        let text = read(document);
        for words in commands(&text, "backstop") {
            let mut command = &top;
            for word in &words {
                // The first word must be a command; later ones are only where there is a choice of them.
                match command.get_subcommands().find(|sub| sub.get_name() == *word) {
                    Some(sub) => command = sub,
                    None if command.has_subcommands() => {
                        panic!("{document}: there is no `backstop {}`", words.join(" "))
                    }
                    None => break,
                }
            }
            seen += usize::from(!words.is_empty());
        }
    }
    assert!(seen > 5, "only {seen} commands found: the test looks at the wrong place");
}

#[test]
fn every_task_in_the_documents_exists() {
    let tasks = read("xtask/src/main.rs");
    let mut seen = 0;
    for document in DOCUMENTS {
        for words in commands(&read(document), "cargo xtask") {
            let Some(task) = words.first() else { continue };
            let variant = format!("    {}{}(", task[..1].to_ascii_uppercase(), &task[1..]);
            assert!(tasks.contains(&variant), "{document}: there is no `cargo xtask {task}`");
            seen += 1;
        }
    }
    assert!(seen > 2, "only {seen} tasks found: the test looks at the wrong place");
}

#[test]
fn every_path_in_the_architecture_exists() {
    let text = read("ARCHITECTURE.md");
    let mut seen = 0;
    for path in code(&text) {
        let is_path =
            path.contains('/') && path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let ours = ["edge-", "xtask/", "tests/", "benches/", ".ci/", ".cargo/"]
            .iter()
            .any(|start| path.starts_with(start));
        if is_path && ours {
            assert!(lab::program::root().join(path).exists(), "ARCHITECTURE.md: there is no {path}");
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} paths found: the test looks at the wrong place");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for document in files("md") {
        for link in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let beside = std::path::Path::new(&document.path).parent().expect("a file is in a folder");
            let there = lab::program::root().join(if path.is_empty() {
                document.path.clone().into()
            } else {
                beside.join(path)
            });
            assert!(there.exists(), "{}: {link} leads nowhere", document.path);
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&there).unwrap_or_default();
                let found = text.lines().filter_map(heading_of).any(|own| anchor(own) == heading);
                assert!(found, "{}: {link} leads to no heading", document.path);
            }
        }
    }
}

/// The text of a line that is a heading.
fn heading_of(line: &str) -> Option<&str> {
    line.starts_with('#').then(|| line.trim_start_matches('#').trim())
}

/// How a link names a heading: in lowercase, hyphens for spaces, without punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn commands_are_found_in_code_only() {
    let text =
        "say backstop nothing, but `backstop ban add 192.0.2.7` and\n```\n# backstop key new --dir x\n```\n";
    assert_eq!(commands(text, "backstop"), [vec!["ban", "add"], vec!["key", "new"]]);
}
