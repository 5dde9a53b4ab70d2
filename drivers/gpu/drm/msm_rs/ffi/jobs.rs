// SPDX-License-Identifier: GPL-2.0-only

//! The jobs of VM_BIND VMs as the scheduler knows them.

use core::{
    marker::PhantomData,
    ops::Deref, //
};

use kernel::{
    prelude::*,
    sync::aref::ARef,
    workqueue, //
};

use super::{
    bindings,
    caller::Caller,
    fences::InFences,
    module,
    queue::{
        Queue,
        QueueKind, //
    },
    vm::Bind, //
};
use crate::gpuvm_rs::{
    fence::Fence,
    sched::{
        self,
        ArmedJob,
        Backend,
        Finished,
        PendingJob, //
    },
    vm::GpuVm, //
};

/// What a job is about.
///
/// # Safety
///
/// - It is the kind of job that VM_BIND VMs have: their `SCHEDULER` is [`start`] for it.
/// - From [`Self::fill`] on it keeps the queue, until it has run or was cancelled.
pub(crate) unsafe trait Work: Send + Sized + 'static {
    /// What there is to do.
    type Load;

    /// Says what there is to do, before the job is armed. Called once.
    fn fill(&self, queue: Queue, load: Self::Load);

    /// The scheduler says that it is the job's turn. **Fence path.**
    fn run(&mut self, vm: &GpuVm<Bind>);

    /// The ioctl didn't get as far as pushing the job, which runs all the same.
    fn abandon(&mut self);

    /// Where finished jobs wait to be dropped.
    fn finished() -> &'static Finished<Jobs<Self>>;
}

/// The jobs of VM_BIND VMs.
pub(crate) struct Jobs<W>(PhantomData<W>);

/// What the scheduler's job carries.
pub(crate) struct Job<W> {
    /// Dropped with the VM alive.
    work: W,
    /// Keeps the scheduler's memory alive.
    vm: ARef<GpuVm<Bind>>,
}

// SAFETY: A job holds a reference to its VM, in which the scheduler is. The entity is in the queue,
// of which the work keeps a reference until it has run or was cancelled, as `Work` promises. Before
// it has that, `Pending` borrows one.
unsafe impl<W: Work> Backend for Jobs<W> {
    type Job = Job<W>;

    fn run(job: &mut Job<W>) {
        job.work.run(&job.vm);
    }

    fn abandon(job: &mut Job<W>) {
        job.work.abandon();
    }

    fn finished() -> &'static Finished<Self> {
        W::finished()
    }

    fn reaper() -> &'static workqueue::Queue {
        module::reaper()
    }
}

/// A submitqueue for VM_BIND, with the VM that its jobs change.
///
/// # Invariants
///
/// It is a queue of the context whose VM it is, so that its entity is one of the VM's scheduler.
pub(crate) struct BindQueue<'a> {
    queue: Queue,
    vm: &'a GpuVm<Bind>,
}

impl<'a> BindQueue<'a> {
    /// The queue `id` of the caller's context, whose VM is `vm`.
    ///
    /// # Errors
    ///
    /// `ENOENT`; `EINVAL` for a queue of another kind, or another VM.
    pub(crate) fn get(caller: &Caller<'_>, vm: &'a GpuVm<Bind>, id: u32) -> Result<Self> {
        let queue = caller.queue(id, QueueKind::Bind)?;
        if caller.any_vm().as_raw() != vm.as_raw() {
            return Err(EINVAL);
        }
        // INVARIANT: Just checked. C gives a context one VM, and its queues that VM's scheduler.
        Ok(Self { queue, vm })
    }

    /// The timeline that the fences of its jobs are on.
    pub(crate) fn timeline(&self) -> u64 {
        // SAFETY: Initialised, by the type invariant, and in the queue, of which there is a
        // reference.
        unsafe { sched::timeline(self.entity()) }
    }

    /// A job that isn't armed. It will do what `work` says by then.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new_job<W: Work>(&self, client_id: u64, work: W) -> Result<Pending<'_, W>> {
        let vm = self.vm.into();
        // SAFETY: The entity is initialised, and its scheduler is the VM's, by the type invariant,
        // which `start()` has set up for `W`, as `Work` promises. The job keeps both, see `Jobs`.
        let job = unsafe { PendingJob::new(self.entity(), client_id, Job { work, vm }) }?;
        Ok(Pending { job, queue: self })
    }
}

impl Deref for BindQueue<'_> {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

/// A job that isn't armed, of a queue that is there for `'q`. Dropping it frees it.
pub(crate) struct Pending<'q, W: Work> {
    job: PendingJob<Jobs<W>>,
    queue: &'q Queue,
}

impl<W: Work> Pending<'_, W> {
    /// Has it wait for these.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn wait_for(&mut self, fences: &InFences) -> Result {
        // SAFETY: It isn't armed.
        unsafe { fences.add_to(self.job.as_raw()) }
    }

    /// See [`PendingJob::add_dependency`].
    pub(crate) fn add_dependency(&mut self, fence: ARef<Fence>) -> Result {
        self.job.add_dependency(fence)
    }

    /// Says what there is to do, and starts the job's fences: the point of no return.
    ///
    /// Jobs of one queue are armed and pushed in the same order: it is locked.
    pub(crate) fn arm(self, load: W::Load) -> ArmedJob<Jobs<W>> {
        self.job.data().work.fill(self.queue.clone(), load);
        self.job.arm()
    }
}

/// Starts the scheduler of a VM for jobs that do `W`.
///
/// # Errors
///
/// `ENOMEM`.
///
/// # Safety
///
/// The device is alive; the scheduler is zeroed, and isn't moved until it is ended.
pub(crate) unsafe fn start<W: Work>(
    sched: *mut bindings::drm_gpu_scheduler,
    dev: *mut bindings::device,
) -> Result {
    // SAFETY: Zeroed, in place until it is ended, and on a device that is alive, by the caller's
    // promise.
    unsafe { sched::init::<Jobs<W>>(sched, dev, c"msm-vm-bind", module::binds()) }
}
