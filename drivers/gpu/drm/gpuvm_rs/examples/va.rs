// SPDX-License-Identifier: GPL-2.0-only

use kernel::prelude::*;

use crate::gpuvm_rs::{
    exec::Locked,
    gem::GemObject,
    va::GpuVaList,
    vm::{
        Driver,
        VmLocked, //
    },
};

/// Takes all VMAs out of `vm`, to which page tables don't lead any more. They keep their objects
/// until they are dropped, which is to be done with no lock held.
///
/// # Errors
///
/// `EDEADLK` if one of the objects isn't locked.
pub(super) fn clear<T: Driver>(vm: &VmLocked<'_, T>, locked: &Locked<'_>) -> Result<GpuVaList<T>> {
    let mut removed = GpuVaList::new();
    while let Some(cursor) = vm.first() {
        let obj = cursor.va().obj().map(GemObject::as_raw);
        let obj = match obj {
            // SAFETY: The VMA refers to it, and so does what is removed.
            Some(obj) => locked.obj(unsafe { GemObject::from_raw(obj) }),
            None => None,
        };
        removed.push(cursor.remove(obj.as_ref()).map_err(|_| EDEADLK)?);
    }
    Ok(removed)
}
