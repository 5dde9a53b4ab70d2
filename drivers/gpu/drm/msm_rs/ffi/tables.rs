// SPDX-License-Identifier: GPL-2.0-only

//! The memory behind [`crate::pgtable`]: tables as pages, the SMMU's view of them, its TLB.
//!
//! The root, whose address C gives to the GPU, is in [`super::root`].

use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    bindings,
    pages::Pages,
    root::Root, //
};
use crate::{
    gpuvm_rs::{
        range::VaRange,
        small_vec::SmallVec, //
    },
    pgtable::{
        footprint::{
            Footprint,
            FootprintError,
            Reach,
            ReachBuf,
            Touch, //
        },
        geometry::{
            Geometry,
            ENTRIES,
            PAGE_SIZE, //
        },
        memory::{
            Counts,
            Entries,
            Gather,
            Memory,
            Pool,
            Table, //
        },
        Error as TableError,
        PageTables, //
    },
    throttle::Gate, //
};

// Kconfig and `make module` say it before.
const _: () = assert!(
    kernel::page::PAGE_SIZE as u64 == PAGE_SIZE && PAGE_SIZE == crate::pure::ops::PAGE_SIZE,
    "msm_rs needs a kernel with pages of 4 KiB"
);

/// A list of reaches that grows with GFP_KERNEL. One op has two at most.
#[derive(Default)]
pub(crate) struct Reaches(SmallVec<Reach, 2>);

impl Deref for Reaches {
    type Target = [Reach];

    fn deref(&self) -> &[Reach] {
        &self.0
    }
}

impl DerefMut for Reaches {
    fn deref_mut(&mut self) -> &mut [Reach] {
        &mut self.0
    }
}

impl ReachBuf for Reaches {
    type Error = Error;

    fn push(&mut self, reach: Reach) -> Result {
        self.0.push(reach, GFP_KERNEL | __GFP_NOWARN)
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// The tables that a job may need.
pub(crate) type JobFootprint = Footprint<Reaches>;

/// Makes the footprint of a job with these operations.
///
/// # Errors
///
/// `EINVAL` for a range that isn't one of pages of the address space, `ENOMEM`.
pub(crate) fn footprint(
    geometry: &Geometry,
    ops: impl Iterator<Item = Touch>,
) -> Result<JobFootprint> {
    Footprint::new(geometry, Reaches::default(), ops).map_err(|e| match e {
        FootprintError::Range => EINVAL,
        FootprintError::Buf(e) => e,
    })
}

/// What an op does to the tables: writes an entry per page, or changes whole tables where it can.
pub(crate) fn touch(at: VaRange, pages: bool) -> Touch {
    if pages {
        Touch::Pages(at)
    } else {
        Touch::Edges(at)
    }
}

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
        // SAFETY: The caller's promise; the config is integers and a pointer, and is written on success.
        unsafe {
            bindings::msm_rs_smmu_config(domain, config.as_mut_ptr())
                .then(|| Self(config.assume_init()))
        }
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
    type Entries<'a> = View;

    fn entries(&self, table: Table) -> View {
        // In the kernel's linear map.
        View(self.0.entries.wrapping_add(table.address() as usize) as *mut u64)
    }

    fn sync(&self, table: Table, first: usize, count: usize) {
        // SAFETY: Only tables that `TableList::fill()` made are ever named; at most 512 entries.
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
            pins: (word >> 32) as u32,
        }
    }

    fn set_counts(&self, table: Table, counts: Counts) {
        let word = u64::from(counts.live) | u64::from(counts.pins) << 32;
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
        unsafe { self.0.add(index % ENTRIES).read_volatile() }
    }

