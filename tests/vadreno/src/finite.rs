// SPDX-License-Identifier: GPL-2.0-only

//! How often a TLB of limited size would have to walk.
//!
//! [`crate::tlb`] keeps everything, so that it misses no invalidation; hardware can't. This one only
//! counts: for what jobs access, the walks that hardware would make and the descriptors that they
//! read. MMU-500 leaves its sizes to the SoC, and no Adreno's are published: [`LEAVES`] and
//! [`TABLES`] are ours, to compare page tables with each other, and not to tell how fast hardware
//! is.

use crate::tlb::Scope;
use crate::walk::{shift, Leaf, LAST_LEVEL};
use lru::LruCache;
use std::num::NonZeroUsize;

/// Translations that are kept, of pages or blocks alike.
pub const LEAVES: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Tables that are kept, as a walk cache.
pub const TABLES: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// An ASID, a level, and the address bits above what an entry covers.
type Key = (u16, u8, u64);

/// The entries, each kind with the least recently used first to go.
#[derive(Debug)]
pub struct Finite {
    leaves: LruCache<Key, ()>,
    tables: LruCache<Key, ()>,
}

impl Default for Finite {
    fn default() -> Self {
        Self {
            leaves: LruCache::new(LEAVES),
            tables: LruCache::new(TABLES),
        }
    }
}

impl Finite {
    /// A job accesses `iova`, which `leaf` translates; walks begin in a table of level `root`.
    /// Returns how many descriptors the walk reads, 0 if there is none.
    pub fn access(&mut self, asid: u16, iova: u64, leaf: &Leaf, root: u8) -> u64 {
        let kept = (1..=LAST_LEVEL).any(|level| {
            let key = (asid, level, iova >> shift(level));
            self.leaves.get(&key).is_some()
        });
        if kept {
            return 0;
        }
        let table = |level: u8| (asid, level, iova >> (shift(level) + 9));
        let below_root = root + 1..=leaf.level;
        let first = below_root
            .clone()
            .rev()
            .find(|level| self.tables.get(&table(*level)).is_some())
            .unwrap_or(root);
        for level in below_root {
            self.tables.put(table(level), ());
        }
        let key = (asid, leaf.level, iova >> shift(leaf.level));
        self.leaves.put(key, ());
        u64::from(leaf.level - first) + 1
    }

    /// Forgets at least what `scope` names.
    pub fn invalidate(&mut self, scope: Scope) {
        if let Scope::Va {
            asid: Some(asid),
            iova,
            last_level: true,
        } = scope
        {
            for level in 1..=LAST_LEVEL {
                self.leaves.pop(&(asid, level, iova >> shift(level)));
            }
        } else {
            self.leaves.clear();
            self.tables.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(level: u8) -> Leaf {
        Leaf {
            level,
            desc: 0,
            read_only: false,
            privileged: false,
        }
    }

    const PAGE: u64 = 4096;

    #[test]
    fn upper_tables_are_read_once() {
        let mut tlb = Finite::default();
        assert_eq!(tlb.access(1, 0, &leaf(3), 0), 4);
        assert_eq!(tlb.access(1, 8, &leaf(3), 0), 0);
        assert_eq!(tlb.access(1, PAGE, &leaf(3), 0), 1);
        assert_eq!(tlb.access(1, 512 * PAGE, &leaf(3), 0), 2);
        assert_eq!(tlb.access(1, 1024 * PAGE, &leaf(2), 0), 1);
        assert_eq!(tlb.access(1, 1500 * PAGE, &leaf(2), 0), 0);
        assert_eq!(tlb.access(2, 0, &leaf(3), 0), 4, "another ASID");
    }

    #[test]
    fn a_sweep_that_is_larger_than_it_misses_always() {
        let mut tlb = Finite::default();
        let pages = LEAVES.get() as u64 + 1;
        let sweep = |tlb: &mut Finite| {
            let misses = (0..pages).filter(|page| tlb.access(1, page * PAGE, &leaf(3), 1) > 0);
            misses.count() as u64
        };
        assert_eq!(sweep(&mut tlb), pages);
        assert_eq!(sweep(&mut tlb), pages);
        let blocks = pages.div_ceil(512);
        let mut tlb = Finite::default();
        let walks =
            (0..2 * pages).filter(|page| tlb.access(1, page % pages * PAGE, &leaf(2), 1) > 0);
        assert_eq!(walks.count() as u64, blocks);
    }

    #[test]
    fn invalidated() {
        let mut tlb = Finite::default();
        let all = [
            Scope::All,
            Scope::Asid(1),
            Scope::LowerHalf(1),
            Scope::Va {
                asid: Some(1),
                iova: 0,
                last_level: false,
            },
        ];
        for scope in all {
            tlb.access(1, 0, &leaf(3), 0);
            tlb.invalidate(scope);
            assert_eq!(tlb.access(1, 0, &leaf(3), 0), 4, "{scope:?}");
        }
        tlb.invalidate(Scope::Va {
            asid: Some(1),
            iova: 0,
            last_level: true,
        });
        assert_eq!(tlb.access(1, 0, &leaf(3), 0), 1);
    }
}
