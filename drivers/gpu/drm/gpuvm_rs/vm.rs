// SPDX-License-Identifier: GPL-2.0-only

//! The GPU VM, its vm_bos, and the proof that it is locked.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/vm.rs")]
//! ```

use core::{
    marker::PhantomData,
    mem::offset_of,
    ops::Deref,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    sync::aref::AlwaysRefCounted,
    types::Opaque, //
};

use super::{
    from_result,
    gem::{
        vas_of,
        GemObject,
        ObjLocked, //
    },
    list::Entries,
    sm, to_result,
    va::{
        GpuVa,
        GpuVaRemoved, //
    },
};
use crate::bindings;

pub use super::range::VaRange;

/// What a driver adds to a GPUVM.
///
/// # Safety
///
/// `free()` gives back the memory that the `drm_gpuvm` is embedded in.
pub unsafe trait Driver: Sized + 'static {
    /// What each VMA carries besides the `drm_gpuva`. Dropped with the VMA.
    type Va;

    /// A page-table step that a transaction records besides VMA changes, see [`super::txn`].
    type Step: Send;

    /// Says that neither page tables nor the TLB lead to what certain removed VMAs mapped. Whoever
    /// makes one is responsible for that.
    type Unreachable;

    /// What [`Self::validate`] is to know of who calls it.
    type Validation;

    /// A VMA of `obj`, with `data`, was taken out of the tree for good by a transaction. Until
    /// [`Self::retired`] page tables may lead to the object's pages, which have to stay the
    /// object's until then. Returns whether it keeps them: then it needn't be called for other VMAs
    /// of the object that the transaction took out.
    fn removed(_vm: &VmLocked<'_, Self>, _obj: &ObjLocked<'_>, _data: &mut Self::Va) -> bool {
        false
    }

    /// Undoes [`Self::removed`], if it was called for this VMA. Nothing leads any more to the pages
    /// of any VMA that the transaction took out; it is called for each of them, on the
    /// fence-signalling path, or where page tables end. No resv is held.
    fn retired(_obj: &GemObject, _data: &mut Self::Va) {}

    /// Makes the VMAs of an evicted vm_bo usable again (`drm_gpuvm_validate()`).
    ///
    /// The VM and the object are locked.
    fn validate(
        vm: &VmLocked<'_, Self>,
        obj: &ObjLocked<'_>,
        vm_bo: &VmBo<'_, Self>,
        how: &Self::Validation,
    ) -> Result;

    /// The last reference to `vm` is gone; its tree is empty.
    ///
    /// # Safety
    ///
    /// Called once, by `drm_gpuvm_put()`; nothing refers to the VM any more.
    unsafe fn free(vm: NonNull<GpuVm<Self>>);
}

/// A request to map `range`, from `offset` in `obj`, or to nothing (a NULL mapping) without `obj`.
#[derive(Clone, Copy)]
pub struct MapRequest<'a> {
    /// Where.
    pub range: VaRange,
    /// What; `None` for a NULL mapping.
    pub obj: Option<&'a GemObject>,
    /// From which byte of it.
    pub offset: u64,
}

impl MapRequest<'_> {
    pub(super) fn to_raw(self) -> bindings::drm_gpuvm_map_req {
        let mut raw: bindings::drm_gpuvm_map_req = pin_init::zeroed();
        raw.map.va.addr = self.range.addr();
        raw.map.va.range = self.range.len();
        raw.map.gem.obj = self.obj.map_or(core::ptr::null_mut(), GemObject::as_raw);
        raw.map.gem.offset = self.offset;
        raw
    }
}

/// A `struct drm_gpuvm` of driver `T`.
#[repr(transparent)]
pub struct GpuVm<T: Driver>(Opaque<bindings::drm_gpuvm>, PhantomData<T>);

// SAFETY: A GPUVM is shared between threads; its tree is only reachable through `VmLocked`.
unsafe impl<T: Driver> Send for GpuVm<T> {}
// SAFETY: As above.
unsafe impl<T: Driver> Sync for GpuVm<T> {}

