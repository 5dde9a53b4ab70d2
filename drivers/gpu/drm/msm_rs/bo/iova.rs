// SPDX-License-Identifier: GPL-2.0-only

//! BOs in VMs that the kernel manages: those of the kernel itself, of the display, and of contexts without VM_BIND. A BO has at
//! most one VMA in each, of all its pages.

use kernel::prelude::*;

use super::{
    backing,
    pin,
    Madv, //
};
use crate::{
    ffi::{
        bo::{
            Bo,
            BoLocked, //
        },
        vm::Managed,
    },
    gpuvm_rs::{
        va::GpuVa,
        vm::{
            GpuVm,
            VaCursor,
            VmBo,
            VmLocked, //
        },
    },
    scanout, vma,
};

/// Addresses that a VMA has to lie in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The first.
    pub(crate) start: u64,
    /// The first behind it.
    pub(crate) end: u64,
}

impl Window {
    /// Anywhere.
    pub(crate) const ANY: Self = Self {
        start: 0,
        end: u64::MAX,
    };

    fn contains(self, va: &GpuVa<Managed>) -> bool {
        self.start <= va.range().addr() && va.range().end() <= self.end
    }
}

/// The BO's VMA in `vm`.
fn find<'v>(vm: &'v VmLocked<'_, Managed>, bo: &BoLocked<'_>) -> Option<VaCursor<'v, Managed>> {
    VmBo::first_va_of(vm, bo.obj())
}

/// The BO's VMA in `vm`, made at free addresses in `window` if there is none.
///
/// # Errors
///
/// `ENOSPC`, `ENOMEM`; `EINVAL` for a BO that may only be mapped elsewhere; `EBUSY` if it has a VMA that isn't in `window`.
#[inline]
pub(crate) fn obtain<'v>(
    vm: &'v VmLocked<'_, Managed>,
    bo: &BoLocked<'_>,
    window: Window,
) -> Result<VaCursor<'v, Managed>> {
    if let Some(va) = find(vm, bo) {
        va.va().data().leaving().set(false, vm);
        return if window.contains(va.va()) {
            Ok(va)
        } else {
            Err(EBUSY)
        };
    }
    make(vm, bo, window)
}

#[cold]
fn make<'v>(
    vm: &'v VmLocked<'_, Managed>,
    bo: &BoLocked<'_>,
    window: Window,
) -> Result<VaCursor<'v, Managed>> {
    vma::new_managed(vm, bo, window)?;
    find(vm, bo).ok_or(ENOMEM)
}

/// Gets the pages and writes the page table entries of the BO's VMA.
///
/// # Errors
///
/// As [`backing::ensure`]; what the IOMMU says.
#[inline]
pub(crate) fn map(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>, va: &GpuVa<Managed>) -> Result {
    backing::ensure(bo, Madv::WillNeed)?;
    vma::map_managed(vm, va, bo)
}

/// The BO's address in `vm`, which gets it if need be. It isn't mapped.
///
/// # Errors
///
/// As [`obtain`].
pub(crate) fn get(bo: &Bo, vm: &GpuVm<Managed>) -> Result<u64> {
    bo.with_vm(vm, |vm, bo| {
        Ok(obtain(vm, bo, Window::ANY)?.va().range().addr())
    })
}

/// Gives the BO the address `iova` in `vm`; takes its address away if that is 0.
///
/// # Errors
///
/// `EBUSY` if it has another one, which it keeps; `ENOSPC` if the addresses aren't free; else as [`obtain`].
pub(crate) fn set(bo: &Bo, vm: &GpuVm<Managed>, iova: u64) -> Result {
    bo.with_vm(vm, |vm, bo| {
        if iova == 0 {
            close(vm, bo);
            return Ok(());
        }
        let window = Window {
            start: iova,
            end: iova.checked_add(bo.gem().size()).ok_or(ENOSPC)?,
        };
        obtain(vm, bo, window)
            .map(drop)
            .inspect_err(|e| bo.note(fmt!("iova {iova:x}: {e:?}")))
    })
}

/// Maps the BO in `vm` and pins it. Returns its address.
///
/// # Errors
///
/// As [`obtain`] and [`map`]; `EINVAL` for a BO that is private to a VM.
pub(crate) fn pin(bo: &Bo, vm: &GpuVm<Managed>, window: Window) -> Result<u64> {
    if bo.is_no_share() {
        return Err(EINVAL);
    }
    bo.with_vm(vm, |vm, bo| {
        let cursor = obtain(vm, bo, window)?;
        let va = cursor.va();
        map(vm, bo, va)?;
        bo.with_lru(pin::pin);
        scanout::pinned(vm, bo);
        Ok(va.range().addr())
    })
}

/// Undoes one [`pin`]. The VMA goes, except the display's, of which [`scanout`] decides.
pub(crate) fn unpin(bo: &Bo, vm: &GpuVm<Managed>) {
    bo.with_vm(vm, |vm, bo| {
        if find(vm, bo).is_some() {
            bo.with_lru(pin::unpin);
        }
        if scanout::is_kms(vm, bo) {
            scanout::unpinned(vm, bo);
        } else {
            close(vm, bo);
        }
    });
}

/// Unmaps the BO's VMA in `vm`, if there is one, and gives its addresses back.
pub(crate) fn close(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>) {
    let Some(vm_bo) = VmBo::find(vm, bo.obj()) else {
        return;
    };
    while let Some(va) = vm_bo.first_va(vm) {
        vma::unmap_managed(vm, va.va());
        // The object is the VMA's own, so that this succeeds.
        if va.remove(Some(bo.obj())).is_err() {
            break;
        }
    }
}

/// Says that nobody wants the BO's VMA in `vm` any more: [`close_leaving`] closes it, unless it is asked for before.
pub(crate) fn leave(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>) {
    if let Some(va) = find(vm, bo) {
        va.va().data().leaving().set(true, vm);
    }
}

/// Closes the BO's VMA if still nobody wants it.
pub(crate) fn close_leaving(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>) {
    if find(vm, bo).is_some_and(|va| va.va().data().leaving().get(vm)) {
        close(vm, bo);
    }
}
