// SPDX-License-Identifier: GPL-2.0-only

//! What Rust keeps of a VMA: behind `struct drm_gpuva`, for VMs of either kind.

use core::{
    cell::UnsafeCell,
    mem::offset_of, //
};

use kernel::{
    prelude::*,
    types::Opaque, //
};

use super::{
    bindings,
    bo::Kept,
    vm::Managed, //
};
use crate::{
    gpuvm_rs::{
        va::GpuVaAlloc,
        vm::{
            Driver,
            VmLocked, //
        },
    },
    pgtable::geometry::BLOCK_SIZE,
    pure::ops, //
};

/// Something about a VMA that is so or isn't: whether its page table entries are (or, for a VM_BIND
/// VMA, will be) in place.
///
/// Guarded by the VM's resv; C's debugfs code reads it as a `bool`.
#[repr(transparent)]
pub(crate) struct ResvBool(UnsafeCell<bool>);

// SAFETY: Only reachable with the VM's lock; C's reader is for people and reads a byte.
unsafe impl Send for ResvBool {}

// SAFETY: As above.
unsafe impl Sync for ResvBool {}

impl ResvBool {
    pub(crate) const fn new(mapped: bool) -> Self {
        Self(UnsafeCell::new(mapped))
    }

    pub(crate) fn get<T: Driver>(&self, _vm: &VmLocked<'_, T>) -> bool {
        // SAFETY: The lock keeps writers away.
        unsafe { self.0.get().read() }
    }

    pub(crate) fn set<T: Driver>(&self, mapped: bool, _vm: &VmLocked<'_, T>) {
        // SAFETY: The lock keeps other accesses away, see the type.
        unsafe { self.0.get().write(mapped) }
    }
}

/// What a VMA of a [`Managed`] VM carries. Begins as C's `struct msm_gem_vma` goes on behind its
/// base.
#[repr(C)]
pub(crate) struct ManagedVa {
    mapped: ResvBool,
    node: Opaque<bindings::drm_mm_node>,
}

/// What a VMA of a [`Bind`] VM carries. C reads `mapped`.
#[repr(C)]
pub(crate) struct BindVa {
    mapped: ResvBool,
    /// Keeps the BO's pages, once the VMA was removed and until its page table entries are.
    kept: Option<Kept>,
    /// The GEM handle that the MAP named, for the log; 0 for NULL mappings.
    handle: u32,
}

const _: () = {
    assert!(offset_of!(bindings::msm_gem_vma, base) == 0);
    assert!(offset_of!(bindings::msm_gem_vma, mapped) == size_of::<bindings::drm_gpuva>());
    assert!(
        offset_of!(bindings::msm_gem_vma, node) - size_of::<bindings::drm_gpuva>()
            == offset_of!(ManagedVa, node)
    );
};

// SAFETY: The node is only touched under the VM's lock.
unsafe impl Send for ManagedVa {}

// SAFETY: As above.
unsafe impl Sync for ManagedVa {}

impl BindVa {
    pub(crate) fn new(mapped: bool, handle: u32) -> Self {
        Self {
            mapped: ResvBool::new(mapped),
            kept: None,
            handle,
        }
    }

    /// Whether the page table entries are in place, or will be when the jobs that were asked for
    /// have run.
    pub(crate) fn mapped(&self) -> &ResvBool {
        &self.mapped
    }

    /// Keeps the pages of what it maps, until [`Self::take_kept`]. Returns whether there are any.
    pub(crate) fn keep(&mut self, kept: Option<Kept>) -> bool {
        self.kept = kept;
        self.kept.is_some()
    }

    /// Takes out what [`Self::keep`] put in.
    pub(crate) fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// The GEM handle that the MAP named; 0 for NULL mappings.
    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }
}

impl ManagedVa {
    /// A VMA without addresses.
    pub(crate) fn new() -> Self {
        Self {
            mapped: ResvBool::new(false),
            node: Opaque::zeroed(),
        }
    }

    /// Gives `va` `size` bytes of free addresses between `start` and `end`. Returns the first.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `ENOMEM`.
    pub(crate) fn allocate(
        va: &GpuVaAlloc<Managed>,
        vm: &VmLocked<'_, Managed>,
        size: u64,
        start: u64,
        end: u64,
    ) -> Result<u64> {
        let node = va.data().node.get();
        let vm: *mut bindings::msm_gem_vm = vm.as_raw().cast();
        // SAFETY: The token borrows the VM, which is alive.
        let mm = unsafe { &raw mut (*vm).mm };
        let insert = |alignment| {
            // SAFETY: The token says that the VM is locked, which guards its drm_mm. The node is
            // zeroed (a VMA gets addresses once) and boxed, so that it stays where it is.
            kernel::error::to_result(unsafe {
                bindings::drm_mm_insert_node_in_range(
                    mm,
                    node,
                    size,
                    alignment,
                    0,
                    start,
                    end,
                    bindings::drm_mm_insert_mode_DRM_MM_INSERT_BEST,
                )
            })
        };
        // Large pages are mapped as such where their address allows that. What lies unused behind
        // the BO then is an eighth of it at most: there may be 4 GiB of addresses in all.
        let unused = size.wrapping_neg() % BLOCK_SIZE;
        if size < BLOCK_SIZE || unused > size / 8 || insert(BLOCK_SIZE).is_err() {
            insert(ops::PAGE_SIZE)?;
        }
        // SAFETY: The VMA is borrowed; nothing changes its node while it has addresses.
        Ok(unsafe { (*node).start })
    }

    /// Whether the page table entries are in place.
    pub(crate) fn mapped(&self) -> &ResvBool {
        &self.mapped
    }
}

impl Drop for ManagedVa {
    fn drop(&mut self) {
        // SAFETY: VMAs of managed VMs are dropped where they are closed, with the VM locked, and
        // the VM, which holds the drm_mm, is alive there.
        unsafe { bindings::msm_rs_mm_remove(self.node.get()) };
    }
}
