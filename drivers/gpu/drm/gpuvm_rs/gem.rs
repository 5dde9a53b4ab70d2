// SPDX-License-Identifier: GPL-2.0-only

//! GEM object references, and the proof that an object's resv is locked.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/gem.rs")]
//! ```

use core::{
    marker::PhantomData,
    mem::offset_of,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};

use super::{
    fence::Fence,
    list::Entries,
    to_result, //
};
use crate::bindings;

/// A `struct drm_gem_object`, of whichever driver.
#[repr(transparent)]
pub struct GemObject(Opaque<bindings::drm_gem_object>);

// SAFETY: GEM objects are shared between threads by design.
unsafe impl Send for GemObject {}
// SAFETY: As above; what needs a lock is only reachable through `ObjLocked`.
unsafe impl Sync for GemObject {}

// SAFETY: `drm_gem_object_get()` and `drm_gem_object_put()` keep the object alive between them.
unsafe impl AlwaysRefCounted for GemObject {
    fn inc_ref(&self) {
        // SAFETY: A shared reference proves that the object is alive.
        unsafe { bindings::drm_gem_object_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up one reference.
        unsafe { bindings::drm_gem_object_put(obj.as_ptr().cast()) };
    }
}

impl GemObject {
    /// Borrows an object that C code holds a reference to.
    ///
    /// # Safety
    ///
    /// `ptr` is an initialised GEM object that stays referenced for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::drm_gem_object) -> &'a Self {
        // SAFETY: `Self` is transparent over `drm_gem_object`; the rest is the caller's promise.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub fn as_raw(&self) -> *mut bindings::drm_gem_object {
        self.0.get()
    }

    /// Size in bytes, a multiple of the page size.
    pub fn size(&self) -> u64 {
        // SAFETY: `self` keeps the object alive. The size is written before it is published, and
        // never again.
        unsafe { (*self.as_raw()).size as u64 }
    }

    /// Whether its pages belong to somebody else, who exported them as a dma-buf.
    pub fn is_imported(&self) -> bool {
        // SAFETY: `self` keeps the object alive; this never changes once it is published.
        unsafe { bindings::drm_gem_is_imported(self.as_raw()) }
    }

