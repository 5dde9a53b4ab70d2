// SPDX-License-Identifier: GPL-2.0-only
//! PM4, the language of the CP's command streams: what a packet's header says. What is known of the
//! packets' content is in [`wait`] and in [`call`]; decoding the rest is crashdec's business.

mod opcodes;
pub mod wait;

use crate::dump::Revision;
use opcodes::OPCODES;
use serde::Serialize;
use std::fmt;

/// GPUs whose CP speaks alike and has its registers in the same places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// Adreno 3xx.
    A3xx,
    /// Adreno 4xx.
    A4xx,
    /// Adreno 5xx.
    A5xx,
    /// Adreno 6xx.
    A6xx,
    /// Adreno 7xx.
    A7xx,
}

impl Generation {
    /// All of them.
    pub const ALL: [Generation; 5] = [
        Generation::A3xx,
        Generation::A4xx,
        Generation::A5xx,
        Generation::A6xx,
        Generation::A7xx,
    ];

    /// The generation of a GPU, if it is one of these.
    pub fn of(revision: &Revision) -> Option<Generation> {
        match (revision.chip, revision.number) {
            // The A702 is an A6xx by all but its name.
            ([7, 0, 2, _], _) => Some(Generation::A6xx),
            ([3, ..], _) | (_, 300..400) => Some(Generation::A3xx),
            ([4, ..], _) | (_, 400..500) => Some(Generation::A4xx),
            ([5, ..], _) | (_, 500..600) => Some(Generation::A5xx),
            ([6, ..], _) | (_, 600..700) => Some(Generation::A6xx),
            // Chip ids of later ones begin with 0x43.
            ([7 | 0x43, ..], _) | (_, 700..800) => Some(Generation::A7xx),
            _ => None,
        }
    }

    fn number(self) -> u8 {
        3 + self as u8
    }

    /// Its headers are protected by parity bits (types 4 and 7).
    fn has_parity(self) -> bool {
        self >= Generation::A5xx
    }
}

/// What a packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Writes registers, from this one on.
    Write {
        /// Dword offset of the first.
        register: u32,
    },
    /// A command.
    Command {
        /// Which.
        opcode: u8,
    },
    /// A dword that does nothing.
    Filler,
}

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// Its header.
    pub header: u32,
    /// What it does.
    pub kind: Kind,
    /// How many dwords follow the header.
    pub payload: u32,
}

/// The bit that makes the number of ones odd.
fn parity(value: u32) -> u32 {
    (value.count_ones() & 1) ^ 1
}

impl Packet {
    /// Reads a header. `None`: it isn't one.
    pub fn new(generation: Generation, header: u32) -> Option<Packet> {
        let (kind, payload) = match (header >> 28, generation.has_parity()) {
            (4, true) => {
                let count = header & 0x7f;
                let register = (header >> 8) & 0x3_ffff;
                let good =
                    (header >> 7) & 1 == parity(count) && (header >> 27) & 1 == parity(register);
                (good && header & (1 << 26) == 0).then_some((Kind::Write { register }, count))?
            }
            (7, true) => {
                let count = header & 0x3fff;
                let opcode = (header >> 16) & 0x7f;
                let good =
                    (header >> 15) & 1 == parity(count) && (header >> 23) & 1 == parity(opcode);
                let reserved = header & 0x0f00_4000;
                let opcode = opcode as u8;
                (good && reserved == 0).then_some((Kind::Command { opcode }, count))?
            }
            (_, true) => return None,
            (0..4, false) => {
                let register = header & 0x7fff;
                (Kind::Write { register }, ((header >> 16) & 0x3fff) + 1)
            }
            (8, false) if header == 0x8000_0000 => (Kind::Filler, 0),
            (12..16, false) => {
                let opcode = (header >> 8) & 0xff;
                let opcode = u8::try_from(opcode).ok().filter(|&opcode| opcode < 0x80)?;
                // Bit 0 makes it conditional.
                (header & 0xfe == 0)
                    .then_some((Kind::Command { opcode }, ((header >> 16) & 0x3fff) + 1))?
            }
            (_, false) => return None,
        };
        Some(Packet {
            header,
            kind,
            payload,
        })
    }

    /// Its length with the header, in dwords.
    pub fn length(self) -> u64 {
        1 + u64::from(self.payload)
    }

    /// Its opcode, if it is a command.
    pub fn opcode(self) -> Option<u8> {
        match self.kind {
            Kind::Command { opcode } => Some(opcode),
            _ => None,
        }
    }

    /// In words.
    pub fn describe(self, generation: Generation) -> String {
        match self.kind {
            Kind::Write { register } => match self.payload {
                1 => format!("write of register {register:#x}"),
                n => format!("write of {n} registers from {register:#x}"),
            },
            Kind::Command { opcode } => match name(generation, opcode) {
                Some(name) => name.to_owned(),
                None => format!("unknown command {opcode:#04x}"),
            },
            Kind::Filler => "filler".into(),
        }
    }

    /// It is a command of this name.
    pub fn is(self, generation: Generation, wanted: &str) -> bool {
        self.name(generation) == Some(wanted)
    }

    /// The command's name, if it is one and has one.
    pub fn name(self, generation: Generation) -> Option<&'static str> {
        name(generation, self.opcode()?)
    }
}

