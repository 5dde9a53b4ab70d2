// SPDX-License-Identifier: GPL-2.0-only

//! Pages that the guest gives back: does anything still lead there?
//!
//! The glue module in the guest asks whenever pages are freed, see [`vadreno_ctl::freed`]. Looked
//! through are
//!
//! - the tables of each TTBR0 that the CP has loaded ([`Watch`]), and of each TTBR0 and TTBR1 that
//!   the CPU has loaded into a context bank, whether it is loaded now or not, until it switches
//!   that bank off, as it does before it frees the tables of a domain;
//! - the TLB with its walk cache, while the SMMU translates. When it has lost power it begins with
//!   an invalidation. While the GPU has no power nobody uses the TLB: what is freed then may be in
//!   it, until the CP is started again.
//!
//! A root that is freed ends its tables: nobody can load them again, so they don't count any more.

use crate::index::Index;
use crate::tlb::Tlb;
use crate::walk::{visit_all, visit_from, Item, Regime, Table, Tables};
use crate::watch::Watch;
use std::collections::HashSet;
use vadreno_ctl::freed::TABLE_IN_TLB;
use vadreno_ctl::watch::{BY_TABLE, BY_TLB, IS_TABLE};

/// A page that was given back though something leads there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Its physical address.
    pub page: u64,
    /// Bits of [`vadreno_ctl::freed::HOW`].
    pub how: u64,
    /// An address that leads there, if it isn't a table that tables lead to.
    pub iova: u64,
    /// The root of that address; 0 for the TLB.
    pub ttbr0: u64,
}

/// Pages in a row, as the allocator has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Where they start.
    pub pa: u64,
    /// Their number as a power of two.
    pub order: u32,
}

/// What walkers can use at the moment of a question.
#[derive(Debug)]
pub struct Hardware<'a> {
    /// The TLB, if it is in use.
    pub tlb: Option<&'a Tlb>,
    /// Whether the client, the GPU or the display, has power.
    pub client_on: bool,
    /// What is loaded into the context banks.
    pub loaded: &'a [Regime],
    /// Roots that the CP is going to load.
    pub pending: &'a [u64],
}

/// What is known beside the contexts of the page watch.
#[derive(Debug, Default)]
pub struct Freed {
    /// Where the guest puts its lists.
    pub list: u64,
    /// Tables may be freed while a table leads there, if no leaf is below them, and a root while it
    /// is loaded.
    pub lenient: bool,
    /// Pages that were asked about.
    pub checked: u64,
    /// Roots that were freed while they were loaded.
    pub dead_roots: u64,
    /// Tables that were let pass since [`Self::lenient`].
    pub bare_tables: u64,
    /// The last finding.
    pub finding: Finding,
    /// What the CPU has loaded.
    loaded: Vec<Regime>,
    /// Roots that were freed since the CP loaded them last. A bank may have them still, and the
    /// kernel may load them again.
    dead: HashSet<u64>,
    /// Pages that were freed while the GPU had no power, and to which the TLB leads.
    left: HashSet<u64>,
    /// Tables that were let pass since a root was freed. What is written there isn't descriptors
    /// any more.
    passed: HashSet<u64>,
    index: Index,
}

/// The page that holds the root.
fn root_page(regime: &Regime) -> Option<u64> {
    let root = regime.root(regime.base()).ok()?;
    Some(root.pa & !0xfff)
}

impl Freed {
    /// The CPU has loaded these tables.
    pub fn load(&mut self, regime: Regime) {
        let same = |known: &&Regime| known.ttbr == regime.ttbr && known.upper == regime.upper;
        if regime.ttbr != 0
            && root_page(&regime).is_some_and(|page| !self.dead.contains(&page))
            && self.loaded.iter().find(same) != Some(&regime)
        {
            self.unload(&regime);
            self.loaded.push(regime);
        }
    }

    /// The CPU has switched off a bank with these tables.
    pub fn unload(&mut self, regime: &Regime) {
        self.loaded
            .retain(|known| known.ttbr != regime.ttbr || known.upper != regime.upper);
    }

    /// The CP has loaded these tables: what was freed before is somebody's root again.
    pub fn switch(&mut self, regime: &Regime) {
        if let Some(page) = root_page(regime) {
            self.dead.remove(&page);
        }
    }

    /// All tables that a walker may be sent to.
    fn regimes(&self, watch: &Watch, hardware: &Hardware<'_>) -> Vec<Regime> {
        let loaded = hardware.loaded.iter().filter(|regime| {
            regime.ttbr != 0 && root_page(regime).is_some_and(|page| !self.dead.contains(&page))
        });
        let mut all: Vec<Regime> = Vec::new();
        for regime in watch.known().chain(&self.loaded).chain(loaded) {
            if !all
                .iter()
                .any(|known| known.ttbr == regime.ttbr && known.upper == regime.upper)
            {
                all.push(*regime);
            }
        }
        all
    }

