// SPDX-License-Identifier: GPL-2.0-only
//! The `vm-log` section, in both of its forms: what the C memory manager prints, and what msm_rs
//! adds to it (Documentation/devcoredump.rst).

use crate::dump::{
    hex,
    FieldError, //
};
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// How many entries are kept; the kernel's ring holds 256 at most.
pub const MAX_ENTRIES: usize = 16 * 1024;

/// What an entry did to the page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// VM_BIND MAP wrote entries. Also what C prints for mappings brought back after eviction, with
    /// queue 0.
    Map,
    /// VM_BIND MAP_NULL wrote entries that point to the PRR page. C prints `map` for these too.
    MapNull,
    /// VM_BIND UNMAP removed entries. C prints this also for what a MAP over an old mapping
    /// removes.
    Unmap,
    /// A MAP or MAP_NULL removed what was there before.
    Replace,
    /// A MAP found the same mapping in place: no page table changed.
    Keep,
    /// An evicted mapping was written again.
    Restore,
    /// The shrinker removed the entries; the content is kept.
    Evict,
    /// The shrinker removed the entries of a BO marked DONTNEED.
    Purge,
    /// The handle or the VM was closed.
    Close,
    /// A word that this tool doesn't know. Nothing is concluded from it.
    Other,
}

impl Op {
    /// All that the kernel is known to print, with their words.
    pub const NAMED: [(Op, &'static str); 9] = [
        (Op::Map, "map"),
        (Op::MapNull, "map_null"),
        (Op::Unmap, "unmap"),
        (Op::Replace, "replace"),
        (Op::Keep, "keep"),
        (Op::Restore, "restore"),
        (Op::Evict, "evict"),
        (Op::Purge, "purge"),
        (Op::Close, "close"),
    ];

    /// The op that the kernel's word means.
    pub fn parse(word: &str) -> Op {
        Op::NAMED
            .iter()
            .find_map(|&(op, name)| (name == word).then_some(op))
            .unwrap_or(Op::Other)
    }

    /// The kernel's word.
    pub fn word(self) -> &'static str {
        Op::NAMED
            .iter()
            .find_map(|&(op, name)| (op == self).then_some(name))
            .unwrap_or("?")
    }

    /// It makes addresses valid.
    pub fn maps(self) -> bool {
        matches!(self, Op::Map | Op::MapNull | Op::Restore)
    }

    /// It makes addresses invalid.
    pub fn removes(self) -> bool {
        matches!(
            self,
            Op::Unmap | Op::Replace | Op::Evict | Op::Purge | Op::Close
        )
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// When the page tables followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// The log doesn't say when; C logs an op as it applies it, so it was.
    Yes,
    /// At this time, CLOCK_MONOTONIC in ns.
    At(u64),
    /// Not before the dump was taken.
    NotYet,
}

/// Bits of [`Entry::flags`].
pub mod flags {
    /// The mapping carries MSM_VM_BIND_OP_DUMP.
    pub const DUMP: u32 = 0x01;
    /// A part of a VMA went; the rest of it stays.
    pub const PARTIAL: u32 = 0x02;
    /// The GPU may not write.
    pub const READONLY: u32 = 0x04;
    /// Only privileged accesses may reach it.
    pub const PRIV: u32 = 0x08;
    /// The VMA is a MAP_NULL one.
    pub const NULL: u32 = 0x10;

    /// The bits' names.
    pub const NAMED: [(u32, &str); 5] = [
        (DUMP, "DUMP"),
        (PARTIAL, "PARTIAL"),
        (READONLY, "READONLY"),
        (PRIV, "PRIV"),
        (NULL, "NULL"),
    ];
}

/// One line of the log. What the C form doesn't have is `None` or 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The dump's line it stands in.
    pub line: u64,
    /// What was done.
    pub op: Op,
    /// The submitqueue that asked; 0: none.
    pub queue: i64,
    /// First address.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// End address, exclusive.
    #[serde(serialize_with = "hex")]
    pub end: u64,
    /// When it was asked for, CLOCK_MONOTONIC in ns.
    pub asked: Option<u64>,
    /// When the page tables followed.
    pub applied: Applied,
    /// Negative errno of a change that failed.
    pub err: Option<i64>,
    /// Sequence number of the bind job in its VM.
    pub job: Option<u64>,
    /// The process that asked.
    pub pid: Option<i64>,
    /// GEM handle of the BO.
    pub handle: Option<u64>,
    /// Offset in the BO of `start`.
    pub off: Option<u64>,
    /// Bits of [`flags`].
    pub flags: u32,
    /// The BO's name.
    pub name: Option<Box<str>>,
}

