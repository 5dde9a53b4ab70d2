// SPDX-License-Identifier: GPL-2.0-only
//! Where the CP was: ring or indirect buffer, and at which packet.

use super::Registers;
use crate::contents::{
    Contents,
    Words, //
};
use crate::dump::{
    Dump,
    Ring, //
};
use crate::pm4::{
    self,
    Call,
    Generation,
    Packet, //
};
use serde::Serialize;
use std::collections::VecDeque;

/// So many dwords before the position in a ring a packet is looked for to begin with.
const LOOKBACK: u64 = 256;
/// How many buffers that follow each other are followed.
const MAX_CHAIN: usize = 16;
/// How many calls that follow each other are kept, the latest.
const MAX_RUN: usize = 16;
/// So many buffers ahead of the one that it executes the CP fetches, where their calls follow each
/// other.
const AHEAD: usize = 3;
/// How many packets before the position are shown.
const SHOWN: usize = 3;
/// As many dwords of a packet's payload are looked at.
const PAYLOAD: u64 = 8;

/// A packet at its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Dwords from the start of its buffer.
    pub at: u64,
    /// Its header.
    pub packet: Packet,
    /// The first dwords of its payload.
    pub payload: Vec<u32>,
}

impl Placed {
    /// The dword after it.
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.packet.length())
    }
}

/// Which buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The kernel's ring of this number.
    Ring(u64),
    /// An indirect buffer, 1 or 2.
    Buffer(u8),
}

/// A position in one buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Which buffer.
    pub level: Level,
    /// Its address.
    pub base: u64,
    /// Its length in dwords, where something says it.
    pub size: Option<u64>,
    /// How many dwords of it have been executed, if its length is known.
    pub at: Option<u64>,
    /// How many dwords of it are left.
    pub left: u64,
    /// The dump has its bytes.
    pub readable: bool,
    /// The last packets before the position.
    pub before: Vec<Placed>,
    /// The packet that begins at the position, or that it is in.
    pub here: Option<Placed>,
    /// A dword that is no header, where one must be: not after the position.
    pub malformed: Option<(u64, u32)>,
}

impl Position {
    /// The address of the position, or of the buffer.
    pub fn address(&self) -> u64 {
        self.at
            .and_then(|at| self.base.checked_add(at.checked_mul(4)?))
            .unwrap_or(self.base)
    }

    /// The packets that may be the one that the CP is stuck in, likelier ones first: it counts a
    /// dword as executed when it has taken it, so a packet that is waited in may be over by the
    /// count. `header` is the one that the sequencer holds.
    pub fn candidates(&self, header: Option<u32>) -> Vec<&Placed> {
        let last = self.before.last();
        let here = self.here.as_ref();
        match (last, here) {
            (_, Some(here)) if self.at.is_some_and(|at| here.at < at) => vec![here],
            (Some(last), Some(here)) => {
                let holds = |placed: &Placed| header == Some(placed.packet.header);
                if holds(here) && !holds(last) {
                    vec![here]
                } else {
                    vec![last, here]
                }
            }
            (last, here) => last.into_iter().chain(here).collect(),
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        let name = match self.level {
            Level::Ring(id) => format!("ring {id}"),
            Level::Buffer(level) => format!("IB{level} at {:#x}", self.base),
        };
        match (self.at, self.size) {
            (Some(at), Some(size)) => format!("{name}, dword {at} of {size}"),
            _ => format!("{name}, {} dwords left", self.left),
        }
    }
}

/// Where the CP was in each level, the ring first. The last one is where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// At least the ring's, if the dump has a ring.
    pub levels: Vec<Position>,
}

/// A packet that calls another buffer, and where it is.
#[derive(Debug, Clone, Copy)]
struct Called {
    call: Call,
    at: u64,
    end: u64,
}

impl Called {
    fn new(generation: Generation, placed: &Placed) -> Option<Called> {
        Some(Called {
            call: pm4::call(generation, placed.packet, &placed.payload)?,
            at: placed.at,
            end: placed.end(),
        })
    }
}

/// Packets from the start of a buffer to a position.
#[derive(Default)]
struct Walk {
    before: VecDeque<Placed>,
    here: Option<Placed>,
    malformed: Option<(u64, u32)>,
    /// The last packets that call other buffers, with nothing between them.
    run: VecDeque<Called>,
    /// The one at the position does, too.
    call_here: Option<Called>,
    /// Before the position there is a command without a name, or a write that no kernel does.
    doubtful: bool,
}

