// SPDX-License-Identifier: GPL-2.0-only

//! Scheduler jobs whose work is done by the CPU in `run_job`, in their order.
//!
//! [`PendingJob`] can be dropped; [`ArmedJob`] can't be lost: arming starts the job's fence, which
//! others may wait for, so an armed job that is dropped instead of pushed is pushed with its work
//! taken away.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/sched.rs")]
//! ```

use core::{
    mem::ManuallyDrop,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    },
};

use kernel::{
    prelude::*,
    sync::aref::ARef,
    types::{
        ForeignOwnable,
        Opaque, //
    },
    workqueue::{
        impl_has_delayed_work,
        new_delayed_work,
        DelayedWork,
        Queue,
        WorkItem, //
    },
};

use super::{
    fence::Fence,
    kmalloc,
    to_result, //
};
use crate::bindings;

/// The jobs of one kind of scheduler.
///
/// # Safety
///
/// While a `Job` exists it keeps the scheduler's memory alive, and until it has run (or was taken
/// off its entity by `drm_sched_entity_kill()`) also the entity.
pub unsafe trait Backend: Sized + 'static {
    /// What a job carries.
    type Job: Send;

    /// Does the job's work. Runs on the fence-signalling path: it must not allocate, nor take a
    /// lock under which anybody allocates or waits for a fence.
    fn run(job: &mut Self::Job);

    /// An armed job wasn't pushed regularly. It will be run all the same: its work is to be taken
    /// away if it mustn't be done.
    fn abandon(job: &mut Self::Job);

    /// Where finished jobs wait to be dropped.
    fn finished() -> &'static Finished<Self>;

    /// Where finished jobs are dropped.
    ///
    /// Not the scheduler's own queue: dropping a job may drop the last reference to an object,
    /// which takes reservation locks, or to the VM, which stops the scheduler.
    fn reaper() -> &'static Queue;
}

/// Finished jobs, which are dropped together: waking a worker for each costs more than most jobs
/// do.
///
/// The job that is first in an empty list carries the work item that drops them all, a tick later.
/// So it is the list's last, and its end.
pub struct Finished<B: Backend> {
    newest: AtomicPtr<Job<B>>,
}

impl<B: Backend> Finished<B> {
    /// No jobs.
    pub const fn new() -> Self {
        Self {
            newest: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Adds a job. Doesn't sleep, allocate or wait.
    fn push(&self, job: Pin<KBox<Job<B>>>) {
        let job: *mut Job<B> = job.into_foreign().cast();
        let mut older = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: Ours until the exchange succeeds.
            unsafe { (*job).older = older };
            match self
                .newest
                .compare_exchange(older, job, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => older = now,
            }
        }
        if older.is_null() {
            // SAFETY: The box given away above. Only the work item of the first job, which isn't
            // queued yet, takes jobs off.
            let job = unsafe { Pin::<KBox<Job<B>>>::from_foreign(job.cast()) };
            B::reaper().enqueue_delayed(job, 1);
        }
    }

    /// Drops all jobs. `first` carried the work item.
    fn drop_all(&self, first: Pin<KBox<Job<B>>>) {
        // It is in the list, and dropped as a part of it.
        let _ = first.into_foreign();
        let mut next = self.newest.swap(core::ptr::null_mut(), Ordering::Acquire);
        while !next.is_null() {
            // SAFETY: From the box that `push()` gave away, and off the list.
            let job = unsafe { Pin::<KBox<Job<B>>>::from_foreign(next.cast()) };
            next = job.older;
        }
    }
}

impl<B: Backend> Default for Finished<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// A scheduler job.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Job<B: Backend> {
    #[pin]
    base: Opaque<bindings::drm_sched_job>,
    #[pin]
    reap: DelayedWork<Job<B>>,
    /// The next in the list of finished jobs.
    older: *mut Job<B>,
    data: B::Job,
}

// SAFETY: A job is owned by one thread at a time, see `PendingJob` and the callbacks.
unsafe impl<B: Backend> Send for Job<B> {}

#[pinned_drop]
impl<B: Backend> PinnedDrop for Job<B> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised in `PendingJob::new()`. Either never armed, or done.
        unsafe { bindings::drm_sched_job_cleanup(self.base.get()) };
    }
}

impl_has_delayed_work! {
    impl{B: Backend} HasDelayedWork<Job<B>> for Job<B> { self.reap }
}

impl<B: Backend> WorkItem for Job<B> {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Self::Pointer) {
        B::finished().drop_all(this);
    }
}

impl<B: Backend> Job<B> {
    const OPS: bindings::drm_sched_backend_ops = bindings::drm_sched_backend_ops {
        prepare_job: None,
        run_job: Some(Self::run_job),
        timedout_job: None,
        free_job: Some(Self::free_job),
        cancel_job: None,
    };

