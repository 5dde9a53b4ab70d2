// SPDX-License-Identifier: GPL-2.0-only

//! The page-table walk: VMSAv8-64 stage 1, 4 KiB granule, as io-pgtable-arm writes it.
//!
//! Pure but for the descriptors it reads, which may be anything: a guest can point a table
//! anywhere. A walk reads at most four descriptors.

use std::collections::HashSet;
use thiserror::Error;

/// Level of the descriptors that map 4 KiB pages.
pub const LAST_LEVEL: u8 = 3;

/// GPU addresses have 49 bits: bit 48 chooses TTBR1. Higher bits do not leave the GPU.
pub const IOVA_MASK: u64 = (1 << 49) - 1;

const VALID: u64 = 1 << 0;
const TABLE: u64 = 1 << 1;
/// AP[1]: unprivileged accesses are allowed.
const UNPRIVILEGED: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const ACCESS_FLAG: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
/// APTable[0] of a table descriptor: nothing below it is for unprivileged accesses.
const TABLE_PRIVILEGED: u64 = 1 << 61;
/// APTable[1] of a table descriptor: nothing below it can be written.
const TABLE_READ_ONLY: u64 = 1 << 62;
const ADDRESS: u64 = 0xffff_ffff_f000;
/// Bits that the architecture leaves to software.
const SOFTWARE: u64 = 0xf << 55;

/// Where descriptors are read from.
pub trait Tables {
    /// The descriptor at a physical address; `None` when there is no memory.
    fn descriptor(&self, pa: u64) -> Option<u64>;

    /// Copies a table of `buf.len() / 8` descriptors; `None` when a part of it isn't there.
    fn copy(&self, pa: u64, buf: &mut [u8]) -> Option<()> {
        for (at, bytes) in (pa..).step_by(8).zip(buf.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&self.descriptor(at)?.to_le_bytes());
        }
        Some(())
    }
}

/// Low bit of the input address that a descriptor of `level` translates.
pub fn shift(level: u8) -> u32 {
    12 + 9 * u32::from(LAST_LEVEL - level.min(LAST_LEVEL))
}

/// A table that a walk goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table {
    /// Level of its descriptors.
    pub level: u8,
    /// Its physical address.
    pub pa: u64,
    /// Something above forbids writes.
    pub read_only: bool,
    /// Something above forbids unprivileged accesses.
    pub privileged: bool,
}

/// A descriptor that maps memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its level.
    pub level: u8,
    /// The descriptor.
    pub desc: u64,
    /// A table above forbids writes.
    pub read_only: bool,
    /// A table above forbids unprivileged accesses.
    pub privileged: bool,
}

impl Leaf {
    /// The physical address that `iova` translates to.
    pub fn pa(&self, iova: u64) -> u64 {
        let offset = (1u64 << shift(self.level)) - 1;
        (self.desc & ADDRESS & !offset) | (iova & offset)
    }

    /// Bytes that it maps.
    pub fn size(&self) -> u64 {
        1 << shift(self.level)
    }

    /// Whether writes are allowed.
    pub fn writable(&self) -> bool {
        !self.read_only && self.desc & READ_ONLY == 0
    }

    /// Whether an access is allowed.
    pub fn allows(&self, write: bool, privileged: bool) -> bool {
        (!write || self.writable())
            && (privileged || (!self.privileged && self.desc & UNPRIVILEGED != 0))
    }

    /// Whether it holds for all ASIDs.
    pub fn global(&self) -> bool {
        self.desc & NOT_GLOBAL == 0
    }

    /// Whether both translate alike; bits left to software don't count.
    pub fn agrees(&self, other: &Leaf) -> bool {
        (self.desc ^ other.desc) & !SOFTWARE == 0
            && self.level == other.level
            && self.read_only == other.read_only
            && self.privileged == other.privileged
    }
}

/// Why an address has no translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Kind {
    /// Nothing is mapped there.
    #[error("translation")]
    Translation,
    /// The descriptor's access flag is clear.
    #[error("access-flag")]
    AccessFlag,
    /// A write where only reads are allowed.
    #[error("permission")]
    Permission,
    /// A table lies outside memory.
    #[error("external-walk")]
    ExternalWalk,
    /// The memory that was accessed does not exist.
    #[error("external")]
    External,
}

