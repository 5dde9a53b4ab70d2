// SPDX-License-Identifier: GPL-2.0-only

//! The life of a VMA as types: [`GpuVaAlloc`] → [`GpuVa`] in the tree → [`GpuVaRemoved`].

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    types::Opaque, //
};

use super::{
    gem::{
        GemObject,
        ObjLocks, //
    },
    kmalloc, to_result,
    vm::{
        Driver,
        VaRange,
        VmBo,
        VmLocked, //
    },
};
use crate::bindings;

/// A VMA: a `struct drm_gpuva` with what the driver adds to it.
#[repr(C)]
pub struct GpuVa<T: Driver> {
    base: Opaque<bindings::drm_gpuva>,
    data: T::Va,
}

impl<T: Driver> GpuVa<T> {
    /// # Safety
    ///
    /// `ptr` is embedded in a `GpuVa<T>` that stays alive for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::drm_gpuva) -> &'a Self {
        // SAFETY: `base` is the first field; the rest is the caller's promise.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub fn as_raw(&self) -> *mut bindings::drm_gpuva {
        self.base.get()
    }

    /// Where it is (or was) mapped.
    pub fn range(&self) -> VaRange {
        // SAFETY: Written before the VMA enters the tree and never again.
        let va = unsafe { &(*self.as_raw()).va };
        VaRange::from_tree(va.addr, va.range)
    }

    /// The mapped object; `None` for a NULL mapping.
    pub fn obj(&self) -> Option<&GemObject> {
        // SAFETY: Written before the VMA enters the tree and never again. In the tree, the vm_bo
        // holds a reference to the object; out of it, `GpuVaRemoved` does.
        unsafe {
            let obj = (*self.as_raw()).gem.obj;
            (!obj.is_null()).then(|| GemObject::from_raw(obj))
        }
    }

    /// The first mapped byte of the object.
    pub fn offset(&self) -> u64 {
        // SAFETY: Written before the VMA enters the tree and never again.
        unsafe { (*self.as_raw()).gem.offset }
    }

    /// The driver's flags (`DRM_GPUVA_USERBITS` and up).
    pub fn flags(&self) -> u32 {
        // SAFETY: The VMA is alive; the flags are guarded by the VM's resv, and a torn read is
        // impossible for a word.
        unsafe { (*self.as_raw()).flags }
    }

    /// What the driver adds.
    pub fn data(&self) -> &T::Va {
        &self.data
    }
}

/// A VMA that isn't in any tree yet.
pub struct GpuVaAlloc<T: Driver>(KBox<GpuVa<T>>);

impl<T: Driver> GpuVaAlloc<T> {
    /// Allocates a VMA that carries `data`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(data: T::Va) -> Result<Self> {
        let va = GpuVa {
            base: Opaque::zeroed(),
            data,
        };
        Ok(Self(KBox::write(kmalloc()?, va)))
    }

    /// What the driver adds.
    pub fn data(&self) -> &T::Va {
        &self.0.data
    }

    /// Puts the VMA into `vm`'s tree at `range`, and on the list of its vm_bo (a NULL mapping has
    /// none), from byte `offset` of the object.
    ///
    /// Returns the VMA for C code; it stays valid until it is removed.
    ///
    /// # Errors
    ///
    /// `EEXIST` if something is mapped there, `EINVAL` for a range outside the VM. The VMA is
    /// freed.
    pub fn insert(
        self,
        vm: &VmLocked<'_, T>,
        range: VaRange,
        vm_bo: Option<&VmBo<'_, T>>,
        offset: u64,
        flags: u32,
    ) -> Result<NonNull<bindings::drm_gpuva>> {
        let va = self.0.as_raw();
        // SAFETY: `va` is ours alone until it is inserted. The VM is locked, and so is the object
        // for as long as `vm_bo` lives.
        unsafe {
            (*va).va.addr = range.addr();
            (*va).va.range = range.len();
            (*va).gem.offset = offset;
            (*va).gem.obj = vm_bo.map_or(core::ptr::null_mut(), |b| b.obj().as_raw());
            (*va).flags = flags;
            to_result(bindings::drm_gpuva_insert(vm.as_raw(), va))?;
            if let Some(vm_bo) = vm_bo {
                // With the first VMA it became known as an external object, if it is one, and stays
                // that as long as it lives.
                if !vm_bo.has_vas() {
                    bindings::drm_gpuvm_bo_extobj_add(vm_bo.as_raw());
                }
                bindings::drm_gpuva_link(va, vm_bo.as_raw());
            }
        }
        // The tree owns the VMA now.
        let va: *mut GpuVa<T> = KBox::into_raw(self.0);
        // SAFETY: From a box, hence not NULL.
        Ok(unsafe { NonNull::new_unchecked(va.cast()) })
    }
}

/// A VMA that was taken out of the tree.
///
/// It keeps the object, and so the pages, alive until it is dropped: drop it only when the page
/// tables don't reach the pages any more. Dropping may free the object and so may sleep.
///
/// # Invariants
///
/// `va` is owned, in no tree and on no list. If its `gem.obj` isn't NULL, a reference to it is
/// owned. If its `vm_bo` isn't NULL, a reference to it is owned, and the object is locked.
pub struct GpuVaRemoved<T: Driver> {
    va: NonNull<GpuVa<T>>,
}

// SAFETY: An owned VMA on no list is only reachable through this value.
unsafe impl<T: Driver> Send for GpuVaRemoved<T> where T::Va: Send {}
// SAFETY: As above.
unsafe impl<T: Driver> Sync for GpuVaRemoved<T> where T::Va: Sync {}