    /// # Safety
    ///
    /// Called by the scheduler, once per job.
    unsafe extern "C" fn run_job(job: *mut bindings::drm_sched_job) -> *mut bindings::dma_fence {
        // SAFETY: The scheduler runs a job once, and nothing else touches `data` of a pushed job.
        // There is no timeout that could overlap.
        B::run(unsafe { &mut (*job.cast::<Self>()).data });
        // The work is done: nothing to wait for.
        core::ptr::null_mut()
    }

    /// # Safety
    ///
    /// Called by the scheduler, once per job, as the last thing.
    unsafe extern "C" fn free_job(job: *mut bindings::drm_sched_job) {
        // SAFETY: From the box that `ArmedJob::push()` gave away; the scheduler is done with it.
        let job = unsafe { Pin::<KBox<Self>>::from_foreign(job.cast()) };
        B::finished().push(job);
    }
}

/// Sets up a scheduler for jobs of kind `B`, which run one at a time, on `queue`.
///
/// Many schedulers may share a queue, which needn't be an ordered one. A scheduler has two work
/// items. The one that runs jobs runs one of them at a time: a work item doesn't run twice at once.
/// The other frees jobs that have finished, maybe while the first is not quite done with one; but
/// that doesn't touch a job any more once the job's fence has signalled, and [`fini`] waits for
/// both.
///
/// # Errors
///
/// `ENOMEM`.
///
/// # Safety
///
/// `sched` is zeroed memory that stays in place until [`fini`]; `dev` outlives it.
pub unsafe fn init<B: Backend>(
    sched: *mut bindings::drm_gpu_scheduler,
    dev: *mut bindings::device,
    name: &'static CStr,
    queue: &'static Queue,
) -> Result {
    let mut args: bindings::drm_sched_init_args = pin_init::zeroed();
    args.ops = &Job::<B>::OPS;
    args.submit_wq = core::ptr::from_ref(queue).cast_mut().cast();
    args.num_rqs = 1;
    args.credit_limit = 1;
    args.timeout = kernel::ffi::c_long::MAX;
    args.name = name.as_char_ptr().cast();
    args.dev = dev;
    // SAFETY: The caller's promise; `args` is only read during the call.
    to_result(unsafe { bindings::drm_sched_init(sched, &args) })
}

/// Takes a scheduler down.
///
/// # Safety
///
/// `sched` was set up by [`init`]; all its entities and jobs are gone. Not called from the
/// scheduler's own workqueue.
pub unsafe fn fini(sched: *mut bindings::drm_gpu_scheduler) {
    // Each of the two work items may be about to queue the other, which `drm_sched_fini()`, were it
    // called alone, could have cancelled by then. What is disabled isn't queued any more.
    // SAFETY: Set up, by the caller's promise.
    let free_job = unsafe { &raw mut (*sched).work_free_job };
    // SAFETY: As above.
    let run_job = unsafe { &raw mut (*sched).work_run_job };
    // SAFETY: Of a scheduler that is set up. This isn't its workqueue.
    unsafe { bindings::disable_work_sync(free_job) };
    // SAFETY: As above.
    unsafe { bindings::disable_work_sync(run_job) };
    // SAFETY: Entities and jobs are gone, by the caller's promise.
    unsafe { bindings::drm_sched_fini(sched) };
}

/// Takes the jobs of `entity` off its scheduler. Those that haven't run never will; their fences
/// are signalled with an error once what they wait for is signalled.
///
/// `drm_sched_entity_kill()` isn't enough: a job that is being taken from the entity at that moment
/// puts the entity back into the run queue, and then the scheduler and the killer take the same
/// jobs. So the scheduler rests meanwhile. Stopping it isn't enough either: a fence's callback that
/// has found it running may queue its work after that. Disabled work can't be queued.
///
/// Waits for the job that runs. To lockdep the jobs of all schedulers are one, so no lock may be
/// held that any driver's job may wait for, not even indirectly: no resv, and nothing that is taken
/// under one.
///
/// # Safety
///
/// `entity` is initialised and its scheduler was set up by [`init`]. Calls for entities of one
/// scheduler don't overlap, and none comes from the scheduler's own workqueue.
pub unsafe fn kill(entity: *mut bindings::drm_sched_entity) {
    // SAFETY: Initialised, by the caller's promise. Who else stops it, at the end of its file,
    // doesn't do so at the same time.
    if unsafe { (*entity).stopped } {
        return;
    }
    // SAFETY: As above.
    let rq = unsafe { (*entity).rq };
    // SAFETY: An entity has a run queue of its scheduler. There is one, for which it stays.
    let sched = unsafe { (*rq).sched };
    // SAFETY: Set up by `init()`, as the caller promises.
    let run_job = unsafe { &raw mut (*sched).work_run_job };
    // SAFETY: As above.
    unsafe { bindings::drm_sched_wqueue_stop(sched) };
    // SAFETY: As above, and this isn't the scheduler's workqueue.
    unsafe { bindings::disable_work_sync(run_job) };
    // SAFETY: Initialised, and not stopped yet. The scheduler rests.
    unsafe { bindings::drm_sched_entity_kill(entity) };
    // SAFETY: Disabled above; no other call for this scheduler has done so, by the caller's
    // promise.
    unsafe { bindings::enable_work(run_job) };
    // SAFETY: Stopped above. Queues the work item, too.
    unsafe { bindings::drm_sched_wqueue_start(sched) };
}

