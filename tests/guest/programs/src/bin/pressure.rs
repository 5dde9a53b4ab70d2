// SPDX-License-Identifier: GPL-2.0-only

//! More BOs than memory: several processes, whose BOs don't fit into it together, work on them
//! while some are killed at random. What is swapped out comes back as it was; nobody else suffers.

use harness::{ensure, ensure_eq, Context, Ended, Outcome, Process, Rng, Test};
use nix::{
    errno::Errno,
    poll::{poll, PollFd, PollFlags},
    unistd::{pipe, read, write},
};
use programs::{
    known::{Known, Versions},
    Census, Gpu,
};
use std::{
    env,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    fault_injection, memory,
    swap::{vmstat, Swap},
    Pm4,
};

const MIB: u64 = 1 << 20;
/// What is left of memory for the processes: more would only take longer.
const MEMORY: u64 = 20 * MIB;
const BO_SIZE: u64 = MIB / 4;
const PROCESSES: u64 = 3;
/// BOs of a context. A SUBMIT brings all of them back.
const BOS: usize = 6;
/// What a context takes: its BOs, those of [`Gpu`], and some for tables and metadata.
const CONTEXT: u64 = BOS as u64 * BO_SIZE + MIB + MIB / 4;

/// How many processes are killed, the first once memory is full, and replaced.
const KILLS: u64 = 3;
/// How many steps all processes together do between two kills, and after the last.
const STEPS: Range<u64> = 10..20;
/// A kernel that doesn't check all that is done with a page gets so many times as much memory and
/// work.
const FAST: u64 = 4;
/// What that may take.
const LIMIT: Duration = Duration::from_secs(840);

/// What all processes' BOs take of memory.
fn percent() -> u64 {
    env::var("PERCENT").map_or(125, |percent| percent.parse().expect("PERCENT=NUMBER"))
}

/// A mapped BO with that version in it.
fn new(gpu: &Gpu, slot: usize, version: u32) -> harness::Result<Known> {
    Known::new(gpu, gpu.iova(slot as u64 * BO_SIZE), BO_SIZE, version)
}

/// One process: fills the BOs of `contexts`, then copies them over each other, checks, changes
/// their madvise state, replaces them. It writes a byte to `steps` after each, until nobody reads
/// them any more.
fn work(mut rng: Rng, contexts: usize, steps: OwnedFd) -> Outcome {
    let step = || match write(&steps, &[0]) {
        Err(Errno::EPIPE) => Ok(false),
        other => other.map(|_| true),
    };
    let mut versions = Versions::new(&mut rng);
    let mut all = Vec::new();
    for _ in 0..contexts {
        let gpu = Gpu::new()?;
        let bos = (0..BOS)
            .map(|slot| {
                let known = new(&gpu, slot, versions.fresh())?;
                step()?;
                Ok(known)
            })
            .collect::<harness::Result<Vec<_>>>()?;
        all.push((gpu, bos));
    }
    while step()? {
        let (gpu, bos) = &mut all[rng.usize(..contexts)];
        let (a, b) = (rng.usize(..BOS), rng.usize(..BOS));
        match rng.u32(..8) {
            0..=3 if a != b => {
                gpu.run(&bos[b].copy_from(Pm4::new(), &bos[a]))?;
                bos[b].version = bos[a].version;
                bos[b].check_by_gpu(gpu)?;
            }
            4 => bos[a].check_by_cpu()?,
            5 => bos[a].check_by_gpu(gpu)?,
            6 => {
                // Not needed for a while. A submit meanwhile would be refused once it is purged.
                bos[a].bo.madvise(MSM_MADV_DONTNEED)?;
                sleep(Duration::from_millis(rng.u64(..30)));
                if bos[a].bo.madvise(MSM_MADV_WILLNEED)? {
                    bos[a].check_by_cpu()?;
                } else {
                    gpu.unmap(bos[a].iova, BO_SIZE)?;
                    bos[a] = new(gpu, a, versions.fresh())?;
                }
            }
            _ => {
                gpu.unmap(bos[a].iova, BO_SIZE)?;
                bos[a] = new(gpu, a, versions.fresh())?;
            }
        }
    }
    // A last look at everything, wherever it is.
    all.iter()
        .try_for_each(|(_, bos)| bos.iter().try_for_each(Known::check_by_cpu))
}

/// Processes that work.
struct Workers {
    processes: Vec<Process>,
    /// Both ends of the pipe through which they tell of their steps, until they are to end.
    steps: Option<(OwnedFd, OwnedFd)>,
}

