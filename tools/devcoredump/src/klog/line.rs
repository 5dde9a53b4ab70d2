// SPDX-License-Identifier: GPL-2.0-only
//! One line of a kernel log: what stands before the message (quoting, a journal's or syslog's
//! prefix, the time), and the messages that matter here. The formats are those of
//! drivers/gpu/drm/msm and drivers/iommu/arm since 4.x.

use crate::clean::clean;
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
        let rest = prefix[at + 1..].trim_ascii_start();
        let (sec, rest) = rest.split_once('.')?;
        // `[  +0.000012]` is the time since the line before.
        if sec.starts_with('+') {
            return None;
        }
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
        .or_else(|| calendar(prefix).map(|text| Stamp::Calendar(clean(text, text.len()))))
}

/// Without a mail's or a page's quoting.
pub fn unquoted(mut text: &str) -> &str {
    loop {
        text = text.trim_ascii_start();
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
    /// A packet of a type that doesn't exist, or an instruction that the firmware doesn't have;
    /// what the CP takes for the opcode, where the line says it.
    Opcode(Option<u64>),
    /// An access to a register that commands mustn't touch; which one, where the line says it.
    Protected {
        /// Read or write.
        direction: Option<Direction>,
        /// The register's offset in dwords.
        register: Option<u64>,
    },
    /// The firmware itself.
    Firmware,
    /// The bus, or anything else.
    Bus,
}

/// A message.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    /// `*** gpu fault`.
    Fault {
        /// What it says.
        fault: Fault,
        /// All of it was there.
        whole: bool,
        /// The GPU's scratch registers, which it ends with, read as those of a GPU that is off.
        off: bool,
    },
    /// `*** gpu fault` whose address isn't in this line.
    Begun,
    /// `*** fault`, of a GPU up to a4xx or of the display controller.
    Plain(Fault),
    /// A context fault of an SMMU, whosever it is.
    Smmu(&'a str, Fault),
    /// The hangcheck timer found no progress on this ring.
    Lockup(u64),
    /// The GPU is reset.
    Recover,
    /// The GPU's own hang detection, and its state.
    Hang(State),
    /// A line of its own about one of an a8xx's pipes, and where that one was.
    Pipe(State),
    /// The GPU didn't finish what the kernel itself put into this ring to initialise it: position
    /// of the CP and of the kernel, in dwords.
    Idle(u64, u64),
    /// Initialising the GPU failed with this errno.
    Init(u64),
    /// UCHE met an address outside of all that it may reach.
    OutOfBounds,
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
    /// The ring that was active, if one was.
    pub ring: Option<u64>,
    /// RBBM_STATUS.
    pub status: u64,
    /// Where the CP reads and where the kernel writes the ring, in dwords.
    pub ring_at: Option<(u64, u64)>,
    /// Address of IB1 and IB2, and dwords left of them.
    pub buffers: [Option<(u64, u64)>; 2],
    /// The dwords of [`State::buffers`] are those already read, as an a8xx counts.
    pub read: bool,
}

fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key)
        .map(|(_, rest)| rest.trim_ascii_start())
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

/// What stands behind the first `key=` of each of these keys.
fn fields<'a, const N: usize>(text: &'a str, keys: [&str; N]) -> [Option<&'a str>; N] {
    let mut fields = [None; N];
    for at in memchr::memchr_iter(b'=', text.as_bytes()) {
        let key = keys.iter().position(|key| text[..at].ends_with(key));
        if let Some(key) = key {
            fields[key].get_or_insert(text[at + 1..].trim_ascii_start());
        }
    }
    fields
}

/// The word that a field begins with.
fn word(field: Option<&str>) -> &str {
    let text = field.unwrap_or("");
    let end = text.bytes().position(|byte| b" ,(".contains(&byte));
    &text[..end.unwrap_or(text.len())]
}

