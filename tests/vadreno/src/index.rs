// SPDX-License-Identifier: GPL-2.0-only

//! Which pages the tables lead to, kept from one question to the next.
//!
//! A page that the guest frees has to be looked up in all tables, as they are at that moment, and a
//! guest frees pages by the ten thousand. So the content of each table is kept with what follows
//! from it: [`Index::refresh`] walks all tables again but decodes only those that have changed
//! since.

use crate::walk::{shift, step, Regime, Step, Table, Tables, LAST_LEVEL};
use std::collections::HashMap;

const TABLE_SIZE: usize = 4096;

/// How often a page, or a block, is led to.
#[derive(Debug, Default)]
struct Counts(HashMap<u64, u32>);

impl Counts {
    fn add(&mut self, page: u64) {
        *self.0.entry(page).or_default() += 1;
    }

    fn remove(&mut self, page: u64) {
        if let Some(count) = self.0.get_mut(&page) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&page);
            }
        }
    }
}

/// Pages by the ways that lead to them: from leaves of any level, and tables.
#[derive(Debug, Default)]
pub struct Pages {
    /// By the leaf's level.
    leaves: [Counts; 4],
    tables: Counts,
}

impl Pages {
    /// Counts a leaf of `level` whose memory starts at `pa`.
    pub fn add_leaf(&mut self, level: u8, pa: u64) {
        self.leaves[usize::from(level & 3)].add(pa >> shift(level));
    }

    /// Undoes [`Self::add_leaf`].
    pub fn remove_leaf(&mut self, level: u8, pa: u64) {
        self.leaves[usize::from(level & 3)].remove(pa >> shift(level));
    }

    /// Counts a way into the table at `pa`.
    pub fn add_table(&mut self, pa: u64) {
        self.tables.add(pa >> 12);
    }

    /// Undoes [`Self::add_table`].
    pub fn remove_table(&mut self, pa: u64) {
        self.tables.remove(pa >> 12);
    }

    /// Whether a leaf leads to the 4 KiB page at `pa`.
    pub fn has_leaf(&self, pa: u64) -> bool {
        (1..=LAST_LEVEL).any(|level| {
            let counts = &self.leaves[usize::from(level)].0;
            !counts.is_empty() && counts.contains_key(&(pa >> shift(level)))
        })
    }

    /// Whether a table lies in the 4 KiB page at `pa`.
    pub fn has_table(&self, pa: u64) -> bool {
        self.tables.0.contains_key(&(pa >> 12))
    }
}

/// A table as it was when it was last looked at.
#[derive(Debug)]
struct Kept {
    content: Box<[u8; TABLE_SIZE]>,
    below: Vec<Table>,
    /// First addresses of what its leaves map.
    leaves: Vec<u64>,
    /// The last refresh that came by.
    round: u64,
}

/// What is known of the tables.
#[derive(Debug, Default)]
pub struct Index {
    tables: HashMap<(u8, u64), Kept>,
    pages: Pages,
    round: u64,
}

impl Index {
    /// What the tables led to when they were last looked at.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Brings everything up to date with the tables of `regimes`, and returns it.
    pub fn refresh(
        &mut self,
        memory: &impl Tables,
        regimes: impl Iterator<Item = Regime>,
    ) -> &Pages {
        self.round += 1;
        let mut buf = [0; TABLE_SIZE];
        let mut todo: Vec<_> = regimes
            .filter_map(|regime| Some((regime.root(regime.base()).ok()?, regime.root_entries())))
            .collect();
        while let Some((table, entries)) = todo.pop() {
            let pages = &mut self.pages;
            let kept = self
                .tables
                .entry((table.level, table.pa))
                .or_insert_with(|| {
                    pages.add_table(table.pa);
                    Kept {
                        content: Box::new([0; TABLE_SIZE]),
                        below: Vec::new(),
                        leaves: Vec::new(),
                        round: 0,
                    }
                });
            if kept.round == self.round {
                continue;
            }
            kept.round = self.round;
            let buf = &mut buf[..entries as usize * 8];
            if memory.copy(table.pa, buf).is_none() {
                buf.fill(0);
            }
            if kept.content[..buf.len()] != *buf {
                kept.content[..buf.len()].copy_from_slice(buf);
                decode(table, kept, buf, &mut self.pages);
            }
            todo.extend(kept.below.iter().map(|table| (*table, 512)));
        }
        let (round, pages) = (self.round, &mut self.pages);
        self.tables.retain(|(level, pa), kept| {
            let stays = kept.round == round;
            if !stays {
                pages.remove_table(*pa);
                kept.leaves
                    .iter()
                    .for_each(|leaf| pages.remove_leaf(*level, *leaf));
            }
            stays
        });
        &self.pages
    }
}

