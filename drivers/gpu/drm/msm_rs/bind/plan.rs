// SPDX-License-Identifier: GPL-2.0-only

//! From ops to VMA changes and page-table steps.

use core::ops::Range;

use kernel::{
    alloc::KVVec,
    prelude::*, //
};

use super::op::BindOp;
use crate::{
    address_space::{
        log::{
            LogEntry,
            LogOp,
            PARTIAL, //
        },
        step::{
            Step,
            StepKind, //
        },
        LoggedTables, //
    },
    ffi::{
        bo::Bo,
        not_killed,
        vm::Bind,
        vma::BindVa, //
    },
    gpuvm_rs::{
        exec::Locked,
        sm::{
            OpMap,
            OpRemap,
            OpUnmap,
            Steps, //
        },
        txn::{
            Committed,
            Transaction, //
        },
        va::GpuVa,
        vm::{
            GpuVm,
            VaRange,
            VmLocked, //
        },
    },
    mapping::info::{
        MappingInfo,
        FLAG_DUMP, //
    },
    pure::ops::Kind, //
};

/// A plan in the making. Dropping it undoes what was applied.
pub(super) struct Plan<'l> {
    txn: Transaction<'l, Bind>,
    /// The entries to come, if the VM has a log.
    log: Option<KVVec<LogEntry>>,
    queue: i32,
    job: u32,
}

impl<'l> Plan<'l> {
    /// An empty plan, for job `job` on `queue`.
    pub(super) fn new(txn: Transaction<'l, Bind>, queue: i32, job: u32) -> Self {
        Self {
            log: txn.vm().space().has_log.then(KVVec::new),
            txn,
            queue,
            job,
        }
    }

    /// The plan of all of `ops`, which have their BOs' pages, for job `job` on `queue`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR`. Then nothing has changed.
    pub(super) fn of_ops(
        ops: &mut [BindOp],
        vm: &'l VmLocked<'l, Bind>,
        locked: &'l Locked<'l>,
        queue: i32,
        job: u32,
    ) -> Result<Self> {
        let mut plan = Self::new(Transaction::new(vm, locked, 2 * ops.len())?, queue, job);
        for op in ops {
            not_killed()?;
            plan.apply(op)?;
        }
        Ok(plan)
    }

    /// Applies one op to the tree, and records what it does to the page tables: one step, whatever
    /// was mapped there.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. What was applied is undone when the plan is dropped.
    pub(super) fn apply(&mut self, op: &mut BindOp) -> Result {
        let vm = self.txn.vm();
        let pages = op.pages.take();
        let mut steps = OpSteps {
            plan: self,
            op,
            kept: false,
            dirty: false,
            removes: false,
        };
        let kind = match op.request() {
            None => {
                vm.sm_unmap(op.range, &mut steps)?;
                StepKind::Unmap
            }
            Some(map) => {
                vm.sm_map(&map, &mut steps)?;
                StepKind::Map {
                    pages,
                    offset: map.offset,
                }
            }
        };
        let (dirty, removes) = (steps.dirty, steps.removes);
        if dirty {
            self.txn.step(Step {
                range: op.range,
                removes,
                kind,
            })?;
        }
        Ok(())
    }

    /// Records a log entry, if the VM has a log: only then is `vma` called.
    #[inline]
    fn log<'a>(&mut self, op: LogOp, vma: impl FnOnce() -> MappingInfo<'a>, flags: u8) -> Result {
        if let Some(log) = &mut self.log {
            let mut entry = vma().log_entry(op);
            entry.queue = self.queue;
            entry.job = self.job;
            entry.flags |= flags;
            log.push(entry, GFP_KERNEL | __GFP_NOWARN)?;
        }
        Ok(())
    }

    /// Makes the plan final and writes its log entries. Returns the steps and the entries' numbers.
    pub(super) fn commit(self, vm: &GpuVm<Bind>) -> (Committed<Bind>, Range<u64>) {
        self.commit_with(|log| write_log(&mut vm.space().page_tables.lock(), log))
    }

    /// As [`Self::commit`], with the VM's page tables, which are locked.
    pub(super) fn commit_locked(
        self,
        page_tables: &mut LoggedTables,
    ) -> (Committed<Bind>, Range<u64>) {
        self.commit_with(|log| write_log(page_tables, log))
    }

    fn commit_with(
        self,
        write: impl FnOnce(KVVec<LogEntry>) -> Range<u64>,
    ) -> (Committed<Bind>, Range<u64>) {
        let steps = self.txn.commit();
        (steps, self.log.map_or(0..0, write))
    }
}

