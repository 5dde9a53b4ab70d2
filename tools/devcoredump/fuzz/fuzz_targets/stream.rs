// SPDX-License-Identifier: GPL-2.0-only
//! What a command stream says of a hang. The input is what is in the ring and in two levels of
//! indirect buffers, where the CP was in them, and what else tells of its state. Nothing may panic,
//! and packets follow each other.

#![no_main]

use libfuzzer_sys::fuzz_target;
use msm_devcoredump::{
    ascii85,
    contents::Contents,
    cp::{layout::Layout, position::locate, Registers},
    parse::Parser,
    pm4::{call, wait, Generation, Packet},
    verdict::judge,
};
use std::fmt::Write;

const RING: u64 = 0x4000_0000;
const BUFFERS: [u64; 2] = [0x1000_0000, 0x1001_0000];

/// A word of the input. Headers have parity bits, which mutations rarely get right: a word whose
/// upper half byte is 5, which no generation has, stands for a command with opcode and count in it.
fn word(bytes: &[u8], generation: Generation) -> u32 {
    let mut raw = [0; 4];
    raw[..bytes.len()].copy_from_slice(bytes);
    let raw = u32::from_le_bytes(raw);
    if raw >> 28 != 5 {
        return raw;
    }
    let (opcode, count) = ((raw >> 8) & 0x7f, raw & 0xf);
    let parity = |value: u32| u32::from(value.count_ones() % 2 == 0);
    match generation >= Generation::A5xx {
        true => (7 << 28) | count | (parity(count) << 15) | (opcode << 16) | (parity(opcode) << 23),
        false => (3 << 30) | (count << 16) | (opcode << 8),
    }
}

fn data(text: &mut String, words: &[u32]) {
    if !words.is_empty() {
        *text += "    data: !!ascii85 |\n     ";
        ascii85::encode(words, text);
        text.push('\n');
    }
}

/// The dump.
fn text(generation: Generation, lengths: [u8; 2], words: &[u32]) -> String {
    let (state, words) = words.split_at(words.len().min(12));
    let state = |n: usize| state.get(n).copied().unwrap_or(0);
    let (ring, rest) = words.split_at(words.len().min(lengths[0].into()));
    let (ib1, ib2) = rest.split_at(rest.len().min(lengths[1].into()));
    let core = 3 + generation as u32;
    let mut text = format!(
        "---\nkernel: 7.3.4\nmodule: msm\ntime: 1.0\nrevision: {core}30 \
            ({core}.3.0.0)\nrbbm-status: {:#x}\n\
         ringbuffer:\n  - id: 0\n    iova: {RING:#x}\n    rptr: {}\n    wptr: {}\n    size: \
             32768\n",
        state(0),
        state(1),
        state(2),
    );
    data(&mut text, ring);
    text += "bos:\n";
    for (iova, words) in BUFFERS.into_iter().zip([ib1, ib2]) {
        let _ = write!(text, "  - iova: {iova:#x}\n    size: 4096\n");
        data(&mut text, words);
    }
    text += "registers:\n";
    let layout = Layout::of(generation);
    let mut set = |register: u32, value: u32| {
        let offset = 4 * register;
        let _ = writeln!(text, "  - {{ offset: {offset:#x}, value: {value:#x} }}");
    };
    set(layout.status, state(0));
    set(layout.ring_base, RING as u32);
    if layout.wide {
        set(layout.ring_base + 1, 0);
    }
    set(layout.ring_read, state(1));
    set(layout.errors.0, state(3));
    set(layout.hw_fault, state(4));
    set(layout.protect, state(5));
    for (n, buffer) in layout.buffers.iter().enumerate() {
        set(buffer.base, BUFFERS[n] as u32);
        if layout.wide {
            set(buffer.base + 1, 0);
        }
        set(buffer.rest, state(6 + n) & 0xffff);
        if let Some(queued) = buffer.queued {
            set(queued, state(6 + n) & 0xffff_0000);
        }
        if let Some(size) = buffer.size {
            set(size, state(8 + n) & 0xffff);
        }
    }
    if let Some(queued) = layout.ring_queued {
        set(queued, state(8) & 0xffff_0000);
    }
    if let Some(firmware) = layout.firmware {
        set(firmware, state(9) & 0xffff_0000);
        set(firmware + 1, 0);
    }
    if let Some(status3) = layout.status3 {
        set(status3, state(10));
    }
    text += "indexed-registers:\n  - regs-name: CP_SQE_STAT\n    dwords: 2\n";
    data(&mut text, &[0, state(11)]);
    text
}

fuzz_target!(|bytes: &[u8]| {
    let [which, ring, ib1, rest @ ..] = bytes else {
        return;
    };
    let generation = Generation::ALL[usize::from(*which) % Generation::ALL.len()];
    let words: Vec<u32> = rest.chunks(4).map(|c| word(c, generation)).collect();
    for (n, &header) in words.iter().enumerate() {
        for generation in Generation::ALL {
            let Some(packet) = Packet::new(generation, header) else {
                continue;
            };
            assert!(packet.length() >= 1);
            assert!(!packet.describe(generation).is_empty());
            let payload = &words[n + 1..];
            let payload = &payload[..payload.len().min(packet.payload as usize)];
            call(generation, packet, payload);
            if let Some(wait) = wait::parse(generation, packet, payload) {
                wait.wants();
                wait.ends_with(header);
            }
        }
    }
    let text = text(generation, [*ring, *ib1], &words);
    let mut contents = Contents::default();
    let dump = Parser::new(text.as_bytes())
        .next_dump(&mut contents)
        .expect("memory doesn't fail")
        .expect("it is a dump");
    assert_eq!(dump.problems, [], "{text}");
    let registers = Registers::new(&dump).expect("the generation is known");
    for position in locate(registers, &dump, &contents).levels {
        assert!(!position.describe().is_empty());
        let placed: Vec<_> = position.before.iter().chain(&position.here).collect();
        let follow = |pair: &[&msm_devcoredump::cp::position::Placed]| pair[0].end() <= pair[1].at;
        assert!(placed.windows(2).all(follow), "{position:?}");
    }
    let finding = judge(&dump, &contents);
    serde_json::to_string(&finding).expect("it is JSON");
});
