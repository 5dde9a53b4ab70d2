// SPDX-License-Identifier: GPL-2.0-only

//! The jobs of VM_BIND VMs as the scheduler knows them.

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    sync::aref::ARef,
    workqueue, //
};

use super::{
    bindings,
    caller::Caller,
    module,
    queue::Queue,
    root::VmMmu,
    vm::{
        self,
        Bind,
        Config,
        VmKind, //
    },
};
use crate::gpuvm_rs::{
    sched::{
        self,
        Backend,
        Finished,
        PendingJob, //
    },
    vm::GpuVm, //
};

/// What a job is about.
pub(crate) trait Work: Send + Sized + 'static {
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
// of which the work keeps a reference until it has run or was cancelled: `vm::job::Work::queue`.
// Until it has that the ioctl has one.
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

/// A job of `vm` on `queue` that will do `work`.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn new_job<W: Work>(
    caller: &Caller<'_>,
    vm: &GpuVm<Bind>,
    queue: &Queue,
    work: W,
) -> Result<PendingJob<Jobs<W>>> {
    let vm = vm.into();
    // SAFETY: The file is open; the entity is the queue's, its scheduler the VM's, and the job
    // keeps both, see `Jobs`.
    unsafe { PendingJob::new(queue.entity(), caller.client_id(), Job { work, vm }) }
}

/// As [`vm::create`], for a VM whose jobs do `W`.
pub(crate) fn create_vm<K: VmKind, W: Work, I: PinInit<K::State>>(
    config: &Config,
    mmu: VmMmu,
    prepare: impl FnOnce(VmMmu) -> Result<(K::Space, I)>,
) -> Result<NonNull<bindings::drm_gpuvm>> {
    vm::create_with::<K, I>(config, mmu, Some(start::<W>), prepare)
}

/// # Safety
///
/// The device is alive; the scheduler isn't moved until it is ended.
unsafe fn start<W: Work>(
    sched: *mut bindings::drm_gpu_scheduler,
    dev: *mut bindings::device,
) -> Result {
    // SAFETY: The caller's promise.
    unsafe { sched::init::<Jobs<W>>(sched, dev, c"msm-vm-bind", module::binds()) }
}
