// SPDX-License-Identifier: GPL-2.0-only

//! The whole system sleeps, processes frozen, and its clock wakes it.
//!
//! What can only be seen by somebody awake is in `suspend`.

use harness::{ensure, ensure_eq, Context, Outcome, Process, Test};
use programs::{
    asleep::{self, freeze},
    pattern, Census, Gpu, PATIENCE,
};
use std::{process::ExitCode, thread::sleep, time::Duration};
use uapi::{HeldFence, Pm4, PAGE};

fn mappings_survive(_: &mut Test) -> Outcome {
    asleep::mappings_survive(3, freeze)
}

fn waiting_requests_wait_on(_: &mut Test) -> Outcome {
    asleep::waiting_requests_wait_on(freeze)
}

/// Maps, lets the GPU write, looks, and unmaps, again and again.
fn work(tag: u32) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(tag, 16 * PAGE)?;
    let mut round = 0;
    loop {
        round += 1;
        let at = gpu.iova(round % 64 * 16 * PAGE);
        gpu.map(&bo, at)?;
        gpu.write(at, &[round as u32])?;
        ensure_eq!(gpu.read(at, 1)?, [round as u32], "round {round}");
        ensure_eq!(
            gpu.read(at + 15 * PAGE, 1)?,
            [pattern(tag, 15 * 1024)],
            "round {round}"
        );
        gpu.unmap(at, bo.size())?;
    }
}

/// The system falls asleep while several processes keep page tables and GPU busy, and they go on
/// afterwards.
fn asleep_under_load(_: &mut Test) -> Outcome {
    let census = Census::new()?;
    let workers = (1..=3)
        .map(|tag| Process::start(|| work(tag)))
        .collect::<harness::Result<Vec<_>>>()?;
    for _ in 0..3 {
        sleep(Duration::from_millis(300));
        freeze()?;
    }
    sleep(Duration::from_millis(500));
    workers
        .into_iter()
        .try_for_each(|worker| worker.kill(Process::LONG))?;
    census.restored()
}

/// A process that is killed in its sleep leaves nothing, though it had requests that wait.
fn defect_29_killed_asleep(_: &mut Test) -> Outcome {
    let census = Census::new()?;
    let held = HeldFence::new().context("held fence")?;
    let mut child = Process::start(|| wait_for(&held))?;
    ensure!(child.waits(PATIENCE)?, "it doesn't wait for its requests");
    freeze()?;
    child.kill(Process::LONG)?;
    held.still_held()
        .context("the fence that the process needn't wait for")?;
    held.signal().context("the fence was held")?;
    census.restored()
}

/// Lets an UNMAP and a SUBMIT wait for the fence, and itself for them.
fn wait_for(held: &HeldFence) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 16 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let unmapped = gpu
        .bind()
        .unmap(gpu.iova(0), bo.size())
        .after(held.file())
        .send()?;
    let submitted = gpu.start(&Pm4::new().nop(8), |s| s.after(&unmapped))?;
    submitted.wait(10 * PATIENCE)?;
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        mappings_survive,
        waiting_requests_wait_on,
        asleep_under_load,
        defect_29_killed_asleep,
    ])
}
