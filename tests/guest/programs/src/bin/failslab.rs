// SPDX-License-Identifier: GPL-2.0-only

//! Every allocation of a request, of slabs or of pages, fails once: it is refused with ENOMEM,
//! changes nothing and leaks nothing; or it didn't need that memory, and has happened in full.
//! VM_BIND, SUBMIT, the making of a submitqueue, and closing.
//!
//! Needs a kernel with fault injection. What is leaked, `tests/vm` finds at the end (`--kernel
//! debug`).

use harness::{bail, ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{model::Model, pattern, Census, Gpu, Legacy, Tolerance, PATIENCE};
use std::{
    mem::forget,
    os::fd::{AsFd, AsRawFd},
    process::ExitCode,
    time::Duration,
};
use uapi::{
    abi::{self, MSM_SUBMIT_BO_READ as READ, MSM_SUBMIT_BO_WRITE as WRITE},
    fault_injection, Bo, Device, Errno, HeldFence, Pm4, Submit, SubmitQueue, Syncobj, VmBind, PAGE,
};

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
        // An UNMAP that is done at once has the three of its out-fence alone. A slab that happens
        // to need pages moves the others, and one may be left out then: another round has it.
        let mut refused = 0;
        for _ in 0..3 {
            refused = self.each_once(&request, end)?;
            if refused >= 3 {
                return Ok(());
            }
        }
        bail!("only {refused} allocations failed");
    }

    /// One round of that. Returns how many allocations were needed.
    fn each_once(
        &self,
        request: impl Fn(&Self) -> harness::Result<VmBind<'_>>,
        end: &Model,
    ) -> harness::Result<u32> {
        let objects = Census::now()?;
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
            objects
                .unchanged()
                .with_context(|| format!("after allocation {n} failed"))?;
            if !failed {
                println!("# {} allocations, {refused} of them needed", n - 1);
                return Ok(refused);
            }
        }
        bail!("{ENDLESS} allocations and no end");
    }
}

fn defect_06_map(_: &mut Test) -> Outcome {
    let bench = Bench::new()?;
    let mut end = bench.start.clone();
    end.map(2, 0, 0, 3);
    bench.each_allocation(
        |b| Ok(b.gpu.bind().map(&b.bos[1], 0, b.start.iova(0), 3 * PAGE)),
        &end,
    )
}

/// Far away, so that a table of each level is needed.
fn defect_06_map_with_new_tables(_: &mut Test) -> Outcome {
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
}

fn defect_06_unmap(_: &mut Test) -> Outcome {
    let bench = Bench::new()?;
    let mut end = bench.start.clone();
    end.unmap(0, PAGES);
    bench.each_allocation(
        |b| Ok(b.gpu.bind().unmap(b.start.iova(0), PAGES as u64 * PAGE)),
        &end,
    )
}

/// A hole: two new VMAs.
fn defect_06_split(_: &mut Test) -> Outcome {
    let bench = Bench::new()?;
    let mut end = bench.start.clone();
    end.unmap(8, 3);
    bench.each_allocation(|b| Ok(b.gpu.bind().unmap(b.start.iova(8), 3 * PAGE)), &end)
}

/// Everything at once: NULL, over, hole, and the same place twice.
fn defect_06_many_ops(_: &mut Test) -> Outcome {
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
}

/// With fences and syncobjs, in and out. A refused request gives no syncobj a fence and resets
/// none.
fn defect_06_fences(_: &mut Test) -> Outcome {
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
}

/// The BO has no pages yet: getting them fails at every step, and the next attempt really maps
/// them.
fn defect_11_backing_pages(_: &mut Test) -> Outcome {
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
}

/// A context's page tables are there whole or not at all, and the context never gets the GPU's own
/// VM instead. What contexts share, their roots included, is made once and stays until the GPU
/// goes: only the first context after boot needs allocations for that.
fn defect_11_first_context(_: &mut Test) -> Outcome {
    fault_injection::set_up().context("failslab")?;
    for open in [Device::open, Device::open_vm_bind] {
        let refused = until_none_fails(|n| {
            // Nobody has a VM: those of closed files end a little later.
            Census::now()?;
            let device = open()?;
            let (result, failed) =
                fault_injection::failing_nth(n, || device.va_range()).context("fail-nth")?;
            let refused = match result {
                Ok(_) => false,
                Err(Errno::EINVAL) if failed => {
                    device.va_range().context("again")?;
                    true
                }
                Err(e) => bail!("VA_START (an allocation failed: {failed}): {e}"),
            };
            // What it shares with others is in order.
            let gpu = Gpu::new()?;
            gpu.bind()
                .map_null(gpu.iova(0), 4 * PAGE)
                .send_and_wait()
                .context("MAP_NULL")?;
            ensure_eq!(gpu.read(gpu.iova(PAGE), 2)?, [0, 0], "a NULL mapping");
            drop(device);
            ensure_eq!(gpu.read(gpu.iova(PAGE), 1)?, [0], "without the first");
            Ok(Attempt { failed, refused })
        })?;
        ensure!(refused >= 3, "only {refused} allocations were needed");
    }
    Ok(())
}

