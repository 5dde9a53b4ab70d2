// SPDX-License-Identifier: GPL-2.0-only
//! `check`: is a dump well-formed?

use super::{
    style::{
        BAD,
        BOLD,
        GOOD,
        RESET, //
    },
    Found,
    Source, //
};
use clap::Args;
use msm_devcoredump::parse::CheckData;
use std::io::Write;

/// What to check.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Print nothing, only set the exit status.
    #[arg(short, long)]
    quiet: bool,
}

/// Checks each document, data blocks included. Found: none has a problem.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    let problems = arguments.source.each(&mut CheckData, |dump| {
        let bad = dump.problems.len() as u64 + dump.ignored;
        if arguments.quiet {
            return Ok(bad > 0);
        }
        let submit = dump.vm_log.as_ref().and_then(|log| log.submit.as_ref());
        writeln!(
            out,
            "{BOLD}document {}{RESET} at line {}: {} sections, {} BOs, {} data blocks, {} log \
                entries{}",
            dump.index,
            dump.line,
            dump.sections.len(),
            dump.bos.len(),
            dump.blocks.len(),
            dump.vm_log.as_ref().map_or(0, |log| log.entries.len()),
            submit.map_or(String::new(), |submit| format!(
                ", submit with fence {} of queue {}",
                submit.fence, submit.queue
            )),
        )?;
        for problem in &dump.problems {
            writeln!(out, "  {BAD}{problem}{RESET}")?;
        }
        if dump.ignored > 0 {
            writeln!(
                out,
                "  {BAD}{} items beyond this tool's limits{RESET}",
                dump.ignored
            )?;
        }
        if bad == 0 {
            writeln!(out, "  {GOOD}well-formed{RESET}")?;
        }
        Ok(bad > 0)
    })?;
    Ok(!problems)
}
