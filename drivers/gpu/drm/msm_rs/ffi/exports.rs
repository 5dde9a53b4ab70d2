// SPDX-License-Identifier: GPL-2.0-only

//! The functions that C calls: those of `msm_gem.h`'s VM, VMA and submit part, the ioctls, the submit's end, and
//! those of `msm_rs.h`. C's prototypes say what they do.

#![allow(
    clippy::missing_safety_doc,
    reason = "what C promises is said where it is relied on"
)]

use core::{
    ffi::{
        c_char,
        c_int,
        c_void, //
    },
    ptr::NonNull,
};

use kernel::{
    fmt,
    prelude::*, //
};

use super::{
    bindings,
    bo::{
        Bo,
        Pages, //
    },
    request::Request,
    submit as ffi_submit,
    vm::{
        self as ffi_vm,
        AnyVm,
        Bind,
        Config,
        Managed, //
    },
    wq,
};
use crate::{
    bind,
    gpuvm_rs::{
        gem::{
            GemObject,
            ObjLocked, //
        },
        va::GpuVa,
        vm::{
            VaCursor,
            VmLocked, //
        },
    },
    submit, vm,
    vm_log::{
        Capture,
        LogOp, //
    },
    vma,
};

/// A C return code.
fn from_result(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_rs_init() -> c_int {
    from_result(wq::init())
}

#[no_mangle]
unsafe extern "C" fn msm_rs_exit() {
    wq::exit();
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vm_create(
    drm: *mut bindings::drm_device,
    mmu: *mut bindings::msm_mmu,
    name: *const c_char,
    va_start: u64,
    va_size: u64,
    managed: bool,
) -> *mut bindings::drm_gpuvm {
    let create = || {
        let config = Config {
            drm,
            mmu: NonNull::new(kernel::error::from_err_ptr(mmu)?).ok_or(EINVAL)?,
            name: name.cast(),
            start: va_start,
            size: va_size,
        };
        // SAFETY: C passes a device, page tables and a name that outlive the VM.
        unsafe {
            if managed {
                ffi_vm::create_managed(&config)
            } else {
                ffi_vm::create_bind(&config)
            }
        }
    };
    match create() {
        Ok(vm) => vm.as_ptr(),
        Err(e) => e.to_ptr(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vm_close(gpuvm: *mut bindings::drm_gpuvm) {
    // SAFETY: C holds a reference. VMAs of managed VMs go with their handles.
    if let AnyVm::Bind(bind) = unsafe { AnyVm::from_raw(gpuvm) } {
        vm::close(bind);
    }
}

#[no_mangle]
unsafe extern "C" fn msm_rs_vm_cancel(gpuvm: *mut bindings::drm_gpuvm) {
    // SAFETY: C holds a reference.
    if let AnyVm::Bind(bind) = unsafe { AnyVm::from_raw(gpuvm) } {
        vm::cancel(bind);
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vm_unusable(gpuvm: *mut bindings::drm_gpuvm) {
    // SAFETY: C holds a reference.
    unsafe {
        ffi_vm::set_unusable(gpuvm);
        if let AnyVm::Bind(bind) = AnyVm::from_raw(gpuvm) {
            bind.state().page_tables.lock().log.print();
        }
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vma_new(
    gpuvm: *mut bindings::drm_gpuvm,
    obj: *mut bindings::drm_gem_object,
    offset: u64,
    range_start: u64,
    range_end: u64,
) -> *mut bindings::drm_gpuva {
    let create = || {
        // SAFETY: C holds references to both, and their locks.
        let (vm, obj) = unsafe {
            let AnyVm::Managed(vm) = AnyVm::from_raw(gpuvm) else {
                // VM_BIND's VMAs come from VM_BIND only.
                return Err(EINVAL);
            };
            if obj.is_null() || offset != 0 {
                return Err(EINVAL);
            }
            (
                VmLocked::assume(vm),
                ObjLocked::assume(GemObject::from_raw(obj)),
            )
        };
        // SAFETY: C only maps the driver's BOs.
        let no_share = unsafe { Bo::from_gem(&obj) }.is_no_share();
        vma::new_managed(&vm, &obj, no_share, range_start, range_end)
    };
    match create() {
        Ok(va) => va.as_ptr(),
        Err(e) => e.to_ptr(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vma_unmap(va: *mut bindings::drm_gpuva, reason: *const c_char) {
    // SAFETY: C holds the VM's lock. A reason is NULL or a string.
    unsafe {
        let reason = if reason.is_null() {
            &[]
        } else {
            CStr::from_char_ptr(reason).to_bytes()
        };
        match AnyVm::from_raw((*va).vm) {
            AnyVm::Managed(vm) => {
                vma::unmap_managed(&VmLocked::assume(vm), GpuVa::from_raw(va));
            }
            AnyVm::Bind(vm) => vma::unmap_bind(
                &VmLocked::assume(vm),
                GpuVa::from_raw(va),
                LogOp::from_reason(reason),
            ),
        }
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vma_map(
    va: *mut bindings::drm_gpuva,
    _prot: c_int,
    _sgt: *mut bindings::sg_table,
) -> c_int {
    // SAFETY: C holds the VM's lock and the object's, and has seen to its pages.
    unsafe {
        if (*va).va.addr == 0 {
            return EINVAL.to_errno();
        }
        let result = || {
            let pages = Pages::new(Bo::from_gem(GemObject::from_raw((*va).gem.obj)))?;
            match AnyVm::from_raw((*va).vm) {
                AnyVm::Managed(vm) => {
                    vma::map_managed(&VmLocked::assume(vm), GpuVa::from_raw(va), &pages)
                }
                AnyVm::Bind(vm) => {
                    vma::map_bind(&VmLocked::assume(vm), GpuVa::from_raw(va), &pages)
                }
            }
        };
        from_result(result())
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vma_close(va: *mut bindings::drm_gpuva) {
    let Some(ptr) = NonNull::new(va) else {
        return;
    };
    // SAFETY: C holds the VM's lock and the object's, and gives the VMA up.
    unsafe {
        let obj = (*va).gem.obj;
        let obj = (!obj.is_null()).then(|| ObjLocked::assume(GemObject::from_raw(obj)));
        match AnyVm::from_raw((*va).vm) {
            AnyVm::Managed(vm) => {
                let vm = VmLocked::assume(vm);
                close::<Managed>(VaCursor::from_raw(ptr, &vm), obj.as_ref());
            }
            AnyVm::Bind(vm) => {
                let vm = VmLocked::assume(vm);
                close::<Bind>(VaCursor::from_raw(ptr, &vm), obj.as_ref());
            }
        }
    }
}

/// Takes a VMA out of its VM and frees it.
fn close<T: crate::gpuvm_rs::vm::Driver>(va: VaCursor<'_, T>, obj: Option<&ObjLocked<'_>>) {
    // The object is the VMA's own.
    let _ = va.remove(obj);
}

#[no_mangle]
unsafe extern "C" fn msm_ioctl_vm_bind(
    dev: *mut bindings::drm_device,
    data: *mut c_void,
    file: *mut bindings::drm_file,
) -> c_int {
    // SAFETY: Called for an ioctl in progress, with its argument.
    let request = unsafe { Request::new(dev, data, file) };
    from_result(request.and_then(|mut request| bind::vm_bind(&mut request)))
}

#[no_mangle]
unsafe extern "C" fn msm_ioctl_gem_submit(
    dev: *mut bindings::drm_device,
    data: *mut c_void,
    file: *mut bindings::drm_file,
) -> c_int {
    // SAFETY: Called for an ioctl in progress, with its argument.
    let request = unsafe { ffi_submit::Request::new(dev, data, file) };
    from_result(request.and_then(|mut request| submit::submit(&mut request)))
}

#[no_mangle]
unsafe extern "C" fn msm_submit_retire(submit: *mut bindings::msm_gem_submit) {
    // SAFETY: C calls this once per submit that the GPU is done with.
    unsafe { ffi_submit::retire(submit) };
}

#[no_mangle]
unsafe extern "C" fn __msm_gem_submit_destroy(kref: *mut bindings::kref) {
    // SAFETY: C calls this when it drops the last reference to a submit, in which `kref` is.
    unsafe { ffi_submit::destroy(kernel::container_of!(kref, bindings::msm_gem_submit, ref_)) };
}

#[no_mangle]
unsafe extern "C" fn msm_rs_vm_log_capture(
    gpuvm: *mut bindings::drm_gpuvm,
    fault: u64,
) -> *mut bindings::msm_rs_vm_log {
    // SAFETY: C holds a reference.
    let AnyVm::Bind(vm) = (unsafe { AnyVm::from_raw(gpuvm) }) else {
        return core::ptr::null_mut();
    };
    let capture = || -> Result<KBox<Capture>> {
        // Before the lock, under which nothing is allocated.
        let mut capture = KBox::new(Capture::new(fault)?, GFP_KERNEL)?;
        vm.state().page_tables.lock().log.copy_to(&mut capture);
        Ok(capture)
    };
    match capture() {
        Ok(capture) if !capture.is_empty() => KBox::into_raw(capture).cast(),
        _ => core::ptr::null_mut(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_rs_vm_log_print(
    log: *const bindings::msm_rs_vm_log,
    p: *mut bindings::drm_printer,
) {
    // SAFETY: NULL or from `msm_rs_vm_log_capture()`; C passes a printer. `%pA` takes a pointer to
    // `fmt::Arguments`, alive for the call.
    unsafe {
        if let Some(log) = log.cast::<Capture>().as_ref() {
            log.print(|args: fmt::Arguments<'_>| {
                bindings::msm_rs_printf(p, (&raw const args).cast())
            });
        }
    }
}

#[no_mangle]
unsafe extern "C" fn msm_rs_vm_log_free(log: *mut bindings::msm_rs_vm_log) {
    if !log.is_null() {
        // SAFETY: From `msm_rs_vm_log_capture()`, and not used any more.
        drop(unsafe { KBox::from_raw(log.cast::<Capture>()) });
    }
}
