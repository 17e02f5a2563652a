//! The scanner on what it must find and what it must not, cut at every place.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

const TOKEN: &str = "bs1.ByYHoSAA_xBhYmMrgueTG27ftfM0XdvdRQe-";
const OTHER: &str = "bs1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0";

fn scan(pieces: &[&[u8]]) -> Vec<Found> {
    let (mut scanner, mut all) = (Scanner::new(), Vec::new());
    pieces.iter().for_each(|piece| scanner.scan(piece, &mut |found| all.push(found)));
    scanner.finish(&mut |found| all.push(found));
    all
}

fn candidate(token: &str) -> Candidate {
    Candidate(token.as_bytes()[4..].try_into().unwrap())
}

fn found(token: &str, encoding: Encoding) -> Found {
    Found { candidate: candidate(token), encoding }
}

/// The scanner that never leaps: the reference for all else.
fn walk(wire: &[u8]) -> Vec<Found> {
    let (mut scanner, mut all) = (Scanner::new(), Vec::new());
    wire.iter().for_each(|&octet| scanner.walk(octet, &mut |found| all.push(found)));
    all
}

fn same_however_cut(wire: &[u8], cuts: impl Iterator<Item = usize>) -> Vec<Found> {
    let reference = walk(wire);
    assert_eq!(scan(&[wire]), reference, "whole: {:?}", String::from_utf8_lossy(wire));
    let octet_by_octet = scan(&wire.chunks(1).collect::<Vec<_>>());
    assert_eq!(octet_by_octet, reference, "octet by octet: {:?}", String::from_utf8_lossy(wire));
    for cut in cuts {
        let (head, tail) = wire.split_at(cut);
        assert_eq!(scan(&[head, tail]), reference, "cut before {cut}: {:?}", String::from_utf8_lossy(wire));
    }
    reference
}

fn all_cuts(wire: &str) -> Vec<Found> {
    same_however_cut(wire.as_bytes(), 0..=wire.len())
}

#[test]
fn a_token_is_found_in_each_encoding_however_the_message_is_cut() {
    let header = format!("Subject: a\r\nBackstop-Token: {TOKEN}\r\nX: b\r\n");
    let (head, tail) = TOKEN.split_at(17);
    let base64 = |text: &str, width: usize, line_end: &str| {
        let encoded = STANDARD.encode(text);
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
        lines.join(line_end) + line_end
    };
    let escaped: String = TOKEN.bytes().map(|octet| format!("={octet:02X}")).collect();
    let rows = [
        ("plain", header.clone(), Encoding::Plain),
        ("nothing around it", TOKEN.to_owned(), Encoding::Plain),
        ("directly behind text", format!("x=bs1{TOKEN}bs1."), Encoding::Plain),
        ("directly behind what could begin an escape", format!("x={TOKEN}"), Encoding::Plain),
        ("LF", header.replace('\r', ""), Encoding::Plain),
        ("quoted", format!("> > Backstop-Token: {TOKEN}\n"), Encoding::Plain),
        ("torn at a line end", format!("{head}\r\n{tail}\r\n"), Encoding::Plain),
        ("folded", format!("{head}\r\n {tail}\r\n"), Encoding::Plain),
        ("quoted and torn", format!("> {head}\n> {tail}\n"), Encoding::Plain),
        ("torn by sendmail", format!("{head}!\r\n {tail}\r\n"), Encoding::Plain),
        ("its magic torn by sendmail", TOKEN.replace("bs1", "a long text bs!\n 1"), Encoding::Plain),
        ("its dot stuffed", "bs1\r\n..".to_owned() + &TOKEN[4..], Encoding::Plain),
        ("soft break", format!("{head}=\r\n{tail}"), Encoding::QuotedPrintable),
        ("soft break, LF", format!("{head}=\n{tail}"), Encoding::QuotedPrintable),
        ("soft break with padding", format!("{head}= \t\r\n{tail}"), Encoding::QuotedPrintable),
        ("soft break in the magic", TOKEN.replace("bs1", "bs=\r\n1"), Encoding::QuotedPrintable),
        ("soft break before a stuffed dot", TOKEN.replace('.', "=\r\n.."), Encoding::QuotedPrintable),
        ("all escaped", escaped, Encoding::QuotedPrintable),
        ("base64", base64(&header, 76, "\r\n"), Encoding::Base64),
        ("base64, one line", base64(&header, 10_000, "\n"), Encoding::Base64),
        ("base64, narrow", base64(&header, 4, "\n"), Encoding::Base64),
        ("base64, narrower", base64(&header, 1, "\r\n"), Encoding::Base64),
        ("base64, second alignment", base64(&format!("a{TOKEN}"), 19, "\n"), Encoding::Base64),
        ("base64, third alignment", base64(&format!("ab{TOKEN}"), 20, "\n> "), Encoding::Base64),
    ];
    for (name, wire, encoding) in rows {
        assert_eq!(all_cuts(&wire), [found(TOKEN, encoding)], "{name}");
    }
}

