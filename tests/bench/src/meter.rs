// SPDX-License-Identifier: GPL-2.0-only

//! Reading the clock and the SMMU's counters around what is measured.

use harness::{ensure, Context, Result};
use nix::time::{clock_gettime, ClockId};
use programs::PATIENCE;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::{FromRawFd, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{abi, vadreno::Vadreno, Device, Errno, SyncFile, Syncobj, VmBind};
use vadreno_ctl::counter;

/// Keeps other work away from the processor while this process runs: the scheduler's workers get it
/// when we wait.
pub fn undisturbed() -> Result<()> {
    fs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1").context("sched_rt_runtime_us")?;
    let param = libc::sched_param { sched_priority: 50 };
    // SAFETY: passes a valid pointer.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// Waits until nothing else wants the processor.
///
/// Whatever is runnable shares the processor with the workers that we wait for, and its
/// instructions would be counted as theirs: what is done after boot, bind jobs that are freed after
/// their fence, files that are closed. As long as we keep the processor, what these hold isn't
/// given back, either.
pub fn at_rest() -> Result<()> {
    const WINDOW: Duration = Duration::from_millis(100);
    let begin = Instant::now();
    let mut quiet = 0;
    while quiet < 2 {
        ensure!(
            begin.elapsed() < 10 * PATIENCE,
            "the guest doesn't come to rest"
        );
        let before = busy_and_idle()?;
        sleep(WINDOW);
        let after = busy_and_idle()?;
        let (busy, idle) = (after.0 - before.0, after.1 - before.1);
        quiet = if 4 * busy < idle { quiet + 1 } else { 0 };
    }
    Ok(())
}

/// Ticks that the processor has worked, and idled.
fn busy_and_idle() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()
        .context("/proc/stat")?;
    // user, nice, system, idle, iowait, …
    ensure!(ticks.len() > 4, "/proc/stat begins with {line:?}");
    let idle = ticks[3] + ticks[4];
    Ok((ticks.iter().sum::<u64>() - idle, idle))
}

/// Lets the workers finish with the last job, which is freed behind its fence.
///
/// Otherwise they would do that before they run the next one, or after, as it happens.
fn breathe() {
    sleep(Duration::from_millis(3));
}

/// How long each other process, of which kernel threads are some, has run: instructions.
fn others() -> Result<BTreeMap<u32, u64>> {
    let mut ran = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let entry = entry.context("/proc")?;
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // One that has just ended has no such file.
        let Ok(line) = fs::read_to_string(entry.path().join("schedstat")) else {
            continue;
        };
        let first = line.split_whitespace().next().unwrap_or_default();
        if id != std::process::id() {
            ran.insert(id, first.parse().context("schedstat")?);
        }
    }
    Ok(ran)
}

/// Now, in instructions.
pub fn now() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// How many instructions of this process there were so far, the kernel's for it among them.
fn of_this_process() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: ClockId) -> u64 {
    let t = clock_gettime(clock).expect("every kernel has it");
    t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64
}

/// What something has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Instructions until the ioctl returned.
    pub ioctl: u64,
    /// Instructions until its fence signalled.
    pub fence: u64,
    /// Instructions until the guest was at rest again, whoever ran them; 0 where that isn't
    /// measured.
    pub work: u64,
    /// TLB invalidations.
    pub tlbi: u64,
    /// Reads and writes of registers of GPU, GMU, display and SMMUs.
    pub registers: u64,
}

/// The counters, with the GPU kept awake: asleep it needs no invalidation.
pub struct Meter(Vadreno);

impl Meter {
    /// Opens the virtual Adreno.
    pub fn new() -> Result<Self> {
        Ok(Self(Vadreno::open().context("the virtual Adreno")?))
    }

    /// TLB invalidations, and accesses to registers, so far.
    fn counters(&self) -> (u64, u64) {
        let sum = |counters: &[usize]| counters.iter().map(|&at| self.0.read(at)).sum();
        (
            sum(&[counter::TLBI_ALL, counter::TLBI_ASID, counter::TLBI_VA]),
            sum(&[
                counter::GPU_READS,
                counter::GPU_WRITES,
                counter::SMMU_READS,
                counter::SMMU_WRITES,
                counter::DISPLAY_READS,
                counter::DISPLAY_WRITES,
            ]),
        )
    }

    /// Walks so far: those of a TLB that keeps everything, those of one of limited size, and the
    /// descriptors that the latter read.
    pub fn walks(&self) -> [u64; 3] {
        [counter::WALKS, counter::FINITE_WALKS, counter::FINITE_READS].map(|at| self.0.read(at))
    }

