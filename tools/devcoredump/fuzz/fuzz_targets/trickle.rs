// SPDX-License-Identifier: GPL-2.0-only
//! A stream that comes in pieces.

use std::io::{self, Read};

/// Gives a few bytes at a time, how many depending on the bytes.
pub struct Trickle<'a>(pub &'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = usize::from(self.0.first().copied().unwrap_or(0) % 7) + 1;
        let n = n.min(self.0.len()).min(buffer.len());
        let (now, later) = self.0.split_at(n);
        buffer[..n].copy_from_slice(now);
        self.0 = later;
        Ok(n)
    }
}
