// SPDX-License-Identifier: GPL-2.0-only
//! What the command stream says at the position: packets that can't be read, buffers that aren't
//! there, values that don't come, work that doesn't end.

use super::*;
use crate::cp::{
    layout::Error,
    position::{
        Level,
        Placed,
        Position, //
    }, //
};
use crate::pm4::{
    self,
    wait::{
        self,
        Place,
        Wait, //
    },
    Packet, //
};

/// Who wrote a buffer's commands.
fn author(position: &Position) -> Whose {
    match position.level {
        Level::Ring(_) => Whose::Kernel,
        Level::Buffer(_) => Whose::Application,
    }
}

impl Case<'_> {
    pub(super) fn stream(&self) -> Option<Finding> {
        let registers = self.registers?;
        self.complaint(registers)
            .or_else(|| self.wild(registers))
            .or_else(|| self.malformed(registers))
            .or_else(|| self.waits(registers))
            .or_else(|| self.unknown_command(registers))
            .or_else(|| self.works(registers))
    }

    /// `IB1 at 0x…, dword 3 of 12, in BO "x"`
    fn place(&self, position: &Position) -> String {
        format!("{}{}", position.describe(), self.owner(position.base))
    }

    /// The CP has said itself what it can't do.
    fn complaint(&self, registers: Registers<'_>) -> Option<Finding> {
        let errors = registers.errors();
        let last = self.positions.levels.last();
        let place = last.map_or("an unknown place".into(), |position| self.place(position));
        let whose = last.map_or(Whose::Unclear, author);
        let bad = |what: String, next| {
            Some(Finding::new(Verdict::BadPacket, Sure::Certain, whose, what).next(next))
        };
        if errors.contains(&Error::Protected) {
            let value = registers.get(registers.layout.protect).unwrap_or(0);
            // Those up to a5xx count bytes.
            let (write, register) = match registers.generation >= pm4::Generation::A6xx {
                true => ((value >> 20) & 1 == 0, value & 0x3_ffff),
                false => ((value >> 24) & 1 != 0, (value & 0xf_ffff) >> 2),
            };
            let verb = if write { "writes" } else { "reads" };
            return bad(
                format!(
                    "A command {verb} register {register:#x}, which commands may not touch, about \
                        {place}."
                ),
                "Look at the register writes before the position; a wrong count makes the CP take \
                    data for registers.",
            );
        }
        if errors.contains(&Error::Opcode) || errors.contains(&Error::Reserved) {
            let header = self.contents.sequencer_packet(self.dump);
            let which = match header.map(|h| (h, Packet::new(registers.generation, h))) {
                Some((_, Some(packet))) => format!(" ({})", packet.describe(registers.generation)),
                Some((header, None)) => format!(" ({header:#010x})"),
                None => String::new(),
            };
            return bad(
                format!("The CP met a packet that it doesn't know{which}, about {place}."),
                "Look at the packet before the position: its length is wrong, or the memory isn't \
                    a command buffer any more.",
            );
        }
        if errors.contains(&Error::Firmware) || errors.contains(&Error::Hardware) {
            let value = registers.get(registers.layout.hw_fault).unwrap_or(0);
            let what = format!(
                "The CP reports an error of its {} (CP_HW_FAULT {value:#x}), about {place}.",
                if errors.contains(&Error::Firmware) {
                    "firmware"
                } else {
                    "hardware"
                },
            );
            return Some(
                Finding::new(Verdict::Hang, Sure::Likely, Whose::Unclear, what)
                    .next("Check whether the firmware fits this GPU and is the newest."),
            );
        }
        None
    }

    /// The CP reads commands where there is no BO.
    fn wild(&self, registers: Registers<'_>) -> Option<Finding> {
        let bos = &self.dump.bos;
        if !ends::has_all_bos(self.dump) {
            return None;
        }
        let outside =
            |address: u64| {
                !bos.is_empty()
                    && !bos.iter().any(|bo| bo.range().contains(&address))
                    && !self.dump.rings.iter().any(|ring| {
                        (ring.iova..ring.iova.saturating_add(ring.size)).contains(&address)
                    })
            };
        let finding = |what: String, whose, sure| {
            Finding::new(Verdict::WildBuffer, sure, whose, what).next(
                "Look at where that address comes from: a BO that was freed, or was not put \
                    into the submit's list.",
            )
        };
        let (last, above) = self.positions.levels.split_last()?;
        if let Level::Buffer(level) = last.level {
            if outside(last.base) {
                let caller = above.last().map_or(String::new(), |above| {
                    format!("; {} calls it", self.place(above))
                });
                let what = format!(
                    "The CP is in a command buffer (IB{level}) at {:#x}, where there is no \
                        BO{caller}.",
                    last.base
                );
                let whose = above.last().map_or(Whose::Unclear, author);
                // The ring calls what the submit asks for.
                let whose = if level == 1 {
                    Whose::Application
                } else {
                    whose
                };
                return Some(finding(what, whose, Sure::Likely));
            }
        }
        let header = self.contents.sequencer_packet(self.dump);
        let candidates = last.candidates(header);
        let call = candidates
            .into_iter()
            .find_map(|placed| pm4::call(registers.generation, placed.packet, &placed.payload))?;
        outside(call.target).then(|| {
            let what = format!(
                "The CP is about to read a command buffer at {:#x}, where there is no BO, called \
                    from {}.",
                call.target,
                self.place(last)
            );
            finding(what, Whose::Application, Sure::Likely)
        })
    }

    fn malformed(&self, registers: Registers<'_>) -> Option<Finding> {
        let position = self.positions.levels.last()?;
        let (at, header) = position.malformed?;
        let before = match position.before.last() {
            Some(placed) => format!(
                "the packet before it is {}",
                placed.packet.describe(registers.generation)
            ),
            None => "it is the first".into(),
        };
        let what = format!(
            "The command stream has {header:#010x} where a packet must begin, at dword {at} of \
                {}{}; {before}.",
            position.describe(),
            self.owner(position.base)
        );
        let zeros = if header == 0 {
            "the commands were not written, or not yet visible to the GPU"
        } else {
            "the memory was used for something else while the GPU read it"
        };
        Some(
            Finding::new(Verdict::BadPacket, Sure::Likely, author(position), what)
                .next("Check the length of that packet, and who writes to the buffer.")
                .or(zeros),
        )
    }

    /// What a place holds, in words, and as a number.
    fn there(&self, registers: Registers<'_>, place: Place) -> (String, Option<u32>) {
        match place {
            Place::Register(register) => {
                (format!("register {register:#x}"), registers.get(register))
            }
            Place::Memory(address) => {
                let words = self.contents.at(self.dump, address);
                let value = words.and_then(|words| words.get(0));
                (format!("memory {address:#x}{}", self.owner(address)), value)
            }
            Place::Inside => ("the CP's own memory".into(), None),
        }
    }

    fn waits(&self, registers: Registers<'_>) -> Option<Finding> {
        let header = self.contents.sequencer_packet(self.dump);
        // From the innermost outwards: a buffer whose every dword is taken may be done.
        for position in self.positions.levels.iter().rev() {
            let mut waits = position
                .candidates(header)
                .into_iter()
                .filter_map(|placed| {
                    let wait = wait::parse(registers.generation, placed.packet, &placed.payload)?;
                    Some((placed, wait))
                });
            let stuck = waits.find(|(_, wait)| {
                let (_, value) = self.there(registers, wait.place);
                !value.is_some_and(|value| wait.ends_with(value))
            });
            if let Some((placed, wait)) = stuck {
                return Some(self.waiting(registers, position, placed, wait));
            }
        }
        None
    }

    fn waiting(
        &self,
        registers: Registers<'_>,
        position: &Position,
        placed: &Placed,
        wait: Wait,
    ) -> Finding {
        let (place, value) = self.there(registers, wait.place);
        let there = match value {
            Some(value) => format!("it is {value:#x}"),
            None => "the dump doesn't say what is there".into(),
        };
        let what = format!(
            "The CP waits ({}) for {place} {}; {there}. It is in {}.",
            placed.packet.describe(registers.generation),
            wait.wants(),
            self.place(position)
        );
        let sure = match value {
            Some(_) => Sure::Certain,
            None => Sure::Likely,
        };
        let finding = Finding::new(Verdict::Waits, sure, author(position), what);
        let finding = match wait.place {
            Place::Register(_) => finding.next(
                "Look at what should change that register, and whether that unit is busy or \
                    off.",
            ),
            Place::Memory(_) => finding.next(
                "Look for who should write it: an earlier submit, another queue, the CPU; and for \
                    a wait in the wrong order.",
            ),
            Place::Inside => finding.next(
                "Look for the command of the other pipe that should \
                signal it.",
            ),
        };
        match value {
            Some(_) => finding,
            None => finding.or("the value is there, and the hang is at the next packet"),
        }
    }

    fn unknown_command(&self, registers: Registers<'_>) -> Option<Finding> {
        let header = self.contents.sequencer_packet(self.dump);
        let position = self.positions.levels.last()?;
        let placed = position.candidates(header).into_iter().find(|placed| {
            let opcode = placed.packet.opcode();
            opcode.is_some_and(|opcode| pm4::name(registers.generation, opcode).is_none())
        })?;
        let what = format!(
            "The CP is at a command that {} isn't known to have ({:#04x}, header {:#010x}), in {}.",
            registers.generation,
            placed.packet.opcode()?,
            placed.packet.header,
            self.place(position)
        );
        Some(
            Finding::new(Verdict::BadPacket, Sure::Possible, author(position), what)
                .next(
                    "Check what was written there; the public register database may lack the \
                    command.",
                )
                .or("a command that works, and the hang has another reason"),
        )
    }

    /// Units are busy, and the CP waits for them or has just given them work.
    fn works(&self, registers: Registers<'_>) -> Option<Finding> {
        let busy = registers.layout.busy(registers.status()?);
        let header = self.contents.sequencer_packet(self.dump);
        let position = self.positions.levels.last()?;
        let packet = position
            .candidates(header)
            .into_iter()
            .chain(position.before.iter().rev())
            .find_map(|placed| {
                let name = placed.packet.name(registers.generation)?;
                (pm4::is_work(name) || pm4::is_barrier(name)).then_some((placed.at, name))
            });
        let (what, sure) = match (busy.is_empty(), packet) {
            (true, _) => return None,
            (false, Some((at, name))) if pm4::is_work(name) => (
                format!(
                    "{name} at dword {at} doesn't come to an end: busy are {}. It is in {}.",
                    busy.join(", "),
                    self.place(position)
                ),
                Sure::Likely,
            ),
            (false, Some((_, name))) => (
                format!(
                    "A draw or dispatch doesn't come to an end: the CP waits ({name}) in {}, busy \
                        are {}.",
                    self.place(position),
                    busy.join(", ")
                ),
                Sure::Likely,
            ),
            (false, None) => (
                format!(
                    "A draw or dispatch doesn't come to an end: busy are {}. The CP is in {}.",
                    busy.join(", "),
                    self.place(position)
                ),
                Sure::Possible,
            ),
        };
        let shader = busy.iter().any(|unit| matches!(*unit, "SP" | "HLSQ"));
        let finding = Finding::new(Verdict::Unfinished, sure, Whose::Application, what);
        let finding = if registers.is_stalled() {
            finding.or(
                "an access that the SMMU holds back: RBBM_STATUS3 says so, look for '*** \
                gpu fault' in the kernel log",
            )
        } else {
            finding.or("work that is only long: see /sys/kernel/debug/dri/*/hangcheck_period_ms")
        };
        Some(if shader {
            finding.next(
                "Look for a shader that loops for ever, in the last draw or dispatch \
                before the position.",
            )
        } else {
            finding.next(
                "Compare the state of the last draw or dispatch before the position with \
                what those units can do.",
            )
        })
    }
}
