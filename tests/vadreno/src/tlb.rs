// SPDX-License-Identifier: GPL-2.0-only

//! A TLB that forgets only when told.
//!
//! Every translation and every table that a walk passed is kept until the invalidation that the
//! SMMU architecture requires for it has completed. Real TLBs forget at any time, which hides
//! missing invalidations; this one makes them show up as stale accesses.
//!
//! - A failed walk is not kept.
//! - An invalidation takes effect at the sync that follows it (TLBSYNC of the bank, or the global
//!   sTLBGSYNC): before that, the architecture promises nothing, so the old entries stay. Software
//!   that forgets the sync therefore fails here.
//! - Leaf entries are tagged with the ASID unless the descriptor is global. Table entries (the walk
//!   cache) are always tagged with the ASID. "Last level only" invalidations keep table entries.
//! - **CP_SMMU_TABLE_UPDATE** drops the entries of TTBR0's half which have the ASID that it loads,
//!   and nothing else. Linux gives every context of the GPU ASID 0 (`msm_iommu_pagetable_create()`)
//!   and writes no invalidation between two contexts, neither from the CPU nor with a packet
//!   (`a6xx_set_pagetable()`), so the firmware's packet has to separate them. Entries of other
//!   ASIDs stay, and entries of TTBR1's half stay, since the packet does not touch TTBR1.
//! - Losing power keeps the entries: after reset the contents of a TLB are unknown, and the SMMU
//!   driver invalidates before it enables a context bank (`arm_smmu_device_reset()`).

use crate::index::Pages;
use crate::walk::{shift, Leaf, Table, IOVA_MASK, LAST_LEVEL};
use std::collections::HashMap;

/// Entries that the TLB holds at most; when a guest manages to fill it, it is emptied.
const CAPACITY: usize = 1 << 21;

/// What an invalidation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// All that is tagged with the ASID.
    Asid(u16),
    /// The translation of an address, tagged with the ASID or global.
    Va {
        /// The ASID, or `None` for all.
        asid: Option<u16>,
        /// An address in the page.
        iova: u64,
        /// Table entries stay.
        last_level: bool,
    },
    /// TTBR0's half of an ASID (CP_SMMU_TABLE_UPDATE).
    LowerHalf(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    /// `None`: global.
    asid: Option<u16>,
    /// Address bits above what one entry of the level covers.
    page: u64,
}

impl Key {
    fn lower_half(&self, shift: u32) -> bool {
        self.page << shift <= IOVA_MASK >> 1
    }
}

/// The entries.
#[derive(Debug, Default)]
pub struct Tlb {
    /// By the level of the descriptor.
    leaves: [HashMap<Key, Leaf>; 4],
    /// By the level of the table.
    tables: [HashMap<Key, Table>; 4],
    /// What all of these lead to.
    pages: Pages,
}

/// Low bit of the addresses that share one table of `level`.
fn table_shift(level: u8) -> u32 {
    shift(level) + 9
}

impl Tlb {
    /// The leaf that translates `iova` for `asid`.
    pub fn leaf(&self, asid: u16, iova: u64) -> Option<Leaf> {
        (1..=LAST_LEVEL).rev().find_map(|level| {
            let leaves = &self.leaves[usize::from(level)];
            if leaves.is_empty() {
                return None;
            }
            let page = iova >> shift(level);
            [Some(asid), None]
                .into_iter()
                .find_map(|asid| leaves.get(&Key { asid, page }).copied())
        })
    }

    /// A leaf of a lower level than `level`, for a part of what an entry of `level` translates that
    /// holds `iova`.
    pub fn smaller_leaf(&self, asid: u16, iova: u64, level: u8) -> Option<Leaf> {
        let first = iova >> shift(level) << shift(level);
        (level + 1..=LAST_LEVEL).find_map(|lower| {
            let leaves = &self.leaves[usize::from(lower)];
            let page = first >> shift(lower);
            let pages = page..page + (1 << (shift(level) - shift(lower)));
            let found = |page| {
                [Some(asid), None]
                    .into_iter()
                    .find_map(|asid| leaves.get(&Key { asid, page }).copied())
            };
            (!leaves.is_empty()).then(|| pages.into_iter().find_map(found))?
        })
    }