    fn set(&self, index: usize, entry: u64) {
        debug_assert!(index < ENTRIES);
        // SAFETY: As in `get()`; an aligned 64-bit store is single.
        unsafe { self.0.add(index % ENTRIES).write_volatile(entry) };
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
                // SAFETY: As in `set()`; `count` in all, which are within the table.
                unsafe { self.0.add(at).write_volatile(entry) };
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
            if super::is_killed() {
                return Err(ERESTARTSYS);
            }
            // SAFETY: The device outlives every VM.
            let table = unsafe { bindings::msm_rs_table_alloc(&self.smmu.0) };
            if table == 0 {
                return Err(ENOMEM);
            }
            self.link(table);
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

    /// Adds a table that nothing links.
    pub(super) fn push(&mut self, table: Table) {
        self.link(table.address());
    }

    fn link(&mut self, table: u64) {
        // SAFETY: The table is ours and on no list.
        unsafe { *bindings::msm_rs_table_link(table) = self.first as kernel::ffi::c_ulong };
        self.first = table;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<u64> {
        if self.first == 0 {
            return None;
        }
        let table = self.first;
        // SAFETY: By the type invariant.
        self.first = unsafe { *bindings::msm_rs_table_link(table) } as u64;
        self.len -= 1;
        Some(table)
    }
}

impl Pool for TableList {
    fn available(&self) -> u64 {
        self.len
    }

    fn take(&mut self) -> Option<Table> {
        self.pop().and_then(Table::at)
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

/// Says that neither page tables nor the TLB lead to what was removed: by one change, or by the end
/// of all tables of a VM. Only those two make one, when they have invalidated the TLB.
pub(crate) struct Unreachable(());

impl Unreachable {
    /// For KUnit tests whose page tables are a model of their own.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn without_tables() -> Self {
        Self(())
    }
}

/// Says that a VM's page tables are gone.
pub(crate) struct TornDown(());

impl TornDown {
    /// So nothing is reachable that any of its jobs would have removed.
    pub(crate) fn unreachable(&self) -> Unreachable {
        Unreachable(())
    }
}

/// The page tables of a VM of its own, empty at first.
pub(crate) struct VmTables {
    tables: PageTables,
    root: KBox<Root>,
}

impl VmTables {
    /// Page tables in which nothing is mapped.
    pub(super) fn new(root: KBox<Root>) -> Self {
        root.smmu.set_counts(root.table, Counts::default());
        Self {
            tables: PageTables::new(root.geometry, root.table, root.null),
            root,
        }
    }

    /// The sizes of the address space.
    pub(crate) fn geometry(&self) -> Geometry {
        *self.tables.geometry()
    }

    /// How tables are allocated.
    pub(crate) fn smmu(&self) -> Smmu {
        self.root.smmu
    }

    /// What limits the tables that are reserved on its device.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        self.root.gate.clone()
    }

    /// The entries that translate `iova`, by level.
    pub(crate) fn walk(&self, iova: u64) -> [u64; 4] {
        self.tables.walk(&self.root.smmu, iova)
    }

    /// Links and pins all tables of `footprint`, with those of `pool`, until [`Change::release`].
    ///
    /// # Errors
    ///
    /// How many are missing in the pool; nothing was changed.
    pub(crate) fn reserve(
        &self,
        footprint: &JobFootprint,
        pool: &mut TableList,
    ) -> Result<(), u64> {
        self.tables
            .reserve(&self.root.smmu, pool, footprint)
            .map_err(|short| short.missing)
    }

    /// Starts a change.
    pub(crate) fn change(&mut self) -> Change<'_> {
        Change {
            freed: Some(Freed {
                tables: TableList::new(self.smmu()),
                invalidate: false,
            }),
            vm: self,
        }
    }

    /// Removes everything, also what is reserved.
    pub(crate) fn teardown(&mut self) -> TornDown {
        // Then the last change has left nothing, and has invalidated the TLB.
        if self.root.smmu.counts(self.root.table).live == 0 {
            return TornDown(());
        }
        let mut freed = Freed {
            tables: TableList::new(self.smmu()),
            invalidate: true,
        };
        let (root, smmu) = (self.root.table, self.smmu());
        let tables = PageTables::new(self.geometry(), root, None);
        let tables = core::mem::replace(&mut self.tables, tables);
        tables.teardown(
            &smmu,
            &mut Teardown {
                root,
                freed: &mut freed,
            },
        );
        let view = smmu.entries(root);
        (0..ENTRIES).for_each(|at| view.set(at, 0));
        smmu.sync(root, 0, ENTRIES);
        smmu.set_counts(root, Counts::default());
        self.invalidate();
        TornDown(())
    }

    fn invalidate(&self) {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_smmu_invalidate(self.root.as_raw()) };
    }
}