    /// The blocks are given back. Returns the first one's number to which something leads.
    pub fn check(
        &mut self,
        memory: &impl Tables,
        watch: &mut Watch,
        hardware: &Hardware<'_>,
        blocks: &[Block],
    ) -> Option<usize> {
        let mut regimes = self.regimes(watch, hardware);
        self.index.refresh(memory, regimes.iter().copied());
        let mut first = None;
        for (number, block) in blocks.iter().enumerate() {
            let pages = 1u64 << block.order.min(20);
            self.checked += pages;
            for page in (0..pages).map(|n| (block.pa & !0xfff) + (n << 12)) {
                let known = self.index.pages();
                let kept = hardware.tlb.map(Tlb::pages);
                if !known.has_leaf(page)
                    && !known.has_table(page)
                    && !kept.is_some_and(|kept| kept.has_leaf(page) || kept.has_table(page))
                {
                    continue;
                }
                let mut finding = Finding {
                    page,
                    ..Finding::default()
                };
                self.root_freed(watch, hardware, &mut regimes, &mut finding);
                self.look_in_tables(memory, &regimes, &mut finding);
                if let Some(tlb) = hardware.tlb {
                    if hardware.client_on {
                        look_in_tlb(tlb, &mut finding);
                    } else if leads_to(tlb, page) {
                        self.left.insert(page);
                    }
                }
                if finding.how != 0 && first.is_none() {
                    first = Some(number);
                    self.finding = finding;
                }
            }
        }
        first
    }

    /// The TLB has forgotten something.
    pub fn invalidated(&mut self, tlb: &Tlb) {
        self.left.retain(|page| leads_to(tlb, *page));
    }

    /// The CP is started. Returns the pages that were freed while the GPU had no power, and to
    /// which the TLB leads still.
    pub fn start(&mut self, tlb: &Tlb) -> HashSet<u64> {
        self.invalidated(tlb);
        std::mem::take(&mut self.left)
    }

    /// If the page is a root, its tables end. While it is loaded, a walker can still enter it. The
    /// stock module does that when a context ends and the GPU has had no other one since. It may
    /// not be loaded again.
    fn root_freed(
        &mut self,
        watch: &mut Watch,
        hardware: &Hardware<'_>,
        regimes: &mut Vec<Regime>,
        finding: &mut Finding,
    ) {
        let page = finding.page;
        let is_root = |regime: &Regime| root_page(regime) == Some(page);
        let Some(regime) = regimes.iter().copied().find(is_root) else {
            return;
        };
        if hardware.pending.iter().any(|root| root & !0xfff == page) {
            finding.how |= IS_TABLE;
            finding.ttbr0 = regime.ttbr;
        } else if hardware.loaded.iter().any(is_root) {
            if regime.upper || !self.lenient {
                finding.how |= IS_TABLE;
                finding.ttbr0 = regime.ttbr;
            } else {
                self.dead_roots += 1;
            }
        }
        regimes.retain(|regime| !is_root(regime));
        self.loaded.retain(|regime| !is_root(regime));
        watch.forget_root(is_root);
        self.dead.insert(page);
        self.passed.clear();
    }

    fn look_in_tables(&mut self, memory: &impl Tables, regimes: &[Regime], finding: &mut Finding) {
        let page = finding.page;
        let memory = &Without {
            memory,
            tables: &self.passed,
        };
        let mut bare = false;
        for regime in regimes {
            visit_all(memory, regime, |item| match item {
                Item::Table(table) if table.pa & !0xfff == page => {
                    if self.lenient && !leads_to_leaves(memory, table) {
                        bare = true;
                    } else {
                        finding.how |= IS_TABLE;
                        if finding.ttbr0 == 0 {
                            finding.ttbr0 = regime.ttbr;
                        }
                    }
                }
                Item::Table(_) => {}
                Item::Leaf(iova, leaf) => {
                    let offset = page.wrapping_sub(leaf.pa(iova));
                    if offset < leaf.size() && finding.how & BY_TABLE == 0 {
                        finding.how |= BY_TABLE;
                        finding.iova = iova + offset;
                        finding.ttbr0 = regime.ttbr;
                    }
                }
            });
        }
        if bare && self.passed.insert(page) {
            self.bare_tables += 1;
        }
    }
}

/// Memory in which some tables have no entries.
struct Without<'a, M> {
    memory: &'a M,
    tables: &'a HashSet<u64>,
}

impl<M: Tables> Tables for Without<'_, M> {
    fn descriptor(&self, pa: u64) -> Option<u64> {
        if self.tables.contains(&(pa & !0xfff)) {
            return Some(0);
        }
        self.memory.descriptor(pa)
    }
}

