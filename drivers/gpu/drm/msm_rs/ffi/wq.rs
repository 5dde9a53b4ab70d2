// SPDX-License-Identifier: GPL-2.0-only

//! The module's own workqueue, on which finished jobs and closed VMs are dropped.

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

static REAPER: AtomicPtr<bindings::workqueue_struct> = AtomicPtr::new(core::ptr::null_mut());

/// Makes the queue; before anything else of the module runs.
pub(super) fn init() -> Result {
    // SAFETY: Has no preconditions.
    let wq = unsafe { bindings::msm_rs_alloc_wq() };
    if wq.is_null() {
        return Err(ENOMEM);
    }
    REAPER.store(wq, Ordering::Release);
    Ok(())
}

/// Waits for what is queued and destroys the queue; after everything else of the module ended.
pub(super) fn exit() {
    let wq = REAPER.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !wq.is_null() {
        // SAFETY: From `init()`; nothing is queued any more, and destroying waits for what was.
        unsafe { bindings::destroy_workqueue(wq) };
    }
}

/// Waits for what is queued now. What waits for a fence isn't queued.
pub(super) fn flush() {
    let wq = REAPER.load(Ordering::Acquire);
    if !wq.is_null() {
        // SAFETY: Destroyed only after the last device is gone, see `exit()`.
        unsafe { bindings::msm_rs_flush_wq(wq) };
    }
}

/// The queue. What runs there may sleep and take any lock, but nothing on the fence-signalling path
/// waits for it.
pub(crate) fn reaper() -> &'static Queue {
    let wq = REAPER.load(Ordering::Acquire);
    if wq.is_null() {
        return workqueue::system_unbound();
    }
    // SAFETY: Destroyed only after the last user is gone, see `exit()`.
    unsafe { Queue::from_raw(wq.cast()) }
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
        // SAFETY: Taken in `new()`. What runs on the reaper, for a scheduler or for the GPU ends before the module's exit
        // does.
        unsafe { bindings::msm_rs_module_put() };
    }
}
