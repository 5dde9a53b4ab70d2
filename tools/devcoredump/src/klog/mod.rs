// SPDX-License-Identifier: GPL-2.0-only
//! A kernel log, as `dmesg` prints it, a journal keeps it or a bug report quotes it: what it says
//! of the GPU, summed up in bounded memory.

mod line;

pub use line::{
    Cp,
    Stamp,
    State, //
};

use crate::clean::{
    clean,
    utf8, //
};
use crate::dump::{
    Direction,
    Fault,
    FaultType, //
};
use crate::scan::Scanner;
use line::{
    Message,
    Messages, //
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{
    self,
    Read, //
};
use std::ops::Range;

/// How many different things of a kind are told apart; the rest is counted.
const MAX_KINDS: usize = 32;
/// Addresses this close are one range.
const CLOSE: u64 = 1 << 20;
/// How many lines a message may be wrapped into.
const MAX_WRAPPED: u32 = 3;

/// When something was logged first and last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Span {
    /// The line of the first.
    pub line: u64,
    /// The time of the first.
    pub first: Option<Stamp>,
    /// The time of the last.
    pub last: Option<Stamp>,
    /// How often.
    pub count: u64,
}

impl Span {
    fn add(&mut self, line: u64, stamp: Option<&Stamp>) {
        if self.count == 0 {
            self.line = line;
            self.first = stamp.cloned();
        }
        self.count += 1;
        if stamp.is_some() {
            self.last = stamp.cloned();
        }
    }
}

/// Names and how often each came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// In the order of their first.
    pub names: Vec<(Box<str>, u64)>,
    /// How many had other names, when there were too many.
    pub others: u64,
}

impl Counts {
    fn add(&mut self, name: &str) {
        let name = clean(name, 64);
        if let Some((_, count)) = self.names.iter_mut().find(|(known, _)| *known == name) {
            *count += 1;
        } else if self.names.len() < MAX_KINDS {
            self.names.push((name, 1));
        } else {
            self.others += 1;
        }
    }
}

/// Page faults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Faults {
    /// When.
    pub span: Span,
    /// The first of them.
    pub first: Option<Fault>,
    /// Ends of ranges and how many hit them, by start.
    ranges: BTreeMap<u64, (u64, u64)>,
    /// How many addresses are in none of the ranges.
    pub elsewhere: u64,
    /// The units that made the accesses, and how.
    pub sources: Vec<(Source, u64)>,
    /// How many were made by others than these.
    pub other_sources: u64,
    /// Page tables, by address; how many faults used them.
    pub tables: BTreeMap<u64, u64>,
}

/// A unit and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The unit's name, where it is known.
    pub unit: Option<Box<str>>,
    /// Read or write.
    pub direction: Option<Direction>,
    /// The SMMU's word.
    pub kind: FaultType,
}

impl Faults {
    fn add(&mut self, line: u64, stamp: Option<&Stamp>, fault: Fault) {
        self.span.add(line, stamp);
        if let Some(address) = fault.address() {
            self.address(address);
        }
        if let Some(table) = fault.table() {
            if self.tables.len() < MAX_KINDS || self.tables.contains_key(&table) {
                *self.tables.entry(table).or_default() += 1;
            }
        }
        let room = self.sources.len() < MAX_KINDS;
        let known = self.sources.iter_mut().find(|(source, _)| {
            source.unit == fault.source
                && source.direction == fault.direction
                && source.kind == fault.kind
        });
        match known {
            Some((_, count)) => *count += 1,
            None if room => {
                let source = Source {
                    unit: fault.source.clone(),
                    direction: fault.direction,
                    kind: fault.kind,
                };
                self.sources.push((source, 1));
            }
            None => self.other_sources += 1,
        }
        self.first.get_or_insert(fault);
    }

    fn address(&mut self, address: u64) {
        let below = self.ranges.range(..=address).next_back();
        let below = below
            .map(|(&start, &(end, _))| (start, end))
            .filter(|&(_, end)| address <= end.saturating_add(CLOSE));
        let above = self.ranges.range(address..).next().map(|(&start, _)| start);
        let above = above.filter(|&start| start != address && start - address <= CLOSE);
        match (below, above) {
            (None, None) if self.ranges.len() == MAX_KINDS => self.elsewhere += 1,
            (None, None) => {
                self.ranges.insert(address, (address, 1));
            }
            (Some((start, _)), above) => {
                let mut joined = above.and_then(|above| self.ranges.remove(&above));
                let range = self.ranges.entry(start).or_default();
                range.0 = range.0.max(address);
                range.1 += 1;
                if let Some((end, count)) = joined.take() {
                    range.0 = range.0.max(end);
                    range.1 += count;
                }
            }
            (None, Some(start)) => {
                if let Some((end, count)) = self.ranges.remove(&start) {
                    self.ranges.insert(address, (end, count + 1));
                }
            }
        }
    }