/// A walk that found no translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} fault at level {level}")]
pub struct WalkFault {
    /// Why.
    pub kind: Kind,
    /// Level of the descriptor that ended the walk.
    pub level: u8,
    /// That descriptor; 0 when none was read.
    pub desc: u64,
}

/// One half of a translation regime: TTBR0 or TTBR1 with its fields of TCR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regime {
    /// Physical address in TTBRn.
    pub ttbr: u64,
    /// TnSZ: the input address has 64 - TnSZ bits.
    pub tsz: u32,
    /// TTBR1's half.
    pub upper: bool,
    /// The granule is 4 KiB; nothing is mapped when it is not.
    pub granule_4k: bool,
    /// EPDn: this half has no tables.
    pub disabled: bool,
}

impl Regime {
    /// The table that walks of `iova` start at.
    pub fn root(&self, iova: u64) -> Result<Table, WalkFault> {
        let fault = WalkFault {
            kind: Kind::Translation,
            level: 0,
            desc: 0,
        };
        if self.disabled || !self.granule_4k || self.tsz > 39 {
            return Err(fault);
        }
        let bits = self.bits();
        let above = (iova & (IOVA_MASK >> 1)) >> bits;
        let expected = if self.upper {
            (1 << (48 - bits)) - 1
        } else {
            0
        };
        if above != expected {
            return Err(fault);
        }
        let levels = (bits - 12).div_ceil(9);
        let entries = bits - 12 - 9 * (levels - 1);
        let align = (1u64 << (entries + 3)) - 1;
        Ok(Table {
            level: 4 - levels as u8,
            pa: self.ttbr & 0xffff_ffff_ffff & !align & !0x3f,
            read_only: false,
            privileged: false,
        })
    }

    /// Physical address of the descriptor in `table` that `iova` leads to.
    pub fn descriptor(&self, table: Table, iova: u64) -> u64 {
        // The index into a small root table leaves out the bits that are equal for the whole half.
        let input = iova & ((1 << self.bits()) - 1);
        let index = (input >> shift(table.level)) & 0x1ff;
        table.pa | (index << 3)
    }

    /// Number of bits of the input address.
    fn bits(&self) -> u32 {
        64 - self.tsz.clamp(16, 39)
    }

    /// Number of descriptors in the root table.
    pub(crate) fn root_entries(&self) -> u64 {
        let bits = self.bits() - 12;
        1 << (bits - 9 * (bits.div_ceil(9) - 1))
    }

    /// The first address of this half.
    pub(crate) fn base(&self) -> u64 {
        if self.upper {
            IOVA_MASK & !((1 << self.bits()) - 1)
        } else {
            0
        }
    }
}

/// What one descriptor says.
pub(crate) enum Step {
    Down(Table),
    Leaf(Leaf),
}

pub(crate) fn step(desc: u64, table: Table) -> Result<Step, WalkFault> {
    let level = table.level;
    let fault = |kind| WalkFault { kind, level, desc };
    if desc & VALID == 0 || level > LAST_LEVEL {
        return Err(fault(Kind::Translation));
    }
    if level < LAST_LEVEL && desc & TABLE != 0 {
        return Ok(Step::Down(Table {
            level: level + 1,
            pa: desc & ADDRESS,
            read_only: table.read_only || desc & TABLE_READ_ONLY != 0,
            privileged: table.privileged || desc & TABLE_PRIVILEGED != 0,
        }));
    }
    // A block at level 0 and a "block" at the last level are reserved encodings.
    if level == 0 || (level == LAST_LEVEL) != (desc & TABLE != 0) {
        return Err(fault(Kind::Translation));
    }
    if desc & ACCESS_FLAG == 0 {
        return Err(fault(Kind::AccessFlag));
    }
    Ok(Step::Leaf(Leaf {
        level,
        desc,
        read_only: table.read_only,
        privileged: table.privileged,
    }))
}

