// SPDX-License-Identifier: GPL-2.0-only

//! Buffer objects: mmap, madvise, names, imports, and every order of what two contexts do with two
//! BOs.

use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{check_unpinned, pattern, Census, Gpu, Tolerance, PATIENCE};
use std::{os::fd::AsFd, process::ExitCode, time::Duration};
use uapi::{
    abi::{self, MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    debugfs, module,
    vgem::{Buffer, Importer},
    Bo, Device, Errno, HeldFence, Pm4, Tracepoint, PAGE,
};

const PAGES: u64 = 4;

/// What a mapping shows doesn't depend on what else is still mapped.
fn defect_23_part_of_a_mapping(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGES * PAGE)?;
    let map = bo.map()?;
    map.unmap_front(PAGE)?;
    for page in 1..PAGES as usize {
        ensure_eq!(
            map.read(page * 1024 + 7),
            pattern(1, page * 1024 + 7),
            "page {page} after page 0 was unmapped"
        );
    }
    Ok(())
}

/// A private mapping can't be had: the kernel has no pages to copy.
fn defect_24_private_mapping(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    ensure_errno!(bo.map_private(), Errno::EINVAL, "MAP_PRIVATE");
    ensure_eq!(bo.map()?.read(3), pattern(1, 3), "a shared mapping");
    Ok(())
}

/// What isn't needed can't be accessed, and that is nothing for the kernel to complain about.
fn defect_25_access_to_what_is_not_needed(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    ensure!(bo.madvise(MSM_MADV_DONTNEED)?, "not retained");
    let map = bo.map()?;
    ensure_errno!(map.try_read(0), Errno::EFAULT, "DONTNEED");
    ensure!(bo.madvise(MSM_MADV_WILLNEED)?, "not retained");
    ensure_eq!(map.try_read(5)?, pattern(1, 5), "WILLNEED");
    check_unpinned(&bo)?;
    ensure_errno!(map.try_read(5), Errno::EFAULT, "purged");
    Ok(())
}

/// Pages that the GPU accesses behind the CPUs' caches are cleaned when they come, and invalidated
/// when they go.
fn defect_40_cached_pages_are_maintained(_: &mut Test) -> Outcome {
    // Of the GPU alone: other devices either read or write.
    let count = |tracepoint: &Tracepoint| -> harness::Result<usize> {
        let events = tracepoint.events()?;
        Ok(events.iter().filter(|e| e.contains("BIDIR")).count())
    };
    let device = Device::open()?;
    // Those of files that were closed before have gone, too.
    Census::now()?;
    for (flags, name) in [(abi::MSM_BO_WC, "WC"), (abi::MSM_BO_CACHED, "CACHED")] {
        let bo = Bo::with_flags(&device, PAGES * PAGE, flags)?;
        let maps = Tracepoint::of("dma", "dma_map_sg").context("tracing")?;
        bo.fill(|i| pattern(1, i))?;
        ensure_eq!(count(&maps)?, 1, "a new {name} BO");
        drop(maps);
        let unmaps = Tracepoint::of("dma", "dma_unmap_sg").context("tracing")?;
        check_unpinned(&bo)?;
        ensure_eq!(count(&unmaps)?, 1, "a purged {name} BO");
    }
    Ok(())
}

/// A mapping that is in use loses its pages with the purge.
fn purged_while_mapped(_: &mut Test) -> Outcome {
    let vadreno = uapi::vadreno::Vadreno::open().context("virtual Adreno")?;
    // Where contexts had tables that are gone there may be anything by now.
    vadreno.forget_all();
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    let map = bo.map()?;
    ensure_eq!(map.read(0), pattern(1, 0), "through the mapping");
    gpu.map(&bo, gpu.iova(0))?;
    let uapi::vadreno::Translation::Mapped(phys) = ({
        gpu.read(gpu.iova(0), 1)?;
        vadreno.translate(gpu.iova(0))?
    }) else {
        harness::bail!("not mapped");
    };
    check_unpinned(&bo)?;
    ensure_eq!(
        vadreno.reachable(phys & !(PAGE - 1))?,
        0,
        "ways to a page that was given back"
    );
    // The state is checked before the kernel looks for pages: no splat from ours, see defect 25.
    Ok(())
}

