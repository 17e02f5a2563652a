//! Which tests of a suite took longest. libtest says only when each ended: it begins them in the order of their names, as
//! many at once as it was told, and the next when one ends. So the beginnings follow from the ends.

use std::time::Duration;

/// How many are named.
const NAMED: usize = 8;
/// What took less is not worth a word.
const WORTH_A_WORD: Duration = Duration::from_secs(10);

/// A test's name, and when it ended, counted from the suite's begin.
pub(super) type End = (String, Duration);

/// The longest, the very longest first; `ends` in the order in which they came, of tests that ran `threads` at once.
pub(super) fn longest(ends: &[End], threads: usize) -> Vec<End> {
    let mut in_order: Vec<&End> = ends.iter().collect();
    in_order.sort();
    let took = |(place, (name, end)): (usize, &End)| {
        let begin = place.checked_sub(threads).map_or(Duration::ZERO, |freed| ends[freed].1);
        (name.clone(), end.saturating_sub(begin))
    };
    let mut all: Vec<End> = in_order.into_iter().enumerate().map(took).collect();
    all.retain(|(_, took)| *took >= WORTH_A_WORD);
    all.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    all.truncate(NAMED);
    all
}

/// The same in a line; nothing, where all were short.
pub(super) fn in_words(ends: &[End], threads: usize) -> Option<String> {
    let tests = longest(ends, threads);
    let words = |(name, took): &End| format!("{name} {:.0} s", took.as_secs_f64());
    (!tests.is_empty()).then(|| tests.iter().map(words).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(of: &[(&str, u64)]) -> Vec<End> {
        of.iter().map(|(name, secs)| ((*name).to_owned(), Duration::from_secs(*secs))).collect()
    }

    #[test]
    fn how_long_each_took_follows_from_the_ends() {
        // Two at once: a and b begin at 0, c when b ends, d when a does, e when c does.
        let all = ends(&[("b", 10), ("a", 30), ("c", 45), ("e", 50), ("d", 100)]);
        assert_eq!(longest(&all, 2), ends(&[("d", 70), ("c", 35), ("a", 30), ("b", 10)]));
        // One after the other.
        let all = ends(&[("a", 10), ("b", 15), ("c", 75)]);
        assert_eq!(in_words(&all, 1).as_deref(), Some("c 60 s, a 10 s"));
        assert_eq!(in_words(&ends(&[("a", 9)]), 1), None);
    }

    #[test]
    fn no_more_are_named_than_one_reads() {
        let names: Vec<String> = (0..20).map(|number| format!("t{number:02}")).collect();
        let all: Vec<End> = names
            .iter()
            .zip(1..)
            .map(|(name, nth)| (name.clone(), Duration::from_secs(nth * nth * 10)))
            .collect();
        let longest = longest(&all, 1);
        assert_eq!(longest.len(), NAMED);
        assert_eq!(longest[0].0, "t19");
    }
}
