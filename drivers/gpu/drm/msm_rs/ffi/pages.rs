// SPDX-License-Identifier: GPL-2.0-only

//! The pages of a BO, as something to map.

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use super::{
    bindings,
    bo::{
        Bo,
        BoLocked, //
    },
};
use crate::{
    pgtable::{
        geometry::BLOCK_SIZE,
        pte::Prot, //
    },
    pure::ops, //
};

/// The pages of a BO.
///
/// # Invariants
///
/// The BO is backed for as long as a lock, a pin or a fence keeps it so, see `bo::backing`; table
/// and pages are only valid then.
pub(crate) struct Pages {
    sgt: NonNull<bindings::sg_table>,
    pages: NonNull<*mut bindings::page>,
    bo: ARef<Bo>,
}

impl Pages {
    /// # Errors
    ///
    /// `ENOMEM` if the BO isn't backed whole.
    ///
    /// # Safety
    ///
    /// The type invariant holds.
    unsafe fn new(bo: &BoLocked<'_>) -> Result<Self> {
        // SAFETY: `bo` is the lock that guards it.
        let sgt = unsafe { (*bo.raw()).sgt };
        // SAFETY: As above.
        let pages = unsafe { (*bo.raw()).pages };
        // INVARIANT: The caller's promise.
        Ok(Self {
            sgt: NonNull::new(sgt).ok_or(ENOMEM)?,
            pages: NonNull::new(pages).ok_or(ENOMEM)?,
            bo: ARef::from(&**bo),
        })
    }

    /// Whose they are.
    pub(crate) fn bo(&self) -> &Bo {
        &self.bo
    }

    /// C's table of the pages.
    pub(super) fn sgt(&self) -> *mut bindings::sg_table {
        self.sgt.as_ptr()
    }

    /// C's flags for the mapping, `IOMMU_x`.
    pub(super) fn iommu_prot(&self) -> core::ffi::c_int {
        let prot = self.prot();
        let mut flags = bindings::IOMMU_READ;
        if prot.write {
            flags |= bindings::IOMMU_WRITE;
        }
        if prot.privileged {
            flags |= bindings::IOMMU_PRIV;
        }
        if prot.cached {
            flags |= bindings::IOMMU_CACHE;
        }
        flags as core::ffi::c_int
    }

    /// How the pages are mapped.
    pub(crate) fn prot(&self) -> Prot {
        self.bo().prot()
    }

    /// The memory of `len` bytes from `offset`, as runs of (physical address, bytes), of which the
    /// last may be longer.
    ///
    /// Costs in proportion to the pages at most, wherever they are in the BO.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the BO doesn't have them.
    pub(crate) fn runs(&self, offset: u64, len: u64) -> Result<Runs<'_>> {
        if !ops::fits(offset, len, self.bo().gem().size()) {
            return Err(EINVAL);
        }
        let (first, nr) = (offset / ops::PAGE_SIZE, len / ops::PAGE_SIZE);
        // SAFETY: By the type invariant.
        let segments = unsafe { self.sgt.as_ref() };
        // The segments say without a look at each page how many follow each other, but those before
        // the first have to be skipped.
        let by_segment = u64::from(segments.orig_nents) <= nr / 4;
        Ok(Runs {
            pages: self,
            first,
            end: first + nr,
            segment: by_segment.then_some(segments.sgl),
        })
    }

    /// Whether there may be a block among `len` bytes from `offset`, as far as their addresses go.
    /// Costs in proportion to the blocks that there could be.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the BO doesn't have them.
    pub(crate) fn may_have_blocks(&self, offset: u64, len: u64) -> Result<bool> {
        if !ops::fits(offset, len, self.bo().gem().size()) {
            return Err(EINVAL);
        }
        let (first, end) = (offset.next_multiple_of(BLOCK_SIZE), offset + len);
        let mut starts = (first..end.saturating_sub(BLOCK_SIZE - 1)).step_by(BLOCK_SIZE as usize);
        let address = |at: u64| {
            let mut phys = 0;
            // SAFETY: By the invariant there are as many pages as the BO is large.
            let page = unsafe { self.pages.add((at / ops::PAGE_SIZE) as usize) };
            // SAFETY: As above: one at least.
            unsafe { bindings::msm_rs_page_run(page.as_ptr(), 1, &mut phys) };
            phys
        };
        const LAST: u64 = BLOCK_SIZE - ops::PAGE_SIZE;
        // The first page and the last lie as in a block.
        Ok(starts
            .any(|at| address(at) % BLOCK_SIZE == 0 && address(at) + LAST == address(at + LAST)))
    }
}

/// See [`Pages::runs`].
pub(crate) struct Runs<'a> {
    pages: &'a Pages,
    /// The next page: of the BO, or counted from `segment`.
    first: u64,
    /// The page of the BO after the last, unless it goes by segments.
    end: u64,
    /// The next segment, to go by them.
    segment: Option<*mut bindings::scatterlist>,
}

impl Iterator for Runs<'_> {
    type Item = (u64, u64);

    #[inline]
    fn next(&mut self) -> Option<(u64, u64)> {
        let mut phys = 0;
        let nr = match &mut self.segment {
            Some(segment) => {
                let first = core::mem::take(&mut self.first);
                // SAFETY: By the invariant of `Pages`; NULL is the end.
                unsafe { bindings::msm_rs_sg_run(segment, first, &mut phys) }
            }
            None => {
                let max = self.end.checked_sub(self.first).filter(|&max| max > 0)?;
                // SAFETY: By the invariant of `Pages` there are as many pages as the BO is large,
                // which was checked.
                let pages = unsafe { self.pages.pages.add(self.first as usize) };
                // SAFETY: As above: at least `max` more.
                let nr = unsafe { bindings::msm_rs_page_run(pages.as_ptr(), max, &mut phys) };
                self.first += nr;
                nr
            }
        };
        (nr > 0).then_some((phys, nr * ops::PAGE_SIZE))
    }
}

// SAFETY: Neither is bound to a thread.
unsafe impl Send for Pages {}

// SAFETY: They are only read.
unsafe impl Sync for Pages {}

impl BoLocked<'_> {
    /// The pages as something to map.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there are none.
    pub(crate) fn pages(&self) -> Result<Pages> {
        // SAFETY: Locked; the caller holds on to what keeps the pages, see `bo::backing`.
        unsafe { Pages::new(self) }
    }
}
