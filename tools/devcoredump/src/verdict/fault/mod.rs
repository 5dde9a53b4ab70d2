// SPDX-License-Identifier: GPL-2.0-only
//! Page faults.
//!
//! Three witnesses are heard: the page-table walk (what the tables held shortly after the fault),
//! the VM log (what was done to them before), and the BO list (for a VM_BIND context all VMAs;
//! these change when an ioctl asks, not when the page tables follow). None is complete: old kernels
//! lack the walk or the log, logs wrap, and C's log lacks its newest entry. [`Sure`] says what that
//! leaves.

mod evidence;
mod late;
mod permission;
mod tables;
mod unmapped;

use super::text::*;
use super::{
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use crate::dump::*;
use crate::pte::Walk;
use crate::space::{
    self,
    Live, //
};
use crate::vm_log::{
    Applied,
    Entry,
    Missing,
    Op,
    VmLog, //
};

/// Judges the fault of a dump.
pub(super) fn judge(dump: &Dump, fault: &Fault) -> Finding {
    let case = Case::new(dump, fault);
    let mut finding = case.judge();
    let mut evidence = case.evidence();
    evidence.append(&mut finding.evidence);
    finding.evidence = evidence;
    finding
}

/// All that bears on one fault.
struct Case<'a> {
    dump: &'a Dump,
    fault: &'a Fault,
    /// `None`: the dump doesn't say it.
    addr: Option<u64>,
    /// `None`: the kernel printed none, or of no context.
    walk: Option<Walk>,
    log: Option<&'a VmLog>,
    /// Entries in effect at the time of the fault, in order.
    order: Vec<usize>,
    /// The last of them that covers the address.
    last: Option<(usize, &'a Entry)>,
    /// The oldest map that covers the address but came too late.
    late: Option<(usize, &'a Entry)>,
    /// The BO listed at the address.
    bo: Option<(usize, &'a Bo)>,
}

impl<'a> Case<'a> {
    fn new(dump: &'a Dump, fault: &'a Fault) -> Self {
        let addr = fault.address();
        let covers = |entry: &Entry| addr.is_some_and(|addr| entry.covers(addr));
        let log = dump.vm_log.as_ref();
        let order = log.map(space::order).unwrap_or_default();
        let last = log.and_then(|log| {
            let newest_first = order.iter().rev().map(|&i| (i, &log.entries[i]));
            let mut changes = newest_first.filter(|(_, e)| e.op.maps() || e.op.removes());
            changes.find(|(_, e)| covers(e))
        });
        let late = log.and_then(|log| {
            let mut maps = log.entries.iter().enumerate().filter(|(_, e)| e.op.maps());
            // Where something was mapped before, what was asked for after the fault explains nothing.
            let after = |e: &Entry| last.is_some() && log.asked_after_fault(e);
            maps.find(|(_, e)| covers(e) && e.err.is_none() && !log.in_effect(e) && !after(e))
        });
        let bo = dump
            .bos
            .iter()
            .enumerate()
            .find(|(_, bo)| addr.is_some_and(|addr| bo.range().contains(&addr)));
        let walk = dump
            .page_table
            .as_ref()
            .filter(|table| table.table() != Some(0))
            .and_then(PageTable::walk);
        Case {
            dump,
            fault,
            addr,
            walk,
            log,
            order,
            last,
            late,
            bo,
        }
    }

    fn mapped(&self) -> Option<bool> {
        match self.walk? {
            Walk::Mapped(_) => Some(true),
            Walk::Unmapped { .. } | Walk::Nothing => Some(false),
            Walk::Malformed { .. } => None,
        }
    }

    fn access(&self) -> String {
        let place = match self.addr {
            Some(addr) => format!("{addr:#x}"),
            None => place(self.fault),
        };
        match self.fault.direction {
            Some(direction) => format!("The GPU's {direction} at {place}"),
            None => format!("The GPU's access to {place}"),
        }
    }

    fn older_missing(&self) -> Missing {
        self.log.map_or(Missing::Yes, VmLog::older_missing)
    }

    fn newest_missing(&self) -> Missing {
        self.log.map_or(Missing::Yes, VmLog::newest_missing)
    }

    fn judge(&self) -> Finding {
        if self.fault.kind == FaultType::External {
            let what = format!("{} was refused by the memory system.", self.access());
            return Finding::new(Verdict::External, Sure::Likely, Whose::Kernel, what).next(
                "Check what memory the tables point to: protected, carved out, or powered down.",
            );
        }
        if let Some(finding) = self.kernels_own() {
            return finding;
        }
        if self.fault.in_kernel_half() {
            return self.kernel_half();
        }
        if let Some(table) = self.dump.page_table.as_ref().and_then(PageTable::table) {
            if table == 0 {
                let what = format!(
                    "{} was reported when no submit was running, so there is no context to look \
                        at.",
                    self.access()
                );
                return Finding::new(Verdict::NoSubmit, Sure::Likely, Whose::Unclear, what).next(
                    "Look for a submit that was retired too early, and at the kernel's own rings.",
                );
            }
            if let Some(used) = self.fault.table().filter(|&used| used != table) {
                let what = format!(
                    "The GPU used the tables at {used:#x}; the dump blames a context with tables \
                        at {table:#x}."
                );
                return Finding::new(Verdict::WrongContext, Sure::Certain, Whose::Unclear, what)
                    .next(
                        "Don't trust this dump's task, BOs and VM log: they are another \
                        context's. Reproduce with one GPU client.",
                    );
            }
        }
        let Some(addr) = self.addr else {
            return self.nowhere();
        };
        if self.fault.kind == FaultType::Permission {
            if let Some(finding) = self.permission() {
                return finding;
            }
        }
        if self.mapped() == Some(true) {
            self.mapped_but_faulted()
        } else {
            self.not_mapped(addr)
        }
    }

    /// Without the address, nothing tells what was there.
    fn nowhere(&self) -> Finding {
        let access = match self.fault.direction {
            Some(direction) => direction.to_string(),
            None => "access".into(),
        };
        let what = format!("The dump doesn't say at which address the GPU's {access} faulted.");
        Finding::new(Verdict::Undetermined, Sure::Certain, Whose::Unclear, what).next(
            "See which lines of it can't be read, with `check`, and get it anew. The kernel keeps \
                one for five minutes, in /sys/class/devcoredump/devcd*/data.",
        )
    }

    /// The ring at the address, in words.
    fn ring(&self) -> String {
        let here = |ring: &&Ring| {
            let range = ring.iova..ring.iova.saturating_add(ring.size);
            self.addr.is_some_and(|addr| range.contains(&addr))
        };
        self.dump
            .rings
            .iter()
            .find(here)
            .map_or_else(String::new, |ring| format!(", ring {}'s", ring.id))
    }

    /// An access on behalf of no context: applications' commands run with their context's tables,
    /// and as somebody's task.
    fn kernels_own(&self) -> Option<Finding> {
        let without_tables = self.fault.table() == Some(0);
        let nobodys = self.fault.in_kernel_half() && self.dump.comm.is_none();
        let why = match (without_tables, nobodys) {
            (true, _) => "when no context's tables were loaded (ttbr0 0)".into(),
            (_, true) => format!(
                "in the kernel's half of the address space{}, with no task running",
                self.ring()
            ),
            _ => return None,
        };
        let what = format!(
            "{} came {why}: it is of the kernel's own commands or firmware.",
            self.access()
        );
        let mut finding = Finding::new(Verdict::KernelsOwn, Sure::Likely, Whose::Kernel, what)
            .next(
            "See what the kernel maps there (rings, firmware, preemption records) and how the GPU \
                came up: \
             journalctl -k -b | grep -iE 'msm|adreno|gmu|firmware'",
        );
        if let Some(comm) = &self.dump.comm {
            finding = finding.or(format!(
                "the submit of {comm}, if it was just about to load its tables"
            ));
        }
        Some(finding)
    }

    fn kernel_half(&self) -> Finding {
        let owner = self.ring();
        let what = format!(
            "{} hit the kernel's half of the address space{owner}.",
            self.access()
        );
        Finding::new(Verdict::Privileged, Sure::Likely, Whose::Application, what)
            .next("Look for a wild pointer in the command stream; its upper bits are set.")
            .or("the kernel's own firmware or preemption data is mapped wrongly")
    }

    /// What is at the address.
    fn place(&self) -> String {
        match (self.bo, self.last) {
            (Some((_, bo)), _) => format!("{} at {}", describe(bo), range(&bo.range())),
            (None, Some((_, entry))) if entry.op.maps() => {
                format!("a mapping{} at {}", name_of(entry), range(&entry.range()))
            }
            _ => "a mapping".into(),
        }
    }
}
