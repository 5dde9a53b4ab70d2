// SPDX-License-Identifier: GPL-2.0-only

//! BOs in VMs that the kernel manages: those of the kernel itself, of the display, and of contexts
//! without VM_BIND. A BO has at most one VMA in each, of all its pages.
//!
//! A VMA keeps its BO alive, so that it always needs an [`Owner`] who takes it away. It is made
//! with VM and BO locked, and so does its owner take it away: one who looks for it later finds it.

use kernel::prelude::*;

use crate::{
    address_space::log::LogOp,
    bo::backing,
    ffi::{
        bo::{
            Bo,
            BoLocked,
            Madv, //
        },
        effort::Effort,
        vm::Managed,
        vma::ManagedVa, //
    },
    gpuvm_rs::{
        gem::ObjLocked,
        va::{
            GpuVa,
            GpuVaAlloc, //
        },
        vm::{
            GpuVm,
            VaCursor,
            VaRange,
            VmBo,
            VmLocked, //
        },
    },
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

/// Who takes a VMA away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whoever gives up the last handle that a context of the VM has, see [`super::handle_close`].
    /// There has to be one.
    Handles,
    /// Whoever undoes the pin that it is made for.
    Pin,
}

/// The BO's VMA in `vm`.
pub(super) fn find<'v>(
    vm: &'v VmLocked<'_, Managed>,
    bo: &BoLocked<'_>,
) -> Option<VaCursor<'v, Managed>> {
    VmBo::first_va_of(vm, bo.obj())
}

/// The BO's VMA in `vm`, made at free addresses in `window` if there is none. Then it is `owner`'s.
///
/// # Errors
///
/// `ENOSPC`, `ENOMEM`; `EINVAL` for a BO that may only be mapped elsewhere; `EBUSY` if it has a VMA
/// that isn't in `window`; `ENOENT` if it has none, and would belong to handles, of which there are
/// none.
#[inline]
pub(crate) fn obtain<'v>(
    vm: &'v VmLocked<'_, Managed>,
    bo: &BoLocked<'_>,
    window: Window,
    owner: Owner,
) -> Result<VaCursor<'v, Managed>> {
    if let Some(va) = find(vm, bo) {
        return if window.contains(va.va()) {
            Ok(va)
        } else {
            Err(EBUSY)
        };
    }
    make(vm, bo, window, owner)
}

#[cold]
fn make<'v>(
    vm: &'v VmLocked<'_, Managed>,
    bo: &BoLocked<'_>,
    window: Window,
    owner: Owner,
) -> Result<VaCursor<'v, Managed>> {
    if owner == Owner::Handles && !bo.has_handle_in(vm) {
        bo.note(fmt!("its handle is gone"));
        return Err(ENOENT);
    }
    new_managed(vm, bo, window)?;
    find(vm, bo).ok_or(ENOMEM)
}

/// Gets the pages and writes the page table entries of the BO's VMA.
///
/// # Errors
///
/// As [`backing::ensure`]; what the IOMMU says.
#[inline]
pub(crate) fn map(
    vm: &VmLocked<'_, Managed>,
    bo: &BoLocked<'_>,
    va: &GpuVa<Managed>,
    effort: &Effort,
) -> Result {
    backing::ensure(bo, Madv::WillNeed, effort)?;
    map_managed(vm, va, bo)
}

/// The BO's address in `vm`, which gets it if need be. It isn't mapped.
///
/// # Errors
///
/// As [`obtain`].
pub(crate) fn get(bo: &Bo, vm: &GpuVm<Managed>) -> Result<u64> {
    bo.with_vm(vm, |vm, bo| {
        let va = obtain(vm, bo, Window::ANY, Owner::Handles)?;
        Ok(va.va().range().addr())
    })
}

/// Gives the BO the address `iova` in `vm`; takes its address away if that is 0.
///
/// # Errors
///
/// `EBUSY` if it has another one, which it keeps; `ENOSPC` if the addresses aren't free; else as
/// [`obtain`].
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
        obtain(vm, bo, window, Owner::Handles)
            .map(drop)
            .inspect_err(|e| bo.note(fmt!("iova {iova:x}: {e:?}")))
    })
}

/// Unmaps the BO's VMA in `vm`, if there is one, and gives its addresses back.
pub(crate) fn close(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>) {
    let Some(vm_bo) = VmBo::find(vm, bo.obj()) else {
        return;
    };
    while let Some(va) = vm_bo.first_va(vm) {
        unmap_managed(vm, va.va(), LogOp::Close);
        // The object is the VMA's own, so that this succeeds.
        if va.remove(Some(bo.obj())).is_err() {
            break;
        }
    }
}

/// Gives the BO its pages and a place in `vm`, unless it has both. Returns the vm_bo and the iova.
///
/// # Errors
///
/// `EBUSY` if the BO isn't MSM_MADV_WILLNEED, `EINVAL` if it may only be mapped elsewhere or
/// its handle is gone, `ENOSPC`, `ENOMEM`.
pub(crate) fn place<'l>(
    bo: &Bo,
    vm: &VmLocked<'_, Managed>,
    obj: &ObjLocked<'l>,
    effort: &Effort,
) -> Result<(VmBo<'l, Managed>, u64)> {
    let bo = BoLocked::of(bo, obj).ok_or(EINVAL)?;
    let va = obtain(vm, &bo, Window::ANY, Owner::Handles)
        // As for a handle that isn't known.
        .map_err(|e| if e == ENOENT { EINVAL } else { e })?;
    map(vm, &bo, va.va(), effort)?;
    let vm_bo = VmBo::of_va(va.va(), obj).ok_or(EDEADLK)?;
    Ok((vm_bo, va.va().range().addr()))
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

/// Writes the page table entries of a kernel-managed VMA of `bo`, which has its pages, unless they
/// are there.
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

/// Removes the page table entries of a kernel-managed VMA, if there are any, because of `why`.
pub(crate) fn unmap_managed(vm: &VmLocked<'_, Managed>, va: &GpuVa<Managed>, why: LogOp) {
    if va.data().mapped().get(vm) {
        vm.space().unmap(va.range(), why);
        va.data().mapped().set(false, vm);
    }
}
