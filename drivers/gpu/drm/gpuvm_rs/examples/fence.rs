// SPDX-License-Identifier: GPL-2.0-only

use kernel::sync::aref::ARef;

use crate::gpuvm_rs::{
    fence::Fence,
    gem::GemObject, //
};

/// Waits for all that uses `obj` now. Returns how many fences that were.
pub(super) fn wait_for(obj: &GemObject) -> usize {
    let mut nr = 0;
    while let Some(fence) = obj.busy() {
        // A reference of our own: the object may get other fences meanwhile.
        let fence: ARef<Fence> = fence;
        fence.wait();
        nr += 1;
    }
    nr
}