#[test]
fn what_is_no_token_is_not_handed_out() {
    for wire in [
        "bs1.",
        "bs1.short",
        "bs1.ByYHoSAA_xBhYmM rgueTG27ftfM0XdvdRQe-",
        "bs1.ByYHoSAA_xBhYmM.rgueTG27ftfM0XdvdRQe-",
        "bs1.ByYHoSAA_xBhYmM=rgueTG27ftfM0XdvdRQe-",
        "bs2.ByYHoSAA_xBhYmMrgueTG27ftfM0XdvdRQe-",
        "bs1. ByYHoSAA_xBhYmMrgueTG27ftfM0XdvdRQe-",
        "bs1.ByYHoSAA_xBhYmM+rgueTG27ftfM0Xdvd/Qe-",
    ] {
        assert_eq!(all_cuts(wire), [], "{wire}");
    }
}

#[test]
fn each_candidate_is_handed_out_once_and_in_order() {
    let encoded = STANDARD.encode(TOKEN);
    let wire = format!("{OTHER}\r\n{TOKEN}\r\n{encoded}\r\n{TOKEN}{OTHER}");
    assert_eq!(all_cuts(&wire), [found(OTHER, Encoding::Plain), found(TOKEN, Encoding::Plain)]);
}

#[test]
fn no_more_candidates_than_the_bound_are_handed_out() {
    let many: String = (0..CANDIDATES_MAX + 10).map(|n| format!("bs1.{n:036}\r\n")).collect();
    assert_eq!(scan(&[many.as_bytes()]).len(), CANDIDATES_MAX);
}

#[test]
fn a_token_among_false_starts_is_found() {
    let starts = "bs1.".repeat(30) + " " + &"YnMxL".repeat(30) + &"JzMSiczEu".repeat(30);
    assert_eq!(all_cuts(&(starts.clone() + " " + TOKEN)), [found(TOKEN, Encoding::Plain)]);
    assert_eq!(all_cuts(&("bs1.".repeat(30) + TOKEN)), [found(TOKEN, Encoding::Plain)]);
}

/// Pieces of text from which everything can be made that the scanner cares about.
fn scraps() -> impl Strategy<Value = Vec<u8>> {
    let encoded = STANDARD.encode(format!("a{TOKEN}"));
    let mut scraps: Vec<Vec<u8>> = [
        "b", "s", "1", ".", "bs1.", "bs1", "Y", "nMxL", "YnMxL", "J", "zMS", "JzMS", "i", "czEu", "iczEu",
        "=", "=\r\n", "=\n", "= \r\n", "=62", "=4", "!", "\r\n", "\n", "\r", " ", "> ", "..", ".", "x", "A",
        "é",
    ]
    .map(|scrap| scrap.as_bytes().to_vec())
    .to_vec();
    for token in [TOKEN.as_bytes(), encoded.as_bytes()] {
        scraps.push(token.to_vec());
        scraps
            .extend([&token[..9], &token[9..], &token[4..], &token[..30], &token[30..]].map(<[u8]>::to_vec));
    }
    proptest::collection::vec(proptest::sample::select(scraps), 0..30).prop_map(|scraps| scraps.concat())
}

