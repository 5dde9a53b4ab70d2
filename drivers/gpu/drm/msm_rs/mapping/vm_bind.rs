// SPDX-License-Identifier: GPL-2.0-only

//! VMAs of VM_BIND VMs between jobs: eviction takes their entries away, a submit brings them back.

use kernel::{
    prelude::*,
    warn_on, //
};

use super::info::MappingInfo;
use crate::{
    address_space::{
        footprint,
        log::LogOp,
        reservation::{
            NotReserved,
            Reservation, //
        },
        Stage, //
    },
    bo::backing,
    ffi::{
        bo::Bo,
        effort::Effort,
        pages::Pages,
        vm::Bind, //
    },
    gpuvm_rs::{
        gem::ObjLocked,
        va::GpuVa,
        vm::{
            VmBo,
            VmLocked, //
        },
    },
};

/// Writes the page table entries of a VM_BIND VMA that was evicted.
///
/// # Errors
///
/// `ENOMEM` for tables.
pub(crate) fn map_bind(vm: &VmLocked<'_, Bind>, va: &GpuVa<Bind>, pages: &Pages) -> Result {
    if va.data().mapped().get(vm) {
        return Ok(());
    }
    let touches = footprint::touches(va.range(), pages, va.offset())?;
    let mut reservation = Reservation::new(vm.space(), touches, None).map_err(|e| match e {
        NotReserved::Error(e) => e,
        // Nothing is mapped where it goes, and what is mapped beside it has its own tables since it
        // was put there.
        NotReserved::Blocks(_) => {
            warn_on!(true);
            EINVAL
        }
    })?;
    let mut guard = vm.space().page_tables.lock();
    let pt = &mut *guard;
    let mut change = pt.tables.change();
    let result = change.map(va.range(), Some(pages), va.offset(), LogOp::Restore);
    reservation.release(&mut change);
    drop(change);
    pt.log_now(|| MappingInfo::new(va).log_entry(LogOp::Restore), result);
    result?;
    va.data().mapped().set(true, vm);
    Ok(())
}

/// Whether the page tables of a VM lead to what its VMA tree says, as far as BOs are concerned of
/// which no fence is unsignalled.
///
/// Of a VM whose file was closed they may not until they have gone ([`Stage::Closing`]): entries
/// that are there in place of a cancelled job's are those of another BO, which the GPU still uses.
/// This is the second of two guards: [`busy`](crate::ffi::mappings::busy) has asked the VM for the
/// fences of its SUBMITs. A VM that begins to close after this returned has cancelled only jobs
/// that the BO's fences have kept the caller from.
///
/// # Errors
///
/// `EBUSY` if not, or if somebody has the page tables.
pub(crate) fn as_in_tree(vm: &VmLocked<'_, Bind>) -> Result {
    let pt = vm.space().page_tables.try_lock().ok_or(EBUSY)?;
    if pt.stage == Stage::Closing {
        return Err(EBUSY);
    }
    Ok(())
}

/// Removes the page table entries of a VM_BIND VMA that isn't used by any job, if there are any.
///
/// Reclaim does that. It doesn't wait for a job that changes the page tables at the moment, which
/// may take as long as its ops do.
///
/// # Errors
///
/// `EBUSY` if somebody has the page tables. Nothing has changed. `EINVAL` if they weren't changed
/// whole, which can't happen as what they share is reserved: the pages must stay then.
pub(crate) fn unmap_bind(vm: &VmLocked<'_, Bind>, va: &GpuVa<Bind>, op: LogOp) -> Result {
    if !va.data().mapped().get(vm) {
        return Ok(());
    }
    let mut guard = vm.space().page_tables.try_lock().ok_or(EBUSY)?;
    let pt = &mut *guard;
    let mut change = pt.tables.change();
    let result = change.unmap(va.range(), op);
    drop(change);
    pt.log_now(|| MappingInfo::new(va).log_entry(op), result);
    result?;
    va.data().mapped().set(false, vm);
    Ok(())
}

/// Makes the VMAs of an evicted BO usable again, for a submit.
///
/// # Errors
///
/// As [`backing::pages`]; `ENOMEM` for tables.
pub(crate) fn restore(
    vm: &VmLocked<'_, Bind>,
    obj: &ObjLocked<'_>,
    vm_bo: &VmBo<'_, Bind>,
    effort: &Effort,
) -> Result {
    let mut result = Ok(());
    let mut pages = None;
    vm_bo.try_for_each_va(|va| {
        if pages.is_none() {
            pages = Bo::of_va(va)
                .map(|bo| backing::pages(bo, obj, effort))
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
