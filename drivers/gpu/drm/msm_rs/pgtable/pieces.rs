// SPDX-License-Identifier: GPL-2.0-only

//! A range, cut where the entries of a level begin and end.

use super::geometry::{entry_shift, index, table_shift};
use crate::gpuvm_rs::range::VaRange;

/// One entry's part of a range.
pub(super) struct Piece {
    pub(super) index: usize,
    /// The address after the part.
    pub(super) end: u64,
    /// Whether the part is all that the entry covers.
    pub(super) whole: bool,
}

impl Piece {
    /// The part of `iova` up to `end` that one entry of a table of `level` covers.
    #[inline]
    pub(super) fn at(iova: u64, end: u64, level: u32) -> Self {
        let size = 1u64.wrapping_shl(entry_shift(level));
        let start = iova & !size.wrapping_sub(1);
        let full_end = start.wrapping_add(size);
        Self {
            index: index(iova, level),
            end: full_end.min(end),
            whole: iova == start && full_end <= end,
        }
    }
}

/// The entries of one table of `level` that translate the addresses from `iova` on, up to `end`.
pub(super) struct Pieces {
    pub(super) iova: u64,
    pub(super) end: u64,
    pub(super) level: u32,
}

impl Pieces {
    #[inline]
    pub(super) fn new(iova: u64, end: u64, level: u32) -> Self {
        Self {
            iova,
            end: Self::end_of(iova, end, level),
            level,
        }
    }

    /// Where the table's reach ends, or `end` if that is before.
    #[inline]
    pub(super) fn end_of(iova: u64, end: u64, level: u32) -> u64 {
        VaRange::block(iova, table_shift(level)).map_or(end, |reach| end.min(reach.end()))
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    #[inline]
    fn next(&mut self) -> Option<Piece> {
        if self.iova >= self.end {
            return None;
        }
        let piece = Piece::at(self.iova, self.end, self.level);
        self.iova = piece.end;
        Some(piece)
    }
}