    /// The lowest table on the way to `iova` for `asid`.
    pub fn table(&self, asid: u16, iova: u64) -> Option<Table> {
        (1..=LAST_LEVEL).rev().find_map(|level| {
            let key = Key {
                asid: Some(asid),
                page: iova >> table_shift(level),
            };
            self.tables[usize::from(level)].get(&key).copied()
        })
    }

    /// The leaves of an ASID, global ones included, by the first address that they translate.
    pub fn leaves(&self, asid: u16) -> impl Iterator<Item = (u64, Leaf)> + '_ {
        let levels = self.leaves.iter().enumerate();
        levels.flat_map(move |(level, leaves)| {
            leaves
                .iter()
                .filter(move |(key, _)| key.asid.is_none_or(|tag| tag == asid))
                .map(move |(key, leaf)| (key.page << shift(level as u8), *leaf))
        })
    }

    /// Keeps a leaf.
    pub fn keep_leaf(&mut self, asid: u16, iova: u64, leaf: Leaf) {
        self.make_room();
        let key = Key {
            asid: (!leaf.global()).then_some(asid),
            page: iova >> shift(leaf.level),
        };
        self.pages.add_leaf(leaf.level, leaf.pa(0));
        if let Some(old) = self.leaves[usize::from(leaf.level & 3)].insert(key, leaf) {
            self.pages.remove_leaf(old.level, old.pa(0));
        }
    }

    /// Keeps a table on the way to `iova`.
    pub fn keep_table(&mut self, asid: u16, iova: u64, table: Table) {
        let key = Key {
            asid: Some(asid),
            page: iova >> table_shift(table.level),
        };
        self.pages.add_table(table.pa);
        if let Some(old) = self.tables[usize::from(table.level & 3)].insert(key, table) {
            self.pages.remove_table(old.pa);
        }
    }

    /// Empties the TLB when it is full.
    fn make_room(&mut self) {
        let (leaves, tables) = self.count(None);
        if leaves + tables >= CAPACITY {
            self.invalidate(Scope::All);
        }
    }

    /// Forgets what `scope` names.
    pub fn invalidate(&mut self, scope: Scope) {
        match scope {
            Scope::All => *self = Self::default(),
            Scope::Asid(asid) => self.retain(|key, _| key.asid != Some(asid)),
            Scope::LowerHalf(asid) => {
                self.retain(|key, shift| key.asid != Some(asid) || !key.lower_half(shift));
            }
            Scope::Va {
                asid: Some(asid),
                iova,
                last_level,
            } => {
                for (level, leaves) in self.leaves.iter_mut().enumerate() {
                    let page = iova >> shift(level as u8);
                    for asid in [Some(asid), None] {
                        if let Some(leaf) = leaves.remove(&Key { asid, page }) {
                            self.pages.remove_leaf(leaf.level, leaf.pa(0));
                        }
                    }
                }
                if !last_level {
                    for (level, tables) in self.tables.iter_mut().enumerate() {
                        let removed = tables.remove(&Key {
                            asid: Some(asid),
                            page: iova >> table_shift(level as u8),
                        });
                        if let Some(table) = removed {
                            self.pages.remove_table(table.pa);
                        }
                    }
                }
            }
            Scope::Va {
                asid: None,
                iova,
                last_level,
            } => {
                let keep = |key: &Key, shift| key.page != iova >> shift;
                self.retain_leaves(keep);
                if !last_level {
                    self.retain_tables(keep);
                }
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&Key, u32) -> bool) {
        self.retain_leaves(&keep);
        self.retain_tables(&keep);
    }

    fn retain_leaves(&mut self, keep: impl Fn(&Key, u32) -> bool) {
        for (level, leaves) in self.leaves.iter_mut().enumerate() {
            leaves.retain(|key, leaf| {
                let keep = keep(key, shift(level as u8));
                if !keep {
                    self.pages.remove_leaf(leaf.level, leaf.pa(0));
                }
                keep
            });
        }
    }

    fn retain_tables(&mut self, keep: impl Fn(&Key, u32) -> bool) {
        for (level, tables) in self.tables.iter_mut().enumerate() {
            tables.retain(|key, table| {
                let keep = keep(key, table_shift(level as u8));
                if !keep {
                    self.pages.remove_table(table.pa);
                }
                keep
            });
        }
    }

    /// Number of leaf and of table entries, of one ASID (global ones left out) or of all.
    pub fn count(&self, asid: Option<u16>) -> (usize, usize) {
        fn of<V>(maps: &[HashMap<Key, V>; 4], asid: Option<u16>) -> usize {
            maps.iter()
                .map(|map| match asid {
                    None => map.len(),
                    some => map.keys().filter(|key| key.asid == some).count(),
                })
                .sum()
        }
        (of(&self.leaves, asid), of(&self.tables, asid))
    }

    /// What all entries lead to.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The first address for which the walk cache has a table that lies in the 4 KiB page at `pa`.
    pub fn find_table(&self, pa: u64) -> Option<u64> {
        self.tables.iter().enumerate().find_map(|(level, tables)| {
            tables
                .iter()
                .find(|(_, table)| table.pa & !0xfff == pa)
                .map(|(key, _)| key.page << table_shift(level as u8))
        })
    }

    /// The first address whose entry leads to the 4 KiB page at `pa`.
    pub fn find_page(&self, pa: u64) -> Option<u64> {
        self.leaves.iter().enumerate().find_map(|(level, leaves)| {
            leaves.iter().find_map(|(key, leaf)| {
                let iova = key.page << shift(level as u8);
                let offset = pa.wrapping_sub(leaf.pa(iova));
                (offset < leaf.size()).then(|| iova + offset)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOT_GLOBAL: u64 = 1 << 11;

    fn leaf(pa: u64) -> Leaf {
        Leaf {
            level: 3,
            desc: pa | NOT_GLOBAL | 0x403,
            read_only: false,
            privileged: false,
        }
    }

    fn table(level: u8, pa: u64) -> Table {
        Table {
            level,
            pa,
            read_only: false,
            privileged: false,
        }
    }

    const UPPER: u64 = 1 << 48;

    #[test]
    fn kept_by_asid() {
        let mut tlb = Tlb::default();
        tlb.keep_leaf(1, 0x1000, leaf(0x9000));
        assert_eq!(tlb.leaf(1, 0x1fff), Some(leaf(0x9000)));
        assert_eq!(tlb.leaf(2, 0x1000), None);
        assert_eq!(tlb.leaf(1, 0x2000), None);
        tlb.invalidate(Scope::Asid(2));
        assert_eq!(tlb.count(Some(1)), (1, 0));
        tlb.invalidate(Scope::Asid(1));
        assert_eq!(tlb.count(None), (0, 0));
    }

    #[test]
    fn global_entries_outlive_their_asid() {
        let mut tlb = Tlb::default();
        let global = Leaf {
            desc: 0x9403,
            ..leaf(0)
        };
        tlb.keep_leaf(1, 0x1000, global);
        assert_eq!(tlb.leaf(2, 0x1000), Some(global));
        tlb.invalidate(Scope::Asid(1));
        assert_eq!(tlb.leaf(2, 0x1000), Some(global));
        tlb.invalidate(Scope::Va {
            asid: Some(7),
            iova: 0x1000,
            last_level: true,
        });
        assert_eq!(tlb.leaf(2, 0x1000), None);
    }

    #[test]
    fn last_level_keeps_tables() {
        let mut tlb = Tlb::default();
        tlb.keep_leaf(1, 0x1000, leaf(0x9000));
        for level in 1..=3 {
            tlb.keep_table(1, 0x1000, table(level, u64::from(level) << 16));
        }
        tlb.invalidate(Scope::Va {
            asid: Some(1),
            iova: 0x1234,
            last_level: true,
        });
        assert_eq!(tlb.count(None), (0, 3));
        assert_eq!(tlb.table(1, 0x1f_f000), Some(table(3, 3 << 16)));
        assert_eq!(tlb.table(1, 0x20_0000), Some(table(2, 2 << 16)));
        tlb.invalidate(Scope::Va {
            asid: Some(1),
            iova: 0x1234,
            last_level: false,
        });
        assert_eq!(tlb.count(None), (0, 0));
    }

    #[test]
    fn block_goes_with_any_address_in_it() {
        let mut tlb = Tlb::default();
        let block = Leaf {
            level: 2,
            desc: 0x4020_0000 | NOT_GLOBAL | 0x401,
            read_only: false,
            privileged: false,
        };
        tlb.keep_leaf(0, 0x1234_5678, block);
        assert_eq!(tlb.leaf(0, 0x1220_0000), Some(block));
        assert_eq!(tlb.find_page(0x4021_0000), Some(0x1221_0000));
        tlb.invalidate(Scope::Va {
            asid: Some(0),
            iova: 0x123f_f000,
            last_level: true,
        });
        assert_eq!(tlb.leaf(0, 0x1234_5678), None);
    }

    #[test]
    fn context_switch_drops_the_lower_half_of_its_asid() {
        let mut tlb = Tlb::default();
        tlb.keep_leaf(0, 0x1000, leaf(0x9000));
        tlb.keep_table(0, 0x1000, table(3, 0xa000));
        tlb.keep_leaf(0, UPPER | 0x1000, leaf(0xb000));
        tlb.keep_table(0, UPPER | 0x1000, table(1, 0xc000));
        tlb.keep_leaf(5, 0x1000, leaf(0xd000));
        tlb.invalidate(Scope::LowerHalf(0));
        assert_eq!(tlb.leaf(0, 0x1000), None);
        assert_eq!(tlb.table(0, 0x1000), None);
        assert!(tlb.leaf(0, UPPER | 0x1000).is_some());
        assert!(tlb.table(0, UPPER | 0x1000).is_some());
        assert!(tlb.leaf(5, 0x1000).is_some());
    }

    #[test]
    fn all_asids_by_address() {
        let mut tlb = Tlb::default();
        tlb.keep_leaf(1, 0x1000, leaf(0x9000));
        tlb.keep_leaf(2, 0x1000, leaf(0xa000));
        tlb.keep_leaf(2, 0x2000, leaf(0xb000));
        tlb.keep_table(2, 0x2000, table(3, 0xc000));
        tlb.invalidate(Scope::Va {
            asid: None,
            iova: 0x1000,
            last_level: true,
        });
        assert_eq!(tlb.count(None), (1, 1));
    }

    proptest! {
        /// Whatever is kept is found until something that covers it is invalidated.
        #[test]
        fn keeps_until_told(
            kept in prop::collection::vec((0u16..4, 0u64..64, 0u64..64), 1..40),
            gone in prop::collection::vec((0u8..3, 0u16..4, 0u64..64), 0..10),
        ) {
            let mut tlb = Tlb::default();
            let mut model = std::collections::HashMap::new();
            for (asid, page, pa) in kept {
                tlb.keep_leaf(asid, page << 12, leaf(pa << 12));
                model.insert((asid, page), pa << 12);
            }
            for (what, asid, page) in gone {
                match what {
                    0 => {
                        tlb.invalidate(Scope::Asid(asid));
                        model.retain(|key, _| key.0 != asid);
                    }
                    1 => {
                        tlb.invalidate(Scope::Va {
                            asid: Some(asid),
                            iova: page << 12,
                            last_level: true,
                        });
                        model.remove(&(asid, page));
                    }
                    _ => {
                        tlb.invalidate(Scope::Va {
                            asid: None,
                            iova: page << 12,
                            last_level: false,
                        });
                        model.retain(|key, _| key.1 != page);
                    }
                }
            }
            for asid in 0..4 {
                for page in 0..64 {
                    prop_assert_eq!(
                        tlb.leaf(asid, page << 12).map(|leaf| leaf.pa(page << 12)),
                        model.get(&(asid, page)).copied()
                    );
                }
            }
        }
    }
}
