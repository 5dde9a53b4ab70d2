// SPDX-License-Identifier: GPL-2.0-only

use crate::gpuvm_rs::gem::GemObject;

/// The bytes of memory that `obj` has, if they can be taken away now: nobody uses it, nor has
/// locked it to begin with that, and no VM maps it.
pub(super) fn disposable(obj: &GemObject) -> Option<u64> {
    // Unlocked when `locked` goes.
    let locked = obj.try_lock()?;
    (locked.busy().is_none() && !locked.is_mapped()).then(|| locked.size())
}
