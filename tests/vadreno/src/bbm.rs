// SPDX-License-Identifier: GPL-2.0-only

//! Break before make: which changes of a translation need an invalidation in between.
//!
//! Arm ARM (DDI 0487), "Using break-before-make when updating translation table entries". The
//! device sees tables only when it walks, so it can't see each change. What it can know for sure: a
//! job has used a translation, no invalidation that covers it was asked for since, and now the same
//! tables lead somewhere else. [`Used`] keeps the first, [`needs_break`] says whether that was
//! allowed.

use crate::tlb::{Scope, Tlb};
use crate::walk::Leaf;

/// Bits that choose the memory type and cacheability, by MAIR.
const ATTRIBUTES: u64 = 0b111 << 2;
const SHAREABILITY: u64 = 0b11 << 8;
const ADDRESS: u64 = 0xffff_ffff_f000;

/// Whether a valid entry must be broken before the other takes its place. Permissions may change
/// without.
pub fn needs_break(old: &Leaf, new: &Leaf) -> bool {
    let changed = old.desc ^ new.desc;
    let moved = changed & ADDRESS != 0 && (old.writable() || new.writable());
    old.level != new.level
        || changed & (ATTRIBUTES | SHAREABILITY) != 0
        || moved
        || (new.global() && !old.global())
}

/// Translations that jobs have used and software hasn't asked to invalidate.
///
/// Speculative reads aren't counted: they also walk the tables of a context that has ended, whose
/// memory may be anything by then. A job runs on tables that are alive; when they end, software
/// removes what is mapped and invalidates that, as ever.
#[derive(Debug, Default)]
pub struct Used(Tlb);

impl Used {
    /// A job used `leaf`, which is what the tables say. Returns what it used before, if a break
    /// would have been needed.
    pub fn note(&mut self, asid: u16, iova: u64, leaf: Leaf) -> Option<Leaf> {
        let before = self.0.leaf(asid, iova);
        if before == Some(leaf) {
            return None;
        }
        let before = before
            .filter(|before| needs_break(before, &leaf))
            .or_else(|| self.0.smaller_leaf(asid, iova, leaf.level));
        self.0.keep_leaf(asid, iova, leaf);
        before
    }

    /// Software asks for an invalidation. What it covers may be changed when that is done; a change
    /// before isn't seen here.
    pub fn forget(&mut self, scope: Scope) {
        self.0.invalidate(scope);
    }

    /// The GPU has lost power: it uses no context's tables before it has loaded them again, and
    /// what they say meanwhile doesn't matter.
    pub fn forget_contexts(&mut self, asid: u16) {
        self.0.invalidate(Scope::LowerHalf(asid));
    }

