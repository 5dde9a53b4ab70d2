// SPDX-License-Identifier: GPL-2.0-only
//! Dumps without a page fault: where the CP was, and why it didn't go on.
//!
//! This ends in the position and the reason. What the commands before it set up is for crashdec to
//! show.

mod evidence;
mod start;
mod stream;

use super::{
    ends,
    Evidence,
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use crate::contents::Contents;
use crate::cp::{
    pending,
    position::{
        self,
        Positions, //
    },
    Registers, //
};
use crate::dump::{
    Dump,
    Kind, //
};

/// All that bears on one hang.
struct Case<'a> {
    dump: &'a Dump,
    contents: &'a Contents,
    /// `None`: this tool doesn't know that GPU's.
    registers: Option<Registers<'a>>,
    positions: Positions,
}

/// Judges a dump without a page fault.
pub(super) fn judge(dump: &Dump, contents: &Contents) -> Finding {
    if let Some(finding) = no_gpu(dump) {
        return finding;
    }
    let registers = Registers::new(dump);
    let case = Case {
        dump,
        contents,
        registers,
        positions: registers.map_or_else(Positions::default, |registers| {
            position::locate(registers, dump, contents)
        }),
    };
    let mut finding = case.judge();
    finding.evidence = case.evidence();
    finding
}

fn no_gpu(dump: &Dump) -> Option<Finding> {
    match dump.kind {
        Kind::Gpu => None,
        Kind::Display => {
            let what = "A display controller's register snapshot: there is no GPU fault in it.";
            Some(
                Finding::new(Verdict::NotGpu, Sure::Certain, Whose::Unclear, what)
                    .next("Look at the msm display driver's errors in the kernel log."),
            )
        }
        Kind::Unknown => {
            let what =
                "This isn't a dump that drm/msm writes for a GPU, or its beginning is missing.";
            Some(
                Finding::new(Verdict::NotGpu, Sure::Likely, Whose::Unclear, what)
                    .next("Look at which module made it."),
            )
        }
    }
}

impl Case<'_> {
    fn judge(&self) -> Finding {
        self.never_ran()
            .or_else(|| self.stream())
            .unwrap_or_else(|| self.unknown())
    }

    fn unknown(&self) -> Finding {
        let stuck = self.dump.rings.iter().find(|ring| pending(ring) > 0);
        let mut what = match stuck {
            Some(ring) => format!(
                "The GPU made no progress on ring {}; the SMMU reported no page fault for it.",
                ring.id
            ),
            None => "The GPU was taken for hung; the SMMU reported no page fault.".into(),
        };
        let mut next = "Decode the commands around the position with Mesa's crashdec.";
        if let Some(position) = self.positions.levels.last() {
            what += &format!(" Its CP was in {}", position.describe());
            what += &self.owner(position.base);
            if position.readable {
                what.push('.');
            } else {
                what += "; the dump doesn't have its bytes.";
                next = "Have the command buffers dumped: MSM_SUBMIT_BO_DUMP for a submit's BOs, \
                        MSM_VM_BIND_OP_DUMP for mappings (turnip sets it for its own), or write Y \
                        to /sys/module/msm/parameters/rd_full.";
            }
        }
        let finding = |sure| Finding::new(Verdict::Hang, sure, Whose::Unclear, what);
        // Of a GPU without power or firmware the kernel says no less than this.
        match self.registers {
            Some(registers) if registers.get(registers.layout.ring_read).is_some() => {
                finding(Sure::Certain).next(next)
            }
            Some(_) => finding(Sure::Likely)
                .next(
                    "See what the kernel's log says of the GPU at that time, and get a dump with \
                    registers, if there is one.",
                )
                .or("a GPU without power or firmware: the registers that would tell are missing"),
            None => finding(Sure::Likely)
                .next(next)
                .or("a GPU without power or firmware: this tool doesn't know its registers"),
        }
    }

    /// ` in BO "x"`, for an address that is in one.
    fn owner(&self, address: u64) -> String {
        let mut bos = self.dump.bos.iter();
        match bos.find(|bo| bo.range().contains(&address)) {
            Some(bo) => format!(", in {}", super::text::describe(bo)),
            None => String::new(),
        }
    }
}