/// The file closes with jobs that were refused and jobs that weren't behind it.
fn defect_06_close_afterwards(_: &mut Test) -> Outcome {
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
}

/// What became of a call of which one allocation may have failed.
struct Attempt {
    /// There were so many allocations that one failed.
    failed: bool,
    /// The call was.
    refused: bool,
}

/// Makes attempts in which the first, second, … allocation fails, until none does. Returns how many
/// were refused.
fn until_none_fails(
    mut attempt: impl FnMut(u32) -> harness::Result<Attempt>,
) -> harness::Result<u32> {
    let mut refused = 0;
    for n in 1..ENDLESS {
        let attempt = attempt(n).with_context(|| format!("allocation {n}"))?;
        refused += u32::from(attempt.refused);
        if !attempt.failed {
            println!("# {} allocations, {refused} of them needed", n - 1);
            return Ok(refused);
        }
    }
    bail!("{ENDLESS} allocations and no end");
}

/// Sends a SUBMIT whose `n`-th allocation fails. If it is refused, `unchanged` looks whether it
/// changed anything, and it is sent again. Then it has to run.
fn submit_failing(
    n: u32,
    submit: &Submit<'_>,
    unchanged: impl FnOnce() -> Outcome,
) -> harness::Result<Attempt> {
    let (result, failed) = fault_injection::failing_nth(n, || submit.send()).context("fail-nth")?;
    let (submitted, refused) = match result {
        Ok(submitted) => (submitted, false),
        Err(Errno::ENOMEM) if failed => {
            unchanged()?;
            (submit.send().context("again")?, true)
        }
        Err(e) => bail!("SUBMIT (an allocation failed: {failed}): {e}"),
    };
    submitted.wait(PATIENCE).context("the GPU")?;
    ensure_eq!(submitted.fence.status()?, Some(Ok(())), "its fence");
    Ok(Attempt { failed, refused })
}

/// SUBMIT in a VM_BIND context, with fences of all kinds.
fn submit(_: &mut Test) -> Outcome {
    let bench = Bench::new()?;
    let gpu = &bench.gpu;
    let other = SubmitQueue::new(&gpu.device, 2)?;
    let objects = Census::now()?;
    let refused = until_none_fails(|n| {
        let ready = Syncobj::new_signaled(&gpu.device)?;
        let (done, timeline) = (Syncobj::new(&gpu.device)?, Syncobj::new(&gpu.device)?);
        gpu.set_result(0, 0);
        let commands = Pm4::new().mem_write(gpu.result_iova(0), &[n]).barrier();
        let earlier = gpu.start(&Pm4::new().nop(64), |s| s)?;
        let submit = Submit::new(&other)
            .cmd_at(gpu.place(&commands), commands.size())
            .after(&earlier.fence)
            .after_syncobj_reset(&ready)
            .signal(&done, 0)
            .signal(&timeline, 1);
        let attempt = submit_failing(n, &submit, || {
            ensure!(ready.is_signaled()?, "its in-syncobj was reset");
            ensure_errno!(done.is_signaled(), Errno::EINVAL, "its out-syncobj");
            ensure_errno!(timeline.export().map(drop), Errno::EINVAL, "its timeline");
            Submit::new(&other).send()?.wait(PATIENCE)?;
            ensure_eq!(gpu.result(0), 0, "its commands");
            Ok(())
        })?;
        ensure_eq!(gpu.result(0), n, "its commands");
        ensure!(done.is_signaled()?, "its out-syncobj");
        ensure!(timeline.is_point_signaled(1)?, "its point");
        ensure_errno!(
            ready.is_signaled(),
            Errno::EINVAL,
            "the syncobj that it resets"
        );
        objects.unchanged()?;
        Ok(attempt)
    })?;
    ensure!(refused > 5, "only {refused} allocations were needed");
    bench.start.check(gpu, &bench.tolerance, "after all")
}

