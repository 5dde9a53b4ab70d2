// SPDX-License-Identifier: GPL-2.0-only
//! Registers that could not be read. A GPU without power, or cut from the bus, answers each read
//! with the same value; what its SMMU reports then is noise, and not what a program asked for.

use super::{
    place,
    Evidence,
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use crate::dump::Dump;

/// What comes back when nothing answers: the GPU's own interface says the first, the bus the
/// second.
const NOBODY: [u32; 2] = [0xdeaf_bead, 0xffff_ffff];
/// So many registers that all read alike are no accident.
const ENOUGH: usize = 8;

/// What the registers read, when nobody answered, and how sure that is.
pub(super) fn value(dump: &Dump) -> Option<(u32, Sure)> {
    let registers = &dump.registers;
    let status = NOBODY
        .into_iter()
        .find(|&nobody| dump.rbbm_status == Some(nobody.into()));
    let all = NOBODY
        .into_iter()
        .find(|&nobody| !registers.is_empty() && registers.iter().all(|r| r.value == nobody));
    match (status, all) {
        // Kernels leave 0xdeafbead out of the list: it may be short or empty.
        (Some(value), None) if registers.is_empty() => Some((value, Sure::Certain)),
        (Some(value), Some(_)) => Some((value, Sure::Certain)),
        (Some(value), None) => Some((value, Sure::Likely)),
        (None, Some(value)) if registers.len() >= ENOUGH || dump.rbbm_status.is_none() => {
            Some((value, Sure::Likely))
        }
        _ => None,
    }
}

/// Where the reason for it is.
pub(crate) const BEFORE: &str =
    "Look for what came before it, a hang, an earlier fault or a GMU timeout: \
     journalctl -k -b | grep -iE 'msm|adreno|gmu|gdsc|gpu fault'";

/// What is left of a finding when the registers could not be read.
pub(super) fn instead_of(finding: Finding, dump: &Dump) -> Finding {
    let Some((value, sure)) = value(dump) else {
        return finding;
    };
    let off = format!(
        "The GPU's registers could not be read, they are all {value:#x}: it was off, or cut from \
            the bus"
    );
    let mut out = match &dump.fault {
        Some(fault) => {
            let what = format!(
                "{off}. The address of the page fault, {}, means nothing.",
                place(fault)
            );
            Finding::new(Verdict::Unreadable, sure, Whose::Unclear, what).or(format!(
                "{} ({}), if the address is taken at its word",
                finding.verdict, finding.sure
            ))
        }
        None => {
            let what = format!("{off}. Where it hung can't be seen.");
            Finding::new(Verdict::Unreadable, sure, Whose::Unclear, what)
        }
    }
    .next(BEFORE);
    let nobody = dump.registers.iter().filter(|r| r.value == value).count();
    let line = dump.section("registers").map(|section| section.line);
    if let Some(status) = dump.rbbm_status {
        out.evidence.push(Evidence {
            line: None,
            text: format!("rbbm-status {status:#010x}"),
        });
    }
    out.evidence.push(Evidence {
        line,
        text: format!(
            "registers: {nobody} of {} are {value:#x}",
            dump.registers.len()
        ),
    });
    out.evidence.extend(finding.evidence);
    out
}
