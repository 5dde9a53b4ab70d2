// SPDX-License-Identifier: GPL-2.0-only

//! The VM log: what was done to a VM's page tables, for the devcoredump.
//!
//! `Documentation/devcoredump.rst` defines the printed form. An entry is written when a change is
//! asked for and gets its time of application when the page tables have changed and the TLB has
//! been invalidated.

use core::ffi::CStr;

use kernel::{
    alloc::KVVec,
    fmt,
    prelude::*, //
};

use crate::{
    ffi::{
        self,
        bo::NAME_LEN,
        submit::Sent, //
    },
    gpuvm_rs::{
        from_result,
        vm::VaRange, //
    },
    pure::log_ring::LogRing, //
};

/// The largest `vm_log_shift`; bounds what userspace can make the kernel keep.
const MAX_SHIFT: u32 = 8;

/// What was done to the page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogOp {
    /// Written for VM_BIND MAP.
    Map,
    /// Written for VM_BIND MAP_NULL.
    MapNull,
    /// Removed for VM_BIND UNMAP.
    Unmap,
    /// Removed since a MAP of the same job covers it.
    Replace,
    /// Untouched: a MAP only changed the flags.
    Keep,
    /// Written again for a submit, after an eviction.
    Restore,
    /// Removed by the shrinker; the content is kept.
    Evict,
    /// Removed by the shrinker; the content is lost.
    Purge,
    /// Removed since the BO or the VM was closed.
    Close,
}

impl LogOp {
    /// The word for it, in the log and in traces.
    pub(super) fn name(self) -> &'static CStr {
        match self {
            Self::Map => c"map",
            Self::MapNull => c"map_null",
            Self::Unmap => c"unmap",
            Self::Replace => c"replace",
            Self::Keep => c"keep",
            Self::Restore => c"restore",
            Self::Evict => c"evict",
            Self::Purge => c"purge",
            Self::Close => c"close",
        }
    }
}

/// The mapping carries `MSM_VM_BIND_OP_DUMP`.
pub(crate) const DUMP: u8 = 0x01;
/// A part of the VMA stays mapped.
pub(crate) const PARTIAL: u8 = 0x02;
/// The GPU may not write.
pub(crate) const READONLY: u8 = 0x04;
/// The VMA is a MAP_NULL one.
pub(crate) const NULL: u8 = 0x10;

/// One change. Times are `CLOCK_MONOTONIC`, in ns.
#[derive(Clone)]
pub(crate) struct LogEntry {
    pub(crate) range: (u64, u64),
    pub(crate) offset: u64,
    pub(crate) asked: u64,
    /// 0: not yet.
    pub(crate) applied: u64,
    /// Sequence number of the bind job; 0 for none.
    pub(crate) job: u32,
    /// GEM handle; 0 for none.
    pub(crate) handle: u32,
    /// Submitqueue; 0 for none.
    pub(crate) queue: i32,
    /// Who asked; 0 for a kernel thread.
    pub(crate) pid: i32,
    /// Negative errno, if it failed.
    pub(crate) err: i32,
    pub(crate) op: LogOp,
    pub(crate) flags: u8,
    pub(crate) name: [u8; NAME_LEN],
}

impl LogEntry {
    /// A change of `range` that is asked for now, by the current process and by no job.
    pub(crate) fn new(op: LogOp, range: VaRange) -> Self {
        Self {
            range: (range.addr(), range.end()),
            offset: 0,
            asked: ffi::now_ns(),
            applied: 0,
            job: 0,
            handle: 0,
            queue: 0,
            pid: ffi::current_tgid(),
            err: 0,
            op,
            flags: 0,
            name: [0; NAME_LEN],
        }
    }
}

/// The bytes of a name up to the first NUL, with what isn't plain text replaced.
struct Name<'a>(&'a [u8]);

impl core::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use core::fmt::Write;

        for &byte in self.0.iter().take_while(|&&b| b != 0) {
            let c = match byte {
                b'"' => '?',
                0x20..=0x7e => byte as char,
                _ => '?',
            };
            f.write_char(c)?;
        }
        Ok(())
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  - {}:{}: 0x{:016x}-0x{:016x} asked={} applied=",
            Name(self.op.name().to_bytes()),
            self.queue,
            self.range.0,
            self.range.1,
            self.asked,
        )?;
        match self.applied {
            0 => write!(f, "-")?,
            at => write!(f, "{at}")?,
        }
        if self.err != 0 {
            write!(f, " err={}", self.err)?;
        }
        if self.job != 0 {
            write!(f, " job={}", self.job)?;
        }
        if self.pid != 0 {
            write!(f, " pid={}", self.pid)?;
        }
        if self.handle != 0 {
            write!(f, " handle={} off={:#x}", self.handle, self.offset)?;
        }
        write!(f, " flags={:#x}", self.flags)?;
        if self.name[0] != 0 {
            write!(f, " name=\"{}\"", Name(&self.name))?;
        }
        Ok(())
    }
}

