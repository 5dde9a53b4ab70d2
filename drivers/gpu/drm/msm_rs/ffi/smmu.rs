// SPDX-License-Identifier: GPL-2.0-only

//! The memory behind [`crate::pgtable`]: tables as pages, and the SMMU's view of them.
//!
//! The root, whose address C gives to the GPU, is in [`super::root`].

use kernel::prelude::*;

use super::bindings;
use crate::pgtable::{
    geometry::{
        Geometry,
        ENTRIES,
        PAGE_SIZE, //
    },
    memory::{
        Counts,
        Entries,
        Memory,
        Pool,
        Table,
        Unlinked, //
    },
};

// Kconfig and `make module` say it before.
const _: () = assert!(
    kernel::page::PAGE_SIZE as u64 == PAGE_SIZE && PAGE_SIZE == crate::pure::ops::PAGE_SIZE,
    "msm_rs needs a kernel with pages of 4 KiB"
);

/// The bit for [`Counts::spare`] between the other two in the word for [`Counts`].
const SPARE: u32 = 16;

/// How tables are allocated and made visible.
#[derive(Clone, Copy)]
pub(crate) struct Smmu(bindings::msm_rs_smmu);

// SAFETY: A device pointer that outlives every VM, and constants.
unsafe impl Send for Smmu {}

// SAFETY: As above.
unsafe impl Sync for Smmu {}

impl Smmu {
    /// The one of a domain; `None` if it has no per-process page tables.
    ///
    /// # Safety
    ///
    /// `domain` is alive.
    pub(super) unsafe fn of(domain: *mut bindings::msm_mmu) -> Option<Self> {
        let mut config = core::mem::MaybeUninit::<bindings::msm_rs_smmu>::zeroed();
        // SAFETY: Alive, by the caller's promise.
        let has_any = unsafe { bindings::msm_rs_smmu_config(domain, config.as_mut_ptr()) };
        // SAFETY: Integers and addresses, which may be zero.
        has_any.then(|| Self(unsafe { config.assume_init() }))
    }

    /// The sizes of per-process address spaces; `None` if our tables can't have them.
    pub(super) fn geometry(&self) -> Option<Geometry> {
        Geometry::new(self.0.ias, self.0.oas)
    }

    /// The word of a table's `struct page` that we count in.
    fn word(&self, table: Table) -> *mut u64 {
        const { assert!(size_of::<kernel::ffi::c_ulong>() == size_of::<u64>()) };
        let page = (table.address() / PAGE_SIZE) as usize * size_of::<bindings::page>();
        self.0.counts.wrapping_add(page) as *mut u64
    }
}

impl Memory for Smmu {
    type Pool = TableList;
    type Entries<'a> = View;

    fn entries(&self, table: Table) -> View {
        // In the kernel's linear map.
        View(self.0.entries.wrapping_add(table.address() as usize) as *mut u64)
    }

    fn sync(&self, table: Table, first: usize, count: usize) {
        // SAFETY: A `Table` comes from `TableList`, which made it in `fill()`, or from a descriptor
        // that `PageTables` wrote to one; at most 512 entries.
        unsafe {
            bindings::msm_rs_table_sync(&self.0, table.address(), first as u32, count as u32)
        };
    }

    fn publish(&self, table: Table) {
        self.sync(table, 0, ENTRIES);
    }

    fn counts(&self, table: Table) -> Counts {
        // SAFETY: The word is the table's, and guarded by the page tables' lock.
        let word = unsafe { *self.word(table) };
        Counts {
            live: word as u16,
            spare: word >> SPARE & 1 != 0,
            pins: (word >> 32) as u32,
        }
    }

    fn set_counts(&self, table: Table, counts: Counts) {
        let word = u64::from(counts.live)
            | u64::from(counts.spare) << SPARE
            | u64::from(counts.pins) << 32;
        // SAFETY: As in `counts()`.
        unsafe { *self.word(table) = word };
    }
}

/// The entries of a table.
pub(crate) struct View(*mut u64);

impl Entries for View {
    fn get(&self, index: usize) -> u64 {
        debug_assert!(index < ENTRIES);
        // SAFETY: A table has 512 entries; the index is masked to them.
        let place = unsafe { self.0.add(index % ENTRIES) };
        // SAFETY: Whoever has a `View` holds the lock of the page tables that the table is in, or
        // the table is nobody else's yet, see `Memory`.
        unsafe { place.read_volatile() }
    }

