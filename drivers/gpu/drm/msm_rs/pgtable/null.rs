// SPDX-License-Identifier: GPL-2.0-only

//! The tables that all NULL mappings share.

use super::geometry::ENTRIES;
use super::memory::{Entries, Memory, Table};
use super::pte::{self, Prot};

/// The shared NULL tables of levels 1, 2 and 3. One set serves all VMs of a device, for as long as
/// any lives.
#[derive(Clone, Copy, Debug)]
pub struct NullTables([Table; 3]);

impl NullTables {
    /// Fills `tables` so that all of them translate to the PRR page at physical address `page`,
    /// which can be written (as far as the attributes go: the hardware drops it).
    pub fn new<M: Memory>(mem: &M, tables: [Table; 3], page: Table) -> Self {
        let [top, middle, leaf] = tables;
        let entries = [
            (leaf, Self::prot().page(page.address())),
            (middle, pte::table(leaf)),
            (top, pte::table(middle)),
        ];
        for (table, entry) in entries {
            let view = mem.entries(table);
            (0..ENTRIES).for_each(|at| view.set(at, entry));
            // Before the next one leads to it.
            mem.publish(table);
        }
        Self(tables)
    }

    /// How NULL pages are mapped.
    pub(super) const fn prot() -> Prot {
        Prot {
            write: true,
            privileged: false,
            cached: false,
        }
    }

    /// The shared table of `level`, 1 to 3.
    #[inline]
    pub(super) fn table(&self, level: u32) -> Table {
        let [top, ..] = self.0;
        let at = level.wrapping_sub(1) as usize;
        self.0.get(at).copied().unwrap_or(top)
    }
}
