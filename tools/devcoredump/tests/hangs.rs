// SPDX-License-Identifier: GPL-2.0-only
//! Hangs, on dumps made by hand for the registers of each generation.

use crate::common::read;
use msm_devcoredump::ascii85;
use msm_devcoredump::pm4::Generation;
use msm_devcoredump::verdict::{
    Finding,
    Sure,
    Verdict,
    Whose, //
};

const RING: u64 = 0x4000_0000;
const IB1: u64 = 0x1000_0000;
const IB2: u64 = 0x1001_0000;
const DATA: u64 = 0x1002_0000;
const NOWHERE: u64 = 0x7000_0000;

/// Dword offsets of registers, written down anew from the register database.
struct Offsets {
    status: u32,
    ring_base: u32,
    ring_read: u32,
    ib: [(u32, u32); 2],
    errors: u32,
}

fn offsets(generation: Generation) -> Offsets {
    let all = |status, ring_base, ring_read, ib, errors| Offsets {
        status,
        ring_base,
        ring_read,
        ib,
        errors,
    };
    match generation {
        Generation::A3xx => all(0x30, 0x1c0, 0x1c4, [(0x458, 0x459), (0x45a, 0x45b)], 0x64),
        Generation::A4xx => all(0x191, 0x200, 0x204, [(0x206, 0x207), (0x208, 0x209)], 0x17d),
        Generation::A5xx => all(0x4f5, 0x800, 0x806, [(0xb1f, 0xb21), (0xb22, 0xb24)], 0xb18),
        _ => all(0x210, 0x800, 0x806, [(0x928, 0x92a), (0x92b, 0x92d)], 0x823),
    }
}

struct Hang {
    generation: Generation,
    ring: Vec<u32>,
    read: u32,
    /// Base and dwords that are left.
    buffers: [(u64, u32); 2],
    status: u32,
    more: Vec<(u32, u32)>,
    ib1: Vec<u32>,
    ib2: Vec<u32>,
    data: Vec<u32>,
    head: &'static str,
}

impl Hang {
    fn wide(&self) -> bool {
        self.generation >= Generation::A5xx
    }

    /// A command's header.
    fn command(&self, opcode: u32, count: u32) -> u32 {
        let parity = |value: u32| u32::from(value.count_ones() % 2 == 0);
        match self.wide() {
            true => {
                (7 << 28) | count | (parity(count) << 15) | (opcode << 16) | (parity(opcode) << 23)
            }
            false => (3 << 30) | ((count - 1) << 16) | (opcode << 8),
        }
    }

    fn nop(&self) -> Vec<u32> {
        vec![self.command(0x10, 1), 0]
    }

    fn call(&self, target: u64, size: u32) -> Vec<u32> {
        match self.wide() {
            true => vec![
                self.command(0x3f, 3),
                target as u32,
                (target >> 32) as u32,
                size,
            ],
            false => vec![self.command(0x3f, 2), target as u32, size],
        }
    }

    /// Waits for a value in memory or in a register.
    fn wait(&self, memory: bool, place: u32, reference: u32) -> Vec<u32> {
        let function = 3 | (u32::from(memory) << 4);
        match self.wide() {
            true => vec![self.command(0x3c, 6), function, place, 0, reference, !0, 32],
            false => vec![self.command(0x3c, 5), function, place, reference, !0, 32],
        }
    }

    /// A ring that calls IB1, which has been taken as far as `left` dwords.
    fn new(generation: Generation, ib1: impl Fn(&Hang) -> Vec<u32>, left: u32) -> Hang {
        let mut hang = Hang {
            generation,
            ring: Vec::new(),
            read: 0,
            buffers: [(IB1, left), (0, 0)],
            status: 0,
            more: Vec::new(),
            ib1: Vec::new(),
            ib2: Vec::new(),
            data: vec![5, 6],
            head: "gpu-initialized: 1\n",
        };
        hang.ib1 = ib1(&hang);
        let mut ring = hang.nop();
        ring.extend(hang.call(IB1, hang.ib1.len() as u32));
        hang.read = ring.len() as u32;
        ring.extend(hang.nop());
        hang.ring = ring;
        hang
    }

