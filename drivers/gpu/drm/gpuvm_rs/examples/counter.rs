// SPDX-License-Identifier: GPL-2.0-only

//! What the example of `sched` is about.

use core::sync::atomic::{
    AtomicU32,
    Ordering, //
};

use kernel::{
    prelude::*,
    sync::Arc,
    types::Opaque,
    workqueue, //
};

use crate::{
    bindings,
    gpuvm_rs::sched::{
        self,
        Backend, //
    },
};

#[pin_data(PinnedDrop)]
struct Scheduler {
    #[pin]
    raw: Opaque<bindings::drm_gpu_scheduler>,
}

impl Scheduler {
    /// # Safety
    ///
    /// `dev` outlives it.
    unsafe fn new<B: Backend>(dev: *mut bindings::device) -> impl PinInit<Self, Error> {
        let init = move |slot: *mut bindings::drm_gpu_scheduler| {
            // SAFETY: Memory for one, by the contract of `PinInit`.
            unsafe { slot.write_bytes(0, 1) };
            let queue = workqueue::system_unbound();
            // SAFETY: Zeroed; stays in place until `drop()`. The device is the caller's promise.
            unsafe { sched::init::<B>(slot, dev, c"counter", queue) }
        };
        try_pin_init!(Self { raw <- Opaque::try_ffi_init(init) }? Error)
    }
}

#[pinned_drop]
impl PinnedDrop for Scheduler {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised. The entity and its jobs are gone; this isn't a job.
        unsafe { sched::fini(self.raw.get()) };
    }
}

#[pin_data(PinnedDrop)]
struct Entity {
    #[pin]
    raw: Opaque<bindings::drm_sched_entity>,
}

impl Entity {
    /// # Safety
    ///
    /// `sched` is initialised, and outlives it.
    unsafe fn new(mut sched: *mut bindings::drm_gpu_scheduler) -> impl PinInit<Self, Error> {
        let init = move |slot: *mut bindings::drm_sched_entity| {
            // There is one run queue.
            let priority = bindings::drm_sched_priority_DRM_SCHED_PRIORITY_KERNEL;
            let none = core::ptr::null_mut();
            // SAFETY: Initialises all of it. The list of one is only read.
            kernel::error::to_result(unsafe {
                bindings::drm_sched_entity_init(slot, priority, &mut sched, 1, none)
            })
        };
        try_pin_init!(Self { raw <- Opaque::try_ffi_init(init) }? Error)
    }
}

#[pinned_drop]
impl PinnedDrop for Entity {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised. Its jobs are gone: they refer to the counter.
        unsafe { bindings::drm_sched_entity_destroy(self.raw.get()) };
    }
}

/// How many counters there are.
static COUNTERS: AtomicU32 = AtomicU32::new(0);

/// One of them.
struct Counted;

impl Counted {
    fn new() -> Self {
        COUNTERS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNTERS.fetch_sub(1, Ordering::Release);
    }
}

/// A scheduler with one entity, whose jobs count.
#[pin_data]
pub(super) struct Counter {
    // Dropped in this order.
    #[pin]
    entity: Entity,
    #[pin]
    sched: Scheduler,
    count: AtomicU32,
    _counted: Counted,
}

// SAFETY: Scheduler and entity lock what they share.
unsafe impl Send for Counter {}
// SAFETY: As above.
unsafe impl Sync for Counter {}

impl Counter {
    /// A counter at 0, for jobs of kind `B`.
    ///
    /// # Safety
    ///
    /// `dev` outlives it.
    pub(super) unsafe fn new<B: Backend>(dev: *mut bindings::device) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(&this in Self {
                // SAFETY: The caller's promise.
                sched <- unsafe { Scheduler::new::<B>(dev) },
                entity <- {
                    // SAFETY: Memory for a counter, whose scheduler was initialised above.
                    let sched = unsafe { &raw const (*this.as_ptr()).sched.raw };
                    // SAFETY: It is dropped after the entity.
                    unsafe { Entity::new(Opaque::cast_into(sched)) }
                },
                count: AtomicU32::new(0),
                _counted: Counted::new(),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// The entity, as long as the counter is there.
    pub(super) fn entity(&self) -> *mut bindings::drm_sched_entity {
        self.entity.raw.get()
    }

    pub(super) fn count_one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How far it is.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether nothing is left of any: those of jobs go a tick later.
    pub(super) fn none_left() -> bool {
        COUNTERS.load(Ordering::Acquire) == 0
    }
}
