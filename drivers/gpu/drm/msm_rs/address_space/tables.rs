// SPDX-License-Identifier: GPL-2.0-only

//! The page tables of a VM, and how they change: in which order entries are written, the TLB is
//! invalidated, and what isn't used any more is freed.

use kernel::{
    prelude::*,
    sync::Arc,
    warn_on, //
};

use super::{
    footprint::JobFootprint,
    idle::GpuIdle,
    log::LogOp, //
};
use crate::{
    ffi::{
        gate::Gate,
        pages::Pages,
        root::Root,
        smmu::{
            Smmu,
            TableList, //
        },
        trace,
    },
    gpuvm_rs::range::VaRange,
    pgtable::{
        geometry::{
            Geometry,
            ENTRIES, //
        },
        memory::{
            Counts,
            Entries,
            Gather,
            Memory,
            Table,
            Unlinked, //
        },
        Error as TableError,
        PageTables,
        Refused, //
    },
};

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
    pub(crate) fn new(root: KBox<Root>) -> Self {
        root.smmu.set_counts(root.table, Counts::default());
        Self {
            tables: PageTables::new(root.geometry, root.table, root.null),
            root,
        }
    }

    /// The root, as TTBR0 has it.
    pub(crate) fn ttbr0(&self) -> u64 {
        self.root.table.address()
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
    /// What is missing; nothing was changed.
    pub(crate) fn reserve(
        &self,
        footprint: &JobFootprint,
        pool: &mut TableList,
    ) -> Result<(), Refused> {
        self.tables.reserve(&self.root.smmu, pool, footprint)
    }

    /// Replaces blocks that are in the way of `footprint` by tables, as many as `pool` has. Returns
    /// how many are left. The GPU uses nothing of this VM.
    pub(super) fn split(
        &mut self,
        footprint: &JobFootprint,
        pool: &mut TableList,
        _idle: &GpuIdle<'_>,
    ) -> u64 {
        let invalidate = || self.root.invalidate();
        self.tables
            .split(&self.root.smmu, pool, footprint, invalidate)
    }

    /// Starts a change that no job makes.
    pub(crate) fn change(&mut self) -> Change<'_> {
        self.change_for(0)
    }

    /// Starts the change that job `job` makes.
    pub(crate) fn change_for(&mut self, job: u32) -> Change<'_> {
        Change {
            job,
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
        if let Some(all) = VaRange::between(0, self.geometry().end()) {
            trace::unmap(all, || trace::Change {
                ttbr0: self.ttbr0(),
                why: LogOp::Close.name(),
                job: 0,
            });
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
        self.root.invalidate();
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
    fn table(&mut self, table: Unlinked) {
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
    fn table(&mut self, table: Unlinked) {
        if table.table() != self.root {
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
    /// For traces.
    job: u32,
    /// There until the end.
    freed: Option<Freed>,
}

impl Change<'_> {
    /// Maps `at` to the pages of a BO from byte `offset`, or to the PRR page: because of `why`. The
    /// tables are reserved.
    ///
    /// Something else that is mapped there is unmapped, which takes an invalidation of its own.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they aren't, for a range that the BO or the address space doesn't have, or for
    /// memory that the SMMU can't reach. Then nothing is mapped there.
    pub(crate) fn map(
        &mut self,
        at: VaRange,
        pages: Option<&Pages>,
        offset: u64,
        why: LogOp,
    ) -> Result {
        self.invalidate();
        if let Err(e) = self.replace(at, pages, offset) {
            // What is written of it belongs to nobody: the caller takes it for not mapped.
            warn_on!(self.unmap(at, why).is_err());
            return Err(e);
        }
        trace::map(at, pages, offset, || trace::Change {
            ttbr0: self.vm.ttbr0(),
            why: why.name(),
            job: self.job,
        });
        Ok(())
    }

    /// Writes entries, whatever there are.
    fn replace(&mut self, at: VaRange, pages: Option<&Pages>, offset: u64) -> Result {
        if self.write(at, pages, offset)? == Written::MetLive {
            self.unmap(at, LogOp::Replace)?;
            self.invalidate();
            if self.write(at, pages, offset)? == Written::MetLive {
                return Err(EINVAL);
            }
        }
        Ok(())
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

    /// Removes what is mapped in `at`, because of `why`. Tables that a NULL mapping shares are
    /// reserved.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they aren't, or for a range that the address space doesn't have.
    pub(crate) fn unmap(&mut self, at: VaRange, why: LogOp) -> Result {
        let freed = self.freed.as_mut().ok_or(EINVAL)?;
        let before = core::mem::take(&mut freed.invalidate);
        let result = self.vm.tables.unmap(&self.vm.root.smmu, at, freed);
        if freed.invalidate {
            let change = || trace::Change {
                ttbr0: self.vm.ttbr0(),
                why: why.name(),
                job: self.job,
            };
            trace::unmap(at, change);
        }
        freed.invalidate |= before;
        result.map_err(|_| EINVAL)
    }

    /// Ends a reservation: tables that nothing uses any more go. Returns how many of them nothing
    /// was ever mapped by.
    pub(crate) fn release(&mut self, footprint: &JobFootprint) -> u64 {
        match self.freed.as_mut() {
            Some(freed) => self.vm.tables.release(&self.vm.root.smmu, footprint, freed),
            None => 0,
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
