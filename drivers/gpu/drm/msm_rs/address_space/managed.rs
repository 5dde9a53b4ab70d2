// SPDX-License-Identifier: GPL-2.0-only

//! Page tables of VMs that the kernel manages. They change at once, when a BO is mapped and
//! unmapped, with the VM locked.

use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex,
    warn_on, //
};

use super::{
    footprint,
    log::LogOp,
    tables::VmTables, //
};
use crate::{
    ffi::{
        mmu::Mmu,
        pages::Pages,
        smmu::TableList, //
    },
    gpuvm_rs::range::VaRange,
    pgtable::{
        memory::Pool,
        Refused, //
    },
};

/// The page tables of a kernel-managed VM.
pub(crate) enum ManagedTables {
    /// C's, of an SMMU domain: those of the display, the GMU and the GPU's own VM. The same is what
    /// GPUs without an SMMU have.
    Domain(Mmu),
    /// Ours, of a context. The lock is one that reclaim takes: nothing is allocated under it.
    Own(Pin<KBox<Mutex<VmTables>>>),
}

impl ManagedTables {
    /// Tables of its own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn own(tables: VmTables) -> Result<Self> {
        let tables = KBox::pin_init(new_mutex!(tables, "msm_rs::managed_tables"), GFP_KERNEL)?;
        Ok(Self::Own(tables))
    }

    /// Maps `range` to the pages of a BO, from byte `offset`. Nothing is mapped there.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what the IOMMU says, for a domain. Nothing is mapped then.
    pub(crate) fn map(&self, range: VaRange, pages: &Pages, offset: u64) -> Result {
        let tables = match self {
            Self::Domain(mmu) => return mmu.map(range, pages, offset),
            Self::Own(tables) => tables,
        };
        let (geometry, smmu) = {
            let tables = tables.lock();
            (tables.geometry(), tables.smmu())
        };
        let touches = footprint::touches(range, pages, offset)?;
        let footprint = footprint::footprint(&geometry, touches)?;
        let mut pool = TableList::new(smmu);
        let mut tables = loop {
            let guard = tables.lock();
            match guard.reserve(&footprint, &mut pool) {
                Ok(()) => break guard,
                Err(Refused::Shortage(missing)) => {
                    drop(guard);
                    pool.fill(pool.available() + missing)?;
                }
                // Each mapping is removed whole, so that blocks end where mappings do.
                Err(Refused::Blocks) => {
                    warn_on!(true);
                    return Err(EINVAL);
                }
            }
        };
        let mut change = tables.change();
        let result = change.map(range, Some(pages), offset, LogOp::Map);
        change.release(&footprint);
        result
    }

    /// Removes the entries of `range`, because of `why`, and invalidates the TLB.
    pub(crate) fn unmap(&self, range: VaRange, why: LogOp) {
        match self {
            Self::Domain(mmu) => mmu.unmap(range),
            Self::Own(tables) => {
                // Nothing here maps NULL, so that no table is needed.
                let result = tables.lock().change().unmap(range, why);
                debug_assert!(result.is_ok());
            }
        }
    }

    /// The entries that translate `iova`, by level.
    ///
    /// # Errors
    ///
    /// `EINVAL` for those of a domain.
    pub(crate) fn walk(&self, iova: u64) -> Result<[u64; 4]> {
        match self {
            Self::Domain(_) => Err(EINVAL),
            Self::Own(tables) => Ok(tables.lock().walk(iova)),
        }
    }
}
