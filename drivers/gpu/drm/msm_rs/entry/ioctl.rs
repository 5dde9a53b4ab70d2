// SPDX-License-Identifier: GPL-2.0-only

//! The functions that C calls: those of `msm_gem.h`'s VM and submit part, the ioctls, the submit's
//! end, and those of `msm_rs.h`. C's prototypes say what they do.

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

use crate::{
    address_space::{
        log::Capture,
        throttle, //
    },
    bind,
    ffi::{
        bindings,
        module,
        root::{
            self,
            Root,
            VmMmu, //
        },
        submit as ffi_submit,
        vm::{
            self as ffi_vm,
            AnyVm,
            Config, //
        },
        vm_bind_request::Request, //
    },
    gpuvm_rs::from_result,
    submit,
    vm::{
        close,
        kinds, //
    },
};

#[no_mangle]
unsafe extern "C" fn msm_rs_init() -> c_int {
    root::init();
    from_result(module::init())
}

#[no_mangle]
unsafe extern "C" fn msm_rs_exit() {
    module::exit();
}

#[no_mangle]
unsafe extern "C" fn msm_rs_flush() {
    module::flush();
}

#[no_mangle]
unsafe extern "C" fn msm_rs_domain_gone(domain: *mut bindings::msm_mmu) {
    if let Some(domain) = NonNull::new(domain) {
        root::domain_gone(domain);
    }
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
        let mmu = NonNull::new(kernel::error::from_err_ptr(mmu)?).ok_or(EINVAL)?;
        // SAFETY: C passes a device, page tables and a name that outlive the VM.
        let (config, mmu) = unsafe {
            (
                Config::new(drm, name.cast(), va_start, va_size),
                VmMmu::take(mmu),
            )
        };
        if managed {
            kinds::create_managed(&config, mmu)
        } else {
            kinds::create_bind(&config, mmu)
        }
    };
    match create() {
        Ok(vm) => vm.as_ptr(),
        Err(e) => e.to_ptr(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_iommu_pagetable_create(
    parent: *mut bindings::msm_mmu,
    _kernel_managed: bool,
) -> *mut bindings::msm_mmu {
    let create = || {
        let domain = NonNull::new(parent).ok_or(EINVAL)?;
        // SAFETY: C passes the GPU's own domain, and says when that goes: `msm_rs_domain_gone()`.
        unsafe { Root::new(domain, throttle::device_gate) }
    };
    match create() {
        Ok(root) => Root::into_raw(root),
        Err(e) => e.to_ptr(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_iommu_pagetable_params(
    mmu: *mut bindings::msm_mmu,
    ttbr: *mut bindings::phys_addr_t,
    asid: *mut c_int,
) -> c_int {
    // SAFETY: C passes the page tables of a VM to which it holds a reference; the others are NULL
    // or can be written.
    from_result(unsafe { Root::from_raw(mmu) }.map(|root| unsafe {
        if let Some(ttbr) = ttbr.as_mut() {
            *ttbr = root.table.address();
        }
        if let Some(asid) = asid.as_mut() {
            // The same as TTBR1's: invalidations name none.
            *asid = 0;
        }
    }))
}

#[no_mangle]
unsafe extern "C" fn msm_iommu_pagetable_walk(
    mmu: *mut bindings::msm_mmu,
    iova: u64,
    ptes: *mut u64,
) -> c_int {
    // SAFETY: C passes the page tables of a VM to which it holds a reference, and an array of 4.
    from_result(unsafe {
        Root::from_raw(mmu)
            .and_then(|root| walk(root.vm(), iova))
            .map(|entries| ptes.cast::<[u64; 4]>().write(entries))
    })
}

/// The entries that translate `iova`, as [`crate::pgtable::PageTables::walk`] gives them.
///
/// # Errors
///
/// `EINVAL` without a VM, and for the page tables of a domain.
///
/// # Safety
///
/// `vm` is NULL or alive.
unsafe fn walk(vm: *mut bindings::drm_gpuvm, iova: u64) -> Result<[u64; 4]> {
    if vm.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: The caller's promise.
    match unsafe { AnyVm::from_raw(vm) } {
        AnyVm::Bind(vm) => Ok(vm.space().page_tables.lock().tables.walk(iova)),
        AnyVm::Managed(vm) => vm.space().walk(iova),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vm_close(gpuvm: *mut bindings::drm_gpuvm) {
    // SAFETY: C holds a reference. VMAs of managed VMs go with their handles.
    if let AnyVm::Bind(bind) = unsafe { AnyVm::from_raw(gpuvm) } {
        bind.closed().set();
        close::close(bind);
    }
}

#[no_mangle]
unsafe extern "C" fn msm_rs_vm_cancel(gpuvm: *mut bindings::drm_gpuvm) {
    // SAFETY: C holds a reference.
    if let AnyVm::Bind(bind) = unsafe { AnyVm::from_raw(gpuvm) } {
        close::cancel(bind);
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vm_unusable(gpuvm: *mut bindings::drm_gpuvm) {
    // SAFETY: C holds a reference.
    unsafe {
        ffi_vm::set_unusable(gpuvm);
        if let AnyVm::Bind(bind) = AnyVm::from_raw(gpuvm) {
            bind.space().page_tables.lock().log.print();
        }
    }
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
        vm.space().page_tables.lock().log.copy_to(&mut capture);
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
