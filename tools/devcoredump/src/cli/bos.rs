// SPDX-License-Identifier: GPL-2.0-only
//! `bos`: the BO list.

use super::{
    style::{
        BAD,
        BOLD,
        DIM,
        RESET, //
    },
    Found,
    Source, //
};
use clap::{
    Args,
    ValueEnum, //
};
use msm_devcoredump::dump::{
    Absent,
    Bo,
    BO_GPU_READONLY,
    BO_MAP_PRIV, //
};
use msm_devcoredump::parse::SkipData;
use msm_devcoredump::verdict::size;
use std::io::Write;

/// What to list.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Order.
    #[arg(short, long, value_enum, default_value_t)]
    sort: Sort,
    /// Only BOs whose content is in the dump.
    #[arg(short, long)]
    data: bool,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Sort {
    /// As in the dump.
    #[default]
    Dump,
    /// By address.
    Iova,
    /// Largest first.
    Size,
    /// By name.
    Name,
}

/// Lists each document's BOs. Found: there is any.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Found {
    arguments.source.each(&mut SkipData, |dump| {
        let mut bos: Vec<&Bo> = dump
            .bos
            .iter()
            .filter(|bo| !arguments.data || bo.block.is_some())
            .collect();
        match arguments.sort {
            Sort::Dump => {}
            Sort::Iova => bos.sort_by_key(|bo| bo.iova),
            Sort::Size => bos.sort_by_key(|bo| std::cmp::Reverse(bo.size)),
            Sort::Name => bos.sort_by_key(|bo| &bo.name),
        }
        if !bos.is_empty() {
            writeln!(
                out,
                "{BOLD}{:<37} {:>10} {:>10}  {:<4} name{RESET}",
                "range", "size", "flags", "data"
            )?;
        }
        for bo in &bos {
            let data = if bo.block.is_some() { "yes" } else { "" };
            let flags = bo
                .flags
                .map_or("-".into(), |flags| format!("{flags:#010x}"));
            write!(
                out,
                "{:#018x}-{:#018x} {:>10} {flags:>10}  {data:<4} {}",
                bo.iova,
                bo.range().end,
                size(bo.size),
                bo.name.as_deref().unwrap_or("")
            )?;
            for (bit, name) in [(BO_GPU_READONLY, "READONLY"), (BO_MAP_PRIV, "PRIV")] {
                if bo.flags.is_some_and(|flags| flags & bit != 0) {
                    write!(out, " {DIM}{name}{RESET}")?;
                }
            }
            match &bo.absent {
                Some(Absent::At(iova)) => write!(out, " {DIM}content at {iova:#018x}{RESET}")?,
                Some(Absent::Omitted(why)) => write!(out, " {DIM}content left out: {why}{RESET}")?,
                None => {}
            }
            let fault = dump.fault.as_ref().and_then(|fault| fault.address());
            if fault.is_some_and(|addr| bo.range().contains(&addr)) {
                write!(out, " {BAD}<- fault{RESET}")?;
            }
            writeln!(out)?;
        }
        if let (true, Some(why)) = (bos.is_empty(), &dump.bos_omitted) {
            writeln!(out, "{DIM}the list was left out: {why}{RESET}")?;
        }
        Ok(!bos.is_empty())
    })
}
