// SPDX-License-Identifier: GPL-2.0-only
//! One line of a kernel log: what stands before the message (quoting, a journal's or syslog's prefix, the time), and the
//! messages that matter here. The formats are those of drivers/gpu/drm/msm and drivers/iommu/arm since 4.x.

use crate::dump::{
    Direction,
    Fault,
    FaultType, //
};
use memchr::memmem::Finder;
use serde::Serialize;
use std::fmt;

/// When a line was logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamp {
    /// Microseconds since the machine booted.
    Boot(u64),
    /// Calendar time as it was printed.
    Calendar(Box<str>),
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stamp::Boot(us) => write!(f, "{}.{:06} s", us / 1_000_000, us % 1_000_000),
            Stamp::Calendar(text) => f.write_str(text),
        }
    }
}

/// `[   12.345678]`, `[   12.345678][  T87]`, `<3>[12.34]`.
fn boot(prefix: &str) -> Option<u64> {
    prefix.match_indices('[').find_map(|(at, _)| {
        let rest = prefix[at + 1..].trim_start();
        let (sec, rest) = rest.split_once('.')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let closed = rest[digits..].starts_with(']');
        if !closed || !(1..=9).contains(&digits) {
            return None;
        }
        let mut us: u64 = rest[..digits].parse().ok()?;
        for _ in digits..6 {
            us *= 10;
        }
        for _ in 6..digits {
            us /= 10;
        }
        sec.parse::<u64>()
            .ok()?
            .checked_mul(1_000_000)?
            .checked_add(us)
    })
}

/// `4,1234,12345678,-;`, as in `/dev/kmsg`.
fn kmsg(prefix: &str) -> Option<u64> {
    let (head, _) = prefix.split_once(';')?;
    let mut fields = head.trim_start().split(',');
    let mut number = || fields.next()?.parse::<u64>().ok();
    number()?;
    number()?;
    number()
}

/// All up to the first `12:34:56`, and its fraction and zone.
fn calendar(prefix: &str) -> Option<&str> {
    const LONGEST: usize = 48;
    let bytes = prefix.as_bytes();
    let at = bytes.windows(8).take(LONGEST).position(|w| {
        let shape = |(n, &byte): (usize, &u8)| match n % 3 {
            2 => byte == b':',
            _ => byte.is_ascii_digit(),
        };
        w.iter().enumerate().all(shape)
    })?;
    let rest = &prefix[at..];
    let mut end = at + rest.find([' ', ']', '\t']).unwrap_or(rest.len());
    // `dmesg -T` prints the year last.
    if let Some(year) = prefix.get(end..end + 6) {
        let (year, closed) = year.split_at_checked(5)?;
        if closed == "]" && year.trim_start().parse::<u16>().is_ok() {
            end += 5;
        }
    }
    let text = prefix.get(..end)?;
    Some(text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// The time in what stands before a message.
pub fn stamp(prefix: &str) -> Option<Stamp> {
    boot(prefix)
        .or_else(|| kmsg(prefix))
        .map(Stamp::Boot)
        .or_else(|| {
            calendar(prefix)
                .map(|text| Stamp::Calendar(text.chars().map(plain).collect::<String>().into()))
        })
}

/// A character that doesn't steer a terminal.
pub fn plain(c: char) -> char {
    match c.is_control() {
        true => '\u{fffd}',
        false => c,
    }
}

/// Without a mail's or a page's quoting.
pub fn unquoted(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix(['>', '|']) {
            Some(rest) => text = rest,
            None => return text,
        }
    }
}

/// What went wrong with the CP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cp {
    /// A packet of a type that doesn't exist, or an instruction that the firmware doesn't have.
    Opcode,
    /// An access to a register that commands mustn't touch.
    Protected,
    /// The firmware itself.
    Firmware,
    /// The bus, or anything else.
    Bus,
}

