// SPDX-License-Identifier: GPL-2.0-only

//! The module's own workqueues: one on which finished jobs and closed VMs are dropped, one on which
//! BOs of submits are given back, one on which bind jobs run.

use core::sync::atomic::{
    AtomicPtr,
    Ordering, //
};

use kernel::{
    prelude::*,
    workqueue::{
        self,
        Queue, //
    },
};

use super::bindings;

/// A workqueue that is there while the module is.
struct Wq(AtomicPtr<bindings::workqueue_struct>);

impl Wq {
    const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    fn make(&self, name: &'static CStr, reclaim: bool) -> Result {
        // SAFETY: Has no preconditions.
        let wq = unsafe { bindings::msm_rs_alloc_wq(name.as_char_ptr().cast(), reclaim) };
        if wq.is_null() {
            return Err(ENOMEM);
        }
        self.0.store(wq, Ordering::Release);
        Ok(())
    }

    fn destroy(&self) {
        let wq = self.0.swap(core::ptr::null_mut(), Ordering::AcqRel);
        if !wq.is_null() {
            // SAFETY: From `make()`; nothing is queued any more, and destroying waits for what was.
            unsafe { bindings::destroy_workqueue(wq) };
        }
    }

    fn flush(&self) {
        let wq = self.0.load(Ordering::Acquire);
        if !wq.is_null() {
            // SAFETY: Destroyed only after the last device is gone, see `exit()`.
            unsafe { bindings::msm_rs_flush_wq(wq) };
        }
    }

    fn queue(&self) -> &'static Queue {
        let wq = self.0.load(Ordering::Acquire);
        if wq.is_null() {
            return workqueue::system_unbound();
        }
        // SAFETY: Destroyed only after the last user is gone, see `exit()`.
        unsafe { Queue::from_raw(wq.cast()) }
    }
}

static REAPER: Wq = Wq::new();
static RETIRED: Wq = Wq::new();
static BINDS: Wq = Wq::new();

/// Makes the queues; before anything else of the module runs.
pub(crate) fn init() -> Result {
    REAPER
        .make(c"msm_rs", false)
        .and_then(|()| RETIRED.make(c"msm_rs_retired", false))
        .and_then(|()| BINDS.make(c"msm_rs_binds", true))
        .inspect_err(|_| {
            RETIRED.destroy();
            REAPER.destroy();
        })
}

/// Waits for what is queued and destroys the queues; after everything else of the module ended.
/// What is on the reaper may still end schedulers.
///
/// # Safety
///
/// Nothing queues anything any more, and nobody has a queue that [`reaper`] or [`binds`] returned.
pub(crate) unsafe fn exit() {
    // What it drops may end on the reaper.
    RETIRED.destroy();
    REAPER.destroy();
    BINDS.destroy();
}

/// Waits for what is to be dropped now. What waits for a fence isn't queued.
pub(crate) fn flush() {
    RETIRED.flush();
    REAPER.flush();
}

/// The queue for what is dropped. What runs there may sleep and take any lock, but nothing on the
/// fence-signalling path waits for it.
pub(crate) fn reaper() -> &'static Queue {
    REAPER.queue()
}

/// The queue for submits that BOs have to be locked for to give them back, each for as long as that
/// takes: any number may wait there, and the reaper goes on.
pub(super) fn retired() -> *mut bindings::workqueue_struct {
    RETIRED.0.load(Ordering::Acquire)
}

/// The queue for the schedulers of all VM_BIND VMs. What runs there is on the fence-signalling
/// path: it waits for nothing else that runs there, nor for memory, so that the one worker that
/// there always is gets all of it done.
pub(super) fn binds() -> &'static Queue {
    BINDS.queue()
}

/// Keeps the module from being unloaded.
pub(crate) struct InUse(());

impl InUse {
    /// Another user. There must be one already, such as an open file.
    pub(crate) fn new() -> Self {
        // SAFETY: The module is in use by the caller.
        unsafe { bindings::msm_rs_module_get() };
        Self(())
    }

    /// A C object is the user from now on.
    pub(super) fn leave(self) {
        core::mem::forget(self);
    }

    /// That object is going.
    ///
    /// # Safety
    ///
    /// Called once for each user that was left.
    pub(super) unsafe fn take_back() -> Self {
        Self(())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // SAFETY: Taken in `new()`. What runs on the reaper, for a scheduler or for the GPU ends
        // before the module's exit does.
        unsafe { bindings::msm_rs_module_put() };
    }
}

/// How many entries a VM log has, as a power of two: the module parameter `vm_log_shift`.
pub(crate) fn vm_log_shift() -> u32 {
    // SAFETY: Reads a module parameter.
    unsafe { bindings::msm_rs_vm_log_shift() }
}