/// Walks from `table` down to the leaf that translates `iova`. `visit` sees each table below
/// `table`.
pub fn walk(
    tables: &impl Tables,
    regime: &Regime,
    mut table: Table,
    iova: u64,
    mut visit: impl FnMut(Table),
) -> Result<Leaf, WalkFault> {
    loop {
        let pa = regime.descriptor(table, iova);
        let desc = tables.descriptor(pa).ok_or(WalkFault {
            kind: Kind::ExternalWalk,
            level: table.level,
            desc: 0,
        })?;
        match step(desc, table)? {
            Step::Leaf(leaf) => return Ok(leaf),
            Step::Down(next) => {
                table = next;
                visit(table);
            }
        }
    }
}

/// What [`visit_all`] meets.
#[derive(Debug, Clone, Copy)]
pub enum Item {
    /// A table below the root, or the root itself.
    Table(Table),
    /// A leaf, with the first address that it translates.
    Leaf(u64, Leaf),
}

/// Visits all that can be reached from the root of `regime`. A table that occurs more than once (a
/// guest may write loops) is entered once per level.
pub fn visit_all(tables: &impl Tables, regime: &Regime, visit: impl FnMut(Item)) {
    let base = regime.base();
    if let Ok(root) = regime.root(base) {
        visit_from(tables, root, base, regime.root_entries(), visit);
    }
}

/// As [`visit_all`], from a table with so many `entries`, the first of which translates `base`.
pub fn visit_from(
    tables: &impl Tables,
    table: Table,
    base: u64,
    entries: u64,
    mut visit: impl FnMut(Item),
) {
    let mut seen = HashSet::new();
    let mut todo = vec![(table, base, entries)];
    while let Some((table, base, entries)) = todo.pop() {
        if !seen.insert((table.level, table.pa)) {
            continue;
        }
        visit(Item::Table(table));
        for index in 0..entries {
            let iova = base | (index << shift(table.level));
            let Some(desc) = tables.descriptor(table.pa | (index << 3)) else {
                break;
            };
            match step(desc, table) {
                Ok(Step::Down(next)) => todo.push((next, iova, 512)),
                Ok(Step::Leaf(leaf)) => visit(Item::Leaf(iova, leaf)),
                Err(_) => {}
            }
        }
    }
}