    fn set(&self, index: usize, entry: u64) {
        debug_assert!(index < ENTRIES);
        // SAFETY: As in `get()`.
        let place = unsafe { self.0.add(index % ENTRIES) };
        // SAFETY: As in `get()`; an aligned 64-bit store is single.
        unsafe { place.write_volatile(entry) };
    }

    // Inlined, it has short mappings keep addresses at hand that they don't need.
    #[inline(never)]
    fn fill(&self, first: usize, count: usize, mut entry: u64, step: u64) {
        /// Stores in a row, without a loop around each.
        const ROW: usize = 8;
        let mut at = first.min(ENTRIES);
        let count = count.min(ENTRIES - at);
        let mut store = |nr| {
            for _ in 0..nr {
                // SAFETY: `count` in all, which are within the table.
                let place = unsafe { self.0.add(at) };
                // SAFETY: As in `set()`.
                unsafe { place.write_volatile(entry) };
                entry = entry.wrapping_add(step);
                at += 1;
            }
        };
        (0..count / ROW).for_each(|_| store(ROW));
        store(count % ROW);
    }
}

/// Tables that nothing links: reserved for a job, or given back. Dropping frees them.
///
/// # Invariants
///
/// `first` is 0 or a table that is ours; each one's link word says the next.
pub(crate) struct TableList {
    first: u64,
    len: u64,
    smmu: Smmu,
}

impl TableList {
    /// An empty list.
    pub(crate) fn new(smmu: Smmu) -> Self {
        Self {
            first: 0,
            len: 0,
            smmu,
        }
    }

    /// Allocates until there are `len` tables.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ERESTARTSYS` if the caller was killed; what was allocated stays.
    pub(crate) fn fill(&mut self, len: u64) -> Result {
        while self.len < len {
            super::not_killed()?;
            // SAFETY: The device outlives every VM.
            let table = unsafe { bindings::msm_rs_table_alloc(&self.smmu.0) };
            if table == 0 {
                return Err(ENOMEM);
            }
            // SAFETY: Just allocated.
            unsafe { self.link(table) };
        }
        Ok(())
    }

    /// Takes a table that nothing links out, as [`Pool::take`], and publishes it as it is: all
    /// zero, for an SMMU's register to lead to.
    pub(super) fn take_published(&mut self) -> Option<Table> {
        let table = self.take()?;
        self.smmu.publish(table);
        Some(table)
    }

    /// Adds a table that page tables have given up.
    pub(crate) fn push(&mut self, table: Unlinked) {
        // SAFETY: It came from a list, as all tables that are linked in others did. Page tables
        // name each once here, and `tables::Teardown` holds back the root, which never was linked.
        unsafe { self.link(table.table().address()) };
    }

    /// Adds a table that was taken out of a list.
    ///
    /// # Safety
    ///
    /// It is in no list since then, and isn't used any more when this list, or who takes it out,
    /// frees it.
    pub(super) unsafe fn give_back(&mut self, table: Table) {
        // SAFETY: Ours, as it came from a list; the rest is the caller's promise.
        unsafe { self.link(table.address()) };
    }

    /// # Safety
    ///
    /// `table` was allocated by [`Self::fill`] and is in no list.
    unsafe fn link(&mut self, table: u64) {
        // SAFETY: Ours, by the caller's promise.
        let link = unsafe { bindings::msm_rs_table_link(table) };
        // SAFETY: A word of the table's own, which lists use; it is on none.
        unsafe { *link = self.first as kernel::ffi::c_ulong };
        self.first = table;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<u64> {
        if self.first == 0 {
            return None;
        }
        let table = self.first;
        // SAFETY: Ours, by the type invariant.
        let link = unsafe { bindings::msm_rs_table_link(table) };
        // SAFETY: As above; `link()` has written it.
        self.first = unsafe { *link } as u64;
        self.len -= 1;
        Some(table)
    }
}

impl Pool for TableList {
    fn available(&self) -> u64 {
        self.len
    }

    fn take_page(&mut self) -> Option<u64> {
        self.pop()
    }
}

impl Drop for TableList {
    fn drop(&mut self) {
        while let Some(table) = self.pop() {
            // SAFETY: Ours, and nothing links it.
            unsafe { bindings::msm_rs_table_free(&self.smmu.0, table) };
        }
    }
}
