// SPDX-License-Identifier: GPL-2.0-only
//! Rows of a map in words, for text and picture alike.

use super::{
    Map,
    Row, //
};
use crate::dump::Dump;
use crate::space::{
    Region,
    State, //
};
use crate::verdict::{
    duration,
    size, //
};
use crate::vm_log::Applied;
use std::ops::Range;

/// A length in few digits: exact as far as possible, or after a `~` rounded down.
pub fn extent(range: &Range<u64>) -> String {
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
pub fn word(row: &Row) -> &'static str {
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
pub fn name(dump: &Dump, region: &Region) -> Option<String> {
    let handle = || {
        let log = dump.vm_log.as_ref()?;
        let handle = log.entries.get(region.entry?)?.handle?;
        Some(format!("handle {handle}"))
    };
    let name = region.name(dump).map(|name| format!("\"{name}\""));
    name.or_else(handle)
}

/// Which op made a region what it is.
pub fn history(dump: &Dump, region: &Region) -> Option<String> {
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
pub fn mark(dump: &Dump, map: &Map) -> String {
    match &dump.fault {
        Some(fault) if fault.address() == Some(map.centre) => match fault.direction {
            Some(direction) => format!("{direction} fault at {:#x}", map.centre),
            None => format!("fault at {:#x}", map.centre),
        },
        _ => format!("{:#x}", map.centre),
    }
}

/// Where the centre is in the row that holds it, or next to its neighbours.
pub fn offset(map: &Map) -> String {
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
