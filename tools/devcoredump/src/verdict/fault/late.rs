// SPDX-License-Identifier: GPL-2.0-only
//! The GPU was there before the mapping.
//!
//! What follows from the times of the binds: a submit that reached the addresses before a bind had
//! run didn't wait for that bind; and if the bind was asked for after the fault, the submit was
//! sent even before that. When it was sent, and what it waited for, a dump of msm_rs says; the
//! stock kernel's doesn't.

use super::*;
use crate::verdict::Evidence;
use crate::vm_log::Submit;

/// What to do when a submit doesn't wait for a bind.
const WAIT: &str = "Make the SUBMIT wait for the bind, and look at its flags: without \
    MSM_SUBMIT_SYNCOBJ_IN the kernel ignores in_syncobjs, whatever nr_in_syncobjs says (and \
    without MSM_SUBMIT_FENCE_FD_IN, fence_fd).";

/// What to do when it was sent too early to wait.
const BIND_FIRST: &str = "Bind first, then send the submit, and make it wait for the bind.";

/// What to do when it could have waited, and the flags don't keep it from that.
const WAIT_FOR_IT: &str =
    "Make the SUBMIT wait for the bind: give it the bind's out-syncobj among \
    its in_syncobjs, with MSM_SUBMIT_SYNCOBJ_IN, or the bind's out-fence as fence_fd, with \
    MSM_SUBMIT_FENCE_FD_IN.";

/// What to do when the flags keep it from waiting.
const SET_THE_FLAG: &str = "Set MSM_SUBMIT_SYNCOBJ_IN in the SUBMIT's flags, and see that the \
    bind's out-syncobj is among its in_syncobjs. Mesa's turnip forgets the flag in 26.1 \
    (msm_queue_submit, when the application gives no wait semaphores); 26.2.6 sets it.";

/// So long after an access the kernel may enter its handler of faults, and take the time of it, in
/// ns: the interrupt's thread has to be scheduled.
pub(super) const LATENCY: u64 = 10_000_000;

fn late(sure: Sure, whose: Whose, what: String) -> Finding {
    Finding::new(Verdict::BoundTooLate, sure, whose, what)
}

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
        // Then the tables had it before the access.
        if self.sent_after(at) {
            return None;
        }
        let found = format!(
            "{} found nothing mapped, and the {} of {}{} was made only {} before the kernel \
                noticed",
            self.access(),
            entry.op,
            range(&entry.range()),
            by(entry),
            duration(before)
        );
        let (finding, can_have_waited) = match self.missed(entry) {
            Some(missed) => {
                let seems = if missed.waited { ", it seems" } else { "" };
                let what = format!("{found}: {}{seems}.", missed.how);
                let finding = late(Sure::Likely, Whose::Application, what);
                (finding.next(missed.next), missed.waited)
            }
            None => {
                let what = format!("{found}: the submit didn't wait for it.");
                (self.too_late_unlogged(Sure::Likely, what), true)
            }
        };
        let condition = if can_have_waited {
            "the submit did wait"
        } else {
            "the access came after it"
        };
        Some(finding.entry(index).or(format!(
            "the SMMU didn't see the new entry, if {condition}: a missing TLB invalidation, or a \
                table that was not written back to memory"
        )))
    }

    /// The submit that is blamed, if it can be the one that faulted.
    fn submit(&self) -> Option<&Submit> {
        let log = self.log?;
        let submit = log.submit.as_ref()?;
        let before = |fault| submit.sent <= fault;
        log.fault_time().is_none_or(before).then_some(submit)
    }

    /// The submit was sent when the change of `applied` had been made.
    pub(super) fn sent_after(&self, applied: u64) -> bool {
        self.submit().is_some_and(|submit| submit.sent >= applied)
    }

    /// What the log's line about the submit tells of it and a bind that came too late.
    fn missed(&self, entry: &Entry) -> Option<Missed> {
        let submit = self.submit()?;
        let Some(after) = submit.sent.checked_sub(entry.asked?) else {
            return Some(Missed {
                how: "the submit was sent before the bind".into(),
                next: BIND_FIRST,
                waited: false,
            });
        };
        let sent = format!("this submit was sent {} after the bind", duration(after));
        let (how, next) = match (submit.ignored, submit.waits) {
            (0, 0) => (format!("{sent} and waited for nothing"), WAIT_FOR_IT),
            (0, n) => (
                format!(
                    "{sent} and waited for {}, {} this bind's",
                    fences(n),
                    none_of(n)
                ),
                WAIT_FOR_IT,
            ),
            (n, _) => (
                format!(
                    "{sent} and didn't wait for it; its SUBMIT ignored its in-syncobjs ({n} of \
                        them: flags without MSM_SUBMIT_SYNCOBJ_IN)"
                ),
                SET_THE_FLAG,
            ),
        };
        let waited = submit.waits > 0;
        Some(Missed { how, next, waited })
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
        let finding = if entry.op == Op::Restore {
            late(sure, Whose::Kernel, format!("{came}."))
                .next("Look at how the submit validates evicted BOs.")
        } else if let Some(missed) = self.missed(entry) {
            let what = format!("{came}: {}.", missed.how);
            late(sure, Whose::Application, what).next(missed.next)
        } else if asked_later {
            let what = format!("{came}: the submit was sent before the bind.");
            late(sure, Whose::Application, what).next(BIND_FIRST)
        } else {
            let what = format!("{came}: the submit didn't wait for it.");
            self.too_late_unlogged(sure, what)
        };
        finding.entry(index)
    }

    /// A mapping came too late, it seems, and the log doesn't tell of the submit that didn't wait
    /// for it. What would tell when it was sent, and what it waited for, is among the evidence.
    pub(super) fn too_late_unlogged(&self, sure: Sure, what: String) -> Finding {
        let mut finding = late(sure, Whose::Application, what).next(WAIT);
        // Without a log, the kernel may be too old for VM_BIND and these tracepoints.
        if let Some(log) = self.log.filter(|_| self.submit().is_none()) {
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

/// How the blamed submit missed a bind.
struct Missed {
    /// A clause.
    how: String,
    /// What to do about it, in a sentence.
    next: &'static str,
    /// It was sent after the bind and waited for fences; which ones, the log doesn't say.
    waited: bool,
}

fn none_of(n: u64) -> &'static str {
    if n == 1 {
        "which isn't"
    } else {
        "none of them"
    }
}