/// The name of a command, if this generation has it.
pub fn name(generation: Generation, opcode: u8) -> Option<&'static str> {
    let number = generation.number();
    OPCODES.iter().find_map(|&(code, first, last, name)| {
        (code == opcode && (first..=last).contains(&number)).then_some(name)
    })
}

/// A packet that has the CP go on in another buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Where.
    pub target: u64,
    /// How many dwords there are.
    pub size: u64,
    /// It doesn't come back: the buffer takes the caller's place.
    pub chain: bool,
}

/// What a packet calls.
pub fn call(generation: Generation, packet: Packet, payload: &[u32]) -> Option<Call> {
    let name = packet.name(generation)?;
    let chain = name == "CP_INDIRECT_BUFFER_CHAIN";
    if !chain && !matches!(name, "CP_INDIRECT_BUFFER" | "CP_INDIRECT_BUFFER_PFD") {
        return None;
    }
    let (target, size) = match (generation.has_parity(), payload) {
        (true, &[low, high, size, ..]) => ((u64::from(high) << 32) | u64::from(low), size),
        (false, &[low, size, ..]) => (low.into(), size),
        _ => return None,
    };
    Some(Call {
        target,
        size: u64::from(size & 0xf_ffff),
        chain,
    })
}

/// It makes the GPU's units work: they may not come to an end.
pub fn is_work(name: &str) -> bool {
    let draw = name.starts_with("CP_DRAW_") && !name.starts_with("CP_DRAW_PRED");
    draw || name.starts_with("CP_EXEC_CS") || matches!(name, "CP_RUN_OPENCL" | "CP_BLIT")
}

/// It waits for units that work.
pub fn is_barrier(name: &str) -> bool {
    matches!(
        name,
        "CP_WAIT_FOR_IDLE"
            | "CP_WAIT_FOR_ME"
            | "CP_WAIT_MEM_WRITES"
            | "CP_EVENT_WRITE"
            | "CP_EVENT_WRITE7"
    )
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adreno {}xx", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_real_streams() {
        let a6 = |header| Packet::new(Generation::A6xx, header);
        // From a ring: CP_NOP, CP_INDIRECT_BUFFER, a write of two registers.
        let nop = a6(0x7010_8003).unwrap();
        assert_eq!((nop.opcode(), nop.payload), (Some(0x10), 3));
        let call = a6(0x70bf_8003).unwrap();
        assert!(call.is(Generation::A6xx, "CP_INDIRECT_BUFFER"));
        assert_eq!(call.payload, 3);
        // Each flipped bit is noticed, in the parity's fields as in the reserved ones.
        for header in [0x7010_8003u32, 0x70bf_8003] {
            for bit in 0..32 {
                assert_eq!(a6(header ^ (1 << bit)), None, "{header:#x} {bit}");
            }
        }
        for header in [0, 0xdead_beef, !0, 0xc000_1000] {
            assert_eq!(a6(header), None, "{header:#x}");
        }
    }

    #[test]
    fn headers_of_old_streams() {
        let a3 = |header| Packet::new(Generation::A3xx, header);
        let wait = a3(0xc004_3c00).unwrap();
        assert!(wait.is(Generation::A3xx, "CP_WAIT_REG_MEM"));
        assert_eq!(wait.payload, 5);
        let write = a3(0x0001_2040).unwrap();
        assert_eq!(
            (write.kind, write.payload),
            (Kind::Write { register: 0x2040 }, 2)
        );
        assert_eq!(a3(0x8000_0000).unwrap().length(), 1);
        assert_eq!(a3(0x4000_0000), None);
        assert_eq!(a3(0xc004_fc00), None);
    }

    #[test]
    fn commands_that_were_given_anew() {
        let of = |generation| name(generation, 0x14);
        assert_eq!(of(Generation::A5xx), None);
        assert_eq!(of(Generation::A6xx), Some("CP_WAIT_MEM_GTE"));
        assert_eq!(of(Generation::A7xx), Some("CP_WAIT_TIMESTAMP"));
        assert_eq!(name(Generation::A4xx, 0x46), Some("CP_EVENT_WRITE"));
        // The table is in order, and says one thing of each.
        for generation in Generation::ALL {
            for opcode in 0..0x80 {
                let number = generation.number();
                let names = OPCODES.iter().filter(|&&(code, first, last, _)| {
                    code == opcode && (first..=last).contains(&number)
                });
                assert!(names.count() <= 1, "{generation} {opcode:#x}");
            }
        }
        assert!(OPCODES.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn which_generation() {
        let of = |number, chip| Generation::of(&Revision { number, chip });
        assert_eq!(of(320, [3, 2, 0, 2]), Some(Generation::A3xx));
        assert_eq!(of(0, [7, 0, 2, 0]), Some(Generation::A6xx));
        assert_eq!(of(0, [0x43, 5, 0x0a, 1]), Some(Generation::A7xx));
        assert_eq!(of(0, [7, 3, 0, 1]), Some(Generation::A7xx));
        assert_eq!(of(0, [0x44, 5, 0x0a, 1]), None);
        assert_eq!(of(220, [2, 2, 0, 1]), None);
    }
}
