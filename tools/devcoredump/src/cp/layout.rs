// SPDX-License-Identifier: GPL-2.0-only
//! Where the registers are that say what a CP does, and what their bits mean. Offsets and names are
//! those of the public register database (a3xx.xml to a6xx.xml, which Mesa and the kernel share);
//! offsets count dwords.

use crate::pm4::Generation;

/// An indirect buffer's registers.
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    /// Its address; the upper half follows where addresses have 64 bits.
    pub base: u32,
    /// How many dwords of it have not been fetched.
    pub rest: u32,
    /// How many it had.
    pub size: Option<u32>,
    /// How many are fetched but not executed, in the upper half.
    pub queued: Option<u32>,
}

/// One generation's registers.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Addresses have 64 bits.
    pub wide: bool,
    /// RBBM_STATUS.
    pub status: u32,
    /// Its bits, except for those that are set whenever something is.
    pub units: &'static [(u8, &'static str)],
    /// RBBM_STATUS3, whose bit 24 says that the SMMU holds an access back.
    pub status3: Option<u32>,
    /// CP_RB_BASE.
    pub ring_base: u32,
    /// CP_RB_RPTR.
    pub ring_read: u32,
    /// How many dwords of the ring are fetched but not executed although
    /// [`ring_read`](Self::ring_read) is past them, in the upper half.
    pub ring_queued: Option<u32>,
    /// The two levels of indirect buffers.
    pub buffers: [Buffer; 2],
    /// Where errors of the CP are reported: register, and its bits.
    pub errors: (u32, &'static [(u8, Error)]),
    /// CP_HW_FAULT.
    pub hw_fault: u32,
    /// CP_PROTECT_STATUS.
    pub protect: u32,
    /// Where the firmware is in memory.
    pub firmware: Option<u32>,
}

/// What the CP complains about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A header or opcode it doesn't know.
    Opcode,
    /// A bit that must be 0.
    Reserved,
    /// Its firmware.
    Firmware,
    /// Its hardware; CP_HW_FAULT says what.
    Hardware,
    /// A register that commands may not touch; CP_PROTECT_STATUS says which.
    Protected,
    /// The bus to the registers.
    Bus,
}

const OLD_UNITS: &[(u8, &str)] = &[
    (15, "VBIF"),
    (16, "TSE"),
    (17, "RAS"),
    (18, "RB"),
    (19, "PC_DCALL"),
    (20, "PC_VSD"),
    (21, "VFD"),
    (22, "VPC"),
    (23, "UCHE"),
    (24, "SP"),
    (25, "TPL1"),
    (26, "MARB"),
    (27, "VSC"),
    (28, "ARB"),
    (29, "HLSQ"),
];

const OLD_ERRORS: &[(u8, Error)] = &[
    (9, Error::Opcode),
    (10, Error::Reserved),
    (11, Error::Hardware),
    (16, Error::Protected),
    (21, Error::Bus),
];

const fn old(base: u32) -> Buffer {
    Buffer {
        base,
        rest: base + 1,
        size: None,
        queued: None,
    }
}

const A3XX: Layout = Layout {
    wide: false,
    status: 0x30,
    units: OLD_UNITS,
    status3: None,
    ring_base: 0x1c0,
    ring_read: 0x1c4,
    ring_queued: None,
    buffers: [old(0x458), old(0x45a)],
    errors: (0x64, OLD_ERRORS),
    hw_fault: 0x45c,
    protect: 0x45f,
    firmware: None,
};

const A4XX: Layout = Layout {
    status: 0x191,
    ring_base: 0x200,
    ring_read: 0x204,
    buffers: [old(0x206), old(0x208)],
    errors: (0x17d, OLD_ERRORS),
    hw_fault: 0x4d8,
    protect: 0x4da,
    ..A3XX
};

const A5XX: Layout = Layout {
    wide: true,
    status: 0x4f5,
    units: &[
        (9, "VBIF"),
        (10, "TSE"),
        (11, "RAS"),
        (12, "RB"),
        (13, "CCUFCHE"),
        (14, "A2D_DSP"),
        (15, "LRZ"),
        (16, "COM"),
        (17, "DCOM"),
        (19, "PC_DCALL"),
        (20, "PC_VSD"),
        (21, "TESS"),
        (22, "VFD"),
        (23, "VFDP"),
        (24, "VPC"),
        (25, "UCHE"),
        (26, "SP"),
        (27, "TPL1"),
        (28, "VSC"),
        (29, "HLSQ"),
    ],
    status3: Some(0x530),
    ring_base: 0x800,
    ring_read: 0x806,
    ring_queued: None,
    buffers: [
        Buffer {
            rest: 0xb21,
            ..old(0xb1f)
        },
        Buffer {
            rest: 0xb24,
            ..old(0xb22)
        },
    ],
    errors: (
        0xb18,
        &[
            (0, Error::Opcode),
            (1, Error::Reserved),
            (2, Error::Hardware),
            (4, Error::Protected),
            (5, Error::Bus),
        ],
    ),
    hw_fault: 0xb1a,
    protect: 0xb1c,
    firmware: Some(0x835),
};

const A6XX: Layout = Layout {
    wide: true,
    status: 0x210,
    units: &[
        (4, "VBIF"),
        (5, "TSE"),
        (6, "RAS"),
        (7, "RB"),
        (8, "CCU"),
        (9, "A2D"),
        (10, "LRZ"),
        (11, "COM_DCOM"),
        (12, "PC_DCALL"),
        (13, "PC_VSD"),
        (14, "TESS"),
        (15, "VFD"),
        (16, "VPC"),
        (17, "UCHE"),
        (18, "SP"),
        (19, "TPL1"),
        (20, "VSC"),
        (21, "HLSQ"),
    ],
    status3: Some(0x213),
    ring_base: 0x800,
    ring_read: 0x806,
    // Until here it is what has been fetched; from a7xx on, what has been executed.
    ring_queued: Some(0x948),
    buffers: [
        Buffer {
            base: 0x928,
            rest: 0x92a,
            size: Some(0x943),
            queued: Some(0x949),
        },
        Buffer {
            base: 0x92b,
            rest: 0x92d,
            size: Some(0x944),
            queued: Some(0x94a),
        },
    ],
    errors: (
        0x823,
        &[
            (0, Error::Opcode),
            (1, Error::Firmware),
            (2, Error::Hardware),
            (4, Error::Protected),
            (5, Error::Bus),
            (7, Error::Opcode),
        ],
    ),
    hw_fault: 0x821,
    protect: 0x824,
    firmware: Some(0x830),
};

const A7XX: Layout = Layout {
    ring_queued: None,
    ..A6XX
};

impl Layout {
    /// That of a generation.
    pub fn of(generation: Generation) -> &'static Layout {
        match generation {
            Generation::A3xx => &A3XX,
            Generation::A4xx => &A4XX,
            Generation::A5xx => &A5XX,
            Generation::A6xx => &A6XX,
            Generation::A7xx => &A7XX,
        }
    }

    /// The units that a value of RBBM_STATUS calls busy.
    pub fn busy(&self, status: u32) -> Vec<&'static str> {
        self.units
            .iter()
            .filter(|&&(bit, _)| (status >> bit) & 1 != 0)
            .map(|&(_, name)| name)
            .collect()
    }
}
