// SPDX-License-Identifier: GPL-2.0-only

//! C's page tables: those of SMMU domains, and of GPUs with an MMU of their own. For the display,
//! the GMU, and the VM that all contexts of an old GPU share.

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

/// The page tables of a domain for which a VM is being made. They stay C's until there is one.
///
/// # Invariants
///
/// They are alive, and given away to whoever turns this into an [`Mmu`].
pub(crate) struct DomainMmu(NonNull<bindings::msm_mmu>);

impl DomainMmu {
    /// # Safety
    ///
    /// The type invariants hold.
    pub(super) unsafe fn new(mmu: NonNull<bindings::msm_mmu>) -> Self {
        // INVARIANT: The caller's promise.
        Self(mmu)
    }

    /// What C knows.
    pub(super) fn as_raw(&self) -> *mut bindings::msm_mmu {
        self.0.as_ptr()
    }

    /// Takes them over: nothing can keep the VM from being made any more.
    pub(crate) fn into_mmu(self) -> Mmu {
        Mmu(self.0)
    }
}

impl Mmu {
    fn funcs(&self) -> &bindings::msm_mmu_funcs {
        // SAFETY: Owned by `self`; the pointer never changes.
        let funcs = unsafe { (*self.0.as_ptr()).funcs };
        // SAFETY: A table of C's that never changes.
        unsafe { &*funcs }
    }

    /// Maps `range` to the pages of a BO, from byte `offset`.
    ///
    /// # Errors
    ///
    /// What the IOMMU says; nothing is mapped then.
    pub(crate) fn map(&self, range: VaRange, pages: &Pages, offset: u64) -> Result {
        let map = self.funcs().map.ok_or(EINVAL)?;
        // SAFETY: Owned by `self`, hence alive; the table is valid while its BO is backed, which
        // the caller's lock sees to.
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
            // SAFETY: Owned by `self`, hence alive.
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
