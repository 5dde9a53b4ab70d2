// SPDX-License-Identifier: GPL-2.0-only

//! LRUs of GEM objects, and the lock that guards them.

use core::{
    marker::PhantomData,
    mem::offset_of,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    types::Opaque, //
};

use super::{
    gem::GemObject,
    list::Entries, //
};
use crate::bindings;

/// Proof that the lock of a device's LRUs (`gem_lru_mutex`) is held for `'l`.
///
/// It comes after objects' resvs, and reclaim takes it: nothing is allocated while it is held.
///
/// # Invariants
///
/// The current context holds `dev`'s lock for `'l`.
pub struct LruLocked<'l> {
    dev: *mut bindings::drm_device,
    _borrow: PhantomData<&'l ()>,
}

impl LruLocked<'_> {
    /// Whether it is the lock of `obj`'s device.
    pub fn guards(&self, obj: &GemObject) -> bool {
        device_of(obj) == self.dev
    }
}

/// The device of an object, which outlives it.
fn device_of(obj: &GemObject) -> *mut bindings::drm_device {
    // SAFETY: Borrowed, hence alive; the pointer never changes.
    unsafe { (*obj.as_raw()).dev }
}

/// Holds the lock of a device's LRUs.
pub struct LruGuard<'l>(LruLocked<'l>);

impl LruGuard<'_> {
    /// Locks.
    ///
    /// # Safety
    ///
    /// `dev` is alive for as long as the guard.
    pub unsafe fn new(dev: *mut bindings::drm_device) -> Self {
        // SAFETY: Alive, by the caller's promise.
        unsafe { bindings::gpuvm_rs_lru_lock(dev) };
        // INVARIANT: Just locked, until the guard is dropped.
        Self(LruLocked {
            dev,
            _borrow: PhantomData,
        })
    }
}

impl Drop for LruGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked in `new()`, and alive, as was promised there.
        unsafe { bindings::gpuvm_rs_lru_unlock(self.0.dev) };
    }
}

impl<'l> Deref for LruGuard<'l> {
    type Target = LruLocked<'l>;

    fn deref(&self) -> &LruLocked<'l> {
        &self.0
    }
}

impl GemObject {
    /// Locks the LRUs of the object's device.
    pub fn lock_lru(&self) -> LruGuard<'_> {
        // SAFETY: A device outlives its objects, one of which the guard borrows.
        unsafe { LruGuard::new(device_of(self)) }
    }
}

/// A `struct drm_gem_lru`: objects of one device, the one that was used longest ago first. An
/// object is in one LRU at most.
#[repr(transparent)]
pub struct Lru(Opaque<bindings::drm_gem_lru>);

// SAFETY: Shared between threads; all but the count is only reachable with the lock.
unsafe impl Send for Lru {}
// SAFETY: As above.
unsafe impl Sync for Lru {}

impl Lru {
    /// Borrows an LRU of C's.
    ///
    /// # Safety
    ///
    /// `ptr` is initialised and stays so for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::drm_gem_lru) -> &'a Self {
        // SAFETY: Transparent; the rest is the caller's promise.
        unsafe { &*ptr.cast() }
    }

    /// An empty LRU.
    pub(super) fn init() -> impl PinInit<Self> {
        let init = |slot: *mut Self| {
            // SAFETY: Memory for an LRU, by the contract of `PinInit`.
            unsafe { bindings::drm_gem_lru_init(slot.cast()) };
            Ok::<(), core::convert::Infallible>(())
        };
        // SAFETY: `drm_gem_lru_init()` initialises all of it.
        unsafe { pin_init::pin_init_from_closure(init) }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::drm_gem_lru {
        self.0.get()
    }

    /// How many pages its objects have. Objects that are being looked at by a
    /// [`Walk`](super::walk::Walk) are missing.
    pub fn pages(&self) -> u64 {
        // SAFETY: `self` is borrowed, hence alive.
        let count = unsafe { &raw const (*self.as_raw()).count };
        // SAFETY: A word of it, which can be read at any time.
        let count = unsafe { count.read_volatile() };
        u64::try_from(count).unwrap_or(0)
    }

    /// Puts `obj` to the end, out of the LRU that it is in.
    pub fn move_tail(&self, obj: &GemObject, locked: &LruLocked<'_>) {
        debug_assert!(locked.guards(obj));
        // SAFETY: Both are borrowed, hence alive, and the token says that the lock is held.
        unsafe { bindings::drm_gem_lru_move_tail_locked(self.as_raw(), obj.as_raw()) };
    }

    /// The first object, which may be on its way out: its last reference may be gone.
    pub(super) fn first(&self, _locked: &LruLocked<'_>) -> Option<*mut bindings::drm_gem_object> {
        // SAFETY: `self` is borrowed, hence alive.
        let head = unsafe { &raw mut (*self.as_raw()).list };
        let offset = offset_of!(bindings::drm_gem_object, lru_node);
        // SAFETY: DRM's list of objects. The token says that its lock is held, which keeps it
        // still; objects leave it before their memory goes.
        let mut objects = unsafe { Entries::<bindings::drm_gem_object>::of(head, offset) };
        objects.next().map(NonNull::as_ptr)
    }
}
