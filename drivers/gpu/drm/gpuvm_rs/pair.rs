// SPDX-License-Identifier: GPL-2.0-only

//! Locking a VM and one object, which is what teardown needs and what must not fail there.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/pair.rs")]
//! ```

use kernel::types::Opaque;

use super::{
    gem::{
        GemObject,
        ObjLocked, //
    },
    vm::{
        Driver,
        GpuVm,
        VmLocked, //
    },
};
use crate::bindings;

/// The two locks; dropping it unlocks them.
struct Pair<'a> {
    ctx: &'a Opaque<bindings::ww_acquire_ctx>,
    vm: *mut bindings::dma_resv,
    obj: *mut bindings::dma_resv,
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked by `with_both()`, with this context.
        unsafe { bindings::gpuvm_rs_unlock_pair(self.ctx.get(), self.vm, self.obj) };
    }
}

/// Calls `f` with `vm` and `obj` locked. The wait can't be interrupted, and needs no memory.
pub fn with_both<T: Driver, R>(
    vm: &GpuVm<T>,
    obj: &GemObject,
    f: impl FnOnce(&VmLocked<'_, T>, &ObjLocked<'_>) -> R,
) -> R {
    let ctx = Opaque::uninit();
    let pair = Pair {
        ctx: &ctx,
        vm: vm.resv_obj().resv(),
        obj: obj.resv(),
    };
    // SAFETY: Both resvs are alive, as their objects are; the context stays where it is until
    // `pair` is dropped.
    unsafe { bindings::gpuvm_rs_lock_pair(ctx.get(), pair.vm, pair.obj) };
    // SAFETY: Just locked, until `pair` is dropped.
    let vm = unsafe { VmLocked::new(vm) };
    // SAFETY: As above.
    let obj = unsafe { ObjLocked::new(obj) };
    f(&vm, &obj)
}
