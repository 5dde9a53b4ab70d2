// SPDX-License-Identifier: GPL-2.0-only

use kernel::prelude::*;

use crate::gpuvm_rs::{
    exec::{
        Exec,
        Slots, //
    },
    fence::Fence,
    gem::GemObject,
    vm::{
        Driver,
        GpuVm, //
    },
};

/// Says that the job of `fence` uses `vm` and `objects`.
pub(super) fn attach<T: Driver>(vm: &GpuVm<T>, objects: &[&GemObject], fence: &Fence) -> Result {
    pin_init::stack_pin_init!(let exec = Exec::interruptible(objects.len() + 1));
    let locked = exec.lock_all(|attempt| {
        // Called again, with no lock held, if one of them was contended.
        attempt.lock_vm(vm)?;
        objects.iter().try_for_each(|obj| attempt.lock(obj))
    })?;

    // What is locked is borrowed from `locked`, as tokens.
    let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;
    if vm_locked.first().is_none() {
        pr_debug!("nothing is mapped yet");
    }

    // Whatever may fail comes before the fence is attached, which can't. The locks go with it.
    let prepared = locked.reserve_fences(Slots::One)?;
    prepared.attach_bookkeep(fence);
    Ok(())
}
