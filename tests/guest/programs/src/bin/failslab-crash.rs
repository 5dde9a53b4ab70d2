// SPDX-License-Identifier: GPL-2.0-only

//! Every allocation of the crash capture, of slabs or of pages, fails once, in the thread that
//! captures: the SMMU's for a fault, the GPU's worker for a hang. The fence signals all the same,
//! and if that dump is lost, the next crash has one.
//!
//! A run tries a share of them, which changes with the seed; with `FAILSLAB_CRASH=all` in the
//! environment it tries all.
//!
//! Needs a kernel with fault injection. What is leaked, `tests/vm` finds at the end (`--kernel
//! debug`).

use harness::{bail, ensure, Context, Outcome, Test};
use programs::{fault, hang, Gpu, PATIENCE};
use std::{process::ExitCode, thread::sleep, time::Duration};
use uapi::{
    abi::MSM_VM_BIND_OP_DUMP as DUMP,
    debugfs,
    devcoredump::Devcoredump,
    fault_injection::{self, KernelThread},
    Pm4, PAGE,
};

/// More failures than a capture can have allocations; reaching it means that counting went wrong.
const ENDLESS: u32 = 5000;

/// A context with something to dump.
fn context() -> harness::Result<Gpu> {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.bind()
        .map_flags(&bo, 0, gpu.iova(0), 4 * PAGE, DUMP)
        .map_flags(&bo, PAGE, gpu.iova(0x10_0000), 2 * PAGE, DUMP)
        .send_and_wait()?;
    Ok(gpu)
}

fn fault_of(gpu: &Gpu) -> Pm4 {
    Pm4::new()
        .mem_to_mem(gpu.result_iova(0), gpu.iova(1 << 40))
        .barrier()
}

/// Reads some of the dump, if there is one, frees it, and waits until the driver lets the SMMU
/// stall again.
fn take_dump() -> harness::Result<bool> {
    let dump = Devcoredump::present()?;
    let present = dump.is_some();
    if let Some(dump) = dump {
        ensure!(dump.head()?.starts_with("---\nkernel:"), "not a dump");
        dump.free()?;
    }
    sleep(Duration::from_millis(600));
    Ok(present)
}

/// One of so many allocations is in a share.
const SHARE: u32 = 40;

fn each_allocation(
    test: &mut Test,
    threads: &[KernelThread],
    commands: impl Fn(&Gpu) -> Pm4,
) -> Outcome {
    ensure!(!threads.is_empty(), "no such thread");
    take_dump()?;
    let step = match std::env::var("FAILSLAB_CRASH").as_deref() {
        Ok("all") => 1,
        _ => SHARE,
    };
    let (mut n, mut tried, mut lost) = (test.rng.u32(1..=step), 0, 0);
    while n < ENDLESS {
        let gpu = context()?;
        threads.iter().try_for_each(|thread| thread.fail_nth(n))?;
        let submitted = gpu.start(&commands(&gpu), |s| s).context("SUBMIT")?;
        let waited = submitted.wait(3 * PATIENCE);
        let mut left = n;
        for thread in threads {
            left = left.min(thread.left()?);
            thread.fail_nth(0)?;
        }
        waited.with_context(|| format!("the fence, when allocation {n} failed"))?;
        drop(gpu);
        let dumped = take_dump()?;
        if !dumped && left == n {
            // Nobody captured: the SMMU didn't stall.
            continue;
        }
        if !dumped {
            lost += 1;
            let gpu = context()?;
            fault::provoke(&gpu, &fault_of(&gpu))
                .with_context(|| format!("after allocation {n} failed"))?;
        }
        if left != 0 {
            ensure!(dumped, "no dump, though nothing failed");
            ensure!(n > 20, "only {n} allocations");
            println!(
                "# {tried} of fewer than {n} allocations failed, without {lost} of them there \
                 is no dump"
            );
            return Ok(());
        }
        tried += 1;
        println!("# allocation {n}");
        n += step;
    }
    bail!("{ENDLESS} allocations and no end");
}

fn defect_34_fault(test: &mut Test) -> Outcome {
    fault_injection::set_up().context("failslab")?;
    // It is there once the GPU has been used.
    drop(Gpu::new()?);
    let threads = KernelThread::all(|name| name.starts_with("irq/") && name.contains("arm-smmu"))?;
    each_allocation(test, &threads, fault_of)
}

fn defect_34_hang(test: &mut Test) -> Outcome {
    fault_injection::set_up().context("failslab")?;
    drop(Gpu::new()?);
    let threads = KernelThread::all(|name| name == "gpu-worker")?;
    // Nothing else runs that could be taken for hung.
    debugfs::set_hangcheck_period(Duration::from_secs(1))?;
    let outcome = each_allocation(test, &threads, |gpu| hang::commands(gpu, 1));
    debugfs::set_hangcheck_period(Duration::from_secs(6))?;
    outcome
}

fn main() -> ExitCode {
    harness::main(harness::cases![defect_34_fault, defect_34_hang])
}
