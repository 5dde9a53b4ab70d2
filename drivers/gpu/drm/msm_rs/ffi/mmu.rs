// SPDX-License-Identifier: GPL-2.0-only

//! Page tables, and the tables that are allocated in advance for a job.

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use super::{
    bindings,
    bo::Pages,
    vm::Bind, //
};
use crate::gpuvm_rs::vm::{
    GpuVm,
    VaRange, //
};

/// A VM's page tables (`struct msm_mmu`). Dropping it frees them.
pub(crate) struct Mmu(NonNull<bindings::msm_mmu>);

// SAFETY: An msm_mmu isn't bound to a thread; its functions lock what they share.
unsafe impl Send for Mmu {}
// SAFETY: As above.
unsafe impl Sync for Mmu {}

impl Mmu {
    /// # Safety
    ///
    /// `mmu` is alive and given away by the caller.
    pub(super) unsafe fn from_raw(mmu: NonNull<bindings::msm_mmu>) -> Self {
        Self(mmu)
    }

    fn funcs(&self) -> &bindings::msm_mmu_funcs {
        // SAFETY: Alive; the functions never change.
        unsafe { &*(*self.0.as_ptr()).funcs }
    }

    /// Maps `range` to the pages of a BO, from byte `offset`; to the PRR page without `pages`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if tables were missing; nothing is mapped then.
    pub(crate) fn map(&self, range: VaRange, pages: Option<&Pages>, offset: u64) -> Result {
        let map = self.funcs().map.ok_or(EINVAL)?;
        let (sgt, prot) = match pages {
            Some(p) => (p.sgt.as_ptr(), p.prot),
            None => (
                core::ptr::null_mut(),
                (bindings::IOMMU_READ | bindings::IOMMU_WRITE) as core::ffi::c_int,
            ),
        };
        // SAFETY: Alive; the table is valid while its BO is backed, which the caller's lock or fence
        // sees to.
        kernel::error::to_result(unsafe {
            map(
                self.0.as_ptr(),
                range.addr(),
                sgt,
                offset as usize,
                range.len() as usize,
                prot,
            )
        })
    }

    /// Removes the entries of `range` and invalidates the TLB.
    pub(crate) fn unmap(&self, range: VaRange) {
        if let Some(unmap) = self.funcs().unmap {
            // SAFETY: Alive.
            unsafe { unmap(self.0.as_ptr(), range.addr(), range.len() as usize) };
        }
    }

    /// Runs `f`, which may map with `tables` and nothing else.
    pub(crate) fn with_tables<R>(&mut self, tables: &mut Tables, f: impl FnOnce(&Self) -> R) -> R {
        // SAFETY: Alive; `&mut self` keeps others from changing the field.
        unsafe { (*self.0.as_ptr()).prealloc = &mut tables.raw };
        let result = f(self);
        // SAFETY: As above.
        unsafe { (*self.0.as_ptr()).prealloc = core::ptr::null_mut() };
        result
    }
}

impl Drop for Mmu {
    fn drop(&mut self) {
        if let Some(destroy) = self.funcs().destroy {
            // SAFETY: Owned; not used any more.
            unsafe { destroy(self.0.as_ptr()) };
        }
    }
}

/// Tables that a job may need, allocated when it was asked for. Dropping gives back the unused ones.
pub(crate) struct Tables {
    vm: ARef<GpuVm<Bind>>,
    raw: bindings::msm_mmu_prealloc,
}

// SAFETY: Owned memory.
unsafe impl Send for Tables {}
// SAFETY: Only reachable through `&mut`.
unsafe impl Sync for Tables {}

impl Tables {
    /// Allocates `count` tables for `vm`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(vm: &GpuVm<Bind>, count: u32) -> Result<Self> {
        let mut raw = bindings::msm_mmu_prealloc {
            count,
            ptr: 0,
            pages: core::ptr::null_mut(),
        };
        let mmu = vm.mmu_ptr();
        // SAFETY: The VM owns its page tables.
        let allocate = unsafe { (*(*mmu).funcs).prealloc_allocate }.ok_or(EINVAL)?;
        // SAFETY: As above. When it fails it leaves nothing allocated.
        kernel::error::to_result(unsafe { allocate(mmu, &mut raw) })?;
        Ok(Self { vm: vm.into(), raw })
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let mmu = self.vm.mmu_ptr();
        // SAFETY: The VM is alive and owns its page tables.
        unsafe {
            if let Some(cleanup) = (*(*mmu).funcs).prealloc_cleanup {
                cleanup(mmu, &mut self.raw);
            }
        }
    }
}
