// SPDX-License-Identifier: GPL-2.0-only

//! SUBMIT: what it does, what it waits for and tells, and what it refuses; a request that is
//! refused has changed nothing.

mod fences;
mod relocations;
mod request;
mod running;
mod table;
mod target;

use fences::{defect_21_fence_number_out_of_range, fence_numbers, syncobjs, waits_and_tells};
use relocations::{
    relocated_values, relocation_fields, relocations, relocations_are_refused,
    relocations_in_a_foreign_buffer,
};
use request::{
    command_fields, defect_13_command_addresses, no_commands, request_fields, sudo, what_would_do,
};
use running::{
    as_many_commands_as_fit, defect_54_more_commands_than_the_ring_holds, from_many_threads,
    kinds_of_commands, large_submits_in_flight, tracepoint, unmap_when_the_fence_signals,
};
use std::{fs, process::ExitCode};
use table::{
    commands_in_a_table, defect_13_offset_in_a_table, defect_18_private_and_shared,
    defect_53_submit_before_anything, random_bytes, table_fields, table_that_cannot_be_placed,
    table_that_would_do,
};

/// What the commands of a request write, if they run.
const RAN: u32 = 0x600d_600d;

/// Addresses from which nothing can be read.
const BAD_ADDRESSES: [u64; 4] = [0, 8, 0xffff_0000_0000_0000, 0x7fff_ffff_f000];

fn open_files() -> harness::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        what_would_do,
        no_commands,
        request_fields,
        sudo,
        command_fields,
        syncobjs,
        waits_and_tells,
        fence_numbers,
        kinds_of_commands,
        from_many_threads,
        unmap_when_the_fence_signals,
        tracepoint,
        as_many_commands_as_fit,
        large_submits_in_flight,
        defect_54_more_commands_than_the_ring_holds,
        table_that_would_do,
        table_fields,
        commands_in_a_table,
        relocations_are_refused,
        relocations,
        relocated_values,
        relocation_fields,
        relocations_in_a_foreign_buffer,
        table_that_cannot_be_placed,
        random_bytes,
        defect_13_command_addresses,
        defect_13_offset_in_a_table,
        defect_18_private_and_shared,
        defect_21_fence_number_out_of_range,
        defect_53_submit_before_anything,
    ])
}