fn leads_to(tlb: &Tlb, page: u64) -> bool {
    tlb.find_page(page).is_some() || tlb.find_table(page).is_some()
}

fn look_in_tlb(tlb: &Tlb, finding: &mut Finding) {
    for (found, bit) in [
        (tlb.find_page(finding.page), BY_TLB),
        (tlb.find_table(finding.page), TABLE_IN_TLB),
    ] {
        if let Some(iova) = found {
            if finding.how & BY_TABLE == 0 {
                finding.iova = iova;
            }
            finding.how |= bit;
        }
    }
}

fn leads_to_leaves(memory: &impl Tables, table: Table) -> bool {
    let mut leaves = false;
    visit_from(memory, table, 0, 512, |item| {
        leaves |= matches!(item, Item::Leaf(..));
    });
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Leaf;

    /// Sixteen pages of memory from 0 on.
    struct Small(Vec<u64>);

    impl Tables for Small {
        fn descriptor(&self, pa: u64) -> Option<u64> {
            self.0.get(usize::try_from(pa / 8).ok()?).copied()
        }
    }

    const TABLE: u64 = 3;
    const LEAF: u64 = 0xc03;
    const ROOT: u64 = 0x1000;
    const PAGE: u64 = 0x5000;
    const IOVA: u64 = 7 << 12;

    fn regime(ttbr: u64) -> Regime {
        Regime {
            ttbr,
            tsz: 16,
            upper: false,
            granule_4k: true,
            disabled: false,
        }
    }

    /// Tables at 0x1000, 0x2000, 0x3000 and 0x4000 that lead from [`IOVA`] to [`PAGE`].
    fn mapped() -> Small {
        let mut memory = Small(vec![0; 16 * 512]);
        memory.0[512] = 0x2000 | TABLE;
        memory.0[2 * 512] = 0x3000 | TABLE;
        memory.0[3 * 512] = 0x4000 | TABLE;
        memory.0[4 * 512 + 7] = PAGE | LEAF;
        memory
    }

    struct World {
        memory: Small,
        watch: Watch,
        freed: Freed,
        tlb: Tlb,
        on: bool,
        client_on: bool,
        loaded: Vec<Regime>,
        pending: Vec<u64>,
    }

    impl World {
        /// The context at [`ROOT`] was loaded, and then another one.
        fn new() -> Self {
            let mut watch = Watch::default();
            watch.remember(regime(ROOT));
            Self {
                memory: mapped(),
                watch,
                freed: Freed::default(),
                tlb: Tlb::default(),
                on: true,
                client_on: true,
                loaded: vec![regime(0x8000)],
                pending: Vec::new(),
            }
        }

        fn free(&mut self, pa: u64) -> Option<Finding> {
            self.free_block(pa, 0)
        }

        fn free_block(&mut self, pa: u64, order: u32) -> Option<Finding> {
            let hardware = Hardware {
                tlb: self.on.then_some(&self.tlb),
                client_on: self.client_on,
                loaded: &self.loaded,
                pending: &self.pending,
            };
            let other = Block {
                pa: 0xf000,
                order: 0,
            };
            self.freed
                .check(
                    &self.memory,
                    &mut self.watch,
                    &hardware,
                    &[other, Block { pa, order }],
                )
                .map(|number| {
                    assert_eq!(number, 1);
                    self.freed.finding
                })
        }
    }

    #[test]
    fn mapped_by_a_context_that_is_not_loaded() {
        let mut world = World::new();
        let found = Finding {
            page: PAGE,
            how: BY_TABLE,
            iova: IOVA,
            ttbr0: ROOT,
        };
        assert_eq!(world.free(PAGE), Some(found));
        assert_eq!(
            world.free_block(PAGE - 0x1000, 3).map(|f| f.how),
            Some(IS_TABLE)
        );
        assert_eq!(world.free(0x6000), None);
        world.memory.0[4 * 512 + 7] = 0;
        assert_eq!(world.free(PAGE), None);
    }

    #[test]
    fn left_in_the_tlb() {
        let mut world = World::new();
        let leaf = Leaf {
            level: 3,
            desc: 0x9000 | LEAF,
            read_only: false,
            privileged: false,
        };
        let table = Table {
            level: 3,
            pa: 0xa000,
            read_only: false,
            privileged: false,
        };
        world.tlb.keep_leaf(0, IOVA, leaf);
        world.tlb.keep_table(0, IOVA, table);
        let how = |found: Option<Finding>| found.map(|f| (f.how, f.ttbr0));
        assert_eq!(how(world.free(0x9000)), Some((BY_TLB, 0)));
        assert_eq!(how(world.free(0xa000)), Some((TABLE_IN_TLB, 0)));
        // An SMMU that doesn't translate has no use for it.
        world.on = false;
        assert_eq!(world.free(0x9000), None);
        world.on = true;
        world.tlb.invalidate(crate::tlb::Scope::All);
        assert_eq!(world.free(0x9000), None);
        assert_eq!(world.free(0xa000), None);
    }

    #[test]
    fn left_in_the_tlb_while_the_gpu_sleeps() {
        let mut world = World::new();
        let leaf = |desc| Leaf {
            level: 3,
            desc: desc | LEAF,
            read_only: false,
            privileged: false,
        };
        let all = crate::tlb::Scope::All;
        world.tlb.keep_leaf(0, IOVA, leaf(0x9000));
        world.client_on = false;
        assert_eq!(world.free(0x9000), None);
        assert_eq!(world.freed.start(&world.tlb), HashSet::from([0x9000]));
        assert_eq!(world.freed.start(&world.tlb), HashSet::new());
        // Forgotten in time; what the page is used for later doesn't matter.
        assert_eq!(world.free(0x9000), None);
        world.tlb.invalidate(all);
        world.freed.invalidated(&world.tlb);
        world.tlb.keep_leaf(0, IOVA, leaf(0x9000));
        assert_eq!(world.freed.start(&world.tlb), HashSet::new());
        // Mapped by a table it is reachable, whether the GPU sleeps or not.
        assert!(world.free(PAGE).is_some());
    }

    #[test]
    fn tables_in_use() {
        let mut world = World::new();
        for table in [0x2000, 0x3000, 0x4000] {
            let found = world.free(table).unwrap();
            assert_eq!((found.how, found.ttbr0), (IS_TABLE, ROOT));
        }
        // With a leaf below them that is wrong in any case.
        world.freed.lenient = true;
        assert!(world.free(0x2000).is_some());
        world.memory.0[4 * 512 + 7] = 0;
        assert_eq!(world.free(0x2000), None);
        assert_eq!(world.freed.bare_tables, 1);
        // Its owner frees it for others, and only then the page that it was in.
        world.memory.0[2 * 512 + 9] = PAGE | LEAF;
        world.memory.0[4 * 512 + 7] = PAGE | LEAF;
        assert_eq!(world.free(0x2000), None);
        assert_eq!(world.freed.bare_tables, 1);
        world.memory.0[4 * 512 + 7] = 0;
        assert_eq!(world.free(ROOT), None);
        world.freed.switch(&regime(ROOT));
        world.watch.remember(regime(ROOT));
        world.memory.0[4 * 512 + 7] = PAGE | LEAF;
        assert!(world.free(0x2000).is_some());
    }

    #[test]
    fn a_freed_root_ends_its_tables() {
        let mut world = World::new();
        assert_eq!(world.free(ROOT), None);
        assert_eq!(world.free(PAGE), None);
        assert_eq!(world.free(0x3000), None);
        assert_eq!(world.watch.contexts(), 0);
        // The kernel loads it again by mistake: whatever the memory is now, it isn't tables.
        world.freed.load(regime(ROOT));
        world.loaded = vec![regime(ROOT)];
        assert_eq!(world.free(PAGE), None);
        // The CP doesn't: it is a root again.
        world.freed.switch(&regime(ROOT));
        world.watch.remember(regime(ROOT));
        assert!(world.free(PAGE).is_some());
    }

    #[test]
    fn a_root_freed_while_it_is_loaded() {
        let mut world = World::new();
        world.loaded = vec![regime(ROOT)];
        let found = world.free(ROOT).unwrap();
        assert_eq!((found.how, found.ttbr0), (IS_TABLE, ROOT));
        // The stock module's.
        let mut world = World::new();
        world.loaded = vec![regime(ROOT)];
        world.freed.lenient = true;
        assert_eq!(world.free(ROOT), None);
        assert_eq!(world.freed.dead_roots, 1);
    }

    #[test]
    fn a_root_freed_before_it_is_loaded() {
        let mut world = World::new();
        world.pending = vec![ROOT];
        world.freed.lenient = true;
        world.memory.0[512] = 0;
        assert_eq!(world.free(ROOT).map(|f| f.how), Some(IS_TABLE));
    }

    #[test]
    fn what_the_cpu_loads_counts() {
        let mut world = World::new();
        world.watch.forget(ROOT);
        assert_eq!(world.free(PAGE), None);
        world.freed.load(regime(ROOT));
        assert!(world.free(PAGE).is_some());
        world.freed.unload(&regime(ROOT));
        assert_eq!(world.free(PAGE), None);
        let mut world = World::new();
        world.watch.forget(ROOT);
        world.loaded = vec![regime(ROOT)];
        assert!(world.free(PAGE).is_some());
    }
}
