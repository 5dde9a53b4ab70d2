// SPDX-License-Identifier: GPL-2.0-only

//! The ioctls, and the end of a submit.

#![allow(
    clippy::missing_safety_doc,
    reason = "what C promises is said where it is relied on"
)]

use core::ffi::{
    c_int,
    c_void, //
};

use crate::{
    bind,
    ffi::{
        bindings,
        caller::Caller,
        submit as ffi_submit,
        submit_request::SubmitRequest,
        vm_bind_request::VmBindRequest, //
    },
    gpuvm_rs::{
        container_of,
        from_result, //
    },
    submit, //
};

#[no_mangle]
unsafe extern "C" fn msm_ioctl_vm_bind(
    dev: *mut bindings::drm_device,
    data: *mut c_void,
    file: *mut bindings::drm_file,
) -> c_int {
    // SAFETY: Called for an ioctl in progress, whose argument is a `drm_msm_vm_bind`.
    let entered = unsafe { Caller::enter(dev, data, file) };
    let request = entered.and_then(|(caller, args)| VmBindRequest::new(caller, args));
    from_result(request.and_then(bind::vm_bind))
}

#[no_mangle]
unsafe extern "C" fn msm_ioctl_gem_submit(
    dev: *mut bindings::drm_device,
    data: *mut c_void,
    file: *mut bindings::drm_file,
) -> c_int {
    // SAFETY: Called for an ioctl in progress, whose argument is a `drm_msm_gem_submit`.
    let entered = unsafe { Caller::enter(dev, data, file) };
    let request = entered.and_then(|(caller, args)| SubmitRequest::new(caller, args));
    from_result(request.and_then(submit::submit))
}

#[no_mangle]
unsafe extern "C" fn msm_submit_retire(submit: *mut bindings::msm_gem_submit) {
    // SAFETY: C calls this once per submit that the GPU is done with.
    unsafe { ffi_submit::retire(submit) };
}

#[no_mangle]
unsafe extern "C" fn msm_rs_retire_rest(submit: *mut bindings::msm_gem_submit) {
    // SAFETY: `retire()` has queued the work that calls this, and once.
    unsafe { ffi_submit::retire_rest(submit) };
}

#[no_mangle]
unsafe extern "C" fn __msm_gem_submit_destroy(kref: *mut bindings::kref) {
    let submit = container_of!(kref, bindings::msm_gem_submit, ref_);
    // SAFETY: C calls this when it drops the last reference to a submit, in which `kref` is.
    unsafe { ffi_submit::destroy(submit) };
}
