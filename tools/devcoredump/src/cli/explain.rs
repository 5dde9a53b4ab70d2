// SPDX-License-Identifier: GPL-2.0-only
//! `explain`: five lines, then the evidence.

use super::{
    style::{
        self,
        BOLD,
        DIM,
        RESET, //
    },
    Error,
    Found,
    Source, //
};
use clap::Args;
use msm_devcoredump::dump::Dump;
use msm_devcoredump::parse::SkipData;
use msm_devcoredump::verdict::{
    judge,
    Finding,
    Verdict, //
};
use std::io::Write;

/// What to explain.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// The five lines only.
    #[arg(short, long)]
    quiet: bool,
}

/// Explains each document. Found: at least one of them is a GPU's and says enough.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    let mut first = true;
    arguments.source.each(&mut SkipData, |dump| {
        if !first {
            writeln!(out)?;
        }
        first = false;
        let finding = judge(dump);
        summary(dump, &finding, out)?;
        if !arguments.quiet {
            details(&finding, out)?;
        }
        Ok(!matches!(
            finding.verdict,
            Verdict::NotGpu | Verdict::Undetermined
        ))
    })
}

/// Who faulted, where and how.
fn subject(dump: &Dump) -> String {
    let mut parts = Vec::new();
    match &dump.fault {
        Some(fault) => {
            let mut text = match fault.direction {
                Some(direction) => format!("page fault, {direction} of {:#x}", fault.iova),
                None => format!("page fault at {:#x}", fault.iova),
            };
            if let Some(source) = &fault.source {
                text += &format!(" by {source}");
            }
            parts.push(text);
        }
        None => parts.push("no page fault".into()),
    }
    if let Some(comm) = &dump.comm {
        parts.push(format!("task {comm}"));
    }
    if let Some(revision) = &dump.revision {
        parts.push(revision.to_string());
    }
    if let Some(kernel) = &dump.kernel {
        parts.push(format!("Linux {kernel}"));
    }
    parts.join("; ")
}

fn summary(dump: &Dump, finding: &Finding, out: &mut dyn Write) -> Result<(), Error> {
    let verdict = style::sure(finding.sure);
    writeln!(
        out,
        "{BOLD}Verdict:{RESET}  {verdict}{}{RESET} ({})",
        finding.verdict, finding.sure
    )?;
    writeln!(out, "{BOLD}What:{RESET}     {}", finding.happened)?;
    writeln!(out, "{BOLD}Where:{RESET}    {}", subject(dump))?;
    writeln!(out, "{BOLD}Whose:{RESET}    {}", finding.whose)?;
    writeln!(out, "{BOLD}Next:{RESET}     {}", finding.next)?;
    Ok(())
}

fn details(finding: &Finding, out: &mut dyn Write) -> Result<(), Error> {
    if !finding.otherwise.is_empty() {
        writeln!(out, "\n{BOLD}It could also be:{RESET}")?;
        for text in &finding.otherwise {
            writeln!(out, "  - {text}")?;
        }
    }
    if !finding.evidence.is_empty() {
        writeln!(out, "\n{BOLD}Evidence:{RESET}")?;
        for evidence in &finding.evidence {
            match evidence.line {
                Some(line) => writeln!(out, "  {DIM}line {line:<6}{RESET} {}", evidence.text)?,
                None => writeln!(out, "  {DIM}{:<11}{RESET} {}", "", evidence.text)?,
            }
        }
    }
    Ok(())
}
