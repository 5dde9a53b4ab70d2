// SPDX-License-Identifier: GPL-2.0-only

//! Every allocation of a request fails once: it is refused with ENOMEM, changes nothing and leaks nothing; or it didn't
//! need that memory, and has happened in full.
//!
//! Needs a kernel with fault injection and kmemleak (`tests/vm --kernel debug`).

use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use programs::{model::Model, Census, Gpu, Tolerance};
use std::{process::ExitCode, thread::sleep, time::Duration};
use uapi::{debugfs, fault_injection, Bo, Errno, HeldFence, Syncobj, VmBind, PAGE};

const PAGES: usize = 24;

/// More failures than any request can have allocations; reaching it means that counting went wrong.
const ENDLESS: u32 = 2000;

struct Bench {
    tolerance: Tolerance,
    gpu: Gpu,
    bos: [Bo; 2],
    start: Model,
}

impl Bench {
    /// Pages 4 to 20 of the window are mapped.
    fn new() -> harness::Result<Self> {
        ensure!(
            fault_injection::available(),
            "this kernel has no fault injection"
        );
        ensure!(
            debugfs::kmemleak::available(),
            "this kernel has no kmemleak"
        );
        fault_injection::set_up().context("failslab")?;
        let tolerance = Tolerance::new()?;
        let gpu = Gpu::new()?;
        let bos = [gpu.bo(1, 24 * PAGE)?, gpu.bo(2, 24 * PAGE)?];
        let mut start = Model::new(gpu.iova(0x20_0000 - 12 * PAGE), PAGES);
        start.map(1, 0, 4, 16);
        let bench = Self {
            tolerance,
            gpu,
            bos,
            start,
        };
        bench.restore()?;
        Ok(bench)
    }

    /// Back to the start, whatever has become of it.
    fn restore(&self) -> Outcome {
        self.gpu
            .bind()
            .unmap(self.start.iova(0), PAGES as u64 * PAGE)
            .unmap(self.gpu.iova(1 << 40), 1 << 32)
            .map(&self.bos[0], 0, self.start.iova(4), 16 * PAGE)
            .send_and_wait()
            .context("restoring the start")?;
        self.start
            .check(&self.gpu, &self.tolerance, "restoring the start")
    }

    /// Sends `request` with its first, second, … allocation failing until none fails any more.
    fn each_allocation(
        &self,
        request: impl Fn(&Self) -> harness::Result<VmBind<'_>>,
        end: &Model,
    ) -> Outcome {
        let objects = debugfs::gem_total()?;
        let mut refused = 0;
        for n in 1..ENDLESS {
            let bind = request(self)?;
            let (result, failed) =
                fault_injection::failing_nth(n, || bind.send()).context("fail-nth")?;
            match result {
                Ok(fence) => {
                    fence.wait(programs::PATIENCE).context("the job")?;
                    ensure_eq!(
                        fence.status()?,
                        Some(Ok(())),
                        "the fence of allocation {n}'s job"
                    );
                    end.check(
                        &self.gpu,
                        &self.tolerance,
                        &format!("done though allocation {n} may have failed"),
                    )?;
                    self.restore()?;
                }
                Err(Errno::ENOMEM) if failed => {
                    refused += 1;
                    self.start.check(
                        &self.gpu,
                        &self.tolerance,
                        &format!("refused when allocation {n} failed"),
                    )?;
                    // Accepted when asked again, and then it does happen.
                    bind.send_and_wait()
                        .with_context(|| format!("again after allocation {n} failed"))?;
                    end.check(
                        &self.gpu,
                        &self.tolerance,
                        &format!("again after allocation {n} failed"),
                    )?;
                    self.restore()?;
                }
                Err(e) => bail!("allocation {n} failed ({failed}): {e}"),
            }
            ensure_eq!(
                debugfs::gem_total()?,
                objects,
                "BOs after allocation {n} failed"
            );
            if !failed {
                ensure!(refused > 3, "only {refused} allocations failed");
                println!("# {} allocations, {refused} of them needed", n - 1);
                return Ok(());
            }
        }
        bail!("{ENDLESS} allocations and no end");
    }
}

/// Runs a sub-test, then looks for what it has leaked.
fn without_leaks(run: impl FnOnce() -> Outcome) -> Outcome {
    // What was leaked before is somebody else's.
    leaks()?;
    debugfs::kmemleak::clear().context("kmemleak")?;
    run()?;
    let report = leaks()?;
    let ours: Vec<&str> = report.split("unreferenced object").skip(1).collect();
    ensure!(
        ours.is_empty(),
        "{} leaks, the first {}",
        ours.len(),
        ours[0]
    );
    Ok(())
}

/// What kmemleak reports now. It leaves objects out that are younger than 5 s, and scans twice to be sure of one.
fn leaks() -> harness::Result<String> {
    sleep(Duration::from_secs(6));
    debugfs::kmemleak::scan().context("kmemleak")?;
    debugfs::kmemleak::scan().context("kmemleak")
}

fn defect_06_map(_: &mut Test) -> Outcome {
    without_leaks(|| {
        let bench = Bench::new()?;
        let mut end = bench.start.clone();
        end.map(2, 0, 0, 3);
        bench.each_allocation(
            |b| Ok(b.gpu.bind().map(&b.bos[1], 0, b.start.iova(0), 3 * PAGE)),
            &end,
        )
    })
}

