// SPDX-License-Identifier: GPL-2.0-only

//! Sets of ranges against sets of addresses.

use proptest::{collection::vec, prelude::*};
use pure::{gpuvm_rs::range::VaRange, pure::ranges};
use std::collections::BTreeSet;

/// Ranges of small addresses, which meet often.
fn some_ranges() -> impl Strategy<Value = Vec<VaRange>> {
    let range = (0u64..200, 1u64..20).prop_filter_map("empty", |(at, len)| VaRange::new(at, len));
    vec(range, 0..12)
}

fn addresses(list: &[VaRange]) -> BTreeSet<u64> {
    list.iter().flat_map(|r| r.addr()..r.end()).collect()
}

proptest! {
    #[test]
    fn merging_keeps_the_addresses(mut list in some_ranges()) {
        let all = addresses(&list);
        let set = ranges::sort_merge(&mut list);
        prop_assert_eq!(addresses(set), all);
        for (a, b) in set.iter().zip(set.iter().skip(1)) {
            prop_assert!(a.end() < b.addr(), "{:?} meets {:?}", a, b);
        }
    }

    #[test]
    fn overlap_is_a_common_address(mut a in some_ranges(), mut b in some_ranges()) {
        let common = !addresses(&a).is_disjoint(&addresses(&b));
        let (a, b) = (ranges::sort_merge(&mut a), ranges::sort_merge(&mut b));
        prop_assert_eq!(ranges::overlap(a, b), common);
        prop_assert_eq!(ranges::overlap(b, a), common);
    }

    #[test]
    fn blocks_are_counted_once(mut list in some_ranges(), shift in 0u32..7) {
        let blocks: BTreeSet<u64> = addresses(&list).iter().map(|a| a >> shift).collect();
        let merged = ranges::sort_merge(&mut list);
        prop_assert_eq!(ranges::count_blocks(merged, shift), blocks.len() as u64);
    }

    #[test]
    fn ranges_dont_wrap(start: u64, len: u64) {
        let valid = len != 0 && start.checked_add(len).is_some();
        let range = VaRange::new(start, len).map(|r| (r.addr(), r.len()));
        prop_assert_eq!(range, valid.then_some((start, len)));
    }
}
