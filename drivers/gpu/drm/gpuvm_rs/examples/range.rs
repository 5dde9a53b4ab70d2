// SPDX-License-Identifier: GPL-2.0-only

use crate::gpuvm_rs::range::VaRange;

/// What is left of `whole` on both sides of `hole`.
pub(super) fn around(whole: VaRange, hole: VaRange) -> [Option<VaRange>; 2] {
    // There are no empty ranges: nothing is `None`.
    [
        VaRange::between(whole.addr(), hole.addr()),
        VaRange::between(hole.end(), whole.end()),
    ]
}
