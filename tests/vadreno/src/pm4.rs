// SPDX-License-Identifier: GPL-2.0-only

//! PM4 packet headers and opcodes. Facts: `registers/adreno/adreno_pm4.xml` of the msm driver.

/// Opcodes of type 7 packets that the virtual CP carries out.
#[allow(missing_docs)] // Named as in the packet database.
pub mod op {
    pub const NOP: u8 = 0x10;
    pub const WAIT_MEM_GTE: u8 = 0x14;
    pub const REG_RMW: u8 = 0x21;
    pub const BLIT: u8 = 0x2c;
    pub const INDIRECT_BUFFER_PFD: u8 = 0x37;
    pub const REG_TEST: u8 = 0x39;
    pub const WAIT_REG_MEM: u8 = 0x3c;
    pub const MEM_WRITE: u8 = 0x3d;
    pub const REG_TO_MEM: u8 = 0x3e;
    pub const INDIRECT_BUFFER: u8 = 0x3f;
    pub const MEM_TO_REG: u8 = 0x42;
    pub const COND_EXEC: u8 = 0x44;
    pub const COND_WRITE5: u8 = 0x45;
    pub const EVENT_WRITE: u8 = 0x46;
    pub const COND_REG_EXEC: u8 = 0x47;
    pub const WAIT_REG_EQ: u8 = 0x52;
    pub const SMMU_TABLE_UPDATE: u8 = 0x53;
    pub const SET_PSEUDO_REG: u8 = 0x56;
    pub const CONTEXT_REG_BUNCH: u8 = 0x5c;
    pub const WHERE_AM_I: u8 = 0x62;
    pub const SET_MARKER: u8 = 0x65;
    pub const CONTEXT_SWITCH_YIELD: u8 = 0x6b;
    pub const REG_WRITE: u8 = 0x6d;
    pub const MEM_TO_MEM: u8 = 0x73;
    pub const MEMCPY: u8 = 0x75;
}

/// Opcodes that only order, mark or set state which the device has none of.
pub const WITHOUT_EFFECT: &[u8] = &[
    op::NOP,
    0x11,
    0x12,
    0x13,
    0x19,
    0x1a,
    0x1d,
    0x23,
    0x25,
    0x26,
    0x3b,
    0x43,
    0x48,
    0x4b,
    0x4e,
    0x50,
    0x51,
    0x55,
    0x5e,
    0x5f,
    0x63,
    0x64,
    0x66,
    0x6c,
];

/// Opcodes of this generation that the device does not carry out (draws, dispatches, state loads,
/// scratch registers): counted and skipped.
pub const UNSUPPORTED: &[u8] = &[
    0x1c, 0x1e, 0x22, 0x24, 0x28, 0x29, 0x2a, 0x2e, 0x2f, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36,
    0x38, 0x40, 0x41, 0x4a, 0x4c, 0x4d, 0x4f, 0x54, 0x57, 0x5d, 0x69, 0x6a, 0x6e, 0x6f, 0x70, 0x71,
    0x72, 0x74, 0x78,
];

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Type 4: writes `count` registers from `reg`.
    Write {
        /// First register.
        reg: u32,
        /// Dwords that follow.
        count: u32,
    },
    /// Type 7: an opcode.
    Op {
        /// Opcode.
        op: u8,
        /// Dwords that follow.
        count: u32,
    },
}

/// The bit that makes the number of ones odd.
fn odd_parity(value: u32) -> u32 {
    (value.count_ones() & 1) ^ 1
}

impl Header {
    /// Decodes a header; `None` for other types, wrong parity and reserved bits.
    pub fn decode(dword: u32) -> Option<Self> {
        match dword >> 28 {
            4 => {
                let (count, reg) = (dword & 0x7f, (dword >> 8) & 0x3_ffff);
                (odd_parity(count) == (dword >> 7) & 1
                    && odd_parity(reg) == (dword >> 27) & 1
                    && dword & (1 << 26) == 0)
                    .then_some(Self::Write { reg, count })
            }
            7 => {
                let (count, op) = (dword & 0x3fff, (dword >> 16) & 0x7f);
                (odd_parity(count) == (dword >> 15) & 1
                    && odd_parity(op) == (dword >> 23) & 1
                    && dword & 0x0f00_4000 == 0)
                    .then_some(Self::Op {
                        op: op as u8,
                        count,
                    })
            }
            _ => None,
        }
    }

    /// The header's dword.
    pub fn encode(self) -> u32 {
        match self {
            Self::Write { reg, count } => {
                (4 << 28) | count | (odd_parity(count) << 7) | (reg << 8) | (odd_parity(reg) << 27)
            }
            Self::Op { op, count } => {
                let op = u32::from(op);
                (7 << 28) | count | (odd_parity(count) << 15) | (op << 16) | (odd_parity(op) << 23)
            }
        }
    }
}

/// The comparison that conditional packets use (`cp_cond_function`).
pub fn condition(function: u32, value: u32, reference: u32) -> bool {
    match function & 7 {
        0 => true,
        1 => value < reference,
        2 => value <= reference,
        3 => value == reference,
        4 => value != reference,
        5 => value >= reference,
        6 => value > reference,
        _ => false,
    }
}

/// A 64-bit value at `at` of a packet's payload; missing dwords are 0.
pub fn qword(payload: &[u32], at: usize) -> u64 {
    u64::from(dword(payload, at)) | (u64::from(dword(payload, at + 1)) << 32)
}

/// A dword of a packet's payload; a missing one is 0.
pub fn dword(payload: &[u32], at: usize) -> u32 {
    payload.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_as_the_driver_writes_them() {
        // CP_NOP with no payload, CP_MEM_WRITE with 4, CP_SCRATCH[2] with 1.
        assert_eq!(
            Header::decode(0x7010_8000),
            Some(Header::Op {
                op: op::NOP,
                count: 0
            })
        );
        assert_eq!(
            Header::Op {
                op: op::MEM_WRITE,
                count: 4
            }
            .encode(),
            0x703d_0004
        );
        assert_eq!(Header::decode(0), None);
        assert_eq!(Header::decode(0xffff_ffff), None);
    }

    #[test]
    fn opcode_lists_are_disjoint() {
        for op in WITHOUT_EFFECT {
            assert!(!UNSUPPORTED.contains(op), "{op:#x}");
        }
    }

    proptest! {
        #[test]
        fn encode_decode(
            op in 0u8..0x80,
            count in 0u32..0x4000,
            reg in 0u32..0x4_0000,
            n in 0u32..0x80,
        ) {
            for header in [Header::Op { op, count }, Header::Write { reg, count: n }] {
                prop_assert_eq!(Header::decode(header.encode()), Some(header));
                // One wrong bit is noticed, but for those that are checked together.
                prop_assert_ne!(Header::decode(header.encode() ^ 1), Some(header));
            }
        }

        #[test]
        fn decode_takes_anything(dword: u32) {
            if let Some(header) = Header::decode(dword) {
                prop_assert_eq!(header.encode(), dword);
            }
        }
    }
}
