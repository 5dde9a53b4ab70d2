// SPDX-License-Identifier: GPL-2.0-only

//! The page tables that a change may need, linked and pinned before it is made.

use kernel::{
    prelude::*,
    sync::{
        Arc,
        MutexGuard, //
    },
};

use super::{
    footprint::{
        self,
        JobFootprint, //
    },
    idle::GpuIdle,
    tables::Change,
    throttle::Ticket,
    AddressSpace,
    LoggedTables,
    Stage, //
};
use crate::{
    ffi::{
        not_killed,
        smmu::TableList,
        trace, //
    },
    pgtable::{
        footprint::Touch,
        memory::Pool,
        Refused, //
    },
};

/// Why tables aren't reserved. Nothing has changed.
pub(crate) enum NotReserved {
    /// Some are needed where there are blocks, which the caller has to split.
    Blocks(Blocks),
    /// `ENOMEM`, also if more tables are needed than may ever be in flight; `ERESTARTSYS` for a
    /// signal; `EINVAL` for a range that isn't one of pages of the address space.
    Error(Error),
}

impl From<Error> for NotReserved {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Blocks that are in the way of a job's tables.
pub(crate) struct Blocks(JobFootprint);

impl Blocks {
    /// How many are split in one go, with the page tables' lock held.
    const AT_ONCE: u64 = 256;

    /// Puts a table in place of each, which translates the same: as long as the GPU uses nothing of
    /// the VM, it can't tell.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if the caller was killed. Some may be split then.
    pub(crate) fn split(&self, idle: &GpuIdle<'_>) -> Result {
        let space = idle.vm().space();
        let mut pool = TableList::new(space.smmu);
        loop {
            let left = {
                let mut pt = space.page_tables.lock();
                pt.tables.split(&self.0, &mut pool, idle)
            };
            if left == 0 {
                return Ok(());
            }
            not_killed()?;
            pool.fill(left.min(Self::AT_ONCE))?;
        }
    }
}

/// Tables that are linked and pinned until this is released or dropped: the change can't run out of
/// them, whatever happens in between.
pub(crate) struct Reservation {
    space: Arc<AddressSpace>,
    /// Gone once it is released.
    footprint: Option<JobFootprint>,
    /// Tables that weren't there.
    allocated: u32,
    /// Counts the job, and its tables if it waits, as in flight.
    _ticket: Option<Ticket>,
}

impl Reservation {
    /// Reserves the tables for a job with these operations. If the job waits, as its ticket says,
    /// waits until they fit beside those of the others that do. What is changed at once needs no
    /// ticket.
    ///
    /// Takes the page tables' lock, but allocates and waits without it.
    ///
    /// # Errors
    ///
    /// See [`NotReserved`].
    pub(crate) fn new(
        space: &Arc<AddressSpace>,
        ops: impl Iterator<Item = Touch>,
        mut ticket: Option<Ticket>,
    ) -> Result<Self, NotReserved> {
        let footprint = footprint::footprint(&space.geometry, ops)?;
        let mut pool = TableList::new(space.smmu);
        let mut there;
        // Another job's end may remove tables while we allocate: then all over again.
        while let Err(refused) = {
            let pt = space.page_tables.lock();
            there = pool.available();
            pt.tables.reserve(&footprint, &mut pool)
        } {
            let missing = match refused {
                Refused::Shortage(missing) => missing,
                Refused::Blocks => return Err(NotReserved::Blocks(Blocks(footprint))),
            };
            let need = pool.available() + missing;
            if let Some(ticket) = ticket.as_mut().filter(|ticket| ticket.waits()) {
                // Nothing is held while waiting: no room that others may wait for, and no tables,
                // which are too few.
                pool = TableList::new(space.smmu);
                ticket.wait_for_tables(need)?;
            }
            pool.fill(need)?;
        }
        Ok(Self {
            space: space.clone(),
            footprint: Some(footprint),
            allocated: u32::try_from(there - pool.available()).unwrap_or(u32::MAX),
            _ticket: ticket,
        })
    }

    /// Whether these are the page tables in which the tables are reserved.
    pub(crate) fn is_in(&self, page_tables: &MutexGuard<'_, LoggedTables>) -> bool {
        core::ptr::eq(page_tables.lock_ref(), &self.space.page_tables)
    }

    /// Ends the reservation as a part of `change`.
    pub(crate) fn release(&mut self, change: &mut Change<'_>) {
        if let Some(footprint) = self.footprint.take() {
            let in_vain = change.release(&footprint);
            trace::prealloc_cleanup(self.allocated, in_vain);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(footprint) = self.footprint.take() {
            let mut pt = self.space.page_tables.lock();
            let in_vain = match pt.stage {
                // There are no tables any more.
                Stage::Closed => u64::from(self.allocated),
                _ => pt.tables.change().release(&footprint),
            };
            drop(pt);
            trace::prealloc_cleanup(self.allocated, in_vain);
        }
    }
}
