// SPDX-License-Identifier: GPL-2.0-only

//! Which tables a job has to own.
//!
//! A page that gets an entry of its own needs a table of its own on every level (*own*: not one of the shared NULL
//! tables). A NULL mapping, and the removal of one, works with whole entries wherever it can, so it needs tables of its own only
//! where it covers a table's reach in part: at most one per level at either end. The removal of other
//! mappings needs none at all, as their tables exist.
//!
//! So a footprint is, for each level below the root, the set of reaches (2 MiB, 1 GiB, 512 GiB) whose table the
//! job may need in whatever order its operations run. It contains with every table those above it. How many of these tables
//! exist changes with time, the footprint doesn't: [`super::PageTables::need`] compares the two.

use super::geometry::{table_shift, Geometry, LEAF};
use crate::gpuvm_rs::range::VaRange;
use crate::pure::ranges::{sort_merge, RangeBuf};

/// What one operation of a job does to the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Every page gets an entry of its own: a mapping of memory.
    Pages(VaRange),
    /// Whole tables' reaches are changed at once: MAP_NULL, and an unmap that may find NULL mappings. Exactly as the
    /// operation will be run: two that touch may not be given as one.
    Edges(VaRange),
}

/// Why a footprint can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FootprintError<E> {
    /// An operation's range is not of whole pages in the address space.
    Range,
    /// The list of ranges couldn't grow.
    Buf(E),
}

/// The tables a job may need, by level.
///
/// # Invariants
///
/// `ranges` holds a set for level 3, then one for level 2, then one for level 1, ending where `ends` says; each range of
/// a level's set is aligned to a table's reach, and lies in a range of the next set.
#[derive(Debug)]
pub struct Footprint<B> {
    ranges: B,
    ends: [usize; 3],
}

impl<B: RangeBuf> Footprint<B> {
    /// The footprint of a job with these operations, in any order; `buf` is where it is kept. It is walked once per
    /// level. O(n log n).
    ///
    /// `buf` grows by at most one range per [`Touch::Pages`] and two per [`Touch::Edges`] and level, usually by far
    /// fewer: neighbours become one.
    pub fn new<I>(geometry: &Geometry, mut buf: B, ops: I) -> Result<Self, FootprintError<B::Error>>
    where
        I: Iterator<Item = Touch> + Clone,
    {
        buf.truncate(0);
        let mut ends = [0usize; 3];
        let mut below = 0..0;
        // Whether the tables of the level below don't tell all: some range ends where the reach of one does.
        let mut whole = true;
        for (level, set_end) in (1..=LEAF).rev().zip(&mut ends) {
            let mut set = Set {
                from: below.end,
                shift: table_shift(level),
                buf: &mut buf,
            };
            // With each table those above it.
            for at in below.clone() {
                if let Some(&range) = set.buf.get(at) {
                    set.push(&range)?;
                }
            }
            if core::mem::take(&mut whole) {
                for op in ops.clone() {
                    match op {
                        Touch::Pages(range) => {
                            if level == LEAF {
                                geometry.check(&range).map_err(|_| FootprintError::Range)?;
                                set.push(&range)?;
                            }
                        }
                        Touch::Edges(range) => {
                            geometry.check(&range).map_err(|_| FootprintError::Range)?;
                            whole |= !set.push_edges(&range)?;
                        }
                    }
                }
            }
            let end = set.finish();
            *set_end = end;
            below = below.end..end;
        }
        // INVARIANT: each set was made from the one below it, aligned outwards.
        Ok(Self { ranges: buf, ends })
    }

    /// The reaches of the tables of `level` (1 to 3): a set.
    pub fn level(&self, level: u32) -> &[VaRange] {
        let [leaf, middle, top] = self.ends;
        let part = match level {
            3 => 0..leaf,
            2 => leaf..middle,
            1 => middle..top,
            _ => 0..0,
        };
        self.ranges.get(part).unwrap_or_default()
    }

    /// Whether the job needs no tables but the root.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Gives the list back, to shrink or reuse it.
    pub fn into_buf(self) -> B {
        self.ranges
    }
}

/// One level's set while it is made.
struct Set<'a, B> {
    buf: &'a mut B,
    from: usize,
    shift: u32,
}

impl<B: RangeBuf> Set<'_, B> {
    /// Adds the reaches of all tables that `range` touches.
    fn push(&mut self, range: &VaRange) -> Result<(), FootprintError<B::Error>> {
        let reach = range.align_out(self.shift).ok_or(FootprintError::Range)?;
        self.push_aligned(reach)
    }

    /// Adds the reaches of tables.
    #[inline]
    fn push_aligned(&mut self, reach: VaRange) -> Result<(), FootprintError<B::Error>> {
        if let Some(last) = self.buf.tail_mut(self.from).last_mut() {
            if last.absorb(&reach) {
                return Ok(());
            }
        }
        self.buf.push(reach).map_err(FootprintError::Buf)
    }

    /// Adds the reaches that `range` covers in part. Returns whether it does so at both ends.
    fn push_edges(&mut self, range: &VaRange) -> Result<bool, FootprintError<B::Error>> {
        let first = VaRange::block(range.addr(), self.shift).ok_or(FootprintError::Range)?;
        let mut both = !range.contains(&first);
        if both {
            self.push_aligned(first)?;
        }
        if range.end() > first.end() {
            let last = VaRange::block(range.last(), self.shift).ok_or(FootprintError::Range)?;
            if range.contains(&last) {
                both = false;
            } else {
                self.push_aligned(last)?;
            }
        }
        Ok(both)
    }

    /// Makes it a set; returns its end in the list.
    fn finish(self) -> usize {
        let len = sort_merge(self.buf.tail_mut(self.from)).len();
        let end = self.from.saturating_add(len);
        self.buf.truncate(end);
        end
    }
}