// SAFETY: `drm_gpuvm_get()` and `drm_gpuvm_put()` keep the VM alive between them.
unsafe impl<T: Driver> AlwaysRefCounted for GpuVm<T> {
    fn inc_ref(&self) {
        // SAFETY: A shared reference proves that the VM is alive.
        unsafe { bindings::drm_gpuvm_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up one reference.
        unsafe { bindings::drm_gpuvm_put(obj.as_ptr().cast()) };
    }
}

impl<T: Driver> GpuVm<T> {
    /// The callbacks to pass to `drm_gpuvm_init()`.
    pub const OPS: bindings::drm_gpuvm_ops = bindings::drm_gpuvm_ops {
        vm_free: Some(Self::vm_free),
        op_alloc: None,
        op_free: None,
        vm_bo_alloc: None,
        vm_bo_free: None,
        vm_bo_validate: Some(Self::vm_bo_validate),
        sm_step_map: Some(sm::step_map::<T>),
        sm_step_remap: Some(sm::step_remap::<T>),
        sm_step_unmap: Some(sm::step_unmap::<T>),
    };

    /// Borrows a VM that C code holds a reference to.
    ///
    /// # Safety
    ///
    /// `ptr` was initialised with [`Self::OPS`] of the same `T` and stays referenced for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::drm_gpuvm) -> &'a Self {
        // SAFETY: `Self` is transparent over `drm_gpuvm`; the rest is the caller's promise.
        unsafe { &*ptr.cast() }
    }

    /// The C object.
    pub fn as_raw(&self) -> *mut bindings::drm_gpuvm {
        self.0.get()
    }

    /// The object whose resv the VM shares with its private objects.
    pub fn resv_obj(&self) -> &GemObject {
        // SAFETY: `self` keeps the VM. The pointer never changes.
        let obj = unsafe { (*self.as_raw()).r_obj };
        // SAFETY: The VM holds a reference to it from `drm_gpuvm_init()` to its end.
        unsafe { GemObject::from_raw(obj) }
    }

    /// Whether `obj` is private to this VM, that is, shares its resv.
    pub fn is_private(&self, obj: &GemObject) -> bool {
        obj.resv() == self.resv_obj().resv()
    }

    /// Whether `range` lies in the address space that the VM manages.
    pub fn range_valid(&self, range: VaRange) -> bool {
        // SAFETY: `self` keeps the VM. Its bounds never change.
        unsafe { bindings::drm_gpuvm_range_valid(self.as_raw(), range.addr(), range.len()) }
    }

    /// Callback for `drm_gpuvm_ops::vm_free`.
    ///
    /// # Safety
    ///
    /// Called by `drm_gpuvm` for the last reference to a VM of driver `T`.
    unsafe extern "C" fn vm_free(vm: *mut bindings::drm_gpuvm) {
        if let Some(vm) = NonNull::new(vm.cast()) {
            // SAFETY: `drm_gpuvm_put()` calls this once, for the last reference.
            unsafe { T::free(vm) }
        }
    }

    /// Callback for `drm_gpuvm_ops::vm_bo_validate`.
    ///
    /// # Safety
    ///
    /// Called by `drm_gpuvm_validate()` for a VM of driver `T`, with the VM and the object locked.
    /// What it was given as its `drm_exec` is a `T::Validation`.
    unsafe extern "C" fn vm_bo_validate(
        vm_bo: *mut bindings::drm_gpuvm_bo,
        how: *mut bindings::drm_exec,
    ) -> core::ffi::c_int {
        // SAFETY: `drm_gpuvm_validate()` holds a reference to the vm_bo.
        let vm = unsafe { (*vm_bo).vm };
        // SAFETY: The vm_bo holds a reference to it. It is of driver `T`, whose callback this is.
        let vm = unsafe { Self::from_raw(vm) };
        // SAFETY: `drm_gpuvm_validate()` wants the VM locked: the caller's promise.
        let vm = unsafe { VmLocked::new(vm) };
        // SAFETY: As for the VM.
        let obj = unsafe { (*vm_bo).obj };
        // SAFETY: The vm_bo holds a reference to it.
        let obj = unsafe { GemObject::from_raw(obj) };
        // SAFETY: As for the VM.
        let obj = unsafe { ObjLocked::new(obj) };
        // SAFETY: Alive, and its object is locked, see above.
        let vm_bo = unsafe { VmBo::borrowed(vm_bo, &obj) };
        // SAFETY: The caller's promise; borrowed while `drm_gpuvm_validate()` runs.
        let how = unsafe { &*how.cast::<T::Validation>() };
        from_result(T::validate(&vm, &obj, &vm_bo, how))
    }
}

