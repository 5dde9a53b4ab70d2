// SPDX-License-Identifier: GPL-2.0-only

//! VMAs: those of kernel-managed VMs from beginning to end, those of VM_BIND VMs between jobs.

use kernel::prelude::*;

use super::managed::Window;
use crate::{
    address_space::{
        footprint,
        log::{
            LogEntry,
            LogOp,
            DUMP,
            NULL,
            READONLY, //
        },
        reservation::Reservation, //
    },
    bo::backing,
    ffi::{
        bindings,
        bo::{
            Bo,
            BoLocked, //
        },
        pages::Pages,
        vm::{
            Bind,
            Managed, //
        },
        vma::ManagedVa, //
    },
    gpuvm_rs::{
        gem::ObjLocked,
        va::{
            GpuVa,
            GpuVaAlloc, //
        },
        vm::{
            VaRange,
            VmBo,
            VmLocked, //
        },
    },
};

/// `MSM_VMA_DUMP`: the mapping's content goes into devcoredumps.
pub(crate) const FLAG_DUMP: u32 = bindings::drm_gpuva_flags_DRM_GPUVA_USERBITS;

/// A VM_BIND VMA, or a part of it, as the log describes it.
pub(crate) struct Described<'a> {
    range: VaRange,
    offset: u64,
    handle: u32,
    flags: u8,
    bo: Option<&'a Bo>,
}

impl<'a> Described<'a> {
    /// All of `va`.
    pub(crate) fn new(va: &'a GpuVa<Bind>) -> Self {
        Self::mapping(
            va.range(),
            Bo::of_va(va),
            va.offset(),
            va.data().handle(),
            va.flags() & FLAG_DUMP != 0,
        )
    }

    /// The part of `va` at `range`, which lies in it.
    pub(crate) fn part(va: &'a GpuVa<Bind>, range: VaRange) -> Self {
        let mut this = Self::new(va);
        this.offset += range.addr() - va.range().addr();
        this.range = range;
        this
    }

    /// A mapping of `range` to `bo` from `offset`, or to nothing.
    pub(crate) fn mapping(
        range: VaRange,
        bo: Option<&'a Bo>,
        offset: u64,
        handle: u32,
        dump: bool,
    ) -> Self {
        let mut flags = 0;
        if dump {
            flags |= DUMP;
        }
        match bo {
            None => flags |= NULL,
            Some(bo) if bo.is_readonly() => flags |= READONLY,
            Some(_) => {}
        }
        Self {
            range,
            offset,
            handle,
            flags,
            bo,
        }
    }

    /// An entry that says that `op` was asked for now.
    pub(crate) fn log_entry(&self, op: LogOp) -> LogEntry {
        let mut entry = LogEntry::new(op, self.range);
        entry.offset = self.offset;
        entry.handle = self.handle;
        entry.flags = self.flags;
        if let Some(bo) = self.bo {
            entry.name = bo.name();
        }
        entry
    }
}

/// Makes a VMA for all of `bo` at addresses in `window` that are free.
///
/// # Errors
///
/// `ENOSPC`, `ENOMEM`; `EINVAL` for a BO that may only be mapped elsewhere.
pub(crate) fn new_managed(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>, window: Window) -> Result {
    if bo.is_no_share() && !vm.is_private(bo.gem()) {
        return Err(EINVAL);
    }
    let size = bo.gem().size();
    let va = GpuVaAlloc::new(ManagedVa::new())?;
    let iova = ManagedVa::allocate(&va, vm, size, window.start, window.end)?;
    let range = VaRange::new(iova, size).ok_or(EINVAL)?;
    let vm_bo = VmBo::obtain(vm, bo.obj())?;
    va.insert(vm, range, Some(&vm_bo), 0, 0).map(drop)
}

/// Writes the page table entries of a kernel-managed VMA of `bo`, which has its pages, unless they are there.
///
/// # Errors
///
/// What the IOMMU says, `ENOMEM` usually.
#[inline]
pub(crate) fn map_managed(
    vm: &VmLocked<'_, Managed>,
    va: &GpuVa<Managed>,
    bo: &BoLocked<'_>,
) -> Result {
    if va.data().mapped().get(vm) {
        return Ok(());
    }
    write_managed(vm, va, bo)
}

#[cold]
fn write_managed(vm: &VmLocked<'_, Managed>, va: &GpuVa<Managed>, bo: &BoLocked<'_>) -> Result {
    vm.space().map(va.range(), &bo.pages()?, va.offset())?;
    va.data().mapped().set(true, vm);
    Ok(())
}

/// Removes the page table entries of a kernel-managed VMA, if there are any.
pub(crate) fn unmap_managed(vm: &VmLocked<'_, Managed>, va: &GpuVa<Managed>) {
    if va.data().mapped().get(vm) {
        vm.space().unmap(va.range());
        va.data().mapped().set(false, vm);
    }
}

/// Writes the page table entries of a VM_BIND VMA that was evicted.
///
/// # Errors
///
/// `ENOMEM` for tables.
pub(crate) fn map_bind(vm: &VmLocked<'_, Bind>, va: &GpuVa<Bind>, pages: &Pages) -> Result {
    if va.data().mapped().get(vm) {
        return Ok(());
    }
    let touch = footprint::touch(va.range(), true);
    let mut reservation = Reservation::new(vm.space(), core::iter::once(touch), None)?;
    let mut guard = vm.space().page_tables.lock();
    let pt = &mut *guard;
    let mut change = pt.tables.change();
    let result = change.map(va.range(), Some(pages), va.offset());
    reservation.release(&mut change);
    drop(change);
    pt.log_now(|| Described::new(va).log_entry(LogOp::Restore), result);
    result?;
    va.data().mapped().set(true, vm);
    Ok(())
}

/// Removes the page table entries of a VM_BIND VMA that isn't used by any job, if there are any.
///
/// Reclaim does that. It doesn't wait for a job that changes the page tables at the moment, which
/// may take as long as its ops do.
///
/// # Errors
///
/// `EBUSY` if somebody has the page tables. Nothing has changed. `EINVAL` if they weren't changed whole, which can't happen as what they
/// share is reserved: the pages must stay then.
pub(crate) fn unmap_bind(vm: &VmLocked<'_, Bind>, va: &GpuVa<Bind>, op: LogOp) -> Result {
    if !va.data().mapped().get(vm) {
        return Ok(());
    }
    let mut guard = vm.space().page_tables.try_lock().ok_or(EBUSY)?;
    let pt = &mut *guard;
    let mut change = pt.tables.change();
    let result = change.unmap(va.range());
    drop(change);
    pt.log_now(|| Described::new(va).log_entry(op), result);
    result?;
    va.data().mapped().set(false, vm);
    Ok(())
}

/// Makes the VMAs of an evicted BO usable again, for a submit.
///
/// # Errors
///
/// `EBUSY` if the BO was purged, `ENOMEM`.
pub(crate) fn restore(
    vm: &VmLocked<'_, Bind>,
    obj: &ObjLocked<'_>,
    vm_bo: &VmBo<'_, Bind>,
) -> Result {
    let mut result = Ok(());
    let mut pages = None;
    vm_bo.try_for_each_va(|va| {
        if pages.is_none() {
            pages = Bo::of_va(va)
                .map(|bo| backing::pages(bo, obj))
                .transpose()?;
        }
        if let Some(pages) = &pages {
            result = map_bind(vm, va, pages);
        }
        result
    })?;
    vm_bo.set_resident();
    Ok(())
}
