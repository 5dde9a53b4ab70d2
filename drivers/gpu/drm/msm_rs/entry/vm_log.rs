// SPDX-License-Identifier: GPL-2.0-only

//! The VM log, for devcoredumps, and what is to be known of the submit.

#![allow(
    clippy::missing_safety_doc,
    reason = "what C promises is said where it is relied on"
)]

use kernel::{
    fmt,
    prelude::*, //
};

use crate::{
    address_space::log::Capture,
    ffi::{
        bindings,
        submit::Sent,
        vm::AnyVm, //
    },
};

#[no_mangle]
unsafe extern "C" fn msm_rs_vm_log_capture(
    submit: *mut bindings::msm_gem_submit,
    fault: u64,
) -> *mut bindings::msm_rs_vm_log {
    // SAFETY: C holds a reference to the submit, which was sent.
    let sent = unsafe { Sent::of(submit) };
    // SAFETY: As above; it never changes.
    let gpuvm = unsafe { (*submit).vm };
    // SAFETY: The submit's context has a reference, as long as the submit has its queue.
    let AnyVm::Bind(vm) = (unsafe { AnyVm::from_raw(gpuvm) }) else {
        return core::ptr::null_mut();
    };
    let capture = || -> Result<KBox<Capture>> {
        // Before the lock, under which nothing is allocated.
        let mut capture = KBox::new(Capture::new(fault, sent)?, GFP_KERNEL)?;
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
    // SAFETY: NULL or from `msm_rs_vm_log_capture()`, which C frees later.
    if let Some(log) = unsafe { log.cast::<Capture>().as_ref() } {
        log.print(|args: fmt::Arguments<'_>| {
            // SAFETY: C passes a printer. `%pA` takes a pointer to `fmt::Arguments`, alive for the
            // call.
            unsafe { bindings::msm_rs_printf(p, (&raw const args).cast()) }
        });
    }
}

#[no_mangle]
unsafe extern "C" fn msm_rs_vm_log_free(log: *mut bindings::msm_rs_vm_log) {
    if !log.is_null() {
        // SAFETY: From `msm_rs_vm_log_capture()`, and not used any more.
        drop(unsafe { KBox::from_raw(log.cast::<Capture>()) });
    }
}