/// Proof that a VM's resv is locked for `'l`: its tree can be read and changed.
///
/// # Invariants
///
/// The VM's resv is locked by the current context for `'l`.
pub struct VmLocked<'l, T: Driver> {
    vm: &'l GpuVm<T>,
    /// Locks belong to a task.
    _not_send: PhantomData<*mut ()>,
}

impl<'l, T: Driver> VmLocked<'l, T> {
    /// # Safety
    ///
    /// The type invariant holds for `'l`.
    pub(super) unsafe fn new(vm: &'l GpuVm<T>) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            vm,
            _not_send: PhantomData,
        }
    }

    /// The token for a lock that C code holds around a call into Rust.
    ///
    /// # Safety
    ///
    /// The type invariant holds for `'l`. It is asserted when lockdep is on.
    pub unsafe fn assume(vm: &'l GpuVm<T>) -> Self {
        // SAFETY: The VM that is borrowed has a reference to its resv object.
        unsafe { bindings::gpuvm_rs_assert_obj_locked(vm.resv_obj().as_raw()) };
        // SAFETY: The caller's promise.
        unsafe { Self::new(vm) }
    }

    /// The first VMA, if any.
    pub fn first(&self) -> Option<VaCursor<'_, T>> {
        // SAFETY: The tree's list is guarded by the lock that `self` proves.
        let va = unsafe { bindings::gpuvm_rs_first_va(self.vm.as_raw()) };
        NonNull::new(va).map(|va| VaCursor {
            va,
            _vm: PhantomData,
        })
    }

    /// Calls `f` for each VMA, by address.
    #[cfg_attr(not(CONFIG_KUNIT = "y"), allow(dead_code))]
    pub fn for_each_va(&self, mut f: impl FnMut(&GpuVa<T>)) {
        // SAFETY: The token borrows the VM, which is alive.
        let head = unsafe { &raw mut (*self.vm.as_raw()).rb.list };
        let offset = offset_of!(bindings::drm_gpuva, rb.entry);
        // SAFETY: drm_gpuvm's list of VMAs, which is guarded by the lock that `self` proves; `f`
        // gets no token with which to remove a VMA.
        for va in unsafe { Entries::<bindings::drm_gpuva>::of(head, offset) } {
            // SAFETY: In the tree.
            f(unsafe { GpuVa::from_raw(va.as_ptr()) });
        }
    }

    /// Calls `f` for each VMA that overlaps `range`, by address, until one returns an error.
    pub fn try_for_each_va_in(
        &self,
        range: VaRange,
        mut f: impl FnMut(&GpuVa<T>) -> Result,
    ) -> Result {
        // SAFETY: The tree is guarded by the lock that `self` proves.
        let first =
            unsafe { bindings::drm_gpuva_find_first(self.vm.as_raw(), range.addr(), range.len()) };
        if first.is_null() {
            return Ok(());
        }
        // SAFETY: The token borrows the VM, which is alive.
        let head = unsafe { &raw mut (*self.vm.as_raw()).rb.list };
        // SAFETY: In the tree.
        let first = unsafe { &raw mut (*first).rb.entry };
        let offset = offset_of!(bindings::drm_gpuva, rb.entry);
        // SAFETY: drm_gpuvm's list of VMAs, on which all are that are in the tree; as the tree. `f`
        // gets no token with which to remove a VMA.
        for va in unsafe { Entries::<bindings::drm_gpuva>::from(head, first, offset) } {
            // SAFETY: In the tree.
            let va = unsafe { GpuVa::<T>::from_raw(va.as_ptr()) };
            if va.range().addr() >= range.end() {
                break;
            }
            f(va)?;
        }
        Ok(())
    }

    /// Runs the split and merge steps for `req`, see [`sm::Steps`].
    ///
    /// # Errors
    ///
    /// The first error that a step returned (the steps before it have been done), `EINVAL` for a
    /// range outside the VM.
    pub fn sm_map<S: sm::Steps<T>>(&self, req: &MapRequest<'_>, steps: &mut S) -> Result {
        let raw = req.to_raw();
        let mut steps: &mut dyn sm::Steps<T> = steps;
        // SAFETY: `self` proves that the VM is locked. Its callbacks are `GpuVm::OPS`, which know
        // the type behind `priv`.
        to_result(unsafe {
            bindings::drm_gpuvm_sm_map(self.vm.as_raw(), (&raw mut steps).cast(), &raw)
        })
    }

    /// Calls `f` with each object that is mapped here and has lost its pages since the last
    /// [`validate`](super::exec::Locked::validate), until it returns an error.
    ///
    /// # Errors
    ///
    /// What it returns. `EINVAL` for a VM whose lists the VM's lock doesn't guard
    /// (`DRM_GPUVM_RESV_PROTECTED`).
    pub(super) fn try_for_each_evicted(&self, f: impl Fn(&GemObject) -> Result) -> Result {
        let vm = self.vm.as_raw();
        // SAFETY: The VM is borrowed, hence alive. Its flags never change.
        let flags = unsafe { (*vm).flags };
        if flags & bindings::drm_gpuvm_flags_DRM_GPUVM_RESV_PROTECTED == 0 {
            return Err(EINVAL);
        }
        // SAFETY: As above.
        let head = unsafe { &raw mut (*vm).evict.list };
        let offset = offset_of!(bindings::drm_gpuvm_bo, list.entry.evict);
        // SAFETY: drm_gpuvm's list of vm_bos. The VM's lock guards it, as just seen, and is held;
        // `f` gets nothing with which to change it.
        for vm_bo in unsafe { Entries::<bindings::drm_gpuvm_bo>::of(head, offset) } {
            // SAFETY: On the list, hence in memory. Its object never changes.
            let obj = unsafe { (*vm_bo.as_ptr()).obj };
            // SAFETY: The vm_bo has a reference to it until it leaves the list.
            f(unsafe { GemObject::from_raw(obj) })?;
        }
        Ok(())
    }

    /// Runs the split steps for unmapping `range`. Errors as [`Self::sm_map`].
    pub fn sm_unmap<S: sm::Steps<T>>(&self, range: VaRange, steps: &mut S) -> Result {
        let mut steps: &mut dyn sm::Steps<T> = steps;
        // SAFETY: As in `sm_map()`.
        to_result(unsafe {
            bindings::drm_gpuvm_sm_unmap(
                self.vm.as_raw(),
                (&raw mut steps).cast(),
                range.addr(),
                range.len(),
            )
        })
    }
}

