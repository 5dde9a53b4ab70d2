// SPDX-License-Identifier: GPL-2.0-only

//! The VM_BIND ioctl.
//!
//! A request goes through stages, each of which consumes the one before and undoes what it did when
//! it is dropped: parsed and looked up ([`BindOp`]) → admitted and reserved ([`Reservation`]: page
//! tables, counted by the throttle if the job waits) → locked, with pages and fence slots → planned (a transaction on the VMA tree)
//! → armed → pushed. After arming, nothing can fail. An error anywhere before leaves the VM exactly
//! as it was.
//!
//! Jobs whose iovas overlap run in the order of their ioctls, whichever queues they came on: a job
//! runs after every earlier one of the VM that changes an iova that it changes too ([`order`]). Jobs
//! that don't overlap don't wait for each other.

pub(crate) mod job;
mod order;
pub(crate) mod plan;
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
mod plan_test;
#[cfg(all(CONFIG_KUNIT = "y", not(CONFIG_DRM_MSM_KMS)))]
mod reclaim_test;

use core::num::NonZeroU32;

use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};

use crate::{
    bo::backing,
    ffi::{
        self,
        bo::Bo,
        pages::Pages,
        request::Request,
        tables,
        vm::Bind, //
    },
    gpuvm_rs::{
        exec::{
            Attempt,
            Exec,
            Slots, //
        },
        range::VaRange,
        small_vec::SmallVec,
        txn::Transaction,
        vm::{
            GpuVm,
            MapRequest, //
        },
    },
    pure::ops::{
        self,
        Kind,
        Op, //
    },
    reserve::Reservation,
    throttle::Throttle,
    vm::{
        PendingJob,
        Ranges, //
    },
};
use job::{
    Slot,
    Work, //
};
use plan::Plan;

/// No request may have more ops. Mesa sends a few thousand at most.
const MAX_OPS: u32 = 1 << 16;

/// No request of several ops may write more page-table entries: 16 Mi, as many as 64 GiB of memory take. A single op may: it
/// writes none twice.
///
/// A job has the VM's page tables and a worker while it runs, and can't be stopped: this is some tens of milliseconds. Nobody who
/// means well comes near it. Mesa sends one op for a residency buffer of any size, and binds memory once; refused with `ENOMEM`,
/// it sends the ops one by one.
const MAX_ENTRIES: u64 = 1 << 24;

/// An op that has been looked up.
pub(crate) struct BindOp {
    op: Op,
    range: VaRange,
    /// For MAP.
    bo: Option<ARef<Bo>>,
    /// For MAP, once the BO is locked; moves into the job.
    pages: Option<Pages>,
}

type Ops = SmallVec<BindOp, 1>;

impl BindOp {
    /// Its BO, if `handle` is what it calls it.
    fn bo_of(&self, handle: NonZeroU32) -> Option<ARef<Bo>> {
        match self.op.kind {
            Kind::Map { handle: mine, .. } if mine == handle => self.bo.clone(),
            _ => None,
        }
    }

    fn request(&self) -> Option<MapRequest<'_>> {
        let offset = match self.op.kind {
            Kind::Unmap => return None,
            Kind::MapNull => 0,
            Kind::Map { offset, .. } => offset,
        };
        Some(MapRequest {
            range: self.range,
            obj: self.bo.as_deref().map(Bo::gem),
            offset,
        })
    }
}

