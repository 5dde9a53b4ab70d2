// SPDX-License-Identifier: GPL-2.0-only

//! The page-table steps of one request, and the job that runs them when its fences have signalled.
//!
//! What a job removes from the VMA tree (in the ioctl) stays in the page tables until its steps are
//! done; so the VMAs, and through them the BOs, belong to the job's [`Work`]. `Work` can't be
//! dropped: running it, or the end of the VM's page tables, turns it into [`Done`], which can.
//!
//! | [`State`] | who owns the work | what may happen | then |
//! |---|---|---|---|
//! | `Empty` | the ioctl | it commits | `Waiting` |
//! | `Waiting` | the VM | the scheduler runs it | `Ran`, or `Cancelled` if a step failed |
//! | | | the file is closed | `Cancelled` |
//! | running | who runs it; the slot is locked | | `Ran` or `Cancelled` |
//! | `Cancelled` | the VM | the scheduler had begun with it | `Ran` |
//! | | | the VM's page tables are torn down | `Over` |
//! | `Ran` | the scheduler's job | that is dropped | `Over` |
//! | `Over` | nobody | | |
//!
//! A scheduler's job that is dropped without having run (its entity was killed) frees nothing.
//!
//! A request that comes after nothing that hasn't run needs no job, and so no slot: its work is run
//! in the ioctl ([`super::state::run_now`]).

use core::{
    mem::replace,
    ops::Range, //
};

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        MutexGuard, //
    },
    warn_on, //
};

use crate::{
    address_space::{
        log::LogOp,
        reservation::Reservation,
        step::StepKind,
        tables::{
            TornDown,
            Unreachable, //
        },
        LoggedTables,
        Stage, //
    },
    ffi::{
        self,
        queue::Queue,
        smmu::TableList,
        vm::Bind, //
    },
    gpuvm_rs::{
        txn::{
            Committed,
            Retired, //
        },
        vm::GpuVm, //
    },
};

/// What a job does, and what it keeps alive for it.
pub(crate) struct Work {
    /// Keeps the scheduler entity alive until the job has run. Gone once the job is cancelled; not
    /// there without a job.
    queue: Option<Queue>,
    /// Dropping this while page tables lead to what was removed would leak that, with a warning.
    steps: Committed<Bind>,
    /// Its sequence number.
    job: u32,
    /// The numbers of its entries in the VM log.
    log_entries: Range<u64>,
    reservation: Reservation,
    /// The tables that it has unlinked, if it ran and a step failed.
    freed: Option<TableList>,
}

/// What is left of work when page tables lead to nothing any more that it removed.
///
/// Dropping it frees the BOs of removed VMAs, gives back tables, and may destroy the queue: with no
/// lock held.
pub(crate) struct Done {
    _queue: Option<Queue>,
    _removed: Retired<Bind>,
    _reservation: Reservation,
    _freed: Option<TableList>,
}

impl Work {
    /// What a request does that can't fail any more.
    pub(crate) fn new(
        steps: Committed<Bind>,
        job: u32,
        log_entries: Range<u64>,
        reservation: Reservation,
    ) -> Self {
        Self {
            queue: None,
            steps,
            job,
            log_entries,
            reservation,
            freed: None,
        }
    }

    /// Changes the page tables, which are those of `vm`, or nothing: in a job, on the
    /// fence-signalling path, or in the ioctl. Nothing is allocated, and nothing waited for.
    pub(super) fn run(
        mut self,
        vm: &GpuVm<Bind>,
        mut page_tables: MutexGuard<'_, LoggedTables>,
    ) -> Outcome {
        // Nothing that happens to another VM's tables says that what this removes can't be reached.
        if warn_on!(!self.reservation.is_in(&page_tables)) {
            return Outcome::Stuck(self);
        }
        let pt = &mut *page_tables;
        if pt.stage == Stage::Closed {
            return Outcome::Stuck(self);
        }
        // A VM that is unusable gets no new mappings, but what goes must go: also what was mapped
        // where a new mapping would have been, and what there is of that.
        let mut written = if vm.is_unusable() {
            Err(EINVAL)
        } else {
            Ok(())
        };
        let mut removed = Ok(());
        let mut change = pt.tables.change_for(self.job);
        // All that goes, in every state, before the first that comes: one invalidation in between
        // does for all of them.
        for step in self.steps.steps().filter(|step| step.removes) {
            let why = step.kind.removes_for();
            removed = removed.and(change.unmap(step.range, why));
        }
        // In the order of the ops: what one maps another may take away.
        let mut mapped = false;
        for step in self.steps.steps() {
            if let StepKind::Map { pages, offset } = &step.kind {
                mapped = true;
                if written.is_ok() {
                    let why = match pages {
                        Some(_) => LogOp::Map,
                        None => LogOp::MapNull,
                    };
                    written = change.map(step.range, pages.as_ref(), *offset, why);
                }
                if written.is_ok() {
                    continue;
                }
            }
            if mapped {
                let why = step.kind.removes_for();
                removed = removed.and(change.unmap(step.range, why));
            }
        }
        self.reservation.release(&mut change);
        let (freed, unreachable) = change.finish();
        self.freed = freed;

        if !self.log_entries.is_empty() {
            let now = ffi::now_ns();
            for number in self.log_entries.clone() {
                pt.log.applied(number, now, written, removed);
            }
        }
        if written.and(removed).is_err() && !vm.is_unusable() {
            vm.set_unusable();
            pt.log.print();
        }
        drop(page_tables);
        // Removing can't fail, since the tables are reserved. If it does, what should be gone stays
        // for as long as the page tables do.
        match removed {
            Ok(()) => Outcome::Done(self.done(unreachable)),
            Err(_) => Outcome::Stuck(self),
        }
    }

