// SPDX-License-Identifier: GPL-2.0-only
//! What the page tables said about the faulting address: the four entries of the `ptes` line.
//!
//! They are AArch64 stage 1 entries with a 4 KiB granule (drivers/iommu/io-pgtable-arm.c), one for
//! each level from 0, taken by the CPU when the dump was made. A walk stops at the first entry that
//! isn't a table; the later ones are 0. Tables of 39-bit address spaces begin at level 1 and leave
//! the first one 0.

use crate::dump::hex;
use serde::Serialize;

const VALID: u64 = 1 << 0;
const TABLE_OR_PAGE: u64 = 1 << 1;
const AP_UNPRIV: u64 = 1 << 6;
const AP_RDONLY: u64 = 1 << 7;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// The entry that a walk ends in when the address is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// The entry.
    #[serde(serialize_with = "hex")]
    pub pte: u64,
    /// Its level, 1 to 3.
    pub level: u8,
}

impl Leaf {
    /// How many bytes it maps.
    pub fn size(self) -> u64 {
        1 << (12 + 9 * (3 - u32::from(self.level.min(3))))
    }

    /// Physical address of the first byte it maps.
    pub fn address(self) -> u64 {
        self.pte & ADDRESS & !(self.size() - 1)
    }

    /// Unprivileged accesses may use it.
    pub fn unprivileged(self) -> bool {
        self.pte & AP_UNPRIV != 0
    }

    /// Writes are refused.
    pub fn read_only(self) -> bool {
        self.pte & AP_RDONLY != 0
    }
}

/// Where a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Walk {
    /// There are no tables to speak of: no entry was read.
    Nothing,
    /// At an invalid entry of this level.
    Unmapped {
        /// 0 to 3.
        level: u8,
    },
    /// At a page or block.
    Mapped(Leaf),
    /// At an entry that no level 3 table can hold.
    Malformed {
        /// The entry.
        pte: u64,
    },
}

impl Walk {
    /// Interprets the entries of one dump.
    pub fn new(ptes: [u64; 4]) -> Walk {
        let Some(first) = ptes.iter().position(|&pte| pte != 0) else {
            return Walk::Nothing;
        };
        // A walk that begins at level 0 or 1 and finds something does so at once; anything later is
        // a hole.
        if first > 1 {
            return Walk::Malformed { pte: ptes[first] };
        }
        for (level, &pte) in (0u8..).zip(&ptes).skip(first) {
            if pte & VALID == 0 {
                return Walk::Unmapped { level };
            }
            let last = level == 3;
            match (pte & TABLE_OR_PAGE != 0, last) {
                (true, false) => {}
                (true, true) => return Walk::Mapped(Leaf { pte, level }),
                (false, false) if level > 0 => return Walk::Mapped(Leaf { pte, level }),
                (false, _) => return Walk::Malformed { pte },
            }
        }
        Walk::Unmapped { level: 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_end_where_the_tables_do() {
        assert_eq!(Walk::new([0; 4]), Walk::Nothing);
        assert_eq!(
            Walk::new([0x1003, 0x2003, 0, 0]),
            Walk::Unmapped { level: 2 }
        );
        assert_eq!(
            Walk::new([0x1003, 0x2003, 0x3003, 0]),
            Walk::Unmapped { level: 3 }
        );
        let leaf = |ptes| match Walk::new(ptes) {
            Walk::Mapped(leaf) => leaf,
            other => panic!("{other:?}"),
        };
        let page = leaf([0x1003, 0x2003, 0x3003, 0x8fd7_f0f4_7000 | 0xfc3]);
        assert_eq!((page.level, page.size()), (3, 4096));
        assert_eq!(page.address(), 0x8fd7_f0f4_7000);
        assert!(page.unprivileged() && page.read_only());
        let block = leaf([0x1003, 0x2003, 0x4000_0f41, 0]);
        assert_eq!((block.level, block.size()), (2, 2 << 20));
        assert!(block.unprivileged() && !block.read_only());
        // A 39-bit space begins at level 1.
        assert_eq!(leaf([0, 0x2003, 0x3003, 0x5f03]).level, 3);
        assert!(!leaf([0, 0x2003, 0x3003, 0x5f03]).unprivileged());
        assert_eq!(
            Walk::new([0x1003, 0x2003, 0x3003, 0x5001]),
            Walk::Malformed { pte: 0x5001 }
        );
    }
}
