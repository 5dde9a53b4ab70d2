// SPDX-License-Identifier: GPL-2.0-only

//! For KUnit tests: a device that is only as much of one as BOs need, see helpers/test_device.c.

use core::{
    mem::offset_of,
    ops::Range,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use super::gem;
use crate::{
    ffi::{
        self, bindings,
        bo::{
            Bo,
            Lru, //
        },
        vm::{
            AnyVm,
            Bind,
            Managed, //
        },
    },
    gpuvm_rs::{
        self,
        fence::Fence,
        vm::GpuVm, //
    },
    pure::ops::PAGE_SIZE, //
};

/// Bytes of each BO.
pub(super) const SIZE: usize = 4 * 4096;

/// A device with a display.
#[derive(Clone, Copy)]
pub(crate) struct Device(NonNull<bindings::msm_rs_test_device>);

// SAFETY: All that it is asked for is locked or atomic.
unsafe impl Send for Device {}

impl Device {
    pub(crate) fn new() -> Self {
        // SAFETY: Has no preconditions.
        Self(NonNull::new(unsafe { bindings::msm_rs_test_device_new() }).unwrap())
    }

    fn drm(&self) -> *mut bindings::drm_device {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_drm(self.0.as_ptr()) }
    }

    pub(super) fn bo(&self) -> ARef<Bo> {
        self.sized_bo(SIZE, None)
    }

    /// A BO with `MSM_BO_x` flags. The device has coherent ones.
    pub(super) fn bo_with(&self, flags: u32) -> ARef<Bo> {
        // SAFETY: The device is alive.
        unsafe { gem::create(self.drm(), SIZE, flags, core::ptr::null_mut()) }.unwrap()
    }

    /// A BO of `size` bytes, perhaps a private one.
    pub(crate) fn sized_bo(&self, size: usize, private_to: Option<&GpuVm<Bind>>) -> ARef<Bo> {
        let mut flags = bindings::MSM_BO_WC;
        let mut owner = core::ptr::null_mut();
        if let Some(vm) = private_to {
            flags |= bindings::MSM_BO_NO_SHARE;
            owner = vm.resv_obj().as_raw();
        }
        // SAFETY: The device is alive, and so is the VM.
        unsafe { gem::create(self.drm(), size, flags, owner) }.unwrap()
    }

    /// The display's VM.
    pub(super) fn vm(&self) -> &GpuVm<Managed> {
        // SAFETY: Alive.
        let vm = unsafe { bindings::msm_rs_test_vm(self.0.as_ptr()) };
        // SAFETY: The device owns a reference.
        unsafe { AnyVm::managed(vm) }.unwrap()
    }

    /// A file with a context that isn't for VM_BIND.
    pub(super) fn new_client(&self) -> Client {
        // SAFETY: The device is alive.
        Client(NonNull::new(unsafe { bindings::msm_rs_test_client_new(self.0.as_ptr()) }).unwrap())
    }

    /// A VM for VM_BIND at `iovas`, with a log or without. It goes before its device does.
    pub(crate) fn new_bind_vm(&self, iovas: Range<u64>, log: bool) -> ARef<GpuVm<Bind>> {
        let size = iovas.end - iovas.start;
        let device = self.0.as_ptr();
        // SAFETY: Alive.
        let vm = unsafe { bindings::msm_rs_test_new_bind_vm(device, iovas.start, size, log) };
        let vm = kernel::error::from_err_ptr(vm).unwrap();
        // SAFETY: The call returns a reference to a VM that isn't managed, or an errno.
        unsafe { ARef::from_raw(NonNull::new(vm.cast()).unwrap()) }
    }

    /// The GPU's domain goes, as when its driver is unbound. VMs for VM_BIND may go later.
    pub(super) fn take_gpu_away(&self) {
        // SAFETY: Alive; nobody uses the display's VM.
        unsafe { bindings::msm_rs_test_take_gpu_away(self.0.as_ptr()) };
    }

    /// How often TTBR0 was set, or the TLB invalidated.
    pub(crate) fn smmu_calls(&self) -> u32 {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_smmu_calls(self.0.as_ptr()) }
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
    pub(crate) fn resident(&self) -> u64 {
        // SAFETY: Alive.
        let counter = unsafe { &raw const (*self.private()).total_mem.counter };
        // SAFETY: A word that can be read at any time.
        unsafe { counter.read_volatile() as u64 }
    }

    fn private(&self) -> *mut bindings::msm_drm_private {
        // SAFETY: Alive.
        unsafe { ffi::private(self.drm()) }
    }

    /// Bytes of the BOs in an LRU.
    pub(super) fn in_lru(&self, lru: Lru) -> u64 {
        let offset = match lru {
            Lru::Unbacked => offset_of!(bindings::msm_drm_private, lru.unbacked),
            Lru::Pinned => offset_of!(bindings::msm_drm_private, lru.pinned),
            Lru::WillNeed => offset_of!(bindings::msm_drm_private, lru.willneed),
            Lru::DontNeed => offset_of!(bindings::msm_drm_private, lru.dontneed),
        };
        let lru: *mut bindings::drm_gem_lru = self.private().wrapping_byte_add(offset).cast();
        // SAFETY: The device's, which is alive.
        let pages = unsafe { gpuvm_rs::lru::Lru::from_raw(lru) }.pages();
        pages * PAGE_SIZE
    }

    /// The next mapping fails.
    pub(super) fn fail(&self) {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_fail(self.0.as_ptr()) }
    }

    /// The display is unbound. Nothing may be pinned for it any more.
    pub(super) fn unbind_display(&self) {
        // SAFETY: Alive. Called once.
        unsafe { bindings::msm_rs_test_display_gone(self.0.as_ptr()) }
    }

    /// A handle for the BO, of a file whose context has no VM.
    pub(super) fn open(&self, bo: &Bo) {
        // SAFETY: The device is alive.
        open(unsafe { bindings::msm_rs_test_file(self.0.as_ptr()) }, bo);
    }

    /// The handle goes.
    pub(super) fn close(&self, bo: &Bo) {
        // SAFETY: The device is alive.
        close(unsafe { bindings::msm_rs_test_file(self.0.as_ptr()) }, bo);
    }

    /// Starts or stops to keep what the DMA API is asked for.
    pub(super) fn watch_dma(&self, on: bool) {
        // SAFETY: Alive. Stopped once after it was started.
        assert!(unsafe { bindings::msm_rs_test_watch_dma(self.0.as_ptr(), on) });
    }

    /// What it was asked for since the last look: `m`ap, `s`ync for the device, `u`nmap.
    pub(super) fn dma_asked(&self) -> [u8; 8] {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_dma_asked(self.0.as_ptr()) }.to_le_bytes()
    }

    /// Imports a dma-buf by a table of `pages` pages, for a moment, in which its content is said
    /// not to be needed: `EBADF` if reclaim could find it then.
    pub(super) fn import(&self, dma_buf: *mut bindings::dma_buf, pages: u32) -> Result {
        // SAFETY: Both are alive.
        kernel::error::to_result(unsafe {
            bindings::msm_rs_test_import(self.0.as_ptr(), dma_buf, pages)
        })
    }

    /// Ends the device, and says what is left of its BOs.
    pub(crate) fn free(self) -> i64 {
        // SAFETY: Used no more.
        unsafe { bindings::msm_rs_test_device_free(self.0.as_ptr()) }
    }
}

