// SPDX-License-Identifier: GPL-2.0-only

//! Two bind queues on one VM. Page tables change in the order of the ioctls wherever two jobs touch
//! the same addresses; jobs that don't are independent.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{eventually, model::Model, pattern, Gpu, Tolerance, PATIENCE};
use std::{process::ExitCode, thread::sleep, time::Duration};
use uapi::{memory, Bo, HeldFence, SubmitQueue, SyncFile, VmBind, PAGE};

struct TwoQueues {
    tolerance: Tolerance,
    gpu: Gpu,
    second: SubmitQueue,
    model: Model,
}

impl TwoQueues {
    fn new() -> harness::Result<Self> {
        let tolerance = Tolerance::new()?;
        let gpu = Gpu::new()?;
        let second = SubmitQueue::new_vm_bind(&gpu.device).context("second queue")?;
        let model = Model::new(gpu.iova(0), 16);
        Ok(Self {
            tolerance,
            gpu,
            second,
            model,
        })
    }

    fn on_second(&self) -> VmBind<'_> {
        VmBind::new(&self.second)
    }

    /// Gives jobs that shouldn't run yet the time to, and compares with what was there before them.
    fn check_held(&self, before: &Model, held: &HeldFence) -> Outcome {
        sleep(Duration::from_millis(200));
        before.check(&self.gpu, &self.tolerance, "while the first waits")?;
        held.still_held().context("the fence was held")
    }

    /// Lets go, waits for all, compares.
    fn finish(&self, held: HeldFence, jobs: &[&SyncFile]) -> Outcome {
        held.signal().context("the fence was held")?;
        for (n, job) in jobs.iter().enumerate() {
            job.wait(PATIENCE).with_context(|| format!("job {n}"))?;
            ensure_eq!(job.status()?, Some(Ok(())), "job {n}'s fence");
        }
        self.model.check(&self.gpu, &self.tolerance, "after all")
    }
}

/// One queue waits, the other works elsewhere and doesn't wait.
fn disjoint_ranges_are_independent(_: &mut Test) -> Outcome {
    let mut t = TwoQueues::new()?;
    let (a, b) = (t.gpu.bo(1, 4 * PAGE)?, t.gpu.bo(2, 4 * PAGE)?);
    let held = HeldFence::new().context("held fence")?;
    let one = t
        .gpu
        .bind()
        .map(&a, 0, t.model.iova(0), 4 * PAGE)
        .after(held.file())
        .send()
        .context("MAP that waits")?;
    t.on_second()
        .map(&b, 0, t.model.iova(8), 4 * PAGE)
        .send_and_wait()
        .context("MAP elsewhere on the other queue")?;
    t.model.map(2, 0, 8, 4);
    t.model.check(&t.gpu, &t.tolerance, "while one waits")?;
    t.on_second()
        .unmap(t.model.iova(9), 2 * PAGE)
        .send_and_wait()
        .context("UNMAP elsewhere on the other queue")?;
    t.model.unmap(9, 2);
    t.model.check(&t.gpu, &t.tolerance, "while one waits")?;
    ensure!(!one.is_signaled()?, "the MAP that waits is done");
    t.model.map(1, 0, 0, 4);
    t.finish(held, &[&one])
}

/// MAP waits, UNMAP on the other queue: in the end it is unmapped, and the BO's pages are out of
/// reach.
fn defect_16_map_then_unmap(_: &mut Test) -> Outcome {
    let t = TwoQueues::new()?;
    let bo = t.gpu.bo(1, 4 * PAGE)?;
    let held = HeldFence::new().context("held fence")?;
    let one = t
        .gpu
        .bind()
        .map(&bo, 0, t.model.iova(0), 4 * PAGE)
        .after(held.file())
        .send()
        .context("MAP that waits")?;
    let two = t
        .on_second()
        .unmap(t.model.iova(0), 4 * PAGE)
        .send()
        .context("UNMAP on the other queue")?;
    t.check_held(&t.model, &held)?;
    let finished = t.finish(held, &[&one, &two]);
    // Its pages go while its VM is there: that is when the watch sees what still leads to them. A
    // worker may be the one that drops the BO's last reference, and later its file's.
    let shmem = || -> harness::Result<u64> {
        memory::settle_counters()?;
        Ok(memory::shmem()?)
    };
    let before = shmem()?;
    drop(bo);
    let gone = eventually("its pages to go", || Ok(shmem()? + 4 * PAGE <= before));
    finished.and(gone)
}

