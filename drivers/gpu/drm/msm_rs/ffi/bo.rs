// SPDX-License-Identifier: GPL-2.0-only

//! A buffer object as the VM sees it.

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
};

use super::{
    bindings,
    vm::Managed, //
};
use crate::gpuvm_rs::{
    gem::{
        GemObject,
        ObjLocked, //
    },
    lru::LruLocked,
    shrinker::stages::Fate,
    sm::OpMap,
    trylock::AllLocked,
    va::GpuVa,
    vm::{
        Driver,
        VmBo,
        VmLocked, //
    },
};
use crate::{
    pgtable::pte::Prot,
    pure::ops, //
};

/// The bytes of a BO's name that the VM log keeps.
pub(crate) const NAME_LEN: usize = 32;

/// A GEM object that is a `struct msm_gem_object`.
#[repr(transparent)]
pub(crate) struct Bo(GemObject);

// SAFETY: As for the GEM object, whose count this is.
unsafe impl AlwaysRefCounted for Bo {
    fn inc_ref(&self) {
        self.0.inc_ref();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: Transparent over `GemObject`; the rest is the caller's promise.
        unsafe { GemObject::dec_ref(obj.cast()) }
    }
}

impl Bo {
    /// # Safety
    ///
    /// `obj` was made by the msm driver (it isn't a VM's resv object).
    pub(super) unsafe fn from_gem(obj: &GemObject) -> &Self {
        // SAFETY: Transparent; the caller's promise.
        unsafe { &*core::ptr::from_ref(obj).cast() }
    }

    /// What `va` maps; `None` for a NULL mapping.
    pub(crate) fn of_va<T: Driver>(va: &GpuVa<T>) -> Option<&Self> {
        // SAFETY: Only the driver's BOs are ever mapped.
        va.obj().map(|obj| unsafe { Self::from_gem(obj) })
    }

    /// What a step maps; `None` for a NULL mapping.
    pub(crate) fn of_op<'a>(op: &'a OpMap<'_>) -> Option<&'a Self> {
        // SAFETY: Only the driver's BOs are ever mapped.
        op.obj().map(|obj| unsafe { Self::from_gem(obj) })
    }

    /// Looks up a handle.
    ///
    /// # Safety
    ///
    /// `file` is an open file of the msm driver.
    pub(super) unsafe fn lookup(file: *mut bindings::drm_file, handle: u32) -> Option<ARef<Self>> {
        // SAFETY: The caller's promise; the call returns a reference or NULL, and all of the file's
        // objects are the driver's.
        unsafe {
            let obj = bindings::drm_gem_object_lookup(file, handle);
            NonNull::new(obj.cast()).map(|p| ARef::from_raw(p))
        }
    }

    /// As a GEM object.
    pub(crate) fn gem(&self) -> &GemObject {
        &self.0
    }

    fn raw(&self) -> *mut bindings::msm_gem_object {
        self.0.as_raw().cast()
    }

    /// `MSM_BO_x` flags, which never change.
    fn flags(&self) -> u32 {
        // SAFETY: Alive.
        unsafe { (*self.raw()).flags }
    }

    /// Whether the BO may only be mapped in the VM that it was made in.
    pub(crate) fn is_no_share(&self) -> bool {
        self.flags() & bindings::MSM_BO_NO_SHARE != 0
    }

    /// Whether the GPU may not write.
    pub(crate) fn is_readonly(&self) -> bool {
        self.flags() & bindings::MSM_BO_GPU_READONLY != 0
    }

    /// The name that userspace gave it, for people to read: it may change under our eyes.
    pub(crate) fn name(&self) -> [u8; NAME_LEN] {
        // SAFETY: Alive; any bytes are a valid name.
        unsafe { core::ptr::read_volatile((&raw const (*self.raw()).name).cast()) }
    }

    /// What may be done with the BO's pages when memory is short: `None` if it has none, or they are pinned or somebody
    /// else's.
    pub(crate) fn fate(obj: &ObjLocked<'_>, _lru: &LruLocked<'_>) -> Option<Fate> {
        // SAFETY: Only the driver's BOs are in its LRUs. Alive; the locks guard what is read.
        unsafe {
            let bo = &*obj.as_raw().cast::<bindings::msm_gem_object>();
            if bo.pages.is_null()
                || bo.pin_count != 0
                || bindings::drm_gem_is_imported(obj.as_raw())
            {
                return None;
            }
            match u32::from(bo.madv) {
                bindings::MSM_MADV_WILLNEED => Some(Fate::Swap),
                bindings::MSM_MADV_DONTNEED if !bo.sgt.is_null() => Some(Fate::Purge),
                _ => None,
            }
        }
    }

