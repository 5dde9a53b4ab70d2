// SPDX-License-Identifier: GPL-2.0-only
//! From lines to [`Dump`]s.
//!
//! The grammar is the one that all readers of these dumps rely on: a line that starts in column 0
//! is `key: value`, or `section:` when the value is empty; the lines of a section start with a
//! space; an item of a list starts with `- `; the line after `data: !!ascii85 |` is a block of
//! data; `---` begins a document. Whatever doesn't fit is noted as a problem and skipped, and
//! sections of unknown name are counted and passed over.

use crate::ascii85;
use crate::clean::{
    clean,
    utf8, //
};
use crate::dump::*;
use crate::scan::{
    LineInfo,
    Scanner, //
};
use crate::vm_log::{
    self,
    number,
    Entry,
    VmLog, //
};
use std::io::{
    self,
    Read, //
};

/// Takes the content of data blocks while a dump is read.
pub trait BlockSink {
    /// Whether this block shall be decoded. `block.encoded` isn't known yet. Blocks that aren't
    /// wanted are skipped at the speed of a search for a newline.
    fn wants(&mut self, dump: &Dump, block: &Block) -> bool;

    /// The next bytes of the block that was wanted last.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Wants no block.
#[derive(Debug, Clone, Copy, Default)]
pub struct SkipData;

impl BlockSink for SkipData {
    fn wants(&mut self, _: &Dump, _: &Block) -> bool {
        false
    }

