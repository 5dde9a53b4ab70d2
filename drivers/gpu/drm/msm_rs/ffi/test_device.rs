// SPDX-License-Identifier: GPL-2.0-only

//! For KUnit tests: a device that is only as much of one as BOs need, see helpers.c.

use core::ptr::NonNull;

use kernel::sync::aref::ARef;

use super::{
    bindings,
    bo::Bo,
    gem,
    vm::{
        AnyVm,
        Managed, //
    },
};
use crate::{
    bo::Lru,
    gpuvm_rs::vm::GpuVm,
    pure::ops::PAGE_SIZE, //
};

/// Bytes of each BO.
pub(super) const SIZE: usize = 4 * 4096;

/// A device with a display.
#[derive(Clone, Copy)]
pub(super) struct Device(NonNull<bindings::msm_rs_test_device>);

// SAFETY: All that it is asked for is locked or atomic.
unsafe impl Send for Device {}

impl Device {
    pub(super) fn new() -> Self {
        // SAFETY: Has no preconditions.
        Self(NonNull::new(unsafe { bindings::msm_rs_test_device_new() }).unwrap())
    }

    fn drm(&self) -> *mut bindings::drm_device {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_drm(self.0.as_ptr()) }
    }

    pub(super) fn bo(&self) -> ARef<Bo> {
        // SAFETY: The device is alive.
        unsafe { gem::create(self.drm(), SIZE, bindings::MSM_BO_WC, core::ptr::null_mut()) }
            .unwrap()
    }

    /// The display's VM.
    pub(super) fn vm(&self) -> &GpuVm<Managed> {
        // SAFETY: The device owns a reference.
        unsafe { AnyVm::managed(bindings::msm_rs_test_vm(self.0.as_ptr())) }.unwrap()
    }

    /// Another VM, such as a context has that isn't for VM_BIND.
    pub(super) fn new_vm(&self) -> ContextVm {
        // SAFETY: The device is alive.
        let vm = unsafe { bindings::msm_rs_test_new_vm(self.0.as_ptr()) };
        ContextVm(kernel::error::from_err_ptr(vm).unwrap())
    }

    /// Bytes that are mapped, in all VMs.
    pub(super) fn mapped(&self) -> u64 {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_mapped(self.0.as_ptr()) }
    }

    /// How often something was unmapped.
    pub(super) fn unmaps(&self) -> u32 {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_unmaps(self.0.as_ptr()) }
    }

    /// Bytes of BOs that have pages.
    pub(super) fn resident(&self) -> u64 {
        // SAFETY: Alive. A word that can be read at any time.
        unsafe {
            let private = super::private(self.drm());
            (&raw const (*private).total_mem.counter).read_volatile() as u64
        }
    }

    /// Bytes of the BOs in an LRU.
    pub(super) fn in_lru(&self, lru: Lru) -> u64 {
        // SAFETY: Alive. Words that can be read at any time.
        let pages = unsafe {
            let lrus = &raw const (*super::private(self.drm())).lru;
            match lru {
                Lru::Unbacked => (&raw const (*lrus).unbacked.count).read_volatile(),
                Lru::Pinned => (&raw const (*lrus).pinned.count).read_volatile(),
                Lru::WillNeed => (&raw const (*lrus).willneed.count).read_volatile(),
                Lru::DontNeed => (&raw const (*lrus).dontneed.count).read_volatile(),
            }
        };
        pages as u64 * PAGE_SIZE
    }

    /// The next mapping fails.
    pub(super) fn fail(&self) {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_fail(self.0.as_ptr()) }
    }

    /// A handle for the BO.
    pub(super) fn open(&self, bo: &Bo) {
        // SAFETY: Both are alive.
        assert_eq!(
            unsafe { bindings::msm_rs_test_open(self.0.as_ptr(), bo.gem().as_raw()) },
            0
        );
    }

    /// The handle goes.
    pub(super) fn close(&self, bo: &Bo) {
        // SAFETY: Both are alive.
        unsafe { bindings::msm_rs_test_close(self.0.as_ptr(), bo.gem().as_raw()) };
    }

    /// Ends the device, and says what is left of its BOs.
    pub(super) fn free(self) -> i64 {
        // SAFETY: Used no more.
        unsafe { bindings::msm_rs_test_device_free(self.0.as_ptr()) }
    }
}

/// A reference to a VM. It goes before its device does.
pub(super) struct ContextVm(*mut bindings::drm_gpuvm);

impl core::ops::Deref for ContextVm {
    type Target = GpuVm<Managed>;

    fn deref(&self) -> &GpuVm<Managed> {
        // SAFETY: Ours.
        unsafe { AnyVm::managed(self.0) }.unwrap()
    }
}

impl Drop for ContextVm {
    fn drop(&mut self) {
        // SAFETY: Ours; nobody maps anything any more.
        unsafe { bindings::drm_gpuvm_put(self.0) };
    }
}

/// Exports the BO.
pub(super) fn export(bo: &Bo) -> *mut bindings::dma_buf {
    // SAFETY: The BO is alive.
    kernel::error::from_err_ptr(unsafe { bindings::msm_gem_prime_export(bo.gem().as_raw(), 0) })
        .unwrap()
}

/// The last file of an export is closed.
pub(super) fn release(dma_buf: *mut bindings::dma_buf) {
    // SAFETY: From `export()`.
    unsafe { bindings::msm_rs_test_dma_buf_put(dma_buf) };
}
