// SPDX-License-Identifier: GPL-2.0-only

//! What the msm memory manager costs, measured through its UAPI in a guest whose clock counts instructions
//! (`tests/vm --icount`).
//!
//! `bench [SCENARIO…]` runs the scenarios whose names begin so (default: all) and prints a line for each figure:
//!
//! ```text
//! = SCENARIO <TAB> SIZE <TAB> WHAT <TAB> VALUE
//! ```
//!
//! WHAT is `ioctl` (instructions until the ioctl returns), `fence` (until its fence has signalled), `tlbi` (TLB
//! invalidations that the SMMU saw), or `bytes`; per SCENARIO's unit, which `tests/bench/scenarios.toml` names.

mod fragment;
mod meter;
mod scenarios;

use harness::Context;
use lexopt::ValueExt;
use std::process::ExitCode;

fn run() -> harness::Outcome {
    let mut wanted = Vec::new();
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Value(name) => wanted.push(name.string()?),
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                println!("usage: bench [SCENARIO…]\nMeasures the scenarios whose names begin so. Meant for `tests/vm --icount`; see `make bench`.");
                return Ok(());
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    meter::undisturbed().context("real-time scheduling")?;
    for (name, scenario) in scenarios::ALL {
        if wanted.is_empty() || wanted.iter().any(|w| name.starts_with(w.as_str())) {
            scenario(name).with_context(|| format!("scenario {name}"))?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