/// Far away, so that a table of each level is needed.
fn defect_06_map_with_new_tables(_: &mut Test) -> Outcome {
    without_leaks(|| {
        let bench = Bench::new()?;
        let mut end = bench.start.clone();
        end.map(2, 8, 8, 2);
        bench.each_allocation(
            |b| {
                Ok(b.gpu
                    .bind()
                    .map(&b.bos[1], 0, b.gpu.iova(1 << 40), 8 * PAGE)
                    .map(&b.bos[1], 8 * PAGE, b.start.iova(8), 2 * PAGE))
            },
            &end,
        )
    })
}

fn defect_06_unmap(_: &mut Test) -> Outcome {
    without_leaks(|| {
        let bench = Bench::new()?;
        let mut end = bench.start.clone();
        end.unmap(0, PAGES);
        bench.each_allocation(
            |b| Ok(b.gpu.bind().unmap(b.start.iova(0), PAGES as u64 * PAGE)),
            &end,
        )
    })
}

/// A hole: two new VMAs.
fn defect_06_split(_: &mut Test) -> Outcome {
    without_leaks(|| {
        let bench = Bench::new()?;
        let mut end = bench.start.clone();
        end.unmap(8, 3);
        bench.each_allocation(|b| Ok(b.gpu.bind().unmap(b.start.iova(8), 3 * PAGE)), &end)
    })
}

/// Everything at once: NULL, over, hole, and the same place twice.
fn defect_06_many_ops(_: &mut Test) -> Outcome {
    without_leaks(|| {
        let bench = Bench::new()?;
        let mut end = bench.start.clone();
        end.map(2, 0, 2, 4);
        end.unmap(9, 2);
        end.map(1, 20, 10, 1);
        end.unmap(18, 4);
        bench.each_allocation(
            |b| {
                Ok(b.gpu
                    .bind()
                    .map(&b.bos[1], 0, b.start.iova(2), 4 * PAGE)
                    .unmap(b.start.iova(9), 3 * PAGE)
                    .map(&b.bos[0], 20 * PAGE, b.start.iova(10), PAGE)
                    .map(&b.bos[0], 7 * PAGE, b.start.iova(11), PAGE)
                    .map_null(b.start.iova(18), 4 * PAGE))
            },
            &end,
        )
    })
}

/// With fences and syncobjs, in and out. A refused request gives no syncobj a fence and resets none.
fn defect_06_fences(_: &mut Test) -> Outcome {
    without_leaks(|| {
        let bench = Bench::new()?;
        let ready = Syncobj::new_signaled(&bench.gpu.device)?;
        let (out, timeline) = (
            Syncobj::new(&bench.gpu.device)?,
            Syncobj::new(&bench.gpu.device)?,
        );
        let point = std::cell::Cell::new(0);
        let mut end = bench.start.clone();
        end.map(2, 0, 0, 3);
        bench.each_allocation(
            |b| {
                out.reset()?;
                point.set(point.get() + 1);
                Ok(b.gpu
                    .bind()
                    .map(&b.bos[1], 0, b.start.iova(0), 3 * PAGE)
                    .after_syncobj(&ready, 0)
                    .signal(&out, 0)
                    .signal(&timeline, point.get()))
            },
            &end,
        )
    })
}

/// The BO has no pages yet: getting them fails at every step, and the next attempt really maps them.
fn defect_11_backing_pages(_: &mut Test) -> Outcome {
    without_leaks(|| {
        let bench = Bench::new()?;
        let gpu = &bench.gpu;
        for n in 1..ENDLESS {
            let bo = Bo::new(&gpu.device, 4 * PAGE)?;
            let bind = gpu.bind().map(&bo, 0, bench.start.iova(0), 4 * PAGE);
            let (result, failed) = fault_injection::failing_nth(n, || bind.send())?;
            match result {
                Ok(fence) => fence.wait(programs::PATIENCE).context("the job")?,
                Err(Errno::ENOMEM) if failed => bind
                    .send_and_wait()
                    .with_context(|| format!("again after allocation {n} failed"))?,
                Err(e) => bail!("allocation {n} failed ({failed}): {e}"),
            }
            gpu.write(bench.start.iova(2), &[n])?;
            ensure_eq!(
                bo.map()?.read(2048),
                n,
                "what the GPU wrote, after allocation {n} failed"
            );
            bench.restore()?;
            if !failed {
                return Ok(());
            }
        }
        bail!("{ENDLESS} allocations and no end")
    })
}

/// The file closes with jobs that were refused and jobs that weren't behind it.
fn defect_06_close_afterwards(_: &mut Test) -> Outcome {
    without_leaks(|| {
        let bench = Bench::new()?;
        let before = Census::now()?;
        {
            let gpu = Gpu::new()?;
            let bo = gpu.bo(1, 8 * PAGE)?;
            let held = HeldFence::new().context("held fence")?;
            for n in 1..40 {
                let bind = gpu
                    .bind()
                    .map(&bo, 0, gpu.iova(u64::from(n) * 16 * PAGE), 8 * PAGE)
                    .after(held.file());
                match fault_injection::failing_nth(n, || bind.send())?.0 {
                    Ok(_) | Err(Errno::ENOMEM) => {}
                    Err(e) => bail!("allocation {n} failed: {e}"),
                }
            }
            held.signal().context("the fence was held")?;
        }
        before.restored()?;
        bench.restore()
    })
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        defect_06_map,
        defect_06_map_with_new_tables,
        defect_06_unmap,
        defect_06_split,
        defect_06_many_ops,
        defect_06_fences,
        defect_06_close_afterwards,
        defect_11_backing_pages,
    ])
}
