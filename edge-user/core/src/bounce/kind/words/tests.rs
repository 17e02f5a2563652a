//! Texts as the tables of words have them.

use std::collections::HashSet;

use super::*;

#[test]
fn ascii_is_written_as_any_other_text() {
    for text in ["", " \t", "  One\r\n\x0b\x0ctwo  \x1c Three'\x7f ", "a", "A\tb"] {
        let other = plain(&format!("{text} \u{e9}"));
        assert_eq!(plain(text), other.trim_end_matches('\u{e9}').trim_end_matches(' '), "{text:?}");
    }
}

#[test]
fn every_phrase_is_written_as_a_text_is_when_it_is_searched() {
    for file in [FAILURE, AWAY] {
        let mut known = HashSet::new();
        for phrase in phrases(file) {
            assert_eq!(plain(phrase), phrase);
            assert!(known.insert(phrase), "{phrase} stands there twice");
        }
        assert!(known.len() > 50);
    }
}

#[test]
fn nothing_that_is_left_out_at_will_hides_a_word() {
    for text in ["TESLİM\r\n EDİLEMEDİ", "teslim\u{a0}edile\u{ad}me\u{200b}di", "تَعَذَّرَ تسليـم"]
    {
        assert!(text_says_failure(&plain(text)), "{text}: {}", plain(text));
    }
    assert!(text_says_failure(&plain("It couldn’t be\tdelivered")));
    for unseen in
        "\u{200b}\u{ad}\u{34f}\u{61c}\u{180e}\u{200d}\u{2060}\u{2064}\u{3164}\u{fe0f}\u{feff}\u{e0020}"
            .chars()
    {
        // Within a word, at its ends, and as a word of its own; also at both ends of the text.
        for text in
            ["could n~ot be delivered", "could ~not~ be delivered", "~ could ~ not ~ ~ be delivered ~"]
        {
            let text = text.replace('~', &unseen.to_string());
            assert_eq!(plain(&text), "could not be delivered", "{:x}", u32::from(unseen));
        }
    }
    assert!(!text_says_failure(&plain("Bonjour, je suis absent.")));
}