    /// Locks the resv. The wait can't be interrupted.
    pub fn lock(&self) -> ObjGuard<'_> {
        // SAFETY: `self` keeps the object alive.
        unsafe { bindings::gpuvm_rs_obj_lock(self.as_raw()) };
        // SAFETY: Just locked, until the guard unlocks.
        ObjGuard(unsafe { ObjLocked::new(self) })
    }

    /// Locks the resv.
    ///
    /// # Errors
    ///
    /// `EINTR` for a signal.
    pub fn lock_interruptible(&self) -> Result<ObjGuard<'_>> {
        // SAFETY: `self` keeps the object alive.
        to_result(unsafe { bindings::gpuvm_rs_obj_lock_interruptible(self.as_raw()) })?;
        // SAFETY: Just locked, until the guard unlocks.
        Ok(ObjGuard(unsafe { ObjLocked::new(self) }))
    }

    /// Locks the resv if nobody else has.
    pub fn try_lock(&self) -> Option<ObjGuard<'_>> {
        // SAFETY: `self` keeps the object alive.
        let locked = unsafe { bindings::gpuvm_rs_obj_trylock(self.as_raw()) };
        // SAFETY: Just locked, until the guard unlocks.
        locked.then(|| ObjGuard(unsafe { ObjLocked::new(self) }))
    }

    /// One of the object's fences that isn't signalled, if there is any.
    pub fn busy(&self) -> Option<ARef<Fence>> {
        // SAFETY: `self` keeps the object, and so its resv, alive.
        let fence = unsafe { bindings::gpuvm_rs_resv_busy(self.resv()) };
        // SAFETY: The call returns a reference or NULL.
        unsafe { Fence::from_owned(fence) }
    }

    /// As [`Self::busy`], of the fences that belong to jobs of the DRM client `client`.
    pub fn busy_of(&self, client: u64) -> Option<ARef<Fence>> {
        // SAFETY: `self` keeps the object, and so its resv, alive.
        let fence = unsafe { bindings::gpuvm_rs_resv_busy_of(self.resv(), client) };
        // SAFETY: The call returns a reference or NULL.
        unsafe { Fence::from_owned(fence) }
    }

    /// As [`Self::busy`], of the fences that don't belong to jobs of the scheduler `sched`, which
    /// isn't looked at.
    pub fn busy_but(&self, sched: *const bindings::drm_gpu_scheduler) -> Option<ARef<Fence>> {
        // SAFETY: `self` keeps the object, and so its resv, alive.
        let fence = unsafe { bindings::gpuvm_rs_resv_busy_but(self.resv(), sched) };
        // SAFETY: The call returns a reference or NULL.
        unsafe { Fence::from_owned(fence) }
    }

    /// Waits for the fences that the object has now, but for those of the scheduler `sched`, which
    /// isn't looked at.
    ///
    /// A signal doesn't end that, unless it kills the caller: another one might come again and
    /// again.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` if the caller was killed, or the system is about to sleep; `ENOMEM`.
    pub fn wait_for_all_but(&self, sched: *const bindings::drm_gpu_scheduler) -> Result {
        // SAFETY: `self` keeps the object, and so its resv, alive.
        to_result(unsafe { bindings::gpuvm_rs_resv_wait_for_all_but(self.resv(), sched) })
    }

    /// Waits up to `jiffies` for what somebody who reads (or writes) has to wait for, by implicit
    /// synchronisation.
    ///
    /// Returns whether it came to that.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` for a signal.
    pub fn wait_implicit(&self, write: bool, jiffies: usize) -> Result<bool> {
        let usage = usage_rw(write);
        // SAFETY: `self` keeps the object, and so its resv, alive.
        let left = unsafe { bindings::dma_resv_wait_timeout(self.resv(), usage, true, jiffies) };
        if left < 0 {
            to_result(left as core::ffi::c_int)?;
        }
        Ok(left > 0)
    }

    /// Asks for the fences that [`Self::wait_implicit`] waits for to be signalled at `when`, in ns
    /// of `CLOCK_MONOTONIC`.
    pub fn set_deadline(&self, write: bool, when: i64) {
        let usage = usage_rw(write);
        // SAFETY: `self` keeps the object, and so its resv, alive.
        unsafe { bindings::dma_resv_set_deadline(self.resv(), usage, when) };
    }

    /// Waits up to `jiffies`, not interruptibly, until all of the object's fences are signalled.
    /// Returns how many jiffies are left, or 1 if none were given; 0 if the fences are not
    /// signalled.
    pub fn wait_idle_timeout(&self, jiffies: usize) -> usize {
        // SAFETY: `self` keeps the object, and so its resv, alive.
        let left = unsafe {
            bindings::dma_resv_wait_timeout(
                self.resv(),
                bindings::dma_resv_usage_DMA_RESV_USAGE_BOOKKEEP,
                false,
                jiffies,
            )
        };
        usize::try_from(left).unwrap_or(0)
    }

    /// The reservation object that guards this object.
    pub(super) fn resv(&self) -> *mut bindings::dma_resv {
        // SAFETY: `self` keeps the object alive. The pointer is written before it is published, and
        // never again.
        unsafe { (*self.as_raw()).resv }
    }
}

/// Whose fences somebody who reads (or writes) has to wait for.
fn usage_rw(write: bool) -> bindings::dma_resv_usage {
    // SAFETY: Has no preconditions.
    unsafe { bindings::gpuvm_rs_usage_rw(write) }
}

/// Proof that an object's resv is locked for `'l`.
///
/// Gives access to what the resv guards: the object's list of vm_bos and VMAs, its pages, its
/// fences.
///
/// # Invariants
///
/// The resv of `obj` is locked by the current context for `'l`, or the object's reference count is
/// zero (it is being freed, so nobody else can reach it).
pub struct ObjLocked<'l> {
    obj: &'l GemObject,
    /// Locks belong to a task.
    _not_send: PhantomData<*mut ()>,
}

