// SPDX-License-Identifier: GPL-2.0-only

//! CPU_PREP: userspace waits until it may access a BO.

use kernel::prelude::*;

use crate::ffi::{
    bindings,
    bo::Bo,
    now_ns, //
};

/// Waits up to `jiffies` until the GPU is done with what a CPU access of kind `op` (`MSM_PREP_x`)
/// has to wait for.
///
/// # Errors
///
/// `EBUSY` if it would have to wait and may not, `ETIMEDOUT`, `ERESTARTSYS` for a signal.
pub(crate) fn prepare(bo: &Bo, op: u32, jiffies: usize) -> Result {
    let write = op & bindings::MSM_PREP_WRITE != 0;
    let jiffies = if op & bindings::MSM_PREP_NOSYNC != 0 {
        0
    } else {
        jiffies
    };
    if op & bindings::MSM_PREP_BOOST != 0 {
        bo.gem().set_deadline(write, now_ns() as i64);
    }
    if bo.gem().wait_implicit(write, jiffies)? {
        Ok(())
    } else if jiffies == 0 {
        Err(EBUSY)
    } else {
        Err(ETIMEDOUT)
    }
}
