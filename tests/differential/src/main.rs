// SPDX-License-Identifier: GPL-2.0-only

//! Runs random programs of ioctls and prints a line of JSON for each: what was answered, what there was to see in the end,
//! and what of it is wrong. `tests/differential/run` compares two drivers' lines.

use differential::{execute, program::Program};
use harness::{Context, Result};
use programs::Tolerance;
use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};
use uapi::{devcoredump::Devcoredump, vadreno::Vadreno};

const USAGE: &str = "usage: differential [--from SEED] [--count N] [--except DEFECT,…]
       differential --file FILE [--until-wrong]
       differential --show SEED

Prints a line of JSON for each program: seed, answers, view, wrong, excepted.

  --from SEED      the first program's seed (default 0)
  --count N        how many programs (default 100)
  --except N,…     don't run programs that would run into these defects of the C memory manager
  --file FILE      run the programs in this file, one on each line, as JSON
  --until-wrong    end with the first that fails
  --show SEED      print a seed's program instead";

struct Options {
    from: u64,
    count: u64,
    except: Vec<u32>,
    file: Option<PathBuf>,
    until_wrong: bool,
    show: Option<u64>,
}

fn parse() -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let mut options = Options {
        from: 0,
        count: 100,
        except: Vec::new(),
        file: None,
        until_wrong: false,
        show: None,
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("from") => options.from = args.value()?.parse()?,
            Long("count") => options.count = args.value()?.parse()?,
            Long("except") => {
                let list = args.value()?.string()?;
                for number in list.split(',').filter(|number| !number.is_empty()) {
                    options.except.push(number.parse().context("--except")?);
                }
            }
            Long("file") => options.file = Some(args.value()?.into()),
            Long("until-wrong") => options.until_wrong = true,
            Long("show") => options.show = Some(args.value()?.parse()?),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// The virtual Adreno, awake and forgiving.
///
/// The kernel frees a crash dump after five minutes, and then a fault would stall the GPU again. A GPU that isn't allowed to
/// sleep doesn't recover, so the fault that makes it forgiving comes first.
struct Testbed {
    vadreno: Vadreno,
    since: Instant,
}

impl Testbed {
    const LASTS: Duration = Duration::from_secs(200);

    fn new() -> Result<Self> {
        if let Some(old) = Devcoredump::present().context("devcoredump")? {
            old.free().context("freeing an old devcoredump")?;
            // For that long after a fault the GPU doesn't stall.
            std::thread::sleep(Duration::from_millis(600));
        }
        Tolerance::new()?;
        Ok(Self {
            vadreno: Vadreno::open().context("virtual Adreno")?,
            since: Instant::now(),
        })
    }

    fn renewed(self) -> Result<Self> {
        if self.since.elapsed() < Self::LASTS {
            return Ok(self);
        }
        drop(self);
        Self::new()
    }
}

fn run(options: &Options) -> Result<bool> {
    let programs: Box<dyn Iterator<Item = Result<Program>>> = match &options.file {
        None => Box::new((options.from..options.from + options.count).map(|n| Ok(Program::new(n)))),
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            Box::new(
                lines
                    .into_iter()
                    .map(|line| serde_json::from_str(&line).context("a program")),
            )
        }
    };
    let mut testbed = Testbed::new()?;
    let mut all_right = true;
    let mut out = std::io::stdout().lock();
    for program in programs {
        testbed = testbed.renewed()?;
        let report = execute::run(&program?, &testbed.vadreno, &options.except);
        all_right &= report.wrong.is_none();
        let mut line = serde_json::to_string(&report)?;
        line.push('\n');
        out.write_all(line.as_bytes())?;
        out.flush()?;
        if options.until_wrong && !all_right {
            break;
        }
    }
    Ok(all_right)
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
    if let Some(seed) = options.show {
        println!(
            "{}",
            serde_json::to_string(&Program::new(seed)).expect("JSON")
        );
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("differential: {e:#}");
            ExitCode::from(2)
        }
    }
}
