// SPDX-License-Identifier: GPL-2.0-only

//! GEM object references, and the proof that an object's resv is locked.

use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    sync::aref::AlwaysRefCounted,
    types::Opaque, //
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
        // SAFETY: The size is written before the object is published and never again.
        unsafe { (*self.as_raw()).size as u64 }
    }

    /// Locks the resv if nobody else has.
    pub fn try_lock(&self) -> Option<ObjGuard<'_>> {
        // SAFETY: Alive; the guard unlocks.
        unsafe {
            bindings::gpuvm_rs_obj_trylock(self.as_raw()).then(|| ObjGuard(ObjLocked::new(self)))
        }
    }

    /// Whether all of the object's fences are signalled.
    pub fn is_idle(&self) -> bool {
        // SAFETY: Alive.
        unsafe {
            bindings::dma_resv_test_signaled(
                self.resv(),
                bindings::dma_resv_usage_DMA_RESV_USAGE_BOOKKEEP,
            )
        }
    }

    /// Waits up to `jiffies`, not interruptibly, until all of the object's fences are signalled. Returns how many jiffies
    /// are left; 0 if the fences are not signalled.
    pub fn wait_idle_timeout(&self, jiffies: usize) -> usize {
        // SAFETY: Alive.
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
        // SAFETY: The pointer is written before the object is published and never again.
        unsafe { (*self.as_raw()).resv }
    }
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

    /// The object, for as long as it is locked.
    pub fn object(&self) -> &'l GemObject {
        self.obj
    }

    /// The token for a lock that C code holds around a call into Rust.
    ///
    /// # Safety
    ///
    /// The type invariant holds for `'l`. It is asserted when lockdep is on.
    pub unsafe fn assume(obj: &'l GemObject) -> Self {
        // SAFETY: The object is alive.
        unsafe { bindings::gpuvm_rs_assert_obj_locked(obj.as_raw()) };
        // SAFETY: The caller's promise.
        unsafe { Self::new(obj) }
    }
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
        // SAFETY: Locked when this was made.
        unsafe { bindings::gpuvm_rs_obj_unlock(self.0.as_raw()) };
    }
}

impl Deref for ObjLocked<'_> {
    type Target = GemObject;

    fn deref(&self) -> &GemObject {
        self.obj
    }
}