/// Reads and checks the ops, and looks up their BOs.
fn parse(req: &Request<'_>) -> Result<Ops> {
    let nr = req.nr_ops();
    if nr > MAX_OPS {
        req.note(fmt!("too many ops: {nr}"));
        return Err(ENOMEM);
    }
    if nr > 1 && !req.stride_valid() {
        return Err(req.invalid(fmt!("invalid op_stride: {}", req.op_stride())));
    }
    let vm = req.vm();
    let mut result = Ops::with_capacity(nr as usize, GFP_KERNEL | __GFP_NOWARN)?;
    let reserved = vm.state().throttle.cap();
    let mut entries = 0u64;
    for i in 0..nr {
        not_killed()?;
        let op =
            Op::parse(&req.op(i)?).map_err(|why| req.invalid(fmt!("op {i}: invalid {why:x?}")))?;
        let outside = || req.invalid(fmt!("op {i}: invalid range: {:x}, {:x}", op.iova, op.range));
        let range = VaRange::new(op.iova, op.range).ok_or_else(outside)?;
        if !vm.range_valid(range) {
            return Err(outside());
        }
        let bo = match op.kind {
            Kind::Unmap => None,
            Kind::MapNull if !req.has_prr() => {
                return Err(req.invalid(fmt!("op {i}: PRR not supported")));
            }
            Kind::MapNull => None,
            Kind::Map { handle, offset, .. } => {
                // Ops often name the same BO as the one before.
                let bo = match result.last().and_then(|op| op.bo_of(handle)) {
                    Some(bo) => bo,
                    None => req.lookup(handle.get()).ok_or_else(|| {
                        req.invalid(fmt!("op {i}: invalid handle {}", handle.get()))
                    })?,
                };
                let size = bo.gem().size();
                if !ops::fits(offset, op.range, size) {
                    return Err(req.invalid(fmt!(
                        "op {i}: {:x} bytes from {offset:x} don't fit {size:x}",
                        op.range
                    )));
                }
                if bo.is_no_share() && !vm.is_private(bo.gem()) {
                    return Err(req.invalid(fmt!("op {i}: the BO belongs to another VM")));
                }
                Some(bo)
            }
        };
        entries = entries.saturating_add(op.entries(reserved));
        if nr > 1 && entries > MAX_ENTRIES {
            req.note(fmt!("op {i}: more than {MAX_ENTRIES} page-table entries"));
            return Err(ENOMEM);
        }
        let op = BindOp {
            op,
            range,
            bo,
            pages: None,
        };
        result.push(op, GFP_KERNEL | __GFP_NOWARN)?;
    }
    Ok(result)
}

/// Reserves the page tables that `ops` may need, in any order, for a job that `waits` or doesn't.
fn reserve(req: &Request<'_>, ops: &[BindOp], waits: bool) -> Result<Reservation> {
    let touches = ops
        .iter()
        .map(|op| tables::touch(op.range, matches!(op.op.kind, Kind::Map { .. })));
    let ticket = Throttle::admit(req.vm(), ops.len(), waits)?;
    Reservation::new(req.vm(), touches, Some(ticket)).inspect_err(|&e| {
        if e == ENOMEM {
            req.note(fmt!(
                "no memory for page tables, or more than may be in flight"
            ));
        }
    })
}

/// Nobody is left who could learn of the result: then a long request ends here.
///
/// Other signals don't end it. One that comes every few milliseconds, as a profiler's does, would have it begin again for ever.
///
/// # Errors
///
/// `ERESTARTSYS` if the caller was killed.
fn not_killed() -> Result {
    if ffi::is_killed() {
        return Err(ERESTARTSYS);
    }
    Ok(())
}

/// Locks what `ops` may change: the VM, their BOs, and those that are mapped where they go, which is `ranges`, a set.
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
pub(crate) fn vm_bind(req: &mut Request<'_>) -> Result {
    let vm = req.vm();
    let queue = req.queue()?;
    let mut ops = parse(req)?;

    let slot = Arc::pin_init(Slot::new(), GFP_KERNEL)?;
    let mut job = req.new_job(&queue, slot.clone())?;
    let told = req.sync(&mut job)?;

    let mut ranges = Ranges::new(ops.iter().map(|op| op.range))?;

    // Whether it can run as soon as a worker has time. That may have changed by the time that it gets its place in the order: then
    // it has to do with the tables that a job may have that waits.
    let fenced = job.waits();
    let mut waits = {
        let mut pending = vm.state().pending.lock();
        pending.prune();
        order::after_earlier(&mut job, &mut pending, &mut ranges)? || fenced
    };
    loop {
        let reservation = reserve(req, &ops, waits)?;

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
        if order::after_earlier(&mut job, &mut pending, &mut ranges)? && !waits {
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
        slot.fill(Work {
            queue: Some(queue.another()),
            steps,
            log_entries,
            reservation,
            freed: None,
        });
        let armed = job.arm();
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

        req.tell(told, fence);
        drop(queue_locked);
        return Ok(());
    }
}