impl Drop for VmTables {
    fn drop(&mut self) {
        self.teardown();
    }
}

/// What a change has left over.
struct Freed {
    tables: TableList,
    /// Something was removed since the last invalidation.
    invalidate: bool,
}

/// What has become of a mapping.
#[derive(PartialEq)]
enum Written {
    All,
    /// A part of it at most: something else is in the way.
    MetLive,
}

impl Gather for Freed {
    fn table(&mut self, table: Table) {
        self.invalidate = true;
        self.tables.push(table);
    }

    fn removed_live(&mut self) {
        self.invalidate = true;
    }
}

/// Gathers all tables but the root, which stays.
struct Teardown<'a> {
    root: Table,
    freed: &'a mut Freed,
}

impl Gather for Teardown<'_> {
    fn table(&mut self, table: Table) {
        if table != self.root {
            self.freed.table(table);
        }
    }

    fn removed_live(&mut self) {
        self.freed.removed_live();
    }
}

/// A change of page tables in progress.
///
/// Nothing is mapped in place of what a TLB may still know (see "Break before make" in
/// [`crate::pgtable`]): [`Self::map`] invalidates first if something was unmapped since the last
/// time. So a job that replaces mappings needs one invalidation if it unmaps all of them before it
/// maps the first. The end of the change invalidates if anything was removed since.
pub(crate) struct Change<'a> {
    vm: &'a mut VmTables,
    /// There until the end.
    freed: Option<Freed>,
}

impl Change<'_> {
    /// Maps `at` to the pages of a BO from byte `offset`, or to the PRR page. The tables are reserved.
    ///
    /// Something else that is mapped there is unmapped, which takes an invalidation of its own.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they aren't, or for a range that the BO or the address space doesn't have.
    pub(crate) fn map(&mut self, at: VaRange, pages: Option<&Pages>, offset: u64) -> Result {
        self.invalidate();
        if self.write(at, pages, offset)? == Written::All {
            return Ok(());
        }
        self.unmap(at)?;
        self.invalidate();
        match self.write(at, pages, offset)? {
            Written::All => Ok(()),
            Written::MetLive => Err(EINVAL),
        }
    }

    /// Writes entries where there are none.
    fn write(&mut self, at: VaRange, pages: Option<&Pages>, offset: u64) -> Result<Written> {
        let (tables, mem) = (&self.vm.tables, &self.vm.root.smmu);
        let written = match pages {
            Some(pages) => tables.map(mem, at, pages.runs(offset, at.len())?, pages.prot()),
            None => tables.map_null(mem, at),
        };
        match written {
            Ok(()) => Ok(Written::All),
            Err(TableError::Live) => Ok(Written::MetLive),
            Err(_) => Err(EINVAL),
        }
    }

    /// Has the TLB forget what was removed since the last time.
    fn invalidate(&mut self) {
        if let Some(freed) = &mut self.freed {
            if core::mem::take(&mut freed.invalidate) {
                self.vm.invalidate();
            }
        }
    }

    /// Removes what is mapped in `at`. Tables that a NULL mapping shares are reserved.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they aren't, or for a range that the address space doesn't have.
    pub(crate) fn unmap(&mut self, at: VaRange) -> Result {
        let freed = self.freed.as_mut().ok_or(EINVAL)?;
        self.vm
            .tables
            .unmap(&self.vm.root.smmu, at, freed)
            .map_err(|_| EINVAL)
    }

    /// Ends a reservation: tables that nothing uses any more go.
    pub(crate) fn release(&mut self, footprint: &JobFootprint) {
        if let Some(freed) = self.freed.as_mut() {
            self.vm.tables.release(&self.vm.root.smmu, footprint, freed);
        }
    }

    /// Ends the change. What it has removed isn't reachable any more, and nor are the tables that
    /// are returned.
    pub(crate) fn finish(mut self) -> (Option<TableList>, Unreachable) {
        (self.end(), Unreachable(()))
    }

    fn end(&mut self) -> Option<TableList> {
        self.invalidate();
        Some(self.freed.take()?.tables)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        drop(self.end());
    }
}
