// SPDX-License-Identifier: GPL-2.0-only

//! More BOs in use than there is memory, by many processes at once: each SUBMIT, each copy by a CPU
//! brings some back and pushes others out. Nobody is refused, nobody killed, nothing lost.

use harness::{ensure, ensure_eq, Context, Ended, Outcome, Process, Rng, Test};
use programs::{
    known::{Known, Versions},
    Census, Gpu,
};
use std::{
    env,
    os::fd::AsFd,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    memory,
    swap::{vmstat, Swap},
    Bo, Pm4,
};

const PROCESSES: u64 = 18;
/// BOs of a process, all of which a SUBMIT of its needs.
const BOS: usize = 8;
const SIZE: u64 = 1040 << 10;
/// What the BOs of all processes take.
const NEEDED: u64 = PROCESSES * BOS as u64 * SIZE;
/// What a context takes beside them: the BOs of [`Gpu`], page tables, metadata.
const CONTEXT: u64 = 5 << 18;
/// What a process takes beside that.
const PROCESS: u64 = 3 << 18;

/// A process that was killed is gone by then: each page that it frees is looked at.
const SOON: Duration = Duration::from_secs(60);

/// How much more all of them take than there is, in percent.
fn more() -> u64 {
    env::var("MORE").map_or(60, |more| more.parse().expect("MORE=PERCENT"))
}

/// How often each process copies.
fn steps() -> u32 {
    env::var("STEPS").map_or(6, |steps| steps.parse().expect("STEPS=NUMBER"))
}

/// How a process copies one BO over another.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// By the GPU.
    Gpu,
    /// By the CPU.
    Mmap,
    /// By the GPU, in another context, which has imported the BOs.
    DmaBuf,
}

/// The process's part.
fn work(mut rng: Rng, by: By, dontneed: bool) -> Outcome {
    let mut versions = Versions::new(&mut rng);
    let gpu = Gpu::new()?;
    let importer = (by == By::DmaBuf).then(Gpu::new).transpose()?;
    let new = |slot: usize, version| {
        let known = Known::new(&gpu, gpu.iova(slot as u64 * SIZE), SIZE, version)?;
        if let Some(importer) = &importer {
            let dma_buf = known.bo.export().context("export")?;
            let bo = Bo::import(&importer.device, dma_buf.as_fd(), SIZE).context("import")?;
            // The VMA keeps it, and goes when another one takes its place.
            importer.map(&bo, known.iova)?;
        }
        Ok(known)
    };
    let mut bos = (0..BOS)
        .map(|slot| new(slot, versions.fresh()))
        .collect::<harness::Result<Vec<_>>>()?;
    for _ in 0..steps() {
        let a = rng.usize(..BOS);
        let b = (a + rng.usize(1..BOS)) % BOS;
        if by == By::Mmap {
            let (from, to) = (bos[a].bo.map()?, bos[b].bo.map()?);
            (0..from.len()).for_each(|at| to.write(at, from.read(at)));
        } else {
            let copy = bos[b].copy_from(Pm4::new(), &bos[a]);
            importer.as_ref().unwrap_or(&gpu).run(&copy)?;
        }
        bos[b].version = bos[a].version;
        match by {
            By::Mmap => bos[b].check_by_cpu()?,
            By::Gpu | By::DmaBuf => bos[b].check_by_gpu(&gpu)?,
        }
        if dontneed {
            let c = rng.usize(..BOS);
            bos[c].bo.madvise(MSM_MADV_DONTNEED)?;
            sleep(Duration::from_millis(rng.u64(..30)));
            if !bos[c].bo.madvise(MSM_MADV_WILLNEED)? {
                // It never gets pages again.
                bos[c] = new(c, versions.fresh())?;
            }
        }
    }
    bos.iter().try_for_each(Known::check_by_cpu)
}

/// What all of them may have, with so many contexts each.
fn space(contexts: u64) -> u64 {
    NEEDED * 100 / (100 + more()) + PROCESSES * (contexts * CONTEXT + PROCESS)
}