impl Workers {
    fn new() -> harness::Result<Self> {
        Ok(Self {
            processes: Vec::new(),
            steps: Some(pipe()?),
        })
    }

    /// Starts one more. None has been told to end.
    fn start(&mut self, rng: &mut Rng, contexts: usize) -> Outcome {
        let rng = rng.fork();
        self.processes.push(Process::start(|| {
            let (read, write) = self.steps.take().context("none has been told to end")?;
            drop(read);
            work(rng, contexts, write)
        })?);
        Ok(())
    }

    /// How many steps they have done since the last call, or none for a while.
    fn steps(&self) -> harness::Result<u64> {
        let Some((steps, _)) = &self.steps else {
            return Ok(0);
        };
        if poll(&mut [PollFd::new(steps.as_fd(), PollFlags::POLLIN)], 10u8)? == 0 {
            return Ok(0);
        }
        Ok(read(steps, &mut [0; 64])? as u64)
    }

    /// Tells them to end.
    fn stop(&mut self) {
        self.steps = None;
    }

    /// Takes leave of those that have ended. They should have done so when told to, and content.
    fn reap(&mut self) -> Outcome {
        let mut index = 0;
        while index < self.processes.len() {
            match self.processes[index].status()? {
                None => index += 1,
                Some(ended) => {
                    self.processes.swap_remove(index);
                    ensure_eq!(ended, Ended::With(0), "a process");
                }
            }
        }
        Ok(())
    }

    /// Kills one of them at random, which must not have ended.
    fn kill(&mut self, rng: &mut Rng) -> Outcome {
        let process = self
            .processes
            .swap_remove(rng.usize(..self.processes.len()));
        process.kill(Process::LONG)
    }
}

fn more_bos_than_memory(test: &mut Test) -> Outcome {
    let census = Census::new()?;
    let scale = if fault_injection::available() {
        1
    } else {
        FAST
    };
    let _hoard = memory::Hoard::leaving(scale * MEMORY).context("hoarding memory")?;
    let available = memory::meminfo("MemAvailable")?;
    let contexts = (available * percent() / 100 / PROCESSES).div_ceil(CONTEXT) as usize;
    let _swap = Swap::new(3 * available).context("swap")?;
    let counters = || -> harness::Result<_> {
        let keys = ["pswpout", "pswpin", "oom_kill", "workingset_refault_anon"];
        let mut values = [0; 4];
        for (value, key) in values.iter_mut().zip(keys) {
            *value = vmstat(key)?;
        }
        Ok(values)
    };
    let before = counters()?;
    let start = Instant::now();
    let limit = start + LIMIT;

    let mut workers = Workers::new()?;
    for _ in 0..PROCESSES {
        workers.start(&mut test.rng, contexts)?;
    }
    let (mut steps, mut killed) = (0, 0);
    // All BOs are there then.
    let mut due = PROCESSES * (contexts * BOS) as u64;
    loop {
        workers.reap()?;
        steps += workers.steps()?;
        ensure!(
            Instant::now() < limit,
            "{steps} of {due} steps, {killed} killed"
        );
        if steps < due {
            continue;
        }
        if killed == KILLS {
            break;
        }
        workers.kill(&mut test.rng)?;
        workers.start(&mut test.rng, contexts)?;
        killed += 1;
        due = steps + scale * test.rng.u64(STEPS);
    }
    workers.stop();
    while !workers.processes.is_empty() {
        workers.reap()?;
        ensure!(
            Instant::now() < limit,
            "{} processes don't end",
            workers.processes.len()
        );
        sleep(Duration::from_millis(10));
    }
    let end = Instant::now();

    let after = counters()?;
    println!(
        "# {PROCESSES} processes with {} BOs of {} KiB, {} MiB available: {} pages out, {} in, \
         {} refaults, {steps} steps, {killed} killed, {:.1} s",
        contexts * BOS,
        BO_SIZE / 1024,
        available / MIB,
        after[0] - before[0],
        after[1] - before[1],
        after[3] - before[3],
        (end - start).as_secs_f64()
    );
    ensure_eq!(after[2], before[2], "processes killed for want of memory");
    ensure!(
        after[0] > before[0] && after[1] > before[1],
        "there was no shortage: nothing was swapped"
    );
    census.restored()
}

fn main() -> ExitCode {
    harness::main(harness::cases![more_bos_than_memory])
}
