// SPDX-License-Identifier: GPL-2.0-only
//! Text from outside made fit for a terminal, a page and JSON. Nearly all of it is ASCII that is
//! fit already, and there is much of it: that way is the short one.

use std::borrow::Cow;

/// A character that is seen, and is seen as what it is. Control characters steer a terminal, others
/// change the order in which text is shown, or aren't seen at all.
pub fn is_plain(c: char) -> bool {
    // Of these the standard library escapes three, for they end or begin something in Rust.
    matches!(c, ' '..='~') || c.escape_debug().len() == 1
}

/// `max` characters of a text at most. Those that aren't plain are written as Rust does,
/// `\u{202e}`; where that doesn't fit, the text ends.
pub fn clean(text: &str, max: usize) -> Box<str> {
    let fit = |byte: &u8| matches!(byte, b' '..=b'~');
    if text.len() <= max && text.as_bytes().iter().all(fit) {
        return text.into();
    }
    let mut out = String::new();
    let mut left = max;
    for c in text.chars() {
        let plain = is_plain(c);
        let length = if plain { 1 } else { c.escape_debug().len() };
        let Some(rest) = left.checked_sub(length) else {
            break;
        };
        left = rest;
        match plain {
            true => out.push(c),
            false => out.extend(c.escape_debug()),
        }
    }
    out.into()
}

/// All of a text, clean.
pub fn whole(text: &str) -> Box<str> {
    clean(text, usize::MAX)
}

/// A line as text; what isn't UTF-8 is replaced.
pub(crate) fn utf8(line: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(line) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_and_steers_nothing() {
        assert_eq!(&*clean("buffer 1", 8), "buffer 1");
        assert_eq!(&*clean("buffer 12", 8), "buffer 1");
        let steering = "a\u{1b}[1mb\u{9b}";
        assert_eq!(&*clean(steering, 64), "a\\u{1b}[1mb\\u{9b}");
        // Characters count, not bytes, and those of an escape too.
        assert_eq!(&*clean("äöü", 2), "äö");
        assert_eq!(&*clean(steering, 8), "a\\u{1b}[");
        assert_eq!(&*clean(steering, 6), "a");
        assert_eq!(utf8(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn what_is_not_seen_is_written_out() {
        // Direction, order, joining; line and paragraph ends; tags; what is no character.
        let unseen = [
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{2060}',
            '\u{feff}',
            '\u{ad}',
            '\u{e0041}',
            '\u{fffe}',
            '\u{ffff}',
        ];
        let order = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        for c in order.chain(unseen) {
            let escape = format!("a\\u{{{:x}}}b", u32::from(c));
            assert_eq!(&*whole(&format!("a{c}b")), escape);
        }
        let seen = "it's \"c:\\dir\" – größer, русский, 日本";
        assert_eq!(&*whole(seen), seen);
    }
}