    fn text(&self) -> String {
        let core = 3 + self.generation as u32;
        let mut text = format!(
            "---\nkernel: 7.3.4\nmodule: msm\ntime: 1700000000.0\ncomm: test\ncmdline: \
                ./test\n{}revision: {core}30 ({core}.3.0.0)\n\
             rbbm-status: {:#010x}\nringbuffer:\n  - id: 0\n    iova: {RING:#018x}\n    \
                 last-fence: 9\n    retired-fence: 7\n    \
             rptr: {}\n    wptr: {}\n    size: 32768\n",
            self.head,
            self.status,
            self.read,
            self.ring.len()
        );
        let data = |text: &mut String, words: &[u32]| {
            if !words.is_empty() {
                *text += "    data: !!ascii85 |\n     ";
                ascii85::encode(words, text);
                text.push('\n');
            }
        };
        data(&mut text, &self.ring);
        text += "bos:\n";
        for (iova, words, name) in [
            (IB1, &self.ib1, "commands"),
            (IB2, &self.ib2, "inner"),
            (DATA, &self.data, "data"),
        ] {
            text += &format!(
                "  - iova: {iova:#018x}\n    size: 4096\n    flags: 0x0\n    name: {name}\n"
            );
            data(&mut text, words);
        }
        if self.head.contains('0') {
            return text + "registers:\nregisters-gmu:\n";
        }
        let at = offsets(self.generation);
        let mut registers = vec![
            (at.status, self.status),
            (at.ring_base, RING as u32),
            (at.ring_read, self.read),
        ];
        if self.wide() {
            registers.push((at.ring_base + 1, (RING >> 32) as u32));
        }
        for ((base, rest), (value, left)) in at.ib.into_iter().zip(self.buffers) {
            registers.extend([(base, value as u32), (rest, left)]);
            if self.wide() {
                registers.push((base + 1, (value >> 32) as u32));
            }
        }
        registers.extend(&self.more);
        text += "registers:\n";
        for (register, value) in registers {
            text += &format!(
                "  - {{ offset: {:#06x}, value: {value:#010x} }}\n",
                4 * register
            );
        }
        text
    }

    fn finding(&self) -> Finding {
        finding(&self.text())
    }

    #[track_caller]
    fn is(&self, verdict: Verdict, sure: Sure, says: &[&str]) -> Finding {
        let finding = self.finding();
        assert_eq!(
            (finding.verdict, finding.sure),
            (verdict, sure),
            "{finding:#?}"
        );
        for part in says {
            assert!(finding.happened.contains(part), "{part}: {finding:#?}");
        }
        finding
    }
}

/// Of a dump that is well-formed.
fn finding(text: &str) -> Finding {
    let (dump, finding) = read(text);
    assert_eq!(dump.problems, [], "{text}");
    finding
}

#[test]
fn waits_say_what_they_want_and_what_is_there() {
    for generation in Generation::ALL {
        let ib1 = |hang: &Hang| [hang.nop(), hang.wait(true, DATA as u32, 7), hang.nop()].concat();
        let says = [
            "memory 0x10020000",
            "\"data\"",
            "== 0x7",
            "it is 0x5",
            "\"commands\"",
        ];
        // The packet has been taken, or is about to be.
        let length = if generation >= Generation::A5xx { 7 } else { 6 };
        for left in [2, 2 + length] {
            let hang = Hang::new(generation, ib1, left);
            let finding = hang.is(Verdict::Waits, Sure::Certain, &says);
            assert_eq!(finding.whose, Whose::Application);
        }
        // It isn't stuck in a wait that is over.
        let mut over = Hang::new(generation, ib1, 2);
        over.data = vec![7];
        assert_ne!(over.finding().verdict, Verdict::Waits);
        // The bytes of the BO aren't there, or it is the last packet.
        let mut unknown = Hang::new(generation, ib1, 2);
        unknown.data = Vec::new();
        unknown.is(Verdict::Waits, Sure::Likely, &["doesn't say"]);
        let last = |hang: &Hang| [hang.nop(), hang.wait(true, DATA as u32, 7)].concat();
        Hang::new(generation, last, 0).is(Verdict::Waits, Sure::Certain, &says);
        let register = |hang: &Hang| [hang.nop(), hang.wait(false, 0x123, 7)].concat();
        let mut hang = Hang::new(generation, register, 0);
        hang.more.push((0x123, 3));
        hang.is(
            Verdict::Waits,
            Sure::Certain,
            &["register 0x123", "it is 0x3"],
        );
    }
}