/// Writes log entries. Returns their numbers.
fn write_log(page_tables: &mut LoggedTables, entries: KVVec<LogEntry>) -> Range<u64> {
    let log = &mut page_tables.log;
    let first = log.next();
    for entry in entries {
        log.push(entry);
    }
    first..log.next()
}

/// The steps of one op.
struct OpSteps<'p, 'l> {
    plan: &'p mut Plan<'l>,
    op: &'p BindOp,
    /// The VMA is there already, and only its flags change.
    kept: bool,
    /// Whether the page tables have to change.
    dirty: bool,
    /// Whether entries have to be removed.
    removes: bool,
}

impl<'l> OpSteps<'_, 'l> {
    fn vm(&self) -> &'l VmLocked<'l, Bind> {
        self.plan.txn.vm()
    }

    fn is_map(&self) -> bool {
        self.op.op.kind != Kind::Unmap
    }

    /// The driver flags of a VMA that this op makes.
    fn flags(&self) -> u32 {
        match self.op.op.kind {
            Kind::Map { dump: true, .. } => FLAG_DUMP,
            _ => 0,
        }
    }

    fn handle(&self) -> u32 {
        match self.op.op.kind {
            Kind::Map { handle, .. } => handle.get(),
            _ => 0,
        }
    }

    /// Records that the entries of `hole` in `va` go.
    fn unmapped(&mut self, va: &GpuVa<Bind>, hole: VaRange, partial: bool) -> Result {
        self.dirty = true;
        self.removes = true;
        let op = if self.is_map() {
            LogOp::Replace
        } else {
            LogOp::Unmap
        };
        let flags = if partial { PARTIAL } else { 0 };
        self.plan.log(op, || MappingInfo::part(va, hole), flags)
    }
}

impl Steps<Bind> for OpSteps<'_, '_> {
    fn map(&mut self, op: OpMap<'_>) -> Result {
        let flags = self.flags();
        let log_op = match self.op.op.kind {
            Kind::Map { .. } => LogOp::Map,
            _ => LogOp::MapNull,
        };
        let (range, handle) = (op.range()?, self.handle());
        let described = || {
            let dump = flags & FLAG_DUMP != 0;
            MappingInfo::mapping(range, Bo::of_op(&op), op.offset(), handle, dump)
        };
        if self.kept {
            return self.plan.log(LogOp::Keep, described, 0);
        }
        self.dirty = true;
        self.plan.log(log_op, described, 0)?;
        self.plan.txn.insert(&op, BindVa::new(true, handle), flags)
    }

    fn unmap(&mut self, op: OpUnmap<'_, Bind>) -> Result {
        // The same mapping again: Turnip does that to change the flags. Leave the page tables
        // alone, which would need waiting for the GPU.
        if op.keep() && op.va().range() == self.op.range {
            self.kept = true;
            let flags = (op.va().flags() & !FLAG_DUMP) | self.flags();
            return self.plan.txn.keep_with_flags(op, flags);
        }
        let range = op.va().range();
        self.unmapped(op.va(), range, false)?;
        self.plan.txn.remove(op)
    }

    fn remap(&mut self, op: OpRemap<'_, Bind>) -> Result {
        let hole = op.hole()?;
        let mapped = op.va().data().mapped().get(self.vm());
        let handle = op.va().data().handle();
        let flags = op.va().flags();
        self.unmapped(op.va(), hole, true)?;
        self.plan
            .txn
            .split(op, || BindVa::new(mapped, handle), flags)
    }
}
