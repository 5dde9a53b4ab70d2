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
//! that is mapped stays while they run: their fences are on the VM's resv, which reclaim asks. In
//! other contexts a submit lists what it uses.

mod commands;
mod table;

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    ffi::{
        caller::{
            Caller,
            OutFences, //
        },
        effort::Effort,
        queue::{
            Queue,
            QueueKind, //
        },
        submit::Submit,
        submit_request::{
            FenceNumber,
            SubmitRequest, //
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
        fence::Fence,
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
pub(crate) fn submit(request: SubmitRequest<'_>) -> Result {
    let SubmitRequest {
        caller,
        queue_id,
        bos,
        cmds,
        sudo,
        implicit_sync,
        fences,
        ignored_syncobjs,
        number,
    } = request;
    let queue = caller.queue(queue_id, QueueKind::Gpu)?;
    if matches!(caller.any_vm(), AnyVm::Bind(_)) && bos.len() != 0 {
        return Err(caller.invalid(fmt!("a VM_BIND context has no BO table")));
    }

    let mut submit = Submit::new(&caller, &queue, bos.len(), cmds.len(), sudo)?;
    submit.set_ignored_syncobjs(ignored_syncobjs);
    let answer = Answer {
        fences: submit.sync(&caller, fences)?,
        number,
    };
    submit.list_bos(&caller, &bos)?;
    let relocations = commands::parse(&caller, &cmds, &mut submit)?;
    submit.reserve_ring(&caller)?;

    match caller.any_vm() {
        AnyVm::Managed(vm) => {
            let work = WithTable {
                vm,
                relocations,
                implicit_sync,
            };
            with_table(&caller, &queue, submit, &work, answer)
        }
        AnyVm::Bind(vm) => with_all_mapped(&caller, &queue, submit, vm, answer),
    }
}

/// What userspace is told when the submit is pushed.
struct Answer<'a> {
    fences: OutFences<'a>,
    number: FenceNumber<'a>,
}

impl Answer<'_> {
    /// Tells of the submit's fence, and its number.
    fn tell(self, fence: ARef<Fence>, number: u32) {
        self.number.tell(number);
        self.fences.tell(fence);
    }
}

/// What there is only for a context whose VM the kernel manages.
struct WithTable<'a> {
    vm: &'a GpuVm<Managed>,
    relocations: Relocations,
    /// Whether the submit waits for the fences of its BOs.
    implicit_sync: bool,
}

/// Serves a request of a context whose VM the kernel manages.
fn with_table(
    caller: &Caller<'_>,
    queue: &Queue,
    mut submit: Submit,
    work: &WithTable<'_>,
    answer: Answer<'_>,
) -> Result {
    let vm = work.vm;
    let queue_locked = queue.lock()?;
    let mut again = false;
    loop {
        let effort = Effort::begin(again)?;
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
            table::check_unique(table, caller)?;
        }

        let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;
        let placed = match Placed::new(table, &vm_locked, &locked, &effort) {
            Ok(placed) => placed,
            Err(e) => {
                again = effort.again(e)?;
                continue;
            }
        };
        drop(effort);
        if work.implicit_sync {
            table::add_dependencies(&submit, &locked)?;
        }
        let relocated = work.relocations.map(table, &locked)?;
        let pinned = placed.pin(caller);
        submit.reserve_fence_id(caller, answer.number.wanted, &queue_locked)?;

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
        answer.tell(fence, number);
        return Ok(());
    }
}

/// Serves a request of a VM_BIND context.
fn with_all_mapped(
    caller: &Caller<'_>,
    queue: &Queue,
    submit: Submit,
    vm: &GpuVm<Bind>,
    answer: Answer<'_>,
) -> Result {
    let queue_locked = queue.lock()?;
    // Asked once: who begins to read after that gets the next one.
    let recorded = submit.is_recorded();
    let mut again = false;
    loop {
        vm.space().submits.wait()?;
        let effort = Effort::begin(again)?;
        pin_init::stack_pin_init!(let exec = Exec::interruptible(0));
        let locked = exec
            .lock_all(|attempt| {
                let vm = attempt.lock_vm(vm)?;
                if recorded {
                    attempt.lock_extobjs(&vm)?;
                }
                attempt.lock_evicted(&vm)
            })?
            .reserve_fences(Slots::One)?;
        if vm.is_unusable() {
            return Err(EPIPE);
        }
        let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;
        if !vm.space().submits.is_open(&vm_locked) {
            continue;
        }
        if let Err(e) = locked.validate(&vm_locked, &effort) {
            again = effort.again(e)?;
            continue;
        }
        drop(effort);
        submit.reserve_fence_id(caller, answer.number.wanted, &queue_locked)?;

        // Nothing below can fail.
        vm.space().use_now();
        if recorded {
            submit.dump();
        }
        let armed = submit.arm(&queue_locked);
        let fence = armed.finished();
        // The VM's resv has it for all that is mapped there, see `ffi::mappings::busy()`.
        locked.attach_bookkeep(&fence);
        let number = armed.push(&queue_locked);
        answer.tell(fence, number);
        return Ok(());
    }
}
