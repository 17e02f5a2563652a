//! The search for the first of a few words, in one pass over a text.

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, Input, Span};

/// The search for the first of some words.
pub(super) enum Search {
    /// By vectors, sixteen octets and more at a time.
    Vectorised(Searcher),
    /// Where the machine has none that do: octet by octet.
    Automaton(AhoCorasick),
}

impl Search {
    /// For words of at least two octets each, of which there are a few dozen at most.
    pub(super) fn of(words: &[&[u8]]) -> Self {
        match Searcher::new(words) {
            Some(searcher) => Self::Vectorised(searcher),
            None => Self::Automaton(AhoCorasick::new(words).expect("these are few")),
        }
    }

    /// Where the first of them begins, at `from` or behind it.
    #[inline]
    pub(super) fn first(&self, text: &[u8], from: usize) -> Option<usize> {
        let place = match self {
            Self::Vectorised(searcher) => searcher.find_in(text, Span::from(from..text.len())),
            Self::Automaton(automaton) => automaton.find(Input::new(text).range(from..)),
        };
        place.map(|place| place.start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_searching_find_the_same() {
        let words: [&[u8]; 3] = [b"bs1", b"b\r", b"=62"];
        let automaton = Search::Automaton(AhoCorasick::new(words).unwrap());
        let text = b"a bs long text b1 b\r\nof lines =\r\n=6x =62 and a bs1 at its very end b\r";
        for search in [Search::of(&words), automaton] {
            let found = std::iter::successors(search.first(text, 0), |at| search.first(text, at + 1));
            assert_eq!(found.collect::<Vec<_>>(), [18, 37, 47, text.len() - 2]);
            assert_eq!(search.first(text, text.len()), None);
        }
    }
}