    /// How many page tables, the root excepted, the addresses from `first` up to `end` lead through
    /// in the context that ran last: those that are linked, whether or not anything is mapped in
    /// them.
    pub fn tables(&self, first: u64, end: u64) -> Result<u64> {
        let mut found = BTreeSet::new();
        for iova in (first..end).step_by(1 << 21) {
            // An entry of level n covers 2^(39 - 9n) bytes; the table that holds it, 512 times as
            // much.
            let level = self.0.walk_level(iova).context("a page-table walk")?;
            found.extend((1..=level).map(|level| (level, iova >> (48 - 9 * level))));
        }
        Ok(found.len() as u64)
    }

    /// How many physically contiguous runs of memory the addresses lead to in the context that ran
    /// last.
    pub fn runs(&self, iova: u64, length: u64) -> Result<u64> {
        self.0.runs(iova, length).context("runs of memory")
    }

    /// Sends a bind request and waits for it.
    pub fn bind(&self, device: &Device, bind: &VmBind<'_>) -> Result<Cost> {
        let mut request = bind.request();
        request.flags |= abi::MSM_VM_BIND_FENCE_FD_OUT;
        self.to_fence(
            || {
                device.vm_bind_raw(&mut request)?;
                // SAFETY: the kernel just installed this descriptor for us.
                Ok(SyncFile::from(unsafe {
                    OwnedFd::from_raw_fd(request.fence_fd)
                }))
            },
            |fence| fence.wait(10 * PATIENCE),
        )
    }

    /// Sends a bind request that signals `syncobj`, and waits for that: no descriptor is made.
    pub fn bind_with(&self, bind: &VmBind<'_>, syncobj: &Syncobj) -> Result<Cost> {
        self.to_fence(|| bind.send_only(), |()| syncobj.wait(10 * PATIENCE))
    }

    /// Sends a bind request and waits for it. The end of what `send` returns isn't measured.
    fn to_fence<T>(
        &self,
        send: impl FnOnce() -> std::result::Result<T, Errno>,
        wait: impl FnOnce(&T) -> std::result::Result<(), Errno>,
    ) -> Result<Cost> {
        breathe();
        let before = self.counters();
        let begin = now();
        let sent = send().context("VM_BIND")?;
        let ioctl = now() - begin;
        wait(&sent).context("the bind's fence")?;
        let fence = now() - begin;
        Ok(self.cost(ioctl, fence, before))
    }

    /// Measures something that has no fence.
    pub fn call<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(Cost, T)> {
        breathe();
        let before = self.counters();
        let begin = now();
        let result = work()?;
        let took = now() - begin;
        Ok((self.cost(took, took, before), result))
    }

    /// Measures something of which a part may be left to the kernel's workers: until they are done.
    pub fn to_the_end(&self, work: impl FnOnce() -> Result<()>) -> Result<Cost> {
        self.with_workers(now, work)
    }

    /// The same of something that waits, which isn't counted.
    pub fn without_waiting(&self, work: impl FnOnce() -> Result<()>) -> Result<Cost> {
        self.with_workers(of_this_process, work)
    }

    /// What this process does is measured with `clock`.
    fn with_workers(&self, clock: fn() -> u64, work: impl FnOnce() -> Result<()>) -> Result<Cost> {
        let (counters, others) = (self.counters(), others()?);
        let begin = clock();
        work()?;
        let took = clock() - begin;
        at_rest()?;
        let behind: u64 = self::others()?
            .iter()
            .map(|(id, ran)| ran - others.get(id).copied().unwrap_or(0).min(*ran))
            .sum();
        Ok(Cost {
            work: took + behind,
            ..self.cost(took, took, counters)
        })
    }

    fn cost(&self, ioctl: u64, fence: u64, before: (u64, u64)) -> Cost {
        let after = self.counters();
        Cost {
            ioctl,
            fence,
            work: 0,
            tlbi: after.0 - before.0,
            registers: after.1 - before.1,
        }
    }
}

/// The middle one of each figure: a job that found the processor idle has waited in real time, too.
pub fn median(samples: &[Cost]) -> Cost {
    let middle = |of: fn(&Cost) -> u64| {
        let mut all: Vec<u64> = samples.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    Cost {
        ioctl: middle(|c| c.ioctl),
        fence: middle(|c| c.fence),
        work: middle(|c| c.work),
        tlbi: middle(|c| c.tlbi),
        registers: middle(|c| c.registers),
    }
}

/// Prints one figure.
pub fn figure(what: &str, value: f64) {
    println!("= {what} {value:.2}");
}

/// Prints a cost, its instructions divided by `units`.
pub fn report(units: u64, cost: Cost) {
    let per = |value: u64| value as f64 / units as f64;
    figure("ioctl", per(cost.ioctl));
    figure("fence", per(cost.fence));
    if cost.work > 0 {
        figure("work", per(cost.work));
    }
    figure("tlbi", cost.tlbi as f64);
    figure("registers", cost.registers as f64);
}
