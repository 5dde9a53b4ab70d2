// SPDX-License-Identifier: GPL-2.0-only

//! Where an object goes whose last reference is dropped under reclaim.
//!
//! Freeing an object takes locks that the task may hold that has run out of memory: those of the
//! VMs that the object is still mapped in, or those of another driver. So reclaim doesn't do it: a
//! work item does.

use core::ops::Deref;

use kernel::{
    prelude::*,
    types::Opaque, //
};

use super::{
    container_of,
    gem::GemObject,
    lru::{
        Lru,
        LruGuard, //
    }, //
};
use crate::bindings;

/// The objects of a device that wait to be freed.
///
/// # Invariants
///
/// `dev` is alive. Of each object in `dead` there is one reference, which the graveyard owns.
#[pin_data(PinnedDrop)]
pub struct Graveyard {
    dev: *mut bindings::drm_device,
    #[pin]
    dead: Lru,
    #[pin]
    work: Opaque<bindings::work_struct>,
}

// SAFETY: What is shared is locked; the work item locks for itself.
unsafe impl Send for Graveyard {}
// SAFETY: As above.
unsafe impl Sync for Graveyard {}

impl Graveyard {
    /// An empty one.
    ///
    /// # Safety
    ///
    /// `dev` outlives it.
    pub(super) unsafe fn new(dev: *mut bindings::drm_device) -> impl PinInit<Self> {
        // INVARIANT: The caller's promise; empty.
        pin_init!(Self {
            dev,
            dead <- Lru::init(),
            // SAFETY: The work item stays where it is until it was cancelled.
            work <- Opaque::ffi_init(|slot| unsafe {
                bindings::gpuvm_rs_work_init(slot, Some(Self::run));
            }),
        })
    }

    /// Whose objects they are. Alive for as long as the graveyard.
    pub(super) fn device(&self) -> *mut bindings::drm_device {
        self.dev
    }

    /// Drops a reference; if it is the last one, the work item does it.
    fn put(&self, obj: &GemObject) {
        // SAFETY: The caller owns a reference, which is given up here or by `bury()`.
        if unsafe { bindings::gpuvm_rs_obj_put_not_last(obj.as_raw()) } {
            return;
        }
        // New references come from an LRU, under this lock, or from an existing one.
        let locked = self.lock();
        // SAFETY: As above: the reference is still there.
        if !unsafe { bindings::gpuvm_rs_obj_put_not_last(obj.as_raw()) } {
            // INVARIANT: The only reference, and no LRU that is walked has it any more.
            self.dead.move_tail(obj, &locked);
            // SAFETY: Initialised in `new()`; dropping the graveyard waits for it.
            unsafe { bindings::gpuvm_rs_work_queue(self.work.get()) };
        }
    }

    /// Locks the device's LRUs.
    fn lock(&self) -> LruGuard<'_> {
        // SAFETY: The device is alive, by the type invariant.
        unsafe { LruGuard::new(self.dev) }
    }

    /// Frees them.
    fn bury(&self) {
        loop {
            let locked = self.lock();
            let Some(obj) = self.dead.first(&locked) else {
                return;
            };
            drop(locked);
            // SAFETY: Alive, by the reference that the graveyard owns, see the type invariant.
            unsafe { bindings::drm_gem_lru_remove(obj) };
            // SAFETY: That reference, which was the graveyard's as long as the object was in
            // `dead`.
            unsafe { bindings::drm_gem_object_put(obj) };
        }
    }

    /// The work item.
    ///
    /// # Safety
    ///
    /// `work` is in a graveyard.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        let this = container_of!(Opaque::cast_from(work).cast_mut(), Self, work);
        // SAFETY: The caller's promise; dropping the graveyard waits for the work item.
        let this = unsafe { &*this };
        this.bury();
    }
}

#[pinned_drop]
impl PinnedDrop for Graveyard {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised; nobody queues it any more.
        unsafe { bindings::cancel_work_sync(self.work.get()) };
        self.bury();
    }
}

/// A reference to an object that was found in an LRU, under reclaim perhaps: dropping it frees
/// nothing.
pub struct Visited<'a> {
    obj: &'a GemObject,
    graveyard: &'a Graveyard,
}

impl<'a> Visited<'a> {
    /// # Safety
    ///
    /// The caller owns a reference to `obj`, one of the device's, and gives it up.
    pub(super) unsafe fn new(obj: &'a GemObject, graveyard: &'a Graveyard) -> Self {
        Self { obj, graveyard }
    }
}

impl Deref for Visited<'_> {
    type Target = GemObject;

    fn deref(&self) -> &GemObject {
        self.obj
    }
}

impl Drop for Visited<'_> {
    fn drop(&mut self) {
        self.graveyard.put(self.obj);
    }
}
