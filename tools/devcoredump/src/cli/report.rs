// SPDX-License-Identifier: GPL-2.0-only
//! `report`: a page to look at.

use super::{
    output::Output,
    Error,
    Found,
    Source, //
};
use clap::Args;
use msm_devcoredump::report::Reports;
use std::io::Write;
use std::path::{
    Path,
    PathBuf, //
};

/// What to show.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Where the page goes; `-` is stdout.
    #[arg(long, value_name = "FILE", required = true)]
    html: PathBuf,
    /// Document of the file, from 0.
    #[arg(short, long, default_value_t = 0)]
    document: u64,
}

/// Writes the page of one document, or of a kernel log. Found: it says enough for a verdict.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    let name = arguments.source.to_string();
    let mut reports = Reports::new(&name, arguments.source.dump_or_log()?);
    let mut next = || reports.next_report().map_err(Error::at(&name));
    let number = arguments.document;
    let missing = || Error::Other(format!("{name}: there is no document {number}"));
    for _ in 0..number {
        next()?.ok_or_else(missing)?;
    }
    let report = next()?.ok_or_else(missing)?;
    if arguments.html == Path::new("-") {
        out.write_all(report.html.as_bytes())?;
    } else {
        let at = || Error::at(arguments.html.display());
        let mut file = Output::new(&arguments.html).map_err(at())?;
        file.write_all(report.html.as_bytes()).map_err(at())?;
        file.finish().map_err(at())?;
    }
    Ok(report.verdict.says_enough())
}
