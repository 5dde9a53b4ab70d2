// SPDX-License-Identifier: GPL-2.0-only

//! BOs mapped for the kernel. The mapping stays after its last user, until the BO is purged or
//! freed, or addresses are short.

use core::{
    ffi::c_void,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    warn_on, //
};

use super::{
    backing,
    pin, //
};
use crate::{
    ffi::{
        bo::{
            Bo,
            BoLocked,
            Madv, //
        },
        effort::Effort, //
    },
    gpuvm_rs::gem::ObjLocked, //
};

/// Maps a BO that userspace needs at least as `at_most` says, and pins it.
///
/// # Errors
///
/// `ENODEV` for an imported BO, `EBUSY` for the madvise state or for too many users, `ENOMEM`.
pub(crate) fn get(bo: &BoLocked<'_>, at_most: Madv) -> Result<NonNull<c_void>> {
    if bo.gem().is_imported() {
        return Err(ENODEV);
    }
    let users = bo.vmap_count();
    let more = users.checked_add(1).ok_or(EBUSY)?;
    backing::ensure(bo, at_most, &Effort::few_locks())?;
    bo.with_lru(pin::pin);
    // Counted before it is mapped: mapping may ask for addresses back, and find this BO.
    bo.set_vmap_count(more);
    let result = bo.vaddr().map_or_else(|| bo.map_for_kernel(), Ok);
    if result.is_err() {
        put(bo);
    }
    result
}

/// Undoes one [`get`].
pub(crate) fn put(bo: &BoLocked<'_>) {
    let users = bo.vmap_count();
    if !warn_on!(users == 0) {
        bo.set_vmap_count(users - 1);
        bo.with_lru(pin::unpin);
    }
}

/// Maps a BO for the kernel for as long as it is locked.
///
/// # Errors
///
/// `ENODEV` for an imported BO, `EBUSY` if the BO isn't MSM_MADV_WILLNEED, `ENOMEM`; `EINVAL` if
/// another object is locked.
pub(crate) fn map<'o>(bo: &Bo, locked: ObjLocked<'o>) -> Result<Vmap<'o>> {
    let bo = BoLocked::of_owned(bo, locked).ok_or(EINVAL)?;
    get(&bo, Madv::WillNeed)?;
    Ok(Vmap(bo))
}

/// A BO that is mapped into the kernel, until this is dropped.
pub(crate) struct Vmap<'o>(BoLocked<'o>);

impl Vmap<'_> {
    /// Writes dword number `dword`, which is to be in the BO; otherwise warns and writes nothing.
    pub(crate) fn write(&self, dword: u32, value: u32) {
        self.0.write_dword(dword, value);
    }
}

impl Drop for Vmap<'_> {
    fn drop(&mut self) {
        put(&self.0);
    }
}