impl<T: Driver> GpuVaRemoved<T> {
    /// Takes `va` out of its tree and off its vm_bo's list, keeping references to vm_bo and object.
    ///
    /// # Safety
    ///
    /// `va` is in the tree of a VM of driver `T`; the VM and the VMA's object are locked.
    pub(super) unsafe fn take(va: NonNull<bindings::drm_gpuva>) -> Self {
        let raw = va.as_ptr();
        // SAFETY: In the tree, so that VM, vm_bo and object are alive; the caller holds the locks.
        unsafe {
            if !(*raw).vm_bo.is_null() {
                bindings::drm_gem_object_get((*raw).gem.obj);
                // Unlike `drm_gpuva_unlink()` this leaves the VMA its reference to the vm_bo.
                bindings::gpuvm_rs_unlink(raw);
            }
            bindings::drm_gpuva_remove(raw);
        }
        // INVARIANT: Out of tree and list; the reference to the object was taken above.
        Self { va: va.cast() }
    }

    /// Drops the vm_bo reference, after which the removal can't be undone.
    ///
    /// # Safety
    ///
    /// The VMA's object is locked.
    pub(super) unsafe fn release_vm_bo(&mut self) {
        // SAFETY: Owned; the object is locked, by the caller's promise. NULL is ignored.
        unsafe {
            let raw = self.va.as_ref().as_raw();
            bindings::drm_gpuvm_bo_put(core::mem::replace(
                &mut (*raw).vm_bo,
                core::ptr::null_mut(),
            ));
        }
    }

    /// Gives the vm_bo up, after which the removal can't be undone, and tells the driver. `locked`
    /// has the lock of the VMA's object, as it did when the VMA was taken out.
    pub(super) fn commit(&mut self, vm: &VmLocked<'_, T>, locked: &impl ObjLocks) {
        // SAFETY: Owned; in no tree, so that nobody else has a reference to it.
        let va = unsafe { self.va.as_mut() };
        let raw = va.as_raw();
        // SAFETY: Owned. `gem.obj` isn't NULL for the VMA of an object, to which it has a
        // reference.
        let obj =
            unsafe { (!(*raw).gem.obj.is_null()).then(|| GemObject::from_raw((*raw).gem.obj)) };
        if let Some(obj) = obj.and_then(|obj| locked.of(obj)) {
            T::removed(vm, &obj, &mut va.data);
        }
        // SAFETY: Owned; the object is locked, see above.
        unsafe { self.release_vm_bo() };
    }

    /// Tells the driver that page tables don't lead to what it mapped any more.
    pub(super) fn retire(&mut self) {
        // SAFETY: Owned; in no tree, so that nobody else has a reference to it.
        let va = unsafe { self.va.as_mut() };
        // SAFETY: Owned, with a reference to the object if it has one.
        let obj = unsafe {
            let obj = (*va.as_raw()).gem.obj;
            (!obj.is_null()).then(|| GemObject::from_raw(obj))
        };
        if let Some(obj) = obj {
            T::retired(obj, &mut va.data);
        }
    }

    /// Puts the VMA back where it was.
    ///
    /// # Safety
    ///
    /// The VM is the one that it was taken from, VM and object are locked, the range is free, and
    /// [`Self::release_vm_bo`] wasn't called.
    pub(super) unsafe fn restore(self, vm: &VmLocked<'_, T>) {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: Owned and locked, see above; inserting at a free, valid range can't fail.
        // `drm_gpuva_link()` takes its own reference to the vm_bo.
        unsafe {
            let raw = this.va.as_ref().as_raw();
            let vm_bo = core::mem::replace(&mut (*raw).vm_bo, core::ptr::null_mut());
            let ret = bindings::drm_gpuva_insert(vm.as_raw(), raw);
            debug_assert_eq!(ret, 0);
            if !vm_bo.is_null() {
                bindings::drm_gpuva_link(raw, vm_bo);
                bindings::drm_gpuvm_bo_put(vm_bo);
                bindings::drm_gem_object_put((*raw).gem.obj);
            }
        }
    }
}

impl<T: Driver> Drop for GpuVaRemoved<T> {
    fn drop(&mut self) {
        // SAFETY: Owned, from a box. A vm_bo reference is only left on the undo path, where the
        // object is locked.
        unsafe {
            let raw = self.va.as_ref().as_raw();
            let (vm_bo, obj) = ((*raw).vm_bo, (*raw).gem.obj);
            drop(KBox::from_raw(self.va.as_ptr()));
            bindings::drm_gpuvm_bo_put(vm_bo);
            bindings::drm_gem_object_put(obj);
        }
    }
}

/// Removed VMAs, to be dropped together once no lock is held any more.
///
/// They are chained through the list heads that they needed in the tree: adding one can't fail.
pub struct GpuVaList<T: Driver> {
    /// The newest; the others follow in `rb.entry.next`.
    head: *mut GpuVa<T>,
}

impl<T: Driver> GpuVaList<T> {
    /// An empty list.
    pub fn new() -> Self {
        Self {
            head: core::ptr::null_mut(),
        }
    }

    /// Adds a VMA.
    pub fn push(&mut self, va: GpuVaRemoved<T>) {
        let va = core::mem::ManuallyDrop::new(va).va;
        // SAFETY: Owned, and on no list.
        unsafe { (*va.as_ref().as_raw()).rb.entry.next = self.head.cast() };
        self.head = va.as_ptr();
    }

    /// Takes the newest VMA.
    pub fn pop(&mut self) -> Option<GpuVaRemoved<T>> {
        let va = NonNull::new(self.head)?;
        // SAFETY: Pushed, hence owned.
        self.head = unsafe { (*va.as_ref().as_raw()).rb.entry.next.cast() };
        // INVARIANT: As when it was pushed.
        Some(GpuVaRemoved { va })
    }
}

impl<T: Driver> Drop for GpuVaList<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
