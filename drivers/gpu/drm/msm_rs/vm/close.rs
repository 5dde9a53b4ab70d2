// SPDX-License-Identifier: GPL-2.0-only

//! The end of VMs that VM_BIND manages.

use kernel::{
    alloc::KVVec,
    prelude::*,
    sync::aref::ARef,
    time::{
        delay::fsleep,
        Delta, //
    },
};

use super::state::PendingJobs;
use crate::{
    address_space::{
        log::LogOp,
        Stage, //
    },
    ffi::{
        bo::Bo,
        module,
        vm::{
            Bind,
            Closing, //
        },
    },
    gpuvm_rs::{
        exec::Exec,
        va::GpuVaList,
        vm::GpuVm, //
    },
    mapping::info::MappingInfo, //
};

/// The file is being closed: jobs that wait for a fence never run.
///
/// What they would have changed stays as it is until the page tables go ([`take_down`]), since the
/// GPU may still use it.
pub(crate) fn cancel(closing: &Closing<'_>) {
    let vm = closing.vm();
    // Before the first of them is: its fence no longer keeps the shrinker from its BOs.
    vm.space().page_tables.lock().close();
    // No requests come any more, so that the list stays as it is. Killing waits for the job that is
    // running, so neither the list's lock nor the slot's is held.
    let queue_of = |index: usize| {
        let guard = vm.state().pending.lock();
        let pending: &PendingJobs = &guard;
        pending.jobs.get(index).map(|job| job.slot.cancel())
    };
    for queue in (0..).map_while(queue_of).flatten() {
        queue.kill(closing);
    }
}

/// The file is closed: all mappings go, once the GPU is done with them.
///
/// If it isn't, that happens on the reaper: whoever closes the file waits for nothing.
pub(crate) fn close(closing: &Closing<'_>) {
    cancel(closing);
    let vm = closing.vm();
    if matches!(vm.gpu_busy(false), Ok(None)) {
        return take_down(vm);
    }
    let later = {
        let vm = ARef::from(vm);
        move || {
            wait_for_gpu(&vm);
            take_down(&vm);
        }
    };
    if module::reaper().try_spawn(GFP_KERNEL, later).is_err() {
        wait_for_gpu(vm);
        take_down(vm);
    }
}

/// Waits until the GPU has ended what it has begun. It ends all of it: what hangs is stopped.
fn wait_for_gpu(vm: &GpuVm<Bind>) {
    while let Ok(Some(fence)) = vm.gpu_busy(true) {
        fence.wait();
    }
}

/// Removes all mappings, which the GPU doesn't use any more.
fn take_down(vm: &GpuVm<Bind>) {
    // First the page tables, then what they reach.
    let torn_down = {
        let mut pt = vm.space().page_tables.lock();
        pt.stage = Stage::Closed;
        pt.tables.teardown()
    };
    drop(remove_vmas(vm));

    let (cancelled, stuck) = {
        let mut pending = vm.state().pending.lock();
        let jobs = core::mem::replace(&mut pending.jobs, KVVec::new());
        (jobs, pending.stuck.take())
    };
    for job in cancelled.iter() {
        drop(job.slot.torn_down(&torn_down));
    }
    drop(stuck.map(|work| work.torn_down(&torn_down)));
}

/// Takes all VMAs out of a VM whose page tables are gone. They are to be dropped with no lock held:
/// freeing an imported BO takes its exporter's.
fn remove_vmas(vm: &GpuVm<Bind>) -> GpuVaList<Bind> {
    loop {
        match try_remove_vmas(vm) {
            Ok(removed) => return removed,
            // The list of locks takes some memory. Nobody can be told that there is none, and
            // reclaim may find some.
            Err(_) => fsleep(Delta::from_millis(10)),
        }
    }
}

fn try_remove_vmas(vm: &GpuVm<Bind>) -> Result<GpuVaList<Bind>> {
    let mut removed = GpuVaList::new();
    pin_init::stack_pin_init!(let exec = Exec::uninterruptible(0));
    let locked = exec.lock_all(|a| {
        let vm = a.lock_vm(vm)?;
        a.lock_extobjs(&vm)
    })?;
    let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;
    while let Some(cursor) = vm_locked.first() {
        if cursor.va().data().mapped().get(&vm_locked) {
            let described = MappingInfo::new(cursor.va());
            vm.space()
                .page_tables
                .lock()
                .log_now(|| described.log_entry(LogOp::Close), Ok(()));
        }
        let obj = Bo::of_va(cursor.va()).map(ARef::from);
        let obj_locked = obj.as_ref().and_then(|bo| locked.obj(bo.gem()));
        match cursor.remove(obj_locked.as_ref()) {
            Ok(va) => removed.push(va),
            // All objects are locked, so that this doesn't happen.
            Err(_) => break,
        }
    }
    Ok(removed)
}
