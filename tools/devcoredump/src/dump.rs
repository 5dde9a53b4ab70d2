// SPDX-License-Identifier: GPL-2.0-only
//! What a dump says, as the kernel printed it. Binary blocks are described, not held.

use crate::pte::Walk;
use crate::vm_log::VmLog;
use serde::{
    Serialize,
    Serializer, //
};
use std::fmt;
use std::ops::Range;
use thiserror::Error;

/// How many BOs are kept.
pub const MAX_BOS: usize = 64 * 1024;
/// How many registers are kept.
pub const MAX_REGISTERS: usize = 256 * 1024;
/// How many blocks, sections and problems are kept, each.
pub const MAX_ITEMS: usize = 8 * 1024;

/// Serializes an address or a mask as a hexadecimal string: JSON's numbers don't hold 64 bits
/// everywhere.
pub(crate) fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

fn hex_or_none<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn hex_list<S: Serializer>(values: &Option<[u64; 4]>, serializer: S) -> Result<S::Ok, S::Error> {
    match values {
        Some(values) => serializer.collect_seq(values.iter().map(|value| format!("{value:#x}"))),
        None => serializer.serialize_none(),
    }
}

/// What made a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// msm, for the GPU.
    Gpu,
    /// msm, for a display controller: a register snapshot.
    Display,
    /// Something else, or nothing that says what.
    #[default]
    Unknown,
}

/// Wall-clock time, as seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Time {
    /// Seconds.
    pub sec: u64,
    /// Nanoseconds.
    pub nsec: u32,
}

/// Which GPU it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Revision {
    /// The old decimal number such as 630; 0 for GPUs that have none.
    pub number: u32,
    /// Core, major, minor, patch.
    pub chip: [u8; 4],
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [core, major, minor, patch] = self.chip;
        match self.number {
            0 => write!(f, "Adreno {core}.{major}.{minor}.{patch}"),
            number => write!(f, "Adreno {number} ({core}.{major}.{minor}.{patch})"),
        }
    }
}

/// Whether the GPU read or wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Direction {
    /// It read.
    Read,
    /// It wrote.
    Write,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Read => "read",
            Direction::Write => "write",
        })
    }
}

/// What the SMMU called the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FaultType {
    /// No valid entry for the address.
    Translation,
    /// An entry, but not for this kind of access.
    Permission,
    /// The memory system refused.
    External,
    /// Anything else.
    Unknown,
}

/// The `fault-info` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The SMMU's TTBR0 when it faulted: table address, and in the upper 16 bits the ASID. `None`
    /// where the dump doesn't say.
    #[serde(serialize_with = "hex_or_none")]
    pub ttbr0: Option<u64>,
    /// The address, as printed (addresses of the upper half may be sign-extended). `None` where the
    /// dump doesn't say.
    #[serde(serialize_with = "hex_or_none")]
    pub iova: Option<u64>,
    /// Read or write, where the dump says so.
    pub direction: Option<Direction>,
    /// The SMMU's word.
    #[serde(rename = "type")]
    pub kind: FaultType,
    /// The unit of the GPU that made the access.
    pub source: Option<Box<str>>,
}

/// The address bits that page tables translate; those above repeat bit 48.
const ADDRESS_BITS: u64 = (1 << 49) - 1;
/// The bits of TTBR0 that hold the table's address.
const TTBR_ADDRESS: u64 = 0x0000_ffff_ffff_fffe;

impl Fault {
    /// The address without sign extension, the form in which all other sections print addresses.
    pub fn address(&self) -> Option<u64> {
        Some(self.iova? & ADDRESS_BITS)
    }

    /// The address belongs to the kernel's half of the GPU's address space (TTBR1).
    pub fn in_kernel_half(&self) -> bool {
        self.address().is_some_and(|address| address >> 48 != 0)
    }

    /// The table's address in TTBR0; 0: the GPU had no context's tables, only the kernel's in
    /// TTBR1.
    pub fn table(&self) -> Option<u64> {
        Some(self.ttbr0? & TTBR_ADDRESS)
    }
}

/// The `pgtable-fault-info` section: the tables of the context that the kernel took for the current
/// one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PageTable {
    /// Its tables' address; 0 when the kernel found no submit to blame, `None` where the dump
    /// doesn't say.
    #[serde(serialize_with = "hex_or_none")]
    pub ttbr0: Option<u64>,
    /// Its ASID.
    pub asid: i64,
    /// The entries found on the way to the address, if the dump says them.
    #[serde(serialize_with = "hex_list")]
    pub ptes: Option<[u64; 4]>,
}

impl PageTable {
    /// The table's address.
    pub fn table(&self) -> Option<u64> {
        Some(self.ttbr0? & TTBR_ADDRESS)
    }

    /// Where the walk ended, if that is known.
    pub fn walk(&self) -> Option<Walk> {
        self.ptes.map(Walk::new)
    }
}

/// A block of binary data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Block {
    /// Its number in the document, from 0.
    pub index: u64,
    /// The section it stands in.
    pub section: Box<str>,
    /// What it holds, within the section.
    pub label: Box<str>,
    /// The line of its text.
    pub line: u64,
    /// Length of its text in the dump.
    pub encoded: u64,
}

/// One ring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ring {
    /// Its number; lower is more urgent.
    pub id: u64,
    /// Where the GPU sees it.
    #[serde(serialize_with = "hex")]
    pub iova: u64,
    /// Fence of the last submit that was queued.
    pub last_fence: u64,
    /// Fence of the last submit that was completed.
    pub retired_fence: u64,
    /// The GPU's position, in words.
    pub rptr: u64,
    /// The driver's position, in words.
    pub wptr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its content: [`Block::index`].
    pub block: Option<u64>,
}

