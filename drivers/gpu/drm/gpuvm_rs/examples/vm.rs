// SPDX-License-Identifier: GPL-2.0-only

use kernel::prelude::*;

use crate::gpuvm_rs::{
    exec::Exec,
    vm::{
        Driver,
        GpuVm,
        VaRange, //
    },
};

/// How many bytes of `range` are mapped to objects.
pub(super) fn mapped<T: Driver>(vm: &GpuVm<T>, range: VaRange) -> Result<u64> {
    pin_init::stack_pin_init!(let exec = Exec::interruptible(1));
    let locked = exec.lock_all(|attempt| attempt.lock_vm(vm).map(drop))?;
    let vm = locked.vm(vm).ok_or(EDEADLK)?;

    let mut bytes = 0;
    vm.try_for_each_va_in(range, |va| {
        let start = va.range().addr().max(range.addr());
        let end = va.range().end().min(range.end());
        if va.obj().is_some() {
            bytes += end - start;
        }
        Ok(())
    })?;
    Ok(bytes)
}