#[test]
fn the_inner_buffer_is_found() {
    for generation in Generation::ALL {
        let inner =
            |hang: &Hang| [hang.nop(), hang.wait(true, DATA as u32, 7), hang.nop()].concat();
        let size = inner(&Hang::new(generation, |_| Vec::new(), 0)).len() as u32;
        let outer = |hang: &Hang| [hang.call(IB2, size), hang.nop()].concat();
        let mut hang = Hang::new(generation, outer, 2);
        hang.ib2 = inner(&hang);
        hang.buffers[1] = (IB2, 2);
        hang.is(
            Verdict::Waits,
            Sure::Certain,
            &["IB2 at 0x10010000", "\"inner\""],
        );
    }
}

#[test]
fn packets_that_are_none() {
    for generation in Generation::ALL {
        let ib1 = |hang: &Hang| [hang.nop(), vec![0x4000_0000], hang.nop()].concat();
        let finding = Hang::new(generation, ib1, 3).is(
            Verdict::BadPacket,
            Sure::Likely,
            &["0x40000000", "dword 2", "CP_NOP"],
        );
        assert_eq!(finding.whose, Whose::Application);
        // The CP says so itself.
        let bit = if generation >= Generation::A5xx { 0 } else { 9 };
        let mut hang = Hang::new(generation, Hang::nop, 2);
        hang.more.push((offsets(generation).errors, 1 << bit));
        hang.is(Verdict::BadPacket, Sure::Certain, &["doesn't know"]);
        // A command that nobody has.
        let ib1 = |hang: &Hang| [hang.nop(), vec![hang.command(0x02, 1), 0]].concat();
        Hang::new(generation, ib1, 2).is(Verdict::BadPacket, Sure::Possible, &["0x02"]);
    }
}

/// CP_PROTECT_STATUS and CP_HW_FAULT, to which the CP's own report of errors points.
#[test]
fn what_the_cp_reports() {
    for generation in Generation::ALL {
        // Bits of protected accesses and of the hardware; both registers; a write and a read of
        // register 0x800.
        let (protected, hardware, protect, fault, write, read) = match generation {
            Generation::A3xx => (16, 11, 0x45f, 0x45c, 0x0100_2000, 0x2000),
            Generation::A4xx => (16, 11, 0x4da, 0x4d8, 0x0100_2000, 0x2000),
            Generation::A5xx => (4, 2, 0xb1c, 0xb1a, 0x0100_2000, 0x2000),
            _ => (4, 2, 0x824, 0x821, 0x800, 0x0010_0800),
        };
        let errors = offsets(generation).errors;
        for (value, verb) in [(write, "writes"), (read, "reads")] {
            let mut hang = Hang::new(generation, Hang::nop, 2);
            hang.more = vec![(errors, 1 << protected), (protect, value)];
            let says = format!("{verb} register 0x800");
            let finding = hang.is(Verdict::BadPacket, Sure::Certain, &[&says, "\"commands\""]);
            assert_eq!(finding.whose, Whose::Application);
        }
        let mut hang = Hang::new(generation, Hang::nop, 2);
        hang.more = vec![(errors, 1 << hardware), (fault, 0x1234)];
        hang.is(
            Verdict::Hang,
            Sure::Likely,
            &["its hardware", "CP_HW_FAULT 0x1234"],
        );
    }
    let mut hang = Hang::new(Generation::A6xx, Hang::nop, 2);
    hang.more = vec![(0x823, 1 << 1)];
    hang.is(Verdict::Hang, Sure::Likely, &["its firmware"]);
}

