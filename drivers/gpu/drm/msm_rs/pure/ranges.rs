// SPDX-License-Identifier: GPL-2.0-only

//! Sets of address ranges as sorted slices.
//!
//! A *set* is a slice of [`Range`]s that is sorted by address and in which no two ranges overlap or touch.
//! [`sort_merge`] makes one in place out of any slice; the other functions take sets. Nothing here allocates.

use core::ops::Deref;

/// A half-open, never empty range of addresses, in bytes.
///
/// # Invariants
///
/// `start < end`. So a range that ends at 2^64 can't be expressed; no address space of ours reaches that far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    start: u64,
    end: u64,
}

impl Range {
    /// The `len` bytes from `start`; `None` when that is nothing or runs past 2^64 − 1.
    #[inline]
    pub const fn new(start: u64, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Self::between(start, end),
            None => None,
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
    pub const fn start(&self) -> u64 {
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
    pub const fn size(&self) -> u64 {
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

    /// The bytes that both have.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end.min(other.end))
    }

    /// The smallest range that holds `self` and whose bounds are multiples of 2^`shift`; `None` when that runs past
    /// 2^64 − 1.
    pub fn align_out(&self, shift: u32) -> Option<Self> {
        let mask = 1u64.checked_shl(shift)?.wrapping_sub(1);
        let end = self.end.checked_add(mask)? & !mask;
        Self::between(self.start & !mask, end)
    }

    /// The aligned block of 2^`shift` bytes that holds `address`; `None` when it runs past 2^64 − 1.
    pub fn block(address: u64, shift: u32) -> Option<Self> {
        let size = 1u64.checked_shl(shift)?;
        Self::new(address & !size.wrapping_sub(1), size)
    }

    /// Takes `next` in, when it begins in `self` or right behind it and so needs no range of its own.
    pub fn absorb(&mut self, next: &Self) -> bool {
        let joins = self.start <= next.start && next.start <= self.end;
        if joins {
            self.end = self.end.max(next.end);
        }
        joins
    }
}

/// A growable list of ranges that the caller provides, as this code can't allocate.
pub trait RangeBuf: Deref<Target = [Range]> {
    /// Why a list couldn't grow.
    type Error;

    /// Appends `range`. On an error the list is as it was.
    fn push(&mut self, range: Range) -> Result<(), Self::Error>;

    /// The ranges from index `from` on, to change in place. None when the list is shorter than that.
    fn tail_mut(&mut self, from: usize) -> &mut [Range];

    /// Forgets all ranges from index `len` on.
    fn truncate(&mut self, len: usize);
}

/// Makes a set of `ranges`, in place, and returns it: the first part of the slice. What is behind it is left over and
/// means nothing. O(n log n), and O(n) when already sorted.
pub fn sort_merge(ranges: &mut [Range]) -> &mut [Range] {
    ranges.sort_unstable_by_key(|range| range.start);

    let mut len = 0usize;
    for from in 0..ranges.len() {
        let Some(&next) = ranges.get(from) else {
            break;
        };
        let joined = match len.checked_sub(1).and_then(|last| ranges.get_mut(last)) {
            Some(last) => last.absorb(&next),
            None => false,
        };
        if !joined {
            if let Some(place) = ranges.get_mut(len) {
                *place = next;
                len = len.wrapping_add(1);
            }
        }
    }
    ranges.get_mut(..len).unwrap_or_default()
}

/// Whether the sets `a` and `b` have a byte in common.
///
/// Sets that lie apart are told by their bounds alone. Otherwise each step leaps over all ranges of one set that end
/// before the other's next range, in O(log of their number): cheap when one set is small, linear at worst.
pub fn overlap(mut a: &[Range], mut b: &[Range]) -> bool {
    let (Some(a_hull), Some(b_hull)) = (hull(a), hull(b)) else {
        return false;
    };
    if !a_hull.overlaps(&b_hull) {
        return false;
    }
    while let (Some(x), Some(y)) = (a.first(), b.first()) {
        if x.overlaps(y) {
            return true;
        }
        if x.start < y.start {
            a = skip_to(a, y.start);
        } else {
            b = skip_to(b, x.start);
        }
    }
    false
}

/// The smallest range that holds the whole set.
pub fn hull(set: &[Range]) -> Option<Range> {
    Range::between(set.first()?.start, set.last()?.end)
}

/// `set` without the ranges that end at or before `address`.
fn skip_to(set: &[Range], address: u64) -> &[Range] {
    let before = |range: &Range| range.end <= address;
    // Gallop: double the stride until it lands behind `address`, then search only in the last stride.
    let mut step = 1usize;
    while set.get(step).is_some_and(before) {
        step = step.saturating_mul(2);
    }
    let near = set.get(..step).unwrap_or(set);
    set.get(near.partition_point(before)..).unwrap_or_default()
}

/// How many distinct aligned blocks of 2^`shift` bytes a set touches.
///
/// The number of blocks below 2^64 is at most 2^64, and no range reaches the last byte, so it can't overflow.
pub fn count_blocks(set: &[Range], shift: u32) -> u64 {
    let block = |address: u64| address.checked_shr(shift).unwrap_or(0);
    let mut count = 0u64;
    let mut uncounted = 0u64;
    for range in set {
        let first = block(range.start).max(uncounted);
        let end = block(range.last()).saturating_add(1);
        count = count.saturating_add(end.saturating_sub(first));
        uncounted = end.max(uncounted);
    }
    count
}
