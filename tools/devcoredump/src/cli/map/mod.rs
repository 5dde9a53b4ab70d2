// SPDX-License-Identifier: GPL-2.0-only
//! `map`: the address space around the fault, as text or as a picture.

pub mod picture;
mod text;

use super::{
    address,
    Error,
    Found,
    Source, //
};
use clap::Args;
use msm_devcoredump::dump::Dump;
use msm_devcoredump::map::{
    Map,
    Row, //
};
use msm_devcoredump::space::{
    Region,
    State, //
};
use msm_devcoredump::verdict::{
    duration,
    size, //
};
use msm_devcoredump::vm_log::Applied;
use std::fs::File;
use std::io::{
    BufWriter,
    Write, //
};
use std::ops::Range;
use std::path::PathBuf;

/// What to draw.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Around this address instead of the fault's.
    #[arg(short, long, value_parser = address)]
    address: Option<u64>,
    /// How many mappings to show on each side.
    #[arg(
        short,
        long,
        value_name = "COUNT",
        default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(0..=1000)
    )]
    reach: u16,
    /// Document of the file, from 0.
    #[arg(short, long, default_value_t = 0)]
    document: u64,
    /// Draw a picture, in SVG.
    #[arg(long)]
    svg: bool,
    /// Where to; stdout when not given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Draws one document. Found: there is something near the address.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    let dump = arguments.source.document(arguments.document)?;
    let fault = dump.fault.as_ref().map(|fault| fault.address());
    let Some(centre) = arguments.address.or(fault) else {
        let what = "there is no page fault in it; give the place with --address";
        return Err(Error::Other(format!("{}: {what}", arguments.source)));
    };
    let map = Map::around(&dump, centre, arguments.reach.into());
    let draw = |out: &mut dyn Write| match arguments.svg {
        true => picture::draw(&dump, &map, out),
        false => text::draw(&dump, &map, out),
    };
    match &arguments.output {
        Some(path) => {
            let at = || Error::at(path.display());
            let file = File::create(path).map_err(at())?;
            let mut out = BufWriter::new(anstream::AutoStream::never(file));
            draw(&mut out)?;
            out.flush().map_err(at())?;
        }
        None => draw(out)?,
    }
    Ok(map.rows.iter().any(|row| row.region.is_some()))
}

/// A length in few digits: exact as far as possible, or after a `~` rounded down.
fn extent(range: &Range<u64>) -> String {
    let bytes = range.end - range.start;
    let unit = 10 * (bytes.max(1).ilog2() / 10);
    let rounded = bytes >> unit << unit;
    if size(bytes).len() > "1023 bytes".len() && rounded != bytes {
        format!("~{}", size(rounded))
    } else {
        size(bytes)
    }
}

/// The word for a state.
fn word(row: &Row) -> &'static str {
    match row.region.as_ref().map(|region| region.state) {
        None => "",
        Some(State::Listed) => "listed",
        Some(State::Mapped) => "mapped",
        Some(State::Null) => "NULL",
        Some(State::Removed) => "removed",
        Some(State::Pending) => "pending",
    }
}

/// The BO's name in quotes, or else its handle, as far as the dump has them.
fn name(dump: &Dump, region: &Region) -> Option<String> {
    let handle = || {
        let log = dump.vm_log.as_ref()?;
        let handle = log.entries.get(region.entry?)?.handle?;
        Some(format!("handle {handle}"))
    };
    let name = region.name(dump).map(|name| format!("\"{name}\""));
    name.or_else(handle)
}

/// Which op made a region what it is.
fn history(dump: &Dump, region: &Region) -> Option<String> {
    let log = dump.vm_log.as_ref()?;
    let entry = log.entries.get(region.entry?)?;
    let mut out = entry.op.to_string();
    if entry.queue != 0 {
        out += &format!(" by queue {}", entry.queue);
    }
    if let Some(job) = entry.job {
        out += &format!(", job {job}");
    }
    match (entry.applied, log.fault_time()) {
        (Applied::NotYet, _) => out += ", not applied",
        (Applied::At(at), Some(fault)) if at <= fault => {
            out += &format!(", {} ahead of the fault", duration(fault - at));
        }
        (Applied::At(at), Some(fault)) => {
            out += &format!(", {} behind the fault", duration(at - fault));
        }
        _ => {}
    }
    Some(out)
}

/// What the centre is called: the fault, or an address.
fn mark(dump: &Dump, map: &Map) -> String {
    match &dump.fault {
        Some(fault) if fault.address() == map.centre => match fault.direction {
            Some(direction) => format!("{direction} fault at {:#x}", map.centre),
            None => format!("fault at {:#x}", map.centre),
        },
        _ => format!("{:#x}", map.centre),
    }
}

/// Where the centre is in the row that holds it, or next to its neighbours.
fn offset(map: &Map) -> String {
    let Some(at) = map.rows.iter().position(|r| r.range.contains(&map.centre)) else {
        return "beyond the address space".into();
    };
    let row = &map.rows[at];
    if row.region.is_some() {
        return format!("{:#x} into it", map.centre - row.range.start);
    }
    let mut sides = Vec::new();
    if at > 0 {
        let distance = map.centre - row.range.start;
        sides.push(format!("{} after the end of the last", size(distance)));
    }
    if at + 1 < map.rows.len() {
        let distance = row.range.end - map.centre;
        sides.push(format!("{} before the start of the next", size(distance)));
    }
    match sides.is_empty() {
        true => "nothing near".into(),
        false => sides.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short() {
        assert_eq!(extent(&(0..4096)), "4 KiB");
        assert_eq!(extent(&(0..(100 << 20) + 4096)), "102404 KiB");
        assert_eq!(extent(&(0x1_0001_1000..1 << 48)), "~255 TiB");
        assert_eq!(extent(&(0..0x1030)), "4144 bytes");
        assert_eq!(extent(&(0..u64::MAX)), "~15 EiB");
    }
}