#[test]
fn buffers_that_are_nowhere() {
    for generation in Generation::ALL {
        let mut hang = Hang::new(generation, Hang::nop, 2);
        hang.buffers[0] = (NOWHERE, 2);
        let finding = hang.is(Verdict::WildBuffer, Sure::Likely, &["IB1", "0x70000000"]);
        assert_eq!(finding.whose, Whose::Application);
        let ib1 = |hang: &Hang| [hang.nop(), hang.call(NOWHERE, 9)].concat();
        Hang::new(generation, ib1, 0).is(Verdict::WildBuffer, Sure::Likely, &["0x70000000"]);
    }
}

#[test]
fn work_that_does_not_end() {
    for generation in Generation::ALL {
        let (shaders, bit) = match generation {
            Generation::A3xx | Generation::A4xx => (24, 29),
            Generation::A5xx => (26, 29),
            _ => (18, 21),
        };
        for (opcode, name) in [
            (0x22, "CP_DRAW_INDX"),
            (0x33, "CP_EXEC_CS"),
            (0x26, "CP_WAIT_FOR_IDLE"),
        ] {
            let ib1 =
                |hang: &Hang| [hang.nop(), vec![hang.command(opcode, 1), 0], hang.nop()].concat();
            let mut hang = Hang::new(generation, ib1, 2);
            hang.status = (1 << shaders) | (1 << bit);
            let finding = hang.is(Verdict::Unfinished, Sure::Likely, &[name, "SP, HLSQ"]);
            assert!(finding.next.contains("shader"), "{finding:?}");
            // Nothing is busy: it isn't that.
            hang.status = 0;
            hang.is(Verdict::Hang, Sure::Certain, &["\"commands\""]);
        }
    }
}

#[test]
fn gpus_that_never_ran() {
    for generation in Generation::ALL {
        let mut hang = Hang::new(generation, Hang::nop, 2);
        hang.buffers[0] = (0, 0);
        hang.read = 0;
        hang.is(Verdict::NotStarted, Sure::Likely, &["2 submits"]);
        let firmware = match generation {
            Generation::A5xx => 0x835,
            Generation::A6xx | Generation::A7xx => 0x830,
            _ => continue,
        };
        hang.more.extend([(firmware, 0), (firmware + 1, 0)]);
        hang.is(Verdict::NoFirmware, Sure::Likely, &["no firmware"]);
        hang.head = "gpu-initialized: 0\n";
        let finding = hang.is(Verdict::PoweredOff, Sure::Likely, &["no power"]);
        assert_eq!(finding.whose, Whose::Kernel);
    }
}

/// What isn't there because a dump was cut says nothing.
#[test]
fn what_was_cut_away_was_not_zero() {
    for generation in Generation::ALL {
        let mut hang = Hang::new(generation, Hang::nop, 2);
        hang.buffers[0] = (0, 0);
        hang.read = 0;
        let text = hang.text();
        hang.is(Verdict::NotStarted, Sure::Likely, &[]);
        let registers = text.find("registers:\n").unwrap();
        // The last one that matters is the inner buffer's address, or its higher half.
        let (base, _) = offsets(generation).ib[1];
        let last = 4 * (base + u32::from(hang.wide()));
        let last = text.find(&format!("offset: {last:#06x}")).unwrap();
        let cuts = text[..last].match_indices('\n').map(|(at, _)| at + 1);
        for cut in cuts.filter(|&cut| cut >= registers) {
            let part = text[..cut].replace("initialized: 1", "initialized: 0");
            assert_eq!(finding(&part).verdict, Verdict::Hang, "{part}");
        }
    }
}