/// The text of `*** gpu fault:`.
pub fn fault(text: &str) -> Option<Fault> {
    let keys = ["iova", "ttbr0", "flags", "dir", "type", "source"];
    let [iova, ttbr0, flags, direction, kind, source] = fields(text, keys);
    let direction = match (word(direction), flags.and_then(decimal)) {
        ("READ", _) => Some(Direction::Read),
        ("WRITE", _) => Some(Direction::Write),
        (_, Some(flags)) if flags & 1 != 0 => Some(Direction::Write),
        (_, Some(_)) => Some(Direction::Read),
        _ => None,
    };
    let kind = match word(kind) {
        "TRANSLATION" => FaultType::Translation,
        "PERMISSION" => FaultType::Permission,
        "EXTERNAL" => FaultType::External,
        _ => FaultType::Unknown,
    };
    let source = source.map(|rest| {
        let rest = rest.split('(').next().unwrap_or(rest);
        clean(rest.trim_end(), 32)
    });
    Some(Fault {
        ttbr0: ttbr0.and_then(hex_of),
        iova: Some(hex_of(iova?)?),
        direction,
        kind,
        source: source.filter(|source| !source.is_empty()),
    })
}

/// How much of `*** gpu fault:` is well-formed: a wrapped one is put together in the way that is
/// more so.
pub fn completeness(text: &str) -> u32 {
    let Some(fault) = fault(text) else {
        return 0;
    };
    let numbers = fields(text, ["iova", "ttbr0"]).into_iter().flatten();
    let digits = numbers.map(|text| text.bytes().take_while(u8::is_ascii_hexdigit).count());
    let parts = [
        fault.direction.is_some(),
        fault.kind != FaultType::Unknown,
        fault.source.is_some(),
        registers(text).is_some(),
    ];
    let parts = parts.iter().filter(|&&part| part).count();
    (digits.sum::<usize>() + 8 * parts) as u32
}

/// The GPU's scratch registers, four numbers that all formats end in: `(1,2,3,4)`.
fn registers(text: &str) -> Option<[&str; 4]> {
    let (_, registers) = text.rsplit_once('(')?;
    let mut registers = registers.split_once(')')?.0.split(',');
    let mut next = || registers.next();
    let four = [next()?, next()?, next()?, next()?];
    next().is_none().then_some(four)
}

/// They read what those of a GPU without power read.
fn are_off(registers: [&str; 4]) -> bool {
    let all = |nobody: u32| {
        let mut registers = registers.iter();
        registers.all(|register| register.trim_ascii().parse() == Ok(nobody))
    };
    all(0xdeaf_bead) || all(0xffff_ffff)
}

/// A page fault's message that is all there is of it.
pub fn ended(text: &str) -> Option<Message<'_>> {
    Some(Message::Fault {
        fault: fault(text)?,
        whole: true,
        off: registers(text).is_some_and(are_off),
    })
}

