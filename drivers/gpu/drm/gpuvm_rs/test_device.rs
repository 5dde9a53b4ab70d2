// SPDX-License-Identifier: GPL-2.0-only

//! For KUnit tests: a VM and two objects, of a driver that has no hardware.

use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicUsize,
        Ordering, //
    },
};

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use super::{
    exec::{
        Exec,
        Locked, //
    },
    gem::{
        GemObject,
        ObjLocked, //
    },
    va::GpuVaList,
    vm::{
        Driver,
        GpuVm,
        VmBo,
        VmLocked, //
    },
};
use crate::bindings;

/// How many VMAs of tests exist.
pub(super) static VMAS: AtomicUsize = AtomicUsize::new(0);

/// What a test's VMA carries; counted.
pub(super) struct TestVa;

impl TestVa {
    pub(super) fn new() -> Self {
        VMAS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Default for TestVa {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestVa {
    fn drop(&mut self) {
        VMAS.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct TestDriver;

// SAFETY: `free()` gives back the box of `TestVm::new()`.
unsafe impl Driver for TestDriver {
    type Va = TestVa;
    type Step = (u64, u64);
    type Unreachable = ();
    type Validation = ();

    fn validate(
        _vm: &VmLocked<'_, Self>,
        _obj: &ObjLocked<'_>,
        vm_bo: &VmBo<'_, Self>,
        _how: &(),
    ) -> Result {
        vm_bo.set_resident();
        Ok(())
    }

    unsafe fn free(vm: NonNull<GpuVm<Self>>) {
        // SAFETY: From `TestVm::new()`; the last reference is gone.
        drop(unsafe { KBox::from_raw(vm.as_ptr()) });
    }
}

/// A device, one object private to a VM, and one that isn't.
pub(super) struct TestVm {
    vm: Option<ARef<GpuVm<TestDriver>>>,
    private: Option<ARef<GemObject>>,
    extobj: Option<ARef<GemObject>>,
    dev: *mut bindings::drm_device,
}

pub(super) const START: u64 = 0x10000;
pub(super) const SIZE: u64 = 0x10_0000;
pub(super) const PAGE: u64 = 0x1000;

impl TestVm {
    fn object(dev: *mut bindings::drm_device) -> Result<ARef<GemObject>> {
        // SAFETY: The device is alive; the call returns a reference or NULL.
        let obj = unsafe { bindings::drm_gpuvm_resv_object_alloc(dev) };
        let obj = NonNull::new(obj.cast()).ok_or(ENOMEM)?;
        // SAFETY: We own the reference.
        Ok(unsafe { ARef::from_raw(obj) })
    }

    pub(super) fn new() -> Result<Self> {
        // SAFETY: Has no preconditions.
        let dev = unsafe { bindings::gpuvm_rs_test_device_new() };
        if dev.is_null() {
            return Err(ENOMEM);
        }
        let mut this = Self {
            vm: None,
            private: None,
            extobj: Some(Self::object(dev)?),
            dev,
        };
        let private = Self::object(dev)?;
        let memory = KBox::<GpuVm<TestDriver>>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let vm: *mut bindings::drm_gpuvm = KBox::into_raw(memory).cast();
        // SAFETY: Zeroed memory for a GPUVM, a device, an object, and callbacks of the same kind.
        // The VM takes its own reference to the object, whose resv so is the VM's.
        unsafe {
            bindings::drm_gpuvm_init(
                vm,
                c"test".as_char_ptr().cast(),
                bindings::drm_gpuvm_flags_DRM_GPUVM_RESV_PROTECTED,
                dev,
                private.as_raw(),
                START,
                SIZE,
                0,
                0,
                &GpuVm::<TestDriver>::OPS,
            )
        };
        // SAFETY: It begins with one reference, which is ours.
        this.vm = NonNull::new(vm.cast()).map(|vm| unsafe { ARef::from_raw(vm) });
        this.private = Some(private);
        Ok(this)
    }

    pub(super) fn vm(&self) -> &GpuVm<TestDriver> {
        self.vm.as_deref().unwrap()
    }

    pub(super) fn extobj(&self) -> &GemObject {
        self.extobj.as_deref().unwrap()
    }

    pub(super) fn private(&self) -> &GemObject {
        self.private.as_deref().unwrap()
    }

    /// Runs `f` with everything locked.
    pub(super) fn locked<R>(&self, f: impl FnOnce(&Locked<'_>) -> R) -> Result<R> {
        pin_init::stack_pin_init!(let exec = Exec::interruptible(4));
        let locked = exec.lock_all(|a| {
            let vm = a.lock_vm(self.vm())?;
            a.lock_extobjs(&vm)?;
            a.lock(self.extobj())
        })?;
        Ok(f(&locked))
    }
}

impl Drop for TestVm {
    fn drop(&mut self) {
        let mut removed = GpuVaList::new();
        self.locked(|locked| {
            let vm = locked.vm(self.vm()).unwrap();
            while let Some(va) = vm.first() {
                let obj: Option<ARef<GemObject>> = va.va().obj().map(ARef::from);
                let obj = obj.as_ref().and_then(|o| locked.obj(o));
                match va.remove(obj.as_ref()) {
                    Ok(va) => removed.push(va),
                    Err(_) => break,
                }
            }
        })
        .unwrap();
        drop(removed);
        self.vm = None;
        self.private = None;
        self.extobj = None;
        // SAFETY: Nothing refers to the device any more, which is what is checked.
        let others = unsafe { bindings::gpuvm_rs_test_device_free(self.dev) };
        assert_eq!(others, 0);
    }
}
