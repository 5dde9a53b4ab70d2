// SPDX-License-Identifier: GPL-2.0-only

//! The ops of a request, read, checked and looked up.

use core::num::NonZeroU32;

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    ffi::{
        bo::Bo,
        caller::Caller,
        not_killed,
        pages::Pages,
        vm::Bind,
        vm_bind_request::RawOps, //
    },
    gpuvm_rs::{
        range::VaRange,
        small_vec::SmallVec,
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
};

/// No request may have more ops. Mesa sends a few thousand at most.
const MAX_OPS: u32 = 1 << 16;

/// No request of several ops may write more page-table entries: 16 Mi, as many as 64 GiB of memory
/// take. A single op may: it writes none twice.
///
/// A job has the VM's page tables and a worker while it runs, and can't be stopped: this is some
/// tens of milliseconds. Nobody who means well comes near it. Mesa sends one op for a residency
/// buffer of any size, and binds memory once; refused with `ENOMEM`, it sends the ops one by one.
const MAX_ENTRIES: u64 = 1 << 24;

/// Bytes that a request may touch that is done in the ioctl: 16,384 page-table entries' worth.
const MAX_BYTES_NOW: u64 = 64 << 20;

/// Ops of such a request: each may need tables of its own, which are looked for and, if they stay
/// empty, unlinked again.
const MAX_OPS_NOW: usize = 1024;

/// Whether ops may be done in the ioctl, in which others wait for the locks of the VM and of shared
/// BOs: `merged` is the set of their ranges.
///
/// So many entries are written or cleared at most, one by one; and the TLB is invalidated twice at
/// most, as none changes what another one has made.
pub(super) fn are_short(ops: &[BindOp], merged: &[VaRange]) -> bool {
    let bytes = |lens: &mut dyn Iterator<Item = u64>| lens.fold(0, u64::saturating_add);
    let each = bytes(&mut ops.iter().map(|op| op.range.len()));
    ops.len() <= MAX_OPS_NOW
        && each <= MAX_BYTES_NOW
        && each == bytes(&mut merged.iter().map(VaRange::len))
}

/// An op that has been looked up.
pub(crate) struct BindOp {
    pub(super) op: Op,
    pub(super) range: VaRange,
    /// For MAP.
    pub(super) bo: Option<ARef<Bo>>,
    /// For MAP, once the BO is locked; moves into the job.
    pub(super) pages: Option<Pages>,
}

pub(super) type Ops = SmallVec<BindOp, 1>;

impl BindOp {
    /// An op of which nothing but this is known yet.
    pub(super) fn new(op: Op, range: VaRange, bo: Option<ARef<Bo>>) -> Self {
        Self {
            op,
            range,
            bo,
            pages: None,
        }
    }

    /// Its BO, if `handle` is what it calls it.
    fn bo_of(&self, handle: NonZeroU32) -> Option<ARef<Bo>> {
        match self.op.kind {
            Kind::Map { handle: mine, .. } if mine == handle => self.bo.clone(),
            _ => None,
        }
    }

    pub(super) fn request(&self) -> Option<MapRequest<'_>> {
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
///
/// # Errors
///
/// `EINVAL`, `EFAULT`, `ENOMEM`; `ERESTARTSYS` if the caller was killed.
pub(super) fn parse(caller: &Caller<'_>, vm: &GpuVm<Bind>, raw: &RawOps) -> Result<Ops> {
    let nr = raw.len();
    if nr > MAX_OPS {
        caller.note(fmt!("too many ops: {nr}"));
        return Err(ENOMEM);
    }
    if let Some(stride) = raw.invalid_stride() {
        return Err(caller.invalid(fmt!("invalid op_stride: {stride}")));
    }
    let mut result = Ops::with_capacity(nr as usize, GFP_KERNEL | __GFP_NOWARN)?;
    let reserved = vm.space().throttle.cap();
    let mut entries = 0u64;
    for i in 0..nr {
        not_killed()?;
        let op = Op::parse(&raw.get(i)?)
            .map_err(|why| caller.invalid(fmt!("op {i}: invalid {why:x?}")))?;
        let outside =
            || caller.invalid(fmt!("op {i}: invalid range: {:x}, {:x}", op.iova, op.range));
        let range = VaRange::new(op.iova, op.range).ok_or_else(outside)?;
        if !vm.range_valid(range) {
            return Err(outside());
        }
        let bo = match op.kind {
            Kind::Unmap => None,
            Kind::MapNull if !caller.has_prr() => {
                return Err(caller.invalid(fmt!("op {i}: PRR not supported")));
            }
            Kind::MapNull => None,
            Kind::Map { handle, offset, .. } => {
                // Ops often name the same BO as the one before.
                let bo = match result.last().and_then(|op| op.bo_of(handle)) {
                    Some(bo) => bo,
                    None => caller.lookup(handle.get()).ok_or_else(|| {
                        caller.invalid(fmt!("op {i}: invalid handle {}", handle.get()))
                    })?,
                };
                let size = bo.gem().size();
                if !ops::fits(offset, op.range, size) {
                    return Err(caller.invalid(fmt!(
                        "op {i}: {:x} bytes from {offset:x} don't fit {size:x}",
                        op.range
                    )));
                }
                if bo.is_no_share() && !vm.is_private(bo.gem()) {
                    return Err(caller.invalid(fmt!("op {i}: the BO belongs to another VM")));
                }
                Some(bo)
            }
        };
        entries = entries.saturating_add(op.entries(reserved));
        if nr > 1 && entries > MAX_ENTRIES {
            caller.note(fmt!("op {i}: more than {MAX_ENTRIES} page-table entries"));
            return Err(ENOMEM);
        }
        result.push(BindOp::new(op, range, bo), GFP_KERNEL | __GFP_NOWARN)?;
    }
    Ok(result)
}
