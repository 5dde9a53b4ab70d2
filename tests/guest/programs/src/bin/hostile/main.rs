// SPDX-License-Identifier: GPL-2.0-only

//! Requests that make no sense: each is refused with the right error, and the VM is as it was.

mod op;
mod request;
mod target;

use op::{
    alignment, bo_range, defect_01_bo_range_among_others, defect_01_random_bytes,
    defect_01_unknown_handle, defect_02_bo_range_wraps, defect_13_must_be_zero,
    defect_13_zero_length, handles, op_code, op_flags, va_edges, va_range, what_would_do,
};
use request::{
    defect_04_bo_table, defect_13_op_stride, defect_13_wide_op_stride, fences, pointers_and_counts,
    request_flags_and_queue, syncobjs, wrong_context,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(harness::cases![
        what_would_do,
        op_code,
        op_flags,
        alignment,
        va_range,
        va_edges,
        bo_range,
        handles,
        request_flags_and_queue,
        pointers_and_counts,
        fences,
        syncobjs,
        wrong_context,
        defect_13_must_be_zero,
        defect_13_zero_length,
        defect_13_op_stride,
        defect_13_wide_op_stride,
        defect_02_bo_range_wraps,
        defect_04_bo_table,
        defect_01_unknown_handle,
        defect_01_bo_range_among_others,
        defect_01_random_bytes,
    ])
}
