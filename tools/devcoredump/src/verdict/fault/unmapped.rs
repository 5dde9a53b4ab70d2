// SPDX-License-Identifier: GPL-2.0-only
//! The tables don't map the address, or the dump doesn't say: what the log and the BO list know.

use super::*;
use crate::vm_log::flags;
use std::ops::Range;

/// Below this a fault is taken for a NULL pointer with a small offset.
const NULL_ZONE: u64 = 64 << 10;
/// An access this far from a mapping is still taken for one that missed it.
const NEAR: u64 = 64 << 10;
/// The same for units that work on surfaces: these miss by rows of lines or tiles, 64 lines of 4096
/// pixels of 4 bytes.
const NEAR_SURFACE: u64 = 1 << 20;
/// The units that read and write surfaces, by what the kernel calls them: colour and depth cache,
/// UBWC flags, textures, low-resolution depth.
const SURFACE_UNITS: [&str; 4] = ["CCU", "Flag cache", "TP", "LRZ"];

impl<'a> Case<'a> {
    /// The tables don't map the address, or the dump doesn't say.
    pub(super) fn not_mapped(&self, addr: u64) -> Finding {
        if let Some((index, entry)) = self.late {
            return self.too_late(index, entry, Sure::Certain);
        }
        if let Some(finding) = self.failed(addr) {
            return finding;
        }
        match self.last {
            Some((index, entry)) if entry.op.removes() => self.after_removal(addr, index, entry),
            Some((index, entry)) => self.should_be_mapped(index, entry),
            None if self.bo.is_some() => self.listed_only(),
            None => self.nothing_there(addr),
        }
    }

    fn failed(&self, addr: u64) -> Option<Finding> {
        let log = self.log?;
        let (index, entry) = log
            .entries
            .iter()
            .enumerate()
            .rev()
            .find(|(_, e)| e.covers(addr) && (e.op.maps() || e.op.removes()))?;
        let err = entry.err.filter(|_| entry.op.maps())?;
        let what = format!(
            "{} hit a range whose {} failed with error {err}{}.",
            self.access(),
            entry.op,
            by(entry)
        );
        Some(
            Finding::new(Verdict::BindFailed, Sure::Certain, Whose::Unclear, what)
                .next(
                    "See why the bind failed (memory?), and whether the application looked at \
                    its result.",
                )
                .entry(index),
        )
    }

    fn after_removal(&self, addr: u64, index: usize, entry: &Entry) -> Finding {
        let listed_again = self.bo.is_some() && matches!(entry.op, Op::Unmap | Op::Replace);
        if listed_again && self.log.is_some_and(|log| log.header.is_none()) {
            let what = format!(
                "{} came before a new mapping reached the tables: the BO is listed there, the \
                    log's last word is {}.",
                self.access(),
                entry.op
            );
            return self
                .too_late_unlogged(Sure::Likely, what)
                .entry(index)
                .bo(self.bo.map(|(i, _)| i));
        }
        let sure = if self.mapped() == Some(false) {
            Sure::Certain
        } else {
            Sure::Likely
        };
        let ago = match (entry.applied, self.log.and_then(VmLog::fault_time)) {
            (Applied::At(at), Some(fault)) => {
                format!(", {} before the fault", duration(fault.saturating_sub(at)))
            }
            _ => String::new(),
        };
        let part = self.log.and_then(|log| {
            space::partially_removed(log, &self.order, index, addr)
                .map(|made_by| log.entries[made_by].range())
                .or_else(|| (entry.flags & flags::PARTIAL != 0).then(|| entry.range()))
        });
        let name = name_of(entry);
        let verb = match entry.op {
            Op::Evict => "evicted by the kernel's shrinker and not brought back",
            Op::Purge => "purged: the application had marked the BO DONTNEED",
            Op::Close => "removed when its handle or VM was closed",
            Op::Replace => "removed by a MAP over it",
            _ => "unmapped",
        };
        let (whose, next) = match entry.op {
            Op::Evict => (
                Whose::Kernel,
                "Look at how the submit validates evicted BOs.",
            ),
            Op::Purge => (
                Whose::Application,
                "Mark the BO WILLNEED, and look at whether it was retained, before using it.",
            ),
            Op::Close => (
                Whose::Application,
                "Keep the handle and the file open until the GPU is done.",
            ),
            _ => (
                Whose::Application,
                "Make the unmap wait for the last submit that uses the range.",
            ),
        };
        if let (Some(whole), Op::Unmap | Op::Replace) = (part, entry.op) {
            let of = if whole == entry.range() {
                String::new()
            } else {
                format!(" out of {}", range(&whole))
            };
            let what = format!(
                "{} hit {}{name}, cut{of}{}{ago}; the rest is still mapped.",
                self.access(),
                range(&entry.range()),
                by(entry)
            );
            return Finding::new(Verdict::PartiallyUnmapped, sure, whose, what)
                .next("Compare the range of that unmap with what the commands use.")
                .entry(index);
        }
        let what = format!(
            "{} hit {}{name}, {verb}{}{ago}.",
            self.access(),
            range(&entry.range()),
            by(entry)
        );
        Finding::new(Verdict::UsedAfterUnmap, sure, whose, what)
            .next(next)
            .entry(index)
    }

