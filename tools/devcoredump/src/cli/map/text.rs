// SPDX-License-Identifier: GPL-2.0-only
//! The map as text, one line for each range, lowest address first.

use super::{
    super::style::{
        BAD,
        BOLD,
        COOL,
        DIM,
        GOOD,
        RESET,
        WARN, //
    },
    Error, //
};
use anstyle::Style;
use msm_devcoredump::dump::Dump;
use msm_devcoredump::map::{
    words::{
        extent,
        history,
        mark,
        name,
        offset,
        word, //
    },
    Map,
    Row, //
};
use msm_devcoredump::space::State;
use std::io::{
    self,
    Write, //
};
use std::ops::Range;

pub fn draw(dump: &Dump, map: &Map, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(
        out,
        "{BOLD}   {:<39} {:>12}     {:<8} what{RESET}",
        "range", "size", "state"
    )?;
    if map.below > 0 {
        writeln!(out, "   {DIM}⋮ {} below{RESET}", map.below)?;
    }
    let mut marked = false;
    for row in &map.rows {
        let here = row.range.contains(&map.centre);
        marked |= here;
        match (&row.region, here) {
            (None, true) => {
                // The part of the hole ahead of the fault, the fault, the part behind it.
                hole(row.range.start..map.centre, out)?;
                pointer(dump, map, out)?;
                hole(map.centre..row.range.end, out)?;
            }
            (None, false) => hole(row.range.clone(), out)?,
            (Some(_), _) => {
                region(dump, row, out)?;
                if here {
                    pointer(dump, map, out)?;
                }
            }
        }
    }
    if map.above > 0 {
        writeln!(out, "   {DIM}⋮ {} above{RESET}", map.above)?;
    }
    if !marked {
        pointer(dump, map, out)?;
    }
    Ok(())
}

fn pointer(dump: &Dump, map: &Map, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{BAD} ▶ {}{RESET}, {}", mark(dump, map), offset(map))
}

fn hole(range: Range<u64>, out: &mut dyn Write) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let bytes = extent(&range);
    writeln!(out, "   {DIM}{:<39} {bytes:>12}   · hole{RESET}", "")
}

fn look(state: State) -> (Style, char) {
    match state {
        State::Listed => (COOL, '▓'),
        State::Mapped => (GOOD, '█'),
        State::Null => (GOOD, '▁'),
        State::Removed => (WARN, '░'),
        State::Pending => (COOL, '▒'),
    }
}

fn region(dump: &Dump, row: &Row, out: &mut dyn Write) -> io::Result<()> {
    let Some(region) = &row.region else {
        return Ok(());
    };
    let (style, glyph) = look(region.state);
    write!(
        out,
        "   {:#018x}–{:#018x}   {:>12} {style}  {glyph} {:<8}{RESET}",
        row.range.start,
        row.range.end,
        extent(&row.range),
        word(row)
    )?;
    if let Some(name) = name(dump, region) {
        write!(out, " {name}")?;
    }
    if let Some(history) = history(dump, region) {
        write!(out, " {DIM}{history}{RESET}")?;
    }
    writeln!(out)
}
