// SPDX-License-Identifier: GPL-2.0-only

use crate::gpuvm_rs::{
    gem::GemObject,
    pair,
    vm::{
        Driver,
        GpuVm,
        VmBo, //
    },
};

/// Whether `vm` maps `obj`. Needs no memory, as drm_exec would.
pub(super) fn maps<T: Driver>(vm: &GpuVm<T>, obj: &GemObject) -> bool {
    pair::with_both(vm, obj, |vm, obj| VmBo::first_va_of(vm, obj).is_some())
}
