// SPDX-License-Identifier: GPL-2.0-only
//! Lines of a dump, in bounded memory.
//!
//! A block of binary data is one line that may be hundreds of megabytes long, so a line is never
//! held whole: text lines are cut at [`MAX_LINE`], data lines are handed on in pieces.

use std::io::{
    self,
    Read, //
};

/// The longest text line that is kept, in bytes; the rest of a longer one is skipped. The longest
/// that the kernel prints is `cmdline:`, at most a page.
pub const MAX_LINE: usize = 8192;

const BUFFER: usize = 64 * 1024;

/// What is known of a line besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineInfo {
    /// Its number, from 1.
    pub number: u64,
    /// It was longer than [`MAX_LINE`] and was cut.
    pub overlong: bool,
    /// It ends in a newline. Only the last line of a file may not.
    pub terminated: bool,
}

/// Cuts a byte stream into lines.
#[derive(Debug)]
pub struct Scanner<R> {
    inner: R,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    lines: u64,
    bytes: u64,
}

impl<R: Read> Scanner<R> {
    /// Starts at the first line of `inner`, which needs no buffer of its own.
    pub fn new(inner: R) -> Self {
        Scanner {
            inner,
            buf: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            lines: 0,
            bytes: 0,
        }
    }

    /// How many bytes have been consumed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many lines have been begun.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Gives back what it reads from. What is in the buffer is lost.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next byte, not consumed; `None` at the end.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.fill()?.first().copied())
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.end = loop {
                match self.inner.read(&mut self.buf) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    r => break r?,
                }
            };
        }
        Ok(&self.buf[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.bytes += n as u64;
    }

    /// Reads one line into `out` without its newline. `None` at the end of the stream.
    pub fn line(&mut self, out: &mut Vec<u8>) -> io::Result<Option<LineInfo>> {
        out.clear();
        if self.peek()?.is_none() {
            return Ok(None);
        }
        let mut overlong = false;
        let (terminated, _) = self.pieces(&mut |piece| {
            let room = MAX_LINE - out.len();
            overlong |= piece.len() > room;
            out.extend_from_slice(&piece[..piece.len().min(room)]);
            Ok(())
        })?;
        if out.last() == Some(&b'\r') {
            out.pop();
        }
        Ok(Some(LineInfo {
            number: self.lines,
            overlong,
            terminated,
        }))
    }

    /// Hands the next line, without its newline, to `piece` bit by bit. Says whether it ended in a
    /// newline, and how long it was.
    pub fn pieces(
        &mut self,
        piece: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<(bool, u64)> {
        self.lines += 1;
        let mut length = 0;
        loop {
            let available = self.fill()?;
            if available.is_empty() {
                return Ok((false, length));
            }
            let newline = memchr::memchr(b'\n', available);
            let part = &available[..newline.unwrap_or(available.len())];
            length += part.len() as u64;
            piece(part)?;
            let used = part.len() + usize::from(newline.is_some());
            self.consume(used);
            if newline.is_some() {
                return Ok((true, length));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<(Vec<u8>, LineInfo)> {
        let mut scanner = Scanner::new(input);
        let mut line = Vec::new();
        let mut out = Vec::new();
        while let Some(info) = scanner.line(&mut line).unwrap() {
            out.push((line.clone(), info));
        }
        assert_eq!(scanner.bytes(), input.len() as u64);
        out
    }

    #[test]
    fn lines_keep_their_numbers_and_say_whether_they_ended() {
        let lines = all(b"a\n\nbc\r\nd");
        let text: Vec<_> = lines.iter().map(|(t, _)| t.as_slice()).collect();
        assert_eq!(text, [&b"a"[..], b"", b"bc", b"d"]);
        assert_eq!(lines[3].1.number, 4);
        assert!(lines[2].1.terminated);
        assert!(!lines[3].1.terminated);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; 3 * BUFFER + 5];
        input.extend_from_slice(b"\nnext\n");
        let lines = all(&input);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].0.len(), MAX_LINE);
        assert!(lines[0].1.overlong);
        assert_eq!(lines[1].0, b"next");
        assert!(!lines[1].1.overlong);
    }
}
