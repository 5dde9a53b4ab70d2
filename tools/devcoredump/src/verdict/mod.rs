// SPDX-License-Identifier: GPL-2.0-only
//! Why the GPU faulted or hung, and what speaks for it.

mod doubt;
mod ends;
mod fault;
mod hang;
mod kernel_log;
mod series;
mod text;
mod unreadable;

pub use kernel_log::{
    judge_log,
    MORE, //
};
pub use series::Series;
pub use text::{
    duration,
    log_subject,
    place,
    range,
    relative,
    size,
    subject,
    submitted,
    waited, //
};

use crate::contents::Contents;
use crate::dump::Dump;
use serde::Serialize;
use std::fmt;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The document isn't a GPU's.
    NotGpu,
    /// No page fault: the GPU hung, or was found hung, and the dump doesn't say why.
    Hang,
    /// It hung without power.
    PoweredOff,
    /// It hung for want of firmware.
    NoFirmware,
    /// It has not begun to read the ring.
    NotStarted,
    /// The CP met what is no packet, or one that it mustn't execute.
    BadPacket,
    /// The CP was sent to a command buffer that isn't in any BO.
    WildBuffer,
    /// The CP waits for a register or for memory.
    Waits,
    /// Units are busy with work that doesn't end.
    Unfinished,
    /// The GPU's registers could not be read: it was off, or cut from the bus.
    Unreadable,
    /// It came shortly after another dump.
    Consequence,
    /// The kernel's own access, on behalf of no context.
    KernelsOwn,
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
    pub const ALL: [Verdict; 28] = [
        Verdict::NotGpu,
        Verdict::Hang,
        Verdict::PoweredOff,
        Verdict::NoFirmware,
        Verdict::NotStarted,
        Verdict::BadPacket,
        Verdict::WildBuffer,
        Verdict::Waits,
        Verdict::Unfinished,
        Verdict::Unreadable,
        Verdict::Consequence,
        Verdict::KernelsOwn,
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

    /// Whether it is an answer: there was a GPU's dump or log, and it said why.
    pub fn says_enough(self) -> bool {
        !matches!(self, Verdict::NotGpu | Verdict::Undetermined)
    }

    /// A few words for it, fit for a file name when spaces become dashes.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::NotGpu => "not a GPU dump",
            Verdict::Hang => "hang without a page fault",
            Verdict::PoweredOff => "GPU powered off",
            Verdict::NoFirmware => "no firmware",
            Verdict::NotStarted => "ring never started",
            Verdict::BadPacket => "malformed packet",
            Verdict::WildBuffer => "command buffer outside any BO",
            Verdict::Waits => "wait that doesn't end",
            Verdict::Unfinished => "draw or dispatch that doesn't end",
            Verdict::Unreadable => "registers unreadable",
            Verdict::Consequence => "consequence of another fault",
            Verdict::KernelsOwn => "the kernel's own access",
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
    /// It would be certain, if the dump were alone in its file.
    #[serde(skip)]
    certain_alone: bool,
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
            certain_alone: false,
        }
    }

    /// How sure the verdict is; `None` where there is nothing to be sure of.
    pub fn sureness(&self) -> Option<Sure> {
        (self.verdict != Verdict::Undetermined).then_some(self.sure)
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

/// Judges a dump by itself; see [`Series`] for one of several. `contents` are what was kept when
/// the dump was read, or nothing.
pub fn judge(dump: &Dump, contents: &Contents) -> Finding {
    let finding = match &dump.fault {
        Some(fault) => fault::judge(dump, fault),
        None => hang::judge(dump, contents),
    };
    match finding.verdict {
        Verdict::NotGpu => finding,
        _ => {
            let finding = unreadable::instead_of(ends::instead_of(finding, dump), dump);
            doubt::no_surer(finding, dump)
        }
    }
}