    /// First and last address of each range, and how many are in it.
    pub fn ranges(&self) -> impl Iterator<Item = (Range<u64>, u64)> + '_ {
        self.ranges
            .iter()
            .map(|(&start, &(end, count))| (start..end, count))
    }
}

/// What happened first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A page fault of the GPU.
    Fault,
    /// A context fault of an SMMU.
    Smmu,
    /// No progress, a reset, or the GPU's own hang detection.
    Hang,
    /// An error of the CP.
    Cp,
    /// The GMU.
    Gmu,
    /// A page fault of a GPU up to a4xx, or of the display controller.
    Plain,
    /// The GPU didn't finish what initialises it.
    Idle,
    /// UCHE's own check of addresses.
    OutOfBounds,
}

/// All that a log says of the GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct KernelLog {
    /// How many lines there are.
    pub lines: u64,
    /// Kinds of what happened, each where it came first.
    pub order: Vec<(Kind, u64)>,
    /// `*** gpu fault`.
    pub faults: Faults,
    /// In how many of them the GPU's registers read as those of a GPU that is off.
    pub off: u64,
    /// The first is one of these.
    pub first_off: bool,
    /// `*** fault`, of a GPU up to a4xx or of the display controller.
    pub plain: Faults,
    /// Context faults by SMMU.
    pub smmus: BTreeMap<Box<str>, Faults>,
    /// How many context faults are of other SMMUs.
    pub other_smmus: u64,
    /// The hangcheck timer's findings.
    pub lockups: Span,
    /// Resets.
    pub recoveries: Span,
    /// What the GPU's own hang detection found.
    pub hangs: Span,
    /// The first of these.
    pub state: Option<State>,
    /// How often the GPU didn't finish what initialises it.
    pub idle: Span,
    /// Where the CP was at first, and how far the kernel had written, in dwords.
    pub idle_at: Option<(u64, u64)>,
    /// How often initialising failed.
    pub init: Span,
    /// The first errno of these.
    pub init_error: Option<u64>,
    /// UCHE's reports of addresses outside of all that it may reach.
    pub out_of_bounds: Span,
    /// Whose submits were blamed.
    pub tasks: Counts,
    /// How often nobody's was.
    pub nobody: u64,
    /// Errors of the CP.
    pub cp: Span,
    /// The first of them.
    pub cp_error: Option<Cp>,
    /// Trouble with the GMU.
    pub gmu: Span,
    /// Firmware that isn't there, and the line that says so.
    pub missing: Vec<(Box<str>, u64)>,
    /// How many messages about page faults the kernel left out.
    pub suppressed: u64,
    /// The kernel's version.
    pub kernel: Option<Box<str>>,
    /// The GPU's number.
    pub revision: Option<Box<str>>,
}

/// A fault whose message goes on in the next line.
struct Wrapped {
    line: u64,
    stamp: Option<Stamp>,
    text: String,
    parts: u32,
}

impl KernelLog {
    /// Reads all of `from`.
    pub fn read(from: impl Read) -> io::Result<KernelLog> {
        let mut log = KernelLog::default();
        let messages = Messages::default();
        let mut scanner = Scanner::new(from);
        let mut line = Vec::new();
        let mut wrapped: Option<Wrapped> = None;
        while let Some(info) = scanner.line(&mut line)? {
            let found = messages.find(&line);
            if let Some(mut begun) = wrapped.take() {
                let rest = line::unquoted(std::str::from_utf8(&line).unwrap_or("")).trim_end();
                if found.is_none() && line::stamp(rest).is_none() && begun.goes_on(rest) {
                    wrapped = Some(begun);
                    continue;
                }
                log.end(begun);
            }
            let Some((prefix, message)) = found else {
                continue;
            };
            let stamp = line::stamp(line::unquoted(prefix));
            if let Message::Fault { whole: false, .. } | Message::Begun = message {
                let text = utf8(&line[prefix.len()..]);
                wrapped = Some(Wrapped {
                    line: info.number,
                    stamp,
                    text: clean(text.trim_end(), 512).into(),
                    parts: 1,
                });
                continue;
            }
            log.add(info.number, stamp, message);
        }
        if let Some(begun) = wrapped {
            log.end(begun);
        }
        log.lines = scanner.lines();
        Ok(log)
    }

    /// It says anything of a GPU.
    pub fn is_about_gpu(&self) -> bool {
        !self.order.is_empty() || !self.missing.is_empty() || self.init.count > 0
    }

    /// The GPU executed something: it has what it needs to start.
    pub fn ran(&self) -> bool {
        self.faults.span.count > 0 || !self.tasks.names.is_empty() || self.cp.count > 0
    }

