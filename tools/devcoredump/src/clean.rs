// SPDX-License-Identifier: GPL-2.0-only
//! Text from outside made fit for a terminal and for JSON. Nearly all of it is ASCII that is fit
//! already, and there is much of it: that way is the short one.

use std::borrow::Cow;

/// A character that doesn't steer a terminal.
pub fn plain(c: char) -> char {
    match c.is_control() {
        true => '\u{fffd}',
        false => c,
    }
}

/// `max` characters of a text at most, none of which steers a terminal.
pub fn clean(text: &str, max: usize) -> Box<str> {
    let fit = |byte: &u8| matches!(byte, b' '..=b'~');
    if text.len() <= max && text.as_bytes().iter().all(fit) {
        return text.into();
    }
    text.chars().map(plain).take(max).collect::<String>().into()
}

/// A line as text; what isn't UTF-8 is replaced.
pub fn utf8(line: &[u8]) -> Cow<'_, str> {
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
        assert_eq!(&*clean("a\u{1b}[1mb\u{9b}", 64), "a\u{fffd}[1mb\u{fffd}");
        // Characters count, not bytes.
        assert_eq!(&*clean("äöü", 2), "äö");
        assert_eq!(utf8(b"a\xffb"), "a\u{fffd}b");
    }
}
