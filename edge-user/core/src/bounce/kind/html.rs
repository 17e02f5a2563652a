//! What a person reads of a text in HTML, as far as words are sought in it.
//!
//! Tags are dropped: one within a line leaves nothing, so that it tears no word, any other a new line. Comments, styles
//! and scripts are dropped whole, entities are what they stand for. It is no parser of HTML: what has no end is text,
//! since a bounce must not hide behind a `<`. It passes over the text once, and seeks each kind of end in vain at most
//! once, so it costs no more than a fixed number of passes.

use memchr::{memchr, memchr2, memmem};

use mail_parser::decoders::html::add_html_token;

/// Elements within a line: their tags may stand in the middle of a word.
const WITHIN_LINE: [&str; 21] = [
    "a", "abbr", "b", "bdi", "bdo", "big", "code", "em", "font", "i", "ins", "kbd", "mark", "s", "small",
    "span", "strong", "tt", "u", "wbr", "nobr",
];

/// Elements whose contents nobody reads.
const HIDDEN: [&str; 2] = ["style", "script"];

/// Octets of an entity, `&` and `;` among them. The longest of HTML has 33.
const ENTITY_BYTES_MAX: usize = 40;

/// The text of `html`.
pub(super) fn text_of(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut ends = Ends { tag: true, comment: true, hidden: true };
    let mut rest = html;
    while let Some(at) = memchr2(b'<', b'&', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let passed = if rest.starts_with('<') { ends.tag(rest, &mut text) } else { entity(rest, &mut text) };
        rest = &rest[passed..];
    }
    text.push_str(rest);
    text
}

/// Which ends are still to come. Where one was sought and is not there, it is sought no more.
struct Ends {
    tag: bool,
    comment: bool,
    hidden: bool,
}

impl Ends {
    /// Passes what begins with `<`; returns how many octets that is.
    fn tag(&mut self, rest: &str, text: &mut String) -> usize {
        if rest.starts_with("<!--") && self.comment {
            // `<!-->` is a comment, too.
            if let Some(end) = memmem::find(&rest.as_bytes()[2..], b"-->") {
                return 2 + end + "-->".len();
            }
            self.comment = false;
        }
        let is_tag = matches!(rest.as_bytes(), [_, b'/' | b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z', ..]);
        let end = if is_tag && self.tag { memchr(b'>', rest.as_bytes()) } else { None };
        let Some(end) = end else {
            self.tag &= !is_tag;
            text.push('<');
            return 1;
        };
        let inside = &rest[1..end];
        let name = inside.trim_start_matches('/');
        let name = &name[..name.bytes().take_while(u8::is_ascii_alphanumeric).count()];
        if !WITHIN_LINE.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            text.push('\n');
        }
        let is_hidden = self.hidden && HIDDEN.iter().any(|own| own.eq_ignore_ascii_case(name));
        if is_hidden && !inside.starts_with('/') {
            match end_of(name, &rest[end..]) {
                Some(hidden) => return end + hidden,
                None => self.hidden = false,
            }
        }
        end + 1
    }
}

/// Where the closing tag of this element begins.
fn end_of(name: &str, rest: &str) -> Option<usize> {
    memmem::find_iter(rest.as_bytes(), b"</").find(|at| {
        let behind = rest.as_bytes().get(at + 2..at + 2 + name.len());
        behind.is_some_and(|behind| behind.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// Passes what begins with `&`; returns how many octets that is.
fn entity(rest: &str, text: &mut String) -> usize {
    let octets = rest.as_bytes();
    let name = octets[1..].iter().take(ENTITY_BYTES_MAX - 2);
    let len = 1 + name.take_while(|octet| octet.is_ascii_alphanumeric() || **octet == b'#').count();
    if len == 1 || octets.get(len) != Some(&b';') {
        text.push('&');
        return 1;
    }
    add_html_token(text, &octets[..=len], false);
    len + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_tear_no_word_and_what_stands_apart_stays_apart() {
        for (html, text) in [
            ("could&nbsp;not be <i>deliv</i>ered", "could\u{a0}not be delivered"),
            ("be<br>deliv<wbr>ered<br/>now", "be\ndelivered\nnow"),
            ("<td>a</td><td>b</td>", "\na\n\nb\n"),
            ("un<!-- x > y -->deliver<SPAN class=\"a\">able</SPAN>", "undeliverable"),
            ("a<!-->b", "ab"),
            ("<STYLE>p > b { c: d }</Style>e", "\n\ne"),
            ("<script>if (a<b) c('</i>')</script>d", "\n\nd"),
            (
                "gel&ouml;scht &#252;&#xFC; &lt;ann@example.jp&gt; &amp;amp;",
                "gelöscht üü <ann@example.jp> &amp;",
            ),
            ("&#x110000;|&nothing;|AT&T|a & b|&;|&", "\u{fffd}|&nothing;|AT&T|a & b|&;|&"),
            ("1 < 2 <3 <", "1 < 2 <3 <"),
            ("a <b c, never closed", "a <b c, never closed"),
            ("a <!-- never closed", "a <!-- never closed"),
            ("<style>never closed", "\nnever closed"),
        ] {
            assert_eq!(text_of(html), text, "{html}");
        }
    }

    proptest! {
        /// Any text without `<` and `&` stays as it is; no other panics or grows without bound.
        #[test]
        fn no_html_panics(pieces in proptest::collection::vec(prop_oneof![
            Just("<"), Just(">"), Just("<!--"), Just("-->"), Just("<style>"), Just("</style"), Just("&"), Just(";"),
            Just("&nbsp;"), Just("&#"), Just("é"), Just("b"), Just("/"), Just(" "), Just("\r\n"), Just("&ThickSpace;"),
        ], 0..60)) {
            let html = pieces.concat();
            let text = text_of(&html);
            prop_assert!(text.len() <= html.len(), "{html:?}: {text:?}");
        }
    }
}