    /// A BO that is mapped, it seems, by the op that C leaves out of its log: no other has mapped
    /// it.
    fn unlogged(&self) -> Option<&'a Bo> {
        let log = self.log?;
        let live = Live::replay(log, &self.order);
        (self.newest_missing() == Missing::Yes)
            .then(|| {
                let mut bos = self.dump.bos.iter();
                bos.find(|bo| bo.size > 0 && live.at(bo.iova).is_none())
            })
            .flatten()
    }

    fn should_be_mapped(&self, index: usize, entry: &Entry) -> Finding {
        let bo = self.bo.map(|(i, _)| i);
        let gone = self.bo.is_none() && !self.dump.bos.is_empty();
        if self.newest_missing() != Missing::No && gone && !entry.is_null() {
            let sure = if self.mapped() == Some(false) {
                Sure::Likely
            } else {
                Sure::Possible
            };
            if let Some(bo) = self.unlogged() {
                let what = format!(
                    "{} hit {}, which no BO is listed at, as for NULL mappings; nothing has \
                        unmapped it (the op that this kernel leaves out of \
                     its log mapped {}), but the tables don't have it.",
                    self.access(),
                    range(&entry.range()),
                    describe(bo)
                );
                return Finding::new(Verdict::NullMappingLost, sure, Whose::Kernel, what)
                    .next("Report it to the kernel's maintainers with this dump.")
                    .or("used after unmap, if that other BO's mapping wasn't made yet")
                    .entry(index);
            }
            let what = format!(
                "{} hit {}, mapped before and gone now; this kernel leaves the newest op out of \
                    its log, so the unmap isn't in it.",
                self.access(),
                range(&entry.range())
            );
            return Finding::new(Verdict::UsedAfterUnmap, sure, Whose::Application, what)
                .next("Make the unmap wait for the last submit that uses the range.")
                .or("the kernel lost the mapping")
                .entry(index);
        }
        let (verdict, what) = if entry.is_null() {
            (Verdict::NullMappingLost, "mapped as NULL")
        } else {
            (Verdict::MappingLost, "mapped")
        };
        let what = format!(
            "{} hit {}{}, {what}{} and not unmapped since, but the tables don't have it.",
            self.access(),
            range(&entry.range()),
            name_of(entry),
            by(entry)
        );
        let sure = match (self.mapped(), self.newest_missing()) {
            (Some(false), Missing::No) => Sure::Certain,
            (Some(false), _) => Sure::Likely,
            _ => Sure::Possible,
        };
        let finding = Finding::new(verdict, sure, Whose::Kernel, what)
            .next("Report it to the kernel's maintainers with this dump.")
            .entry(index)
            .bo(bo);
        match sure {
            Sure::Certain => finding,
            Sure::Likely => {
                finding.or("the newest op, which this kernel's log lacks, evicted or unmapped it")
            }
            Sure::Possible => {
                finding.or("the tables have it, and the SMMU used a stale translation")
            }
        }
    }

    /// A BO is listed there, but no log entry speaks of it.
    fn listed_only(&self) -> Finding {
        let bo = self.bo.map(|(i, _)| i);
        let what = format!(
            "{} hit {}, which is not in the tables.",
            self.access(),
            self.place()
        );
        let late = |sure| {
            let what = format!(
                "{} hit {}; it has been asked for, but is not in the tables yet.",
                self.access(),
                self.place()
            );
            self.too_late_unlogged(sure, what).bo(bo)
        };
        match self.log {
            None => late(Sure::Possible)
                .or("the kernel lost the mapping (certain, if this context doesn't use VM_BIND)")
                .next("Load msm with vm_log_shift=8 and reproduce: the log tells which."),
            Some(log) if log.header.is_none() => match self.older_missing() {
                Missing::No => late(Sure::Likely),
                _ => late(Sure::Possible)
                    .or("the mapping is older than the log, and the kernel lost it"),
            },
            Some(log) => {
                let sure = match log.older_missing() {
                    Missing::No => Sure::Likely,
                    _ => Sure::Possible,
                };
                Finding::new(Verdict::MappingLost, sure, Whose::Kernel, what)
                    .next("Report it to the kernel's maintainers with this dump.")
                    .bo(bo)
            }
        }
    }

    fn nothing_there(&self, addr: u64) -> Finding {
        if self.log.is_none() && self.dump.bos.is_empty() && self.mapped().is_none() {
            let what = format!(
                "{} faulted; the dump has neither log, nor BOs, nor tables.",
                self.access()
            );
            return Finding::new(Verdict::Undetermined, Sure::Certain, Whose::Unclear, what)
                .next("Use a kernel from 6.13 on, load msm with vm_log_shift=8, and reproduce.");
        }
        let (sure, otherwise) = match (self.log, self.older_missing()) {
            (None, _) => (
                Sure::Possible,
                Some("it was mapped and unmapped: load msm with vm_log_shift=8 to know"),
            ),
            (_, Missing::No) => (Sure::Certain, None),
            (_, Missing::Maybe) => (
                Sure::Likely,
                Some("it was mapped and unmapped before the log begins"),
            ),
            (_, Missing::Yes) => (
                Sure::Possible,
                Some("it was mapped and unmapped before the log begins"),
            ),
        };
        let with = |finding: Finding| match otherwise {
            Some(text) => finding.or(text),
            None => finding,
        };
        if addr < NULL_ZONE {
            let what = format!("{} is a NULL pointer, plus {addr:#x}.", self.access());
            return Finding::new(Verdict::NullPointer, Sure::Likely, Whose::Application, what)
                .next("Look for a descriptor or base register that was never written.");
        }
        if let Some(near) = self.near(addr) {
            let side = if near.after {
                "after the end"
            } else {
                "before the start"
            };
            let what = format!(
                "{} is {} {side} of {}, {}.",
                self.access(),
                size(near.distance),
                near.what,
                range(&near.range)
            );
            let far = near.distance >= NEAR;
            let sure = match sure {
                Sure::Certain | Sure::Likely if !far => Sure::Likely,
                _ => Sure::Possible,
            };
            let finding = Finding::new(Verdict::OutsideBo, sure, Whose::Application, what);
            let mut finding = with(if near.after && self.works_on_surfaces() {
                finding.next(
                    "Compare its size with pitch, aligned height and UBWC flags of the surface; \
                        whether it still comes with \
                     TU_DEBUG=noubwc or =sysmem (Vulkan), FD_MESA_DEBUG=noubwc or =nogmem (GL) \
                         tells which.",
                )
            } else {
                finding.next("Check the size and the offsets that the commands use for it.")
            });
            if far {
                finding =
                    finding.or("a stale or uninitialised pointer that only happens to be near it");
            }
            finding.entry = near.entry;
            finding.bo = near.bo;
            return finding;
        }
        let what = format!(
            "{} hit an address that nothing was mapped to.",
            self.access()
        );
        with(
            Finding::new(Verdict::NeverMapped, sure, Whose::Application, what)
                .next("Look for an uninitialised or stale pointer in the command stream."),
        )
    }

    fn works_on_surfaces(&self) -> bool {
        let source = self.fault.source.as_deref().unwrap_or_default();
        let mut words = source.split(['_', ':']).map(str::trim);
        words.any(|word| SURFACE_UNITS.contains(&word))
    }

    /// The nearest mapping within reach.
    fn near(&self, addr: u64) -> Option<Near> {
        let surface = self.works_on_surfaces();
        let mut all: Vec<Near> = Vec::new();
        let mut consider = |range: Range<u64>, what: String, entry, bo| {
            let (distance, after) = if range.end <= addr {
                (addr - range.end, true)
            } else if range.start > addr {
                (range.start - addr, false)
            } else {
                return;
            };
            // Not farther than the mapping is long: a surface that is off by more than itself is
            // another one's.
            let surface = surface && after && distance < NEAR_SURFACE.min(range.end - range.start);
            if distance < NEAR || surface {
                all.push(Near {
                    distance,
                    after,
                    range,
                    what,
                    entry,
                    bo,
                });
            }
        };
        for (index, bo) in self.dump.bos.iter().enumerate() {
            if bo.size > 0 {
                consider(bo.range(), describe(bo), None, Some(index));
            }
        }
        if let Some(log) = self.log {
            for (range, index) in Live::replay(log, &self.order).iter() {
                let what = format!("a mapping{}", name_of(&log.entries[index]));
                consider(range, what, Some(index), None);
            }
        }
        // BOs come first: where both know the mapping, the BO list has the name on every kernel.
        all.into_iter()
            .min_by_key(|near| (near.distance, !near.after))
    }
}

struct Near {
    distance: u64,
    after: bool,
    range: Range<u64>,
    what: String,
    entry: Option<usize>,
    bo: Option<usize>,
}
