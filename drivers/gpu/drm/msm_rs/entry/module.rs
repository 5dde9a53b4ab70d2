// SPDX-License-Identifier: GPL-2.0-only

//! The module is loaded and unloaded.

#![allow(
    clippy::missing_safety_doc,
    reason = "what C promises is said where it is relied on"
)]

use core::ffi::c_int;

use crate::{
    ffi::{
        module,
        root,
        submit, //
    },
    gpuvm_rs::from_result, //
};

#[no_mangle]
unsafe extern "C" fn msm_rs_init() -> c_int {
    root::init();
    from_result(module::init())
}

#[no_mangle]
unsafe extern "C" fn msm_rs_exit() {
    // SAFETY: C calls this last, when its drivers are unregistered: no device, file or VM is left.
    unsafe { module::exit() };
}

#[no_mangle]
unsafe extern "C" fn msm_rs_flush() {
    // They would find their scheduler gone, and what they end is dropped on the reaper.
    submit::wait_for_all();
    module::flush();
}