/// How a token may be written.
#[derive(Clone, Debug)]
enum Writing {
    Plain,
    /// Each character with a chance to be escaped, and to have a soft break before it.
    QuotedPrintable(Vec<(bool, bool)>),
    /// Behind so many octets, in lines of so many characters.
    Base64 {
        before: usize,
        width: usize,
    },
}

fn writing() -> impl Strategy<Value = Writing> {
    prop_oneof![
        Just(Writing::Plain),
        proptest::collection::vec((proptest::bool::weighted(0.2), proptest::bool::weighted(0.2)), 40)
            .prop_map(Writing::QuotedPrintable),
        (0_usize..200, 1_usize..200).prop_map(|(before, width)| Writing::Base64 { before, width }),
    ]
}

fn written(writing: &Writing, line_end: &str) -> String {
    match writing {
        Writing::Plain => TOKEN.to_owned(),
        Writing::QuotedPrintable(chances) => {
            let mut text = String::new();
            for (character, &(escape, tear)) in TOKEN.chars().zip(chances) {
                if tear {
                    text += &format!("={line_end}");
                    if character == '.' && !escape && line_end == "\r\n" {
                        text.push('.');
                    }
                }
                match escape {
                    true => text += &format!("={:02X}", u32::from(character)),
                    false => text.push(character),
                }
            }
            text
        }
        &Writing::Base64 { before, width } => {
            let encoded = STANDARD.encode("\u{7}".repeat(before) + TOKEN + "\r\nSubject: x\r\n");
            let lines: Vec<&str> =
                encoded.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
            line_end.to_owned() + &lines.join(line_end) + line_end
        }
    }
}

proptest! {
    #[test]
    fn any_cut_of_any_input_gives_the_same(wire in scraps(), cut in any::<proptest::sample::Index>()) {
        let cut = cut.index(wire.len() + 1);
        same_however_cut(&wire, [cut, wire.len() - cut].into_iter());
    }

    #[test]
    fn any_octets_are_taken_without_panic(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
        same_however_cut(&wire, [wire.len() / 2].into_iter());
    }

    #[test]
    fn a_token_is_found_whatever_stands_around_it(
        before in scraps(),
        after in scraps(),
        writing in writing(),
        crlf in any::<bool>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let line_end = if crlf { "\r\n" } else { "\n" };
        // The blank ends what was begun before: characters that base64 allows would shift what follows, and `=`
        // would make an escape of it.
        let wire = [&before, &b" \r\n:"[..], written(&writing, line_end).as_bytes(), &after].concat();
        let cut = cut.index(wire.len() + 1);
        let all = same_however_cut(&wire, [cut].into_iter());
        prop_assert!(
            all.len() == CANDIDATES_MAX || all.iter().any(|one| one.candidate == candidate(TOKEN)),
            "{:?}", String::from_utf8_lossy(&wire)
        );
    }

    #[test]
    fn what_begins_far_from_all_else_is_found_as_by_walking(
        before in proptest::collection::vec(proptest::sample::select(b"abcehis nYJ.:!=4\r\n".to_vec()), 0..150),
        tear in proptest::sample::select(
            ["", "\r\n", "\n", "=\r\n", "= \t\n> ", "!\r\n ", "\r\n\r\n", "\r\n> | >\t\r\n>  ", "x"].to_vec()),
        torn_behind in 0_usize..12,
        form in 0_usize..4,
        filler in 0_usize..100,
    ) {
        let text = match form {
            0 => TOKEN.to_owned(),
            form => STANDARD.encode("\u{7}".repeat(form - 1) + TOKEN + "  "),
        };
        let (head, tail) = text.split_at(torn_behind);
        let wire = [&before, &[b'-'; 100][..filler], head.as_bytes(), tear.as_bytes(), tail.as_bytes()].concat();
        same_however_cut(&wire, [before.len() + filler + torn_behind, wire.len() / 2].into_iter());
    }
}