/// A mapped address chosen at random: at each level one of the descriptors that lead on, counted
/// from a random place. `pick(n)` returns a number below `n`.
pub fn random_address(
    tables: &impl Tables,
    regime: &Regime,
    mut pick: impl FnMut(u64) -> u64,
) -> Option<u64> {
    let mut iova = regime.base();
    let mut table = regime.root(iova).ok()?;
    let mut entries = regime.root_entries();
    loop {
        let first = pick(entries);
        let (index, found) = (0..entries).find_map(|i| {
            let index = (first + i) % entries;
            let desc = tables.descriptor(table.pa | (index << 3))?;
            Some((index, step(desc, table).ok()?))
        })?;
        iova |= index << shift(table.level);
        match found {
            Step::Down(next) => (table, entries) = (next, 512),
            Step::Leaf(leaf) => return Some(iova | (pick(leaf.size() / 4) * 4)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Descriptors by physical address; all others are 0 below 1 MiB, and no memory above.
    #[derive(Default)]
    struct Sparse(HashMap<u64, u64>);

    impl Tables for Sparse {
        fn descriptor(&self, pa: u64) -> Option<u64> {
            self.0.get(&pa).copied().or((pa < 0x10_0000).then_some(0))
        }
    }

    const PAGE: u64 = VALID | TABLE | ACCESS_FLAG | NOT_GLOBAL;

    fn lower(ttbr: u64) -> Regime {
        Regime {
            ttbr,
            tsz: 16,
            upper: false,
            granule_4k: true,
            disabled: false,
        }
    }

    fn translate(tables: &Sparse, regime: &Regime, iova: u64) -> Result<Leaf, WalkFault> {
        walk(tables, regime, regime.root(iova)?, iova, |_| {})
    }

    /// Root 0x1000, level 1 at 0x2000, level 2 at 0x3000, level 3 at 0x4000, all at index 1.
    fn four_levels(leaf: u64) -> Sparse {
        Sparse(HashMap::from([
            (0x1008, 0x2000 | VALID | TABLE),
            (0x2008, 0x3000 | VALID | TABLE),
            (0x3008, 0x4000 | VALID | TABLE),
            (0x4008, leaf),
        ]))
    }

    const IOVA: u64 = (1 << 39) | (1 << 30) | (1 << 21) | (1 << 12);

    #[test]
    fn page() {
        let tables = four_levels(0x5_5000 | PAGE);
        let leaf = translate(&tables, &lower(0x1000), IOVA | 0x123).unwrap();
        assert_eq!(leaf.pa(IOVA | 0x123), 0x5_5123);
        assert_eq!((leaf.level, leaf.size()), (3, 4096));
        assert!(leaf.writable() && !leaf.global());

        let fault = translate(&tables, &lower(0x1000), IOVA + 0x1000).unwrap_err();
        assert_eq!((fault.kind, fault.level), (Kind::Translation, 3));
        let fault = translate(&tables, &lower(0x1000), 0).unwrap_err();
        assert_eq!((fault.kind, fault.level), (Kind::Translation, 0));
    }

    #[test]
    fn every_table_is_visited() {
        let tables = four_levels(0x5_5000 | PAGE);
        let regime = lower(0x1000);
        let mut seen = Vec::new();
        walk(&tables, &regime, regime.root(IOVA).unwrap(), IOVA, |t| {
            seen.push((t.level, t.pa))
        })
        .unwrap();
        assert_eq!(seen, [(1, 0x2000), (2, 0x3000), (3, 0x4000)]);
    }

    #[test]
    fn permissions() {
        let mut tables = four_levels(0x5_5000 | PAGE | READ_ONLY);
        assert!(!translate(&tables, &lower(0x1000), IOVA).unwrap().writable());
        tables = four_levels(0x5_5000 | PAGE);
        *tables.0.get_mut(&0x2008).unwrap() |= TABLE_READ_ONLY;
        assert!(!translate(&tables, &lower(0x1000), IOVA).unwrap().writable());
        let allowed = |tables: &Sparse| {
            let leaf = translate(tables, &lower(0x1000), IOVA).unwrap();
            [(false, false), (true, false), (false, true), (true, true)]
                .map(|(write, privileged)| leaf.allows(write, privileged))
        };
        tables = four_levels(0x5_5000 | PAGE);
        assert_eq!(allowed(&tables), [false, false, true, true]);
        tables = four_levels(0x5_5000 | PAGE | UNPRIVILEGED);
        assert_eq!(allowed(&tables), [true; 4]);
        *tables.0.get_mut(&0x2008).unwrap() |= TABLE_PRIVILEGED;
        assert_eq!(allowed(&tables), [false, false, true, true]);
        tables = four_levels(0x5_5000 | PAGE | UNPRIVILEGED | READ_ONLY);
        assert_eq!(allowed(&tables), [true, false, true, false]);
        tables = four_levels((0x5_5000 | PAGE) & !ACCESS_FLAG);
        let fault = translate(&tables, &lower(0x1000), IOVA).unwrap_err();
        assert_eq!((fault.kind, fault.level), (Kind::AccessFlag, 3));
    }

    #[test]
    fn blocks() {
        let mut tables = four_levels(0);
        tables
            .0
            .insert(0x3010, 0x4020_0000 | VALID | ACCESS_FLAG | NOT_GLOBAL);
        let iova = (1 << 39) | (1 << 30) | (2 << 21) | 0x1_2345;
        let leaf = translate(&tables, &lower(0x1000), iova).unwrap();
        assert_eq!((leaf.level, leaf.size()), (2, 2 << 20));
        assert_eq!(leaf.pa(iova), 0x4021_2345);
        // Reserved: a block at the last level.
        tables.0.insert(0x4008, 0x5_5000 | VALID | ACCESS_FLAG);
        assert_eq!(
            translate(&tables, &lower(0x1000), IOVA).unwrap_err().kind,
            Kind::Translation
        );
    }

    #[test]
    fn upper_half_with_a_small_root() {
        // 40 bits: the root is at level 0 and has two descriptors.
        let regime = Regime {
            tsz: 24,
            upper: true,
            ..lower(0x1000)
        };
        let tables = four_levels(0x5_5000 | PAGE);
        let iova = (IOVA_MASK & !((1 << 40) - 1)) | IOVA;
        assert_eq!(
            translate(&tables, &regime, iova).unwrap().pa(iova),
            0x5_5000
        );
        // The bits above the half must all be set.
        let fault = translate(&tables, &regime, iova & !(1 << 45)).unwrap_err();
        assert_eq!((fault.kind, fault.level), (Kind::Translation, 0));
    }

    #[test]
    fn disabled_or_foreign_granule() {
        let tables = four_levels(0x5_5000 | PAGE);
        for regime in [
            Regime {
                disabled: true,
                ..lower(0x1000)
            },
            Regime {
                granule_4k: false,
                ..lower(0x1000)
            },
            Regime {
                tsz: 40,
                ..lower(0x1000)
            },
        ] {
            assert_eq!(
                translate(&tables, &regime, IOVA).unwrap_err().kind,
                Kind::Translation
            );
        }
    }

    #[test]
    fn table_outside_memory() {
        let mut tables = four_levels(0);
        tables.0.insert(0x2008, 0x7000_0000 | VALID | TABLE);
        let fault = translate(&tables, &lower(0x1000), IOVA).unwrap_err();
        assert_eq!((fault.kind, fault.level), (Kind::ExternalWalk, 2));
    }

    #[test]
    fn visit_all_finds_each_leaf_and_ends_on_loops() {
        let mut tables = four_levels(0x5_5000 | PAGE);
        tables.0.insert(0x4010, 0x5_6000 | PAGE);
        // The last table points to the root, the root to itself.
        tables.0.insert(0x2010, 0x1000 | VALID | TABLE);
        tables.0.insert(0x1010, 0x1000 | VALID | TABLE);
        let mut leaves = Vec::new();
        visit_all(&tables, &lower(0x1000), |item| {
            if let Item::Leaf(iova, leaf) = item {
                leaves.push((iova, leaf.pa(iova)));
            }
        });
        assert!(leaves.contains(&(IOVA, 0x5_5000)));
        assert!(leaves.contains(&(IOVA + 0x1000, 0x5_6000)));
    }

    #[test]
    fn random_addresses_are_mapped() {
        let tables = four_levels(0x5_5000 | PAGE);
        let mut n = 0;
        for _ in 0..100 {
            let iova = random_address(&tables, &lower(0x1000), |limit| {
                n = (n * 7 + 3) % limit.max(1);
                n
            })
            .unwrap();
            assert!(translate(&tables, &lower(0x1000), iova).is_ok());
        }
        assert_eq!(random_address(&four_levels(0), &lower(0x1000), |_| 0), None);
    }

    /// Pseudo-random descriptors everywhere.
    struct Noise(u64);

    impl Tables for Noise {
        fn descriptor(&self, pa: u64) -> Option<u64> {
            let x = (pa ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let x = x ^ (x >> 29);
            // Few tables, close together, so that a full visit ends soon.
            (x % 17 != 0).then_some(x & !ADDRESS | ((x % 8) << 12))
        }
    }

    proptest! {
        #[test]
        fn never_panics(seed: u64, ttbr: u64, tsz in 0u32..64, upper: bool, iova: u64) {
            let regime = Regime { ttbr, tsz, upper, granule_4k: true, disabled: false };
            let iova = iova & IOVA_MASK;
            if let Ok(root) = regime.root(iova) {
                if let Ok(leaf) = walk(&Noise(seed), &regime, root, iova, |_| {}) {
                    prop_assert_eq!(leaf.pa(iova) % 4096, iova % 4096);
                }
            }
            random_address(&Noise(seed), &regime, |n| iova % n.max(1));
        }

        #[test]
        fn visiting_noise_ends(seed: u64, ttbr in 0u64..0x10_0000) {
            let mut items = 0;
            visit_all(&Noise(seed), &lower(ttbr), |_| items += 1);
            prop_assert!(items < 1_000_000);
        }
    }
}