impl Entry {
    /// The addresses it concerns.
    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether it concerns `addr`.
    pub fn covers(&self, addr: u64) -> bool {
        self.range().contains(&addr)
    }

    /// It is or was a mapping of nothing (PRR).
    pub fn is_null(&self) -> bool {
        self.op == Op::MapNull || self.flags & flags::NULL != 0
    }

    /// Reads one line of the section.
    pub fn parse(line: u64, text: &str) -> Result<Entry, FieldError> {
        let body = text
            .trim_ascii_start()
            .strip_prefix("- ")
            .ok_or(FieldError::new("entry", "doesn't start with \"- \""))?;
        let (word, rest) = body
            .split_once(':')
            .ok_or(FieldError::new("op", "no colon after it"))?;
        if word.is_empty() || word.contains(' ') {
            return Err(FieldError::new("op", "isn't one word"));
        }
        let (queue, rest) = rest
            .split_once(':')
            .ok_or(FieldError::new("queue", "no colon after it"))?;
        let queue = queue
            .trim_ascii()
            .parse()
            .map_err(|_| FieldError::new("queue", "isn't a number"))?;
        let rest = rest.trim_ascii_start();
        let (range, extra) = rest.split_once(' ').unwrap_or((rest, ""));
        let (start, end) = range
            .split_once('-')
            .ok_or(FieldError::new("range", "no dash in it"))?;
        let start = number(start).ok_or(FieldError::new("range", "its start isn't a number"))?;
        let end = number(end).ok_or(FieldError::new("range", "its end isn't a number"))?;
        if end < start {
            return Err(FieldError::new("range", "ends before it starts"));
        }

        let mut entry = Entry {
            line,
            op: Op::parse(word),
            queue,
            start,
            end,
            asked: None,
            applied: Applied::Yes,
            err: None,
            job: None,
            pid: None,
            handle: None,
            off: None,
            flags: 0,
            name: None,
        };
        entry.fields(extra)?;
        // Who says when an op was asked for says whether it was applied: a part of the line is lost.
        if entry.asked.is_some() && entry.applied == Applied::Yes {
            return Err(FieldError::new("applied", "is missing"));
        }
        Ok(entry)
    }

    fn fields(&mut self, mut rest: &str) -> Result<(), FieldError> {
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Ok(());
            }
            if let Some(name) = rest.strip_prefix("name=\"") {
                let name = name
                    .strip_suffix('"')
                    .ok_or(FieldError::new("name", "no closing quote"))?;
                self.name = Some(name.into());
                return Ok(());
            }
            let (field, next) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = next;
            let (key, value) = field
                .split_once('=')
                .ok_or(FieldError::new("entry", "a field without \"=\""))?;
            let not_number = |field| FieldError::new(field, "isn't a number");
            match key {
                "asked" => self.asked = Some(number(value).ok_or(not_number("asked"))?),
                "applied" if value == "-" => self.applied = Applied::NotYet,
                "applied" => {
                    self.applied = Applied::At(number(value).ok_or(not_number("applied"))?)
                }
                "err" => self.err = Some(value.parse().map_err(|_| not_number("err"))?),
                "job" => self.job = Some(number(value).ok_or(not_number("job"))?),
                "pid" => self.pid = Some(value.parse().map_err(|_| not_number("pid"))?),
                "handle" => self.handle = Some(number(value).ok_or(not_number("handle"))?),
                "off" => self.off = Some(number(value).ok_or(not_number("off"))?),
                "flags" => {
                    self.flags = number(value)
                        .and_then(|n| n.try_into().ok())
                        .ok_or(not_number("flags"))?
                }
                _ => {}
            }
        }
    }
}

