// SPDX-License-Identifier: GPL-2.0-only

//! Lines for the drm debug log (`drm.debug=0x2`), which say why userspace got an error.

use kernel::fmt;

use super::bindings;

/// Prints a debug line for the device of a request.
///
/// # Safety
///
/// `dev` is a DRM device that is alive.
pub(crate) unsafe fn line(dev: *mut bindings::drm_device, args: fmt::Arguments<'_>) {
    // SAFETY: `%pA` takes a pointer to `fmt::Arguments`, alive for the call.
    unsafe { bindings::msm_rs_uerr(dev, (&raw const args).cast()) };
}
