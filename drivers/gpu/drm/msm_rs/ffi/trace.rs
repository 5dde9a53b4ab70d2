// SPDX-License-Identifier: GPL-2.0-only

//! Tracepoints: `msm_rs_trace.h` has ours, `msm_gpu_trace.h` the driver's others.
//!
//! While nobody listens, one costs a `nop`: its static key is looked at here, in place, and what is
//! told is only gathered behind that. `kernel::declare_trace!` does the same for tracepoints that
//! the kernel crate's own bindings know.
//!
//! Any of these may be called with spinlocks held, and on the fence-signalling path: an event is
//! copied into a buffer that is there already. What it reads is borrowed for the call.

use core::ffi::CStr;

use kernel::prelude::*;

use super::{
    bindings,
    bo::Bo,
    pages::Pages, //
};
use crate::gpuvm_rs::{
    fence::Fence,
    range::VaRange, //
};

/// Whether somebody listens to a tracepoint.
macro_rules! enabled {
    ($tracepoint:ident) => {{
        #[cfg(CONFIG_TRACEPOINTS)]
        #[allow(
            clippy::multiple_unsafe_ops_per_block,
            reason = "the kernel crate's macro has several"
        )]
        // SAFETY: C defines it, with a static key.
        let enabled = unsafe {
            kernel::jump_label::static_branch_unlikely!(
                bindings::$tracepoint,
                kernel::bindings::tracepoint,
                key
            )
        };
        #[cfg(not(CONFIG_TRACEPOINTS))]
        let enabled = false;
        enabled
    }};
}

/// A VM_BIND request, as its events have it.
pub(crate) struct BindEvent {
    /// The DRM client's.
    pub(crate) client_id: u64,
    /// Its VM's.
    pub(crate) ttbr0: u64,
    pub(crate) queue: i32,
    pub(crate) job: u32,
    /// `MSM_VM_BIND_x`.
    pub(crate) flags: u32,
    pub(crate) ops: usize,
}

/// A request was accepted. `fence` says when it is done, unless it is done at once.
#[inline(always)]
pub(crate) fn bind(fence: Option<&Fence>, event: impl FnOnce() -> BindEvent) {
    #[cold]
    fn tell(fence: Option<&Fence>, event: &BindEvent) {
        let fence = fence.map_or(core::ptr::null_mut(), Fence::as_raw);
        // SAFETY: NULL, or a fence that is borrowed, hence alive.
        unsafe {
            bindings::trace_msm_vm_bind(
                event.client_id,
                event.ttbr0,
                event.queue as u32,
                event.job,
                event.flags,
                event.ops as u32,
                fence,
            )
        };
    }
    if enabled!(__tracepoint_msm_vm_bind) {
        tell(fence, &event());
    }
}

/// A change of page tables.
pub(crate) struct Change {
    /// The root of the tables.
    pub(crate) ttbr0: u64,
    pub(crate) why: &'static CStr,
    /// The job that does it; 0 for none.
    pub(crate) job: u32,
}

/// `at` was mapped to the pages of a BO from byte `offset`, or to the PRR page.
#[inline(always)]
pub(crate) fn map(
    at: VaRange,
    pages: Option<&Pages>,
    offset: u64,
    change: impl FnOnce() -> Change,
) {
    #[cold]
    fn tell(at: VaRange, pages: Option<&Pages>, offset: u64, change: &Change) {
        let (obj, prot) = match pages {
            Some(pages) => (pages.bo().gem().as_raw(), pages.iommu_prot()),
            None => (
                core::ptr::null_mut(),
                (bindings::IOMMU_READ | bindings::IOMMU_WRITE) as core::ffi::c_int,
            ),
        };
        // SAFETY: The object is NULL or a BO of which `pages` holds a reference; the word ends with
        // a NUL.
        unsafe {
            bindings::trace_msm_vm_map(
                change.ttbr0,
                at.addr(),
                at.end(),
                obj,
                offset,
                prot,
                change.why.as_char_ptr().cast(),
                change.job,
            )
        };
    }
    if enabled!(__tracepoint_msm_vm_map) {
        tell(at, pages, offset, &change());
    }
}

/// What was mapped at `at` was removed.
#[inline(always)]
pub(crate) fn unmap(at: VaRange, change: impl FnOnce() -> Change) {
    #[cold]
    fn tell(at: VaRange, change: &Change) {
        // SAFETY: The word ends with a NUL.
        unsafe {
            bindings::trace_msm_vm_unmap(
                change.ttbr0,
                at.addr(),
                at.end(),
                change.why.as_char_ptr().cast(),
                change.job,
            )
        };
    }
    if enabled!(__tracepoint_msm_vm_unmap) {
        tell(at, &change());
    }
}

/// A BO's pages were taken away; it may get them back.
pub(crate) fn evict(bo: &Bo) {
    if enabled!(__tracepoint_msm_gem_evict) {
        // SAFETY: A BO that is borrowed, hence alive.
        unsafe { bindings::trace_msm_gem_evict(bo.gem().as_raw()) };
    }
}

/// A BO's pages were taken away, and its content.
pub(crate) fn purge(bo: &Bo) {
    if enabled!(__tracepoint_msm_gem_purge) {
        // SAFETY: A BO that is borrowed, hence alive.
        unsafe { bindings::trace_msm_gem_purge(bo.gem().as_raw()) };
    }
}

/// The reservation of tables for a job ended. `count` of them were allocated for it; `remaining`
/// are given back since nothing was ever mapped by them. Those that an earlier reservation has
/// allocated count only as far as there aren't more of them than of its own.
#[inline(always)]
pub(crate) fn prealloc_cleanup(count: u32, remaining: u64) {
    if enabled!(__tracepoint_msm_mmu_prealloc_cleanup) && count != 0 {
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX).min(count);
        // SAFETY: Has no preconditions.
        unsafe { bindings::trace_msm_mmu_prealloc_cleanup(count, remaining) };
    }
}
