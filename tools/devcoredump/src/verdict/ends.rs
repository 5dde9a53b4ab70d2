// SPDX-License-Identifier: GPL-2.0-only
//! Dumps that end too early. Where a dump is cut between two lines nothing shows it but what is
//! missing, and what is missing must not be taken for what the kernel didn't do.

use super::{
    place,
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use crate::dump::Dump;

const WHOLE: &str =
    "Get the whole dump, if there is one: `check` says in which line this one ends. \
    The kernel keeps one for five minutes, in /sys/class/devcoredump/devcd*/data.";

/// What kernels print up to the list of BOs.
const UP_TO_BOS: [&str; 5] = [
    "fault-info",
    "pgtable-fault-info",
    "vm-log",
    "ringbuffer",
    "bos",
];

/// The list of BOs is there as a whole, or the kernel had none: something follows it.
pub(super) fn has_all_bos(dump: &Dump) -> bool {
    let last = dump.sections.last();
    last.is_some_and(|section| !UP_TO_BOS.contains(&&*section.name))
}

/// All is there that bears on a page fault, or it is known that there was none.
fn has_enough(dump: &Dump) -> bool {
    let log = dump.vm_log.as_ref();
    match dump.fault {
        // A log of the stock kernel's may lack its newest entry, which only the BOs tell.
        Some(_) if log.is_none_or(|log| log.header.is_none()) => has_all_bos(dump),
        _ => goes_on(dump),
    }
}

/// It goes on after what it says of the page fault, the tables and the VM log: all kernels print
/// these first.
pub(super) fn goes_on(dump: &Dump) -> bool {
    dump.rbbm_status.is_some() || !dump.rings.is_empty() || has_all_bos(dump)
}

/// Some findings need no more than what the SMMU said.
fn needs_no_more(finding: &Finding, dump: &Dump) -> bool {
    let Some(fault) = &dump.fault else {
        return false;
    };
    let said = dump.sections.last();
    let said = said.is_some_and(|section| &*section.name != "fault-info");
    let enough = match finding.verdict {
        Verdict::External => true,
        Verdict::KernelsOwn => fault.table() == Some(0),
        Verdict::Privileged => fault.in_kernel_half(),
        _ => false,
    };
    said && enough
}

/// What is left of a finding when the dump ends before all that bears on it.
pub(super) fn instead_of(finding: Finding, dump: &Dump) -> Finding {
    if has_enough(dump) || needs_no_more(&finding, dump) {
        return finding;
    }
    let end = dump.sections.last().map(|section| &*section.name);
    let (what, guess) = match (&dump.fault, end) {
        (None, _) => (
            "The dump ends before it says whether there was a page fault.".into(),
            false,
        ),
        (Some(_), Some("fault-info")) => (
            "The dump ends in what it says of the page fault.".into(),
            false,
        ),
        (Some(fault), _) => (
            format!(
                "There was a page fault at {}; the dump ends before all of tables, VM log and \
                    BOs that tells why.",
                place(fault)
            ),
            true,
        ),
    };
    let mut out = Finding::new(Verdict::Undetermined, Sure::Certain, Whose::Unclear, what);
    out = out.next(WHOLE);
    if guess {
        out = out.or(format!(
            "{}, as far as the dump goes: {}",
            finding.verdict, finding.happened
        ));
    }
    out.evidence = finding.evidence;
    out
}