/// UNMAP waits, MAP of something else there on the other queue: in the end that is mapped.
fn defect_16_unmap_then_map(_: &mut Test) -> Outcome {
    let mut t = TwoQueues::new()?;
    let (a, b) = (t.gpu.bo(1, 4 * PAGE)?, t.gpu.bo(2, 4 * PAGE)?);
    t.gpu.map(&a, t.model.iova(0))?;
    t.model.map(1, 0, 0, 4);
    let held = HeldFence::new().context("held fence")?;
    let one = t
        .gpu
        .bind()
        .unmap(t.model.iova(0), 4 * PAGE)
        .after(held.file())
        .send()
        .context("UNMAP that waits")?;
    let two = t
        .on_second()
        .map(&b, 0, t.model.iova(0), 4 * PAGE)
        .send()
        .context("MAP on the other queue")?;
    t.check_held(&t.model, &held)?;
    t.model.map(2, 0, 0, 4);
    t.finish(held, &[&one, &two])
}

/// Two MAPs over each other, in part.
fn defect_16_map_over_map(_: &mut Test) -> Outcome {
    let mut t = TwoQueues::new()?;
    let (a, b) = (t.gpu.bo(1, 8 * PAGE)?, t.gpu.bo(2, 8 * PAGE)?);
    let held = HeldFence::new().context("held fence")?;
    let one = t
        .gpu
        .bind()
        .map(&a, 0, t.model.iova(0), 8 * PAGE)
        .after(held.file())
        .send()
        .context("MAP that waits")?;
    let two = t
        .on_second()
        .map(&b, 0, t.model.iova(4), 8 * PAGE)
        .send()
        .context("MAP on the other queue")?;
    t.check_held(&t.model, &held)?;
    t.model.map(1, 0, 0, 4);
    t.model.map(2, 0, 4, 8);
    t.finish(held, &[&one, &two])
}

/// Back and forth: each job touches what the one before touched, on the other queue.
fn defect_16_chain(test: &mut Test) -> Outcome {
    let mut t = TwoQueues::new()?;
    let bos: Vec<Bo> = (1..4)
        .map(|tag| t.gpu.bo(tag, 16 * PAGE))
        .collect::<harness::Result<_>>()?;
    let held = HeldFence::new().context("held fence")?;
    let mut jobs = Vec::new();
    for n in 0..24 {
        let count = test.rng.usize(1..=8);
        let at = test.rng.usize(0..=16 - count);
        let (iova, range) = (t.model.iova(at), count as u64 * PAGE);
        let tag = test.rng.usize(..bos.len());
        let mut bind = if n % 2 == 0 {
            t.gpu.bind()
        } else {
            t.on_second()
        };
        if n == 0 {
            bind = bind.after(held.file());
        }
        let unmap = test.rng.u8(..3) == 0;
        let bind = if unmap {
            bind.unmap(iova, range)
        } else {
            bind.map(&bos[tag], at as u64 * PAGE, iova, range)
        };
        jobs.push(bind.send().with_context(|| format!("job {n}"))?);
        if unmap {
            t.model.unmap(at, count);
        } else {
            t.model.map(tag as u32 + 1, at, at, count);
        }
    }
    sleep(Duration::from_millis(200));
    let jobs: Vec<&SyncFile> = jobs.iter().collect();
    t.finish(held, &jobs)
}

/// The same fence lets both queues go: no deadlock, and order still holds.
fn one_fence_for_both(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let second = SubmitQueue::new_vm_bind(&gpu.device).context("second queue")?;
    let (a, b) = (gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?);
    let held = HeldFence::new().context("held fence")?;
    let one = gpu
        .bind()
        .map(&a, 0, gpu.iova(0), PAGE)
        .after(held.file())
        .send()?;
    let two = VmBind::new(&second)
        .map(&b, 0, gpu.iova(PAGE), PAGE)
        .after(held.file())
        .send()?;
    held.signal().context("the fence was held")?;
    one.wait(PATIENCE).context("first queue")?;
    two.wait(PATIENCE).context("second queue")?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(PAGE)])?,
        [pattern(1, 0), pattern(2, 0)],
        "after both"
    );
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        disjoint_ranges_are_independent,
        one_fence_for_both,
        defect_16_map_then_unmap,
        defect_16_unmap_then_map,
        defect_16_map_over_map,
        defect_16_chain,
    ])
}