impl Walk {
    /// Who may have called the next level: the last packets that call, and the one at the position.
    fn calls(&self) -> Vec<Called> {
        self.run.iter().copied().chain(self.call_here).collect()
    }
}

fn walk(generation: Generation, start: u64, end: u64, word: &dyn Fn(u64) -> Option<u32>) -> Walk {
    let mut walk = Walk::default();
    let mut at = start;
    while at <= end {
        let Some(header) = word(at) else {
            break;
        };
        let Some(packet) = Packet::new(generation, header) else {
            walk.malformed = Some((at, header));
            break;
        };
        let payload = (1..=u64::from(packet.payload).min(PAYLOAD))
            .map_while(|n| word(at + n))
            .collect();
        let placed = Placed {
            at,
            packet,
            payload,
        };
        if placed.end() > end {
            walk.call_here = Called::new(generation, &placed);
            walk.here = Some(placed);
            break;
        }
        at = placed.end();
        let named = packet
            .opcode()
            .is_none_or(|opcode| pm4::name(generation, opcode).is_some());
        walk.doubtful |= !named || header == 0;
        if let Some(called) = Called::new(generation, &placed) {
            if walk.run.back().is_some_and(|last| last.end != called.at) {
                walk.run.clear();
            }
            if walk.run.len() == MAX_RUN {
                walk.run.pop_front();
            }
            walk.run.push_back(called);
        }
        if walk.before.len() == SHOWN {
            walk.before.pop_front();
        }
        walk.before.push_back(placed);
    }
    walk
}

/// A buffer that is executed.
struct Executed {
    base: u64,
    size: Option<u64>,
    left: u64,
    /// It isn't the last one whose call has been taken: so far the CP is in the caller.
    caller: Option<u64>,
}

/// Reads everything that bears on the position.
struct Reader<'a> {
    registers: Registers<'a>,
    dump: &'a Dump,
    contents: &'a Contents,
}

