// SPDX-License-Identifier: GPL-2.0-only
//! The command stream around the CP's position.

use crate::contents::Contents;
use crate::cp::{
    position::{
        locate,
        Level,
        Placed,
        Position, //
    },
    Registers, //
};
use crate::dump::Dump;
use crate::pm4::Packet;
use std::collections::VecDeque;

/// How many packets before and after the position are shown.
const BEFORE: usize = 16;
const AFTER: usize = 8;
/// How many dwords of a packet's payload.
const PAYLOAD: u64 = 6;

/// A packet, or a dword that is none.
pub struct Line {
    pub at: u64,
    /// The CP was here.
    pub here: bool,
    pub what: String,
    /// Header and payload, as far as it is shown.
    pub words: String,
}

/// One level of the stream.
pub struct Stream {
    pub position: Position,
    /// Name of the BO it is in.
    pub bo: Option<String>,
    pub lines: Vec<Line>,
}

/// All levels, the ring first. Empty for GPUs that aren't known.
pub fn streams(dump: &Dump, contents: &Contents) -> Vec<Stream> {
    let Some(registers) = Registers::new(dump) else {
        return Vec::new();
    };
    let positions = locate(registers, dump, contents).levels;
    let stream = |position: Position| {
        let bo = dump
            .bos
            .iter()
            .find(|bo| bo.range().contains(&position.base));
        Stream {
            bo: bo.and_then(|bo| bo.name.as_deref()).map(str::to_owned),
            lines: lines(registers, dump, contents, &position),
            position,
        }
    };
    positions.into_iter().map(stream).collect()
}

fn line(registers: Registers<'_>, placed: &Placed, here: bool) -> Line {
    let header = [placed.packet.header];
    let words = header.iter().chain(&placed.payload);
    let mut text: Vec<String> = words
        .take(1 + PAYLOAD as usize)
        .map(|word| format!("{word:08x}"))
        .collect();
    if u64::from(placed.packet.payload) > PAYLOAD {
        text.push("…".into());
    }
    Line {
        at: placed.at,
        here,
        what: placed.packet.describe(registers.generation),
        words: text.join(" "),
    }
}

fn lines(
    registers: Registers<'_>,
    dump: &Dump,
    contents: &Contents,
    position: &Position,
) -> Vec<Line> {
    // The beginning of a ring's oldest packet isn't known; of a buffer it is.
    let walked = match position.level {
        Level::Ring(_) => None,
        Level::Buffer(_) => walk(registers, dump, contents, position),
    };
    let mut out: Vec<Line> = walked.unwrap_or_else(|| {
        let before = position.before.iter().map(|p| line(registers, p, false));
        let here = position.here.iter().map(|p| line(registers, p, true));
        before.chain(here).collect()
    });
    if let Some((at, word)) = position.malformed {
        out.retain(|line| line.at < at);
        out.push(Line {
            at,
            here: true,
            what: "no packet".into(),
            words: format!("{word:08x}"),
        });
    }
    out
}

/// The packets of a buffer from its start to a little after the position.
fn walk(
    registers: Registers<'_>,
    dump: &Dump,
    contents: &Contents,
    position: &Position,
) -> Option<Vec<Line>> {
    let words = contents.at(dump, position.base)?;
    let length = position.size.unwrap_or(words.len()).min(words.len());
    // Where the length isn't known, neither is the position.
    let here = position.here.as_ref().map(|here| here.at).or(position.at)?;
    let mut before = VecDeque::new();
    let mut after = Vec::new();
    let mut at = 0;
    while at < length && after.len() <= AFTER {
        let Some(packet) = Packet::new(registers.generation, words.get(at)?) else {
            break;
        };
        let placed = Placed {
            at,
            packet,
            payload: words.range(at + 1, u64::from(packet.payload).min(PAYLOAD)),
        };
        if at >= here {
            after.push(line(registers, &placed, at == here));
        } else {
            if before.len() == BEFORE {
                before.pop_front();
            }
            before.push_back(placed);
        }
        at += packet.length();
    }
    let before = before.iter().map(|placed| line(registers, placed, false));
    Some(before.chain(after).collect())
}
