// SPDX-License-Identifier: GPL-2.0-only

//! VMs, as `msm_gem.h` has them.

#![allow(
    clippy::missing_safety_doc,
    reason = "what C promises is said where it is relied on"
)]

use core::{ffi::c_char, ptr::NonNull};

use kernel::prelude::*;

use super::kinds;
use crate::{
    ffi::{
        bindings,
        root::VmMmu,
        vm::{
            self as ffi_vm,
            AnyVm,
            Closing,
            Config, //
        },
    },
    vm::close, //
};

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
        // SAFETY: C passes a device and a name that outlive the VM.
        let config = unsafe { Config::new(drm, name.cast(), va_start, va_size) };
        // SAFETY: C passes page tables, and gives them away, but a domain's only if this succeeds.
        let mmu = unsafe { VmMmu::take(mmu) };
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
unsafe extern "C" fn msm_gem_vm_close(gpuvm: *mut bindings::drm_gpuvm) {
    // VMAs of managed VMs go with their handles.
    // SAFETY: C holds a reference.
    if let AnyVm::Bind(bind) = unsafe { AnyVm::from_raw(gpuvm) } {
        bind.closed().set();
        // SAFETY: C calls this when it closes the file, once.
        close::close(&unsafe { Closing::assume(bind) });
    }
}

#[no_mangle]
unsafe extern "C" fn msm_rs_vm_cancel(gpuvm: *mut bindings::drm_gpuvm) {
    // SAFETY: C holds a reference.
    if let AnyVm::Bind(bind) = unsafe { AnyVm::from_raw(gpuvm) } {
        // SAFETY: C calls this when it closes the file, once, and before `msm_gem_vm_close()`.
        close::cancel(&unsafe { Closing::assume(bind) });
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vm_unusable(gpuvm: *mut bindings::drm_gpuvm) {
    // SAFETY: C holds a reference.
    unsafe { ffi_vm::set_unusable(gpuvm) };
    // SAFETY: As above.
    if let AnyVm::Bind(bind) = unsafe { AnyVm::from_raw(gpuvm) } {
        bind.space().page_tables.lock().log.print();
    }
}
