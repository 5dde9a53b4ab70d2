// SPDX-License-Identifier: GPL-2.0-only

//! Which tables a job has to own.
//!
//! A page that gets an entry of its own needs a table of its own on every level (*own*: not one of
//! the shared NULL tables). A block needs those of all levels but the last. A NULL mapping, and the
//! removal of one, works with whole entries wherever it can, so it needs tables of its own only
//! where it covers a table's reach in part: at most one per level at either end. The removal of
//! other mappings needs none at all, as their tables exist, unless a part of a block is removed.
//!
//! So a footprint is a list of reaches (2 MiB, 1 GiB, 512 GiB) whose tables the job may need in
//! whatever order its operations run. With every table it contains those above it, which aren't
//! listed. How many of these tables exist changes with time, the footprint doesn't:
//! [`super::PageTables::need`] compares the two.

use core::ops::DerefMut;

use super::geometry::{entry_shift, spans, table_shift, Geometry, BLOCK, BLOCK_SIZE, LEAF};
use crate::gpuvm_rs::range::VaRange;
use crate::pure::ranges::sort_merge_by;

/// What one operation of a job does to the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Every page gets an entry of its own: a mapping of memory.
    Pages(VaRange),
    /// Memory is mapped in blocks. The range consists of whole ones.
    Blocks(VaRange),
    /// Whole tables' reaches are changed at once: MAP_NULL, and an unmap that may find NULL
    /// mappings. Exactly as the operation will be run: two that touch may not be given as one.
    Edges(VaRange),
}

/// What a mapping of `range` to memory does: of `runs`, (physical address, bytes) in order, the
/// last of which may be longer. It is in blocks where [`super::PageTables::map`] writes them.
pub fn touches(
    range: VaRange,
    runs: impl Iterator<Item = (u64, u64)>,
) -> impl Iterator<Item = Touch> {
    let mut rest = Some(range);
    let pieces = runs.map_while(move |(address, len)| {
        let now = rest?;
        let end = now.addr().saturating_add(len).min(now.end());
        rest = VaRange::between(end, now.end());
        let blocks = match (now.addr() ^ address) & (BLOCK_SIZE - 1) {
            0 => VaRange::between(now.addr(), end).and_then(|run| run.align_in(entry_shift(BLOCK))),
            _ => None,
        };
        let (first, last) = blocks.map_or((end, end), |blocks| (blocks.addr(), blocks.end()));
        Some([
            VaRange::between(now.addr(), first).map(Touch::Pages),
            blocks.map(Touch::Blocks),
            VaRange::between(last, end).map(Touch::Pages),
        ])
    });
    pieces.flatten().flatten()
}

/// The reach of a table, or of several of the last level that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The addresses.
    pub range: VaRange,
    /// The tables' level, below the root's.
    pub level: u32,
}

impl Reach {
    /// Takes `next` in if it begins here or right behind, and its tables are then among these and
    /// those above.
    #[inline]
    fn absorb(&mut self, next: &Self) -> bool {
        match (self.level, next.level) {
            (LEAF, LEAF) => self.range.absorb(&next.range),
            (LEAF, _) => {
                self.range.addr() <= next.range.addr() && next.range.addr() < self.range.end()
            }
            _ => self == next,
        }
    }
}

/// A growable list that the caller provides, as this code can't allocate.
pub trait ReachBuf: DerefMut<Target = [Reach]> {
    /// Why a list couldn't grow.
    type Error;

    /// Appends `reach`. On an error the list is as it was.
    fn push(&mut self, reach: Reach) -> Result<(), Self::Error>;

    /// Forgets all from index `len` on.
    fn truncate(&mut self, len: usize);
}

/// Why a footprint can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FootprintError<E> {
    /// An operation's range is not of whole pages in the address space.
    Range,
    /// The list couldn't grow.
    Buf(E),
}

