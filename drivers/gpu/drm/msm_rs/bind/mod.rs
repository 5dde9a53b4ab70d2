// SPDX-License-Identifier: GPL-2.0-only

//! The VM_BIND ioctl.
//!
//! A request goes through stages, each of which consumes the one before and undoes what it did when
//! it is dropped: parsed and looked up ([`BindOp`]) → admitted and reserved ([`Reservation`]: page
//! tables, counted by the throttle if the job waits) → locked, with pages and fence slots → planned
//! (a transaction on the VMA tree) → armed → pushed. After the plan is committed, nothing can fail.
//! An error anywhere before leaves the VM exactly as it was.
//!
//! A request that has nothing to wait for needs no job: its page-table steps are run here, with all
//! locks held, and its fence is one that is signalled ([`Turn::Now`]).
//!
//! Jobs whose iovas overlap run in the order of their ioctls, whichever queues they came on: a job
//! runs after every earlier one of the VM that changes an iova that it changes too ([`order`]).
//! Jobs that don't overlap don't wait for each other.

mod blocks;
#[cfg(CONFIG_KUNIT = "y")]
mod now_test;
mod op;
mod order;
pub(crate) mod plan;
#[cfg(CONFIG_KUNIT = "y")]
mod plan_test;
#[cfg(CONFIG_KUNIT = "y")]
mod reclaim_test;

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    address_space::reservation::{
        NotReserved,
        Reservation, //
    },
    bo::backing,
    ffi::{
        caller::Caller,
        effort::Effort,
        fences::InFences,
        jobs::{
            BindQueue,
            Pending, //
        },
        not_killed,
        trace::{
            self,
            BindEvent, //
        },
        vm::Bind,
        vm_bind_request::VmBindRequest, //
    },
    gpuvm_rs::{
        exec::{
            Attempt,
            Exec,
            Locked,
            Slots, //
        },
        fence::Fence,
        range::VaRange,
        vm::GpuVm, //
    },
    vm::{
        job::{
            BindJob,
            Slot,
            Work, //
        },
        state::{
            run_now,
            PendingJob,
            Ranges, //
        },
    },
};
use blocks::Layouts;
use op::{
    are_short,
    parse,
    BindOp, //
};
use order::Turn;
use plan::Plan;

/// Reserves the page tables that `ops` may need, in any order, for a request whose turn is `turn`.
///
/// # Errors
///
/// As [`Reservation::new`].
fn reserve(
    caller: &Caller<'_>,
    vm: &GpuVm<Bind>,
    ops: &[BindOp],
    layouts: &Layouts,
    turn: Turn,
) -> Result<Reservation, NotReserved> {
    // What is done now is never pending.
    let ticket = match turn {
        Turn::Now => None,
        _ => Some(vm.space().throttle.admit(ops.len(), turn == Turn::Later)?),
    };
    let reserved = if layouts.is_empty() {
        Reservation::new(vm.space(), ops.iter().map(BindOp::touch), ticket)
    } else {
        Reservation::new(vm.space(), layouts.touches(ops), ticket)
    };
    reserved.inspect_err(|e| {
        if matches!(e, NotReserved::Error(e) if *e == ENOMEM) {
            caller.note(fmt!(
                "no memory for page tables, or more than may be in flight"
            ));
        }
    })
}