    /// The page tables that the work is about are gone. Returns what there is to drop.
    pub(super) fn torn_down(self, tables: &TornDown) -> Done {
        self.done(tables.unreachable())
    }

    fn done(self, unreachable: Unreachable) -> Done {
        Done {
            _queue: self.queue,
            _removed: self.steps.retire(unreachable),
            _reservation: self.reservation,
            _freed: self.freed,
        }
    }
}

/// How work has ended that was run.
pub(super) enum Outcome {
    /// The page tables are as they should be.
    Done(Done),
    /// What should have been removed may be reached until the page tables are torn down.
    Stuck(Work),
}

/// What has become of a job's work. See the table above.
enum State {
    /// The ioctl has nothing to do yet that couldn't be undone.
    Empty,
    /// The job's turn will come.
    Waiting(Work),
    /// The job's turn won't come, or was in vain. What it would have removed may be reached until
    /// the page tables are torn down.
    Cancelled(Work),
    /// The page tables are as the job wanted them.
    Ran(Done),
    /// It was given away to be dropped.
    Over,
}

/// A job's work and its state, which the VM and the scheduler's job share.
#[pin_data]
pub(crate) struct Slot {
    /// Taken before the page tables' lock, on the fence-signalling path.
    #[pin]
    state: Mutex<State>,
}

impl Slot {
    /// An empty slot.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State::Empty, "msm_rs::slot"),
        })
    }

    /// Puts the work in, for a job on `queue`.
    pub(crate) fn fill(&self, queue: Queue, mut work: Work) {
        work.queue = Some(queue);
        *self.state.lock() = State::Waiting(work);
    }

    /// Whether there is nothing more to run or to keep.
    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.state.lock(), State::Ran(_) | State::Over)
    }

    /// Says that the job isn't to run. Returns the queue, unless it has run, to kill the job on it.
    pub(crate) fn cancel(&self) -> Option<Queue> {
        let mut state = self.state.lock();
        match replace(&mut *state, State::Over) {
            State::Waiting(mut work) => {
                let queue = work.queue.take();
                *state = State::Cancelled(work);
                queue
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// The page tables that the work is about are gone. Returns what there is to drop.
    pub(crate) fn torn_down(&self, tables: &TornDown) -> Option<Done> {
        let mut state = self.state.lock();
        match replace(&mut *state, State::Over) {
            State::Waiting(work) | State::Cancelled(work) => Some(work.torn_down(tables)),
            // What ran is the scheduler's job's to drop.
            other => {
                *state = other;
                None
            }
        }
    }

    /// It is the job's turn. On the fence-signalling path.
    pub(crate) fn run(&self, vm: &GpuVm<Bind>) {
        let mut state = self.state.lock();
        *state = match replace(&mut *state, State::Over) {
            // A cancelled job that the scheduler had begun with still runs.
            State::Waiting(work) | State::Cancelled(work) => {
                match work.run(vm, vm.space().page_tables.lock()) {
                    Outcome::Done(done) => State::Ran(done),
                    Outcome::Stuck(work) => State::Cancelled(work),
                }
            }
            other => other,
        };
    }

    /// The scheduler is done with the job. Returns what there is to drop: nothing, if it didn't
    /// run.
    fn end(&self) -> Option<Done> {
        let mut state = self.state.lock();
        match replace(&mut *state, State::Over) {
            State::Ran(done) => Some(done),
            other => {
                *state = other;
                None
            }
        }
    }
}

/// What the scheduler's job carries.
///
/// A cancelled job is freed when what it waited for is signalled, perhaps long after the file was
/// closed.
pub(crate) struct BindJob(Arc<Slot>);

impl BindJob {
    /// A job that will run what is in `slot` by then.
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        Self(slot)
    }

    /// Where its work is.
    pub(crate) fn slot(&self) -> &Slot {
        &self.0
    }
}

impl Drop for BindJob {
    fn drop(&mut self) {
        // With the slot unlocked. The VM is still there: the queue needs the scheduler.
        let done = self.0.end();
        drop(done);
    }
}
