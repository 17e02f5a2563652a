//! Counting: what a test program printed, believed only where its words and its exit code agree.

/// How the tests of one or more suites went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Count {
    /// Ran and passed.
    pub(super) passed: usize,
    /// Ran and failed, were ignored, or never came to their end.
    pub(super) names: Vec<String>,
    /// Test programs that came to their end.
    finished: usize,
}

impl Count {
    /// How many count as failed.
    pub(super) fn failed(&self) -> usize {
        self.names.len()
    }

    /// Adds another suite's.
    pub(super) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.names.extend_from_slice(&other.names);
        self.finished += other.finished;
    }

    /// A suite's program has ended: what its output does not explain is one failure more.
    pub(super) fn close(&mut self, succeeded: bool, must_have_tests: bool) {
        if self.finished == 0 {
            self.names.push("(the suite did not come to its end)".into());
        } else if !succeeded && self.names.is_empty() {
            self.names.push("(its exit code says so, none of its tests does)".into());
        } else if must_have_tests && self.passed + self.failed() == 0 {
            self.names.push("(the suite has no test)".into());
        }
    }

    /// Whether there was nothing to run.
    pub(super) fn is_nothing(&self) -> bool {
        self.passed + self.failed() == 0
    }
}

/// Counts the lines `test NAME ... ok`, and takes the summary's word where it counts more failures than lines show.
pub(super) fn read(output: &str) -> Count {
    let mut count = Count::default();
    let (mut seen_failed, mut told_failed) = (0, 0);
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            let (name, outcome) = name;
            if outcome == "FAILED" || outcome.starts_with("FAILED ") {
                seen_failed += 1;
                count.names.push(name.to_owned());
            } else if outcome.starts_with("ignored") {
                count.names.push(format!("{name} (ignored: nobody ran it)"));
            }
        } else if let Some(summary) = line.strip_prefix("test result: ") {
            count.finished += 1;
            count.passed += number_before(summary, " passed");
            told_failed += number_before(summary, " failed");
        }
    }
    for _ in seen_failed..told_failed {
        count.names.push("(a test whose name was not to be read)".into());
    }
    count
}

/// The number that stands before `word`.
fn number_before(text: &str, word: &str) -> usize {
    let before = text.find(word).map_or("", |end| &text[..end]);
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// What the failed tests said: libtest's section between `failures:` and its list of names, without backtraces.
pub(super) fn failures(output: &str) -> String {
    let said = match output.split_once("\nfailures:\n") {
        Some((_, rest)) => rest.split("\nfailures:\n").next().unwrap_or(rest),
        None => output,
    };
    let mut in_backtrace = false;
    let mut kept = String::new();
    for line in said.lines() {
        // A backtrace is a title and numbered, indented lines.
        in_backtrace = line == "stack backtrace:" || (in_backtrace && line.starts_with("   "));
        if !in_backtrace && !line.starts_with("note: Some details are omitted") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "\
running 4 tests
test a::passes ... ok
test a::is_ignored ... ignored, needs a moon
test a::panics - should panic ... ok
test a::fails ... FAILED

failures:

---- a::fails stdout ----
thread panicked
stack backtrace:
   0: main
             at ./main.rs:1:1
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.

failures:
    a::fails

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn an_ignored_test_counts_as_failed() {
        let mut count = read(MIXED);
        count.close(false, true);
        assert_eq!(count.passed, 2);
        assert_eq!(count.names, ["a::is_ignored (ignored: nobody ran it)", "a::fails"]);
    }

    #[test]
    fn what_a_failed_test_said_is_found() {
        assert_eq!(failures(MIXED).trim(), "---- a::fails stdout ----\nthread panicked");
    }

    #[test]
    fn a_program_that_dies_half_way_counts_as_failed() {
        let mut count = read("running 2 tests\ntest a::passes ... ok\n");
        count.close(false, true);
        assert_eq!((count.passed, count.failed()), (0, 1));
    }

    #[test]
    fn an_exit_code_is_believed_over_words() {
        let mut count = read("test result: ok. 3 passed; 0 failed; 0 ignored");
        count.close(false, true);
        assert_eq!((count.passed, count.failed()), (3, 1));
    }

    #[test]
    fn a_suite_without_a_test_fails_where_it_should_have_some() {
        let empty = read("running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored");
        let (mut must, mut may) = (empty.clone(), empty);
        must.close(true, true);
        may.close(true, false);
        assert_eq!((must.failed(), may.failed()), (1, 0));
        assert!(may.is_nothing());
    }

    #[test]
    fn a_failure_without_a_line_of_its_own_is_counted() {
        let count = read("test result: FAILED. 1 passed; 2 failed; 0 ignored");
        assert_eq!((count.passed, count.failed()), (1, 2));
    }

    #[test]
    fn several_programs_of_one_suite_add_up() {
        let one = "test result: ok. 3 passed; 0 failed; 0 ignored\n";
        assert_eq!(read(&one.repeat(2)).passed, 6);
    }
}
