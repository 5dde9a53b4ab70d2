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
        vm::Bind,
        wq::InUse, //
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
}

impl Work {
    /// Changes the page tables. On the fence-signalling path. Returns tables that are not reachable any more.
    fn run(&mut self, vm: &GpuVm<Bind>) -> Option<TableList> {
        let mut guard = vm.state().page_tables.lock();
        let pt = &mut *guard;
        if pt.closed {
            return None;
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
        let freed = change.finish();

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
        freed
    }
}

/// Where a job's work is until somebody takes it: the job when it runs, or the VM's close.
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

    /// Takes the work, if it is still there.
    pub(crate) fn take(&self) -> Option<Work> {
        self.work.lock().take()
    }

    /// Takes only the queue, to cancel the job on it.
    pub(crate) fn take_queue(&self) -> Option<Queue> {
        let mut guard = self.work.lock();
        let work: &mut Option<Work> = &mut guard;
        work.as_mut()?.queue.take()
    }
}

/// What the scheduler's job carries.
pub(crate) struct BindJob {
    slot: Arc<Slot>,
    /// Keeps the work, once run, and the tables that it freed, until the job is dropped on the reaper.
    done: Option<(Work, Option<TableList>)>,
    /// Keeps the scheduler's memory alive. Dropped after `done`, whose queue needs the scheduler.
    vm: ARef<GpuVm<Bind>>,
    /// A cancelled job is freed when what it waited for is signalled, perhaps long after the file
    /// was closed.
    _module: InUse,
}

impl BindJob {
    /// A job of `vm` that will run what is in `slot` by then.
    pub(crate) fn new(vm: &GpuVm<Bind>, slot: Arc<Slot>) -> Self {
        Self {
            slot,
            done: None,
            vm: vm.into(),
            _module: InUse::new(),
        }
    }

    /// The scheduler says that it is the job's turn. **Fence path.**
    pub(crate) fn run(&mut self) {
        if let Some(mut work) = self.slot.take() {
            let freed = work.run(&self.vm);
            self.done = Some((work, freed));
        }
    }

    /// Takes the work out of a job that will never run.
    pub(crate) fn abandon(&mut self) {
        self.done = self.slot.take().map(|work| (work, None));
    }
}
