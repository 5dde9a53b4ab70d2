// SPDX-License-Identifier: GPL-2.0-only

//! The system sleeps while requests wait.
//!
//! Only the GPU and its SMMU do, by what the guest's `vadreno_glue` does to them: the callbacks of
//! system suspend and resume, and no power in between. So this process can see what happens
//! meanwhile.

use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use programs::{
    asleep::{self, check_written, remap_and_write},
    eventually, fault, pattern, works, Census, Gpu, PATIENCE,
};
use std::{
    fs, io,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    devcoredump::Devcoredump,
    vadreno::{Awake, Vadreno},
    vadreno_ctl::counter,
    Bo, HeldFence, Pm4, SyncFile, PAGE,
};

/// A file of the virtual SoC's bus, by which it is told how to sleep.
fn bus_file(name: &str) -> harness::Result<PathBuf> {
    for device in fs::read_dir("/sys/bus/platform/drivers/vadreno-bus")? {
        let file = device?.path().join(name);
        if file.exists() {
            return Ok(file);
        }
    }
    bail!("this kernel can't sleep");
}

/// The GPU sleeps until this is dropped.
struct Asleep(PathBuf);

impl Asleep {
    fn new() -> harness::Result<Self> {
        let mut asleep = None;
        eventually("the GPU to fall asleep", || {
            asleep = Self::try_new()?;
            Ok(asleep.is_some())
        })?;
        asleep.context("falling asleep")
    }

    /// As long as the GPU is at work it refuses: for a second it waits until all that it has done
    /// is seen to.
    fn try_new() -> harness::Result<Option<Self>> {
        let file = bus_file("asleep")?;
        match fs::write(&file, "1") {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => Ok(None),
            result => {
                result.context("falling asleep")?;
                Ok(Some(Self(file)))
            }
        }
    }

    /// Power is back, and the SMMU's driver is about to be told.
    fn begin_waking(&self) -> io::Result<()> {
        fs::write(&self.0, "2")
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
    asleep::mappings_survive(5, || Ok(Asleep::new()?.wake()?))
}

fn waiting_requests_wait_on(_: &mut Test) -> Outcome {
    asleep::waiting_requests_wait_on(|| {
        let asleep = Asleep::new()?;
        sleep(Duration::from_millis(200));
        Ok(asleep.wake()?)
    })
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

/// Binds that wait for nothing, sent in the sleep: nothing reaches for registers that have no power
/// or no clock, and afterwards the GPU finds what they have mapped, and nothing else.
fn defect_30_binds_sent_asleep(_: &mut Test) -> Outcome {
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let _active = StaysActive::new()?;
    let bos_before = Census::new()?;
    let gpu = Gpu::new()?;
    let bos: Vec<Bo> = (0..3)
        .map(|tag| gpu.bo(tag + 1, PAGE))
        .collect::<harness::Result<_>>()?;
    let iova = |n: u64| gpu.iova(n * PAGE);
    gpu.map(&bos[0], iova(0))?;
    gpu.map(&bos[0], iova(1))?;
    gpu.map(&bos[0], iova(2))?;
    for n in 0..3 {
        ensure_eq!(gpu.read(iova(n), 1)?, [pattern(1, 0)], "page {n} at first");
    }
    let count = || vadreno.read(counter::OFF_ACCESSES) + vadreno.read(counter::SMMU_OFF);
    let before = count();
    let left = vadreno.read(counter::LEFT_IN_TLB);
    let asleep = Asleep::new()?;
    let mut sent = vec![
        gpu.bind().map(&bos[1], 0, iova(0), PAGE).send()?,
        gpu.bind().unmap(iova(2), PAGE).send()?,
    ];
    sent.iter().try_for_each(may_wait)?;
    asleep.begin_waking()?;
    sent.push(gpu.bind().map(&bos[2], 0, iova(1), PAGE).send()?);
    sent.iter().try_for_each(may_wait)?;
    // Nobody maps the first any more.
    drop(bos);
    asleep.wake()?;
    for fence in &sent {
        fence.wait(PATIENCE).context("a bind")?;
    }
    ensure_eq!(
        [gpu.read(iova(0), 1)?, gpu.read(iova(1), 1)?].concat(),
        [pattern(2, 0), pattern(3, 0)],
        "afterwards"
    );
    ensure_eq!(count() - before, 0, "accesses without power or clock");
    ensure_eq!(
        vadreno.read(counter::LEFT_IN_TLB) - left,
        0,
        "pages that were freed and that the TLB led to"
    );
    drop(gpu);
    bos_before.restored()
}

/// Runtime PM leaves the SMMU alone until this is dropped, so that the system's sleep finds it
/// awake.
struct StaysActive(PathBuf);

impl StaysActive {
    fn new() -> harness::Result<Self> {
        for device in fs::read_dir("/sys/bus/platform/drivers/arm-smmu")? {
            let control = device?.path().join("power/control");
            if control.exists() {
                fs::write(&control, "on").context("power/control")?;
                return Ok(Self(control));
            }
        }
        bail!("no SMMU");
    }
}

impl Drop for StaysActive {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "auto");
    }
}