    /// Takes the BO's mappings away, then its pages. It is idle and not pinned.
    pub(crate) fn evict(obj: &AllLocked<'_>, fate: Fate) {
        // A kernel mapping that nobody uses doesn't keep the pages.
        Self::vunmap(obj);
        // SAFETY: Only the driver's BOs are in its LRUs. Alive; it and the VMs that map it are locked.
        unsafe {
            match fate {
                Fate::Purge => bindings::msm_gem_purge(obj.as_raw()),
                Fate::Swap => bindings::msm_gem_evict(obj.as_raw()),
            }
        }
    }

    /// Takes the BO's kernel mapping away, if there is one and nobody uses it. Returns whether that was so.
    pub(crate) fn vunmap(obj: &ObjLocked<'_>) -> bool {
        // SAFETY: Only the driver's BOs are in its LRUs. Alive and locked.
        unsafe {
            let bo: *mut bindings::msm_gem_object = obj.as_raw().cast();
            if (*bo).vaddr.is_null() || (*bo).vmap_count != 0 {
                return false;
            }
            bindings::msm_gem_vunmap(obj.as_raw());
        }
        true
    }

    /// The BO's pages, allocated or brought back from swap if need be.
    ///
    /// They stay while the lock is held, and after that while the BO's resv has a fence that isn't
    /// signalled, or the BO is pinned.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the BO isn't MSM_MADV_WILLNEED, `ENOMEM`.
    pub(crate) fn pages(&self, _locked: &ObjLocked<'_>) -> Result<Pages> {
        // SAFETY: Alive and locked.
        let pages = unsafe {
            bindings::msm_gem_get_pages_locked(self.gem().as_raw(), bindings::MSM_MADV_WILLNEED)
        };
        kernel::error::from_err_ptr(pages)?;
        // SAFETY: Backed, so that table and pages exist.
        unsafe { Pages::new(self) }
    }
}

impl Bo {
    /// Gives the BO its pages and a place in a kernel-managed VM, unless it has both. Returns the vm_bo and the iova.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the BO isn't MSM_MADV_WILLNEED, `EINVAL` if it may only be mapped elsewhere, `ENOSPC`, `ENOMEM`.
    pub(crate) fn place<'l>(
        &self,
        vm: &VmLocked<'_, Managed>,
        obj: &ObjLocked<'l>,
    ) -> Result<(VmBo<'l, Managed>, u64)> {
        // SAFETY: Alive and locked, both. A VMA of a locked VM stays.
        unsafe {
            let va = kernel::error::from_err_ptr(bindings::msm_gem_get_vma_locked(
                self.gem().as_raw(),
                vm.as_raw(),
            ))?;
            kernel::error::to_result(bindings::msm_gem_pin_vma_locked(self.gem().as_raw(), va))?;
            let va = GpuVa::<Managed>::from_raw(va);
            let vm_bo = VmBo::of_va(va, obj).ok_or(EDEADLK)?;
            Ok((vm_bo, va.range().addr()))
        }
    }

    /// Maps the BO into the kernel.
    ///
    /// # Errors
    ///
    /// `ENODEV` for an imported BO, `EBUSY` if the BO isn't MSM_MADV_WILLNEED, `ENOMEM`.
    pub(crate) fn vmap<'o>(&'o self, _locked: ObjLocked<'o>) -> Result<Vmap<'o>> {
        // SAFETY: Alive and locked.
        let map = kernel::error::from_err_ptr(unsafe {
            bindings::msm_gem_get_vaddr_locked(self.gem().as_raw())
        })?;
        // INVARIANT: Locked for `'o`.
        Ok(Vmap {
            bo: self,
            map: map.cast(),
        })
    }
}

/// A BO that is mapped into the kernel.
///
/// # Invariants
///
/// `map` is where all of the BO is mapped, until this is dropped; the BO is locked for as long.
pub(crate) struct Vmap<'o> {
    bo: &'o Bo,
    map: *mut u32,
}