/// A job on `queue` that waits for `in_fences`, and where its work will be.
///
/// # Errors
///
/// `ENOMEM`.
fn new_job<'q>(
    caller: &Caller<'_>,
    queue: &'q BindQueue<'_>,
    in_fences: &InFences,
) -> Result<(Pending<'q, BindJob>, Arc<Slot>)> {
    let slot = Arc::pin_init(Slot::new(), GFP_KERNEL)?;
    let mut job = queue.new_job(caller.client_id(), BindJob::new(slot.clone()))?;
    job.wait_for(in_fences)?;
    Ok((job, slot))
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

/// Gets the pages of the BOs that `ops` map, which are locked.
///
/// # Errors
///
/// As [`backing::pages`], `EINTR`.
fn get_pages(locked: &Locked<'_>, ops: &mut [BindOp], effort: &Effort) -> Result {
    for op in ops {
        if let Some(bo) = &op.bo {
            not_killed()?;
            let obj = locked.obj(bo.gem()).ok_or(EDEADLK)?;
            op.pages = Some(backing::pages(bo, &obj, effort)?);
        }
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
        flags,
        ops,
        fences,
    } = request;
    let queue = BindQueue::get(&caller, vm, queue_id)?;
    let mut ops = parse(&caller, vm, &ops)?;
    let (in_fences, out_fences) = caller.sync(fences)?;
    let mut ranges = Ranges::new(ops.iter().map(|op| op.range))?;
    let mut layouts = Layouts::look(vm, &ops)?;

    // When its turn is. That may be later by the time that it gets its place in the order, and then
    // it is a job, or has to do with the tables that a job may have that waits.
    let mut turn = if !in_fences.is_empty() {
        Turn::Later
    } else if are_short(&ops, ranges.sort()) {
        Turn::Now
    } else {
        Turn::Soon
    };
    {
        let mut pending = vm.state().pending.lock();
        pending.prune();
        let after = order::turn(queue.timeline(), &mut pending, &mut ranges, |_| Ok(()))?;
        turn = turn.max(after);
    }
    let nr_ops = ops.len();
    let event = |job| BindEvent {
        client_id: caller.client_id(),
        ttbr0: vm.space().ttbr0,
        queue: queue.id(),
        job,
        flags,
        ops: nr_ops,
    };
    // What was removed leaves the loop, and with it the locks but for the queue's: the queue's
    // fences get into a syncobj in their order.
    let mut again = false;
    let (fence, removed, queue_locked) = loop {
        let reservation = match reserve(&caller, vm, &ops, &layouts, turn) {
            Ok(reservation) => reservation,
            Err(NotReserved::Blocks(found)) => {
                blocks::split(vm, &found)?;
                continue;
            }
            Err(NotReserved::Error(e)) => return Err(e),
        };
        let mut job = match turn {
            Turn::Now => None,
            _ => Some(new_job(&caller, &queue, &in_fences)?),
        };

        let queue_locked = queue.lock()?;
        let effort = Effort::begin(again)?;
        pin_init::stack_pin_init!(let exec = Exec::interruptible(ops.len() + 1));
        let locked = exec
            .lock_all(|attempt| lock(attempt, vm, &ops, ranges.sort()))?
            .reserve_fences(match &job {
                Some(_) => Slots::One,
                None => Slots::Zero,
            })?;
        let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;

        if vm.is_unusable() {
            return Err(EPIPE);
        }
        if let Err(e) = get_pages(&locked, &mut ops, &effort) {
            again = effort.again(e)?;
            continue;
        }
        drop(effort);
        if !layouts.is_empty() && !layouts.are_right(&ops)? {
            continue;
        }

        let mut pending = vm.state().pending.lock();
        let after = order::turn(
            queue.timeline(),
            &mut pending,
            &mut ranges,
            |fence| match &mut job {
                Some((job, _)) => {
                    not_killed()?;
                    job.add_dependency(fence.clone())
                }
                None => Ok(()),
            },
        )?;
        if after > turn {
            turn = after;
            continue;
        }
        if job.is_some() {
            pending.jobs.reserve(1, GFP_KERNEL)?;
        }
        let seqno = pending.seqno.wrapping_add(1).max(1);

        let plan = Plan::of_ops(&mut ops, &vm_locked, &locked, queue.id(), seqno)?;
        vm.space().use_now();

        let Some((job, slot)) = job else {
            // Somebody may have the page tables for long, and others wait for what is locked here.
            let Some(mut page_tables) = vm.space().page_tables.try_lock() else {
                turn = Turn::Soon;
                continue;
            };
            // Nothing below can fail.
            let (steps, log_entries) = plan.commit_locked(&mut page_tables);
            pending.seqno = seqno;
            drop(pending);
            trace::bind(None, || event(seqno));
            let work = Work::new(steps, seqno, log_entries, reservation);
            let removed = run_now(&vm_locked, work, page_tables);
            break (Fence::signaled(), removed, queue_locked);
        };

        // Nothing below can fail.
        let (steps, log_entries) = plan.commit(vm);
        pending.seqno = seqno;
        let work = Work::new(steps, seqno, log_entries, reservation);
        let armed = job.arm(work);
        let fence = armed.finished();
        trace::bind(Some(&fence), || event(seqno));
        let _ = pending.jobs.push_within_capacity(PendingJob {
            timeline: fence.timeline(),
            fence: fence.clone(),
            ranges,
            waits: turn == Turn::Later,
            slot,
        });
        drop(pending);
        locked.attach_bookkeep(&fence);
        armed.push();
        break (fence, None, queue_locked);
    };
    out_fences.tell(fence);
    drop(queue_locked);
    drop(removed);
    Ok(())
}
