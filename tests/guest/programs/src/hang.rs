// SPDX-License-Identifier: GPL-2.0-only

//! Hanging the GPU on purpose.

use crate::Gpu;
use uapi::Pm4;

/// Commands that never end: they wait for a result that nobody writes.
pub fn commands(gpu: &Gpu, index: usize) -> Pm4 {
    gpu.set_result(index, 0);
    Pm4::new().wait_mem_eq(gpu.result_iova(index), 1, !0)
}