/// Names and metadata, in their limits.
fn names_and_metadata(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    bo.set_name("tests/guest: a name of 31 bytes")?;
    ensure!(
        debugfs::gem()?.contains("tests/guest: a name of 31 bytes"),
        "debugfs doesn't show the name"
    );
    ensure_errno!(
        bo.set_name("one byte more than there is room"),
        Errno::EINVAL,
        "a name of 32 bytes"
    );
    ensure_eq!(bo.metadata()?, Vec::<u8>::new(), "no metadata");
    for len in [1, 128, 3] {
        let data: Vec<u8> = (0..len).map(|i| i as u8 ^ 0x5a).collect();
        bo.set_metadata(&data)?;
        ensure_eq!(bo.metadata()?, data, "{len} bytes of metadata");
    }
    ensure_errno!(
        bo.set_metadata(&[0; 129]),
        Errno::EOVERFLOW,
        "129 bytes of metadata"
    );
    ensure_eq!(bo.metadata()?.len(), 3, "metadata after an error");
    Ok(())
}

/// CPU_PREP waits for fences of other drivers, too, as long as it is told to.
fn cpu_prep(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    bo.cpu_prep(abi::MSM_PREP_READ | abi::MSM_PREP_WRITE, Duration::ZERO)
        .context("an idle BO")?;
    ensure_errno!(
        bo.cpu_prep(0x8000_0000, Duration::ZERO),
        Errno::EINVAL,
        "an unknown flag"
    );
    // In a context of its own, whose submits attach themselves to what they list.
    let device = Device::open()?;
    let queue = uapi::SubmitQueue::new(&device, 0)?;
    let (cmds, target) = (Bo::new(&device, PAGE)?, Bo::new(&device, PAGE)?);
    let commands = Pm4::new().mem_write(target.iova()?, &[0x77]).barrier();
    let map = cmds.map()?;
    for (i, dword) in commands.dwords().iter().enumerate() {
        map.write(i, *dword);
    }
    let held = HeldFence::new().context("held fence")?;
    let submitted = uapi::Submit::new(&queue)
        .bo(&cmds, abi::MSM_SUBMIT_BO_READ)
        .bo(&target, abi::MSM_SUBMIT_BO_WRITE)
        .cmd_in(0, 0, commands.size())
        .after(held.file())
        .send()
        .context("SUBMIT")?;
    ensure_errno!(
        target.cpu_prep(
            abi::MSM_PREP_READ | abi::MSM_PREP_NOSYNC,
            Duration::from_secs(1)
        ),
        Errno::EBUSY,
        "NOSYNC while the GPU writes"
    );
    ensure_errno!(
        target.cpu_prep(abi::MSM_PREP_READ, Duration::from_millis(30)),
        Errno::ETIMEDOUT,
        "30 ms while the GPU writes"
    );
    held.signal().context("the fence was held")?;
    target
        .cpu_prep(abi::MSM_PREP_READ, PATIENCE)
        .context("until the GPU has written")?;
    ensure_eq!(target.map()?.read(0), 0x77, "what the GPU wrote");
    submitted.wait(PATIENCE)?;
    Ok(())
}

/// Somebody else's buffer, read and written by the GPU. It can't be thrown away.
fn foreign_buffer(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    {
        let buffer = Buffer::new(PAGES * PAGE).context("vgem")?;
        buffer.fill(PAGES * PAGE, |i| pattern(3, i))?;
        let bo = Bo::import(&gpu.device, buffer.dma_buf_fd(), PAGES * PAGE).context("import")?;
        gpu.map(&bo, gpu.iova(0))?;
        for page in 0..PAGES as usize {
            ensure_eq!(
                gpu.read(gpu.iova(page as u64 * PAGE), 1)?,
                [pattern(3, page * 1024)],
                "page {page}"
            );
        }
        bo.madvise(MSM_MADV_DONTNEED)?;
        debugfs::shrink(1 << 20)?;
        ensure!(bo.madvise(MSM_MADV_WILLNEED)?, "a foreign buffer purged");
        gpu.write(gpu.iova(PAGE), &[0x1234])?;
        ensure_eq!(gpu.read(gpu.iova(PAGE), 1)?, [0x1234], "what it wrote");
        gpu.unmap(gpu.iova(0), PAGES * PAGE)?;
    }
    before.restored()
}

