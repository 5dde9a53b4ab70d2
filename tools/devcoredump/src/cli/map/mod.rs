// SPDX-License-Identifier: GPL-2.0-only
//! `map`: the address space around the fault, as text or as a picture.

mod text;

use super::{
    address,
    output::Output,
    Error,
    Found,
    Source, //
};
use clap::Args;
use msm_devcoredump::map::{
    picture,
    Map, //
};
use std::io::Write;
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
    let fault = dump.fault.as_ref().and_then(|fault| fault.address());
    let Some(centre) = arguments.address.or(fault) else {
        let what = match dump.fault {
            Some(_) => "it doesn't say where the page fault was; give the place with --address",
            None => "there is no page fault in it; give the place with --address",
        };
        return Err(Error::Other(format!("{}: {what}", arguments.source)));
    };
    let map = Map::around(&dump, centre, arguments.reach.into());
    let draw = |out: &mut dyn Write| match arguments.svg {
        true => Ok(picture::draw(&dump, &map, out)?),
        false => text::draw(&dump, &map, out),
    };
    match &arguments.output {
        Some(path) => {
            let at = || Error::at(path.display());
            let mut picture = Vec::new();
            draw(&mut anstream::AutoStream::never(&mut picture))?;
            let mut file = Output::new(path).map_err(at())?;
            file.write_all(&picture).map_err(at())?;
            file.finish().map_err(at())?;
        }
        None => draw(out)?,
    }
    Ok(map.rows.iter().any(|row| row.region.is_some()))
}
