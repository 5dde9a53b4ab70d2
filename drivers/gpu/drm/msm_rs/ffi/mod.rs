// SPDX-License-Identifier: GPL-2.0-only

//! C's objects. What is `unsafe` of them is here, in `gpuvm_rs`, and, for what C calls, in `entry`.
//!
//! - [`bo`]: a `msm_gem_object`, and who may touch what of it.
//! - [`backing`]: its pages; [`effort`]: how hard a task tries to get them; [`pages`]: as something
//!   to map. [`holders`]: who has handles. [`mappings`]: its VMAs. [`kms`]: the display's VM.
//! - [`caller`]: who calls an ioctl, and what all requests may name. [`fences`]: in- and
//!   out-fences.
//! - [`vm_bind_request`]: a VM_BIND request. [`submit_request`]: a SUBMIT request. [`user_array`]:
//!   the arrays that they name.
//! - [`submit`]: the submit that C runs.
//! - [`queue`]: submitqueues and their lock. [`jobs`]: bind jobs as the scheduler knows them.
//! - [`vm`]: the VM that C and Rust share. [`vma`]: what Rust keeps of its VMAs. [`closed`]: how
//!   many closed ones there are.
//! - [`root`]: per-process page tables as C knows them, and what they share. [`smmu`]: the memory
//!   behind them. [`mmu`]: C's page tables, of SMMU domains.
//! - [`line`]: tasks that wait for their turn. [`gate`]: a limit that keeps their order.
//! - [`lrus`]: the device's LRUs.
//! - [`module`]: where things are dropped late, and where bind jobs run.
//! - [`debug`]: lines for the drm debug log. [`trace`]: tracepoints. [`seq`] is debugfs.

pub(crate) mod backing;
pub(crate) mod bo;
pub(crate) mod caller;
pub(crate) mod closed;
pub(crate) mod debug;
pub(crate) mod effort;
pub(crate) mod fences;
pub(crate) mod gate;
pub(crate) mod holders;
pub(crate) mod jobs;
mod kms;
pub(crate) mod line;
pub(crate) mod lrus;
pub(crate) mod mappings;
pub(crate) mod mmu;
pub(crate) mod module;
pub(crate) mod pages;
pub(crate) mod queue;
pub(crate) mod root;
#[cfg(CONFIG_DEBUG_FS)]
pub(crate) mod seq;
pub(crate) mod smmu;
pub(crate) mod submit;
pub(crate) mod submit_request;
pub(crate) mod trace;
pub(crate) mod user_array;
pub(crate) mod vm;
pub(crate) mod vm_bind_request;
pub(crate) mod vma;

/// What the C headers declare, by bindgen.
#[allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::multiple_unsafe_ops_per_block,
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
    #[cfg(CONFIG_TRACEPOINTS)]
    use kernel::bindings::tracepoint;
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
pub(crate) unsafe fn private(dev: *mut bindings::drm_device) -> *mut bindings::msm_drm_private {
    // SAFETY: The caller's promise; the pointer never changes.
    unsafe { (*dev).dev_private.cast() }
}

/// The time that the VM log counts in: `CLOCK_MONOTONIC`, in ns.
pub(crate) fn now_ns() -> u64 {
    // SAFETY: Can be called from anywhere.
    unsafe { bindings::ktime_get_ns() }
}

/// The time by which memory is taken from those who haven't used theirs, in jiffies.
#[inline]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: Reads a counter.
    unsafe { bindings::msm_rs_jiffies() }
}

/// The calling process, as a thread group id in the initial namespace; 0 for kernel threads.
pub(crate) fn current_tgid() -> i32 {
    // SAFETY: Reads the current task.
    unsafe { bindings::msm_rs_current_tgid() }
}

/// Whether the calling process ends, or is a thread of the kernel's, which does what is left of
/// one: it must not wait for what may never come.
pub(crate) fn is_dying() -> bool {
    // SAFETY: Reads the current task.
    unsafe { bindings::msm_rs_is_dying() }
}

/// Ends a long request here if the calling process was killed: nobody is left who could learn of
/// the result.
///
/// Other signals don't end it. One that comes every few milliseconds, as a profiler's does, would
/// have it begin again for ever.
///
/// # Errors
///
/// `ERESTARTSYS` if the caller was killed.
pub(crate) fn not_killed() -> kernel::error::Result {
    // SAFETY: Reads the current task.
    if unsafe { bindings::msm_rs_is_killed() } {
        return Err(kernel::error::code::ERESTARTSYS);
    }
    Ok(())
}

/// How many pages of RAM the machine has.
pub(crate) fn total_ram_pages() -> u64 {
    // SAFETY: Reads a counter.
    unsafe { bindings::totalram_pages() as u64 }
}
