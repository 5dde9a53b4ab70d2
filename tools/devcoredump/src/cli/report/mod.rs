// SPDX-License-Identifier: GPL-2.0-only
//! `report`: a page to look at. It is one file, which needs no network and runs no script: what a
//! dump says can do nothing there but be read.

mod commands;
mod page;
mod timeline;

use super::{
    Error,
    Found,
    Source,
    Text, //
};
use clap::Args;
use msm_devcoredump::contents::Contents;
use msm_devcoredump::verdict::{
    judge,
    judge_log,
    Verdict, //
};
use std::fs::File;
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
    let (page, verdict) = match arguments.source.dump_or_log()? {
        Text::Log(log) => {
            let finding = judge_log(&log);
            (page::log(&name, &log, &finding), finding.verdict)
        }
        Text::Dump(mut parser) => {
            let mut contents = Contents::of_faults_too();
            loop {
                let next = parser.next_dump(&mut contents).map_err(Error::at(&name))?;
                let Some(dump) = next else {
                    let number = arguments.document;
                    return Err(Error::Other(format!(
                        "{name}: there is no document {number}"
                    )));
                };
                if dump.index == arguments.document {
                    let finding = judge(&dump, &contents);
                    let page = page::dump(&name, &dump, &contents, &finding);
                    break (page, finding.verdict);
                }
            }
        }
    };
    let html = page.into_string();
    if arguments.html == Path::new("-") {
        out.write_all(html.as_bytes())?;
    } else {
        let at = || Error::at(arguments.html.display());
        let mut file = File::create(&arguments.html).map_err(at())?;
        file.write_all(html.as_bytes()).map_err(at())?;
    }
    Ok(!matches!(verdict, Verdict::NotGpu | Verdict::Undetermined))
}
