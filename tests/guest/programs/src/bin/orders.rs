// SPDX-License-Identifier: GPL-2.0-only

//! Plays all orders of up to six events around a bind that waits. See `programs::orders`.

use harness::{Context, Result};
use programs::orders::{
    enumerate,
    event::Sequence,
    play::{play, Failure},
    testbed::Testbed,
};
use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

const USAGE: &str = "usage: orders [OPTIONS]

  --shard I/N           only every Nth sequence, from the Ith on (from 0)
  --from N              without the first N
  --share SEED          in an order that depends on the seed, the quick ones more often
  --seconds S           begin no other sequence after that time
  --only-sequence NAME  this one; repeatable
  --list                print the names of all instead

Prints `> NAME` before each sequence, `FINDING NAME: why` behind one that went wrong, and
`N sequences, F findings, T s` in the end. The exit status is 1 when there are findings. A sequence
that went wrong while a fence expired that was held (after 100 s, on a machine that is very busy) is
played again, twice at most, behind a line `AGAIN NAME: why`.";

/// How often a sequence is played for which the machine is too slow.
const TRIES: u32 = 3;

#[derive(Default)]
struct Options {
    shard: Option<(usize, usize)>,
    from: usize,
    share: Option<u64>,
    seconds: Option<u64>,
    only: Vec<Sequence>,
    list: bool,
}

fn parse() -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let mut options = Options::default();
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("shard") => {
                let value = args.value()?.string()?;
                let (index, of) = value.split_once('/').context("--shard I/N")?;
                options.shard = Some((index.parse()?, of.parse()?));
            }
            Long("from") => options.from = args.value()?.parse()?,
            Long("share") => options.share = Some(args.value()?.parse()?),
            Long("seconds") => options.seconds = Some(args.value()?.parse()?),
            Long("only-sequence") => options.only.push(args.value()?.string()?.parse()?),
            Long("list") => options.list = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<bool> {
    let begin = Instant::now();
    let mut sequences = if !options.only.is_empty() {
        options.only.clone()
    } else if let Some(seed) = options.share {
        enumerate::share(seed)
    } else {
        enumerate::all()
    };
    if let Some((index, of)) = options.shard {
        sequences = sequences.into_iter().skip(index).step_by(of).collect();
    }
    sequences.drain(..options.from.min(sequences.len()));
    if options.list {
        sequences.iter().for_each(|sequence| println!("{sequence}"));
        return Ok(true);
    }
    let mut bed = Testbed::new()?;
    let mut out = std::io::stdout().lock();
    let (mut played, mut findings) = (0, 0);
    for sequence in &sequences {
        if options
            .seconds
            .is_some_and(|s| begin.elapsed() > Duration::from_secs(s))
        {
            break;
        }
        writeln!(out, "> {sequence}")?;
        played += 1;
        let mut tries = 1;
        while let Err(Failure { why, expired }) = play(&mut bed, sequence) {
            if expired && tries < TRIES {
                tries += 1;
                writeln!(out, "AGAIN {sequence}: {why:#}")?;
            } else {
                findings += 1;
                writeln!(out, "FINDING {sequence}: {why:#}")?;
                break;
            }
        }
    }
    bed.works()?;
    writeln!(
        out,
        "{played} sequences, {findings} findings, {} s",
        begin.elapsed().as_secs()
    )?;
    Ok(findings == 0)
}

fn main() -> ExitCode {
    let options = match parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("{e:#}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("orders: {e:#}");
            ExitCode::from(2)
        }
    }
}