    fn end(&mut self, begun: Wrapped) {
        if let Some(message) = line::ended(&begun.text) {
            self.add(begun.line, begun.stamp, message);
        }
    }

    fn note(&mut self, kind: Kind, line: u64) {
        if self.order.iter().all(|&(known, _)| known != kind) {
            self.order.push((kind, line));
        }
    }

    fn add(&mut self, line: u64, stamp: Option<Stamp>, message: Message<'_>) {
        let stamp = stamp.as_ref();
        match message {
            Message::Fault { fault, off, .. } => {
                self.note(Kind::Fault, line);
                self.faults.add(line, stamp, fault);
                self.off += u64::from(off);
                self.first_off |= off && self.faults.span.count == 1;
            }
            Message::Begun => {}
            Message::Plain(fault) => {
                self.note(Kind::Plain, line);
                self.plain.add(line, stamp, fault);
            }
            Message::Smmu(device, fault) => {
                self.note(Kind::Smmu, line);
                let device = clean(device, 64);
                if self.smmus.len() < MAX_KINDS || self.smmus.contains_key(&device) {
                    self.smmus
                        .entry(device)
                        .or_default()
                        .add(line, stamp, fault);
                } else {
                    self.other_smmus += 1;
                }
            }
            Message::Lockup(_) => {
                self.note(Kind::Hang, line);
                self.lockups.add(line, stamp);
            }
            Message::Recover => {
                self.note(Kind::Hang, line);
                self.recoveries.add(line, stamp);
            }
            Message::Hang(state) => {
                self.note(Kind::Hang, line);
                self.hangs.add(line, stamp);
                self.state.get_or_insert(state);
            }
            // It belongs to the line about the whole GPU, which doesn't say where the CP was.
            Message::Pipe(pipe) => {
                if let Some(state) = self.state.as_mut().filter(|s| s.ring_at.is_none()) {
                    state.ring_at = pipe.ring_at;
                    state.buffers = pipe.buffers;
                    state.read = pipe.read;
                }
            }
            Message::Idle(at, to) => {
                self.note(Kind::Idle, line);
                self.idle.add(line, stamp);
                self.idle_at.get_or_insert((at, to));
            }
            Message::Init(errno) => {
                self.init.add(line, stamp);
                self.init_error.get_or_insert(errno);
            }
            Message::OutOfBounds => {
                self.note(Kind::OutOfBounds, line);
                self.out_of_bounds.add(line, stamp);
            }
            Message::Task(Some(name)) => self.tasks.add(name),
            Message::Task(None) => self.nobody += 1,
            Message::Cp(error) => {
                self.note(Kind::Cp, line);
                self.cp.add(line, stamp);
                self.cp_error.get_or_insert(error);
            }
            Message::Gmu => {
                self.note(Kind::Gmu, line);
                self.gmu.add(line, stamp);
            }
            Message::Missing(name) => {
                let known = self
                    .missing
                    .iter()
                    .any(|(known, _)| base(known) == base(name));
                if !known && self.missing.len() < MAX_KINDS {
                    self.missing.push((clean(name, 128), line));
                }
            }
            Message::Loaded(name) => {
                self.missing.retain(|(known, _)| base(known) != base(name));
            }
            Message::Suppressed(function, count) => {
                if function.contains("fault") {
                    self.suppressed = self.suppressed.saturating_add(count);
                }
            }
            Message::Kernel(version) => {
                self.kernel = Some(clean(version, 128));
            }
            Message::Revision(revision) => {
                self.revision = Some(clean(revision, 64));
            }
        }
    }
}

impl Wrapped {
    /// Takes the next line as this message's, in the middle of a word or between two, if it makes
    /// more of it.
    fn goes_on(&mut self, rest: &str) -> bool {
        if rest.is_empty() || self.parts == MAX_WRAPPED || rest.len() > 200 {
            return false;
        }
        let score = line::completeness;
        let between = format!("{} {rest}", self.text);
        let within = format!("{}{rest}", self.text);
        let (best, text) = match (score(&between), score(&within)) {
            (between_, within_) if within_ > between_ => (within_, within),
            (between_, _) => (between_, between),
        };
        if best <= score(&self.text) {
            return false;
        }
        self.text = text;
        self.parts += 1;
        true
    }
}

/// A file's name without its directory: the driver tries several.
fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Whether what begins so is a text to be read as a log: no devcoredump of any driver.
pub fn is_log(head: &[u8]) -> bool {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.clone().find(|line| !line.is_empty()).unwrap_or(b"");
    let dumps: [&[u8]; 3] = [b"kernel: ", b"module: ", b"dpu devcoredump"];
    let begins = first == b"---" || dumps.iter().any(|dump| first.starts_with(dump));
    !head.is_empty() && !begins && !lines.any(|line| line == b"module: msm")
}
