// SPDX-License-Identifier: GPL-2.0-only

//! The SUBMIT ioctl.
//!
//! A request goes through stages, each of which undoes what it did when it is dropped: parsed and
//! looked up (BO table and commands go right into the [`Submit`]; [`Relocations`]) → locked, with
//! fence slots → backed (the BOs of the table placed and pinned, or the evicted BOs of a VM_BIND VM
//! restored) → filled in for the C that runs it → armed → pushed. After filling in, nothing can
//! fail, so that no fence is ever attached that nobody signals.
//!
//! A VM_BIND context says with VM_BIND what the GPU may reach; its submits list no BOs, and all
//! that is mapped stays while they run. In other contexts a submit lists what it uses.

mod commands;
mod table;

use kernel::{
    prelude::*, //
};

use crate::{
    ffi::{
        caller::OutFences,
        queue::Queue,
        submit::{
            Submit, //
            SubmitRequest,
        },
        vm::{
            AnyVm,
            Bind,
            Managed, //
        },
    },
    gpuvm_rs::{
        exec::{
            Exec,
            Slots, //
        },
        vm::GpuVm, //
    },
};
use commands::Relocations;
use table::Placed;

/// Serves a request, of which the flags have been checked.
///
/// # Errors
///
/// As the UAPI says; then nothing has changed.
pub(crate) fn submit(req: &mut SubmitRequest<'_>) -> Result {
    let queue = req.queue()?;
    if matches!(req.any_vm(), AnyVm::Bind(_)) && req.nr_bos() != 0 {
        return Err(req.invalid(fmt!("a VM_BIND context has no BO table")));
    }

    let mut submit = Submit::new(req, &queue)?;
    let out_fences = req.sync(&mut submit)?;
    submit.list_bos(req)?;
    let relocations = commands::parse(req, &mut submit)?;

    match req.any_vm() {
        AnyVm::Managed(vm) => with_table(req, &queue, submit, out_fences, vm, &relocations),
        AnyVm::Bind(vm) => with_all_mapped(req, &queue, submit, out_fences, vm),
    }
}

/// Serves a request of a context whose VM the kernel manages.
fn with_table(
    req: &mut SubmitRequest<'_>,
    queue: &Queue,
    mut submit: Submit,
    out_fences: OutFences,
    vm: &GpuVm<Managed>,
    relocations: &Relocations,
) -> Result {
    let queue_locked = queue.lock()?;
    let table = submit.table();
    pin_init::stack_pin_init!(let exec = Exec::interruptible(table.len() + 1));
    let mut shared = false;
    let locked = exec
        .lock_all(|attempt| {
            attempt.lock_vm(vm)?;
            for entry in table {
                shared |= !attempt.lock_new(entry.bo().gem())?;
            }
            Ok(())
        })?
        .reserve_fences(Slots::ReadWrite)?;
    // No two BOs are the same if no two share a resv.
    if shared {
        table::check_unique(table, req)?;
    }

    if req.implicit_sync() {
        table::add_dependencies(&submit, &locked)?;
    }
    let placed = Placed::new(table, &locked.vm(vm).ok_or(EDEADLK)?, &locked)?;
    let relocated = relocations.map(table, &locked)?;
    let pinned = placed.pin(req);
    submit.reserve_fence_id(req, &queue_locked)?;

    // Nothing below can fail.
    relocated.write(table);
    drop(relocated);
    pinned.leave_to_job();
    submit.place_cmds();
    submit.dump();
    let armed = submit.arm(&queue_locked);
    let fence = armed.finished();
    locked.attach_each(&fence, table::usages(armed.table()));
    let number = armed.push(&queue_locked);
    req.tell(out_fences, fence, number);
    Ok(())
}

/// Serves a request of a VM_BIND context.
fn with_all_mapped(
    req: &mut SubmitRequest<'_>,
    queue: &Queue,
    submit: Submit,
    out_fences: OutFences,
    vm: &GpuVm<Bind>,
) -> Result {
    let queue_locked = queue.lock()?;
    pin_init::stack_pin_init!(let exec = Exec::interruptible(0));
    let locked = exec
        .lock_all(|attempt| {
            let vm = attempt.lock_vm(vm)?;
            attempt.lock_extobjs(&vm)
        })?
        .reserve_fences(Slots::One)?;
    if vm.is_unusable() {
        return Err(EPIPE);
    }
    locked.validate(&locked.vm(vm).ok_or(EDEADLK)?)?;
    submit.reserve_fence_id(req, &queue_locked)?;

    // Nothing below can fail.
    submit.dump();
    let armed = submit.arm(&queue_locked);
    let fence = armed.finished();
    locked.attach_bookkeep(&fence);
    let number = armed.push(&queue_locked);
    req.tell(out_fences, fence, number);
    Ok(())
}
