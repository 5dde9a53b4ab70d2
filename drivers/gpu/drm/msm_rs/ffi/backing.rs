// SPDX-License-Identifier: GPL-2.0-only

//! A BO's pages, with the table that the IOMMU code wants of them.

use core::ptr::NonNull;

use kernel::{
    error::from_err_ptr,
    prelude::*, //
};

use super::{
    bindings,
    bo::{
        Bo,
        BoLocked, //
    },
    effort::Effort,
    mappings::Unmapped,
};
use crate::pure::ops;

/// All pages of a BO, pinned in its shmem file.
struct PageArray<'b> {
    bo: &'b Bo,
    pages: NonNull<*mut bindings::page>,
}

impl Drop for PageArray<'_> {
    fn drop(&mut self) {
        // SAFETY: From `msm_rs_get_pages()`. The GPU may have written any of them.
        unsafe {
            bindings::drm_gem_put_pages(self.bo.gem().as_raw(), self.pages.as_ptr(), true, false)
        };
    }
}

/// The table of the pages. Unless the BO is coherent, the GPU doesn't snoop CPU caches, nor does
/// the display ever; then it is also mapped for the device, which is how the DMA API maintains
/// them:
///
/// - when the pages come, they are cleaned. New pages were zeroed, and others read from swap,
///   through caches: without that the GPU would find what a previous owner has left in memory, or
///   CPUs' uncached accesses would.
/// - when they go, they are invalidated, or the kernel would find in caches, and write to swap,
///   what was there before the GPU wrote. A cached BO's are cleaned before that, since userspace
///   may have written through caches and not have flushed them yet: that is to be lost as little as
///   what the GPU wrote.
///
/// In between it is up to userspace, which can flush and invalidate caches on arm64.
///
/// # Invariants
///
/// `nents` isn't 0 if and only if it is mapped for the device. The mapping may fail (of a page that
/// the display can't address, say); C code has never minded, and there is nothing better to do.
struct SgTable<'b> {
    bo: &'b Bo,
    sgt: NonNull<bindings::sg_table>,
}

impl Drop for SgTable<'_> {
    fn drop(&mut self) {
        // SAFETY: From `drm_prime_pages_to_sg()`, and used no more.
        unsafe {
            bindings::msm_rs_sgt_free(
                self.bo.device(),
                self.sgt.as_ptr(),
                !self.bo.is_write_combined(),
            );
        }
    }
}

/// The pages of a BO and their table. Dropping it gives them back to the shmem file, which may swap
/// them out.
///
/// # Invariants
///
/// There are as many pages as the BO is large.
pub(crate) struct Backing<'b> {
    // Dropped in this order.
    table: SgTable<'b>,
    pages: PageArray<'b>,
}

impl<'b> Backing<'b> {
    /// Allocates the pages, or brings them back from swap.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR` for a fatal signal; nothing is left behind.
    pub(crate) fn new(bo: &'b BoLocked<'_>, effort: &Effort) -> Result<Self> {
        let bo: &Bo = bo;
        if bo.gem().is_imported() {
            return Err(EINVAL);
        }
        // All of them are in memory at the same time: those of a BO that is larger never are, and
        // for the attempt everybody else's memory would be taken away.
        let nr = u32::try_from(bo.gem().size() / ops::PAGE_SIZE)
            .ok()
            .filter(|&nr| u64::from(nr) <= super::total_ram_pages())
            .ok_or(ENOMEM)?;
        // SAFETY: `bo` is borrowed, hence alive. It has a file, as it isn't imported. Nobody else
        // looks into that: who does has the BO's lock.
        let was_empty = unsafe { bindings::msm_rs_is_empty(bo.gem().as_raw()) };
        Self::get(bo, nr, effort).inspect_err(|&e| {
            // Not for an error in swap: there is something.
            if was_empty && (e == ENOMEM || e == EINTR) {
                // What was allocated is zeroes, and would stay in the file, for which there may be
                // no swap.
                // SAFETY: As above; no pages are used.
                unsafe { bindings::msm_rs_truncate(bo.gem().as_raw()) };
            }
        })
    }

    /// Gets the BO's `nr` pages. Errors as [`Self::new`], but those that were there before one
    /// couldn't be had stay in the file.
    fn get(bo: &'b Bo, nr: u32, effort: &Effort) -> Result<Self> {
        let (gem, may_wait) = (bo.gem().as_raw(), effort.may_wait());
        // SAFETY: `bo` is borrowed, hence alive. It has a file: `new()` refuses imported ones.
        let pages = from_err_ptr(unsafe { bindings::msm_rs_get_pages(gem, may_wait) })?;
        let pages = PageArray {
            bo,
            pages: NonNull::new(pages).ok_or(ENOMEM)?,
        };
        // SAFETY: The device outlives its BOs. The array is as long as the BO.
        let sgt = unsafe { bindings::drm_prime_pages_to_sg(bo.device(), pages.pages.as_ptr(), nr) };
        let sgt = NonNull::new(from_err_ptr(sgt)?).ok_or(ENOMEM)?;
        // SAFETY: The table that was just made, which is ours.
        unsafe { bindings::msm_rs_sgt_map(bo.device(), sgt.as_ptr(), !bo.is_coherent()) };
        // INVARIANT: `msm_rs_sgt_map()` sees to `nents`.
        Ok(Self {
            table: SgTable { bo, sgt },
            pages,
        })
    }

    /// Gives both away.
    pub(super) fn into_raw(self) -> (*mut *mut bindings::page, *mut bindings::sg_table) {
        let this = core::mem::ManuallyDrop::new(self);
        (this.pages.pages.as_ptr(), this.table.sgt.as_ptr())
    }

    /// Takes back what [`Self::into_raw`] gave away.
    ///
    /// # Safety
    ///
    /// Both came from there, for this BO, and are used by nobody else.
    pub(super) unsafe fn from_raw(
        bo: &'b Bo,
        pages: NonNull<*mut bindings::page>,
        sgt: NonNull<bindings::sg_table>,
    ) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            table: SgTable { bo, sgt },
            pages: PageArray { bo, pages },
        }
    }
}

impl BoLocked<'_> {
    /// Makes `backing` the BO's.
    pub(crate) fn publish(&self, backing: Backing<'_>) {
        let (pages, sgt) = backing.into_raw();
        // SAFETY: `self` is the lock that guards it.
        unsafe { (*self.raw()).sgt = sgt };
        self.set_pages(pages);
    }

    fn set_pages(&self, pages: *mut *mut bindings::page) {
        // SAFETY: `self` borrows the BO, which is alive.
        let place = unsafe { &raw mut (*self.raw()).pages };
        // SAFETY: `self` is the lock that guards it. `msm_gem_status()` looks at it without, and
        // only whether it is NULL.
        unsafe { place.write_volatile(pages) };
    }
}

impl<'l> Unmapped<'l> {
    /// Takes the BO's pages away, to which nothing leads any more. `None` if there are none.
    pub(crate) fn take_backing(self) -> Option<Backing<'l>> {
        let locked = self.bo();
        // SAFETY: The BO is locked, which guards it.
        let pages = NonNull::new(unsafe { (*locked.raw()).pages })?;
        locked.set_pages(core::ptr::null_mut());
        // SAFETY: As above.
        let sgt = unsafe { core::mem::replace(&mut (*locked.raw()).sgt, core::ptr::null_mut()) };
        let sgt = NonNull::new(sgt)?;
        // SAFETY: `publish()` has stored both, and they were taken out. Nothing leads to the pages:
        // that is what `Unmapped` says.
        Some(unsafe { Backing::from_raw(locked, pages, sgt) })
    }
}