/// Other drivers use a BO by its dma-buf: as long as one is attached, the pages stay.
fn used_by_others(_: &mut Test) -> Outcome {
    let before = Census::new()?;
    {
        let bo = Bo::new(&Device::open()?, PAGES * PAGE)?;
        bo.fill(|i| pattern(1, i))?;
        let fd = bo.export().context("export")?;
        for n in 1..4 {
            module::use_dma_buf(fd.as_fd()).context("the glue module")?;
            ensure_eq!(bo.map()?.read(0), pattern(1, 0) + n, "counted up");
        }
        let vgem = Importer::new().context("vgem")?;
        vgem.import(fd.as_fd()).context("import by vgem")?;
        bo.madvise(MSM_MADV_DONTNEED)?;
        debugfs::shrink(1 << 20)?;
        ensure!(bo.madvise(MSM_MADV_WILLNEED)?, "purged while attached");
        ensure_eq!(bo.map()?.read(3000), pattern(1, 3000), "its content");
        drop(vgem);
        check_unpinned(&bo).context("once nobody is attached")?;
        module::use_dma_buf(fd.as_fd())
            .err()
            .context("a purged BO was attached to")?;
    }
    before.restored()
}

/// Exported while mapped and not needed, imported elsewhere: one BO, one state.
fn exported(_: &mut Test) -> Outcome {
    let (a, b) = (Gpu::new()?, Gpu::new()?);
    let before = Census::now()?;
    {
        let bo = a.bo(1, PAGES * PAGE)?;
        let fd = bo.export().context("export")?;
        let other = Bo::import(&b.device, fd.as_fd(), PAGES * PAGE)?;
        drop(bo);
        b.map(&other, b.iova(0))?;
        drop(other);
        ensure_eq!(
            b.read(b.iova(2 * PAGE), 1)?,
            [pattern(1, 2048)],
            "by its mapping alone"
        );
        let again = Bo::import(&a.device, fd.as_fd(), PAGES * PAGE)?;
        drop(fd);
        ensure_eq!(again.map()?.read(9), pattern(1, 9), "by its last handle");
        b.unmap(b.iova(0), PAGES * PAGE)?;
        ensure_eq!(again.map()?.read(9), pattern(1, 9), "after the unmap");
    }
    before.restored()
}

/// What two contexts do with two BOs, in every order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// This BO isn't needed.
    Dont(usize),
    /// It is.
    Will(usize),
    /// The shrinker runs.
    Shrink,
    /// Context, BO.
    Map(usize, usize),
    Unmap(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Will,
    Dont,
    Purged,
}

struct Pair<'g> {
    gpus: &'g [Gpu; 2],
    /// By context, then by BO.
    bos: [[Bo; 2]; 2],
    states: [State; 2],
    mapped: [[bool; 2]; 2],
}

impl<'g> Pair<'g> {
    fn new(gpus: &'g [Gpu; 2]) -> harness::Result<Self> {
        let own = [gpus[0].bo(1, PAGES * PAGE)?, gpus[0].bo(2, PAGES * PAGE)?];
        let import = |bo: &Bo| -> harness::Result<Bo> {
            let fd = bo.export()?;
            Ok(Bo::import(&gpus[1].device, fd.as_fd(), PAGES * PAGE)?)
        };
        let others = [import(&own[0])?, import(&own[1])?];
        Ok(Self {
            gpus,
            bos: [own, others],
            states: [State::Will; 2],
            mapped: [[false; 2]; 2],
        })
    }

    fn iova(&self, ctx: usize, bo: usize) -> u64 {
        self.gpus[ctx].iova(bo as u64 * 16 * PAGE)
    }

    fn step(&mut self, step: Step) -> Outcome {
        match step {
            Step::Dont(bo) | Step::Will(bo) => {
                let (raw, state) = if step == Step::Will(bo) {
                    (MSM_MADV_WILLNEED, State::Will)
                } else {
                    (MSM_MADV_DONTNEED, State::Dont)
                };
                // Either handle will do.
                let retained = self.bos[bo][bo].madvise(raw)?;
                ensure_eq!(retained, self.states[bo] != State::Purged, "{step:?}");
                if retained {
                    self.states[bo] = state;
                }
            }
            Step::Shrink => {
                debugfs::shrink(1 << 20)?;
                for (bo, state) in self.bos[0].iter().zip(&mut self.states) {
                    if *state == State::Dont {
                        check_unpinned(bo)?;
                        *state = State::Purged;
                    }
                }
            }
            Step::Map(ctx, bo) => {
                let result = self.gpus[ctx]
                    .bind()
                    .map(&self.bos[ctx][bo], 0, self.iova(ctx, bo), PAGES * PAGE)
                    .send_and_wait();
                if self.states[bo] == State::Will {
                    result.with_context(|| format!("{step:?}"))?;
                    self.mapped[ctx][bo] = true;
                } else {
                    ensure_errno!(
                        result,
                        Errno::EBUSY,
                        "{step:?} of a BO that is {:?}",
                        self.states[bo]
                    );
                }
            }
            Step::Unmap(ctx, bo) => {
                self.gpus[ctx].unmap(self.iova(ctx, bo), PAGES * PAGE)?;
                self.mapped[ctx][bo] = false;
            }
        }
        Ok(())
    }

