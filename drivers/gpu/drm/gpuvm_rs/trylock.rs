// SPDX-License-Identifier: GPL-2.0-only

//! Locking the VMs that an object is mapped in without waiting: what reclaim may do.
//!
//! Reclaim runs on behalf of a task that may hold any of these locks already, and whose ww ticket
//! isn't known.

use core::ops::Deref;

use super::gem::{
    GemObject,
    ObjLocked, //
};
use crate::bindings;

/// Proof that an object is locked, and every VM that it is mapped in: its mappings can be taken
/// down.
///
/// # Invariants
///
/// The resvs of the first `locked` of the object's VMs that don't share its own are held, and these
/// are all.
pub struct AllLocked<'l> {
    obj: &'l ObjLocked<'l>,
    locked: usize,
}

impl<'l> AllLocked<'l> {
    /// Locks the VMs of `obj`, unless somebody has one of them.
    pub fn try_lock(obj: &'l ObjLocked<'l>) -> Option<Self> {
        // INVARIANT: None so far; whatever happens, those that were locked are unlocked.
        let mut this = Self { obj, locked: 0 };
        for resv in vm_resvs(obj) {
            // SAFETY: The VM is alive while its vm_bo is on the object's list.
            if !unsafe { bindings::dma_resv_trylock(resv) } {
                return None;
            }
            this.locked += 1;
        }
        Some(this)
    }
}

impl AllLocked<'_> {
    /// Says in all VMs that map the object that it has no pages: those of VM_BIND bring it back
    /// before their next submit ([`Attempt::lock_evicted`](super::exec::Attempt::lock_evicted)).
    pub fn set_evicted(&self) {
        for vm_bo in self.obj.vm_bos() {
            // SAFETY: Alive, since its object is locked, and so is its VM, by the type invariant.
            unsafe { bindings::gpuvm_rs_bo_evict(vm_bo.as_ptr()) };
        }
    }
}

impl Drop for AllLocked<'_> {
    fn drop(&mut self) {
        for resv in vm_resvs(self.obj).take(self.locked) {
            // SAFETY: Locked in `try_lock()`: the object's lock has kept the list as it was.
            unsafe { bindings::dma_resv_unlock(resv) };
        }
    }
}

impl<'l> Deref for AllLocked<'l> {
    type Target = ObjLocked<'l>;

    fn deref(&self) -> &ObjLocked<'l> {
        self.obj
    }
}

/// The resvs of the VMs that `obj` is mapped in, but for its own.
fn vm_resvs<'l>(obj: &'l ObjLocked<'_>) -> impl Iterator<Item = *mut bindings::dma_resv> + 'l {
    obj.vm_bos()
        .map(|vm_bo| {
            // SAFETY: Alive, as it is on the list of an object that is locked.
            let vm = unsafe { (*vm_bo.as_ptr()).vm };
            // SAFETY: The vm_bo has a reference to it.
            let resv_obj = unsafe { (*vm).r_obj };
            // SAFETY: The VM has a reference to it.
            unsafe { GemObject::from_raw(resv_obj) }.resv()
        })
        .filter(|&resv| resv != obj.resv())
}
