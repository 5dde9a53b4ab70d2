// SPDX-License-Identifier: GPL-2.0-only

//! The shrinker's stages and its surplus.

use proptest::{collection::vec, prelude::*};
use pure::stages::{Fate, Freed, Horizon, LastUse, Request, Surplus, PASSES, STAGES};

#[test]
fn cheap_before_expensive() {
    for (i, a) in STAGES.iter().enumerate() {
        for b in STAGES.iter().skip(i + 1) {
            assert!(!a.waits || b.waits, "{a:?} before {b:?}");
            assert!(
                a.waits != b.waits || (a.fate, b.fate) == (Fate::Purge, Fate::Swap),
                "{a:?} before {b:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_request_allows_what_it_says(may_swap: bool, may_wait: bool) {
        let request = Request { pages: 1, may_swap, may_wait };
        for stage in STAGES {
            let allowed = request.allows(stage);
            let swaps = may_swap || stage.fate != Fate::Swap;
            prop_assert_eq!(allowed, swaps && (may_wait || !stage.waits));
        }
    }

    #[test]
    fn freed_adds_up(pages in any::<[u32; 4]>()) {
        let freed = Freed(pages.map(u64::from));
        prop_assert_eq!(freed.by(Fate::Purge) + freed.by(Fate::Swap), freed.total());
        prop_assert_eq!(freed.by(Fate::Swap), u64::from(pages[1]) + u64::from(pages[3]));
    }

    /// Requests for a few pages each, served from objects that go whole: never less than was asked
    /// for in all, never more than one object above it.
    #[test]
    fn no_more_than_one_object_too_much(requests in vec(1u64..200, 1..100), object in 1u64..5000) {
        let surplus = Surplus::new();
        let (mut asked, mut swapped) = (0, 0);
        for pages in requests {
            let wanted = pages - surplus.pay(pages);
            let freed = wanted.div_ceil(object) * object;
            surplus.add(freed - wanted);
            asked += pages;
            swapped += freed;
            prop_assert!(swapped >= asked);
            prop_assert!(swapped < asked + object);
        }
    }

    /// What was used longest ago goes first, and passes end: with everything if need be.
    #[test]
    fn oldest_first(mut used in vec(0u64..1000, 1..60), limit in 0u64..1000, wanted in 1usize..60) {
        const NOW: u64 = 1000;
        let mut horizon = Horizon::new(LastUse(limit));
        // How late a pass may take what was used.
        let (mut latest, mut taken, mut passes) = (limit, 0, 0);
        loop {
            passes += 1;
            let mut left = Vec::new();
            for time in used.drain(..) {
                if taken < wanted && !horizon.leaves(LastUse(time)) {
                    prop_assert!(time <= latest, "{} in pass {}", time, passes);
                    taken += 1;
                } else {
                    left.push(time);
                }
            }
            used = left;
            let Some(next) = (taken < wanted).then(|| horizon.next(LastUse(NOW))).flatten() else {
                break;
            };
            horizon = next;
            let oldest = used.iter().copied().min().expect("a next pass is for what is left");
            latest = match passes {
                1 => oldest + (NOW - oldest) / 8,
                2 => oldest + (NOW - oldest) / 2,
                _ => NOW,
            };
        }
        prop_assert!(passes <= PASSES);
        prop_assert!(taken == wanted || used.is_empty());
    }

    /// What a pass for anything took says nothing of when the rest was used.
    #[test]
    fn no_limit_of_a_pass_for_anything(used in 1u64..1000) {
        prop_assert_eq!(Horizon::none().limit(), None);
        prop_assert!(!Horizon::none().leaves(LastUse(used)));
        let mut horizon = Horizon::new(LastUse(0));
        for _ in 1..PASSES {
            horizon.leaves(LastUse(used));
            horizon = match horizon.next(LastUse(1000)) {
                Some(next) => next,
                None => break,
            };
        }
        prop_assert!(horizon.next(LastUse(1000)).is_none());
    }
}
