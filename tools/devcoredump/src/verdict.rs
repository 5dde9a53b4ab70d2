// SPDX-License-Identifier: GPL-2.0-only
//! Why the GPU faulted, and what speaks for it.
//!
//! Three witnesses are heard: the page-table walk (what the tables held shortly after the fault), the VM log (what was done
//! to them before), and the BO list (for a VM_BIND context all VMAs; these change when an ioctl asks, not when the page
//! tables follow). None is complete: old kernels lack the walk or the log, logs wrap, and C's log lacks its newest entry.
//! [`Sure`] says what that leaves.

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
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// Below this a fault is taken for a NULL pointer with a small offset.
const NULL_ZONE: u64 = 64 << 10;
/// An access this far from a mapping is still taken for one that missed it.
const NEAR: u64 = 64 << 10;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The document isn't a GPU's.
    NotGpu,
    /// No page fault: the GPU hung, or was found hung.
    Hang,
    /// The GPU used other page tables than those of the submit that was blamed.
    WrongContext,
    /// No submit was running when the fault was handled.
    NoSubmit,
    /// The address was never mapped.
    NeverMapped,
    /// A pointer that is NULL, plus a small offset.
    NullPointer,
    /// The address was mapped and then unmapped.
    UsedAfterUnmap,
    /// A part of a mapping was removed, and the access hit it.
    PartiallyUnmapped,
    /// A mapping of the address was asked for but not made when the GPU got there.
    BoundTooLate,
    /// The mapping was asked for and failed.
    BindFailed,
    /// The access missed a mapping by a little.
    OutsideBo,
    /// A write to a mapping that the GPU may only read.
    ReadOnly,
    /// An access to a mapping that is the kernel's.
    Privileged,
    /// The tables map the address, and the SMMU faulted all the same.
    StaleTranslation,
    /// The mapping was made and not removed, but isn't in the tables.
    MappingLost,
    /// Mapped as NULL (PRR), but the PRR entry isn't in the tables.
    NullMappingLost,
    /// The memory system refused the access.
    External,
    /// The dump doesn't say enough.
    Undetermined,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 18] = [
        Verdict::NotGpu,
        Verdict::Hang,
        Verdict::WrongContext,
        Verdict::NoSubmit,
        Verdict::NeverMapped,
        Verdict::NullPointer,
        Verdict::UsedAfterUnmap,
        Verdict::PartiallyUnmapped,
        Verdict::BoundTooLate,
        Verdict::BindFailed,
        Verdict::OutsideBo,
        Verdict::ReadOnly,
        Verdict::Privileged,
        Verdict::StaleTranslation,
        Verdict::MappingLost,
        Verdict::NullMappingLost,
        Verdict::External,
        Verdict::Undetermined,
    ];

    /// A few words for it, fit for a file name when spaces become dashes.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::NotGpu => "not a GPU dump",
            Verdict::Hang => "hang without a page fault",
            Verdict::WrongContext => "wrong context blamed",
            Verdict::NoSubmit => "no submit to blame",
            Verdict::NeverMapped => "never mapped",
            Verdict::NullPointer => "NULL pointer",
            Verdict::UsedAfterUnmap => "used after unmap",
            Verdict::PartiallyUnmapped => "partially unmapped",
            Verdict::BoundTooLate => "bound too late",
            Verdict::BindFailed => "bind failed",
            Verdict::OutsideBo => "just outside a BO",
            Verdict::ReadOnly => "write to read-only memory",
            Verdict::Privileged => "access to privileged memory",
            Verdict::StaleTranslation => "mapped but faulted",
            Verdict::MappingLost => "kernel lost the mapping",
            Verdict::NullMappingLost => "NULL mapping without PRR entry",
            Verdict::External => "external abort",
            Verdict::Undetermined => "undetermined",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sure {
    /// The witnesses agree and nothing relevant is missing.
    Certain,
    /// The best explanation of what there is.
    Likely,
    /// One of several.
    Possible,
}

impl fmt::Display for Sure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sure::Certain => "certain",
            Sure::Likely => "likely",
            Sure::Possible => "possible",
        })
    }
}

/// Whose bug it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The application, or the user-space driver in it.
    Application,
    /// The kernel.
    Kernel,
    /// Neither, or the dump doesn't say.
    Unclear,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Whose::Application => "the application's, or its user-space driver's",
            Whose::Kernel => "the kernel's",
            Whose::Unclear => "unclear",
        })
    }
}

