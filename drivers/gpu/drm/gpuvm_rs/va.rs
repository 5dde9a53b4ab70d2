// SPDX-License-Identifier: GPL-2.0-only

//! The life of a VMA as types: [`GpuVaAlloc`] → [`GpuVa`] in the tree → [`GpuVaRemoved`].
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/va.rs")]
//! ```

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
        // SAFETY: `self` keeps the VMA. Written before it enters the tree and never again.
        let va = unsafe { &(*self.as_raw()).va };
        VaRange::from_tree(va.addr, va.range)
    }

    /// The mapped object; `None` for a NULL mapping.
    pub fn obj(&self) -> Option<&GemObject> {
        // SAFETY: `self` keeps the VMA. In the tree, the vm_bo holds a reference to the object; out
        // of it, `GpuVaRemoved` does.
        unsafe { obj_of(self.as_raw()) }
    }

    /// The first mapped byte of the object.
    pub fn offset(&self) -> u64 {
        // SAFETY: `self` keeps the VMA. Written before it enters the tree and never again.
        unsafe { (*self.as_raw()).gem.offset }
    }

    /// The driver's flags (`DRM_GPUVA_USERBITS` and up).
    pub fn flags(&self) -> u32 {
        // SAFETY: `self` keeps the VMA. The flags are guarded by the VM's resv, and a torn read is
        // impossible for a word.
        unsafe { (*self.as_raw()).flags }
    }

    /// What the driver adds.
    pub fn data(&self) -> &T::Va {
        &self.data
    }
}

/// What a VMA maps; `None` for a NULL mapping.
///
/// # Safety
///
/// For `'a` the VMA is alive, and so is its object.
unsafe fn obj_of<'a>(va: *mut bindings::drm_gpuva) -> Option<&'a GemObject> {
    // SAFETY: Alive. Written before the VMA enters the tree and never again.
    let obj = unsafe { (*va).gem.obj };
    // SAFETY: Alive, by the caller's promise.
    (!obj.is_null()).then(|| unsafe { GemObject::from_raw(obj) })
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
        {
            // SAFETY: Ours alone until it is inserted.
            let va = unsafe { &mut *va };
            va.va.addr = range.addr();
            va.va.range = range.len();
            va.gem.offset = offset;
            va.gem.obj = vm_bo.map_or(core::ptr::null_mut(), |b| b.obj().as_raw());
            va.flags = flags;
        }
        // SAFETY: Filled in, and in no tree. The token says that the VM is locked.
        to_result(unsafe { bindings::drm_gpuva_insert(vm.as_raw(), va) })?;
        if let Some(vm_bo) = vm_bo {
            // With the first VMA it became known as an external object, if it is one, and stays
            // that as long as it lives.
            if !vm_bo.has_vas() {
                // SAFETY: A reference to it is borrowed. The VM is locked.
                unsafe { bindings::drm_gpuvm_bo_extobj_add(vm_bo.as_raw()) };
            }
            // SAFETY: In the tree, and on no list. The object is locked for as long as `vm_bo`
            // lives.
            unsafe { bindings::drm_gpuva_link(va, vm_bo.as_raw()) };
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
        // SAFETY: In the tree, hence alive, by the caller's promise.
        if !unsafe { (*raw).vm_bo }.is_null() {
            // SAFETY: As above.
            let obj = unsafe { (*raw).gem.obj };
            // SAFETY: The vm_bo has a reference to it.
            unsafe { bindings::drm_gem_object_get(obj) };
            // Unlike `drm_gpuva_unlink()` this leaves the VMA its reference to the vm_bo.
            // SAFETY: On its vm_bo's list. The object is locked, by the caller's promise.
            unsafe { bindings::gpuvm_rs_unlink(raw) };
        }
        // SAFETY: In the tree of a VM that is locked, by the caller's promise.
        unsafe { bindings::drm_gpuva_remove(raw) };
        // INVARIANT: Out of tree and list; the reference to the object was taken above.
        Self { va: va.cast() }
    }

    fn raw(&self) -> *mut bindings::drm_gpuva {
        // SAFETY: Owned, by the type invariant.
        unsafe { self.va.as_ref() }.as_raw()
    }

    /// Drops the vm_bo reference, after which the removal can't be undone.
    ///
    /// # Safety
    ///
    /// The VMA's object is locked, and so is the VM.
    pub(super) unsafe fn release_vm_bo(&mut self) {
        let vm_bo = self.take_vm_bo();
        // SAFETY: A reference that was ours, or NULL, which is ignored. Object and VM are
        // locked, by the caller's promise.
        unsafe { bindings::drm_gpuvm_bo_put(vm_bo) };
    }

    /// Takes the vm_bo reference out; NULL if there is none.
    fn take_vm_bo(&self) -> *mut bindings::drm_gpuvm_bo {
        // SAFETY: Owned, by the type invariant, and in no tree, so that nobody else looks at it.
        unsafe { core::mem::replace(&mut (*self.raw()).vm_bo, core::ptr::null_mut()) }
    }

    /// Gives the vm_bo up, after which the removal can't be undone, and tells the driver, unless
    /// that keeps the VMA's object for another VMA already (`kept`). `locked` has the object's
    /// lock, as it did when the VMA was taken out.
    pub(super) fn commit(
        &mut self,
        vm: &VmLocked<'_, T>,
        locked: &impl ObjLocks,
        kept: &mut *mut bindings::drm_gem_object,
    ) {
        // SAFETY: Owned; in no tree, so that nobody else has a reference to it.
        let va = unsafe { self.va.as_mut() };
        let raw = va.as_raw();
        // SAFETY: Owned, with a reference to the object if it has one, by the type invariant.
        let obj = unsafe { obj_of(raw) };
        if let Some(obj) = obj.filter(|obj| obj.as_raw() != *kept) {
            if locked
                .of(obj)
                .is_some_and(|obj| T::removed(vm, &obj, &mut va.data))
            {
                *kept = obj.as_raw();
            }
        }
        // SAFETY: `locked` has the object's lock, and `vm` is the VM's.
        unsafe { self.release_vm_bo() };
    }

    /// Tells the driver that page tables don't lead to what it mapped any more.
    pub(super) fn retire(&mut self) {
        // SAFETY: Owned; in no tree, so that nobody else has a reference to it.
        let va = unsafe { self.va.as_mut() };
        // SAFETY: Owned, with a reference to the object if it has one, by the type invariant.
        let obj = unsafe { obj_of(va.as_raw()) };
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
        let raw = this.raw();
        let vm_bo = this.take_vm_bo();
        // SAFETY: Owned, and in no tree, by the type invariant. The token says that the VM is
        // locked. At a free, valid range it can't fail.
        let ret = unsafe { bindings::drm_gpuva_insert(vm.as_raw(), raw) };
        debug_assert_eq!(ret, 0);
        if !vm_bo.is_null() {
            // SAFETY: In the tree, and on no list. The object is locked, by the caller's promise.
            unsafe { bindings::drm_gpuva_link(raw, vm_bo) };
            // SAFETY: The reference that we had; linking took another.
            unsafe { bindings::drm_gpuvm_bo_put(vm_bo) };
            // SAFETY: In the tree, hence alive: it is locked.
            let obj = unsafe { (*raw).gem.obj };
            // SAFETY: The reference that we had; the vm_bo has its own.
            unsafe { bindings::drm_gem_object_put(obj) };
        }
    }
}

