// SPDX-License-Identifier: GPL-2.0-only
//! `explain`: five lines, then the evidence; of several dumps, each in the light of the others.

use super::{
    complain,
    style::{
        self,
        BOLD,
        DIM,
        RESET, //
    },
    Error,
    Found,
    Source,
    Sources, //
};
use clap::Args;
use msm_devcoredump::clean;
use msm_devcoredump::contents::Contents;
use msm_devcoredump::dump::{
    Dump,
    Kind, //
};
use msm_devcoredump::input::Text;
use msm_devcoredump::klog::KernelLog;
use msm_devcoredump::verdict::{
    judge,
    judge_log,
    log_subject,
    subject,
    Finding,
    Series,
    Verdict,
    MORE, //
};
use std::io::Write;
use std::path::Path;

/// What to explain.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    sources: Sources,
    /// The five lines only.
    #[arg(short, long)]
    quiet: bool,
}

/// Explains each document. Found: at least one of them is a GPU's and says enough.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    let sources = arguments.sources.expand()?;
    let several = sources.len() > 1;
    let mut series = Series::default();
    if several {
        // They may be given in any order.
        for source in sources.iter().filter(|source| !source.is_stdin()) {
            // What can't be read is reported when it is its turn.
            let _ = source.each_with(&mut Contents::default(), |dump, contents| {
                series.add(&name(source, dump), dump, &judge(dump, contents));
                Ok(true)
            });
        }
    }
    let mut first = true;
    let mut found = false;
    let mut unread = 0;
    let mut others = Vec::new();
    for source in &sources {
        let text = source.dump_or_log();
        if let Ok(Text::Log(log)) = &text {
            let finding = judge_log(log);
            if source.found && finding.verdict == Verdict::NotGpu {
                others.push(source);
                continue;
            }
            if !first {
                writeln!(out)?;
            }
            first = false;
            if several {
                writeln!(out, "{DIM}{source}{RESET}")?;
            }
            found |= explain_log(log, &finding, arguments.quiet, out)?;
            continue;
        }
        let mut each = |dump: &Dump, contents: &Contents| {
            if source.found && dump.kind == Kind::Unknown {
                others.push(source);
                return Ok(false);
            }
            if !first {
                writeln!(out)?;
            }
            first = false;
            if several {
                writeln!(out, "{DIM}{}{RESET}", name(source, dump))?;
            }
            let alone = judge(dump, contents);
            series.add(&name(source, dump), dump, &alone);
            let finding = series.judge(dump, alone);
            summary(dump, &finding, out)?;
            if !arguments.quiet {
                details(&finding, out)?;
                rest(source, dump, &finding, out)?;
            }
            Ok(finding.verdict.says_enough())
        };
        let explained = text.and_then(|text| match text {
            Text::Dump(parser) => source.each_of(parser, &mut Contents::default(), &mut each),
            Text::Log(_) => Ok(false),
        });
        match explained {
            Err(Error::Empty(_)) if source.found => others.push(source),
            Err(e) if several && !e.is_broken_pipe() => {
                unread += 1;
                complain(&e);
            }
            explained => found |= explained?,
        }
    }
    if !others.is_empty() {
        if !first {
            writeln!(out)?;
        }
        writeln!(out, "{DIM}{}{RESET}", not_about_gpu(&others))?;
    }
    match unread {
        0 => Ok(found),
        n => Err(Error::Other(format!(
            "{n} of {} can't be read",
            sources.len()
        ))),
    }
}

/// What a directory has besides dumps and logs.
fn not_about_gpu(files: &[&Source]) -> String {
    const NAMED: usize = 3;
    let mut files: Vec<_> = files.iter().map(|source| source.file.as_path()).collect();
    // One of several documents is there several times.
    files.dedup();
    let names = files.into_iter().filter_map(Path::file_name);
    let names: Vec<_> = names
        .map(|name| clean::whole(&name.to_string_lossy()))
        .collect();
    let (count, files) = match names.len() {
        1 => (1, "file is"),
        n => (n, "files are"),
    };
    let mut out = format!(
        "{count} {files} neither an msm GPU's dump nor a kernel log that speaks of one: {}",
        names[..count.min(NAMED)].join(", ")
    );
    if count > NAMED {
        out += &format!(" and {} more", count - NAMED);
    }
    out
}

/// Explains a kernel log. Found: it says enough.
fn explain_log(log: &KernelLog, finding: &Finding, quiet: bool, out: &mut dyn Write) -> Found {
    five_lines(&log_subject(log), finding, out)?;
    if !quiet {
        details(finding, out)?;
        if log.is_about_gpu() && log.missing.is_empty() {
            writeln!(out, "\n{BOLD}To know more:{RESET}\n{MORE}")?;
        }
    }
    Ok(finding.verdict.says_enough())
}

/// What people know a document by.
fn name(source: &Source, dump: &Dump) -> String {
    match dump.index {
        0 => source.to_string(),
        index => format!("document {index} of {source}"),
    }
}

fn summary(dump: &Dump, finding: &Finding, out: &mut dyn Write) -> Result<(), Error> {
    five_lines(&subject(dump), finding, out)
}

fn five_lines(subject: &str, finding: &Finding, out: &mut dyn Write) -> Result<(), Error> {
    let verdict = style::sure(finding.sure);
    let sure = finding.sureness();
    let sure = sure.map_or(String::new(), |sure| format!(" ({sure})"));
    writeln!(
        out,
        "{BOLD}Verdict:{RESET}  {verdict}{}{RESET}{sure}",
        finding.verdict
    )?;
    writeln!(out, "{BOLD}What:{RESET}     {}", finding.happened)?;
    writeln!(out, "{BOLD}Where:{RESET}    {subject}")?;
    writeln!(out, "{BOLD}Whose:{RESET}    {}", finding.whose)?;
    writeln!(out, "{BOLD}Next:{RESET}     {}", finding.next)?;
    Ok(())
}

/// How to see what the commands did.
fn rest(source: &Source, dump: &Dump, finding: &Finding, out: &mut dyn Write) -> Result<(), Error> {
    let hang = dump.fault.is_none() && finding.verdict.says_enough();
    if !hang || dump.index != 0 {
        return Ok(());
    }
    let file = source.quoted().unwrap_or("DUMP".into());
    let compressed = |wanted| source.file.extension().is_some_and(|e| e == wanted);
    let command = if compressed("zst") {
        format!("zstd -dc {file} | crashdec -m")
    } else if compressed("gz") {
        format!("zcat {file} | crashdec -m")
    } else {
        format!("crashdec -m -f {file}")
    };
    writeln!(out, "\n{BOLD}The commands in full:{RESET} {command}")?;
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