/// Something in the dump that speaks for the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The line it is read from, where there is one.
    pub line: Option<u64>,
    /// What it says.
    pub text: String,
}

/// The judgement of one dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What happened, in a word.
    pub verdict: Verdict,
    /// How sure that is.
    pub sure: Sure,
    /// Whose bug.
    pub whose: Whose,
    /// What happened, in a sentence.
    pub happened: String,
    /// What to do about it, in a sentence.
    pub next: String,
    /// What speaks for it.
    pub evidence: Vec<Evidence>,
    /// What else it could be.
    pub otherwise: Vec<String>,
    /// The log entry it hangs on, as an index.
    pub entry: Option<usize>,
    /// The BO it hangs on, as an index.
    pub bo: Option<usize>,
}

impl Finding {
    fn new(verdict: Verdict, sure: Sure, whose: Whose, happened: impl Into<String>) -> Finding {
        Finding {
            verdict,
            sure,
            whose,
            happened: happened.into(),
            next: String::new(),
            evidence: Vec::new(),
            otherwise: Vec::new(),
            entry: None,
            bo: None,
        }
    }

    fn next(mut self, next: impl Into<String>) -> Finding {
        self.next = next.into();
        self
    }

    fn or(mut self, otherwise: impl Into<String>) -> Finding {
        self.otherwise.push(otherwise.into());
        self
    }

    fn entry(mut self, entry: usize) -> Finding {
        self.entry = Some(entry);
        self
    }

    fn bo(mut self, bo: Option<usize>) -> Finding {
        self.bo = bo;
        self
    }
}

/// `1234567` ns as `1.235 ms`.
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.3} s", ns as f64 / 1e9),
    }
}

/// `8192` as `8 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024 && value % 1024 == 0 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    if value >= 10 * 1024 && unit == 0 {
        return format!("{bytes:#x} bytes");
    }
    format!("{value} {}", UNITS[unit])
}

/// `0x100000000–0x100004000`
pub fn range(range: &Range<u64>) -> String {
    format!("{:#x}–{:#x}", range.start, range.end)
}

/// Judges a dump.
pub fn judge(dump: &Dump) -> Finding {
    let Some(fault) = &dump.fault else {
        return without_fault(dump);
    };
    let case = Case::new(dump, fault);
    let mut finding = case.judge();
    let mut evidence = case.evidence();
    evidence.append(&mut finding.evidence);
    finding.evidence = evidence;
    finding
}

fn without_fault(dump: &Dump) -> Finding {
    match dump.kind {
        Kind::Gpu => {}
        Kind::Display => {
            let what = "A display controller's register snapshot: there is no GPU fault in it.";
            return Finding::new(Verdict::NotGpu, Sure::Certain, Whose::Unclear, what)
                .next("Look at the msm display driver's errors in the kernel log.");
        }
        Kind::Unknown => {
            let what =
                "This isn't a dump that drm/msm writes for a GPU, or its beginning is missing.";
            return Finding::new(Verdict::NotGpu, Sure::Likely, Whose::Unclear, what)
                .next("Look at which module made it.");
        }
    }
    let mut stuck = None;
    let mut evidence = Vec::new();
    for ring in &dump.rings {
        let behind = (ring.last_fence as u32).wrapping_sub(ring.retired_fence as u32);
        if behind != 0 {
            stuck.get_or_insert(ring.id);
        }
        evidence.push(Evidence {
            line: None,
            text: format!(
                "ring {}: fence {} of {} done, rptr {} of wptr {}",
                ring.id, ring.retired_fence, ring.last_fence, ring.rptr, ring.wptr
            ),
        });
    }
    let happened = match stuck {
        Some(id) => format!(
            "The GPU made no progress on ring {id}; the SMMU reported no page fault for it."
        ),
        None => "The GPU was taken for hung; the SMMU reported no page fault.".into(),
    };
    let mut finding = Finding::new(Verdict::Hang, Sure::Certain, Whose::Unclear, happened)
        .next("Decode the commands around rptr with Mesa's crashdec.");
    if let Some(status) = dump.rbbm_status {
        evidence.push(Evidence {
            line: None,
            text: format!("rbbm-status {status:#010x}"),
        });
    }
    finding.evidence = evidence;
    finding
}

