// SPDX-License-Identifier: GPL-2.0-only

//! The device's LRUs, and what is counted and traced when memory is short.

use core::ptr::NonNull;

use super::bindings;
use crate::gpuvm_rs::{
    lru::Lru,
    shrinker::stages::Freed, //
};

/// The LRUs of a device: each BO is in one. `Documentation/shrinker.rst` says which.
///
/// # Invariants
///
/// The device is alive.
pub(crate) struct Lrus(NonNull<bindings::msm_drm_private>);

// SAFETY: What is shared is only reachable with the LRU lock.
unsafe impl Send for Lrus {}

// SAFETY: As above.
unsafe impl Sync for Lrus {}

impl Lrus {
    /// # Safety
    ///
    /// The device is alive for as long as the result is.
    pub(crate) unsafe fn new(private: NonNull<bindings::msm_drm_private>) -> Self {
        // INVARIANT: The caller's promise.
        Self(private)
    }

    /// BOs whose content may be thrown away.
    pub(crate) fn dontneed(&self) -> &Lru {
        // SAFETY: The device is alive, by the type invariant.
        let lru = unsafe { &raw mut (*self.0.as_ptr()).lru.dontneed };
        // SAFETY: As above; C makes it before the first BO.
        unsafe { Lru::from_raw(lru) }
    }

    /// BOs whose content is needed.
    pub(crate) fn willneed(&self) -> &Lru {
        // SAFETY: The device is alive, by the type invariant.
        let lru = unsafe { &raw mut (*self.0.as_ptr()).lru.willneed };
        // SAFETY: As above; C makes it before the first BO.
        unsafe { Lru::from_raw(lru) }
    }

    /// BOs whose pages must stay where they are, and those of other drivers.
    pub(crate) fn pinned(&self) -> &Lru {
        // SAFETY: The device is alive, by the type invariant.
        let lru = unsafe { &raw mut (*self.0.as_ptr()).lru.pinned };
        // SAFETY: As above; C makes it before the first BO.
        unsafe { Lru::from_raw(lru) }
    }
}

/// How many pages can be swapped out: 0 if there is no swap, or the parameter `enable_eviction`
/// says no.
pub(crate) fn swap_room() -> u64 {
    // SAFETY: Reads counters.
    unsafe { bindings::msm_rs_swap_room() as u64 }
}

/// The tracepoint `msm_gem_shrink`, in pages.
pub(crate) fn trace_shrink(asked: u64, freed: &Freed) {
    let clamp = |pages: u64| u32::try_from(pages).unwrap_or(u32::MAX);
    let [purged, evicted, active_purged, active_evicted] = freed.0.map(clamp);
    // SAFETY: Has no preconditions.
    unsafe {
        bindings::trace_msm_gem_shrink(
            clamp(asked),
            purged,
            evicted,
            active_purged,
            active_evicted,
        );
    }
}

/// The tracepoint `msm_gem_purge_vmaps`.
pub(crate) fn trace_purge_vmaps(purged: u32) {
    // SAFETY: Has no preconditions.
    unsafe { bindings::trace_msm_gem_purge_vmaps(purged) };
}