    /// Everything is as it should be, then as it was.
    fn finish(mut self) -> Outcome {
        for ctx in 0..2 {
            for bo in 0..2 {
                // With a purged BO mapped, the context couldn't submit.
                if self.states[bo] == State::Purged {
                    self.step(Step::Unmap(ctx, bo))?;
                }
            }
            for bo in 0..2 {
                if self.mapped[ctx][bo] {
                    let at = (PAGES - 1) * PAGE;
                    ensure_eq!(
                        self.gpus[ctx].read(self.iova(ctx, bo) + at, 1)?,
                        [pattern(bo as u32 + 1, at as usize / 4)],
                        "BO {bo} by context {ctx}"
                    );
                }
            }
        }
        for bo in 0..2 {
            self.step(Step::Will(bo))?;
            if self.states[bo] == State::Will {
                ensure_eq!(
                    self.bos[1][bo].map()?.read(1024),
                    pattern(bo as u32 + 1, 1024),
                    "BO {bo} by the CPU"
                );
            }
            for ctx in 0..2 {
                self.step(Step::Unmap(ctx, bo))?;
            }
        }
        Ok(())
    }
}

const STEPS: [Step; 7] = [
    Step::Dont(0),
    Step::Will(0),
    Step::Dont(1),
    Step::Shrink,
    Step::Map(0, 0),
    Step::Map(1, 0),
    Step::Map(0, 1),
];

/// Every order of three steps. That the other context's handle is of the same BO is what it takes.
fn defect_28_every_order(test: &mut Test) -> Outcome {
    let gpus = [Gpu::new()?, Gpu::new()?];
    let before = Census::now()?;
    for n in test.rounds(STEPS.len().pow(3)) {
        let steps = [n / 49, n / 7 % 7, n % 7].map(|i| STEPS[i]);
        let run = || {
            let mut pair = Pair::new(&gpus)?;
            for step in steps {
                pair.step(step)?;
            }
            pair.finish()
        };
        run().with_context(|| format!("{steps:?}"))?;
    }
    before.restored()
}

/// Long walks.
fn defect_28_any_order(test: &mut Test) -> Outcome {
    let gpus = [Gpu::new()?, Gpu::new()?];
    let before = Census::now()?;
    for _ in 0..20 {
        let mut steps = Vec::new();
        let mut run = || {
            let mut pair = Pair::new(&gpus)?;
            for _ in 0..20 {
                let step = match test.rng.usize(..9) {
                    n @ 0..7 => STEPS[n],
                    7 => Step::Will(1),
                    _ => Step::Unmap(test.rng.usize(..2), test.rng.usize(..2)),
                };
                steps.push(step);
                pair.step(step)?;
            }
            pair.finish()
        };
        run().with_context(|| format!("{steps:?}"))?;
    }
    before.restored()
}

/// CPUs access a BO by several mappings while the shrinker takes pages away from others, and the BO
/// is mapped and unmapped.
fn faults_and_shrinker(_: &mut Test) -> Outcome {
    let _tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 16 * PAGE)?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> Outcome {
            while !done.load(order) {
                let map = bo.map()?;
                for page in 0..16 {
                    ensure_eq!(
                        map.read(page * 1024 + 1),
                        pattern(1, page * 1024 + 1),
                        "page {page}"
                    );
                }
            }
            Ok(())
        });
        let run = || -> Outcome {
            for n in 0..40 {
                let victim = gpu.bo(2, 16 * PAGE)?;
                gpu.map(&bo, gpu.iova(0))?;
                gpu.map(&victim, gpu.iova(32 * PAGE))?;
                gpu.unmap(gpu.iova(32 * PAGE), 16 * PAGE)?;
                check_unpinned(&victim).with_context(|| format!("round {n}"))?;
                gpu.unmap(gpu.iova(0), 16 * PAGE)?;
            }
            Ok(())
        };
        let result = run();
        done.store(true, order);
        let reader = reader.join().expect("the reader's thread");
        result.and(reader)
    })
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        names_and_metadata,
        cpu_prep,
        foreign_buffer,
        used_by_others,
        exported,
        purged_while_mapped,
        faults_and_shrinker,
        defect_23_part_of_a_mapping,
        defect_24_private_mapping,
        defect_25_access_to_what_is_not_needed,
        defect_40_cached_pages_are_maintained,
        defect_28_every_order,
        defect_28_any_order,
    ])
}