/// One buffer object, or for VM_BIND contexts one mapping of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Bo {
    /// The line it begins in.
    pub line: u64,
    /// Its address.
    #[serde(serialize_with = "hex")]
    pub iova: u64,
    /// How many bytes of it are mapped there.
    pub size: u64,
    /// MSM_BO_*. Older kernels don't print them.
    pub flags: Option<u32>,
    /// Its name.
    pub name: Option<Box<str>>,
    /// Its content: [`Block::index`].
    pub block: Option<u64>,
    /// Why its content isn't here, though it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absent>,
}

/// Why the content of a mapping isn't in the dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absent {
    /// It is that of another mapping, at this address.
    At(#[serde(serialize_with = "hex")] u64),
    /// It was left out, for this reason.
    Omitted(Box<str>),
}

/// MSM_BO_GPU_READONLY (include/uapi/drm/msm_drm.h).
pub const BO_GPU_READONLY: u32 = 0x0000_0002;
/// MSM_BO_MAP_PRIV, kernel-internal (drivers/gpu/drm/msm/msm_gem.h).
pub const BO_MAP_PRIV: u32 = 0x2000_0000;

impl Bo {
    /// The addresses it has.
    pub fn range(&self) -> Range<u64> {
        self.iova..self.iova.saturating_add(self.size)
    }
}

/// A register's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Register {
    /// Byte offset in the GPU's (or GMU's) registers.
    pub offset: u32,
    /// Value.
    pub value: u32,
}

/// One section of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// Its name.
    pub name: Box<str>,
    /// The line of its name.
    pub line: u64,
    /// How many lines belong to it, with its name.
    pub lines: u64,
}

/// A line that can't be read: which field, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field}: {what}")]
pub struct FieldError {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

impl FieldError {
    /// An error of `field`.
    pub const fn new(field: &'static str, what: &'static str) -> FieldError {
        FieldError { field, what }
    }
}

/// Something in a dump that shouldn't be there, or isn't there and should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    pub line: u64,
    /// The field's name.
    pub field: Box<str>,
    /// What is wrong with it.
    pub what: Box<str>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.field, self.what)
    }
}

/// Where and how a dump was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// In the middle of a line.
    InLine,
    /// In a block of data.
    InData,
    /// The VM log has fewer entries than it announces.
    InVmLog,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cut::InLine => "in the middle of a line",
            Cut::InData => "in a block of data",
            Cut::InVmLog => "in the VM log, which has fewer entries than it announces",
        })
    }
}

/// Why lines of a dump may not be the kernel's. It prints names and command lines as tasks have set
/// them, with line ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// The text has several documents: a name may hold whole ones.
    Several,
    /// The kernel never prints this line there.
    Line {
        /// Which.
        line: u64,
        /// What is wrong with it.
        what: Box<str>,
    },
}

/// One document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dump {
    /// Its number in the file, from 0.
    pub index: u64,
    /// The line it begins in.
    pub line: u64,
    /// What made it.
    pub kind: Kind,
    /// Kernel release.
    pub kernel: Option<Box<str>>,
    /// Kernel module.
    pub module: Option<Box<str>>,
    /// When.
    pub time: Option<Time>,
    /// Name of the task whose submit was running.
    pub comm: Option<Box<str>>,
    /// Its command line.
    pub cmdline: Option<Box<str>>,
    /// Which GPU.
    pub revision: Option<Revision>,
    /// Whether the kernel could talk to the GPU (a6xx on).
    pub initialized: Option<bool>,
    /// Busy units.
    pub rbbm_status: Option<u64>,
    /// The page fault, if that is what the dump is about.
    pub fault: Option<Fault>,
    /// What the page tables said.
    pub page_table: Option<PageTable>,
    /// Page-table changes.
    pub vm_log: Option<VmLog>,
    /// Rings.
    pub rings: Vec<Ring>,
    /// BOs: of the submit, or for a VM_BIND context all mappings of the VM.
    pub bos: Vec<Bo>,
    /// Why the kernel left that list out.
    pub bos_omitted: Option<Box<str>>,
    /// GPU registers (section `registers`).
    pub registers: Vec<Register>,
    /// GMU registers (section `registers-gmu`).
    pub gmu_registers: Vec<Register>,
    /// Binary blocks.
    pub blocks: Vec<Block>,
    /// Sections, in order.
    pub sections: Vec<Section>,
    /// Where it was cut, if it visibly was.
    pub cut: Option<Cut>,
    /// Why lines of it may not be the kernel's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// What is malformed.
    pub problems: Vec<Problem>,
    /// How many items of any kind were beyond the limits and not kept.
    pub ignored: u64,
}

impl Dump {
    /// Remembers a problem.
    pub(crate) fn problem(&mut self, line: u64, field: &str, what: impl fmt::Display) {
        if self.problems.len() < MAX_ITEMS {
            self.problems.push(Problem {
                line,
                field: field.into(),
                what: what.to_string().into(),
            });
        } else {
            self.ignored += 1;
        }
    }

    /// Adds to a list that mustn't grow beyond `max`.
    pub(crate) fn keep<T>(list: &mut Vec<T>, max: usize, ignored: &mut u64, item: T) -> bool {
        let room = list.len() < max;
        if room {
            list.push(item);
        } else {
            *ignored += 1;
        }
        room
    }

    /// The first section of that name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| &*section.name == name)
    }

    /// The data block of that number.
    pub fn block(&self, index: u64) -> Option<&Block> {
        self.blocks.iter().find(|block| block.index == index)
    }
}