impl Vmap<'_> {
    /// Writes dword number `dword`, which is to be in the BO; otherwise warns and writes nothing.
    pub(crate) fn write(&self, dword: u32, value: u32) {
        if kernel::warn_on!(!ops::fits(u64::from(dword) * 4, 4, self.bo.gem().size())) {
            return;
        }
        // SAFETY: Within the mapping, by the type invariant. Userspace and the GPU may use it at the same time.
        unsafe { self.map.add(dword as usize).write_volatile(value) };
    }
}

impl Drop for Vmap<'_> {
    fn drop(&mut self) {
        // SAFETY: Mapped by `Bo::vmap()`, and still locked.
        unsafe { bindings::msm_gem_put_vaddr_locked(self.bo.gem().as_raw()) };
    }
}

/// A BO whose pages are pinned, until this is dropped, which takes the LRU lock.
///
/// # Invariants
///
/// The object is locked for `'l`, and one of its pins is ours.
pub(crate) struct Pin<'l>(&'l GemObject);

impl<'l> Pin<'l> {
    /// Pins a BO that is backed.
    pub(crate) fn new(obj: &ObjLocked<'l>, _lru: &LruLocked<'_>) -> Self {
        // SAFETY: Locked, both. INVARIANT: The pin is counted here.
        unsafe { bindings::msm_gem_pin_obj_locked(obj.as_raw()) };
        Self(obj.object())
    }

    /// Leaves the pin to a job, whose fence then guards the pages.
    pub(super) fn leave_to_job(self) {
        core::mem::forget(self);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked, and pinned by us.
        unsafe { bindings::msm_gem_unpin_locked(self.0.as_raw()) };
    }
}

/// The pages of a BO.
///
/// # Invariants
///
/// The BO is backed for as long as a lock, a pin or a fence keeps it so, see [`Bo::pages`]; table and pages are
/// only valid then.
pub(crate) struct Pages {
    sgt: NonNull<bindings::sg_table>,
    pages: NonNull<*mut bindings::page>,
    prot: core::ffi::c_int,
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
    pub(super) unsafe fn new(bo: &Bo) -> Result<Self> {
        // SAFETY: Alive.
        let (sgt, pages, prot) = unsafe {
            (
                (*bo.raw()).sgt,
                (*bo.raw()).pages,
                bindings::msm_gem_prot(bo.gem().as_raw()),
            )
        };
        // INVARIANT: The caller's promise.
        Ok(Self {
            sgt: NonNull::new(sgt).ok_or(ENOMEM)?,
            pages: NonNull::new(pages).ok_or(ENOMEM)?,
            prot,
            bo: bo.into(),
        })
    }

    /// C's table of the pages.
    pub(super) fn sgt(&self) -> *mut bindings::sg_table {
        self.sgt.as_ptr()
    }

    /// C's flags for the mapping, `IOMMU_x`.
    pub(super) fn iommu_prot(&self) -> core::ffi::c_int {
        self.prot
    }

    /// How the pages are mapped.
    pub(super) fn prot(&self) -> Prot {
        let flags = self.prot as u32;
        Prot {
            write: flags & bindings::IOMMU_WRITE != 0,
            privileged: flags & bindings::IOMMU_PRIV != 0,
            cached: flags & bindings::IOMMU_CACHE != 0,
        }
    }

    /// The memory of `len` bytes from `offset`, as runs of (physical address, bytes). Finding the first is O(1).
    ///
    /// # Errors
    ///
    /// `EINVAL` if the BO doesn't have them.
    pub(super) fn runs(
        &self,
        offset: u64,
        len: u64,
    ) -> Result<impl Iterator<Item = (u64, u64)> + '_> {
        if !ops::fits(offset, len, self.bo.gem().size()) {
            return Err(EINVAL);
        }
        let mut next = (offset / ops::PAGE_SIZE) as usize;
        let end = next + (len / ops::PAGE_SIZE) as usize;
        Ok(core::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let mut phys = 0;
            // SAFETY: By the type invariant there are as many pages as the BO is large, which was
            // checked.
            let nr = unsafe {
                bindings::msm_rs_page_run(
                    self.pages.as_ptr().add(next),
                    (end - next) as u64,
                    &mut phys,
                )
            };
            next += nr as usize;
            Some((phys, nr * ops::PAGE_SIZE))
        }))
    }
}

// SAFETY: Neither is bound to a thread.
unsafe impl Send for Pages {}
// SAFETY: They are only read.
unsafe impl Sync for Pages {}
