// SPDX-License-Identifier: GPL-2.0-only

//! What the msm memory manager costs, measured through its UAPI in a guest whose clock counts
//! instructions (`tests/vm --icount`).
//!
//! `bench SCENARIO SIZE` measures one scenario at one size, in a guest that has done nothing else
//! before, and prints a line for each figure:
//!
//! ```text
//! = WHAT VALUE
//! ```
//!
//! WHAT is
//!
//! - `ioctl`, instructions until the ioctl has returned, and `fence`, until its fence has
//!   signalled; per the scenario's unit;
//! - `work`, instructions until the guest is at rest again, whoever runs them; per the scenario's
//!   unit;
//! - `tlbi`, TLB invalidations that the SMMUs saw, and `registers`, accesses to registers of GPU,
//!   display and SMMUs; in all, or per flip;
//! - `unmaps`, ranges that the SMMU's driver was told to unmap, per flip;
//! - `items`, work items that workers have run, per the scenario's unit;
//! - `runs`, physically contiguous runs of memory that the BO has;
//! - `bytes`, unreclaimable kernel memory per VMA;
//! - `reserved`, `used`, `left`, `tables`: page tables, see the scenarios;
//! - `walks`, `reads`: page-table walks, and the descriptors that they read;
//! - `errno`, with which the driver has refused what the scenario does.
//!
//! `tests/bench/scenarios.toml` describes the scenarios and names the sizes that are measured.

mod fragment;
mod meter;
mod scenarios;
mod trace;

use harness::{bail, Context};
use lexopt::ValueExt;
use std::process::ExitCode;

const HELP: &str = "\
usage: bench SCENARIO SIZE
Measures a scenario at one size. Meant for `tests/vm --icount`; see `make bench`.
  --list  names the scenarios";

fn run() -> harness::Outcome {
    let mut words = Vec::new();
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Value(word) => words.push(word.string()?),
            lexopt::Arg::Long("list") => {
                scenarios::ALL
                    .iter()
                    .for_each(|(name, _)| println!("{name}"));
                return Ok(());
            }
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                println!("{HELP}");
                return Ok(());
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let [name, size] = words.as_slice() else {
        bail!("a scenario and a size are wanted");
    };
    let (_, scenario) = scenarios::ALL
        .iter()
        .find(|(known, _)| known == name)
        .with_context(|| format!("there is no scenario {name}"))?;
    let size = size.parse().context("the size")?;
    meter::undisturbed().context("real-time scheduling")?;
    meter::at_rest()?;
    scenario(size)
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
