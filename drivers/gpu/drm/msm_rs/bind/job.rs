// SPDX-License-Identifier: GPL-2.0-only

//! A bind job: the page-table steps of one request, run when its fences have signalled.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
    workqueue,
};

use super::plan::What;
use crate::{
    ffi::{
        self,
        mmu::{
            Mmu,
            Tables, //
        },
        queue::Queue,
        vm::Bind,
        wq::{
            self,
            InUse, //
        },
    },
    gpuvm_rs::{
        sched::Backend,
        txn::Committed,
        vm::GpuVm, //
    },
    throttle::Ticket,
};

/// What a job does and what it keeps alive for it.
///
/// Dropping it frees the BOs of removed VMAs, gives back tables that weren't used, and may destroy
/// the queue.
pub(crate) struct Work {
    /// Keeps the scheduler entity alive until the job has run. Gone once the job is cancelled.
    pub(super) queue: Option<Queue>,
    pub(super) steps: Committed<Bind>,
    /// Number of the first step's entry in the VM log; one entry per step.
    pub(super) first_log_entry: u64,
    pub(super) tables: Tables,
    /// Counts the tables as in flight.
    pub(super) _ticket: Ticket,
}

impl Work {
    /// Changes the page tables. On the fence-signalling path.
    fn run(&mut self, vm: &GpuVm<Bind>) {
        let mut guard = vm.state().page_tables.lock();
        let pt = &mut *guard;
        if pt.closed {
            return;
        }
        // A VM that is unusable gets no new mappings, but those that go must go.
        let mut result = if vm.is_unusable() {
            Err(EINVAL)
        } else {
            Ok(())
        };
        let steps = &self.steps;
        pt.mmu.with_tables(&mut self.tables, |mmu| {
            for step in steps.steps() {
                match &step.what {
                    What::Map { pages, offset } if result.is_ok() => {
                        result = mmu.map(step.range, pages.as_ref(), *offset);
                    }
                    What::Unmap => mmu.unmap(step.range),
                    What::Map { .. } | What::Nothing => {}
                }
            }
        });
        let now = ffi::now_ns();
        for (i, step) in (0..).zip(steps.steps()) {
            let result = match &step.what {
                What::Map { .. } => result,
                _ => Ok(()),
            };
            pt.log.applied(self.first_log_entry + i, now, result);
        }
        if result.is_err() && !vm.is_unusable() {
            vm.set_unusable();
            pt.log.print();
        }
    }

    /// Removes what the job would have removed, when the VM is closed before it ran.
    pub(crate) fn unmap_all(&self, mmu: &Mmu) {
        for step in self.steps.steps() {
            if let What::Unmap = step.what {
                mmu.unmap(step.range);
            }
        }
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

    /// Runs `f` on the work, if it is still there.
    pub(crate) fn with_work(&self, f: impl FnOnce(&Work)) {
        if let Some(work) = self.work.lock().as_ref() {
            f(work);
        }
    }
}

/// What the scheduler's job carries.
pub(crate) struct BindJob {
    slot: Arc<Slot>,
    /// Keeps the work, once run, until the job is dropped on the reaper.
    done: Option<Work>,
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
}

/// The jobs of VM_BIND VMs.
pub(crate) struct Jobs;

// SAFETY: A job holds a reference to its VM, in which the scheduler is, and until it ran or was
// cancelled its work holds one to the queue, in which the entity is.
unsafe impl Backend for Jobs {
    type Job = BindJob;

    fn run(job: &mut BindJob) {
        if let Some(mut work) = job.slot.take() {
            work.run(&job.vm);
            job.done = Some(work);
        }
    }

    fn abandon(job: &mut BindJob) {
        job.done = job.slot.take();
    }

    fn reaper() -> &'static workqueue::Queue {
        wq::reaper()
    }
}