/// All that bears on one fault.
struct Case<'a> {
    dump: &'a Dump,
    fault: &'a Fault,
    addr: u64,
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
        let log = dump.vm_log.as_ref();
        let order = log.map(space::order).unwrap_or_default();
        let last = log.and_then(|log| {
            let newest_first = order.iter().rev().map(|&i| (i, &log.entries[i]));
            let mut changes = newest_first.filter(|(_, e)| e.op.maps() || e.op.removes());
            changes.find(|(_, e)| e.covers(addr))
        });
        let late = log.and_then(|log| {
            let mut maps = log.entries.iter().enumerate().filter(|(_, e)| e.op.maps());
            maps.find(|(_, e)| e.covers(addr) && e.err.is_none() && !log.in_effect(e))
        });
        let bo = dump
            .bos
            .iter()
            .enumerate()
            .find(|(_, bo)| bo.range().contains(&addr));
        let walk = dump
            .page_table
            .as_ref()
            .filter(|table| table.table() != 0)
            .map(PageTable::walk);
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
        match self.fault.direction {
            Some(direction) => format!("The GPU's {direction} at {:#x}", self.addr),
            None => format!("The GPU's access to {:#x}", self.addr),
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
        if self.fault.in_kernel_half() {
            return self.kernel_half();
        }
        if let Some(table) = &self.dump.page_table {
            if table.table() == 0 {
                let what = format!(
                    "{} was reported when no submit was running, so there is no context to look at.",
                    self.access()
                );
                return Finding::new(Verdict::NoSubmit, Sure::Likely, Whose::Unclear, what).next(
                    "Look for a submit that was retired too early, and at the kernel's own rings.",
                );
            }
            if table.table() != self.fault.table() {
                let what = format!(
                    "The GPU used the tables at {:#x}; the dump blames a context with tables at {:#x}.",
                    self.fault.table(),
                    table.table()
                );
                return Finding::new(Verdict::WrongContext, Sure::Certain, Whose::Unclear, what)
                    .next("Don't trust this dump's task, BOs and VM log: they are another context's. Reproduce with one GPU client.");
            }
        }
        if self.fault.kind == FaultType::Permission {
            if let Some(finding) = self.permission() {
                return finding;
            }
        }
        if self.mapped() == Some(true) {
            self.mapped_but_faulted()
        } else {
            self.not_mapped()
        }
    }

    fn kernel_half(&self) -> Finding {
        let owner = self
            .dump
            .rings
            .iter()
            .find(|ring| (ring.iova..ring.iova.saturating_add(ring.size)).contains(&self.addr))
            .map_or_else(String::new, |ring| format!(", ring {}'s", ring.id));
        let what = format!(
            "{} hit the kernel's half of the address space{owner}.",
            self.access()
        );
        Finding::new(Verdict::Privileged, Sure::Likely, Whose::Application, what)
            .next("Look for a wild pointer in the command stream; its upper bits are set.")
            .or("the kernel's own firmware or preemption data is mapped wrongly")
    }

    fn permission(&self) -> Option<Finding> {
        let write = self.fault.direction == Some(Direction::Write);
        let bo = self.bo.map(|(i, _)| i);
        let place = self.place();
        if let Some(Walk::Mapped(leaf)) = self.walk {
            if write && leaf.read_only() {
                let what = format!(
                    "{} hit {place}, which the GPU may only read.",
                    self.access()
                );
                return Some(
                    Finding::new(Verdict::ReadOnly, Sure::Certain, Whose::Application, what)
                        .next("Allocate the BO without MSM_BO_GPU_READONLY, or don't write to it.")
                        .bo(bo),
                );
            }
            if !leaf.unprivileged() {
                let what = format!(
                    "{} hit {place}, which only the kernel's commands may use.",
                    self.access()
                );
                return Some(
                    Finding::new(Verdict::Privileged, Sure::Certain, Whose::Application, what)
                        .next("Look for a wild pointer in the command stream.")
                        .bo(bo),
                );
            }
            let what = format!(
                "{} was refused, but the tables allow it: the SMMU used an older entry.",
                self.access()
            );
            return Some(
                Finding::new(Verdict::StaleTranslation, Sure::Likely, Whose::Kernel, what)
                    .next("Look for a change of permissions without TLB invalidation.")
                    .bo(bo),
            );
        }
        let flags = self.bo.map_or(0, |(_, bo)| bo.flags);
        if write && flags & BO_GPU_READONLY != 0 {
            let what = format!(
                "{} hit {place}, a BO made read-only for the GPU.",
                self.access()
            );
            return Some(
                Finding::new(Verdict::ReadOnly, Sure::Likely, Whose::Application, what)
                    .next("Allocate the BO without MSM_BO_GPU_READONLY, or don't write to it.")
                    .bo(bo),
            );
        }
        if flags & BO_MAP_PRIV != 0 {
            let what = format!("{} hit {place}, a BO of the kernel's.", self.access());
            return Some(
                Finding::new(Verdict::Privileged, Sure::Likely, Whose::Application, what)
                    .next("Look for a wild pointer in the command stream.")
                    .bo(bo),
            );
        }
        None
    }

    /// The tables map the address now.
    fn mapped_but_faulted(&self) -> Finding {
        let bo = self.bo.map(|(i, _)| i);
        if let Some((index, entry)) = self.late {
            return self.too_late(index, entry, Sure::Certain);
        }
        let stale = |sure| {
            let what = format!(
                "{} faulted although the tables map it: the SMMU used an older translation.",
                self.access()
            );
            Finding::new(Verdict::StaleTranslation, sure, Whose::Kernel, what)
                .next("Look for a missing TLB invalidation, or a table that was not written back to memory.")
                .bo(bo)
        };
        let stale_or_late = |sure| {
            stale(sure).or("the mapping was made between the fault and the dump: bound too late")
        };
        let Some(log) = self.log else {
            return stale_or_late(Sure::Likely);
        };
        let fault_known = log.header.as_ref().is_some_and(|h| h.fault.is_some());
        match self.last {
            Some((index, entry)) if entry.op.maps() && fault_known => {
                let mut finding = stale(Sure::Likely).entry(index);
                if let (Applied::At(at), Some(fault)) = (entry.applied, log.fault_time()) {
                    finding.happened = format!(
                        "{} faulted although the tables had mapped it for {}.",
                        self.access(),
                        duration(fault.saturating_sub(at))
                    );
                }
                finding
            }
            Some((index, entry)) if entry.op.maps() => {
                // C's log has no times: a map with nothing after it may have come after the fault.
                let newest = self.order.last() == Some(&index);
                if newest && self.newest_missing() != Missing::Yes {
                    self.too_late(index, entry, Sure::Possible)
                        .or("it was mapped before the fault: stale TLB")
                } else {
                    stale_or_late(Sure::Likely).entry(index)
                }
            }
            _ if self.newest_missing() != Missing::No => {
                let what = format!(
                    "{} came before its mapping, it seems: the tables map it, the log (which lacks its newest entry) doesn't.",
                    self.access()
                );
                Finding::new(
                    Verdict::BoundTooLate,
                    Sure::Possible,
                    Whose::Application,
                    what,
                )
                .next("Make the submit wait for the bind's out-fence.")
                .or("the mapping is older than the log, and the SMMU used a stale translation")
                .bo(bo)
            }
            Some((index, _)) => stale(Sure::Possible).entry(index),
            None => stale_or_late(Sure::Likely),
        }
    }

    /// The tables don't map the address, or the dump doesn't say.
    fn not_mapped(&self) -> Finding {
        if let Some((index, entry)) = self.late {
            return self.too_late(index, entry, Sure::Certain);
        }
        if let Some(finding) = self.failed() {
            return finding;
        }
        match self.last {
            Some((index, entry)) if entry.op.removes() => self.after_removal(index, entry),
            Some((index, entry)) => self.should_be_mapped(index, entry),
            None if self.bo.is_some() => self.listed_only(),
            None => self.nothing_there(),
        }
    }

    fn failed(&self) -> Option<Finding> {
        let log = self.log?;
        let (index, entry) = log
            .entries
            .iter()
            .enumerate()
            .rev()
            .find(|(_, e)| e.covers(self.addr) && (e.op.maps() || e.op.removes()))?;
        let err = entry.err.filter(|_| entry.op.maps())?;
        let what = format!(
            "{} hit a range whose {} failed with error {err}{}.",
            self.access(),
            entry.op,
            by(entry)
        );
        Some(
            Finding::new(Verdict::BindFailed, Sure::Certain, Whose::Unclear, what)
                .next("See why the bind failed (memory?), and whether the application looked at its result.")
                .entry(index),
        )
    }

    fn too_late(&self, index: usize, entry: &Entry, sure: Sure) -> Finding {
        let fault = self.log.and_then(VmLog::fault_time);
        let when = match (entry.applied, fault) {
            (Applied::NotYet, _) => ", which had not run yet".to_string(),
            (Applied::At(at), Some(fault)) => {
                format!(", which ran {} later", duration(at.saturating_sub(fault)))
            }
            _ => String::new(),
        };
        let what = format!(
            "{} came before the {} of {}{}{when}.",
            self.access(),
            entry.op,
            range(&entry.range()),
            by(entry)
        );
        let whose = if entry.op == Op::Restore {
            Whose::Kernel
        } else {
            Whose::Application
        };
        Finding::new(Verdict::BoundTooLate, sure, whose, what)
            .next("Make the submit wait for the bind's out-fence or syncobj.")
            .entry(index)
    }

    fn after_removal(&self, index: usize, entry: &Entry) -> Finding {
        let listed_again = self.bo.is_some() && matches!(entry.op, Op::Unmap | Op::Replace);
        if listed_again && self.log.is_some_and(|log| log.header.is_none()) {
            let what = format!(
                "{} came before a new mapping reached the tables: the BO is listed there, the log's last word is {}.",
                self.access(),
                entry.op
            );
            return Finding::new(
                Verdict::BoundTooLate,
                Sure::Likely,
                Whose::Application,
                what,
            )
            .next("Make the submit wait for the bind's out-fence or syncobj.")
            .entry(index)
            .bo(self.bo.map(|(i, _)| i));
        }
        let sure = if self.mapped() == Some(false) {
            Sure::Certain
        } else {
            Sure::Likely
        };
        let ago = match (entry.applied, self.log.and_then(VmLog::fault_time)) {
            (Applied::At(at), Some(fault)) => {
                format!(", {} before the fault", duration(fault.saturating_sub(at)))
            }
            _ => String::new(),
        };
        let part = self.log.and_then(|log| {
            space::partially_removed(log, &self.order, index, self.addr)
                .map(|made_by| log.entries[made_by].range())
                .or_else(|| {
                    (entry.flags & crate::vm_log::flags::PARTIAL != 0).then(|| entry.range())
                })
        });
        let name = name_of(entry);
        let verb = match entry.op {
            Op::Evict => "evicted by the kernel's shrinker and not brought back",
            Op::Purge => "purged: the application had marked the BO DONTNEED",
            Op::Close => "removed when its handle or VM was closed",
            Op::Replace => "removed by a MAP over it",
            _ => "unmapped",
        };
        let (whose, next) = match entry.op {
            Op::Evict => (
                Whose::Kernel,
                "Look at how the submit validates evicted BOs.",
            ),
            Op::Purge => (
                Whose::Application,
                "Mark the BO WILLNEED, and look at whether it was retained, before using it.",
            ),
            Op::Close => (
                Whose::Application,
                "Keep the handle and the file open until the GPU is done.",
            ),
            _ => (
                Whose::Application,
                "Make the unmap wait for the last submit that uses the range.",
            ),
        };
        if let (Some(whole), Op::Unmap | Op::Replace) = (part, entry.op) {
            let of = if whole == entry.range() {
                String::new()
            } else {
                format!(" out of {}", range(&whole))
            };
            let what = format!(
                "{} hit {}{name}, cut{of}{}{ago}; the rest is still mapped.",
                self.access(),
                range(&entry.range()),
                by(entry)
            );
            return Finding::new(Verdict::PartiallyUnmapped, sure, whose, what)
                .next("Compare the range of that unmap with what the commands use.")
                .entry(index);
        }
        let what = format!(
            "{} hit {}{name}, {verb}{}{ago}.",
            self.access(),
            range(&entry.range()),
            by(entry)
        );
        Finding::new(Verdict::UsedAfterUnmap, sure, whose, what)
            .next(next)
            .entry(index)
    }

    /// A BO that is mapped, it seems, by the op that C leaves out of its log: no other has mapped it.
    fn unlogged(&self) -> Option<&'a Bo> {
        let log = self.log?;
        let live = Live::replay(log, &self.order);
        (self.newest_missing() == Missing::Yes)
            .then(|| {
                let mut bos = self.dump.bos.iter();
                bos.find(|bo| bo.size > 0 && live.at(bo.iova).is_none())
            })
            .flatten()
    }

    fn should_be_mapped(&self, index: usize, entry: &Entry) -> Finding {
        let bo = self.bo.map(|(i, _)| i);
        let gone = self.bo.is_none() && !self.dump.bos.is_empty();
        if self.newest_missing() != Missing::No && gone && !entry.is_null() {
            let sure = if self.mapped() == Some(false) {
                Sure::Likely
            } else {
                Sure::Possible
            };
            if let Some(bo) = self.unlogged() {
                let what = format!(
                    "{} hit {}, which no BO is listed at, as for NULL mappings; nothing has unmapped it (the op that this kernel leaves out of \
                     its log mapped {}), but the tables don't have it.",
                    self.access(),
                    range(&entry.range()),
                    describe(bo)
                );
                return Finding::new(Verdict::NullMappingLost, sure, Whose::Kernel, what)
                    .next("Report it to the kernel's maintainers with this dump.")
                    .or("used after unmap, if that other BO's mapping wasn't made yet")
                    .entry(index);
            }
            let what = format!(
                "{} hit {}, mapped before and gone now; this kernel leaves the newest op out of its log, so the unmap isn't in it.",
                self.access(),
                range(&entry.range())
            );
            return Finding::new(Verdict::UsedAfterUnmap, sure, Whose::Application, what)
                .next("Make the unmap wait for the last submit that uses the range.")
                .or("the kernel lost the mapping")
                .entry(index);
        }
        let (verdict, what) = if entry.is_null() {
            (Verdict::NullMappingLost, "mapped as NULL")
        } else {
            (Verdict::MappingLost, "mapped")
        };
        let what = format!(
            "{} hit {}{}, {what}{} and not unmapped since, but the tables don't have it.",
            self.access(),
            range(&entry.range()),
            name_of(entry),
            by(entry)
        );
        let sure = match (self.mapped(), self.newest_missing()) {
            (Some(false), Missing::No) => Sure::Certain,
            (Some(false), _) => Sure::Likely,
            _ => Sure::Possible,
        };
        let finding = Finding::new(verdict, sure, Whose::Kernel, what)
            .next("Report it to the kernel's maintainers with this dump.")
            .entry(index)
            .bo(bo);
        match sure {
            Sure::Certain => finding,
            Sure::Likely => {
                finding.or("the newest op, which this kernel's log lacks, evicted or unmapped it")
            }
            Sure::Possible => {
                finding.or("the tables have it, and the SMMU used a stale translation")
            }
        }
    }

    /// A BO is listed there, but no log entry speaks of it.
    fn listed_only(&self) -> Finding {
        let bo = self.bo.map(|(i, _)| i);
        let what = format!(
            "{} hit {}, which is not in the tables.",
            self.access(),
            self.place()
        );
        let late = |sure| {
            let what = format!(
                "{} hit {}; it has been asked for, but is not in the tables yet.",
                self.access(),
                self.place()
            );
            Finding::new(Verdict::BoundTooLate, sure, Whose::Application, what)
                .next("Make the submit wait for the bind's out-fence or syncobj.")
                .bo(bo)
        };
        match self.log {
            None => late(Sure::Possible)
                .or("the kernel lost the mapping (certain, if this context doesn't use VM_BIND)")
                .next("Load msm with vm_log_shift=8 and reproduce: the log tells which."),
            Some(log) if log.header.is_none() => match self.older_missing() {
                Missing::No => late(Sure::Likely),
                _ => late(Sure::Possible)
                    .or("the mapping is older than the log, and the kernel lost it"),
            },
            Some(log) => {
                let sure = match log.older_missing() {
                    Missing::No => Sure::Likely,
                    _ => Sure::Possible,
                };
                Finding::new(Verdict::MappingLost, sure, Whose::Kernel, what)
                    .next("Report it to the kernel's maintainers with this dump.")
                    .bo(bo)
            }
        }
    }

    fn nothing_there(&self) -> Finding {
        if self.log.is_none() && self.dump.bos.is_empty() && self.mapped().is_none() {
            let what = format!(
                "{} faulted; the dump has neither log, nor BOs, nor tables.",
                self.access()
            );
            return Finding::new(Verdict::Undetermined, Sure::Certain, Whose::Unclear, what)
                .next("Use a kernel from 6.13 on, load msm with vm_log_shift=8, and reproduce.");
        }
        let (sure, otherwise) = match (self.log, self.older_missing()) {
            (None, _) => (
                Sure::Possible,
                Some("it was mapped and unmapped: load msm with vm_log_shift=8 to know"),
            ),
            (_, Missing::No) => (Sure::Certain, None),
            (_, Missing::Maybe) => (
                Sure::Likely,
                Some("it was mapped and unmapped before the log begins"),
            ),
            (_, Missing::Yes) => (
                Sure::Possible,
                Some("it was mapped and unmapped before the log begins"),
            ),
        };
        let with = |finding: Finding| match otherwise {
            Some(text) => finding.or(text),
            None => finding,
        };
        if self.addr < NULL_ZONE {
            let what = format!(
                "{} is a NULL pointer, plus {:#x}.",
                self.access(),
                self.addr
            );
            return Finding::new(Verdict::NullPointer, Sure::Likely, Whose::Application, what)
                .next("Look for a descriptor or base register that was never written.");
        }
        if let Some(near) = self.near() {
            let side = if near.after {
                "after the end"
            } else {
                "before the start"
            };
            let what = format!(
                "{} is {} {side} of {}, {}.",
                self.access(),
                size(near.distance),
                near.what,
                range(&near.range)
            );
            let sure = match sure {
                Sure::Certain | Sure::Likely => Sure::Likely,
                Sure::Possible => Sure::Possible,
            };
            let mut finding = with(
                Finding::new(Verdict::OutsideBo, sure, Whose::Application, what)
                    .next("Check the size and the offsets that the commands use for it."),
            );
            finding.entry = near.entry;
            finding.bo = near.bo;
            return finding;
        }
        let what = format!(
            "{} hit an address that nothing was mapped to.",
            self.access()
        );
        with(
            Finding::new(Verdict::NeverMapped, sure, Whose::Application, what)
                .next("Look for an uninitialised or stale pointer in the command stream."),
        )
    }

    /// The nearest mapping within [`NEAR`].
    fn near(&self) -> Option<Near> {
        let mut all: Vec<Near> = Vec::new();
        let mut consider = |range: Range<u64>, what: String, entry, bo| {
            let (distance, after) = if range.end <= self.addr {
                (self.addr - range.end, true)
            } else if range.start > self.addr {
                (range.start - self.addr, false)
            } else {
                return;
            };
            if distance < NEAR {
                all.push(Near {
                    distance,
                    after,
                    range,
                    what,
                    entry,
                    bo,
                });
            }
        };
        for (index, bo) in self.dump.bos.iter().enumerate() {
            if bo.size > 0 {
                consider(bo.range(), describe(bo), None, Some(index));
            }
        }
        if let Some(log) = self.log {
            for (range, index) in Live::replay(log, &self.order).iter() {
                let what = format!("a mapping{}", name_of(&log.entries[index]));
                consider(range, what, Some(index), None);
            }
        }
        // BOs come first: where both know the mapping, the BO list has the name on every kernel.
        all.into_iter()
            .min_by_key(|near| (near.distance, !near.after))
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

    fn evidence(&self) -> Vec<Evidence> {
        let mut out = Vec::new();
        let mut say = |line: Option<u64>, text: String| out.push(Evidence { line, text });
        let section = |name: &str| {
            self.dump
                .sections
                .iter()
                .find(|s| &*s.name == name)
                .map(|s| s.line)
        };
        if let Some(table) = &self.dump.page_table {
            let line = section("pgtable-fault-info");
            if table.table() != 0 {
                let same = if table.table() == self.fault.table() {
                    "the tables the GPU used are the blamed context's"
                } else {
                    "the tables the GPU used are not the blamed context's"
                };
                say(
                    line,
                    format!(
                        "{same} (ttbr0 {:#x}, {:#x})",
                        self.fault.table(),
                        table.table()
                    ),
                );
            }
            match self.walk {
                Some(Walk::Mapped(leaf)) => say(
                    line,
                    format!(
                        "tables: a {} page at {:#x}, {}{}, entry {:#x}",
                        size(leaf.size()),
                        leaf.address(),
                        if leaf.read_only() {
                            "read-only"
                        } else {
                            "writable"
                        },
                        if leaf.unprivileged() {
                            ""
                        } else {
                            ", privileged"
                        },
                        leaf.pte
                    ),
                ),
                Some(Walk::Unmapped { level }) => {
                    say(line, format!("tables: no entry at level {level}"))
                }
                Some(Walk::Nothing) => say(line, "tables: no entry at the first level".into()),
                Some(Walk::Malformed { pte }) => {
                    say(line, format!("tables: malformed entry {pte:#x}"))
                }
                None => {}
            }
        } else {
            say(None, "this kernel doesn't dump page tables".into());
        }
        if let Some((_, bo)) = self.bo {
            say(
                Some(bo.line),
                format!("BO list: {} at {}", describe(bo), range(&bo.range())),
            );
        } else if !self.dump.bos.is_empty() {
            say(
                section("bos"),
                format!("BO list: none of {} is there", self.dump.bos.len()),
            );
        }
        match self.log {
            None => say(
                None,
                "no VM log: msm was loaded with vm_log_shift=0, or the context doesn't use VM_BIND"
                    .into(),
            ),
            Some(log) => {
                const SHOWN: usize = 8;
                let covering: Vec<_> = log.entries.iter().filter(|e| e.covers(self.addr)).collect();
                let hidden = covering.len().saturating_sub(SHOWN);
                if hidden > 0 {
                    say(
                        None,
                        format!("VM log: {hidden} older entries cover the address"),
                    );
                }
                for entry in covering.iter().skip(hidden) {
                    say(Some(entry.line), format!("VM log: {}", logged(log, entry)));
                }
                if covering.is_empty() {
                    let n = log.entries.len();
                    say(
                        section("vm-log"),
                        format!("VM log: none of {n} entries covers the address"),
                    );
                }
                if let Some(lost) = log.header.as_ref().and_then(|h| h.lost).filter(|&n| n > 0) {
                    say(
                        section("vm-log"),
                        format!("VM log: {lost} older entries are lost"),
                    );
                }
                if log.header.is_none() {
                    match (log.older_missing(), log.newest_missing()) {
                        (Missing::Maybe, _) => say(
                            section("vm-log"),
                            "VM log: either older entries or the newest one is missing (stock kernel)".into(),
                        ),
                        (_, Missing::Yes) => say(
                            section("vm-log"),
                            "VM log: its newest entry is missing (stock kernel)".into(),
                        ),
                        (Missing::Yes, _) => say(section("vm-log"), "VM log: older entries are missing".into()),
                        _ => {}
                    }
                }
            }
        }
        if let Some(cut) = self.dump.cut {
            say(
                None,
                format!("the dump is cut ({cut:?}): what follows is missing"),
            );
        }
        out
    }
}