/// The entries' memory.
struct Slots(KVVec<LogEntry>);

impl AsRef<[LogEntry]> for Slots {
    fn as_ref(&self) -> &[LogEntry] {
        &self.0
    }
}

impl AsMut<[LogEntry]> for Slots {
    fn as_mut(&mut self) -> &mut [LogEntry] {
        &mut self.0
    }
}

/// The log of a VM: a ring that is allocated with the VM. Guarded by the page tables' lock.
pub(crate) struct VmLog {
    ring: LogRing<LogEntry, Slots>,
}

impl VmLog {
    /// A log of 2^`shift` entries, 256 at most; none if `shift` is 0.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(shift: u32) -> Result<Self> {
        let len = match shift.min(MAX_SHIFT) {
            0 => 0,
            shift => 1 << shift,
        };
        let blank = LogEntry::new(LogOp::Keep, VaRange::new(0, 1).ok_or(EINVAL)?);
        Ok(Self {
            ring: LogRing::new(Slots(KVVec::from_elem(blank, len, GFP_KERNEL)?)),
        })
    }

    /// Writes an entry. Returns its number, for [`Self::applied`].
    pub(crate) fn push(&mut self, entry: LogEntry) -> u64 {
        self.ring.push(entry)
    }

    /// The number that the next entry gets.
    pub(crate) fn next(&self) -> u64 {
        self.ring.next()
    }

    /// Entry `number`, if it is still there.
    pub(crate) fn entry(&mut self, number: u64) -> Option<&mut LogEntry> {
        self.ring.get_mut(number)
    }

    /// Completes entry `number`, if it is still there: with how it went to write mappings, or to
    /// remove them, whichever it is about.
    pub(crate) fn applied(&mut self, number: u64, at: u64, written: Result, removed: Result) {
        if let Some(entry) = self.entry(number) {
            entry.applied = at;
            entry.err = from_result(match entry.op {
                LogOp::Map | LogOp::MapNull | LogOp::Restore => written,
                _ => removed,
            });
        }
    }

    /// Whether entries are kept at all.
    pub(crate) fn enabled(&self) -> bool {
        self.ring.capacity() != 0
    }

    /// Copies the log into `copy`, as far as its room goes.
    pub(crate) fn copy_to(&self, copy: &mut Capture) {
        copy.now = ffi::now_ns();
        copy.lost = self.ring.lost();
        for entry in self.ring.iter() {
            if copy.entries.push_within_capacity(entry.clone()).is_err() {
                break;
            }
        }
    }

    /// Prints the log to the kernel's.
    pub(crate) fn print(&self) {
        if self.ring.is_empty() {
            return;
        }
        pr_err!("vm-log:\n");
        for entry in self.ring.iter() {
            pr_err!("{}\n", entry);
        }
    }
}

/// A copy of a VM log for a devcoredump.
pub(crate) struct Capture {
    entries: KVVec<LogEntry>,
    /// When the GPU faulted; 0 for a hang.
    fault: u64,
    /// The submit that is blamed.
    sent: Sent,
    now: u64,
    lost: u64,
}

impl Capture {
    /// Room for the longest log, for a fault of a submit at `fault` (0: there was none).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(fault: u64, sent: Sent) -> Result<Self> {
        Ok(Self {
            entries: KVVec::with_capacity(1 << MAX_SHIFT, GFP_KERNEL)?,
            fault,
            sent,
            now: 0,
            lost: 0,
        })
    }

    /// Whether there is nothing to print.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Prints the section, bit by bit.
    pub(crate) fn print(&self, mut out: impl FnMut(fmt::Arguments<'_>)) {
        out(fmt!("vm-log:\n"));
        out(fmt!("  # format=1 now={}", self.now));
        if self.fault != 0 {
            out(fmt!(" fault={}", self.fault));
        }
        out(fmt!(" entries={} lost={}\n", self.entries.len(), self.lost));
        out(fmt!("  # submit {}\n", self.sent));
        for entry in self.entries.iter() {
            out(fmt!("{}\n", entry));
        }
    }
}