/// A GPU without power or firmware hangs no less: its registers alone tell.
#[test]
fn without_registers_a_hang_is_not_certain() {
    for generation in Generation::ALL {
        let hang = Hang::new(generation, Hang::nop, 2);
        hang.is(Verdict::Hang, Sure::Certain, &[]);
        let text = hang.text();
        let (head, registers) = text.split_once("registers:\n").unwrap();
        let (unknown, _) = head.split_once("revision: ").unwrap();
        let (_, rest) = head.split_once("rbbm-status").unwrap();
        let unknown = format!("{unknown}revision: 220 (2.2.0.0)\nrbbm-status{rest}");
        for (text, why) in [
            (head.to_owned(), "are missing"),
            (format!("{head}registers:\n"), "are missing"),
            (format!("{unknown}registers:\n{registers}"), "doesn't know"),
        ] {
            let finding = finding(&text);
            let said = (finding.verdict, finding.sure);
            assert_eq!(said, (Verdict::Hang, Sure::Likely), "{finding:#?}");
            assert!(finding.otherwise[0].contains(why), "{finding:#?}");
        }
    }
}

/// An A630's registers: 12 dwords of IB1 were fetched and 6 are queued, the one in work among them.
#[test]
fn what_is_fetched_is_not_yet_executed() {
    let ib1 = |hang: &Hang| {
        let wait = hang.wait(true, DATA as u32, 7);
        [wait, hang.nop(), vec![hang.command(0x10, 2), 0, 0]].concat()
    };
    let mut hang = Hang::new(Generation::A6xx, ib1, 0);
    hang.more.extend([(0x943, 12), (0x949, 0x0006_0002)]);
    hang.is(Verdict::Waits, Sure::Certain, &["dword 7 of 12"]);
}

/// Calls that follow each other: the CP has fetched all of the first buffer's successor while it
/// waits in the first.
#[test]
fn buffers_are_fetched_ahead() {
    let inner = |hang: &Hang| {
        let wait = hang.wait(true, DATA as u32, 7);
        [hang.nop(), wait, hang.nop()].concat()
    };
    let queued = |left: u32| (left + 1) << 16;
    // Called by the ring.
    let mut hang = Hang::new(Generation::A6xx, inner, 0);
    let length = hang.ib1.len() as u32;
    hang.ib2 = hang.nop();
    hang.ring = [hang.nop(), hang.call(IB1, length), hang.call(IB2, 2)].concat();
    hang.read = hang.ring.len() as u32;
    hang.buffers[0] = (IB2, 0);
    hang.more.push((0x949, queued(2 + 2)));
    let at = format!("IB1 at {IB1:#x}, dword {} of {length}", length - 2);
    let finding = hang.is(Verdict::Waits, Sure::Certain, &[&at, "\"commands\""]);
    let ring = "CP: ring 0, dword 6 of 8192";
    assert!(
        finding.evidence.iter().any(|e| e.text == ring),
        "{finding:#?}"
    );
    // It is in the second one when that isn't all left.
    hang.more = vec![(0x949, queued(1))];
    assert_eq!(hang.finding().verdict, Verdict::Hang);

    // Called by IB1, which goes on after them; the wait is the buffer's last packet.
    let second = IB2 + 0x100;
    let outer =
        |hang: &Hang| [hang.call(IB2, length - 2), hang.call(second, 2), hang.nop()].concat();
    let mut hang = Hang::new(Generation::A6xx, outer, 2);
    hang.ib2 = inner(&hang);
    hang.ib2.resize(0x100 / 4, 0);
    hang.ib2.extend(hang.nop());
    hang.buffers[1] = (second, 0);
    hang.more.push((0x94a, queued(2)));
    let at = format!("IB2 at {IB2:#x}, dword {0} of {0}", length - 2);
    let finding = hang.is(Verdict::Waits, Sure::Certain, &[&at, "\"inner\""]);
    let caller = format!("CP: IB1 at {IB1:#x}, dword 4 of 10");
    assert!(
        finding.evidence.iter().any(|e| e.text.contains(&caller)),
        "{finding:#?}"
    );
    // A call is no neighbour of the one before it when there is something between them.
    hang.ib1 = [hang.call(IB2, length), hang.nop(), hang.call(second, 2)].concat();
    hang.buffers[0].1 = 0;
    let at = format!("IB2 at {second:#x}, dword 0 of 2");
    hang.is(Verdict::Hang, Sure::Certain, &[&at]);
}
