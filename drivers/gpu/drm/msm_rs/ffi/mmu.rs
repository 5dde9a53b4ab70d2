// SPDX-License-Identifier: GPL-2.0-only

//! C's page tables: those of SMMU domains, and of GPUs with an MMU of their own. For the display, the GMU, and the VM that all contexts of an
//! old GPU share.

use core::ptr::NonNull;

use kernel::prelude::*;

use super::{
    bindings,
    pages::Pages, //
};
use crate::gpuvm_rs::vm::VaRange;

/// A `struct msm_mmu`. Dropping it frees the page tables.
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

    /// Maps `range` to the pages of a BO, from byte `offset`.
    ///
    /// # Errors
    ///
    /// What the IOMMU says; nothing is mapped then.
    pub(crate) fn map(&self, range: VaRange, pages: &Pages, offset: u64) -> Result {
        let map = self.funcs().map.ok_or(EINVAL)?;
        // SAFETY: Alive; the table is valid while its BO is backed, which the caller's lock sees to.
        kernel::error::to_result(unsafe {
            map(
                self.0.as_ptr(),
                range.addr(),
                pages.sgt(),
                offset as usize,
                range.len() as usize,
                pages.iommu_prot(),
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
}

impl Drop for Mmu {
    fn drop(&mut self) {
        if let Some(destroy) = self.funcs().destroy {
            // SAFETY: Owned; not used any more.
            unsafe { destroy(self.0.as_ptr()) };
        }
    }
}
