// SPDX-License-Identifier: GPL-2.0-only

//! A BO that the kernel itself uses at an address: mapped and pinned.

use kernel::prelude::*;

use super::{
    managed::{
        close,
        find,
        map,
        obtain,
        Owner,
        Window, //
    },
    scanout, //
};
use crate::{
    bo::pin as pages,
    ffi::{
        bo::Bo,
        effort::Effort,
        vm::Managed, //
    },
    gpuvm_rs::vm::GpuVm, //
};

/// Maps the BO in `vm` and pins it. Returns its address.
///
/// # Errors
///
/// As [`obtain`] and [`map`], and nothing has changed; `EINVAL` for a BO that is private to a VM.
pub(crate) fn pin(bo: &Bo, vm: &GpuVm<Managed>, window: Window) -> Result<u64> {
    if bo.is_no_share() {
        return Err(EINVAL);
    }
    bo.with_vm(vm, |vm, bo| {
        let is_new = find(vm, bo).is_none();
        let va = obtain(vm, bo, window, Owner::Pin)?;
        let mapped = map(vm, bo, va.va(), &Effort::few_locks()).map(|()| va.va().range().addr());
        if mapped.is_err() && is_new {
            // There is no pin to take it away.
            close(vm, bo);
        }
        let iova = mapped?;
        bo.with_lru(pages::pin);
        scanout::pinned(vm, bo);
        Ok(iova)
    })
}

/// Undoes one [`pin`]. The VMA goes, except the display's, of which [`scanout`] decides.
pub(crate) fn unpin(bo: &Bo, vm: &GpuVm<Managed>) {
    bo.with_vm(vm, |vm, bo| {
        if find(vm, bo).is_some() {
            bo.with_lru(pages::unpin);
        }
        if scanout::is_kms(vm, bo) {
            scanout::unpinned(vm, bo);
        } else {
            close(vm, bo);
        }
    });
}
