// SPDX-License-Identifier: GPL-2.0-only

//! The VM_BIND ioctl.
//!
//! A request goes through stages, each of which consumes the one before and undoes what it did when
//! it is dropped: parsed and looked up ([`BindOp`]) → admitted and reserved ([`Reservation`]: page
//! tables, counted by the throttle if the job waits) → locked, with pages and fence slots → planned
//! (a transaction on the VMA tree) → armed → pushed. After arming, nothing can fail. An error
//! anywhere before leaves the VM exactly as it was.
//!
//! Jobs whose iovas overlap run in the order of their ioctls, whichever queues they came on: a job
//! runs after every earlier one of the VM that changes an iova that it changes too ([`order`]).
//! Jobs that don't overlap don't wait for each other.

mod op;
mod order;
pub(crate) mod plan;
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
mod plan_test;
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
mod reclaim_test;

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    address_space::{
        footprint,
        reservation::Reservation, //
    },
    bo::backing,
    ffi::{
        caller::Caller,
        jobs::BindQueue,
        vm::Bind,
        vm_bind_request::VmBindRequest, //
    },
    gpuvm_rs::{
        exec::{
            Attempt,
            Exec,
            Slots, //
        },
        range::VaRange,
        txn::Transaction,
        vm::GpuVm, //
    },
    pure::ops::Kind,
    vm::{
        job::{
            BindJob,
            Slot,
            Work, //
        },
        state::{
            PendingJob,
            Ranges, //
        },
    },
};
use op::{
    not_killed,
    parse,
    BindOp, //
};
use plan::Plan;

/// Reserves the page tables that `ops` may need, in any order, for a job that `waits` or doesn't.
///
/// # Errors
///
/// As [`Reservation::new`].
fn reserve(
    caller: &Caller<'_>,
    vm: &GpuVm<Bind>,
    ops: &[BindOp],
    waits: bool,
) -> Result<Reservation> {
    let touches = ops
        .iter()
        .map(|op| footprint::touch(op.range, matches!(op.op.kind, Kind::Map { .. })));
    let ticket = vm.space().throttle.admit(ops.len(), waits)?;
    Reservation::new(vm.space(), touches, Some(ticket)).inspect_err(|&e| {
        if e == ENOMEM {
            caller.note(fmt!(
                "no memory for page tables, or more than may be in flight"
            ));
        }
    })
}

/// Locks what `ops` may change: the VM, their BOs, and those that are mapped where they go, which
/// is `ranges`, a set.
fn lock(attempt: &Attempt<'_>, vm: &GpuVm<Bind>, ops: &[BindOp], ranges: &[VaRange]) -> Result {
    let vm = attempt.lock_vm(vm)?;
    for bo in ops.iter().filter_map(|op| op.bo.as_deref()) {
        not_killed()?;
        attempt.lock(bo.gem())?;
    }
    for &range in ranges {
        not_killed()?;
        attempt.lock_mapped(&vm, range)?;
    }
    Ok(())
}

/// Serves a request. The request's flags and its VM have been checked.
///
/// # Errors
///
/// As the UAPI says; then nothing has changed.
pub(crate) fn vm_bind(request: VmBindRequest<'_>) -> Result {
    let VmBindRequest {
        caller,
        vm,
        queue_id,
        ops,
        fences,
    } = request;
    let queue = BindQueue::get(&caller, vm, queue_id)?;
    let mut ops = parse(&caller, vm, &ops)?;

    let (in_fences, out_fences) = caller.sync(fences)?;
    let slot = Arc::pin_init(Slot::new(), GFP_KERNEL)?;
    let mut job = queue.new_job(caller.client_id(), BindJob::new(slot.clone()))?;
    job.wait_for(&in_fences)?;

    let mut ranges = Ranges::new(ops.iter().map(|op| op.range))?;

    // Whether it can run as soon as a worker has time. That may have changed by the time that it
    // gets its place in the order: then it has to do with the tables that a job may have that
    // waits.
    let fenced = !in_fences.is_empty();
    let mut waits = {
        let mut pending = vm.state().pending.lock();
        pending.prune();
        order::after_earlier(queue.timeline(), &mut job, &mut pending, &mut ranges)? || fenced
    };
    loop {
        let reservation = reserve(&caller, vm, &ops, waits)?;

        let queue_locked = queue.lock()?;
        pin_init::stack_pin_init!(let exec = Exec::interruptible(ops.len() + 1));
        let locked = exec
            .lock_all(|attempt| lock(attempt, vm, &ops, ranges.sort()))?
            .reserve_fences(Slots::One)?;
        let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;

        if vm.is_unusable() {
            return Err(EPIPE);
        }
        for op in ops.iter_mut() {
            if let Some(bo) = &op.bo {
                not_killed()?;
                let obj = locked.obj(bo.gem()).ok_or(EDEADLK)?;
                op.pages = Some(backing::pages(bo, &obj)?);
            }
        }

        let mut pending = vm.state().pending.lock();
        if order::after_earlier(queue.timeline(), &mut job, &mut pending, &mut ranges)? && !waits {
            waits = true;
            continue;
        }
        pending.jobs.reserve(1, GFP_KERNEL)?;
        let seqno = pending.seqno.wrapping_add(1).max(1);

        let mut plan = Plan::new(
            Transaction::new(&vm_locked, &locked, 2 * ops.len())?,
            queue.id(),
            seqno,
        );
        for op in ops.iter_mut() {
            not_killed()?;
            plan.apply(op)?;
        }

        // Nothing below can fail.
        let (steps, log_entries) = plan.commit(vm);
        pending.seqno = seqno;
        let armed = job.arm(Work::new(steps, log_entries, reservation));
        let fence = armed.finished();
        let _ = pending.jobs.push_within_capacity(PendingJob {
            timeline: fence.timeline(),
            fence: fence.clone(),
            ranges,
            waits,
            slot,
        });
        drop(pending);
        locked.attach_bookkeep(&fence);
        armed.push();

        out_fences.tell(fence);
        drop(queue_locked);
        return Ok(());
    }
}
