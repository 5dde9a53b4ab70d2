// SPDX-License-Identifier: GPL-2.0-only
//! What speaks for a finding.

use super::permission::Asked;
use super::*;
use crate::verdict::Evidence;

impl Case<'_> {
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        let mut out = Vec::new();
        let mut say = |line: Option<u64>, text: String| out.push(Evidence { line, text });
        // Where it matters.
        let permission = self.fault.kind == FaultType::Permission;
        let asked = |asked: Option<Asked>| match asked.filter(|_| permission) {
            Some(asked) => format!(", {}", asked.words()),
            None => String::new(),
        };
        let section = |name: &str| self.dump.section(name).map(|section| section.line);
        if let Some(table) = &self.dump.page_table {
            let line = section("pgtable-fault-info");
            let blamed = table.table().filter(|&blamed| blamed != 0);
            if let Some((used, blamed)) = self.fault.table().zip(blamed) {
                let same = if blamed == used {
                    "the tables the GPU used are the blamed context's"
                } else {
                    "the tables the GPU used are not the blamed context's"
                };
                say(line, format!("{same} (ttbr0 {used:#x}, {blamed:#x})"));
            }
            match self.walk {
                Some(Walk::Mapped(leaf)) => say(
                    line,
                    format!(
                        "tables: a {} page at {:#x}, {}{}, entry {:#x}",
                        size(leaf.size()),
                        leaf.address(),
                        if leaf.read_only() {
                            "read-only"
                        } else {
                            "writable"
                        },
                        if leaf.unprivileged() {
                            ""
                        } else {
                            ", privileged"
                        },
                        leaf.pte
                    ),
                ),
                Some(Walk::Unmapped { level }) => {
                    say(line, format!("tables: no entry at level {level}"))
                }
                Some(Walk::Nothing) => say(line, "tables: no entry at the first level".into()),
                Some(Walk::Malformed { pte }) => {
                    say(line, format!("tables: malformed entry {pte:#x}"))
                }
                None => {}
            }
        } else {
            say(None, "this kernel doesn't dump page tables".into());
        }
        if let Some((_, bo)) = self.bo {
            let asked = asked(Asked::of_bo(bo));
            say(
                Some(bo.line),
                format!("BO list: {} at {}{asked}", describe(bo), range(&bo.range())),
            );
        } else if !self.dump.bos.is_empty() && self.addr.is_some() {
            say(
                section("bos"),
                format!("BO list: none of {} is there", self.dump.bos.len()),
            );
        } else if let Some(why) = &self.dump.bos_omitted {
            say(None, format!("no BO list: {why}"));
        }
        match self.log {
            None if self.fault.table() == Some(0) => {}
            None => say(
                None,
                "no VM log: msm was loaded with vm_log_shift=0, or the context doesn't use VM_BIND"
                    .into(),
            ),
            Some(log) => {
                const SHOWN: usize = 8;
                let covers = |entry: &&Entry| self.addr.is_some_and(|addr| entry.covers(addr));
                let covering: Vec<_> = log.entries.iter().filter(covers).collect();
                let hidden = covering.len().saturating_sub(SHOWN);
                if hidden > 0 {
                    say(
                        None,
                        format!("VM log: {hidden} older entries cover the address"),
                    );
                }
                for entry in covering.iter().skip(hidden) {
                    let asked = asked(Asked::of_entry(log, entry));
                    let words = logged(log, entry);
                    say(Some(entry.line), format!("VM log: {words}{asked}"));
                }
                if covering.is_empty() && self.addr.is_some() {
                    let n = log.entries.len();
                    say(
                        section("vm-log"),
                        format!("VM log: none of {n} entries covers the address"),
                    );
                }
                if let Some(lost) = log.header.as_ref().and_then(|h| h.lost).filter(|&n| n > 0) {
                    say(
                        section("vm-log"),
                        format!("VM log: {lost} older entries are lost"),
                    );
                }
                if let Some(submit) = &log.submit {
                    let words = submitted(log, submit);
                    let other = match log.header.as_ref().and_then(|header| header.fault) {
                        Some(fault) if submit.sent > fault => "; so it isn't the one that faulted",
                        _ => "",
                    };
                    say(Some(submit.line), format!("VM log: {words}{other}"));
                }
                if log.header.is_none() {
                    match (log.older_missing(), log.newest_missing()) {
                        (Missing::Maybe, _) => say(
                            section("vm-log"),
                            "VM log: either older entries or the newest one is missing (stock \
                                kernel)"
                                .into(),
                        ),
                        (_, Missing::Yes) => say(
                            section("vm-log"),
                            "VM log: its newest entry is missing (stock kernel)".into(),
                        ),
                        (Missing::Yes, _) => say(
                            section("vm-log"),
                            "VM log: older entries are \
                            missing"
                                .into(),
                        ),
                        _ => {}
                    }
                }
            }
        }
        if let Some(cut) = self.dump.cut {
            say(
                None,
                format!("the dump is cut {cut}; what follows is missing"),
            );
        }
        out
    }
}
