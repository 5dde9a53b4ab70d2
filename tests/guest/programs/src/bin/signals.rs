// SPDX-License-Identifier: GPL-2.0-only

//! Binds under a rain of signals: each either happens or doesn't, and says which.

use harness::{ensure, ensure_eq, Context, Outcome, Process, Test};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use programs::{model::Model, Census, Gpu, Tolerance, PATIENCE};
use std::{process::ExitCode, thread::sleep, time::Duration};
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
        tv_sec: 0,
        tv_usec: interval.as_micros() as libc::suseconds_t,
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
    for round in test.rounds(6) {
        rain(Duration::from_micros(700))?;
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
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e).context("bind"),
            }
        }
        rain(Duration::ZERO)?;
        gpu.bind().send_and_wait().context("bind without ops")?;
        model.check(&gpu, &tolerance, &format!("round {round}"))?;
    }
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

/// Processes killed at any moment while they bind: they end, and nothing of theirs is left.
fn killed_at_any_moment(test: &mut Test) -> Outcome {
    let before = Census::new()?;
    for _ in 0..20 {
        let child = Process::start(|| {
            let gpu = Gpu::new()?;
            for n in 0.. {
                let bo = gpu.bo(1, 8 * PAGE)?;
                let iova = gpu.iova((n % 64) * 16 * PAGE);
                gpu.map(&bo, iova)?;
                gpu.write(iova, &[1])?;
                gpu.unmap(iova + PAGE, 2 * PAGE)?;
            }
            unreachable!()
        })?;
        sleep(Duration::from_millis(test.rng.u64(5..200)));
        child.kill(Process::LONG)?;
    }
    before.restored()
}

/// A process is killed while the kernel makes the VM of a file that another process has, too: the
/// other one gets a VM of its own all the same, and not the one that the GPU's rings are in.
fn killed_while_its_vm_is_made(test: &mut Test) -> Outcome {
    let before = Census::new()?;
    for round in test.rounds(300) {
        let device = Device::open().context("opening the GPU")?;
        let child = Process::start(|| {
            device.va_range().context("the first ioctl")?;
            loop {
                sleep(Process::LONG);
            }
        })?;
        sleep(Duration::from_micros(test.rng.u64(0..3000)));
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