impl fmt::Display for Entry {
    /// The line as the kernel prints it, without indentation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "- {}:{}: 0x{:016x}-0x{:016x}",
            self.op, self.queue, self.start, self.end
        )?;
        if let Some(asked) = self.asked {
            write!(f, " asked={asked}")?;
        }
        match self.applied {
            Applied::Yes => {}
            Applied::At(at) => write!(f, " applied={at}")?,
            Applied::NotYet => write!(f, " applied=-")?,
        }
        if let Some(err) = self.err {
            write!(f, " err={err}")?;
        }
        if let Some(job) = self.job {
            write!(f, " job={job}")?;
        }
        if let Some(pid) = self.pid {
            write!(f, " pid={pid}")?;
        }
        if let Some(handle) = self.handle {
            write!(f, " handle={handle}")?;
        }
        if let Some(off) = self.off {
            write!(f, " off={off:#x}")?;
        }
        if self.flags != 0 {
            write!(f, " flags={:#x}", self.flags)?;
        }
        if let Some(name) = &self.name {
            write!(f, " name=\"{name}\"")?;
        }
        Ok(())
    }
}

/// The line before the entries that msm_rs prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Version of the form.
    pub format: u64,
    /// When the log was copied, CLOCK_MONOTONIC in ns.
    pub now: Option<u64>,
    /// When the fault handler was entered, CLOCK_MONOTONIC in ns.
    pub fault: Option<u64>,
    /// How many entries follow.
    pub entries: Option<u64>,
    /// How many older entries the ring forgot.
    pub lost: Option<u64>,
}

impl Header {
    /// Reads the header; `None` when the line is another comment.
    pub fn parse(text: &str) -> Result<Option<Header>, FieldError> {
        let Some(body) = text.trim_ascii().strip_prefix('#') else {
            return Ok(None);
        };
        let mut header = Header::default();
        let mut is_header = false;
        for field in body.split_ascii_whitespace() {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            let (slot, key) = match key {
                "format" => {
                    is_header = true;
                    header.format =
                        number(value).ok_or(FieldError::new("format", "isn't a number"))?;
                    continue;
                }
                "now" => (&mut header.now, "now"),
                "fault" => (&mut header.fault, "fault"),
                "entries" => (&mut header.entries, "entries"),
                "lost" => (&mut header.lost, "lost"),
                _ => continue,
            };
            *slot = Some(number(value).ok_or(FieldError::new(key, "isn't a number"))?);
        }
        Ok(is_header.then_some(header))
    }
}

/// The submit that the dump blames, in a comment that msm_rs prints after the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Submit {
    /// The dump's line it stands in.
    pub line: u64,
    /// The submitqueue.
    pub queue: u64,
    /// The number of its fence, as userspace knows it.
    pub fence: u64,
    /// When the SUBMIT was pushed, CLOCK_MONOTONIC in ns.
    pub sent: u64,
    /// How many fences it was to wait for.
    pub waits: u64,
    /// How many in-syncobjs it had that the kernel didn't read, for want of
    /// MSM_SUBMIT_SYNCOBJ_IN.
    pub ignored: u64,
}

impl Submit {
    const KEYS: [&'static str; 5] = ["queue", "fence", "sent", "waits", "ignored"];

    /// Reads the line; `None` when it is another comment.
    pub fn parse(line: u64, text: &str) -> Result<Option<Submit>, FieldError> {
        let body = text.trim_ascii().strip_prefix('#').unwrap_or_default();
        let mut fields = body.split_ascii_whitespace();
        if fields.next() != Some("submit") {
            return Ok(None);
        }
        let mut values = [None; Submit::KEYS.len()];
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let Some(n) = Submit::KEYS.iter().position(|&known| known == key) else {
                continue;
            };
            let error = FieldError::new(Submit::KEYS[n], "isn't a number");
            values[n] = Some(number(value).ok_or(error)?);
        }
        let value = |n: usize| values[n].ok_or(FieldError::new(Submit::KEYS[n], "is missing"));
        Ok(Some(Submit {
            line,
            queue: value(0)?,
            fence: value(1)?,
            sent: value(2)?,
            waits: value(3)?,
            ignored: value(4)?,
        }))
    }
}

