//! The search for the first of a few words, in one pass over a text: for two octets of each of them, by vectors, which is
//! quickest and gives a few places too many; on a machine without such vectors for a few words in full.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, Input, Span};
use edge_octets::{PairSearch, Vectors};

/// The search for the first of some words.
pub(super) struct Search {
    pairs: PairSearch,
    words: LazyLock<Words>,
}

impl Search {
    /// For `words`, each of which begins with one of the `pairs`.
    pub(super) const fn new(pairs: PairSearch, words: fn() -> Words) -> Self {
        Self { pairs, words: LazyLock::new(words) }
    }

    /// Where the first of them may begin, at `from` or behind it. Whether it does, the caller looks.
    #[inline]
    pub(super) fn first(&self, text: &[u8], from: usize) -> Option<usize> {
        match Vectors::detected() {
            Some(vectors) => self.pairs.first_by(vectors, text, from),
            None => self.words.first(text, from),
        }
    }

    #[cfg(test)]
    pub(super) fn first_of_words(&self, text: &[u8], from: usize) -> Option<usize> {
        self.words.first(text, from)
    }
}

/// The search for words in full.
pub(super) enum Words {
    /// By vectors that more machines have.
    Vectorised(Searcher),
    /// Where the machine has none that do: octet by octet.
    Automaton(AhoCorasick),
}

impl Words {
    /// For words of at least two octets each, of which there are a few dozen at most.
    pub(super) fn of(words: &[&[u8]]) -> Self {
        match Searcher::new(words) {
            Some(searcher) => Self::Vectorised(searcher),
            None => Self::Automaton(AhoCorasick::new(words).expect("these are few")),
        }
    }

    #[inline]
    fn first(&self, text: &[u8], from: usize) -> Option<usize> {
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
    fn all_ways_of_searching_find_the_same() {
        const WORDS: [&[u8]; 3] = [b"bs1", b"b\r", b"=62"];
        let automaton = Words::Automaton(AhoCorasick::new(WORDS).unwrap());
        let text = b"a bs long text b1 b\r\nof lines =\r\n=6x =62 and a bs1 at its very end b\r";
        for search in [Words::of(&WORDS), automaton] {
            let found = std::iter::successors(search.first(text, 0), |at| search.first(text, at + 1));
            assert_eq!(found.collect::<Vec<_>>(), [18, 37, 47, text.len() - 2]);
            assert_eq!(search.first(text, text.len()), None);
        }
        let pairs = PairSearch::new(&[(b"b", b"s\r"), (b"=", b"6")]);
        let search = Search::new(pairs, || Words::of(&WORDS));
        let found = std::iter::successors(search.first(text, 0), |at| search.first(text, at + 1));
        let found: Vec<_> =
            found.filter(|at| WORDS.iter().any(|word| text[*at..].starts_with(word))).collect();
        assert_eq!(found, [18, 37, 47, text.len() - 2]);
    }
}