/// SUBMIT with a table of BOs that have no place in the VM yet.
fn submit_with_table(_: &mut Test) -> Outcome {
    fault_injection::set_up().context("failslab")?;
    let gpu = Legacy::new()?;
    let objects = Census::now()?;
    let refused = until_none_fails(|n| {
        let bos = [gpu.bo(1, 2 * PAGE)?, gpu.bo(2, 2 * PAGE)?];
        // Where the GPU writes is known beforehand; the other BO gets its place now.
        let iova = bos[0].iova()?;
        let commands = Pm4::new().mem_write(iova, &[n]).barrier();
        gpu.place(&commands)?;
        let submit = Submit::new(&gpu.queue)
            .implicit_sync()
            .bo(&gpu.cmds, READ)
            .bo(&bos[0], WRITE)
            .bo(&bos[1], READ | WRITE)
            .cmd_in(0, 0, commands.size());
        let attempt = submit_failing(n, &submit, || {
            Submit::new(&gpu.queue).send()?.wait(PATIENCE)?;
            for bo in &bos {
                bo.cpu_prep(abi::MSM_PREP_WRITE | abi::MSM_PREP_NOSYNC, Duration::ZERO)
                    .context("a BO has a fence")?;
            }
            ensure_eq!(bos[0].map()?.read(0), pattern(1, 0), "its commands");
            Ok(())
        })?;
        ensure_eq!(bos[0].map()?.read(0), n, "its commands");
        drop(bos);
        objects.restored()?;
        Ok(attempt)
    })?;
    ensure!(refused > 5, "only {refused} allocations were needed");
    Ok(())
}

/// A submitqueue of each kind, the first of its context.
fn defect_22_submitqueue(_: &mut Test) -> Outcome {
    fault_injection::set_up().context("failslab")?;
    for (flags, prio) in [(0, 2), (abi::MSM_SUBMITQUEUE_VM_BIND, 0)] {
        let refused = until_none_fails(|n| {
            let device = Device::open_vm_bind()?;
            device.va_range()?;
            let make = || SubmitQueue::with_flags(&device, flags, prio);
            let (result, failed) = fault_injection::failing_nth(n, make).context("fail-nth")?;
            match result {
                Ok(_) => Ok(Attempt {
                    failed,
                    refused: false,
                }),
                Err(Errno::ENOMEM) if failed => {
                    make().context("again")?;
                    Ok(Attempt {
                        failed,
                        refused: true,
                    })
                }
                Err(e) => bail!("SUBMITQUEUE_NEW (an allocation failed: {failed}): {e}"),
            }
        })?;
        ensure!(refused > 0, "no allocation was needed");
    }
    Ok(())
}

/// The file of a VM in which there is something of everything. Nothing can be refused, and nothing
/// may stay.
fn close(_: &mut Test) -> Outcome {
    fault_injection::set_up().context("failslab")?;
    let before = Census::new()?;
    until_none_fails(|n| {
        let device = Device::open_vm_bind()?;
        let base = device.va_range()?.start;
        let (binds, queue) = (
            SubmitQueue::new_vm_bind(&device)?,
            SubmitQueue::new(&device, 0)?,
        );
        let bos = [
            Bo::new(&device, 8 * PAGE)?,
            Bo::new(&device, 8 * PAGE)?,
            Bo::with_flags(&device, 8 * PAGE, abi::MSM_BO_WC | abi::MSM_BO_NO_SHARE)?,
        ];
        let held = HeldFence::new().context("held fence")?;
        let bind = || VmBind::new(&binds);
        bos.iter()
            .zip(0..)
            .fold(bind(), |bind, (bo, i)| {
                bind.map(bo, 0, base + (i << 30), 8 * PAGE)
            })
            .unmap(base + 2 * PAGE, PAGE)
            .map_null(base + (9 << 30), 1 << 30)
            .send_and_wait()
            .context("VM_BIND")?;
        Submit::new(&queue).send()?.wait(PATIENCE)?;
        let waiting = bind()
            .unmap(base, 8 * PAGE)
            .after(held.file())
            .send()
            .context("an UNMAP that waits")?;
        // All of it is left to the closing of the file.
        forget((bos, binds, queue));
        let fd = device.as_fd().as_raw_fd();
        forget(device);
        let (closed, failed) =
            fault_injection::failing_nth(n, || nix::unistd::close(fd)).context("fail-nth")?;
        closed.context("close")?;
        held.signal().context("the fence was held")?;
        waiting.wait(PATIENCE).context("the UNMAP's fence")?;
        before.restored()?;
        Ok(Attempt {
            failed,
            refused: false,
        })
    })?;
    Ok(())
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
        defect_11_first_context,
        submit,
        submit_with_table,
        defect_22_submitqueue,
        close,
    ])
}
