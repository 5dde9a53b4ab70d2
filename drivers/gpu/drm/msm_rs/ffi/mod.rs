// SPDX-License-Identifier: GPL-2.0-only

//! Where Rust and C meet. Outside this room and `gpuvm_rs` there is no `unsafe`.
//!
//! - [`bo`]: a `msm_gem_object`, and who may touch what of it.
//! - [`backing`]: its pages. [`gem`]: its beginning and its end. [`holders`]: who has handles.
//!   [`mappings`]: its VMAs.
//! - [`caller`]: who calls an ioctl, and what all requests may name.
//! - [`closed`]: how many closed VMs there are.
//! - [`debug`]: lines for the drm debug log.
//! - [`jobs`]: bind jobs as the scheduler knows them.
//! - [`line`]: tasks that wait for their turn.
//! - [`mmu`]: C's page tables, of SMMU domains.
//! - [`queue`]: submitqueues and their lock.
//! - [`request`]: a VM_BIND request.
//! - [`root`]: per-process page tables as C knows them, and what they share.
//! - [`seq`] is debugfs.
//! - [`shrink`]: the device's LRUs, and who asks for their memory.
//! - [`submit`]: a SUBMIT request, and the submit that C runs.
//! - [`sync`]: in- and out-fences, syncobjs.
//! - [`tables`]: the memory behind our page tables, and the TLB.
//! - [`vm`]: the VM that C and Rust share.
//! - [`wq`]: where things are dropped late, and where bind jobs run.
//! - [`exports`], [`bo_exports`]: the functions that C calls.

pub(crate) mod backing;
pub(crate) mod bo;
mod bo_exports;
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
mod bo_test;
pub(crate) mod caller;
mod closed;
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
mod closed_test;
mod debug;
// The display's stub is for kernels without one.
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
mod display_test;
mod exports;
pub(crate) mod gate;
mod gem;
mod holders;
pub(crate) mod jobs;
mod kms;
pub(crate) mod line;
pub(crate) mod lrus;
pub(crate) mod mappings;
pub(crate) mod mmu;
pub(crate) mod pages;
pub(crate) mod queue;
pub(crate) mod request;
mod root;
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
mod root_test;
#[cfg(CONFIG_DEBUG_FS)]
pub(crate) mod seq;
mod shrink;
pub(crate) mod smmu;
pub(crate) mod submit;
mod sync;
pub(crate) mod tables;
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
pub(crate) mod test_device;
pub(crate) mod vm;
pub(crate) mod wq;

/// What the C headers declare, by bindgen.
#[allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
pub(crate) mod bindings {
    use kernel::ffi;
    use pin_init::MaybeZeroable;

    type __kernel_size_t = usize;
    type __kernel_ssize_t = isize;
    type __kernel_ptrdiff_t = isize;

    include!(concat!(
        env!("MSM_RS_OBJTREE"),
        "/ffi/bindings_generated.rs"
    ));
}

/// What the driver keeps of a device.
///
/// # Safety
///
/// `dev` is alive, and the driver's.
unsafe fn private(dev: *mut bindings::drm_device) -> *mut bindings::msm_drm_private {
    // SAFETY: The caller's promise; the pointer never changes.
    unsafe { (*dev).dev_private.cast() }
}

/// The time that the VM log counts in: `CLOCK_MONOTONIC`, in ns.
pub(crate) fn now_ns() -> u64 {
    // SAFETY: Can be called from anywhere.
    unsafe { bindings::ktime_get_ns() }
}

/// The calling process, as a thread group id in the initial namespace; 0 for kernel threads.
pub(crate) fn current_tgid() -> i32 {
    // SAFETY: Reads the current task.
    unsafe { bindings::msm_rs_current_tgid() }
}

/// Whether the calling process ends, or is a thread of the kernel's, which does what is left of one: it must not wait for what may
/// never come.
pub(crate) fn is_dying() -> bool {
    // SAFETY: Reads the current task.
    unsafe { bindings::msm_rs_is_dying() }
}

/// Whether the calling process was killed, and won't return to userspace.
pub(crate) fn is_killed() -> bool {
    // SAFETY: Reads the current task.
    unsafe { bindings::msm_rs_is_killed() }
}

/// How many pages of RAM the machine has.
pub(crate) fn total_ram_pages() -> u64 {
    // SAFETY: Reads a counter.
    unsafe { bindings::totalram_pages() as u64 }
}
