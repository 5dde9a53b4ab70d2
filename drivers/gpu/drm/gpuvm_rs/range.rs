// SPDX-License-Identifier: GPL-2.0-only

//! Ranges of iovas. Needs nothing of the kernel, so that it can be tested without one.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/range.rs")]
//! ```

/// A half-open, never empty range of iovas, in bytes.
///
/// # Invariants
///
/// `start < end`. So a range that ends at 2^64 can't be expressed; no address space of ours reaches
/// that far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaRange {
    start: u64,
    end: u64,
}

impl VaRange {
    /// The `len` bytes from `addr`; `None` when that is nothing or runs past 2^64 − 1.
    #[inline]
    pub const fn new(addr: u64, len: u64) -> Option<Self> {
        match addr.checked_add(len) {
            Some(end) => Self::between(addr, end),
            None => None,
        }
    }

    /// The range of a VMA that is or was in a tree, which only takes valid ones.
    #[inline]
    pub const fn from_tree(addr: u64, len: u64) -> Self {
        // INVARIANT: See above.
        Self {
            start: addr,
            end: addr.wrapping_add(len),
        }
    }

    /// The bytes from `start` to before `end`; `None` when there are none.
    #[inline]
    pub const fn between(start: u64, end: u64) -> Option<Self> {
        if start < end {
            // INVARIANT: just checked.
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// The first byte's address.
    #[inline]
    pub const fn addr(&self) -> u64 {
        self.start
    }

    /// The address after the last byte.
    #[inline]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The last byte's address.
    #[inline]
    pub const fn last(&self) -> u64 {
        // By the invariant `end` is at least 1.
        self.end.wrapping_sub(1)
    }

    /// The length in bytes, at least 1.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // Never empty.
    pub const fn len(&self) -> u64 {
        self.end.wrapping_sub(self.start)
    }

    /// Whether the two have a byte in common.
    #[inline]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether all of `other` lies in `self`.
    #[inline]
    pub const fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The smallest range that holds both.
    #[inline]
    pub fn join(&self, other: &Self) -> Self {
        // INVARIANT: Neither is empty.
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The smallest range that holds `self` and whose bounds are multiples of 2^`shift`; `None`
    /// when that runs past 2^64 − 1.
    pub fn align_out(&self, shift: u32) -> Option<Self> {
        let mask = 1u64.checked_shl(shift)?.wrapping_sub(1);
        let end = self.end.checked_add(mask)? & !mask;
        Self::between(self.start & !mask, end)
    }

    /// The largest range in `self` whose bounds are multiples of 2^`shift`; `None` when that is
    /// nothing.
    pub fn align_in(&self, shift: u32) -> Option<Self> {
        let mask = 1u64.checked_shl(shift)?.wrapping_sub(1);
        let start = self.start.checked_add(mask)? & !mask;
        Self::between(start, self.end & !mask)
    }

    /// The aligned block of 2^`shift` bytes that holds `address`; `None` when it runs past 2^64 −
    /// 1.
    pub fn block(address: u64, shift: u32) -> Option<Self> {
        let size = 1u64.checked_shl(shift)?;
        Self::new(address & !size.wrapping_sub(1), size)
    }

    /// Takes `next` in, when it begins in `self` or right behind it and so needs no range of its
    /// own.
    pub fn absorb(&mut self, next: &Self) -> bool {
        let joins = self.start <= next.start && next.start <= self.end;
        if joins {
            self.end = self.end.max(next.end);
        }
        joins
    }
}
