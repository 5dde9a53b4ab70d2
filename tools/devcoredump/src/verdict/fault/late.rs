// SPDX-License-Identifier: GPL-2.0-only
//! The GPU was there before the mapping.
//!
//! No kernel writes into a dump when a submit was sent, nor what it waited for. What follows from
//! the log: a submit that reached the addresses before a bind had run didn't wait for that bind;
//! and if the bind was asked for after the fault, the submit was sent even before that.

use super::*;
use crate::verdict::Evidence;

/// What to do when a submit doesn't wait for a bind.
const WAIT: &str = "Make the SUBMIT wait for the bind, and look at its flags: without \
    MSM_SUBMIT_SYNCOBJ_IN the kernel ignores in_syncobjs, whatever nr_in_syncobjs says (and \
    without MSM_SUBMIT_FENCE_FD_IN, fence_fd).";

/// So long after an access the kernel may enter its handler of faults, and take the time of it, in
/// ns: the interrupt's thread has to be scheduled.
const LATENCY: u64 = 10_000_000;

impl Case<'_> {
    /// The map of a log entry, in effect when the kernel noticed the fault, was made after the
    /// access, it seems. An SMMU doesn't cache that nothing is mapped: when it says so, the tables
    /// didn't have the entry at that moment.
    pub(super) fn just_too_late(&self, index: usize, entry: &Entry) -> Option<Finding> {
        let Applied::At(at) = entry.applied else {
            return None;
        };
        let before = self.log?.fault_time()?.checked_sub(at)?;
        if before >= LATENCY || self.fault.kind != FaultType::Translation || entry.op == Op::Restore
        {
            return None;
        }
        let what = format!(
            "{} found nothing mapped, and the {} of {}{} was made only {} before the kernel \
                noticed: the submit didn't wait for it.",
            self.access(),
            entry.op,
            range(&entry.range()),
            by(entry),
            duration(before)
        );
        let finding = self.too_late_unlogged(Sure::Likely, what).entry(index);
        Some(finding.or(
            "the SMMU didn't see the new entry, if the submit did wait: a missing TLB invalidation, \
                or a table that was not written back to memory",
        ))
    }

    /// The map of a log entry came too late.
    pub(super) fn too_late(&self, index: usize, entry: &Entry, sure: Sure) -> Finding {
        let fault = self.log.and_then(VmLog::fault_time);
        let asked = entry.asked.zip(fault);
        let asked_later = asked.is_some_and(|(asked, fault)| asked > fault);
        let asked = asked.map(|(asked, fault)| {
            let apart = duration(asked.abs_diff(fault));
            format!(
                "was asked for {apart} {}",
                if asked_later { "later" } else { "earlier" }
            )
        });
        let ran = match (entry.applied, fault) {
            (Applied::NotYet, _) => Some("had not run yet".into()),
            (Applied::At(at), Some(fault)) => {
                Some(format!("ran {} later", duration(at.saturating_sub(fault))))
            }
            _ => None,
        };
        let when: Vec<String> = asked.into_iter().chain(ran).collect();
        let when = match when.as_slice() {
            [] => String::new(),
            when => format!(", which {}", when.join(" and ")),
        };
        let came = format!(
            "{} came before the {} of {}{}{when}",
            self.access(),
            entry.op,
            range(&entry.range()),
            by(entry)
        );
        let late = |whose, what| Finding::new(Verdict::BoundTooLate, sure, whose, what);
        let finding = if entry.op == Op::Restore {
            late(Whose::Kernel, format!("{came}."))
                .next("Look at how the submit validates evicted BOs.")
        } else if asked_later {
            late(
                Whose::Application,
                format!("{came}: the submit was sent before the bind."),
            )
            .next("Bind first, then send the submit, and make it wait for the bind.")
        } else {
            let what = format!("{came}: the submit didn't wait for it.");
            self.not_waited(late(Whose::Application, what))
        };
        finding.entry(index)
    }

    /// A mapping came too late, it seems; the log doesn't have it, or can't tell.
    pub(super) fn too_late_unlogged(&self, sure: Sure, what: String) -> Finding {
        self.not_waited(Finding::new(
            Verdict::BoundTooLate,
            sure,
            Whose::Application,
            what,
        ))
    }

    /// Adds what to do, and what would tell whether the submit was sent before the bind, and what
    /// it waited for.
    fn not_waited(&self, finding: Finding) -> Finding {
        let mut finding = finding.next(WAIT);
        // Without a log, the kernel may be too old for VM_BIND and these tracepoints.
        if let Some(log) = self.log {
            // The clock of the log's times.
            let clock = log.fault_time().map_or("", |_| " -C mono");
            finding.evidence.push(Evidence {
                line: None,
                text: format!(
                    "a dump doesn't say when the submit was sent, nor what it waited for: \
                        trace-cmd record{clock} -e drm_sched_job_queue -e drm_sched_job_add_dep \
                     does (a syncobj that is ignored has no add_dep)"
                ),
            });
        }
        finding
    }
}