/// How many references there are to a BO.
pub(crate) fn refs(bo: &Bo) -> u32 {
    // SAFETY: Alive.
    unsafe { bindings::msm_rs_test_refs(bo.gem().as_raw()) }
}

/// A fence that isn't signalled, and which reclaim waits for before it takes the BO's pages. It is
/// to be signalled with [`signal`] before the BO goes.
pub(crate) fn new_fence(bo: &Bo) -> ARef<Fence> {
    let locked = bo.gem().lock();
    // SAFETY: Locked; the rest is the caller's promise.
    let fence = unsafe { bindings::gpuvm_rs_test_fence_new(locked.as_raw()) };
    // SAFETY: The call returns a reference or NULL.
    unsafe { Fence::from_owned(fence) }.unwrap()
}

/// Signals one of [`new_fence`].
pub(crate) fn signal(fence: &Fence) {
    // SAFETY: From `new_fence()`.
    unsafe { bindings::gpuvm_rs_test_fence_signal_in(fence.as_raw(), 0) };
    fence.wait();
}

/// How many references there are to a VM.
pub(crate) fn vm_refs(vm: &GpuVm<Bind>) -> u32 {
    // SAFETY: Alive.
    unsafe { bindings::msm_rs_test_vm_refs(vm.as_raw()) }
}

/// How many ops are to be planned, and the seed of the first.
pub(crate) fn plan_ops() -> (u32, u32) {
    // SAFETY: Reads a module parameter.
    let ops = unsafe { bindings::msm_rs_test_plan_ops() };
    // SAFETY: As above.
    let seed = unsafe { bindings::msm_rs_test_plan_seed() };
    (ops, seed)
}

/// `file`, of a test device that is alive, gets a handle for the BO.
fn open(file: *mut bindings::drm_file, bo: &Bo) {
    // SAFETY: Both are alive.
    let ret = unsafe { bindings::msm_rs_test_open(file, bo.gem().as_raw()) };
    assert_eq!(ret, 0);
}

/// The handle goes.
fn close(file: *mut bindings::drm_file, bo: &Bo) {
    // SAFETY: Both are alive.
    unsafe { bindings::msm_rs_test_close(file, bo.gem().as_raw()) };
}

/// A file with a context, whose VM the kernel manages. It goes before its device does, and its
/// handles before it.
pub(super) struct Client(NonNull<bindings::msm_rs_test_client>);

impl Client {
    /// The context's VM.
    pub(super) fn vm(&self) -> &GpuVm<Managed> {
        // SAFETY: Alive.
        let vm = unsafe { bindings::msm_rs_test_client_vm(self.0.as_ptr()) };
        // SAFETY: The client has a reference.
        unsafe { AnyVm::managed(vm) }.unwrap()
    }

    fn file(&self) -> *mut bindings::drm_file {
        // SAFETY: Alive.
        unsafe { bindings::msm_rs_test_client_file(self.0.as_ptr()) }
    }

    /// A handle for the BO.
    pub(super) fn open(&self, bo: &Bo) {
        open(self.file(), bo);
    }

    /// A handle goes.
    pub(super) fn close(&self, bo: &Bo) {
        close(self.file(), bo);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: Ours; nobody maps anything any more.
        unsafe { bindings::msm_rs_test_client_free(self.0.as_ptr()) };
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