/// A bind may wait until the SMMU can be reached.
fn may_wait(bind: &SyncFile) -> Outcome {
    let begin = Instant::now();
    while !bind.is_signaled()? && begin.elapsed() < Duration::from_secs(2) {
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A bind whose fence signals when the sleep is over and the SMMU's clock isn't back yet: nothing
/// reaches for its registers.
fn defect_42_bind_runs_before_the_clock_is_back(_: &mut Test) -> Outcome {
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let _active = StaysActive::new()?;
    let gpu = Gpu::new()?;
    let bos = [gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?];
    gpu.map(&bos[0], gpu.iova(0))?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(1, 0)], "at first");
    let before = vadreno.read(counter::SMMU_OFF);
    let held = HeldFence::new().context("held fence")?;
    let (remapped, submitted) = remap_and_write(&gpu, &bos[1], &held)?;
    let asleep = Asleep::new()?;
    asleep.begin_waking()?;
    held.signal().context("the fence was held")?;
    may_wait(&remapped)?;
    ensure!(
        !submitted.fence.is_signaled()?,
        "a SUBMIT ran without a GPU"
    );
    asleep.wake()?;
    remapped.wait(PATIENCE).context("MAP")?;
    submitted.wait(PATIENCE).context("SUBMIT")?;
    check_written(&bos)?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(2, 0)], "afterwards");
    ensure_eq!(
        vadreno.read(counter::SMMU_OFF) - before,
        0,
        "accesses to the SMMU without a clock"
    );
    Ok(())
}

/// The next runtime suspend of the SMMU doesn't get beyond its beginning, and is called off when
/// this is dropped: the SMMU stays active, with what is in its TLB.
struct HeldSuspend(PathBuf);

impl HeldSuspend {
    fn new() -> harness::Result<Self> {
        let file = bus_file("hold_suspend")?;
        fs::write(&file, "1").context("hold_suspend")?;
        Ok(Self(file))
    }

    /// Waits until it has begun.
    fn begun(&self) -> Outcome {
        eventually("the SMMU to begin to fall asleep", || {
            Ok(fs::read_to_string(&self.0)?.trim() == "2")
        })
    }
}

impl Drop for HeldSuspend {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "0");
    }
}

/// What is mapped over while the SMMU is about to fall asleep is out of the GPU's reach when it
/// stays awake after all.
fn suspend_is_called_off(_: &mut Test) -> Outcome {
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let bos = Census::new()?;
    let gpu = Gpu::new()?;
    let first = gpu.bo(1, PAGE)?;
    let second = gpu.bo(2, PAGE)?;
    gpu.map(&first, gpu.iova(0))?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(1, 0)], "at first");
    let left = vadreno.read(counter::LEFT_IN_TLB);
    let off = vadreno.read(counter::SMMU_OFF);

    let suspend = HeldSuspend::new()?;
    let asleep = vadreno.let_sleep()?;
    suspend.begun()?;
    let remapped = gpu.bind().map(&second, 0, gpu.iova(0), PAGE).send()?;
    may_wait(&remapped)?;
    // Once that has run its page is anybody's.
    drop(first);
    drop(suspend);
    drop(asleep);
    remapped.wait(PATIENCE).context("MAP")?;

    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(2, 0)], "afterwards");
    ensure_eq!(
        vadreno.read(counter::LEFT_IN_TLB) - left,
        0,
        "pages that were freed and that the TLB led to"
    );
    ensure_eq!(
        vadreno.read(counter::SMMU_OFF) - off,
        0,
        "accesses to the SMMU without a clock"
    );
    drop((second, gpu));
    bos.restored()
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
    let (closed, told) = mpsc::channel();
    let letting_go = std::thread::spawn(move || {
        // Where closing waits for the SUBMIT, it does so until the GPU is awake.
        let _ = told.recv_timeout(Duration::from_secs(4));
        asleep.wake()?;
        held.signal().map_err(io::Error::from)
    });
    drop((bo, gpu));
    let _ = closed.send(());
    letting_go
        .join()
        .expect("no panic")
        .context("waking up, while the fence was held")?;
    bos.restored()
}

/// While the GPU is recovered the system doesn't sleep: what waits behind the fault is run again.
fn defect_58_while_recovering(_: &mut Test) -> Outcome {
    const ROUNDS: u32 = 3;
    // As the PM core does, for as long as a suspend lasts.
    let _awake = Awake::new().context("power/control")?;
    let mut met = 0;
    for round in 1..=4 * ROUNDS {
        fault::make_room()?;
        let (culprit, other) = (Gpu::new()?, Gpu::new()?);
        let faulting = Pm4::new()
            .mem_to_mem(culprit.result_iova(0), culprit.iova(0))
            .barrier();
        let submitted = culprit
            .start(&faulting, |s| s)
            .context("SUBMIT that faults")?;
        other.set_result(0, 0);
        let write = Pm4::new().mem_write(other.result_iova(0), &[round]);
        let behind = other.start(&write, |s| s).context("SUBMIT behind it")?;
        let dump = Devcoredump::wait(PATIENCE).context("devcoredump")?;
        let begin = Instant::now();
        let mut early = 0;
        loop {
            let recovering = !behind.fence.is_signaled()?;
            let limit = Duration::from_secs(if recovering { 20 } else { 3 });
            if begin.elapsed() > limit {
                break;
            }
            early += u32::from(recovering);
            match Asleep::try_new() {
                Ok(Some(asleep)) => asleep.wake().context("waking up")?,
                _ => sleep(Duration::from_millis(10)),
            }
        }
        submitted.wait(PATIENCE).context("recovery")?;
        behind.wait(PATIENCE).context("what was behind it")?;
        ensure_eq!(other.result(0), round, "what was behind it");
        dump.free().context("freeing the devcoredump")?;
        works(round)?;
        // On a slow machine the recovery may be over before this process has seen the dump.
        met += u32::from(early > 0);
        if met == ROUNDS {
            return Ok(());
        }
    }
    bail!("the GPU was recovered before the system tried to sleep")
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        mappings_survive,
        waiting_requests_wait_on,
        closed_asleep,
        defect_30_bind_runs_asleep,
        defect_30_binds_sent_asleep,
        defect_42_bind_runs_before_the_clock_is_back,
        suspend_is_called_off,
        defect_58_while_recovering,
    ])
}
