// SPDX-License-Identifier: GPL-2.0-only
//! The tables map the address, and the SMMU faulted all the same.

use super::*;

impl Case<'_> {
    /// The tables map the address now.
    pub(super) fn mapped_but_faulted(&self) -> Finding {
        let bo = self.bo.map(|(i, _)| i);
        if let Some((index, entry)) = self.late {
            return self.too_late(index, entry, Sure::Certain);
        }
        let stale =
            |sure| {
                let what = format!(
                    "{} faulted although the tables map it: the SMMU used an older translation.",
                    self.access()
                );
                Finding::new(Verdict::StaleTranslation, sure, Whose::Kernel, what)
                .next("Look for a missing TLB invalidation, or a table that was not written back \
                    to memory.")
                .bo(bo)
            };
        let stale_or_late = |sure| {
            stale(sure).or("the mapping was made between the fault and the dump: bound too late")
        };
        let Some(log) = self.log else {
            return stale_or_late(Sure::Likely);
        };
        let fault_known = log.header.as_ref().is_some_and(|h| h.fault.is_some());
        match self.last {
            Some((index, entry)) if entry.op.maps() && fault_known => {
                if let Some(finding) = self.just_too_late(index, entry) {
                    return finding.bo(bo);
                }
                let mut finding = stale(Sure::Likely).entry(index);
                if let (Applied::At(at), Some(fault)) = (entry.applied, log.fault_time()) {
                    let ago = fault.saturating_sub(at);
                    let sent_after = self.sent_after(at);
                    finding.happened = format!(
                        "{} faulted although the tables had mapped it for {}{}.",
                        self.access(),
                        duration(ago),
                        if sent_after {
                            ", since before the submit was sent"
                        } else {
                            ""
                        }
                    );
                    if sent_after && ago < late::LATENCY {
                        finding = finding.or(
                            "bound too late, if an earlier submit of this context made the \
                                access, and ended before the kernel noticed",
                        );
                    }
                }
                finding
            }
            Some((index, entry)) if entry.op.maps() => {
                // C's log has no times: a map with nothing after it may have come after the fault.
                let newest = self.order.last() == Some(&index);
                if newest && self.newest_missing() != Missing::Yes {
                    self.too_late(index, entry, Sure::Possible)
                        .or("it was mapped before the fault: stale TLB")
                } else {
                    stale_or_late(Sure::Likely).entry(index)
                }
            }
            _ if self.newest_missing() != Missing::No => {
                let what = format!(
                    "{} came before its mapping, it seems: the tables map it, the log (which \
                        lacks its newest entry) doesn't.",
                    self.access()
                );
                self.too_late_unlogged(Sure::Possible, what)
                    .or("the mapping is older than the log, and the SMMU used a stale translation")
                    .bo(bo)
            }
            Some((index, _)) => stale(Sure::Possible).entry(index),
            None => stale_or_late(Sure::Likely),
        }
    }
}