impl fmt::Display for Submit {
    /// The line as the kernel prints it, without indentation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "# submit queue={} fence={} sent={} waits={} ignored={}",
            self.queue, self.fence, self.sent, self.waits, self.ignored
        )
    }
}

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VmLog {
    /// Present when msm_rs printed it.
    pub header: Option<Header>,
    /// Present when an msm_rs printed it that knows of submits.
    pub submit: Option<Submit>,
    /// In the order of the dump: oldest first.
    pub entries: Vec<Entry>,
    /// Entries beyond [`MAX_ENTRIES`], not kept.
    pub ignored: u64,
}

/// Whether a log can lack something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Certainly not.
    No,
    /// The dump doesn't tell.
    Maybe,
    /// Certainly.
    Yes,
}

impl VmLog {
    /// Reads a line that is a comment: the header, the submit, or anything else.
    pub(crate) fn comment(&mut self, line: u64, text: &str) -> Result<(), FieldError> {
        if let Some(submit) = Submit::parse(line, text)? {
            self.submit = Some(submit);
        } else if let Some(header) = Header::parse(text)? {
            self.header = Some(header);
        }
        Ok(())
    }

    /// Whether entries older than the first are missing because the ring wrapped.
    ///
    /// C's ring has a power of two of entries, 2 to 256, and prints all of them once it has
    /// wrapped.
    pub fn older_missing(&self) -> Missing {
        match &self.header {
            Some(_) if self.incomplete() => Missing::Maybe,
            Some(header) if header.lost == Some(0) => Missing::No,
            Some(_) => Missing::Yes,
            None => match self.entries.len() {
                256.. => Missing::Yes,
                n if n >= 2 && n.is_power_of_two() => Missing::Maybe,
                _ => Missing::No,
            },
        }
    }

    /// Whether the newest entry is missing: C leaves it out until its ring has wrapped.
    pub fn newest_missing(&self) -> Missing {
        match (&self.header, self.older_missing()) {
            (Some(_), _) if self.incomplete() => Missing::Maybe,
            (Some(_), _) | (None, Missing::Yes) => Missing::No,
            (None, Missing::Maybe) => Missing::Maybe,
            (None, Missing::No) => Missing::Yes,
        }
    }

    /// Whether it has fewer entries than its header says: some couldn't be read, or the text was cut.
    fn incomplete(&self) -> bool {
        let announced = self.header.as_ref().and_then(|h| h.entries);
        announced.is_some_and(|n| n > self.entries.len() as u64 + self.ignored)
    }

    /// Whether an op was asked for when the fault had happened.
    pub fn asked_after_fault(&self, entry: &Entry) -> bool {
        matches!((entry.asked, self.fault_time()), (Some(asked), Some(fault)) if asked > fault)
    }

    /// When the fault happened, as well as the log knows, CLOCK_MONOTONIC in ns.
    // Inlined into a loop, rustc 1.95 (LLVM 22) hoists the choice between the two out of the check
    // for a header, and reads out of bounds when there is none.
    #[inline(never)]
    pub fn fault_time(&self) -> Option<u64> {
        self.header.as_ref().and_then(|h| h.fault.or(h.now))
    }

    /// Whether an entry had reached the page tables when the GPU faulted.
    pub fn in_effect(&self, entry: &Entry) -> bool {
        match entry.applied {
            Applied::Yes => true,
            Applied::NotYet => false,
            Applied::At(at) => self.fault_time().is_none_or(|fault| at <= fault),
        }
    }
}