    /// What `scope` names, for an ASID: by the first address.
    pub fn named(&self, asid: u16, scope: Scope) -> Vec<(u64, Leaf)> {
        match scope {
            Scope::Va { iova, .. } => {
                let leaf = self.0.leaf(asid, iova);
                leaf.map(|leaf| (iova, leaf)).into_iter().collect()
            }
            _ => self.0.leaves(asid).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{map, translating_device, write32, BANK, CP, PAGE, RAM, READ_ONLY, SMMU};
    use crate::{device::Device, smmu::Access};
    use vadreno_ctl::{counter, power};

    const IOVA: u64 = 0x1234_5000;
    const OTHER: u64 = RAM + 0x20_0000;
    const CACHED: u64 = 1 << 2;
    const INNER: u64 = 0b11 << 8;

    fn leaf(desc: u64) -> Leaf {
        Leaf {
            level: 3,
            desc,
            read_only: false,
            privileged: false,
        }
    }

    #[test]
    fn what_needs_a_break() {
        let page = leaf(0x9000 | PAGE);
        let needs = |desc| needs_break(&page, &leaf(desc));
        assert!(!needs(0x9000 | PAGE));
        assert!(needs(0xa000 | PAGE));
        assert!(needs(0x9000 | PAGE | CACHED));
        assert!(needs(0x9000 | PAGE | INNER));
        assert!(!needs(0x9000 | PAGE | READ_ONLY));
        // Neither can be written.
        assert!(!needs_break(
            &leaf(0x9000 | PAGE | READ_ONLY),
            &leaf(0xa000 | PAGE | READ_ONLY)
        ));
        let block = Leaf { level: 2, ..page };
        assert!(needs_break(&page, &block) && needs_break(&block, &page));
        // Bit 11: not global.
        assert!(needs(0x9000 | PAGE & !(1 << 11)));
    }

    #[test]
    fn pages_beside_the_address_under_a_block() {
        let page = leaf(0x9000 | PAGE);
        let block = Leaf {
            level: 2,
            ..leaf(0x20_0000 | PAGE)
        };
        let (at, other) = (0x40_0000, 0x40_3000);
        let mut used = Used::default();
        assert_eq!(used.note(1, at, page), None);
        assert_eq!(used.note(2, other, block), None, "another ASID's");
        assert_eq!(used.note(1, 0x60_0000, block), None, "another block");
        assert_eq!(used.note(1, other, block), Some(page));
        used.forget(Scope::All);
        assert_eq!(used.note(1, other, block), None, "after the invalidation");
        assert_eq!(used.note(1, at, page), Some(block));
    }

    fn read(device: &Device) {
        let mut word = [0; 4];
        let access = Access::Read(&mut word);
        device.smmu.access(&device.board, CP, IOVA, access).unwrap();
    }

    fn invalidate(device: &Device) {
        device.bar0_write(BANK + 0x618, 0);
        device.bar0_write(BANK + 0x7f0, 0);
    }

    fn found(device: &Device) -> u64 {
        device.board.counters.get(counter::UNBROKEN).unwrap()
    }

    /// A page at IOVA that a job has used.
    fn used() -> Device {
        let device = translating_device();
        map(&device, IOVA, RAM + 0x10_0000, PAGE);
        read(&device);
        device
    }

    #[test]
    fn replaced_in_one_store() {
        let device = used();
        map(&device, IOVA, OTHER, PAGE);
        invalidate(&device);
        assert_eq!(found(&device), 1, "at the invalidation that comes too late");
        read(&device);
        assert_eq!(found(&device), 1, "once");
    }

    #[test]
    fn never_invalidated() {
        let device = used();
        map(&device, IOVA, 0, 0);
        map(&device, IOVA, OTHER, PAGE);
        read(&device);
        assert_eq!(found(&device), 1);
    }

    #[test]
    fn broken_first() {
        let device = used();
        map(&device, IOVA, 0, 0);
        invalidate(&device);
        map(&device, IOVA, OTHER, PAGE);
        invalidate(&device);
        read(&device);
        assert_eq!(found(&device), 0);
    }

    #[test]
    fn permissions_may_change() {
        let device = used();
        map(&device, IOVA, RAM + 0x10_0000, PAGE | READ_ONLY);
        invalidate(&device);
        assert_eq!(found(&device), 0);
    }

    #[test]
    fn invalidations_that_the_device_ignores_are_not_missing() {
        let device = used();
        let ignore = &device.board.settings.ignore_tlbi;
        ignore.store(true, std::sync::atomic::Ordering::Relaxed);
        map(&device, IOVA, 0, 0);
        invalidate(&device);
        map(&device, IOVA, OTHER, PAGE);
        read(&device);
        invalidate(&device);
        assert_eq!(found(&device), 0);
    }

    #[test]
    fn another_context_is_another_matter() {
        let device = used();
        // Its tables are elsewhere, and so is its page.
        map(&device, IOVA, OTHER, PAGE);
        device.smmu.table_update(&device.board, RAM, 0, 0);
        read(&device);
        invalidate(&device);
        assert_eq!(found(&device), 0);
    }

    #[test]
    fn what_changes_without_power() {
        let device = used();
        device.set_power(power::CX | power::SMMU_CLOCK);
        map(&device, IOVA, OTHER, PAGE);
        invalidate(&device);
        assert_eq!(found(&device), 0);
    }

    #[test]
    fn the_smmu_needs_power_and_clock() {
        let device = translating_device();
        let off = || device.board.counters.get(counter::SMMU_OFF).unwrap();
        device.bar0_write(SMMU + 0x8020, 7);
        device.set_power(power::CX | power::GX);
        assert_eq!(device.bar0_read(SMMU + 0x28), 0);
        device.bar0_write(SMMU + 0x8020, 8);
        assert_eq!(off(), 2);
        device.set_power(power::CX | power::GX | power::SMMU_CLOCK);
        assert_eq!(
            device.bar0_read(SMMU + 0x8020),
            7,
            "without a clock nothing is lost"
        );
        device.set_power(power::SMMU_CLOCK);
        device.bar0_write(SMMU + 0x8020, 8);
        assert_eq!(off(), 3);
        write32(&device, RAM, 0);
    }

    /// The handler of a context fault comes late on a busy machine, when the GPU may be asleep.
    #[test]
    fn a_fault_is_served_without_clock() {
        let device = translating_device();
        let off = || device.board.counters.get(counter::SMMU_OFF).unwrap();
        // FAR, FSR, FSYNR0, CBFRSYNRA, as arm_smmu_context_fault() reads them.
        let serve = || {
            for register in [0x8060, 0x8064, 0x8058, 0x8068, 0x1400] {
                device.bar0_read(SMMU + register);
            }
        };
        let mut word = [0; 4];
        let access = Access::Read(&mut word);
        let fault = device.smmu.access(&device.board, CP, IOVA, access);
        device.smmu.latch(&device.board, &fault.unwrap_err(), false);
        device.set_power(power::CX | power::GX);
        serve();
        assert_eq!(off(), 0);
        // Another bank's, and what the handler doesn't read.
        device.bar0_read(SMMU + 0x1404);
        device.bar0_read(SMMU + 0x8020 + 0x1000);
        device.bar0_read(SMMU + 0x1000);
        assert_eq!(off(), 3);
        device.set_power(power::ALL);
        device.bar0_write(SMMU + 0x8058, u32::MAX);
        device.set_power(power::CX | power::GX);
        serve();
        assert_eq!(off(), 3 + 5);
    }
}
