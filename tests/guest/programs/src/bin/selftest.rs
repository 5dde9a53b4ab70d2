// SPDX-License-Identifier: GPL-2.0-only

//! The harness tested by itself: a program whose sub-tests fail on purpose is run, and its report
//! read.

use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use std::{
    process::{Command, ExitCode, Output},
    time::Duration,
};
use uapi::{HeldFence, PAGE};

/// Set for the inner run, whose sub-tests are the ones below.
const INNER: &str = "SELFTEST_INNER";

fn passes(_: &mut Test) -> Outcome {
    Ok(())
}

fn fails(_: &mut Test) -> Outcome {
    ensure_eq!(1 + 1, 3, "sum");
    Ok(())
}

fn panics(_: &mut Test) -> Outcome {
    panic!("at the disco")
}

fn is_killed(_: &mut Test) -> Outcome {
    nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL)?;
    bail!("outlived SIGKILL")
}

fn never_ends(_: &mut Test) -> Outcome {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn draws(test: &mut Test) -> Outcome {
    bail!("{}", test.rng.u64(..))
}

fn inner(arguments: &[&str]) -> harness::Result<(Output, Vec<String>)> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .env(INNER, "1")
        .output()?;
    let lines = String::from_utf8(output.stdout.clone())?
        .lines()
        .map(str::to_owned)
        .collect();
    Ok((output, lines))
}

fn report(_: &mut Test) -> Outcome {
    let mut arguments = vec!["--seed", "7"];
    for name in ["passes", "fails", "panics", "is_killed"] {
        arguments.extend(["--only", name]);
    }
    let (output, lines) = inner(&arguments)?;
    ensure_eq!(output.status.code(), Some(1), "exit status");
    ensure_eq!(
        lines,
        [
            "seed 7",
            "ok passes",
            "FAIL fails: sum: 2, not 3",
            "FAIL panics: at the disco",
            "FAIL is_killed: killed by SIGKILL",
        ],
        "report"
    );
    Ok(())
}

/// One that never ends is stopped, and the next one's turn comes, whether a slow machine stops that
/// as well or not.
fn time_is_up(_: &mut Test) -> Outcome {
    let arguments = ["--timeout", "1", "--only", "never_ends", "--only", "draws"];
    let (output, lines) = inner(&arguments)?;
    ensure_eq!(output.status.code(), Some(1), "exit status");
    ensure_eq!(lines.len(), 3, "lines");
    ensure_eq!(
        lines[1],
        "FAIL never_ends: still running after 1 s",
        "report"
    );
    ensure!(lines[2].starts_with("FAIL draws: "), "{}", lines[2]);
    Ok(())
}

fn all_pass(_: &mut Test) -> Outcome {
    let (output, lines) = inner(&["--only", "passes", "--seed", "1"])?;
    ensure_eq!(output.status.code(), Some(0), "exit status");
    ensure_eq!(lines, ["seed 1", "ok passes"], "report");
    Ok(())
}

fn unknown_name(_: &mut Test) -> Outcome {
    for arguments in [
        &["--only", "no_such_thing"][..],
        &["--only", "passes", "--only", "no_such_thing"],
    ] {
        let (output, lines) = inner(arguments)?;
        ensure_eq!(output.status.code(), Some(2), "exit status");
        ensure!(lines.is_empty(), "{lines:?}");
    }
    Ok(())
}

fn list(_: &mut Test) -> Outcome {
    let (output, lines) = inner(&["--list", "--only", "pa*"])?;
    ensure_eq!(output.status.code(), Some(0), "exit status");
    ensure_eq!(lines, ["passes", "panics"], "names");
    let (_, all) = inner(&["--list"])?;
    ensure_eq!(
        all,
        [
            "passes",
            "fails",
            "panics",
            "is_killed",
            "never_ends",
            "draws"
        ],
        "all names"
    );
    Ok(())
}

fn seed_is_repeated(_: &mut Test) -> Outcome {
    let draw = |seed| -> harness::Result<String> {
        inner(&["--only", "draws", "--seed", seed])?
            .1
            .pop()
            .context("no line")
    };
    ensure_eq!(draw("11")?, draw("11")?, "the same seed twice");
    ensure!(draw("11")? != draw("12")?, "another seed draws the same");
    Ok(())
}

/// A held fence is held, then signals; one that was dropped signals too.
fn held_fence(_: &mut Test) -> Outcome {
    let held = HeldFence::new().context("held fence")?;
    ensure!(!held.file().is_signaled()?, "signalled at once");
    held.still_held().context("still held")?;
    let file = held.file().try_clone()?;
    held.signal().context("signal")?;
    ensure_eq!(file.status()?, Some(Ok(())), "after signalling");
    let held = HeldFence::new().context("held fence")?;
    let file = held.file().try_clone()?;
    drop(held);
    file.wait(programs::PATIENCE).context("after dropping")?;
    Ok(())
}

/// Unmapped addresses read as 0 while faults are tolerated, and mapped ones don't.
fn tolerance(_: &mut Test) -> Outcome {
    let tolerance = programs::Tolerance::new()?;
    let gpu = programs::Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    for _ in 0..5 {
        ensure_eq!(
            gpu.peek(&[gpu.iova(0), gpu.iova(PAGE), gpu.iova(1 << 40)])?,
            [programs::pattern(1, 0), 0, 0],
            "mapped, unmapped, unmapped"
        );
    }
    tolerance.check()
}

fn main() -> ExitCode {
    if std::env::var_os(INNER).is_some() {
        return harness::main(harness::cases![
            passes, fails, panics, is_killed, never_ends, draws
        ]);
    }
    harness::main(harness::cases![
        report,
        time_is_up,
        all_pass,
        unknown_name,
        list,
        seed_is_repeated,
        held_fence,
        tolerance,
    ])
}