/// A message.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    /// `*** gpu fault`, and whether all of it was there.
    Fault(Fault, bool),
    /// A context fault of an SMMU, whosever it is.
    Smmu(&'a str, Fault),
    /// The hangcheck timer found no progress on this ring.
    Lockup(u64),
    /// The GPU is reset.
    Recover,
    /// The GPU's own hang detection, and its state.
    Hang(State),
    /// Whose submit was running; `None` if none was.
    Task(Option<&'a str>),
    /// The CP reports an error.
    Cp(Cp),
    /// The GMU, or the power it controls, fails.
    Gmu,
    /// This firmware isn't there.
    Missing(&'a str),
    /// This firmware was found after all.
    Loaded(&'a str),
    /// So many messages were left out, of this function.
    Suppressed(&'a str, u64),
    /// The kernel's version.
    Kernel(&'a str),
    /// The GPU's number.
    Revision(&'a str),
}

/// Where the GPU was when it noticed that it hung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct State {
    /// The ring that was active.
    pub ring: u64,
    /// RBBM_STATUS.
    pub status: u64,
    /// Where the CP reads and where the kernel writes the ring, in dwords.
    pub ring_at: Option<(u64, u64)>,
    /// Address and dwords left of IB1 and IB2.
    pub buffers: [Option<(u64, u64)>; 2],
}

fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key).map(|(_, rest)| rest.trim_start())
}

fn hex_of(text: &str) -> Option<u64> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let end = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    u64::from_str_radix(&text[..end], 16).ok()
}

fn hex(text: &str, key: &str) -> Option<u64> {
    after(text, key).and_then(hex_of)
}

fn decimal(text: &str) -> Option<u64> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..end].parse().ok()
}

/// The text of `*** gpu fault:`, and how much of it is well-formed: a wrapped one is put together in the way that is more so.
pub fn fault(text: &str) -> Option<(Fault, u32)> {
    let iova = after(text, "iova=")?;
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_hexdigit).count() as u32;
    let mut score = digits(iova);
    let iova = hex_of(iova)?;
    let ttbr0 = after(text, "ttbr0=").and_then(|text| {
        score += digits(text);
        hex_of(text)
    });
    let word = |key| {
        after(text, key)
            .map(|rest| rest.split([' ', ',', '(']).next().unwrap_or(rest))
            .unwrap_or("")
    };
    let flags = after(text, "flags=").and_then(decimal);
    let direction = match (word("dir="), flags) {
        ("READ", _) => Some(Direction::Read),
        ("WRITE", _) => Some(Direction::Write),
        (_, Some(flags)) if flags & 1 != 0 => Some(Direction::Write),
        (_, Some(_)) => Some(Direction::Read),
        _ => None,
    };
    let kind = match word("type=") {
        "TRANSLATION" => FaultType::Translation,
        "PERMISSION" => FaultType::Permission,
        "EXTERNAL" => FaultType::External,
        _ => FaultType::Unknown,
    };
    let source = after(text, "source=").map(|rest| {
        let rest = rest.split('(').next().unwrap_or(rest).trim_end();
        rest.chars()
            .map(plain)
            .take(32)
            .collect::<String>()
            .into_boxed_str()
    });
    score += 8 * u32::from(direction.is_some()) + 8 * u32::from(kind != FaultType::Unknown);
    score += 8 * u32::from(source.as_deref().is_some_and(|s| !s.is_empty()));
    score += 8 * u32::from(is_whole(text));
    let source = source.filter(|source| !source.is_empty());
    let fault = Fault {
        ttbr0,
        iova,
        direction,
        kind,
        source,
    };
    Some((fault, score))
}

/// It ends as all formats do, in four registers: `(1,2,3,4)`.
fn is_whole(text: &str) -> bool {
    text.rsplit_once('(')
        .is_some_and(|(_, rest)| rest.contains(')') && rest.matches(',').count() == 3)
}

fn smmu(text: &str) -> Option<Fault> {
    let (fsr, iova) = (hex(text, "fsr=")?, hex(text, "iova=")?);
    let fsynr = hex(text, "fsynr=").or_else(|| hex(text, "fsynr0="));
    let kind = match fsr {
        fsr if fsr & 2 != 0 => FaultType::Translation,
        fsr if fsr & 8 != 0 => FaultType::Permission,
        fsr if fsr & 16 != 0 => FaultType::External,
        _ => FaultType::Unknown,
    };
    Some(Fault {
        ttbr0: None,
        iova,
        // WNR
        direction: fsynr.map(|fsynr| match fsynr & 16 {
            0 => Direction::Read,
            _ => Direction::Write,
        }),
        kind,
        source: None,
    })
}

fn state(text: &str) -> State {
    let pair = |key| {
        let (first, rest) = after(text, key)?.split_once('/')?;
        Some((hex_of(first)?, hex_of(rest)?))
    };
    State {
        ring: after(text, "ring ").and_then(decimal).unwrap_or(0),
        status: hex(text, "status ").unwrap_or(0),
        ring_at: pair(" rb "),
        buffers: [pair(" ib1 "), pair(" ib2 ")],
    }
}

