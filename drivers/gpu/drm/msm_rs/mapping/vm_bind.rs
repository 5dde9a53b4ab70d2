// SPDX-License-Identifier: GPL-2.0-only

//! VMAs of VM_BIND VMs between jobs: eviction takes their entries away, a submit brings them back.

use kernel::prelude::*;

use super::info::MappingInfo;
use crate::{
    address_space::{
        footprint,
        log::LogOp,
        reservation::Reservation,
        Stage, //
    },
    bo::backing,
    ffi::{
        bo::Bo,
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
    let touch = footprint::touch(va.range(), true);
    let mut reservation = Reservation::new(vm.space(), core::iter::once(touch), None)?;
    let mut guard = vm.space().page_tables.lock();
    let pt = &mut *guard;
    let mut change = pt.tables.change();
    let result = change.map(va.range(), Some(pages), va.offset());
    reservation.release(&mut change);
    drop(change);
    pt.log_now(|| MappingInfo::new(va).log_entry(LogOp::Restore), result);
    result?;
    va.data().mapped().set(true, vm);
    Ok(())
}

/// Removes the page table entries of a VM_BIND VMA that isn't used by any job, if there are any.
///
/// Reclaim does that. It doesn't wait for a job that changes the page tables at the moment, which
/// may take as long as its ops do.
///
/// It leaves a VM alone whose file was closed, until its page tables have gone. They may lead to
/// something else than the VMA tree says there, which the GPU still uses ([`Stage::Closing`]).
///
/// # Errors
///
/// `EBUSY` if somebody has the page tables, or the VM is closing. Nothing has changed. `EINVAL` if
/// they weren't changed whole, which can't happen as what they share is reserved: the pages must
/// stay then.
pub(crate) fn unmap_bind(vm: &VmLocked<'_, Bind>, va: &GpuVa<Bind>, op: LogOp) -> Result {
    if !va.data().mapped().get(vm) {
        return Ok(());
    }
    let mut guard = vm.space().page_tables.try_lock().ok_or(EBUSY)?;
    let pt = &mut *guard;
    if pt.stage == Stage::Closing {
        return Err(EBUSY);
    }
    let mut change = pt.tables.change();
    let result = change.unmap(va.range());
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
