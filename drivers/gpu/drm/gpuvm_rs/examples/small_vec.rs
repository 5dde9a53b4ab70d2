// SPDX-License-Identifier: GPL-2.0-only

use kernel::prelude::*;

use crate::gpuvm_rs::small_vec::SmallVec;

/// The squares of the numbers below `nr`. Up to four of them are held in place.
pub(super) fn squares(nr: u64) -> Result<SmallVec<u64, 4>> {
    let mut list = SmallVec::with_capacity(nr as usize, GFP_KERNEL)?;
    for i in 0..nr {
        list.push(i * i, GFP_KERNEL)?;
    }
    Ok(list)
}
