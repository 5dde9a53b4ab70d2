// SPDX-License-Identifier: GPL-2.0-only

//! The system sleeps while requests wait.
//!
//! Only the GPU and its SMMU do, by what the guest's `vadreno_glue` does to them: the callbacks of system suspend and resume, and
//! no power in between. So this process can see what happens meanwhile.

use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use programs::{pattern, Census, Gpu, PATIENCE};
use std::{
    fs, io,
    path::PathBuf,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{vadreno::Vadreno, vadreno_ctl::counter, Bo, HeldFence, Pm4, Submitted, SyncFile, PAGE};

/// The GPU sleeps until this is dropped.
struct Asleep(PathBuf);

impl Asleep {
    fn new() -> harness::Result<Self> {
        for device in fs::read_dir("/sys/bus/platform/drivers/vadreno-bus")? {
            let file = device?.path().join("asleep");
            if file.exists() {
                // As long as the GPU is at work it refuses.
                fs::write(&file, "1").context("falling asleep")?;
                return Ok(Self(file));
            }
        }
        bail!("this kernel can't sleep");
    }

    fn wake(self) -> io::Result<()> {
        fs::write(&self.0, "0")
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "0");
    }
}

fn mappings_survive(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    for n in 0..5 {
        gpu.write(gpu.iova(8), &[n])?;
        Asleep::new()?.wake()?;
        ensure_eq!(
            gpu.read(gpu.iova(PAGE), 1)?,
            [pattern(1, 1024)],
            "after sleep {n}"
        );
        ensure_eq!(gpu.read(gpu.iova(8), 1)?, [n], "what was written before");
    }
    Ok(())
}

/// A bind that puts `bo` at the first page once a fence has signalled, and a SUBMIT that then writes there.
fn remap_and_write(gpu: &Gpu, bo: &Bo, held: &HeldFence) -> harness::Result<(SyncFile, Submitted)> {
    let remapped = gpu
        .bind()
        .map(bo, 0, gpu.iova(0), PAGE)
        .after(held.file())
        .send()
        .context("MAP")?;
    let write = Pm4::new().mem_write(gpu.iova(4), &[0x77]).barrier();
    let submitted = gpu.start(&write, |s| s.after(&remapped))?;
    Ok((remapped, submitted))
}

/// What the SUBMIT of [`remap_and_write`] wrote is in the second BO, not in the one that was there before.
fn check_written(bos: &[Bo; 2]) -> Outcome {
    ensure_eq!(
        (bos[0].map()?.read(1), bos[1].map()?.read(1)),
        (pattern(1, 1), 0x77),
        "what the SUBMIT wrote"
    );
    Ok(())
}

/// A bind and a SUBMIT wait for a fence that signals after the sleep.
fn waiting_requests_wait_on(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bos = [gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?];
    gpu.map(&bos[0], gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let (remapped, submitted) = remap_and_write(&gpu, &bos[1], &held)?;
    let asleep = Asleep::new()?;
    sleep(Duration::from_millis(200));
    asleep.wake()?;
    ensure!(!remapped.is_signaled()?, "the bind, before its fence");
    ensure!(
        !submitted.fence.is_signaled()?,
        "the SUBMIT, before the bind"
    );
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("SUBMIT")?;
    check_written(&bos)?;
    Ok(())
}

/// A bind whose fence signals in the sleep runs then, and a SUBMIT that waits for it afterwards.
fn bind_runs_asleep() -> Outcome {
    let gpu = Gpu::new()?;
    let bos = [gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?];
    gpu.map(&bos[0], gpu.iova(0))?;
    // The TLB has it now.
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(1, 0)], "at first");
    let held = HeldFence::new().context("held fence")?;
    let (remapped, submitted) = remap_and_write(&gpu, &bos[1], &held)?;
    let asleep = Asleep::new()?;
    held.signal().context("the fence was held")?;
    remapped.wait(PATIENCE).context("MAP")?;
    sleep(Duration::from_millis(200));
    ensure!(
        !submitted.fence.is_signaled()?,
        "a SUBMIT ran without a GPU"
    );
    asleep.wake()?;
    submitted.wait(PATIENCE).context("SUBMIT")?;
    check_written(&bos)?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(2, 0)], "afterwards");
    Ok(())
}

/// Nothing reaches for registers that have no power.
fn defect_30_bind_runs_asleep(_: &mut Test) -> Outcome {
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let before = vadreno.read(counter::OFF_ACCESSES);
    bind_runs_asleep()?;
    ensure_eq!(
        vadreno.read(counter::OFF_ACCESSES) - before,
        0,
        "accesses to registers without power"
    );
    Ok(())
}

/// The file is closed in the sleep, with a bind and a SUBMIT that wait.
fn closed_asleep(_: &mut Test) -> Outcome {
    let bos = Census::new()?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 16 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    gpu.bind()
        .unmap(gpu.iova(0), 16 * PAGE)
        .after(held.file())
        .send_only()?;
    gpu.start(&Pm4::new().nop(8), |s| s.after(held.file()))?;
    let asleep = Asleep::new()?;
    let letting_go = std::thread::spawn(move || {
        sleep(Duration::from_millis(300));
        // Where closing waits for the SUBMIT, it does so until the GPU is awake.
        asleep.wake()?;
        held.signal().map_err(io::Error::from)
    });
    let begin = Instant::now();
    drop((bo, gpu));
    ensure!(
        begin.elapsed() < Duration::from_secs(8),
        "closing took long"
    );
    letting_go.join().expect("no panic")?;
    bos.restored()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        mappings_survive,
        waiting_requests_wait_on,
        closed_asleep,
        defect_30_bind_runs_asleep,
    ])
}