impl Reader<'_> {
    fn ring(&self, index: usize, ring: &Ring, at: u64) -> (Position, Vec<Called>) {
        let words = (ring.size / 4).max(1);
        let at = at % words;
        let text = self.contents.ring(self.dump, index);
        let wptr = ring.wptr % words;
        let mut position = Position {
            level: Level::Ring(ring.id),
            base: ring.iova,
            size: Some(words),
            at: Some(at),
            left: (wptr + words - at) % words,
            readable: text.is_some(),
            before: Vec::new(),
            here: None,
            malformed: None,
        };
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return (position, Vec::new());
        };
        // Counted from one turn earlier, so that the packets before the position need no negative
        // numbers.
        let turn = at + words;
        let end = turn;
        let word = |n: u64| {
            (n < turn + position.left)
                .then(|| text.get(n % words))
                .flatten()
        };
        let generation = self.registers.generation;
        let found = (turn.saturating_sub(LOOKBACK.min(words - 1))..=turn)
            .map(|start| walk(generation, start, end, &word))
            // Only a chain of known packets up to the position is one. Without parity much looks
            // like a header: zeros are none that a kernel writes, and packets begin where the CP
            // is.
            .find(|walk| {
                let parity = generation >= Generation::A5xx;
                let starts = walk.here.as_ref().is_none_or(|here| here.at == turn);
                let broken = walk.malformed.is_some_and(|(at, _)| at != turn);
                !broken && !walk.doubtful && (parity || starts)
            });
        let Some(mut found) = found else {
            return (position, Vec::new());
        };
        let calls = found.calls();
        let back = |placed: &mut Placed| placed.at %= words;
        found.before.iter_mut().for_each(back);
        found.here.iter_mut().for_each(back);
        position.before = found.before.into();
        position.here = found.here;
        // What is after the driver's position is old.
        position.malformed = found
            .malformed
            .filter(|_| position.left > 0)
            .map(|(at, header)| (at % words, header));
        (position, calls)
    }

    /// The length of the buffer at `base`, from the packet that called it or those that chain to
    /// it.
    fn size(&self, base: u64, mut call: Call) -> Option<u64> {
        for _ in 0..MAX_CHAIN {
            if call.target == base {
                return Some(call.size);
            }
            let text = self.contents.at(self.dump, call.target)?;
            let walked = self.walk_buffer(text, call.size);
            call = walked.run.back()?.call;
            if !call.chain {
                return None;
            }
        }
        None
    }

    fn walk_buffer(&self, text: Words<'_>, end: u64) -> Walk {
        walk(self.registers.generation, 0, end, &|n| text.get(n))
    }

    /// What is executed while `base` is fetched, of which there are `left` dwords and those of the
    /// buffers before it that were fetched but not executed.
    fn executed(&self, base: u64, left: u64, calls: &[Called]) -> Option<Executed> {
        let latest_first = || (0..calls.len()).rev();
        let (mut n, size) = latest_first()
            .find(|&n| calls[n].call.target == base)
            .map(|n| (n, calls[n].call.size))
            // Chains are followed at some cost, and a position can only be behind a late one.
            .or_else(|| {
                let mut last = latest_first().take(2);
                last.find_map(|n| Some((n, self.size(base, calls[n].call)?)))
            })?;
        let (mut base, mut size, mut left) = (base, size, left);
        let first = n.saturating_sub(AHEAD);
        while left >= size && n > first && calls[n - 1].end == calls[n].at {
            left -= size;
            n -= 1;
            Call {
                target: base,
                size,
                ..
            } = calls[n].call;
        }
        let later = n + 1 < calls.len() && calls[n].call.target == base;
        (left <= size).then(|| Executed {
            base,
            size: Some(size),
            left,
            caller: later.then_some(calls[n].end),
        })
    }

    fn buffer(
        &self,
        level: u8,
        calls: &[Called],
        at_end: bool,
    ) -> Option<(Position, Vec<Called>, Option<u64>)> {
        let registers = self.registers.layout.buffers[usize::from(level) - 1];
        let base = self.registers.address(registers.base)?;
        let left = self.registers.left(registers)?;
        if base == 0 || (left == 0) != at_end {
            return None;
        }
        let executed = self.executed(base, left, calls).unwrap_or_else(|| {
            let told = registers
                .size
                .and_then(|register| self.registers.get(register))
                .map(u64::from)
                .filter(|&size| size >= left && size > 0);
            Executed {
                base,
                size: told,
                left,
                caller: None,
            }
        });
        let caller = executed.caller;
        let (position, calls) = self.inside(level, executed);
        Some((position, calls, caller))
    }

    fn inside(&self, level: u8, executed: Executed) -> (Position, Vec<Called>) {
        let Executed {
            base, size, left, ..
        } = executed;
        let text = self.contents.at(self.dump, base);
        let at = size.map(|size| size - left);
        let walked = match (text, at) {
            (Some(text), Some(at)) => self.walk_buffer(text, at),
            _ => Walk::default(),
        };
        let calls = walked.calls();
        let position = Position {
            level: Level::Buffer(level),
            base,
            size,
            at,
            left,
            readable: text.is_some(),
            before: walked.before.into(),
            // What follows the buffer isn't part of it.
            here: walked
                .here
                .filter(|here| size.is_none_or(|size| here.at < size)),
            malformed: walked
                .malformed
                .filter(|&(at, _)| size.is_none_or(|size| at < size)),
        };
        (position, calls)
    }

    /// The caller's position when it has called no more than up to the dword `end`.
    fn back(&self, caller: &Position, end: u64) -> Position {
        match (caller.level, self.registers.ring()) {
            (Level::Ring(_), Some((index, ring))) => self.ring(index, ring, end).0,
            (Level::Buffer(level), _) => {
                let executed = Executed {
                    base: caller.base,
                    size: caller.size,
                    left: caller.size.map_or(caller.left, |size| size - end),
                    caller: None,
                };
                self.inside(level, executed).0
            }
            (Level::Ring(_), None) => caller.clone(),
        }
    }
}

/// Where the CP was.
pub fn locate(registers: Registers<'_>, dump: &Dump, contents: &Contents) -> Positions {
    let reader = Reader {
        registers,
        dump,
        contents,
    };
    let mut levels = Vec::new();
    let mut calls = Vec::new();
    if let Some((index, ring)) = registers.ring() {
        let (position, last) = reader.ring(index, ring, registers.ring_position(ring));
        levels.push(position);
        calls = last;
    }
    for level in 1..=2 {
        let inside = reader.buffer(level, &calls, false);
        // All of a buffer has been taken, but nothing after the packet that called it: the CP may
        // be in its last packet.
        let inside = inside.or_else(|| {
            let last = levels.last()?.before.last()?;
            let called = Called::new(registers.generation, last)?;
            let inside = reader.buffer(level, &[called], true)?;
            let returned = inside.0.base != called.call.target;
            (!returned && inside.0.readable).then_some(inside)
        });
        let Some((position, last, end)) = inside else {
            break;
        };
        if let (Some(end), Some(caller)) = (end, levels.last_mut()) {
            *caller = reader.back(caller, end);
        }
        levels.push(position);
        calls = last;
    }
    Positions { levels }
}
