// SPDX-License-Identifier: GPL-2.0-only

//! The VM log's ring against a list that forgets nothing.

use proptest::prelude::*;
use pure::pure::log_ring::LogRing;

proptest! {
    #[test]
    fn keeps_the_newest(
        capacity in 0usize..20,
        entries in prop::collection::vec(any::<u32>(), 0..80),
    ) {
        let mut ring = LogRing::new(vec![0u32; capacity]);
        for (n, &entry) in entries.iter().enumerate() {
            prop_assert_eq!(ring.next(), n as u64);
            prop_assert_eq!(ring.push(entry), n as u64);
        }
        let lost = entries.len().saturating_sub(capacity);
        prop_assert_eq!(ring.capacity(), capacity);
        prop_assert_eq!(ring.len(), entries.len() - lost);
        prop_assert_eq!(ring.is_empty(), entries.len() == lost);
        prop_assert_eq!(ring.lost(), lost as u64);
        let kept = entries.get(lost..).unwrap_or_default();
        prop_assert_eq!(ring.iter().copied().collect::<Vec<_>>(), kept);
    }

    #[test]
    fn entries_are_completed_by_number(
        capacity in 0usize..20,
        count in 0u64..80,
        number in 0u64..100,
    ) {
        let mut ring = LogRing::new(vec![(0u64, false); capacity]);
        for n in 0..count {
            ring.push((n, false));
        }
        let there = number < count && number >= count.saturating_sub(capacity as u64);
        match ring.get_mut(number) {
            Some(entry) => {
                prop_assert!(there);
                prop_assert_eq!(*entry, (number, false));
                entry.1 = true;
            }
            None => prop_assert!(!there),
        }
        prop_assert_eq!(ring.iter().filter(|e| e.1).count(), usize::from(there));
    }
}