    fn bytes(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Wants every block, so that malformed data becomes a problem, and drops the bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckData;

impl BlockSink for CheckData {
    fn wants(&mut self, _: &Dump, _: &Block) -> bool {
        true
    }

    fn bytes(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the documents of one stream.
#[derive(Debug)]
pub struct Parser<R> {
    scanner: Scanner<R>,
    line: Vec<u8>,
    documents: u64,
    /// The `---` of the next document has been read, in this line.
    separator: Option<u64>,
}

/// The section that a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum In {
    Nothing,
    Fault,
    PageTable,
    VmLog,
    Rings,
    Bos,
    Registers,
    GmuRegisters,
    /// Lists of registers in other places: only their form is checked.
    Other,
}

impl In {
    fn section(name: &str) -> In {
        match name {
            "fault-info" => In::Fault,
            "pgtable-fault-info" => In::PageTable,
            "vm-log" => In::VmLog,
            "ringbuffer" => In::Rings,
            // The kernel's documentation says "bo", all code prints "bos".
            "bos" | "bo" => In::Bos,
            "registers" => In::Registers,
            "registers-gmu" => In::GmuRegisters,
            _ => In::Other,
        }
    }
}

/// What the kernel prints at the beginning of lines and a verdict may rest on, in its order.
const KEYS: [&str; 17] = [
    "kernel",
    "module",
    "time",
    "comm",
    "cmdline",
    "gpu-initialized",
    "revision",
    "fault-info",
    "pgtable-fault-info",
    "vm-log",
    "rbbm-status",
    "ringbuffer",
    "bos-omitted",
    "bos",
    "registers",
    "registers-gmu",
    "indexed-registers",
];
/// As many of them come in this order in all kernels.
const ORDERED: usize = 14;

impl<R: Read> Parser<R> {
    /// Starts at the beginning of `inner`.
    pub fn new(inner: R) -> Self {
        Parser {
            scanner: Scanner::new(inner),
            line: Vec::new(),
            documents: 0,
            separator: None,
        }
    }

    /// How many bytes have been read.
    pub fn bytes(&self) -> u64 {
        self.scanner.bytes()
    }

    /// Gives back what it reads from. What is in its buffer is lost.
    pub fn into_inner(self) -> R {
        self.scanner.into_inner()
    }

    /// Reads the next document. Its data blocks go to `sink`. `None` when there is none left.
    ///
    /// Only the stream's own errors (and the sink's) are errors; what the text lacks is in
    /// [`Dump::problems`].
    pub fn next_dump(&mut self, sink: &mut dyn BlockSink) -> io::Result<Option<Dump>> {
        let mut document = Document::default();
        let mut empty = true;
        if let Some(line) = self.separator.take() {
            document.dump.line = line;
            empty = false;
        }
        while let Some(info) = self.scanner.line(&mut self.line)? {
            if self.line == b"---" {
                if empty {
                    document.dump.line = info.number;
                    empty = false;
                    continue;
                }
                self.separator = Some(info.number);
                break;
            }
            if empty {
                if self.line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                document.dump.line = info.number;
                empty = false;
            }
            if !info.terminated {
                // Half a number is another one.
                document.dump.cut = Some(Cut::InLine);
                continue;
            }
            let text = utf8(&self.line);
            if document.line(&info, &text) {
                document.data(&mut self.scanner, sink)?;
            }
        }
        if empty {
            return Ok(None);
        }
        if self.documents > 0 || self.separator.is_some() {
            document.dump.doubt.get_or_insert(Doubt::Several);
        }
        document.dump.index = self.documents;
        self.documents += 1;
        Ok(Some(document.finish(self.scanner.lines())))
    }
}

/// A dump that is being read.
#[derive(Debug)]
struct Document {
    dump: Dump,
    inside: In,
    /// What the current data block would be called.
    label: Vec<Box<str>>,
    blocks: u64,
    /// The ring or BO that was begun last was kept.
    item_kept: bool,
    /// Which of [`KEYS`] have come, one bit each.
    seen: u32,
}

impl Default for Document {
    fn default() -> Self {
        Document {
            dump: Dump::default(),
            inside: In::Nothing,
            label: Vec::new(),
            blocks: 0,
            item_kept: false,
            seen: 0,
        }
    }
}

/// How much is kept of a name, in characters. The kernel's longest, of a BO, has 32.
const MAX_NAME: usize = 64;
/// How much is kept of a command line.
const MAX_CMDLINE: usize = 4096;

/// Names of state blocks that some kernels misspell, put right.
fn spelled(name: &str) -> &str {
    match name {
        "CP_MEMPOOOL" => "CP_MEMPOOL",
        "CP_SEQ_STAT" => "CP_SQE_STAT",
        "CP_BV_SQE_STAT_ADDR" => "CP_BV_SQE_STAT",
        name => name,
    }
}

fn hex_number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    (!digits.starts_with('+'))
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Splits `key: value`, also `key=value` as the fault section has it.
fn key_value(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| b":=".contains(&byte))?;
    Some((text[..at].trim_ascii(), text[at + 1..].trim_ascii()))
}

impl Document {
    /// Takes one line. True when the next line is a block of data.
    fn line(&mut self, info: &LineInfo, text: &str) -> bool {
        if info.overlong {
            self.dump.problem(info.number, "line", "too long, cut");
        }
        if text.starts_with([' ', '\t']) {
            return self.section_line(info.number, text);
        }
        self.top_level(info.number, text);
        false
    }

    fn close_section(&mut self, next_line: u64) {
        if let Some(section) = self.dump.sections.last_mut() {
            if section.lines == 0 {
                section.lines = next_line - section.line;
            }
        }
    }

    /// The kernel never prints this line there.
    fn doubt(&mut self, line: u64, field: &str, what: &str) {
        self.dump.problem(line, field, what);
        self.dump.doubt.get_or_insert(Doubt::Line {
            line,
            what: format!("{field} {what}").into(),
        });
    }

    /// Looks at where a key stands.
    fn place(&mut self, line: u64, key: &str) {
        let key = if key == "bo" { "bos" } else { key };
        let Some(n) = KEYS.iter().position(|&known| known == key) else {
            return;
        };
        let after = self.seen >> n;
        self.seen |= 1 << n;
        if after & 1 != 0 {
            self.doubt(line, key, "comes a second time");
        } else if after != 0 && n < ORDERED {
            self.doubt(line, key, "isn't where the kernel prints it");
        }
    }

    fn top_level(&mut self, line: u64, text: &str) {
        self.close_section(line);
        self.inside = In::Nothing;
        let Some((key, value)) = text.split_once(':') else {
            match text.trim_ascii_end() {
                // It comes before the time; a task's name comes after it.
                "dpu devcoredump" if self.seen >> 2 == 0 => self.dump.kind = Kind::Display,
                "dpu devcoredump" => self.doubt(line, "line", "isn't where the kernel prints it"),
                "" => {}
                // Rows and headings of a display snapshot.
                _ if self.dump.kind == Kind::Display => {}
                _ => self.dump.problem(line, "line", "neither key nor section"),
            }
            return;
        };
        if self.dump.kind == Kind::Display && key != "time" {
            return;
        }
        self.place(line, key);
        let value = value.trim_ascii();
        let dump = &mut self.dump;
        let bad = |dump: &mut Dump| dump.problem(line, key, "isn't of the expected form");
        match key {
            "kernel" => dump.kernel = Some(clean(value, MAX_NAME)),
            "module" => dump.module = Some(clean(value, MAX_NAME)),
            "comm" => dump.comm = Some(clean(value, MAX_NAME)),
            "cmdline" => dump.cmdline = Some(clean(value, MAX_CMDLINE)),
            "bos-omitted" => dump.bos_omitted = Some(clean(value, MAX_NAME)),
            "time" => match parse_time(value) {
                Some(time) => dump.time = Some(time),
                None => bad(dump),
            },
            "revision" => match parse_revision(value) {
                Some(revision) => {
                    dump.revision = Some(revision);
                    dump.kind = Kind::Gpu;
                }
                None => bad(dump),
            },
            "rbbm-status" => match hex_number(value) {
                Some(status) => dump.rbbm_status = Some(status),
                None => bad(dump),
            },
            "gpu-initialized" => {
                dump.kind = Kind::Gpu;
                match value {
                    "0" => dump.initialized = Some(false),
                    "1" => dump.initialized = Some(true),
                    _ => bad(dump),
                }
            }
            _ if value.is_empty() => {
                self.inside = In::section(key);
                match self.inside {
                    In::Fault if dump.fault.is_none() => {
                        dump.fault = Some(Fault {
                            ttbr0: None,
                            iova: None,
                            direction: None,
                            kind: FaultType::Unknown,
                            source: None,
                        })
                    }
                    In::PageTable => dump.page_table = Some(PageTable::default()),
                    In::VmLog if dump.vm_log.is_none() => dump.vm_log = Some(VmLog::default()),
                    _ => {}
                }
                if matches!(self.inside, In::Fault | In::VmLog | In::Rings) {
                    dump.kind = Kind::Gpu;
                }
                self.label.clear();
                self.item_kept = false;
                let section = Section {
                    name: clean(key.trim_ascii_end(), MAX_NAME),
                    line,
                    lines: 0,
                };
                Dump::keep(&mut dump.sections, MAX_ITEMS, &mut dump.ignored, section);
            }
            // A scalar that this tool doesn't know.
            _ => {}
        }
    }

    fn section_line(&mut self, line: u64, text: &str) -> bool {
        let text = text.trim_ascii_end();
        let body = text.trim_ascii_start();
        if body.is_empty() {
            return false;
        }
        let indent = text.len() - body.len();
        let (item, body) = match body.strip_prefix("- ") {
            Some(body) => (true, body.trim_ascii_start()),
            None => (false, body),
        };
        if let Some((key, value)) = key_value(body) {
            if key == "data" && value.starts_with("!!ascii85") {
                return true;
            }
            // What a data block will be called: the items that enclose it.
            if item && !value.is_empty() && !body.starts_with('{') {
                self.label.truncate(indent.saturating_sub(2) / 2);
                if self.label.len() < 8 {
                    self.label.push(clean(spelled(value), MAX_NAME));
                }
            }
        }
        match self.inside {
            In::Nothing => {
                if self.dump.kind != Kind::Display {
                    self.dump
                        .problem(line, "line", "indented, but in no section");
                }
            }
            In::VmLog => self.vm_log_line(line, text),
            In::Fault => self.fault_line(line, body),
            In::PageTable => self.page_table_line(line, body),
            In::Rings => self.ring_line(line, item, body),
            In::Bos => self.bo_line(line, item, body),
            In::Registers | In::GmuRegisters => self.register_line(line, body),
            In::Other => {
                if body.starts_with('{') && parse_register(body).is_none() {
                    self.dump
                        .problem(line, "register", "isn't { offset, value }");
                }
            }
        }
        false
    }

    fn vm_log_line(&mut self, line: u64, text: &str) {
        let log = self.dump.vm_log.get_or_insert_with(VmLog::default);
        let read = if text.trim_ascii_start().starts_with('#') {
            log.comment(line, text)
        } else {
            Entry::parse(line, text).map(|mut entry| {
                entry.name = entry
                    .name
                    .as_deref()
                    .map(|name| clean(name.trim_ascii_end(), MAX_NAME));
                let max = vm_log::MAX_ENTRIES;
                Dump::keep(&mut log.entries, max, &mut log.ignored, entry);
            })
        };
        if let Err(e) = read {
            self.dump
                .problem(line, &format!("vm-log {}", e.field), e.what);
        }
    }

    fn fault_line(&mut self, line: u64, body: &str) {
        let Some(fault) = &mut self.dump.fault else {
            return;
        };
        let Some((key, value)) = key_value(body) else {
            return self
                .dump
                .problem(line, "fault-info", "a line without a key");
        };
        let mut bad = false;
        let mut set = |slot: &mut Option<u64>| match hex_number(value) {
            Some(n) => *slot = Some(n),
            None => bad = true,
        };
        match key {
            "ttbr0" => set(&mut fault.ttbr0),
            // Kernels before 5.17 called it far.
            "iova" | "far" => set(&mut fault.iova),
            "dir" => {
                fault.direction = match value {
                    "READ" => Some(Direction::Read),
                    "WRITE" => Some(Direction::Write),
                    _ => {
                        bad = true;
                        None
                    }
                }
            }
            "type" => {
                fault.kind = match value {
                    "TRANSLATION" => FaultType::Translation,
                    "PERMISSION" => FaultType::Permission,
                    "EXTERNAL" => FaultType::External,
                    _ => FaultType::Unknown,
                }
            }
            "source" => fault.source = Some(clean(value, MAX_NAME)),
            _ => {}
        }
        if bad {
            let field = format!("fault-info {key}");
            self.dump
                .problem(line, &field, "isn't of the expected form");
        }
    }

    fn page_table_line(&mut self, line: u64, body: &str) {
        let Some(table) = &mut self.dump.page_table else {
            return;
        };
        let mut bad = None;
        match key_value(body) {
            Some(("ttbr0", value)) => match hex_number(value) {
                Some(n) => table.ttbr0 = Some(n),
                None => bad = Some("ttbr0"),
            },
            Some(("asid", value)) => match value.parse() {
                Ok(n) => table.asid = n,
                Err(_) => bad = Some("asid"),
            },
            Some(("ptes", value)) => {
                let mut words = value.split_ascii_whitespace();
                let mut ptes = [0; 4];
                for pte in &mut ptes {
                    match words.next().and_then(hex_number) {
                        Some(n) => *pte = n,
                        None => bad = Some("ptes"),
                    }
                }
                // Half a walk would be read as a walk that ends there.
                table.ptes = bad.is_none().then_some(ptes);
            }
            Some(_) => {}
            None => bad = Some("line"),
        }
        if let Some(field) = bad {
            let field = format!("pgtable-fault-info {field}");
            self.dump
                .problem(line, &field, "isn't of the expected form");
        }
    }

    fn ring_line(&mut self, line: u64, item: bool, body: &str) {
        let dump = &mut self.dump;
        let Some((key, value)) = key_value(body) else {
            return dump.problem(line, "ringbuffer", "a line without a key");
        };
        if item {
            self.item_kept = Dump::keep(
                &mut dump.rings,
                MAX_ITEMS,
                &mut dump.ignored,
                Ring::default(),
            );
        }
        if !self.item_kept {
            return;
        }
        let Some(ring) = dump.rings.last_mut() else {
            return;
        };
        let slot = match key {
            "id" => &mut ring.id,
            "iova" => &mut ring.iova,
            "last-fence" => &mut ring.last_fence,
            "retired-fence" => &mut ring.retired_fence,
            "rptr" => &mut ring.rptr,
            "wptr" => &mut ring.wptr,
            "size" => &mut ring.size,
            _ => return,
        };
        match number(value) {
            Some(n) => *slot = n,
            None => dump.problem(line, &format!("ringbuffer {key}"), "isn't a number"),
        }
    }

    fn bo_line(&mut self, line: u64, item: bool, body: &str) {
        let dump = &mut self.dump;
        let Some((key, value)) = key_value(body) else {
            return dump.problem(line, "bos", "a line without a key");
        };
        if item {
            let bo = Bo {
                line,
                ..Bo::default()
            };
            self.item_kept = Dump::keep(&mut dump.bos, MAX_BOS, &mut dump.ignored, bo);
        }
        if !self.item_kept {
            return;
        }
        let Some(bo) = dump.bos.last_mut() else {
            return;
        };
        let good = match key {
            "iova" => number(value).map(|n| bo.iova = n).is_some(),
            "size" => number(value).map(|n| bo.size = n).is_some(),
            "flags" => hex_number(value)
                .and_then(|n| n.try_into().ok())
                .map(|n| bo.flags = Some(n))
                .is_some(),
            "name" => {
                if !value.is_empty() {
                    bo.name = Some(clean(value, MAX_NAME));
                }
                true
            }
            "data-at" => number(value)
                .map(|n| bo.absent = Some(Absent::At(n)))
                .is_some(),
            "data-omitted" => {
                bo.absent = Some(Absent::Omitted(clean(value, MAX_NAME)));
                true
            }
            _ => true,
        };
        if !good {
            dump.problem(line, &format!("bos {key}"), "isn't a number");
        }
    }

    fn register_line(&mut self, line: u64, body: &str) {
        let dump = &mut self.dump;
        let Some(register) = parse_register(body) else {
            return dump.problem(line, "register", "isn't { offset, value }");
        };
        let list = match self.inside {
            In::GmuRegisters => &mut dump.gmu_registers,
            _ => &mut dump.registers,
        };
        Dump::keep(list, MAX_REGISTERS, &mut dump.ignored, register);
    }

    /// Reads the block of data that the last line announced.
    fn data<R: Read>(
        &mut self,
        scanner: &mut Scanner<R>,
        sink: &mut dyn BlockSink,
    ) -> io::Result<()> {
        let Some(first) = scanner.peek()? else {
            self.dump.cut = Some(Cut::InData);
            return Ok(());
        };
        let line = scanner.lines() + 1;
        if first != b' ' {
            self.dump.problem(line, "data", "announced but missing");
            return Ok(());
        }
        let section = match self.dump.sections.last() {
            Some(section) if self.inside != In::Nothing => section.name.clone(),
            _ => "".into(),
        };
        let mut block = Block {
            index: self.blocks,
            section,
            label: clean(&self.label.join("/"), 8 * MAX_NAME),
            line,
            encoded: 0,
        };
        self.blocks += 1;
        let wanted = sink.wants(&self.dump, &block);

        let mut decoder = ascii85::Decoder::default();
        let mut bytes = Vec::new();
        let mut indented = true;
        // A carriage return at the end of a bite: at the end of the line it isn't data.
        let mut held = false;
        let mut error = None;
        let (terminated, _) = scanner.pieces(&mut |mut piece| {
            if indented {
                let text = piece.iter().position(|&b| b != b' ');
                piece = &piece[text.unwrap_or(piece.len())..];
                indented = text.is_none();
            }
            block.encoded += piece.len() as u64;
            if !wanted || error.is_some() {
                return Ok(());
            }
            // Small bites: a `z` is four bytes.
            for bite in piece.chunks(16 * 1024) {
                bytes.clear();
                let before = if held { &b"\r"[..] } else { b"" };
                let text = bite.strip_suffix(b"\r");
                held = text.is_some();
                let fed = decoder
                    .feed(before, &mut bytes)
                    .and_then(|()| decoder.feed(text.unwrap_or(bite), &mut bytes));
                sink.bytes(&bytes)?;
                if let Err(e) = fed {
                    error = Some(e);
                    break;
                }
            }
            Ok(())
        })?;
        if !terminated {
            self.dump.cut = Some(Cut::InData);
        } else if wanted && error.is_none() {
            error = decoder.finish().err();
        }
        if let Some(e) = error {
            self.dump.problem(line, "data", e);
        }

        if self.item_kept {
            match self.inside {
                In::Rings => {
                    if let Some(ring) = self.dump.rings.last_mut() {
                        ring.block = Some(block.index);
                    }
                }
                In::Bos => {
                    if let Some(bo) = self.dump.bos.last_mut() {
                        bo.block = Some(block.index);
                    }
                }
                _ => {}
            }
        }
        let dump = &mut self.dump;
        Dump::keep(&mut dump.blocks, MAX_ITEMS, &mut dump.ignored, block);
        Ok(())
    }

    fn finish(mut self, last_line: u64) -> Dump {
        self.close_section(last_line + 1);
        let dump = &mut self.dump;
        if let Some(log) = &dump.vm_log {
            let have = log.entries.len() as u64 + log.ignored;
            let announced = log.header.as_ref().and_then(|h| h.entries);
            if announced.is_some_and(|n| n > have) {
                dump.cut.get_or_insert(Cut::InVmLog);
            }
        }
        if dump.kind == Kind::Unknown && dump.module.as_deref() == Some("msm") {
            dump.kind = Kind::Gpu;
        }
        if dump.kind == Kind::Gpu {
            let end = last_line;
            let absent: Vec<&str> = [
                ("kernel", dump.kernel.is_none()),
                ("time", dump.time.is_none()),
                ("revision", dump.revision.is_none()),
                ("ringbuffer", dump.rings.is_empty()),
            ]
            .iter()
            .filter_map(|&(name, absent)| absent.then_some(name))
            .collect();
            for name in absent {
                dump.problem(end, name, "missing");
            }
            if let Some(cut) = dump.cut {
                dump.problem(end, "dump", format_args!("cut {cut}"));
            }
        }
        self.dump
    }
}

fn parse_time(value: &str) -> Option<Time> {
    let (sec, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let sec = number(sec)?;
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nsec = fraction.parse::<u32>().ok()? * 10u32.pow(9 - fraction.len() as u32);
    Some(Time { sec, nsec })
}

/// `630 (6.3.0.0)`, or from the kernels on that know chips by id alone, `0 (07000200)`.
fn parse_revision(value: &str) -> Option<Revision> {
    let (name, chip) = value.split_once('(').unwrap_or((value, "00000000)"));
    let chip = chip.strip_suffix(')')?;
    let chip = if chip.contains('.') {
        let mut parts = chip.split('.');
        let mut next = || parts.next()?.trim_ascii().parse().ok();
        [next()?, next()?, next()?, next()?]
    } else {
        u32::try_from(hex_number(chip)?).ok()?.to_be_bytes()
    };
    Some(Revision {
        number: name.trim_ascii().parse().ok()?,
        chip,
    })
}

fn parse_register(body: &str) -> Option<Register> {
    let inner = body.strip_prefix('{')?.strip_suffix('}')?;
    let (offset, value) = inner.split_once(',')?;
    let get = |field: &str, key: &str| {
        let (name, value) = field.split_once(':')?;
        (name.trim_ascii() == key).then_some(())?;
        u32::try_from(hex_number(value.trim_ascii())?).ok()
    };
    Some(Register {
        offset: get(offset, "offset")?,
        value: get(value, "value")?,
    })
}