struct Near {
    distance: u64,
    after: bool,
    range: Range<u64>,
    what: String,
    entry: Option<usize>,
    bo: Option<usize>,
}

fn describe(bo: &Bo) -> String {
    match &bo.name {
        Some(name) => format!("BO \"{name}\" ({})", size(bo.size)),
        None => format!("a BO of {}", size(bo.size)),
    }
}

fn name_of(entry: &Entry) -> String {
    match (&entry.name, entry.handle) {
        (Some(name), _) => format!(" of BO \"{name}\""),
        (None, Some(handle)) => format!(" of the BO with handle {handle}"),
        (None, None) => String::new(),
    }
}

/// By whom an op was asked for.
fn by(entry: &Entry) -> String {
    let mut out = match entry.queue {
        0 => String::new(),
        queue => format!(" by queue {queue}"),
    };
    if let Some(job) = entry.job {
        out += &format!(", job {job}");
    }
    out
}

/// One log line for people.
fn logged(log: &VmLog, entry: &Entry) -> String {
    let mut out = format!(
        "{} {}{}{}",
        entry.op,
        range(&entry.range()),
        name_of(entry),
        by(entry)
    );
    if let (Some(fault), Some(asked)) = (log.fault_time(), entry.asked) {
        out += &format!(", asked {} of the fault", ahead(asked, fault));
        match entry.applied {
            Applied::At(at) => out += &format!(", applied {}", ahead(at, fault)),
            Applied::NotYet => out += ", not applied",
            Applied::Yes => {}
        }
    }
    if let Some(err) = entry.err {
        out += &format!(", failed with {err}");
    }
    out
}

fn ahead(at: u64, fault: u64) -> String {
    if at <= fault {
        format!("{} ahead", duration(fault - at))
    } else {
        format!("{} behind", duration(at - fault))
    }
}
