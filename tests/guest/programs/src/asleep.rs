// SPDX-License-Identifier: GPL-2.0-only

//! What a sleep, of the GPU alone or of the whole system, must not change.

use crate::{pattern, Gpu, PATIENCE};
use harness::{ensure, ensure_eq, Context, Outcome, Result};
use std::{fs, io::ErrorKind};
use uapi::{Bo, HeldFence, Pm4, Submitted, SyncFile, PAGE};

const ALARM: &str = "/sys/class/rtc/rtc0/wakealarm";
const SUCCESSES: &str = "/sys/power/suspend_stats/success";

fn sleeps() -> Result<u64> {
    let text = fs::read_to_string(SUCCESSES).context(SUCCESSES)?;
    Ok(text.trim().parse()?)
}

/// Sends the system to sleep until an alarm. A slow machine needs some seconds to fall asleep, and
/// nothing wakes it if the alarm comes in the midst of that.
pub fn freeze() -> Outcome {
    const TRIES: u32 = 5;
    let before = sleeps()?;
    let mut failed = 0;
    loop {
        // What is left of an alarm that came too early.
        fs::write(ALARM, "0").context(ALARM)?;
        let result = fs::write(ALARM, "+6").and_then(|()| fs::write("/sys/power/state", "freeze"));
        match result {
            // The alarm came so early that the system stayed awake for it, or the GPU was late.
            Err(e) if e.kind() == ErrorKind::ResourceBusy && failed < TRIES => failed += 1,
            result => break result.context("falling asleep")?,
        }
    }
    ensure_eq!(sleeps()? - before, 1, "times that the system has slept");
    Ok(())
}

/// What is mapped, in the page tables and in BOs, is there after each of `times` sleeps.
pub fn mappings_survive(times: u32, sleep: impl Fn() -> Outcome) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    for n in 0..times {
        gpu.write(gpu.iova(8), &[n])?;
        sleep()?;
        ensure_eq!(
            gpu.read(gpu.iova(PAGE), 1)?,
            [pattern(1, 1024)],
            "after sleep {n}"
        );
        ensure_eq!(gpu.read(gpu.iova(8), 1)?, [n], "what was written before");
    }
    Ok(())
}

/// A bind and a SUBMIT wait for a fence that signals after the sleep.
pub fn waiting_requests_wait_on(sleep: impl FnOnce() -> Outcome) -> Outcome {
    let gpu = Gpu::new()?;
    let bos = [gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?];
    gpu.map(&bos[0], gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let (remapped, submitted) = remap_and_write(&gpu, &bos[1], &held)?;
    sleep()?;
    ensure!(!remapped.is_signaled()?, "the bind, before its fence");
    ensure!(
        !submitted.fence.is_signaled()?,
        "the SUBMIT, before the bind"
    );
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("SUBMIT")?;
    check_written(&bos)
}

/// A bind that puts `bo` at the first page once a fence has signalled, and a SUBMIT that then
/// writes there.
pub fn remap_and_write(gpu: &Gpu, bo: &Bo, held: &HeldFence) -> Result<(SyncFile, Submitted)> {
    let remapped = gpu
        .bind()
        .map(bo, 0, gpu.iova(0), PAGE)
        .after(held.file())
        .send()
        .context("MAP")?;
    let write = Pm4::new().mem_write(gpu.iova(4), &[0x77]).barrier();
    let submitted = gpu
        .start(&write, |s| s.after(&remapped))
        .context("SUBMIT")?;
    Ok((remapped, submitted))
}

/// What the SUBMIT of [`remap_and_write`] wrote is in the second BO, not in the one that was there
/// before.
pub fn check_written(bos: &[Bo; 2]) -> Outcome {
    ensure_eq!(
        (bos[0].map()?.read(1), bos[1].map()?.read(1)),
        (pattern(1, 1), 0x77),
        "what the SUBMIT wrote"
    );
    Ok(())
}
