// SPDX-License-Identifier: GPL-2.0-only

//! A bind job: the page-table steps of one request, run when its fences have signalled.

use core::ops::Range;

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
};

use super::plan::What;
use crate::{
    ffi::{
        self,
        queue::Queue,
        tables::TableList,
        vm::Bind, //
    },
    gpuvm_rs::{
        txn::Committed,
        vm::GpuVm, //
    },
    reserve::Reservation,
};

/// What a job does and what it keeps alive for it.
///
/// Dropping it frees the BOs of removed VMAs, gives back tables that weren't used, and may destroy
/// the queue.
pub(crate) struct Work {
    /// Keeps the scheduler entity alive until the job has run. Gone once the job is cancelled.
    pub(super) queue: Option<Queue>,
    pub(super) steps: Committed<Bind>,
    /// The numbers of its entries in the VM log.
    pub(super) log_entries: Range<u64>,
    pub(super) reservation: Reservation,
    /// Once it has run, or never will: the tables that aren't reachable any more.
    pub(super) freed: Option<TableList>,
}

impl Work {
    /// Changes the page tables. On the fence-signalling path.
    fn run(&mut self, vm: &GpuVm<Bind>) {
        let mut guard = vm.state().page_tables.lock();
        let pt = &mut *guard;
        if pt.closed || self.freed.is_some() {
            return;
        }
        // A VM that is unusable gets no new mappings, but those that go must go.
        let mut result = if vm.is_unusable() {
            Err(EINVAL)
        } else {
            Ok(())
        };
        let mut change = pt.tables.change();
        for step in self.steps.steps() {
            let done = match &step.what {
                What::Map { .. } if result.is_err() => continue,
                What::Map { pages, offset } => change.map(step.range, pages.as_ref(), *offset),
                What::Unmap => change.unmap(step.range),
            };
            result = result.and(done);
        }
        self.reservation.release(&mut change);
        self.freed = change.finish();

        if !self.log_entries.is_empty() {
            let now = ffi::now_ns();
            for number in self.log_entries.clone() {
                pt.log.applied(number, now, result);
            }
        }
        if result.is_err() && !vm.is_unusable() {
            vm.set_unusable();
            pt.log.print();
        }
    }
}

/// Where a job's work is until somebody takes it: the job when it is dropped, or, if it hasn't run, the VM's close.
#[pin_data]
pub(crate) struct Slot {
    #[pin]
    work: Mutex<Option<Work>>,
}

impl Slot {
    /// An empty slot.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            work <- new_mutex!(None, "msm_rs::slot"),
        })
    }

    /// Puts the work in.
    pub(super) fn fill(&self, work: Work) {
        *self.work.lock() = Some(work);
    }

    /// Takes the work, unless it has run.
    pub(crate) fn cancel(&self) -> Option<Work> {
        self.work.lock().take_if(|work| work.freed.is_none())
    }

    /// Takes only the queue, to cancel the job on it, unless it has run.
    pub(crate) fn take_queue(&self) -> Option<Queue> {
        let mut guard = self.work.lock();
        let work: &mut Option<Work> = &mut guard;
        let work = work.as_mut().filter(|work| work.freed.is_none());
        work?.queue.take()
    }
}

/// What the scheduler's job carries.
///
/// A cancelled job is freed when what it waited for is signalled, perhaps long after the file was closed.
pub(crate) struct BindJob {
    slot: Arc<Slot>,
    /// Keeps the scheduler's memory alive.
    vm: ARef<GpuVm<Bind>>,
}

impl BindJob {
    /// A job of `vm` that will run what is in `slot` by then.
    pub(crate) fn new(vm: &GpuVm<Bind>, slot: Arc<Slot>) -> Self {
        Self {
            slot,
            vm: vm.into(),
        }
    }

    /// The scheduler says that it is the job's turn. **Fence path.**
    pub(crate) fn run(&mut self) {
        if let Some(work) = &mut *self.slot.work.lock() {
            work.run(&self.vm);
        }
    }

    /// The job won't do anything.
    pub(crate) fn abandon(&mut self) {
        if let Some(work) = &mut *self.slot.work.lock() {
            work.freed = Some(TableList::new(self.vm.state().smmu));
        }
    }
}

impl Drop for BindJob {
    fn drop(&mut self) {
        // With the slot unlocked, and before the VM: the queue needs the scheduler.
        let work = self.slot.work.lock().take();
        drop(work);
    }
}
