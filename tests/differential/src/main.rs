// SPDX-License-Identifier: GPL-2.0-only

//! Runs random programs of ioctls and prints a line of JSON for each: what was answered, what there
//! was to see in the end, and what of it is wrong. `tests/differential/run` compares two drivers'
//! lines.

use differential::{
    execute::{self, Report, Setting},
    program::Program,
    trouble::Trouble,
};
use harness::{bail, telling, Context, Ended, Process, Result, Rng};
use nix::sys::signal::Signal;
use programs::{fault, hang, Census, Gpu, Tolerance, PATIENCE};
use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};
use uapi::{debugfs, devcoredump::Devcoredump, vadreno::Vadreno, Pm4};

const USAGE: &str = "usage: differential [--from SEED] [--count N] [--except DEFECT,…]
       differential --file FILE [--until-wrong]
       differential --show SEED
Options: --trouble KIND,…, --vandal

Prints a line of JSON for each program: seed, answers, view, wrong, excepted.

  --from SEED      the first program's seed (default 0)
  --count N        how many programs (default 100)
  --except N,…     don't run programs that would run into these defects of the C memory manager
  --file FILE      run the programs in this file, one on each line, as JSON
  --trouble KINDS  fifty programs with each of these in turn: none, signals (interrupt ioctls),
                   failslab (an allocation fails), sleep (the GPU sleeps in between), kill (the
                   process is killed)
  --vandal         meanwhile another process makes the GPU fault and hang
  --leaky          don't look for BOs that are left in the end
  --until-wrong    end with the first that fails
  --show SEED      print a seed's program instead";

struct Options {
    from: u64,
    count: u64,
    except: Vec<u32>,
    file: Option<PathBuf>,
    until_wrong: bool,
    show: Option<u64>,
    trouble: Vec<Kind>,
    vandal: bool,
    leaky: bool,
}

/// Much longer than the driver's own: a GPU that isn't run for a while, on a busy machine, looks
/// hung. A hang still ends within [`PATIENCE`].
///
/// Not where hangs are provoked: capturing the state of a hung GPU takes seconds, and a check
/// meanwhile would take whoever comes next for the culprit. There it stays as long as the guest's
/// `init` has made it.
const HANGCHECK_PERIOD: Duration = Duration::from_secs(4);

/// What a program has to cope with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ioctls(Trouble),
    Kill,
}

impl Kind {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "none" => Self::Ioctls(Trouble::None),
            "signals" => Self::Ioctls(Trouble::Signals),
            "failslab" => Self::Ioctls(Trouble::Failslab),
            "sleep" => Self::Ioctls(Trouble::Sleep),
            "kill" => Self::Kill,
            _ => bail!("--trouble: what is {name}?"),
        })
    }
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
        trouble: vec![Kind::Ioctls(Trouble::None)],
        vandal: false,
        leaky: false,
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
            Long("trouble") => {
                let list = args.value()?.string()?;
                options.trouble = list.split(',').map(Kind::parse).collect::<Result<_>>()?;
            }
            Long("leaky") => options.leaky = true,
            Long("vandal") => options.vandal = true,
            Long("until-wrong") => options.until_wrong = true,
            Long("show") => options.show = Some(args.value()?.parse()?),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(Some(options))
}

/// The GPU, forgiving, and awake if that is wanted.
///
/// The kernel frees a crash dump after five minutes, and then a fault would stall the GPU again. A
/// GPU that isn't allowed to sleep doesn't recover, so the fault that makes it forgiving comes
/// first.
struct Testbed {
    vadreno: Option<Vadreno>,
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
            vadreno: None,
            since: Instant::now(),
        })
    }

    fn ready(&mut self, awake: bool) -> Result<()> {
        if !awake || self.since.elapsed() > Self::LASTS {
            self.vadreno = None;
        }
        if self.since.elapsed() > Self::LASTS {
            *self = Self::new()?;
        }
        if awake && self.vadreno.is_none() {
            self.vadreno = Some(Vadreno::open().context("virtual Adreno")?);
        }
        Ok(())
    }
}

