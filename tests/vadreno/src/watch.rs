// SPDX-License-Identifier: GPL-2.0-only

//! The page watch: can the GPU reach a physical page?

use crate::walk::{visit_all, Item, Regime, Tables};
use std::collections::{HashSet, VecDeque};
use vadreno_ctl::watch::{BY_TABLE, IS_TABLE};

/// Contexts that are remembered at most.
const CONTEXTS: usize = 4096;

/// How a page can be reached.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Bits of [`vadreno_ctl::watch::REACHABLE`].
    pub how: u64,
    /// The first address that leads there.
    pub iova: u64,
    /// TTBR0 of that address; 0 for TTBR1 and the TLB.
    pub ttbr0: u64,
    /// (Context, address) pairs that lead there.
    pub mappings: u64,
}

/// The contexts that were seen, and the pages that nothing should access.
#[derive(Debug, Default)]
pub struct Watch {
    contexts: VecDeque<Regime>,
    pages: HashSet<u64>,
    /// Address and page of the last access that reached a watched page.
    pub hit: (u64, u64),
    /// The last answer.
    pub answer: Reach,
}

impl Watch {
    /// Remembers a context; the oldest is forgotten when there are too many.
    pub fn remember(&mut self, regime: Regime) {
        self.contexts.retain(|known| known.ttbr != regime.ttbr);
        if self.contexts.len() == CONTEXTS {
            self.contexts.pop_front();
        }
        self.contexts.push_back(regime);
    }

    /// Forgets the context of a TTBR0, or all with [`vadreno_ctl::watch::ALL`].
    pub fn forget(&mut self, ttbr0: u64) {
        self.contexts
            .retain(|known| ttbr0 != vadreno_ctl::watch::ALL && known.ttbr != ttbr0);
    }

    /// Forgets the contexts whose root is said to be gone.
    pub fn forget_root(&mut self, gone: impl Fn(&Regime) -> bool) {
        self.contexts.retain(|known| !gone(known));
    }

    /// The contexts that are remembered.
    pub fn known(&self) -> impl Iterator<Item = &Regime> {
        self.contexts.iter()
    }

    /// Number of contexts that are remembered.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    /// The context of a TTBR0.
    pub fn context(&self, ttbr0: u64) -> Option<Regime> {
        self.contexts
            .iter()
            .find(|known| known.ttbr == ttbr0)
            .copied()
    }

    /// Watches accesses to a page.
    pub fn add(&mut self, pa: u64) {
        self.pages.insert(pa & !0xfff);
    }

    /// Stops watching a page, or all with [`vadreno_ctl::watch::ALL`].
    pub fn remove(&mut self, pa: u64) {
        if pa == vadreno_ctl::watch::ALL {
            self.pages.clear();
        } else {
            self.pages.remove(&(pa & !0xfff));
        }
    }

    /// Whether any page is watched.
    pub fn any(&self) -> bool {
        !self.pages.is_empty()
    }

    /// Notes an access, and says whether its page is watched.
    pub fn note(&mut self, iova: u64, pa: u64) -> bool {
        let hit = !self.pages.is_empty() && self.pages.contains(&(pa & !0xfff));
        if hit {
            self.hit = (iova, pa & !0xfff);
        }
        hit
    }

    /// All that is known of a page from the tables: those of the remembered contexts, and TTBR1's.
    pub fn reach(&self, tables: &impl Tables, upper: Option<Regime>, pa: u64) -> Reach {
        let page = pa & !0xfff;
        let mut reach = Reach::default();
        for regime in self.contexts.iter().copied().chain(upper) {
            visit_all(tables, &regime, |item| match item {
                Item::Table(table) if table.pa & !0xfff == page => reach.how |= IS_TABLE,
                Item::Table(_) => {}
                Item::Leaf(iova, leaf) => {
                    let offset = page.wrapping_sub(leaf.pa(iova));
                    if offset < leaf.size() {
                        if reach.how & BY_TABLE == 0 {
                            reach.iova = iova + offset;
                            reach.ttbr0 = if regime.upper { 0 } else { regime.ttbr };
                        }
                        reach.how |= BY_TABLE;
                        reach.mappings += 1;
                    }
                }
            });
        }
        reach
    }

    /// Watched pages that tables of the remembered contexts lead to, with an address for each.
    pub fn reachable(&self, tables: &impl Tables) -> Vec<(u64, u64, u64)> {
        let mut found = Vec::new();
        if self.any() {
            for regime in &self.contexts {
                visit_all(tables, regime, |item| {
                    if let Item::Leaf(iova, leaf) = item {
                        let pa = leaf.pa(iova);
                        if leaf.level == crate::walk::LAST_LEVEL {
                            if self.pages.contains(&pa) {
                                found.push((pa, iova, regime.ttbr));
                            }
                        } else {
                            found.extend(
                                self.pages
                                    .iter()
                                    .filter(|page| page.wrapping_sub(pa) < leaf.size())
                                    .map(|page| (*page, iova + (page - pa), regime.ttbr)),
                            );
                        }
                    }
                });
            }
        }
        found
    }
}
