// SPDX-License-Identifier: GPL-2.0-only

//! The entries' format: VMSAv8-64 stage 1 (Arm ARM, D8.3), 4 KiB granule, for the Adreno SMMU.
//!
//! The same bits as io-pgtable-arm makes for `ARM_64_LPAE_S1` with the quirks that arm-smmu-qcom
//! sets: TTBR1 is taken off for per-process tables, and OUTER_WBWA only changes TCR, which the SMMU
//! driver programs. The attribute indices are those of the MAIR that io-pgtable-arm puts into the
//! same configuration.

use super::geometry::BLOCK_SIZE;
use super::memory::{Table, ADDRESS};

/// A table descriptor above the last level, a page descriptor in it.
const TABLE_OR_PAGE: u64 = 0b11;

/// Without this, a valid descriptor above the last level is a block's.
const NO_BLOCK: u64 = 0b10;

/// Without this, no walker looks at the rest of a descriptor.
const VALID: u64 = 0b01;

/// MAIR index 1: normal, inner and outer write-back. Index 0 is normal non-cacheable.
const ATTR_CACHED: u64 = 1 << 2;

/// AP\[1\]: accessible to unprivileged accesses.
const UNPRIVILEGED: u64 = 1 << 6;

/// AP\[2\]: read only.
const READ_ONLY: u64 = 1 << 7;

const OUTER_SHAREABLE: u64 = 0b10 << 8;
const INNER_SHAREABLE: u64 = 0b11 << 8;

/// Access flag: without it the first access faults.
const ACCESSED: u64 = 1 << 10;

/// Belongs to one ASID.
const NOT_GLOBAL: u64 = 1 << 11;

/// How pages may be used. Every mapping can be read: stage 1 has no other way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prot {
    /// The GPU may write (`IOMMU_WRITE`).
    pub write: bool,
    /// Only privileged accesses (`IOMMU_PRIV`).
    pub privileged: bool,
    /// Snooped, write-back (`IOMMU_CACHE`); otherwise normal non-cacheable.
    pub cached: bool,
}

impl Prot {
    /// The attributes of a page descriptor, without an address.
    pub(super) const fn page_attributes(self) -> u64 {
        let mut attributes = TABLE_OR_PAGE | ACCESSED | NOT_GLOBAL;
        if !self.write {
            attributes |= READ_ONLY;
        }
        if !self.privileged {
            attributes |= UNPRIVILEGED;
        }
        attributes
            | if self.cached {
                ATTR_CACHED | INNER_SHAREABLE
            } else {
                OUTER_SHAREABLE
            }
    }

    /// The descriptor of the page at `address`, a multiple of 4 KiB below 2^48.
    pub const fn page(self, address: u64) -> u64 {
        address & ADDRESS | self.page_attributes()
    }
}

/// Whether a descriptor above the last level, which may be zero, leads to a table.
pub(super) const fn is_table(descriptor: u64) -> bool {
    descriptor & NO_BLOCK != 0
}

/// The descriptor of the block that begins with the page of this descriptor, if one can.
pub(super) const fn block_of(page: u64) -> Option<u64> {
    if page & ADDRESS & (BLOCK_SIZE - 1) == 0 {
        Some(page & !NO_BLOCK)
    } else {
        None
    }
}

/// The descriptor of the first page of a block; those of the others follow in steps of a page.
pub(super) const fn first_page(block: u64) -> u64 {
    block | NO_BLOCK
}

/// A descriptor that no walker looks at, which remembers `table` until it is linked.
pub(super) const fn unlinked(table: Table) -> u64 {
    self::table(table) & !VALID
}

/// Whether a descriptor is one of [`unlinked`].
pub(super) const fn is_unlinked(descriptor: u64) -> bool {
    descriptor & TABLE_OR_PAGE == NO_BLOCK
}

/// The descriptor that points to a table of the next level.
pub const fn table(table: Table) -> u64 {
    table.address() | TABLE_OR_PAGE
}
