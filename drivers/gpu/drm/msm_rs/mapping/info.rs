// SPDX-License-Identifier: GPL-2.0-only

//! A mapping, as the VM log describes it.

use crate::{
    address_space::log::{
        LogEntry,
        LogOp,
        DUMP,
        NULL,
        READONLY, //
    },
    ffi::{
        bindings,
        bo::Bo,
        vm::Bind, //
    },
    gpuvm_rs::{
        va::GpuVa,
        vm::VaRange, //
    },
};

/// `MSM_VMA_DUMP`: the mapping's content goes into devcoredumps.
pub(crate) const FLAG_DUMP: u32 = bindings::drm_gpuva_flags_DRM_GPUVA_USERBITS;

/// A VM_BIND VMA, or a part of it, as the log describes it.
pub(crate) struct MappingInfo<'a> {
    range: VaRange,
    offset: u64,
    handle: u32,
    flags: u8,
    bo: Option<&'a Bo>,
}

impl<'a> MappingInfo<'a> {
    /// All of `va`.
    pub(crate) fn new(va: &'a GpuVa<Bind>) -> Self {
        Self::mapping(
            va.range(),
            Bo::of_va(va),
            va.offset(),
            va.data().handle(),
            va.flags() & FLAG_DUMP != 0,
        )
    }

    /// The part of `va` at `range`, which lies in it.
    pub(crate) fn part(va: &'a GpuVa<Bind>, range: VaRange) -> Self {
        let mut this = Self::new(va);
        this.offset += range.addr() - va.range().addr();
        this.range = range;
        this
    }

    /// A mapping of `range` to `bo` from `offset`, or to nothing.
    pub(crate) fn mapping(
        range: VaRange,
        bo: Option<&'a Bo>,
        offset: u64,
        handle: u32,
        dump: bool,
    ) -> Self {
        let mut flags = 0;
        if dump {
            flags |= DUMP;
        }
        match bo {
            None => flags |= NULL,
            Some(bo) if bo.is_readonly() => flags |= READONLY,
            Some(_) => {}
        }
        Self {
            range,
            offset,
            handle,
            flags,
            bo,
        }
    }

    /// An entry that says that `op` was asked for now.
    pub(crate) fn log_entry(&self, op: LogOp) -> LogEntry {
        let mut entry = LogEntry::new(op, self.range);
        entry.offset = self.offset;
        entry.handle = self.handle;
        entry.flags = self.flags;
        if let Some(bo) = self.bo {
            entry.name = bo.name();
        }
        entry
    }
}
