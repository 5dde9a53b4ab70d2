// SPDX-License-Identifier: GPL-2.0-only
//! Ascii85 as the kernel writes it (include/linux/ascii85.h): each 32-bit word is five characters
//! from `!` to `u`, most significant first, or the single character `z` when it is zero. There is
//! no start or end mark; words are the CPU's, so the bytes come out little-endian.

use thiserror::Error;

/// What is wrong with encoded data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// A byte that ascii85 doesn't use, or `z` inside a word.
    #[error("byte 0x{byte:02x} at position {at} isn't ascii85")]
    Byte {
        /// The byte.
        byte: u8,
        /// Its position in the encoded text, from 0.
        at: u64,
    },
    /// Five characters that mean more than 32 bits hold.
    #[error("the word that ends at position {at} doesn't fit 32 bits")]
    Overflow {
        /// The position of its last character, from 0.
        at: u64,
    },
    /// The text ends inside a word.
    #[error("the data ends {have} characters into a word")]
    Partial {
        /// How many of the five characters there are.
        have: u8,
    },
}

/// Decodes a stream of ascii85 that arrives in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    value: u64,
    have: u8,
    at: u64,
}

impl Decoder {
    /// Decodes `input` and appends the bytes of each whole word to `out`, which grows by at most 4
    /// bytes per byte of input.
    ///
    /// After an error the decoder must not be used again.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let mut rest = input;
        while let Some((&byte, after)) = rest.split_first() {
            if self.have == 0 {
                if let Some((word, after)) = whole_word(rest) {
                    out.extend_from_slice(&word.to_le_bytes());
                    self.at += (rest.len() - after.len()) as u64;
                    rest = after;
                    continue;
                }
            }
            rest = after;
            match byte {
                b'!'..=b'u' => {
                    self.value = self.value * 85 + u64::from(byte - b'!');
                    self.have += 1;
                    if self.have == 5 {
                        let word = u32::try_from(self.value)
                            .map_err(|_| Error::Overflow { at: self.at })?;
                        out.extend_from_slice(&word.to_le_bytes());
                        self.value = 0;
                        self.have = 0;
                    }
                }
                _ => return Err(Error::Byte { byte, at: self.at }),
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Says whether the text ended between words.
    pub fn finish(&self) -> Result<(), Error> {
        match self.have {
            0 => Ok(()),
            have => Err(Error::Partial { have }),
        }
    }
}

/// The word that `text` begins with, and what follows it; `None` where it is not all there or not
/// well-formed.
fn whole_word(text: &[u8]) -> Option<(u32, &[u8])> {
    match text {
        [b'z', after @ ..] => Some((0, after)),
        [a, b, c, d, e, after @ ..] => {
            let digits = [a, b, c, d, e].map(|byte| byte.wrapping_sub(b'!'));
            let value = digits.iter().fold(0, |value, &n| value * 85 + u64::from(n));
            let good = digits.iter().all(|&n| n < 85);
            Some((u32::try_from(value).ok().filter(|_| good)?, after))
        }
        _ => None,
    }
}

/// Encodes words the way the kernel does.
pub fn encode(words: &[u32], out: &mut String) {
    for &word in words {
        if word == 0 {
            out.push('z');
            continue;
        }
        let mut rest = word;
        let mut chars = [0; 5];
        for c in chars.iter_mut().rev() {
            *c = b'!' + (rest % 85) as u8;
            rest /= 85;
        }
        out.extend(chars.iter().map(|&c| char::from(c)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_little_endian() {
        let mut text = String::new();
        encode(&[0, 1, 0xffff_ffff], &mut text);
        assert_eq!(text, "z!!!!\"s8W-!");
        let mut out = Vec::new();
        let mut decoder = Decoder::default();
        decoder.feed(text.as_bytes(), &mut out).unwrap();
        decoder.finish().unwrap();
        assert_eq!(out, [0, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn bad_text_is_named() {
        let fail = |text: &[u8]| Decoder::default().feed(text, &mut Vec::new());
        assert_eq!(fail(b"z!~"), Err(Error::Byte { byte: b'~', at: 2 }));
        assert_eq!(fail(b"!z"), Err(Error::Byte { byte: b'z', at: 1 }));
        assert_eq!(fail(b"s8W-\""), Err(Error::Overflow { at: 4 }));
        let mut decoder = Decoder::default();
        decoder.feed(b"zz!!", &mut Vec::new()).unwrap();
        assert_eq!(decoder.finish(), Err(Error::Partial { have: 2 }));
    }
}