fn smmu(text: &str) -> Option<Fault> {
    let [fsr, iova, fsynr, fsynr0] = fields(text, ["fsr", "iova", "fsynr", "fsynr0"]);
    let (fsr, iova) = (hex_of(fsr?)?, hex_of(iova?)?);
    let fsynr = fsynr.and_then(hex_of).or(fsynr0.and_then(hex_of));
    let kind = match fsr {
        fsr if fsr & 2 != 0 => FaultType::Translation,
        fsr if fsr & 8 != 0 => FaultType::Permission,
        fsr if fsr & 16 != 0 => FaultType::External,
        _ => FaultType::Unknown,
    };
    Some(Fault {
        ttbr0: None,
        iova: Some(iova),
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
        ring: after(text, "ring ").and_then(decimal),
        status: hex(text, "status ").unwrap_or(0),
        ring_at: pair(" rb "),
        buffers: [pair(" ib1 "), pair(" ib2 ")],
        read: false,
    }
}

/// `WRITE | addr=0x…`
fn protected(text: &str) -> Cp {
    let direction = match () {
        _ if text.contains("WRITE") => Some(Direction::Write),
        _ if text.contains("READ") => Some(Direction::Read),
        _ => None,
    };
    Cp::Protected {
        direction,
        register: hex(text, "addr="),
    }
}

/// A line that starts with `CP `.
fn cp(text: &str) -> Option<Cp> {
    let starts = |with: &str| text.starts_with(with);
    Some(match () {
        _ if starts("CP | opcode error") || starts("CP Opcode error") => {
            Cp::Opcode(hex(text, "opcode="))
        }
        _ if starts("CP illegal instruction") => Cp::Opcode(None),
        _ if starts("CP | protected mode error") || starts("CP | Protected mode error") => {
            protected(text)
        }
        _ if starts("CP REG PROTECT error") => protected(""),
        _ if starts("CP ucode error") => Cp::Firmware,
        _ if starts("CP | HW fault") || starts("CP HW FAULT") => Cp::Bus,
        _ if starts("CP AHB error") || starts("CP VSD decoder parity error") => Cp::Bus,
        _ if starts("CP | ") && text.contains("rror") => Cp::Bus,
        _ => return None,
    })
}

/// Whether a line of the GMU's device, or about it, speaks of trouble that keeps the GPU from
/// running.
fn is_gmu_trouble(text: &str) -> bool {
    const BAD: [&str; 12] = [
        "expired",
        "error",
        "fault",
        "imed out",
        "imeout",
        "not go into",
        "stuck",
        "nable to power",
        "nable to s",
        "ailed to power",
        "not empty",
        "unexpectedly empty",
    ];
    // It runs without these, or at another clock.
    const MINOR: [&str; 3] = ["ACD", "OPP", "frequency"];
    BAD.iter().any(|bad| text.contains(bad)) && !MINOR.iter().any(|minor| text.contains(minor))
}

/// Names of a GPU's firmware begin so: `a630_sqe.fw`, `gen70900_zap.mbn`.
fn is_firmware_of_gpu(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    let digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let begins = base.strip_prefix('a').is_some_and(digit)
        || base.strip_prefix("gen").is_some_and(digit)
        || base.starts_with("leia_")
        || base.starts_with("yamato_");
    const ENDS: [&str; 5] = [".fw", ".bin", ".mbn", ".mdt", ".elf"];
    begins && ENDS.iter().any(|end| base.ends_with(end))
}

/// The last word of what stands before a message, `5040000.iommu` of `arm-smmu 5040000.iommu: `.
fn device(prefix: &str) -> &str {
    let prefix = prefix.trim_end().trim_end_matches(':');
    prefix.rsplit([' ', '\t', ';']).next().unwrap_or(prefix)
}

/// `failed to load NAME`, `Unable to load NAME`, `Direct firmware load for NAME failed with error
/// -2`, `loaded NAME from new location`; from ` load` on.
fn firmware<'a>(prefix: &'a str, text: &'a str) -> Option<Message<'a>> {
    let name = |text: &'a str| {
        let name = text.split([' ', ':']).next();
        name.filter(|name| is_firmware_of_gpu(name))
    };
    if let Some(rest) = text.strip_prefix(" loaded ") {
        return name(rest).map(Message::Loaded);
    }
    let rest = text.strip_prefix(" load ")?;
    let (rest, failed) = match rest.strip_prefix("for ") {
        Some(rest) => (rest, rest.contains("failed")),
        None => (
            rest,
            prefix.ends_with("failed to") || prefix.ends_with("nable to"),
        ),
    };
    match failed {
        true => name(rest).map(Message::Missing),
        false => None,
    }
}

