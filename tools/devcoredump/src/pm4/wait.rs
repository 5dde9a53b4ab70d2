// SPDX-License-Identifier: GPL-2.0-only
//! Commands that wait for a register or for memory to have some value.

use super::{
    Generation,
    Packet, //
};
use std::fmt;

/// Where the CP looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A register, by dword offset.
    Register(u32),
    /// Memory, by address.
    Memory(u64),
    /// The CP's own memory, which no dump has.
    Inside,
}

/// What is compared with the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Any value will do.
    Always,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

impl Test {
    fn new(function: u32) -> Option<Test> {
        Some(match function {
            0 => Test::Always,
            1 => Test::Less,
            2 => Test::LessOrEqual,
            3 => Test::Equal,
            4 => Test::NotEqual,
            5 => Test::GreaterOrEqual,
            6 => Test::Greater,
            _ => return None,
        })
    }

    fn holds(self, value: i64, reference: i64) -> bool {
        match self {
            Test::Always => true,
            Test::Less => value < reference,
            Test::LessOrEqual => value <= reference,
            Test::Equal => value == reference,
            Test::NotEqual => value != reference,
            Test::GreaterOrEqual => value >= reference,
            Test::Greater => value > reference,
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Test::Always => "anything",
            Test::Less => "<",
            Test::LessOrEqual => "<=",
            Test::Equal => "==",
            Test::NotEqual => "!=",
            Test::GreaterOrEqual => ">=",
            Test::Greater => ">",
        })
    }
}

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Where it looks.
    pub place: Place,
    /// How it compares.
    pub test: Test,
    /// With what.
    pub reference: u32,
    /// Which bits count.
    pub mask: u32,
    /// As signed numbers.
    pub signed: bool,
}

impl Wait {
    /// Whether that value ends it.
    pub fn ends_with(&self, value: u32) -> bool {
        let number = |word: u32| match self.signed {
            true => i64::from(word as i32),
            false => i64::from(word),
        };
        self.test
            .holds(number(value & self.mask), number(self.reference))
    }

    /// What it wants.
    pub fn wants(&self) -> String {
        match self.mask {
            u32::MAX => format!("{} {:#x}", self.test, self.reference),
            mask => format!("& {mask:#x} {} {:#x}", self.test, self.reference),
        }
    }
}

/// What a packet waits for, if it is one of these.
pub fn parse(generation: Generation, packet: Packet, payload: &[u32]) -> Option<Wait> {
    let wide = generation.has_parity();
    let long = |low: u32, high: u32| (u64::from(high) << 32) | u64::from(low);
    let at_least = |place, reference| Wait {
        place,
        test: Test::GreaterOrEqual,
        reference,
        mask: u32::MAX,
        signed: true,
    };
    match (packet.name(generation)?, payload) {
        ("CP_WAIT_REG_MEM", &[function, low, high, reference, mask, ..]) if wide => Some(Wait {
            place: match (function >> 4) & 3 {
                0 => Place::Register(low & 0x3_ffff),
                1 => Place::Memory(long(low, high)),
                _ => Place::Inside,
            },
            test: Test::new(function & 7)?,
            reference,
            mask,
            signed: function & 8 != 0,
        }),
        ("CP_WAIT_REG_MEM", &[function, address, reference, mask, ..]) if !wide => Some(Wait {
            place: match (function >> 4) & 1 {
                0 => Place::Register(address & 0x7fff),
                // The lowest two bits say how to swap bytes.
                _ => Place::Memory((address & !3).into()),
            },
            test: Test::new(function & 7)?,
            reference,
            mask,
            signed: false,
        }),
        ("CP_WAIT_MEM_GTE", &[_, low, high, reference, ..]) => {
            Some(at_least(Place::Memory(long(low, high)), reference))
        }
        ("CP_WAIT_TIMESTAMP", &[function, low, high, reference, ..]) => {
            let place = match (function >> 4) & 1 {
                0 if function & 3 == 0 => Place::Memory(long(low, high)),
                _ => Place::Inside,
            };
            Some(at_least(place, reference))
        }
        ("CP_WAIT_REG_EQ", &[register, reference, ..]) => Some(Wait {
            place: Place::Register(register & 0x3_ffff),
            test: Test::Equal,
            reference,
            mask: u32::MAX,
            signed: false,
        }),
        ("CP_WAIT_REG_GTE", &[register, reference, ..]) => Some(Wait {
            signed: false,
            ..at_least(Place::Register(register & 0x7fff), reference)
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_waits() {
        let wait = Wait {
            place: Place::Memory(0),
            test: Test::GreaterOrEqual,
            reference: 1,
            mask: u32::MAX,
            signed: false,
        };
        assert!(!wait.ends_with(0) && wait.ends_with(1) && wait.ends_with(u32::MAX));
        let signed = Wait {
            signed: true,
            ..wait
        };
        assert!(!signed.ends_with(u32::MAX));
        let masked = Wait {
            test: Test::Equal,
            mask: 0xff,
            ..wait
        };
        assert!(masked.ends_with(0xab01) && !masked.ends_with(0x0100));
        assert_eq!(masked.wants(), "& 0xff == 0x1");
    }

    #[test]
    fn short_packets_are_no_waits() {
        let packet = Packet::new(Generation::A6xx, 0x70bc_8006);
        let packet = packet.unwrap_or_else(|| panic!("not a header"));
        assert!(packet.is(Generation::A6xx, "CP_WAIT_REG_MEM"));
        for length in 0..5 {
            assert_eq!(parse(Generation::A6xx, packet, &[0; 6][..length]), None);
        }
        let wait = parse(Generation::A6xx, packet, &[0x13, 0x10, 1, 7, !0, 0]).unwrap();
        assert_eq!(wait.place, Place::Memory(0x1_0000_0010));
        assert_eq!((wait.test, wait.reference), (Test::Equal, 7));
    }
}
