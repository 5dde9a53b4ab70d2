// SPDX-License-Identifier: GPL-2.0-only

//! How an address space is divided into tables.
//!
//! Levels are numbered as in the architecture: tables of level 3 hold page descriptors, and an
//! entry of a table of level 3, 2, 1, 0 covers 4 KiB, 2 MiB, 1 GiB, 512 GiB. The root's level
//! follows from the size of the address space.

use super::error::Error;
use crate::gpuvm_rs::range::VaRange;

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;

/// The size of a page in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// Entries in a table.
pub const ENTRIES: usize = 1 << ENTRIES_SHIFT;

/// The level whose tables hold page descriptors.
pub const LEAF: u32 = 3;

/// The level whose tables may hold block descriptors.
pub const BLOCK: u32 = LEAF - 1;

/// The size of a block in bytes.
pub const BLOCK_SIZE: u64 = 1 << entry_shift(BLOCK);

const ENTRIES_SHIFT: u32 = 9;

/// log2 of the bytes that one entry of a table of `level` covers.
#[inline]
pub const fn entry_shift(level: u32) -> u32 {
    PAGE_SHIFT + ENTRIES_SHIFT * LEAF.saturating_sub(level)
}

/// log2 of the bytes that a whole table of `level` covers.
#[inline]
pub const fn table_shift(level: u32) -> u32 {
    entry_shift(level) + ENTRIES_SHIFT
}

/// Which entry of its table of `level` translates `iova`.
#[inline]
pub const fn index(iova: u64, level: u32) -> usize {
    // CAST: masked to 9 bits.
    (iova >> entry_shift(level)) as usize & (ENTRIES - 1)
}

/// The sizes of virtual and physical addresses.
///
/// # Invariants
///
/// `ias` is 31 to 48 and `oas` 32 to 48, so there are three or four levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    ias: u32,
    oas: u32,
}

impl Geometry {
    /// For `ias` bits of virtual and `oas` bits of physical addresses (`io_pgtable_cfg`). `None`
    /// when these need fewer than three levels or more than 48 bits.
    pub const fn new(ias: u32, oas: u32) -> Option<Self> {
        if ias >= 31 && ias <= 48 && oas >= 32 && oas <= 48 {
            // INVARIANT: just checked.
            Some(Self { ias, oas })
        } else {
            None
        }
    }

    /// The root's level: 0 with four levels, 1 with three.
    #[inline]
    pub const fn start_level(&self) -> u32 {
        if self.ias > table_shift(1) {
            0
        } else {
            1
        }
    }

    /// The address after the last one that TTBR0 translates.
    #[inline]
    pub const fn end(&self) -> u64 {
        1 << self.ias
    }

    /// Checks that `range` consists of whole pages of the address space.
    #[inline]
    pub(super) const fn check(&self, range: &VaRange) -> Result<(), Error> {
        if (range.addr() | range.end()) & (PAGE_SIZE - 1) == 0 && range.end() <= self.end() {
            Ok(())
        } else {
            Err(Error::Range)
        }
    }

    /// Checks that `len` bytes of memory at `address` are whole pages that an entry can point to.
    #[inline]
    pub(super) const fn check_physical(&self, address: u64, len: u64) -> Result<(), Error> {
        match address.checked_add(len) {
            Some(end) if (address | len) & (PAGE_SIZE - 1) == 0 && end <= 1 << self.oas => Ok(()),
            _ => Err(Error::Physical),
        }
    }
}

/// Consecutive entries of one table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// An address that the first of them translates.
    pub(super) iova: u64,
    /// The first one's index.
    pub(super) first: usize,
    /// The index after the last one's.
    pub(super) end: usize,
}

/// The entries of tables of `level` that translate `range`, one table after the other.
#[inline]
pub(super) fn spans(range: VaRange, level: u32) -> impl Iterator<Item = Span> {
    let mut rest = Some(range);
    core::iter::from_fn(move || {
        let now = rest?;
        let table_end =
            VaRange::block(now.addr(), table_shift(level)).map_or(u64::MAX, |t| t.end());
        let end = now.end().min(table_end);
        rest = VaRange::between(end, now.end());
        Some(Span {
            iova: now.addr(),
            first: index(now.addr(), level),
            // `end` is behind `start`, so its predecessor is in the same table.
            end: index(end.wrapping_sub(1), level).saturating_add(1),
        })
    })
}