/// What is looked for. The text of a line is looked at only where one of them is in it; where two
/// are, the earlier says what it is.
const WORDS: [(&str, Reader); 19] = [
    ("gpu fault", |_, text| {
        if text.starts_with("gpu fault ring ") {
            return Some(Message::Hang(state(text)));
        }
        text.starts_with("gpu fault:").then_some(())?;
        let Some(fault) = fault(text) else {
            return Some(Message::Begun);
        };
        let registers = registers(text);
        Some(Message::Fault {
            fault,
            whole: registers.is_some(),
            off: registers.is_some_and(are_off),
        })
    }),
    ("*** fault:", |_, text| Some(Message::Plain(fault(text)?))),
    ("context fault", |prefix, text| {
        let prefix = prefix.trim_end().trim_end_matches("Unhandled");
        Some(Message::Smmu(device(prefix), smmu(text)?))
    }),
    ("gpu lockup rb", |_, text| {
        let ring = after(text, "rb").and_then(decimal);
        Some(Message::Lockup(ring.unwrap_or(0)))
    }),
    ("hangcheck recover", |_, _| Some(Message::Recover)),
    ("offending task:", |_, text| {
        let task = after(text, "task:")?;
        let name = task
            .split_once(" (")
            .map_or(task, |(name, _)| name)
            .trim_end();
        Some(Message::Task(
            (name != "unknown" && !name.is_empty()).then_some(name),
        ))
    }),
    ("to drain ringbuffer", |_, text| {
        let (at, to) = after(text, "wptr = ")?.split_once('/')?;
        Some(Message::Idle(hex_of(at)?, hex_of(to)?))
    }),
    ("gpu hw init failed: -", |_, text| {
        Some(Message::Init(after(text, "-").and_then(decimal)?))
    }),
    ("CP ", |_, text| cp(text).map(Message::Cp)),
    ("UCHE | ", |_, text| {
        let bad = text.contains("Out of bounds") || text.contains("Trap");
        bad.then_some(Message::OutOfBounds)
    }),
    ("GMU", |prefix, text| {
        let before = prefix.contains("Timeout waiting for ");
        (before || is_gmu_trouble(text)).then_some(Message::Gmu)
    }),
    (".gmu: ", |_, text| {
        is_gmu_trouble(text).then_some(Message::Gmu)
    }),
    ("t power up the GPU", |_, _| Some(Message::Gmu)),
    ("gdsc didn't collapse", |_, _| Some(Message::Gmu)),
    (" load", firmware),
    ("callbacks suppressed", |prefix, _| {
        let (head, count) = prefix.trim_end().rsplit_once(' ')?;
        Some(Message::Suppressed(device(head), count.parse().ok()?))
    }),
    ("Linux version ", |_, text| {
        Some(Message::Kernel(after(text, "version")?.split(' ').next()?))
    }),
    ("revision:", |prefix, text| {
        let alone = prefix.trim_end().ends_with([']', ':']) || prefix.trim().is_empty();
        let revision = after(text, "revision:")?;
        let (number, rest) = revision.split_once(' ')?;
        let is = alone && rest.starts_with('(') && number.parse::<u32>().is_ok();
        is.then(|| Message::Revision(revision.trim_end()))
    }),
    (": status ", |prefix, text| {
        let pipe = prefix.ends_with("BR") || prefix.ends_with("BV");
        let mut state = state(text);
        state.read = true;
        (pipe && state.ring_at.is_some()).then_some(Message::Pipe(state))
    }),
];

/// Reads a message: what stands before the word, and the text from it on.
type Reader = for<'a> fn(&'a str, &'a str) -> Option<Message<'a>>;

/// Finds messages.
#[derive(Debug)]
pub struct Messages {
    words: [Finder<'static>; WORDS.len()],
}

impl Default for Messages {
    fn default() -> Self {
        Messages {
            words: WORDS.map(|(word, _)| Finder::new(word)),
        }
    }
}

impl Messages {
    /// The message in a line, and what stands before it.
    pub fn find<'a>(&self, line: &'a [u8]) -> Option<(&'a str, Message<'a>)> {
        for (word, (_, read)) in self.words.iter().zip(WORDS) {
            let Some(at) = word.find(line) else {
                continue;
            };
            let prefix = lossless(&line[..at])?;
            let text = lossless(&line[at..])?;
            if let Some(message) = read(prefix, text) {
                return Some((prefix, message));
            }
        }
        None
    }
}

/// As text, as far as it is UTF-8.
fn lossless(bytes: &[u8]) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(e) => std::str::from_utf8(&bytes[..e.valid_up_to()]).ok(),
    }
}
