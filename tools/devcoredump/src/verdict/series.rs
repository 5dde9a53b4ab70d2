// SPDX-License-Identifier: GPL-2.0-only
//! Several dumps of one machine. A GPU that has just hung or faulted is reset, loses its caches and
//! its power, and what goes wrong meanwhile is laid at the door of whoever comes next.

use super::{
    duration,
    Evidence,
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use crate::dump::{
    Dump,
    Time, //
};

/// A dump this soon after another is probably its consequence, in nanoseconds: the hangcheck
/// timer's period, and a reset that doesn't succeed at once.
const CLOSE: u64 = 5_000_000_000;
/// How many dumps are remembered.
const MAX_SEEN: usize = 1024;

#[derive(Debug)]
struct Seen {
    name: String,
    at: u64,
    kernel: Option<Box<str>>,
    verdict: Verdict,
}

/// Dumps that have been read, to be compared with others.
#[derive(Debug, Default)]
pub struct Series {
    seen: Vec<Seen>,
}

fn nanoseconds(time: Time) -> Option<u64> {
    time.sec
        .checked_mul(1_000_000_000)?
        .checked_add(time.nsec.into())
}

impl Series {
    /// Remembers a dump and what it says by itself. `name` is what people know it by.
    pub fn add(&mut self, name: &str, dump: &Dump, finding: &Finding) {
        let Some(at) = dump.time.and_then(nanoseconds) else {
            return;
        };
        if finding.verdict == Verdict::NotGpu || self.seen.iter().any(|seen| seen.at == at) {
            return;
        }
        if self.seen.len() == MAX_SEEN {
            self.seen.remove(0);
        }
        self.seen.push(Seen {
            name: name.to_owned(),
            at,
            kernel: dump.kernel.clone(),
            verdict: finding.verdict,
        });
    }

    /// The first of the dumps that follow each other closely and lead to this time.
    fn first(&self, dump: &Dump, at: u64) -> Option<&Seen> {
        let mut first: Option<&Seen> = None;
        let mut from = at;
        loop {
            let before = self
                .seen
                .iter()
                .filter(|seen| seen.kernel == dump.kernel)
                .filter(|seen| seen.at < from && from - seen.at <= CLOSE)
                .min_by_key(|seen| seen.at);
            let Some(before) = before else {
                return first;
            };
            from = before.at;
            first = Some(before);
        }
    }

    /// What a finding is in the light of the other dumps. One that is certain by itself stays as it
    /// is.
    pub fn judge(&self, dump: &Dump, mut finding: Finding) -> Finding {
        let Some(at) = dump.time.and_then(nanoseconds) else {
            return finding;
        };
        let Some(first) = self.first(dump, at) else {
            return finding;
        };
        let after = duration(at - first.at);
        let evidence = Evidence {
            line: None,
            text: format!("{after} earlier: {} ({})", first.verdict, first.name),
        };
        let innocent = matches!(
            finding.verdict,
            Verdict::NotGpu | Verdict::KernelsOwn | Verdict::External
        );
        // The witnesses that make a fault certain are the tables and the log; a reset changes
        // neither.
        let certain = finding.sure == Sure::Certain || finding.certain_alone;
        let own = certain && dump.fault.is_some();
        if innocent || (own && finding.verdict != Verdict::Unreadable) {
            finding.evidence.push(evidence);
            if finding.whose == Whose::Application {
                finding = finding.or(format!(
                    "a consequence of {}, {after} before it",
                    first.name
                ));
            }
            return finding;
        }
        let what = format!(
            "It came {after} after another one ({}), and is probably its consequence.",
            first.verdict
        );
        let mut out = Finding::new(Verdict::Consequence, Sure::Likely, Whose::Unclear, what)
            .next(format!(
                "Mend what {} is about; if this one comes without it, it has a reason of its own.",
                first.name
            ))
            .or(format!(
                "{} ({}), taken by itself: {}",
                finding.verdict, finding.sure, finding.happened
            ));
        out.evidence.push(evidence);
        out.evidence.append(&mut finding.evidence);
        out.entry = finding.entry;
        out.bo = finding.bo;
        out
    }
}