/// Makes the GPU fault and hang, again and again, until it is killed.
fn vandalise(seed: u64) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    loop {
        let gpu = Gpu::new()?;
        // A hang takes much longer than a fault.
        if rng.u32(..4) != 0 {
            let fault = Pm4::new()
                .mem_to_mem(gpu.result_iova(0), gpu.iova(0))
                .barrier();
            fault::provoke(&gpu, &fault)?;
        } else {
            gpu.start(&hang::commands(&gpu, 0), |submit| submit)?
                .wait(2 * PATIENCE)?;
            if let Some(dump) = Devcoredump::present()? {
                dump.free()?;
            }
        }
    }
}

/// Runs a program in a process that is killed at a moment that isn't the same twice: anywhere in
/// the two runs behind the first, however long those take.
fn run_and_kill(program: &Program, setting: &Setting<'_>, except: &[u32]) -> Result<Report> {
    let (teller, listener) = telling()?;
    let mut child = Process::fork(move || {
        let begin = Instant::now();
        // Again and again: it can't be killed too late.
        for run in 0u64.. {
            if run == 1 && teller.tell(begin.elapsed()).is_err() {
                return 3;
            }
            let report = execute::run(program, setting, except);
            if let Some(why) = report.wrong {
                eprintln!("before it was killed: {why}");
                return 1;
            }
            if !report.excepted.is_empty() {
                return 2;
            }
        }
        unreachable!()
    })?;
    // If it doesn't get so far, its end says why.
    if let Ok(took) = listener.hear(PATIENCE) {
        std::thread::sleep(took.mul_f64(2.0 * Rng::with_seed(program.seed).f64()));
    }
    child.signal(Signal::SIGKILL)?;
    let wrong = match child.wait(PATIENCE)? {
        None => Some("it can't be killed".into()),
        Some(Ended::With(1)) => Some("it failed before it was killed".into()),
        Some(Ended::With(2) | Ended::By(Signal::SIGKILL)) => None,
        Some(ended) => Some(format!("killed: {ended:?}")),
    };
    Ok(Report {
        seed: program.seed,
        answers: "killed".into(),
        view: String::new(),
        wrong,
        late: false,
        excepted: Vec::new(),
    })
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
    if !options.vandal {
        debugfs::set_hangcheck_period(HANGCHECK_PERIOD).context("hangcheck_period_ms")?;
    }
    let before = Census::new()?;
    let mut testbed = (!options.vandal).then(Testbed::new).transpose()?;
    let vandal = options
        .vandal
        .then(|| {
            Process::fork(|| {
                if let Err(e) = vandalise(options.from) {
                    eprintln!("the vandal: {e:#}");
                }
                1
            })
        })
        .transpose()?;
    let mut all_right = true;
    let mut out = std::io::stdout().lock();
    for (n, program) in programs.enumerate() {
        let program = program?;
        let kind = options.trouble[n / 50 % options.trouble.len()];
        let trouble = match kind {
            Kind::Ioctls(trouble) => trouble,
            Kind::Kill => Trouble::None,
        };
        let awake = kind != Kind::Kill && trouble != Trouble::Sleep;
        if let Some(testbed) = &mut testbed {
            testbed.ready(awake)?;
        }
        let setting = Setting {
            vadreno: testbed
                .as_ref()
                .and_then(|testbed| testbed.vadreno.as_ref()),
            forgiving: testbed.is_some(),
            trouble,
        };
        let report = match kind {
            Kind::Ioctls(_) => execute::run(&program, &setting, &options.except),
            Kind::Kill => run_and_kill(&program, &setting, &options.except)?,
        };
        all_right &= report.wrong.is_none();
        let mut line = serde_json::to_string(&report)?;
        line.push('\n');
        out.write_all(line.as_bytes())?;
        out.flush()?;
        if options.until_wrong && !all_right {
            break;
        }
    }
    if let Some(vandal) = vandal {
        vandal.kill(Process::LONG).context("the vandal")?;
    }
    drop(testbed);
    if !options.leaky {
        before.restored()?;
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