/// The timeline that the fences of an entity's jobs are on.
///
/// # Safety
///
/// `entity` is initialised.
pub unsafe fn timeline(entity: *mut bindings::drm_sched_entity) -> u64 {
    // SAFETY: Initialised, by the caller's promise; this never changes.
    let context = unsafe { (*entity).fence_context };
    // A job's fences are on two timelines, of which the second is of those that say that jobs have
    // finished.
    context + 1
}

/// A job that isn't armed yet. Dropping it frees it.
pub struct PendingJob<B: Backend>(Pin<KBox<Job<B>>>);

impl<B: Backend> PendingJob<B> {
    /// Makes a job for `entity`. `client_id` is the DRM client's, for tracing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `entity` is initialised, its scheduler was set up by [`init`] with the same `B`, and `data`
    /// keeps both alive as [`Backend`] asks.
    pub unsafe fn new(
        entity: *mut bindings::drm_sched_entity,
        client_id: u64,
        data: B::Job,
    ) -> Result<Self> {
        Ok(Self(kmalloc()?.write_pin_init(try_pin_init!(Job {
                base <- Opaque::try_ffi_init(|slot| {
                    // SAFETY: `slot` is ours; the entity is alive by the caller's promise.
                    to_result(unsafe {
                        bindings::drm_sched_job_init(slot, entity, 1, entity.cast(), client_id)
                    })
                }),
                reap <- new_delayed_work!("gpuvm_rs::reap"),
                older: core::ptr::null_mut(),
                data,
            }? Error))?))
    }

    /// What it carries.
    pub fn data(&self) -> &B::Job {
        &self.0.data
    }

    /// The C job, for C helpers that add dependencies.
    pub fn as_raw(&mut self) -> *mut bindings::drm_sched_job {
        self.0.base.get()
    }

    /// Lets the job wait for `fence`. A later fence of the same timeline replaces an earlier one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn add_dependency(&mut self, fence: ARef<Fence>) -> Result {
        let fence = ARef::into_raw(fence).as_ptr().cast();
        // SAFETY: The call consumes the reference, also when it fails.
        to_result(unsafe { bindings::drm_sched_job_add_dependency(self.as_raw(), fence) })
    }

    /// Starts the job's fences: the point of no return.
    ///
    /// Jobs of one entity must be armed and pushed in the same order; the caller holds the lock
    /// that sees to it.
    pub fn arm(self) -> ArmedJob<B> {
        // SAFETY: Initialised and not armed yet.
        unsafe { bindings::drm_sched_job_arm(self.0.base.get()) };
        ArmedJob {
            job: ManuallyDrop::new(self.0),
        }
    }
}

/// A job whose fences have started. It gets pushed, come what may.
pub struct ArmedJob<B: Backend> {
    job: ManuallyDrop<Pin<KBox<Job<B>>>>,
}

impl<B: Backend> ArmedJob<B> {
    /// The fence that says that the job has run.
    pub fn finished(&self) -> ARef<Fence> {
        // SAFETY: Ours until it is pushed.
        let s_fence = unsafe { (*self.job.base.get()).s_fence };
        // SAFETY: A job has it from `new()` to its end.
        let finished = unsafe { &raw mut (*s_fence).finished };
        // SAFETY: Armed, so that the fence is initialised; it lives as long as the job.
        unsafe { Fence::from_raw(finished) }.into()
    }

    /// Hands the job to the scheduler.
    pub fn push(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` isn't used again.
        unsafe { this.push_inner() };
    }

    /// # Safety
    ///
    /// Called once, as the last thing.
    unsafe fn push_inner(&mut self) {
        // SAFETY: Taken once, by the caller's promise.
        let job = unsafe { ManuallyDrop::take(&mut self.job) };
        // The scheduler doesn't move the job, and `free_job()` takes the box back.
        let job = job.into_foreign();
        // SAFETY: Armed and not pushed yet; it may be freed by the time this returns.
        unsafe { bindings::drm_sched_entity_push_job(job.cast()) };
    }
}

impl<B: Backend> Drop for ArmedJob<B> {
    fn drop(&mut self) {
        // SAFETY: `data` isn't pinned structurally, and nothing is moved out of the job.
        let job = unsafe { self.job.as_mut().get_unchecked_mut() };
        B::abandon(&mut job.data);
        // SAFETY: The last thing, and not done yet: `push()` forgets `self`.
        unsafe { self.push_inner() };
    }
}