/// The last word of what stands before a message, `5040000.iommu` of `arm-smmu 5040000.iommu: `.
fn device(prefix: &str) -> &str {
    let prefix = prefix.trim_end().trim_end_matches(':');
    prefix.rsplit([' ', '\t', ';']).next().unwrap_or(prefix)
}

/// What is looked for. The text of a line is looked at only where one of them is in it.
#[derive(Debug)]
pub struct Messages {
    words: [Finder<'static>; 12],
}

impl Default for Messages {
    fn default() -> Self {
        let words = [
            "gpu fault",
            "context fault",
            "gpu lockup rb",
            "hangcheck recover",
            "offending task:",
            "CP ",
            "GMU",
            "loa",
            "callbacks suppressed",
            "Linux version ",
            "revision:",
            "gdsc didn't collapse",
        ];
        Messages {
            words: words.map(Finder::new),
        }
    }
}

impl Messages {
    /// The message in a line, and what stands before it.
    pub fn find<'a>(&self, line: &'a [u8]) -> Option<(&'a str, Message<'a>)> {
        // Where two words are in a line, the earlier in the list says what it is.
        for (n, word) in self.words.iter().enumerate() {
            let Some(at) = word.find(line) else {
                continue;
            };
            let prefix = lossless(&line[..at])?;
            let text = lossless(&line[at..])?;
            if let Some(message) = Messages::message(n, prefix, text) {
                return Some((prefix, message));
            }
        }
        None
    }

    fn message<'a>(word: usize, prefix: &'a str, text: &'a str) -> Option<Message<'a>> {
        Some(match word {
            0 if text.starts_with("gpu fault:") => {
                let whole = is_whole(text);
                Message::Fault(fault(text)?.0, whole)
            }
            0 if text.starts_with("gpu fault ring ") => Message::Hang(state(text)),
            1 => {
                let prefix = prefix.trim_end().trim_end_matches("Unhandled");
                Message::Smmu(device(prefix), smmu(text)?)
            }
            2 => Message::Lockup(after(text, "rb").and_then(decimal).unwrap_or(0)),
            3 => Message::Recover,
            4 => {
                let task = after(text, "task:")?;
                let name = task
                    .split_once(" (")
                    .map_or(task, |(name, _)| name)
                    .trim_end();
                Message::Task((name != "unknown" && !name.is_empty()).then_some(name))
            }
            5 if text.starts_with("CP | opcode error") => Message::Cp(Cp::Opcode),
            5 if text.starts_with("CP illegal instruction") => Message::Cp(Cp::Opcode),
            5 if text
                .to_ascii_lowercase()
                .starts_with("cp | protected mode error") =>
            {
                Message::Cp(Cp::Protected)
            }
            5 if text.starts_with("CP ucode error") => Message::Cp(Cp::Firmware),
            5 if text.starts_with("CP | ") && text.contains("rror") => Message::Cp(Cp::Bus),
            5 if text.starts_with("CP | HW fault") => Message::Cp(Cp::Bus),
            6 => {
                let bad = [
                    "expired",
                    "error",
                    "fault",
                    "imed out",
                    "imeout",
                    "not go into",
                ];
                let before = prefix.contains("Timeout waiting for ");
                if !before && !bad.iter().any(|bad| text.contains(bad)) {
                    return None;
                }
                Message::Gmu
            }
            7 if prefix.ends_with("failed to ") && text.starts_with("load ") => {
                let name = text[5..].split([' ', ':']).next()?;
                let firmware = [".fw", ".bin", ".mbn", ".mdt", ".elf"];
                if !firmware.iter().any(|end| name.ends_with(end)) {
                    return None;
                }
                Message::Missing(name)
            }
            7 if text.starts_with("loaded ") => Message::Loaded(text[7..].split(' ').next()?),
            8 => {
                let head = prefix.trim_end();
                let (head, count) = head.rsplit_once(' ')?;
                Message::Suppressed(device(head), count.parse().ok()?)
            }
            9 => Message::Kernel(after(text, "version")?.split(' ').next()?),
            10 if prefix.trim_end().ends_with([']', ':']) || prefix.trim().is_empty() => {
                let revision = after(text, "revision:")?;
                let (number, rest) = revision.split_once(' ')?;
                if !rest.starts_with('(') || number.parse::<u32>().is_err() {
                    return None;
                }
                Message::Revision(revision.trim_end())
            }
            11 => Message::Gmu,
            _ => return None,
        })
    }
}

/// As text, as far as it is UTF-8.
fn lossless(bytes: &[u8]) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) => std::str::from_utf8(&bytes[..e.valid_up_to()]).ok(),
    }
}