/// Tables of the last level that were listed lately, by their number modulo the array's length:
/// jobs with many operations come back to the same few.
struct Recent([u64; 32]);

impl Recent {
    /// Whether the table of `reach` is among them. If not, it is now.
    #[inline]
    fn has(&mut self, reach: &VaRange) -> bool {
        if reach.len() >> table_shift(LEAF) != 1 {
            return false;
        }
        // CAST: taken modulo a small number.
        let number = (reach.addr() >> table_shift(LEAF)) as usize;
        match self.0.get_mut(number % 32) {
            Some(place) => core::mem::replace(place, reach.addr()) == reach.addr(),
            None => false,
        }
    }
}

/// The tables a job may need.
///
/// # Invariants
///
/// The reaches are sorted by address, those of higher tables before those of lower ones. None lies
/// in another one of a lower level. Those of a level above the last are of one table each.
#[derive(Debug)]
pub struct Footprint<B> {
    reaches: B,
}

impl<B: ReachBuf> Footprint<B> {
    /// The footprint of a job with these operations, in any order; `reaches` is where it is kept.
    /// O(n log n).
    ///
    /// `reaches` grows by at most one per [`Touch::Pages`], one per GiB of a [`Touch::Blocks`], and
    /// two per [`Touch::Edges`]; usually by far fewer.
    pub fn new(
        geometry: &Geometry,
        mut reaches: B,
        ops: impl Iterator<Item = Touch>,
    ) -> Result<Self, FootprintError<B::Error>> {
        reaches.truncate(0);
        let mut recent = Recent([u64::MAX; 32]);
        let mut block = None;
        let mut push = |reach: Reach| {
            let again = match reach.level {
                LEAF => recent.has(&reach.range),
                // Blocks and pages may take turns.
                BLOCK => core::mem::replace(&mut block, Some(reach)) == Some(reach),
                _ => false,
            };
            if again {
                return Ok(());
            }
            if reaches.last_mut().is_some_and(|last| last.absorb(&reach)) {
                return Ok(());
            }
            reaches.push(reach).map_err(FootprintError::Buf)
        };
        for op in ops {
            let (Touch::Pages(range) | Touch::Blocks(range) | Touch::Edges(range)) = op;
            geometry.check(&range).map_err(|_| FootprintError::Range)?;
            match op {
                Touch::Pages(_) => {
                    let range = range
                        .align_out(table_shift(LEAF))
                        .ok_or(FootprintError::Range)?;
                    push(Reach { range, level: LEAF })?;
                    continue;
                }
                Touch::Blocks(_) => {
                    for span in spans(range, BLOCK) {
                        let range = VaRange::block(span.iova, table_shift(BLOCK))
                            .ok_or(FootprintError::Range)?;
                        push(Reach {
                            range,
                            level: BLOCK,
                        })?;
                    }
                    continue;
                }
                Touch::Edges(_) => {}
            }
            let one = (range.addr() ^ range.last()) >> table_shift(LEAF) == 0;
            let ends = [range.addr(), range.last()];
            for end in ends.into_iter().take(if one { 1 } else { 2 }) {
                // The lowest table whose reach isn't covered whole.
                for level in (geometry.start_level().wrapping_add(1)..=LEAF).rev() {
                    let reach =
                        VaRange::block(end, table_shift(level)).ok_or(FootprintError::Range)?;
                    if !range.contains(&reach) {
                        push(Reach {
                            range: reach,
                            level,
                        })?;
                        break;
                    }
                }
            }
        }
        let order = |reach: &Reach| (reach.range.addr(), reach.level);
        let len = sort_merge_by(&mut reaches, order, Reach::absorb);
        reaches.truncate(len);
        // INVARIANT: `sort_merge_by()` made it so.
        Ok(Self { reaches })
    }

    /// The reaches, as the invariants say.
    #[inline]
    pub fn reaches(&self) -> &[Reach] {
        &self.reaches
    }
}