fn decode(table: Table, kept: &mut Kept, content: &[u8], pages: &mut Pages) {
    for leaf in kept.leaves.drain(..) {
        pages.remove_leaf(table.level, leaf);
    }
    kept.below.clear();
    for bytes in content.chunks_exact(8) {
        let desc = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        match step(desc, table) {
            Ok(Step::Down(below)) => kept.below.push(below),
            Ok(Step::Leaf(leaf)) => {
                kept.leaves.push(leaf.pa(0));
                pages.add_leaf(table.level, leaf.pa(0));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{visit_all, Item};
    use proptest::prelude::*;

    const VALID: u64 = 3;
    const LEAF: u64 = 0xc03;

    /// Eight pages of memory from 0 on.
    struct Small(Vec<u64>);

    impl Tables for Small {
        fn descriptor(&self, pa: u64) -> Option<u64> {
            self.0.get(usize::try_from(pa / 8).ok()?).copied()
        }
    }

    fn lower(ttbr: u64) -> Regime {
        Regime {
            ttbr,
            tsz: 16,
            upper: false,
            granule_4k: true,
            disabled: false,
        }
    }

    #[test]
    fn follows_changes() {
        let mut memory = Small(vec![0; 8 * 512]);
        let mut index = Index::default();
        for (at, desc) in [
            (0, 0x1000 | VALID),
            (512, 0x2000 | VALID),
            (1024, 0x3000 | VALID),
            (1536 + 7, 0x9000 | LEAF),
        ] {
            memory.0[at] = desc;
        }
        let pages = index.refresh(&memory, [lower(0)].into_iter());
        assert!(pages.has_leaf(0x9000) && !pages.has_leaf(0xa000));
        assert!((0..4).all(|page| pages.has_table(page << 12)));
        assert!(!pages.has_table(0x4000));

        memory.0[1536 + 7] = 0xa000 | LEAF;
        let pages = index.refresh(&memory, [lower(0)].into_iter());
        assert!(!pages.has_leaf(0x9000) && pages.has_leaf(0xa000));

        // The last table is unlinked: what it says doesn't count.
        memory.0[1024] = 0;
        let pages = index.refresh(&memory, [lower(0)].into_iter());
        assert!(!pages.has_leaf(0xa000) && !pages.has_table(0x3000));

        // A block; and no regime at all.
        memory.0[1024] = 0x20_0000 | 0xc01;
        let pages = index.refresh(&memory, [lower(0)].into_iter());
        assert!(pages.has_leaf(0x20_0000) && pages.has_leaf(0x3f_f000));
        let pages = index.refresh(&memory, std::iter::empty());
        assert!(!pages.has_leaf(0x20_0000) && !pages.has_table(0));
    }

    /// All of a small memory's descriptors: tables and leaves anywhere, loops too.
    fn descriptor() -> impl Strategy<Value = u64> {
        prop_oneof![
            8 => Just(0),
            3 => (0u64..8).prop_map(|page| (page << 12) | VALID),
            3 => (0u64..16).prop_map(|page| (page << 12) | LEAF),
            1 => (0u64..3).prop_map(|block| (block << 21) | 0xc01),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_whole_visit(
            steps in prop::collection::vec((0usize..8 * 512, descriptor()), 1..400),
            roots in prop::collection::vec(0u64..8, 1..3),
        ) {
            let mut memory = Small(vec![0; 8 * 512]);
            let mut index = Index::default();
            for steps in steps.chunks(20) {
                for (at, desc) in steps {
                    // Low entries, so that tables meet.
                    memory.0[(at & !0x1f8) | (at & 7)] = *desc;
                }
                let regimes = || roots.iter().map(|root| lower(root << 12));
                let pages = index.refresh(&memory, regimes());
                let (mut leaves, mut tables) = (Vec::new(), Vec::new());
                for regime in regimes() {
                    visit_all(&memory, &regime, |item| match item {
                        Item::Table(table) => tables.push(table.pa),
                        Item::Leaf(iova, leaf) => leaves.push((leaf.pa(iova), leaf.size())),
                    });
                }
                for page in (0..0x80_0000).step_by(4096) {
                    let leaf = leaves
                        .iter()
                        .any(|(pa, size)| page - (*pa).min(page) < *size && *pa <= page);
                    prop_assert_eq!(pages.has_leaf(page), leaf, "page {:#x}", page);
                    prop_assert_eq!(pages.has_table(page), tables.contains(&page));
                }
            }
        }
    }
}
