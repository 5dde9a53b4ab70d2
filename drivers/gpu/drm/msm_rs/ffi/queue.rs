// SPDX-License-Identifier: GPL-2.0-only

//! Submitqueues.

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    warn_on, //
};

use super::{
    bindings,
    vm::Closing, //
};
use crate::gpuvm_rs::sched;

/// What a submitqueue is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueKind {
    /// VM_BIND.
    Bind,
    /// SUBMIT.
    Gpu,
}

/// A reference to a submitqueue.
///
/// It keeps the queue's context, and through that the VM, alive. Dropping the last reference
/// destroys a VM_BIND queue's scheduler entity, which may sleep.
pub(crate) struct Queue(NonNull<bindings::msm_gpu_submitqueue>);

// SAFETY: Reference counted and shared between threads in C.
unsafe impl Send for Queue {}
// SAFETY: As above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Looks up the queue `id`, which is to be of kind `kind`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EINVAL` if it is of another kind.
    ///
    /// # Safety
    ///
    /// `ctx` is the context of an open file.
    pub(super) unsafe fn get(
        ctx: *mut bindings::msm_context,
        id: u32,
        kind: QueueKind,
    ) -> Result<Self> {
        // SAFETY: The caller's promise; the call returns a reference or NULL.
        let queue = unsafe { bindings::msm_submitqueue_get(ctx, id) };
        let queue = Self(NonNull::new(queue).ok_or(ENOENT)?);
        if queue.is_for_binds() != (kind == QueueKind::Bind) {
            return Err(EINVAL);
        }
        Ok(queue)
    }

    /// Takes over a reference.
    ///
    /// # Safety
    ///
    /// The caller owns it.
    pub(super) unsafe fn from_raw(queue: NonNull<bindings::msm_gpu_submitqueue>) -> Self {
        Self(queue)
    }

    /// Gives the reference away.
    pub(super) fn into_raw(self) -> *mut bindings::msm_gpu_submitqueue {
        core::mem::ManuallyDrop::new(self).raw()
    }

    /// The C object.
    pub(super) fn raw(&self) -> *mut bindings::msm_gpu_submitqueue {
        self.0.as_ptr()
    }

    fn is_for_binds(&self) -> bool {
        // SAFETY: `self` owns a reference; the flags never change.
        let flags = unsafe { (*self.raw()).flags };
        flags & bindings::MSM_SUBMITQUEUE_VM_BIND != 0
    }

    /// The id by which userspace knows it.
    pub(crate) fn id(&self) -> i32 {
        // SAFETY: `self` owns a reference; the id never changes.
        unsafe { (*self.0.as_ptr()).id }
    }

    /// The scheduler entity, alive as long as `self`.
    pub(super) fn entity(&self) -> *mut bindings::drm_sched_entity {
        // SAFETY: `self` owns a reference; the pointer never changes.
        unsafe { (*self.0.as_ptr()).entity }
    }

    /// Locks the queue: jobs are armed and pushed in one order.
    ///
    /// # Errors
    ///
    /// `EINTR` for a signal.
    pub(crate) fn lock(&self) -> Result<QueueLocked<'_>> {
        // SAFETY: `self` owns a reference.
        kernel::error::to_result(unsafe { bindings::msm_rs_queue_lock(self.0.as_ptr()) })?;
        Ok(QueueLocked(self))
    }

    /// Takes the queue's jobs off the scheduler. Those that haven't run never will; their fences
    /// are signalled with an error once what they wait for is signalled.
    ///
    /// Does nothing, but warns, if it isn't a VM_BIND queue of the VM that is being closed.
    pub(crate) fn kill(&self, closing: &Closing<'_>) {
        // SAFETY: `self` owns a reference, and with it one to the context, which never changes.
        let ctx = unsafe { (*self.raw()).ctx };
        // SAFETY: As above. A context that has queues keeps its VM.
        let vm = unsafe { (*ctx).vm };
        let is_its = core::ptr::eq(vm, closing.vm().as_raw());
        if warn_on!(!is_its || !self.is_for_binds()) {
            return;
        }
        // SAFETY: `self` owns a reference, and so keeps the entity. Its scheduler is one that only
        // the VM's queues use, and `closing` says that nobody else does this to them, nor holds a
        // lock.
        unsafe { sched::kill(self.entity()) };
    }
}

impl Clone for Queue {
    /// Another reference.
    fn clone(&self) -> Self {
        // SAFETY: `self` owns a reference.
        unsafe { bindings::msm_rs_queue_get(self.0.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: `self` owns a reference.
        unsafe { bindings::msm_submitqueue_put(self.0.as_ptr()) };
    }
}

/// Proof that a queue is locked.
pub(crate) struct QueueLocked<'a>(&'a Queue);

impl Drop for QueueLocked<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked by `Queue::lock()`, and borrowed.
        unsafe { bindings::msm_rs_queue_unlock(self.0 .0.as_ptr()) };
    }
}