impl<'l> ObjLocked<'l> {
    /// # Safety
    ///
    /// The type invariant holds for `'l`.
    pub(super) unsafe fn new(obj: &'l GemObject) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            obj,
            _not_send: PhantomData,
        }
    }

    /// The token for a lock that C code holds around a call into Rust.
    ///
    /// # Safety
    ///
    /// The type invariant holds for `'l`. It is asserted when lockdep is on.
    pub unsafe fn assume(obj: &'l GemObject) -> Self {
        // SAFETY: `obj` is borrowed, hence alive.
        unsafe { bindings::gpuvm_rs_assert_obj_locked(obj.as_raw()) };
        // SAFETY: The caller's promise.
        unsafe { Self::new(obj) }
    }

    /// The same proof, for as long as this one is borrowed.
    pub fn reborrow(&self) -> ObjLocked<'_> {
        // SAFETY: Held for `'l`, by the type invariant, which is longer than the borrow.
        unsafe { Self::new(self.obj) }
    }

    /// Whether any VM maps the object.
    pub fn is_mapped(&self) -> bool {
        self.vm_bos().next().is_some()
    }

    /// The object's vm_bos, which are alive while it is locked.
    pub(super) fn vm_bos(&self) -> Entries<'_, bindings::drm_gpuvm_bo> {
        // SAFETY: The object is borrowed, hence alive.
        let head = unsafe { &raw mut (*self.as_raw()).gpuva.list };
        // SAFETY: drm_gpuvm's list of the object's vm_bos. By the type invariant its lock is held,
        // which guards the list; who takes a vm_bo off has this token, too.
        unsafe { Entries::of(head, offset_of!(bindings::drm_gpuvm_bo, list.entry.gem)) }
    }

    /// Whether the VM at `vm` maps the object, which may be a stale pointer: if it does, it is
    /// alive for as long as the object is locked.
    pub fn is_mapped_in(&self, vm: *const bindings::drm_gpuvm) -> bool {
        self.vm_bos().any(|vm_bo| {
            // SAFETY: Alive while the object is locked.
            core::ptr::eq(unsafe { (*vm_bo.as_ptr()).vm }, vm)
        })
    }

    /// Calls `f` for each VM that maps the object, or is about to. They are alive for the call, and
    /// not locked.
    pub fn for_each_vm(&self, mut f: impl FnMut(NonNull<bindings::drm_gpuvm>)) {
        for vm_bo in self.vm_bos() {
            // SAFETY: Alive while the object is locked, and it keeps its VM alive.
            let vm = unsafe { (*vm_bo.as_ptr()).vm };
            if let Some(vm) = NonNull::new(vm) {
                f(vm);
            }
        }
    }

    /// Calls `f` for each VMA of the object, in whichever VM. They are alive for the call.
    pub fn for_each_va(&self, mut f: impl FnMut(NonNull<bindings::drm_gpuva>)) {
        for vm_bo in self.vm_bos() {
            // SAFETY: Alive, as its object is locked. `f` gets no token with which to remove a VMA.
            unsafe { vas_of(vm_bo.as_ptr()) }.for_each(&mut f);
        }
    }
}

/// The VMAs of a vm_bo.
///
/// # Safety
///
/// As long as this is used, `vm_bo` is alive, and its object locked. Nobody takes a VMA off the
/// list that this hasn't returned.
pub(super) unsafe fn vas_of<'l>(
    vm_bo: *mut bindings::drm_gpuvm_bo,
) -> Entries<'l, bindings::drm_gpuva> {
    // SAFETY: Alive, by the caller's promise.
    let head = unsafe { &raw mut (*vm_bo).list.gpuva };
    // SAFETY: drm_gpuvm's list of the vm_bo's VMAs, which the object's lock guards.
    unsafe { Entries::of(head, offset_of!(bindings::drm_gpuva, gem.entry)) }
}

/// An object's lock, held until this is dropped.
pub struct ObjGuard<'l>(ObjLocked<'l>);

impl<'l> Deref for ObjGuard<'l> {
    type Target = ObjLocked<'l>;

    fn deref(&self) -> &ObjLocked<'l> {
        &self.0
    }
}

impl Drop for ObjGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked when this was made, and since then, by the token's invariant.
        unsafe { bindings::gpuvm_rs_obj_unlock(self.0.as_raw()) };
    }
}

impl Deref for ObjLocked<'_> {
    type Target = GemObject;

    fn deref(&self) -> &GemObject {
        self.obj
    }
}

/// The locks of several objects, which are held.
pub trait ObjLocks {
    /// The lock of `obj`; `None` if it isn't among them.
    fn of<'a>(&'a self, obj: &'a GemObject) -> Option<ObjLocked<'a>>;
}
