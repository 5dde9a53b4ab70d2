// SPDX-License-Identifier: GPL-2.0-only

//! Sets of address ranges as sorted slices.
//!
//! A *set* is a slice of [`VaRange`]s that is sorted by address and in which no two ranges overlap
//! or touch. [`sort_merge`] makes one in place out of any slice; the other functions take sets.
//! Nothing here allocates.

use crate::gpuvm_rs::range::VaRange;

/// Makes a set of `ranges`, in place, and returns it: the first part of the slice. What is behind
/// it is left over and means nothing. O(n log n), and O(n) when already sorted.
pub fn sort_merge(ranges: &mut [VaRange]) -> &mut [VaRange] {
    let len = sort_merge_by(ranges, VaRange::addr, VaRange::absorb);
    ranges.get_mut(..len).unwrap_or_default()
}

/// Sorts `items` by `key`, in place, and joins each into the one before it if that can `absorb` it.
/// Returns how many are left; what is behind them means nothing.
#[inline]
pub fn sort_merge_by<T: Copy, K: Ord>(
    items: &mut [T],
    key: impl Fn(&T) -> K,
    absorb: impl Fn(&mut T, &T) -> bool,
) -> usize {
    if items.len() < 2 {
        return items.len();
    }
    items.sort_unstable_by_key(key);
    let mut last = 0usize;
    let mut from = 1usize;
    while let Some(&next) = items.get(from) {
        from = from.wrapping_add(1);
        if items.get_mut(last).is_some_and(|last| absorb(last, &next)) {
            continue;
        }
        last = last.wrapping_add(1);
        if let Some(place) = items.get_mut(last) {
            *place = next;
        }
    }
    last.saturating_add(1)
}

/// Whether the sets `a` and `b` have a byte in common.
///
/// Sets that lie apart are told by their bounds alone. Otherwise each step leaps over all ranges of
/// one set that end before the other's next range, in O(log of their number): cheap when one set is
/// small, linear at worst.
pub fn overlap(mut a: &[VaRange], mut b: &[VaRange]) -> bool {
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
        if x.addr() < y.addr() {
            a = skip_to(a, y.addr());
        } else {
            b = skip_to(b, x.addr());
        }
    }
    false
}

/// The smallest range that holds the whole set.
pub fn hull(set: &[VaRange]) -> Option<VaRange> {
    VaRange::between(set.first()?.addr(), set.last()?.end())
}

/// `set` without the ranges that end at or before `address`.
fn skip_to(set: &[VaRange], address: u64) -> &[VaRange] {
    let before = |range: &VaRange| range.end() <= address;
    // Gallop: double the stride until it lands behind `address`, then search only in the last
    // stride.
    let mut step = 1usize;
    while set.get(step).is_some_and(before) {
        step = step.saturating_mul(2);
    }
    let near = set.get(..step).unwrap_or(set);
    set.get(near.partition_point(before)..).unwrap_or_default()
}

/// How many distinct aligned blocks of 2^`shift` bytes a set touches.
///
/// The number of blocks below 2^64 is at most 2^64, and no range reaches the last byte, so it can't
/// overflow.
#[allow(dead_code, reason = "`tests/pure` uses it")]
pub fn count_blocks(set: &[VaRange], shift: u32) -> u64 {
    let block = |address: u64| address.checked_shr(shift).unwrap_or(0);
    let mut count = 0u64;
    let mut uncounted = 0u64;
    for range in set {
        let first = block(range.addr()).max(uncounted);
        let end = block(range.last()).saturating_add(1);
        count = count.saturating_add(end.saturating_sub(first));
        uncounted = end.max(uncounted);
    }
    count
}
