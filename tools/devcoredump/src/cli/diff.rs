// SPDX-License-Identifier: GPL-2.0-only
//! `diff`: what two dumps have not in common.

use super::{
    style::{
        BAD,
        BOLD,
        GOOD,
        RESET, //
    },
    Error,
    Found,
    Source, //
};
use clap::Args;
use msm_devcoredump::contents::Contents;
use msm_devcoredump::dump::{
    Bo,
    Dump,
    Register, //
};
use msm_devcoredump::verdict::{
    judge,
    place,
    size,
    Finding, //
};
use std::collections::{
    BTreeMap,
    BTreeSet, //
};
use std::io::Write;
use std::path::PathBuf;

/// What to compare.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One dump.
    a: PathBuf,
    /// Another.
    b: PathBuf,
    /// Compare registers too.
    #[arg(short, long)]
    registers: bool,
}

/// Compares the first documents. Found: they are the same in all that is compared.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    let read = |file: &PathBuf| -> Result<(Dump, Finding), Error> {
        let mut contents = Contents::default();
        let dump = Source::named(file).document_with(0, &mut contents)?;
        let finding = judge(&dump, &contents);
        Ok((dump, finding))
    };
    let (a, finding_a) = read(&arguments.a)?;
    let (b, finding_b) = read(&arguments.b)?;
    let mut same = true;
    let mut differ = |title: &str, lines: Vec<(char, String)>| -> Result<(), Error> {
        if lines.is_empty() {
            return Ok(());
        }
        same = false;
        writeln!(out, "{BOLD}{title}{RESET}")?;
        for (side, line) in lines {
            let style = if side == '-' { BAD } else { GOOD };
            writeln!(out, "  {style}{side} {line}{RESET}")?;
        }
        Ok(())
    };
    differ("facts", facts((&a, &finding_a), (&b, &finding_b)))?;
    differ("BOs", sets(bos(&a), bos(&b)))?;
    differ("VM log", sets(log(&a), log(&b)))?;
    if arguments.registers {
        differ("registers", registers(&a.registers, &b.registers))?;
        differ(
            "GMU registers",
            registers(&a.gmu_registers, &b.gmu_registers),
        )?;
    }
    Ok(same)
}

fn facts(a: (&Dump, &Finding), b: (&Dump, &Finding)) -> Vec<(char, String)> {
    let of = |(dump, finding): (&Dump, &Finding)| {
        let text = |value: &Option<Box<str>>| value.as_deref().unwrap_or("none").to_string();
        let mut facts = vec![
            ("verdict", format!("{} ({})", finding.verdict, finding.sure)),
            ("kernel", text(&dump.kernel)),
            ("task", text(&dump.comm)),
            ("command line", text(&dump.cmdline)),
            (
                "GPU",
                dump.revision.map_or("none".into(), |r| r.to_string()),
            ),
        ];
        if let Some(fault) = &dump.fault {
            facts.push(("fault address", place(fault)));
            let direction = fault.direction.map_or("unknown".into(), |d| d.to_string());
            facts.push(("fault direction", direction));
            facts.push(("fault source", text(&fault.source)));
        }
        facts
    };
    let (a, b) = (of(a), of(b));
    let mut out = Vec::new();
    for (key, value) in &a {
        if !b.contains(&(key, value.clone())) {
            out.push(('-', format!("{key}: {value}")));
        }
    }
    for (key, value) in &b {
        if !a.contains(&(key, value.clone())) {
            out.push(('+', format!("{key}: {value}")));
        }
    }
    out
}

fn bos(dump: &Dump) -> BTreeSet<String> {
    let line = |bo: &Bo| {
        let flags = bo
            .flags
            .map_or("unknown".into(), |flags| format!("{flags:#x}"));
        format!(
            "{:#018x} {} flags {flags} {}",
            bo.iova,
            size(bo.size),
            bo.name.as_deref().unwrap_or("")
        )
    };
    dump.bos.iter().map(line).collect()
}

/// Without times and job numbers: these always differ.
fn log(dump: &Dump) -> BTreeSet<String> {
    let entries = dump.vm_log.iter().flat_map(|log| &log.entries);
    entries
        .map(|e| {
            format!(
                "{:#018x}-{:#018x} {} by queue {}",
                e.start, e.end, e.op, e.queue
            )
        })
        .collect()
}

fn sets(a: BTreeSet<String>, b: BTreeSet<String>) -> Vec<(char, String)> {
    let gone = a.difference(&b).map(|line| ('-', line.clone()));
    let new = b.difference(&a).map(|line| ('+', line.clone()));
    gone.chain(new).collect()
}

fn registers(a: &[Register], b: &[Register]) -> Vec<(char, String)> {
    let map = |list: &[Register]| -> BTreeMap<u32, u32> {
        list.iter().map(|r| (r.offset, r.value)).collect()
    };
    let (a, b) = (map(a), map(b));
    let offsets: BTreeSet<u32> = a.keys().chain(b.keys()).copied().collect();
    let mut out = Vec::new();
    for offset in offsets {
        let (a, b) = (a.get(&offset), b.get(&offset));
        if a != b {
            for (side, value) in [('-', a), ('+', b)] {
                if let Some(value) = value {
                    out.push((side, format!("{offset:#08x}: {value:#010x}")));
                }
            }
        }
    }
    out
}
