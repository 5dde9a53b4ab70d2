// SPDX-License-Identifier: GPL-2.0-only

//! Binds under a rain of signals: each either happens or doesn't, and says which.

use harness::{ensure, ensure_eq, Context, Outcome, Process, Test};
use nix::sys::signal::{raise, sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use programs::{model::Model, Census, Gpu, Tolerance, PATIENCE};
use std::{
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{Bo, Device, Errno, HeldFence, PAGE};

extern "C" fn nothing(_: i32) {}

/// SIGALRM every `interval`, which interrupts system calls instead of restarting them.
fn rain(interval: Duration) -> Outcome {
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    let interval = libc::timeval {
        tv_sec: interval.as_secs() as libc::time_t,
        tv_usec: interval.subsec_micros() as libc::suseconds_t,
    };
    let value = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: the value is valid for the call.
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &value, std::ptr::null_mut()) };
    Errno::result(result).context("setitimer")?;
    Ok(())
}

/// An interrupted bind has changed nothing: every answer fits a model.
fn each_answer_is_true(test: &mut Test) -> Outcome {
    const PAGES: usize = 32;
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bos: Vec<Bo> = (1..4)
        .map(|tag| gpu.bo(tag, PAGES as u64 * PAGE))
        .collect::<harness::Result<_>>()?;
    let mut model = Model::new(gpu.iova(0), PAGES);
    let (mut done, mut interrupted) = (0, 0);
    for round in test.rounds(6) {
        // With the handler alone.
        rain(Duration::ZERO)?;
        let mut times = [Duration::ZERO; 9];
        for time in &mut times {
            let begin = Instant::now();
            raise(Signal::SIGALRM)?;
            gpu.bind()
                .map(&bos[0], 0, model.iova(0), 8 * PAGE)
                .send()
                .context("a bind that nothing interrupts")?;
            *time = begin.elapsed();
        }
        model.map(1, 0, 0, 8);
        times.sort();
        // On a slow machine a signal every 700 us leaves no time for anything else.
        rain(Duration::from_micros(700).max(2 * times[4]))?;
        for _ in 0..200 {
            let count = test.rng.usize(1..=8);
            let at = test.rng.usize(0..=PAGES - count);
            let tag = test.rng.usize(..bos.len());
            let unmap = test.rng.u8(..3) == 0;
            let (iova, range) = (model.iova(at), count as u64 * PAGE);
            let bind = if unmap {
                gpu.bind().unmap(iova, range)
            } else {
                gpu.bind().map(&bos[tag], at as u64 * PAGE, iova, range)
            };
            match bind.send() {
                Ok(_) if unmap => model.unmap(at, count),
                Ok(_) => model.map(tag as u32 + 1, at, at, count),
                Err(Errno::EINTR) => {
                    interrupted += 1;
                    continue;
                }
                Err(e) => return Err(e).context("bind"),
            }
            done += 1;
        }
        rain(Duration::ZERO)?;
        gpu.bind().send_and_wait().context("bind without ops")?;
        model.check(&gpu, &tolerance, &format!("round {round}"))?;
    }
    println!("# {done} binds done, {interrupted} interrupted");
    ensure!(done > 0, "all binds were interrupted");
    Ok(())
}

/// Waiting for a fence is interrupted, and goes on where it was.
fn waiting_is_interrupted(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let held = HeldFence::new().context("held fence")?;
    let job = gpu
        .bind()
        .after(held.file())
        .send()
        .context("bind without ops")?;
    rain(Duration::from_millis(20))?;
    ensure_eq!(job.wait(PATIENCE), Err(Errno::EINTR), "waiting for the job");
    rain(Duration::ZERO)?;
    ensure!(!job.is_signaled()?, "the job is done before its fence");
    held.signal().context("the fence was held")?;
    job.wait(PATIENCE).context("waiting again")
}

/// A random time up to the double of `time`.
fn up_to_twice(time: Duration, test: &mut Test) -> Duration {
    Duration::from_micros(test.rng.u64(..=2 * time.as_micros() as u64))
}

/// Processes killed at any moment while they open the GPU and bind: they end, and nothing of theirs
/// is left.
fn killed_at_any_moment(test: &mut Test) -> Outcome {
    let before = Census::new()?;
    let mut opening = Duration::ZERO;
    for n in 0..20 {
        let (child, listener) = Process::start_telling(|teller| {
            teller.tell(Duration::ZERO)?;
            let begin = Instant::now();
            let gpu = Gpu::new()?;
            teller.tell(begin.elapsed())?;
            let begin = Instant::now();
            for n in 0.. {
                if n == 1 {
                    teller.tell(begin.elapsed())?;
                }
                let bo = gpu.bo(1, 8 * PAGE)?;
                let iova = gpu.iova((n % 64) * 16 * PAGE);
                gpu.map(&bo, iova)?;
                gpu.write(iova, &[1])?;
                gpu.unmap(iova + PAGE, 2 * PAGE)?;
            }
            unreachable!()
        })?;
        listener.hear(PATIENCE)?;
        let time = if n % 4 == 3 {
            opening
        } else {
            opening = listener.hear(PATIENCE)?;
            listener.hear(PATIENCE)?
        };
        sleep(up_to_twice(time, test));
        child.kill(Process::LONG)?;
    }
    before.restored()
}

/// A process is killed while the kernel makes the VM of a file that another process has, too: the
/// other one gets a VM of its own all the same, and not the one that the GPU's rings are in.
fn killed_while_its_vm_is_made(test: &mut Test) -> Outcome {
    let before = Census::new()?;
    let mut making = Duration::ZERO;
    for (n, round) in test.rounds(300).enumerate() {
        let device = Device::open().context("opening the GPU")?;
        let (child, listener) = Process::start_telling(|teller| {
            teller.tell(Duration::ZERO)?;
            let begin = Instant::now();
            device.va_range().context("the first ioctl")?;
            teller.tell(begin.elapsed())?;
            loop {
                sleep(Process::LONG);
            }
        })?;
        listener.hear(PATIENCE)?;
        // Now and then one gets on, and says how long that takes.
        if n % 20 == 0 {
            making = listener.hear(PATIENCE)?;
        } else {
            sleep(up_to_twice(making, test));
        }
        child.kill(Process::LONG)?;
        device
            .va_range()
            .with_context(|| format!("VA_START in round {round}"))?;
    }
    before.restored()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        each_answer_is_true,
        waiting_is_interrupted,
        killed_at_any_moment,
        killed_while_its_vm_is_made,
    ])
}
