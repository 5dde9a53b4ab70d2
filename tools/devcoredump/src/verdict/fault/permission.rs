// SPDX-License-Identifier: GPL-2.0-only
//! The tables map the address, but not for this kind of access.

use super::*;

impl Case<'_> {
    pub(super) fn permission(&self) -> Option<Finding> {
        let write = self.fault.direction == Some(Direction::Write);
        let bo = self.bo.map(|(i, _)| i);
        let place = self.place();
        if let Some(Walk::Mapped(leaf)) = self.walk {
            if write && leaf.read_only() {
                let what = format!(
                    "{} hit {place}, which the GPU may only read.",
                    self.access()
                );
                return Some(
                    Finding::new(Verdict::ReadOnly, Sure::Certain, Whose::Application, what)
                        .next("Allocate the BO without MSM_BO_GPU_READONLY, or don't write to it.")
                        .bo(bo),
                );
            }
            if !leaf.unprivileged() {
                let what = format!(
                    "{} hit {place}, which only the kernel's commands may use.",
                    self.access()
                );
                return Some(
                    Finding::new(Verdict::Privileged, Sure::Certain, Whose::Application, what)
                        .next("Look for a wild pointer in the command stream.")
                        .bo(bo),
                );
            }
            let what = format!(
                "{} was refused, but the tables allow it: the SMMU used an older entry.",
                self.access()
            );
            return Some(
                Finding::new(Verdict::StaleTranslation, Sure::Likely, Whose::Kernel, what)
                    .next("Look for a change of permissions without TLB invalidation.")
                    .bo(bo),
            );
        }
        let flags = self.bo.map_or(0, |(_, bo)| bo.flags);
        if write && flags & BO_GPU_READONLY != 0 {
            let what = format!(
                "{} hit {place}, a BO made read-only for the GPU.",
                self.access()
            );
            return Some(
                Finding::new(Verdict::ReadOnly, Sure::Likely, Whose::Application, what)
                    .next("Allocate the BO without MSM_BO_GPU_READONLY, or don't write to it.")
                    .bo(bo),
            );
        }
        if flags & BO_MAP_PRIV != 0 {
            let what = format!("{} hit {place}, a BO of the kernel's.", self.access());
            return Some(
                Finding::new(Verdict::Privileged, Sure::Likely, Whose::Application, what)
                    .next("Look for a wild pointer in the command stream.")
                    .bo(bo),
            );
        }
        None
    }
}