/// Reads a number as the kernel prints it: decimal, or hexadecimal after `0x`.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let c = Entry::parse(4, "  - unmap:3: 0x0000000100000000-0x0000000100004000").unwrap();
        assert_eq!((c.op, c.queue, c.line), (Op::Unmap, 3, 4));
        assert_eq!(c.range(), 0x1_0000_0000..0x1_0000_4000);
        assert_eq!(c.applied, Applied::Yes);

        let text =
            "- map:7: 0x0000000000001000-0x0000000000003000 asked=5 applied=- err=-12 job=9 pid=4 \
                    handle=3 off=0x2000 flags=0x6 name=\"a b=c\"";
        let rust = Entry::parse(1, text).unwrap();
        assert_eq!(rust.applied, Applied::NotYet);
        assert_eq!(rust.name.as_deref(), Some("a b=c"));
        assert_eq!(rust.to_string(), text);
    }

    #[test]
    fn errors_name_the_field() {
        let field = |text| Entry::parse(1, text).unwrap_err().field;
        assert_eq!(field("  map:3: 0x0-0x1"), "entry");
        assert_eq!(field("  - map 3: 0x0-0x1"), "op");
        assert_eq!(field("  - map:x: 0x0-0x1"), "queue");
        assert_eq!(field("  - map:1: 0x2-0x1"), "range");
        assert_eq!(field("  - map:1: 0x0-0x1 asked=x"), "asked");
        assert_eq!(field("  - map:1: 0x0-0x1 name=\"x"), "name");
    }

    #[test]
    fn the_submit_is_read() {
        let text = "# submit queue=3 fence=1234 sent=80999000000 waits=2 ignored=1";
        let submit = Submit::parse(6, &format!("  {text}")).unwrap().unwrap();
        let read = (submit.line, submit.queue, submit.fence, submit.sent);
        assert_eq!(read, (6, 3, 1234, 80_999_000_000));
        assert_eq!((submit.waits, submit.ignored), (2, 1));
        assert_eq!(submit.to_string(), text);
        // What a later kernel adds is passed over.
        let more = text.replace("sent=", "later colour=red sent=");
        assert_eq!(Submit::parse(6, &more), Ok(Some(submit)));

        for other in [
            "",
            "submit queue=3",
            "# format=1 now=9 entries=0 lost=0",
            "# submits queue=x",
            "# queue=x submit",
        ] {
            assert_eq!(Submit::parse(1, other), Ok(None), "{other}");
        }
        for (old, new, field) in [
            ("queue=3", "queue=-3", "queue"),
            ("fence=1234", "fence=", "fence"),
            ("sent=80999000000", "sent=99999999999999999999", "sent"),
            ("waits=2", "waits=+2", "waits"),
            (" ignored=1", "", "ignored"),
            (" sent=80999000000 waits=2 ignored=1", " se", "sent"),
        ] {
            let error = Submit::parse(1, &text.replace(old, new)).unwrap_err();
            assert_eq!(error.field, field, "{new}");
        }
    }

    #[test]
    fn what_a_stock_log_may_lack() {
        let log = |n: usize| VmLog {
            entries: vec![Entry::parse(1, "- map:1: 0x0-0x1").unwrap(); n],
            ..VmLog::default()
        };
        // Four of five: the ring hasn't wrapped, so the newest is missing.
        assert_eq!(log(3).newest_missing(), Missing::Yes);
        assert_eq!(log(3).older_missing(), Missing::No);
        assert_eq!(log(1).newest_missing(), Missing::Yes);
        // A full ring of 8, or 9 entries in a ring of 16.
        assert_eq!(log(8).newest_missing(), Missing::Maybe);
        assert_eq!(log(8).older_missing(), Missing::Maybe);
        assert_eq!(log(256).newest_missing(), Missing::No);
        let ours = VmLog {
            header: Header::parse("  # format=1 now=9 fault=8 entries=1 lost=0").unwrap(),
            ..log(1)
        };
        assert_eq!(ours.older_missing(), Missing::No);
        assert_eq!(ours.newest_missing(), Missing::No);
        assert_eq!(ours.fault_time(), Some(8));
    }
}
