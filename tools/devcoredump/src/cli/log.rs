// SPDX-License-Identifier: GPL-2.0-only
//! `log`: the VM log, filtered.

use super::{
    address,
    style::{
        BAD,
        BOLD,
        DIM,
        GOOD,
        RESET,
        WARN, //
    },
    Found,
    Source, //
};
use clap::{
    builder::PossibleValuesParser,
    Args, //
};
use msm_devcoredump::parse::SkipData;
use msm_devcoredump::verdict::{
    relative,
    size,
    waited, //
};
use msm_devcoredump::vm_log::{
    flags,
    Applied,
    Entry,
    Op,
    Submit,
    VmLog, //
};
use std::io::Write;
use std::ops::Range;

/// What to list.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Only what touches this address or range (`0x1000` or `0x1000-0x3000`, end exclusive).
    #[arg(short, long, value_parser = addresses)]
    address: Option<Range<u64>>,
    /// Only what covers the faulting address.
    #[arg(short, long, conflicts_with = "address")]
    fault: bool,
    /// Only this submitqueue's.
    #[arg(short, long)]
    queue: Option<i64>,
    /// Only these ops.
    #[arg(short, long, value_parser = PossibleValuesParser::new(Op::NAMED.map(|(_, name)| name)))]
    op: Vec<String>,
    /// Only this bind job's.
    #[arg(short, long)]
    job: Option<u64>,
    /// Only what was not applied when the GPU faulted.
    #[arg(long)]
    pending: bool,
    /// In the kernel's own form.
    #[arg(short, long)]
    raw: bool,
}

fn addresses(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = match text.split_once('-') {
        Some((start, end)) => (address(start)?, address(end)?),
        None => {
            let start = address(text)?;
            (start, start.saturating_add(1))
        }
    };
    if start >= end {
        return Err("the range is empty".into());
    }
    Ok(start..end)
}

impl Arguments {
    fn accepts(&self, log: &VmLog, entry: &Entry, wanted: Option<&Range<u64>>) -> bool {
        wanted.is_none_or(|w| entry.start < w.end && w.start < entry.end)
            && self.queue.is_none_or(|queue| entry.queue == queue)
            && self.job.is_none_or(|job| entry.job == Some(job))
            && (self.op.is_empty() || self.op.iter().any(|op| op == entry.op.word()))
            && (!self.pending || !log.in_effect(entry))
    }
}

/// Lists each document's log. Found: any entry was listed.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    arguments.source.each(&mut SkipData, |dump| {
        let Some(log) = &dump.vm_log else {
            return Ok(false);
        };
        let at_fault = dump
            .fault
            .as_ref()
            .and_then(|fault| fault.address())
            .map(|addr| addr..addr.saturating_add(1));
        let wanted = if arguments.fault {
            if at_fault.is_none() {
                return Ok(false);
            }
            at_fault
        } else {
            arguments.address.clone()
        };
        let mut any = false;
        // Stands where it was sent.
        let mut submit = log.submit.as_ref().filter(|_| log.header.is_some());
        for entry in &log.entries {
            if !arguments.accepts(log, entry, wanted.as_ref()) {
                continue;
            }
            if arguments.raw {
                writeln!(out, "  {entry}")?;
            } else {
                if !any {
                    heading(log, out)?;
                }
                let later = |submit: &mut &Submit| entry.asked.is_some_and(|at| at > submit.sent);
                if let Some(submit) = submit.take_if(later) {
                    submit_row(log, submit, out)?;
                }
                row(log, entry, out)?;
            }
            any = true;
        }
        if let Some(submit) = submit.filter(|_| any && !arguments.raw) {
            submit_row(log, submit, out)?;
        }
        Ok(any)
    })
}

/// Times are what msm_rs logs; C's form has none.
fn heading(log: &VmLog, out: &mut dyn Write) -> std::io::Result<()> {
    write!(
        out,
        "{BOLD}{:<9} {:>5}  {:<37} {:>10}",
        "op", "queue", "range", "size"
    )?;
    if log.header.is_some() {
        write!(out, " {:>6} {:>12} {:>12}  BO", "job", "asked", "applied")?;
    }
    writeln!(out, "{RESET}")
}

fn submit_row(log: &VmLog, submit: &Submit, out: &mut dyn Write) -> std::io::Result<()> {
    let fence = format!("fence {}", submit.fence);
    writeln!(
        out,
        "{BOLD}{:<9}{RESET} {:>5}  {fence:<37} {:>10} {:>6} {:>12} {:>12}  {}",
        "submit",
        submit.queue,
        "",
        "",
        relative(log, submit.sent),
        "",
        waited(submit)
    )
}

fn row(log: &VmLog, entry: &Entry, out: &mut dyn Write) -> std::io::Result<()> {
    let style = match entry.op {
        _ if entry.err.is_some() => BAD,
        op if op.maps() => GOOD,
        op if op.removes() => WARN,
        _ => DIM,
    };
    write!(
        out,
        "{style}{:<9}{RESET} {:>5}  {:#018x}-{:#018x} {:>10}",
        entry.op,
        entry.queue,
        entry.start,
        entry.end,
        size(entry.end - entry.start)
    )?;
    if log.header.is_some() {
        let relative = |at| relative(log, at);
        let job = entry.job.map_or("-".into(), |job| job.to_string());
        let asked = entry.asked.map_or("-".into(), relative);
        let applied = match entry.applied {
            Applied::Yes => "-".into(),
            Applied::NotYet => "not yet".into(),
            Applied::At(at) => relative(at),
        };
        write!(out, " {job:>6} {asked:>12} {applied:>12} ")?;
        if let Some(name) = &entry.name {
            write!(out, " \"{name}\"")?;
        } else if let Some(handle) = entry.handle {
            write!(out, " handle {handle}")?;
        }
        if let Some(off) = entry.off.filter(|&off| off != 0) {
            write!(out, " +{off:#x}")?;
        }
        for (bit, name) in flags::NAMED {
            if entry.flags & bit != 0 {
                write!(out, " {DIM}{name}{RESET}")?;
            }
        }
        if let Some(err) = entry.err {
            write!(out, " {BAD}failed with {err}{RESET}")?;
        }
    }
    writeln!(out)
}