fn overcommitted(test: &mut Test, by: By, dontneed: bool) -> Outcome {
    let census = Census::new()?;
    let space = space(if by == By::DmaBuf { 2 } else { 1 });
    let _hoard = memory::Hoard::leaving(space).context("hoarding memory")?;
    let _swap = Swap::new(1 << 30).context("swap")?;
    let counters = || -> harness::Result<_> {
        Ok([vmstat("oom_kill")?, vmstat("pswpout")?, vmstat("pswpin")?])
    };
    let before = counters()?;
    let start = Instant::now();
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let rng = test.rng.fork();
        processes.push(Process::start(|| work(rng, by, dontneed))?);
    }
    let mut failed = 0;
    for process in &mut processes {
        failed += u32::from(process.end(Process::LONG)? != Ended::With(0));
    }
    let after = counters()?;
    println!(
        "# {PROCESSES} processes with {BOS} BOs of {} KiB each, {} % more than memory: {} pages out, \
         {} in, {} killed for want of memory, {failed} failed, {:.1} s",
        SIZE >> 10,
        more(),
        after[1] - before[1],
        after[2] - before[2],
        after[0] - before[0],
        start.elapsed().as_secs_f64()
    );
    ensure_eq!(after[0], before[0], "killed for want of memory");
    ensure_eq!(failed, 0, "processes that failed");
    ensure!(after[1] > before[1], "there was no shortage");
    census.restored()
}

/// Has the kernel read BOs that are swapped out, again and again.
fn read_by_kernel() -> Outcome {
    let gpu = Gpu::new()?;
    let bos = (0..BOS)
        .map(|_| Ok(Bo::new(&gpu.device, SIZE)?.map()?))
        .collect::<harness::Result<Vec<_>>>()?;
    loop {
        for map in &bos {
            map.try_read(0)?;
        }
    }
}

/// A process is killed while it is in a system call that accesses a BO, which may wait for memory.
/// It ends soon.
fn killed_in_a_system_call(test: &mut Test) -> Outcome {
    let census = Census::new()?;
    let _hoard = memory::Hoard::leaving(NEEDED / 2).context("hoarding memory")?;
    let _swap = Swap::new(1 << 30).context("swap")?;
    let before = vmstat("pswpout")?;
    let start = Instant::now();
    let mut processes = Vec::new();
    let mut killed = 0;
    while start.elapsed() < Duration::from_secs(20) {
        while (processes.len() as u64) < PROCESSES {
            processes.push(Process::start(read_by_kernel)?);
        }
        sleep(Duration::from_millis(test.rng.u64(..400)));
        let process = processes.swap_remove(test.rng.usize(..processes.len()));
        process.kill(SOON)?;
        killed += 1;
    }
    for process in processes {
        process.kill(SOON)?;
    }
    let pages = vmstat("pswpout")? - before;
    println!("# {killed} killed, and then the last {PROCESSES}; {pages} pages out");
    ensure!(pages > 0, "there was no shortage");
    census.restored()
}

fn by_gpu(test: &mut Test) -> Outcome {
    overcommitted(test, By::Gpu, false)
}

fn by_gpu_with_dontneed(test: &mut Test) -> Outcome {
    overcommitted(test, By::Gpu, true)
}

fn by_mmap(test: &mut Test) -> Outcome {
    overcommitted(test, By::Mmap, false)
}

fn by_mmap_with_dontneed(test: &mut Test) -> Outcome {
    overcommitted(test, By::Mmap, true)
}

fn through_dma_bufs(test: &mut Test) -> Outcome {
    overcommitted(test, By::DmaBuf, false)
}

fn through_dma_bufs_with_dontneed(test: &mut Test) -> Outcome {
    overcommitted(test, By::DmaBuf, true)
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        by_gpu,
        by_gpu_with_dontneed,
        by_mmap,
        by_mmap_with_dontneed,
        through_dma_bufs,
        through_dma_bufs_with_dontneed,
        killed_in_a_system_call,
    ])
}
