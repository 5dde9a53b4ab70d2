// SPDX-License-Identifier: GPL-2.0-only

//! Named sub-tests, one process and one line each.
//!
//! A program lists its sub-tests and calls [`main`]. Each runs in a process of its own, so that one
//! that the kernel kills or never lets go is one line of the report, not the end of it, and so that
//! everything it opened is closed when its line is printed. Output:
//!
//! ```text
//! seed 1234
//! ok NAME
//! FAIL NAME: why
//! ```
//!
//! Exit status: 0 when all passed, 1 when one failed, 2 when the command line made no sense.

mod process;
mod telling;

pub use anyhow::{bail, ensure, Context, Error, Result};
pub use fastrand::Rng;
pub use process::{falls_asleep, Ended, Process};
pub use telling::{telling, Listener, Teller};

use nix::sys::signal::Signal;
use std::{
    fs::File,
    io::{Read, Write},
    num::NonZeroUsize,
    panic::{catch_unwind, AssertUnwindSafe},
    process::ExitCode,
    time::Duration,
};

/// What a sub-test returns.
pub type Outcome = anyhow::Result<()>;

/// What a sub-test is given.
#[derive(Debug)]
pub struct Test {
    /// Randomness that `--seed` repeats.
    pub rng: Rng,
    part: usize,
}

impl Test {
    /// Which of `count` rounds to run: all, or with `--part N` each Nth, others each time.
    pub fn rounds(&mut self, count: usize) -> impl Iterator<Item = usize> {
        (self.rng.usize(..self.part)..count).step_by(self.part)
    }
}

/// A named sub-test.
pub type Case = (&'static str, fn(&mut Test) -> Outcome);

/// A list of [`Case`]s named after their functions.
#[macro_export]
macro_rules! cases {
    ($($function:ident),* $(,)?) => {
        &[$((stringify!($function), $function as fn(&mut $crate::Test) -> $crate::Outcome)),*]
    };
}

/// Fails unless two values are equal, showing both (in hexadecimal where they are numbers).
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($what:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    $crate::bail!("{}: {:x?}, not {:x?}", format_args!($($what)+), left, right);
                }
            }
        }
    };
}

/// Fails unless a call failed with this error number.
#[macro_export]
macro_rules! ensure_errno {
    ($call:expr, $errno:expr, $($what:tt)+) => {
        match ($call, $errno) {
            (Ok(_), errno) => $crate::bail!("{}: accepted, not {}", format_args!($($what)+), errno),
            (Err(found), errno) if found != errno => {
                $crate::bail!("{}: {}, not {}", format_args!($($what)+), found, errno)
            }
            _ => {}
        }
    };
}

struct Options {
    list: bool,
    in_process: bool,
    only: Vec<String>,
    part: NonZeroUsize,
    seed: u64,
    timeout: Duration,
}

fn usage(program: &str) -> String {
    format!(
        "usage: {program} [--list] [--only NAME]… [--part N] [--seed N] [--timeout SECONDS]\n\
         \x20              [--in-process]\n\
         \n\
         --only NAME    run this sub-test alone; a * at the end stands for any ending\n\
         --part N       run each Nth round of what goes on for long, for a slow kernel\n\
         --seed N       repeat a run's randomness\n\
         --timeout S    give a sub-test so long (default 120)\n\
         --in-process   run in this process, for a debugger"
    )
}

fn parse() -> Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options {
        list: false,
        in_process: false,
        only: Vec::new(),
        part: NonZeroUsize::MIN,
        seed: fastrand::u64(..1 << 32),
        timeout: Duration::from_secs(120),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("list") => options.list = true,
            Long("in-process") => options.in_process = true,
            Long("only") => options.only.push(parser.value()?.string()?),
            Long("part") => options.part = parser.value()?.parse()?,
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("timeout") => options.timeout = Duration::from_secs(parser.value()?.parse()?),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some(options))
}

fn selected(name: &str, only: &[String]) -> bool {
    only.is_empty()
        || only.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == wanted,
        })
}

/// Runs the sub-tests that the command line asks for.
pub fn main(cases: &[Case]) -> ExitCode {
    let program = std::env::args().next().unwrap_or_default();
    let options = match parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", usage(&program));
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprintln!("{e}\n{}", usage(&program));
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<&Case> = cases
        .iter()
        .filter(|(name, _)| selected(name, &options.only))
        .collect();
    let unknown = |wanted: &&String| {
        let wanted = std::slice::from_ref(*wanted);
        !cases.iter().any(|(name, _)| selected(name, wanted))
    };
    if let Some(wanted) = options.only.iter().find(unknown) {
        eprintln!("no sub-test is called {wanted}");
        return ExitCode::from(2);
    }
    if options.list {
        chosen.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }

    println!("seed {}", options.seed);
    let mut failed = false;
    for (name, function) in chosen {
        let mut test = Test {
            rng: Rng::with_seed(options.seed),
            part: options.part.get(),
        };
        let result = if options.in_process {
            run(&mut test, *function)
        } else {
            run_apart(&mut test, *function, options.timeout)
        };
        match result {
            Ok(()) => println!("ok {name}"),
            Err(why) => {
                failed = true;
                println!("FAIL {name}: {}", why.replace('\n', "; "));
            }
        }
    }
    ExitCode::from(failed as u8)
}

fn run(test: &mut Test, function: fn(&mut Test) -> Outcome) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| function(test))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(format!("{e:#}")),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("panic")
            .to_owned()),
    }
}

fn run_apart(
    test: &mut Test,
    function: fn(&mut Test) -> Outcome,
    timeout: Duration,
) -> Result<(), String> {
    let (read, write) = nix::unistd::pipe().map_err(|e| format!("pipe: {e}"))?;
    let mut write = File::from(write);
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    let mut process = Process::fork(|| {
        let result = run(test, function);
        let status = result.is_err() as i32;
        if let Err(why) = result {
            let _ = write.write_all(why.as_bytes());
        }
        status
    })
    .map_err(|e| format!("{e:#}"))?;
    drop(write);
    match wait(&mut process, timeout)? {
        Ended::With(0) => Ok(()),
        Ended::With(_) => {
            let mut why = String::new();
            let _ = File::from(read).read_to_string(&mut why);
            Err(if why.is_empty() {
                "exited without a word".into()
            } else {
                why
            })
        }
        Ended::By(signal) => Err(format!("killed by {signal}")),
    }
}

/// Waits for a sub-test to end; kills it when it takes too long, and says so when not even that
/// helps.
fn wait(process: &mut Process, timeout: Duration) -> Result<Ended, String> {
    let text = |e: Error| format!("{e:#}");
    if let Some(ended) = process.wait(timeout).map_err(text)? {
        return Ok(ended);
    }
    process.signal(Signal::SIGKILL).map_err(text)?;
    Err(match process.wait(Duration::from_secs(10)).map_err(text)? {
        Some(_) => format!("still running after {} s", timeout.as_secs()),
        None => format!("can't be killed, {}", process.state()),
    })
}
