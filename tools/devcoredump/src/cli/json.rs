// SPDX-License-Identifier: GPL-2.0-only
//! `json`: all that is known, one object per document and line.

use super::{
    Found,
    Source, //
};
use clap::Args;
use msm_devcoredump::contents::Contents;
use msm_devcoredump::cp::{
    position::{
        locate,
        Position, //
    },
    Registers, //
};
use msm_devcoredump::dump::{
    Dump,
    Kind, //
};
use msm_devcoredump::pte::Walk;
use msm_devcoredump::space::{
    regions,
    Region, //
};
use msm_devcoredump::verdict::{
    judge,
    Finding, //
};
use serde::Serialize;
use std::io::Write;

/// What to print.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Indent it for reading.
    #[arg(short, long)]
    pretty: bool,
}

#[derive(Serialize)]
struct Everything<'a> {
    finding: Finding,
    walk: Option<Walk>,
    regions: Vec<Region>,
    /// Where the CP was, the ring first.
    positions: Vec<Position>,
    dump: &'a Dump,
}

/// Prints each document. Found: one of them is a GPU's.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    arguments
        .source
        .each_with(&mut Contents::default(), |dump, contents| {
            let positions =
                Registers::new(dump).map(|registers| locate(registers, dump, contents).levels);
            let everything = Everything {
                finding: judge(dump, contents),
                walk: dump.page_table.as_ref().and_then(|table| table.walk()),
                regions: regions(dump),
                positions: positions.unwrap_or_default(),
                dump,
            };
            if arguments.pretty {
                serde_json::to_writer_pretty(&mut *out, &everything)?;
            } else {
                serde_json::to_writer(&mut *out, &everything)?;
            }
            writeln!(out)?;
            Ok(dump.kind == Kind::Gpu)
        })
}
