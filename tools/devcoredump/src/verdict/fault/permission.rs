// SPDX-License-Identifier: GPL-2.0-only
//! The tables map the address, but not for this kind of access. How the mapping was asked for, the
//! BO's own flags say, and in a log of ours the map's; where the tables differ from these, it isn't
//! the application that made it so.

use super::*;
use crate::vm_log::flags;

/// How a mapping was asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    read_only: bool,
    privileged: bool,
}

impl Asked {
    /// By the flags of a BO in the list.
    pub(super) fn of_bo(bo: &Bo) -> Option<Asked> {
        let flags = bo.flags?;
        Some(Asked {
            read_only: flags & BO_GPU_READONLY != 0,
            privileged: flags & BO_MAP_PRIV != 0,
        })
    }

    /// By an entry of a log. C's has no flags.
    pub(super) fn of_entry(log: &VmLog, entry: &Entry) -> Option<Asked> {
        log.header.as_ref().filter(|_| entry.op.maps())?;
        Some(Asked {
            read_only: entry.flags & flags::READONLY != 0,
            privileged: entry.flags & flags::PRIV != 0,
        })
    }

    /// In words, as of a page.
    pub(super) fn words(self) -> &'static str {
        match (self.read_only, self.privileged) {
            (false, false) => "writable",
            (true, false) => "read-only",
            (false, true) => "writable, privileged",
            (true, true) => "read-only, privileged",
        }
    }
}

const NOT_READ_ONLY: &str = "Allocate the BO without MSM_BO_GPU_READONLY, or don't write to it.";
const WILD: &str = "Look for a wild pointer in the command stream.";

impl Case<'_> {
    /// How the mapping at the address was asked for, if anything says it.
    fn asked(&self) -> Option<Asked> {
        let listed = self.bo.and_then(|(_, bo)| Asked::of_bo(bo));
        let logged = self
            .log
            .zip(self.last)
            .and_then(|(log, (_, entry))| Asked::of_entry(log, entry));
        match (listed, logged) {
            (Some(a), Some(b)) => Some(Asked {
                read_only: a.read_only || b.read_only,
                privileged: a.privileged || b.privileged,
            }),
            (a, b) => a.or(b),
        }
    }

    pub(super) fn permission(&self) -> Option<Finding> {
        let write = self.fault.direction == Some(Direction::Write);
        let bo = self.bo.map(|(i, _)| i);
        let finding = |verdict, sure, whose, what: String| {
            let what = format!("{} {what}.", self.access());
            Finding::new(verdict, sure, whose, what).bo(bo)
        };
        let place = self.place();
        let asked = self.asked();
        let leaf = match self.walk {
            Some(Walk::Mapped(leaf)) => Some(leaf),
            _ => None,
        };
        if leaf.is_some_and(|leaf| write && leaf.read_only()) {
            let verdict = Verdict::ReadOnly;
            if asked.is_some_and(|asked| !asked.read_only) {
                let what = format!(
                    "hit {place}, which the tables have as read-only; it wasn't asked for so"
                );
                return Some(
                    finding(verdict, Sure::Likely, Whose::Kernel, what)
                        .next("Look at how the kernel maps it, and what was mapped there before.")
                        .or("the flags are those of a newer mapping there"),
                );
            }
            let what = format!("hit {place}, which the GPU may only read");
            return Some(
                finding(verdict, Sure::Certain, Whose::Application, what).next(NOT_READ_ONLY),
            );
        }
        if leaf.is_some_and(|leaf| !leaf.unprivileged()) {
            let verdict = Verdict::Privileged;
            if asked.is_some_and(|asked| !asked.privileged) {
                let what = format!(
                    "hit {place}, which the tables keep for the kernel's commands; it isn't the \
                        kernel's"
                );
                return Some(
                    finding(verdict, Sure::Likely, Whose::Kernel, what)
                        .next("Look at how the kernel maps it, and what was mapped there before.")
                        .or("the flags are those of a newer mapping there"),
                );
            }
            let what = format!("hit {place}, which only the kernel's commands may use");
            return Some(finding(verdict, Sure::Certain, Whose::Application, what).next(WILD));
        }
        // Not in the tables, or no longer.
        let by_now = leaf.map_or("", |_| ", though the tables allow it by now");
        let older = |finding: Finding| match leaf {
            Some(_) => finding.or("a change of permissions without TLB invalidation"),
            None => finding,
        };
        if write && asked.is_some_and(|asked| asked.read_only) {
            let what = format!("hit {place}, made read-only for the GPU{by_now}");
            let finding = finding(Verdict::ReadOnly, Sure::Likely, Whose::Application, what);
            return Some(older(finding.next(NOT_READ_ONLY)));
        }
        if asked.is_some_and(|asked| asked.privileged) {
            let what = format!("hit {place}, which is the kernel's{by_now}");
            let finding = finding(Verdict::Privileged, Sure::Likely, Whose::Application, what);
            return Some(older(finding.next(WILD)));
        }
        leaf?;
        let what = "was refused, but the tables allow it: the SMMU used an older entry".into();
        let finding = finding(Verdict::StaleTranslation, Sure::Likely, Whose::Kernel, what);
        Some(finding.next("Look for a change of permissions without TLB invalidation."))
    }
}