impl<T: Driver> Drop for GpuVaRemoved<T> {
    fn drop(&mut self) {
        let vm_bo = self.take_vm_bo();
        // SAFETY: Owned, by the type invariant.
        let obj = unsafe { (*self.raw()).gem.obj };
        // SAFETY: The box that `GpuVaAlloc::insert()` gave away, which isn't looked at any more.
        drop(unsafe { KBox::from_raw(self.va.as_ptr()) });
        // SAFETY: NULL, which is ignored, or a reference that was ours: only on the undo path,
        // where the transaction has the locks of object and VM.
        unsafe { bindings::drm_gpuvm_bo_put(vm_bo) };
        // SAFETY: NULL, which is ignored, or the reference that was ours.
        unsafe { bindings::drm_gem_object_put(obj) };
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
        let va = core::mem::ManuallyDrop::new(va);
        // SAFETY: Owned, and on no list, by the type invariant.
        unsafe { (*va.raw()).rb.entry.next = self.head.cast() };
        self.head = va.va.as_ptr();
    }

    /// Takes the newest VMA.
    pub fn pop(&mut self) -> Option<GpuVaRemoved<T>> {
        // INVARIANT: As when it was pushed.
        let va = GpuVaRemoved {
            va: NonNull::new(self.head)?,
        };
        // SAFETY: Owned, by the type invariant. `push()` has put the next one there.
        self.head = unsafe { (*va.raw()).rb.entry.next.cast() };
        Some(va)
    }
}

impl<T: Driver> Drop for GpuVaList<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