impl<T: Driver> Deref for VmLocked<'_, T> {
    type Target = GpuVm<T>;

    fn deref(&self) -> &GpuVm<T> {
        self.vm
    }
}

/// A VMA of a locked VM that can be taken out of the tree.
pub struct VaCursor<'l, T: Driver> {
    va: NonNull<bindings::drm_gpuva>,
    _vm: PhantomData<&'l VmLocked<'l, T>>,
}

impl<'l, T: Driver> VaCursor<'l, T> {
    /// The VMA.
    pub fn va(&self) -> &GpuVa<T> {
        // SAFETY: In the tree until `remove()` consumes the cursor.
        unsafe { GpuVa::from_raw(self.va.as_ptr()) }
    }

    /// Takes the VMA out of the tree and its vm_bo's list.
    ///
    /// `obj` proves that the mapped object is locked; it is not needed for NULL mappings.
    ///
    /// # Errors
    ///
    /// Gives the cursor back if `obj` isn't the VMA's object.
    pub fn remove(self, obj: Option<&ObjLocked<'_>>) -> Result<GpuVaRemoved<T>, Self> {
        let mine = self.va().obj().map(GemObject::as_raw);
        if mine != obj.map(|o| o.as_raw()) {
            return Err(self);
        }
        // SAFETY: The cursor's VMA is in the tree of a VM that is locked for `'l`; `obj` proves
        // that its object is, if it has one.
        let mut va = unsafe { GpuVaRemoved::take(self.va) };
        // SAFETY: As above.
        unsafe { va.release_vm_bo() };
        Ok(va)
    }
}

/// A reference to a vm_bo: one object in one VM, with the list of its VMAs.
///
/// Its life is bounded by the object's lock, since dropping the last reference takes it out of the
/// object's list; and by the VM's, if that guards the VM's lists (`DRM_GPUVM_RESV_PROTECTED`): it
/// is made with the VM locked, or from one of the VM's VMAs, which needs that as well.
pub struct VmBo<'l, T: Driver> {
    ptr: NonNull<bindings::drm_gpuvm_bo>,
    _locked: PhantomData<(&'l (), T)>,
}

impl<'l, T: Driver> VmBo<'l, T> {
    /// Finds the vm_bo of `obj` in `vm`, or makes one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn obtain(vm: &'l VmLocked<'_, T>, obj: &'l ObjLocked<'_>) -> Result<Self> {
        // SAFETY: VM and object are borrowed, hence alive; the object's list is guarded by its
        // resv, which `obj` proves to be held.
        let ptr = unsafe { bindings::drm_gpuvm_bo_obtain_locked(vm.as_raw(), obj.as_raw()) };
        let ptr = kernel::error::from_err_ptr(ptr)?;
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
            _locked: PhantomData,
        })
    }

    /// Finds the vm_bo of `obj` in `vm`.
    pub fn find(vm: &'l VmLocked<'_, T>, obj: &'l ObjLocked<'_>) -> Option<Self> {
        // SAFETY: Both are borrowed, hence alive; the object's list is guarded by its resv, which
        // `obj` proves to be held. The call returns a reference or NULL.
        let ptr = unsafe { bindings::drm_gpuvm_bo_find(vm.as_raw(), obj.as_raw()) };
        Some(Self {
            ptr: NonNull::new(ptr)?,
            _locked: PhantomData,
        })
    }

    /// Whether it has VMAs.
    pub(super) fn has_vas(&self) -> bool {
        self.vas().next().is_some()
    }

    /// The first VMA of `obj` in `vm`, if it has one.
    pub fn first_va_of<'v>(
        vm: &'v VmLocked<'_, T>,
        obj: &ObjLocked<'_>,
    ) -> Option<VaCursor<'v, T>> {
        let vm_bo = obj.vm_bos().find(|vm_bo| {
            // SAFETY: Alive while the object is locked.
            unsafe { (*vm_bo.as_ptr()).vm == vm.as_raw() }
        })?;
        // SAFETY: As above. It is of `vm`, which is locked.
        unsafe { Self::first_in(vm_bo.as_ptr()) }
    }

    /// # Safety
    ///
    /// `vm_bo` is alive, and its object and VM locked.
    unsafe fn first_in<'v>(vm_bo: *mut bindings::drm_gpuvm_bo) -> Option<VaCursor<'v, T>> {
        // SAFETY: Alive, and its object locked, by the caller's promise.
        let va = unsafe { vas_of(vm_bo) }.next()?;
        Some(VaCursor {
            va,
            _vm: PhantomData,
        })
    }

    /// The first of its VMAs. `None` if it has none, or isn't of `vm`.
    pub fn first_va<'v>(&self, vm: &'v VmLocked<'_, T>) -> Option<VaCursor<'v, T>> {
        // SAFETY: `self` has a reference. The pointer never changes.
        if unsafe { (*self.as_raw()).vm } != vm.as_raw() {
            return None;
        }
        // SAFETY: `self` has a reference. Its object is locked for `'l`, and the VM for `'v`.
        unsafe { Self::first_in(self.as_raw()) }
    }

    /// # Safety
    ///
    /// `ptr` is alive and of driver `T`; its object is the one that `_obj` proves to be locked.
    unsafe fn borrowed(ptr: *mut bindings::drm_gpuvm_bo, _obj: &'l ObjLocked<'_>) -> Self {
        // SAFETY: The caller holds a reference, so that another one can be taken.
        unsafe { bindings::drm_gpuvm_bo_get(ptr) };
        Self {
            // SAFETY: Alive, hence not NULL.
            ptr: unsafe { NonNull::new_unchecked(ptr) },
            _locked: PhantomData,
        }
    }

    /// The vm_bo of a VMA of the object that `obj` proves to be locked; `None` for another object's
    /// VMA.
    pub fn of_va(va: &GpuVa<T>, obj: &ObjLocked<'l>) -> Option<Self> {
        if va.obj().map(GemObject::as_raw) != Some(obj.as_raw()) {
            return None;
        }
        // SAFETY: The VMA is borrowed, hence alive; the object's lock guards its vm_bo.
        let ptr = NonNull::new(unsafe { (*va.as_raw()).vm_bo })?;
        // SAFETY: A linked VMA holds a reference.
        unsafe { bindings::drm_gpuvm_bo_get(ptr.as_ptr()) };
        Some(Self {
            ptr,
            _locked: PhantomData,
        })
    }

    /// Takes back what [`Self::into_raw`] gave away. `None` for NULL, and for the vm_bo of another
    /// object than `obj`.
    ///
    /// # Safety
    ///
    /// A reference to `ptr`, of driver `T`, is given away, unless it is NULL.
    pub unsafe fn from_raw(
        ptr: *mut bindings::drm_gpuvm_bo,
        obj: &'l ObjLocked<'_>,
    ) -> Option<Self> {
        let ptr = NonNull::new(ptr)?;
        // SAFETY: Alive, by the caller's promise; the object never changes.
        (unsafe { (*ptr.as_ptr()).obj } == obj.as_raw()).then_some(Self {
            ptr,
            _locked: PhantomData,
        })
    }

    /// Gives the reference to C code, which puts it with the object locked.
    pub fn into_raw(self) -> *mut bindings::drm_gpuvm_bo {
        core::mem::ManuallyDrop::new(self).as_raw()
    }

    /// The C object.
    pub fn as_raw(&self) -> *mut bindings::drm_gpuvm_bo {
        self.ptr.as_ptr()
    }

    /// The object.
    pub fn obj(&self) -> &GemObject {
        // SAFETY: `self` has a reference to the vm_bo. The pointer never changes.
        let obj = unsafe { (*self.as_raw()).obj };
        // SAFETY: A vm_bo holds a reference to its object.
        unsafe { GemObject::from_raw(obj) }
    }

    /// Says that the VMAs are mapped again: takes the vm_bo off the VM's evicted list.
    pub fn set_resident(&self) {
        // SAFETY: `self` has a reference, and the object is locked for `'l`.
        unsafe { bindings::drm_gpuvm_bo_evict(self.as_raw(), false) };
    }

    /// Calls `f` for each VMA, until one returns an error.
    pub fn try_for_each_va(&self, mut f: impl FnMut(&GpuVa<T>) -> Result) -> Result {
        self.vas().try_for_each(|va| {
            // SAFETY: In the tree, as it is on the list.
            f(unsafe { GpuVa::from_raw(va.as_ptr()) })
        })
    }

    /// Its VMAs.
    fn vas(&self) -> Entries<'_, bindings::drm_gpuva> {
        // SAFETY: `self` has a reference, and the object is locked for `'l`. Whoever is shown a VMA
        // gets no token with which to remove it.
        unsafe { vas_of(self.as_raw()) }
    }
}

impl<T: Driver> Drop for VmBo<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `self` owns a reference, and the object is locked for `'l`; for the VM see the
        // type's description.
        unsafe { bindings::drm_gpuvm_bo_put(self.as_raw()) };
    }
}
