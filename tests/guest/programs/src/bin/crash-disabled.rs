// SPDX-License-Identifier: GPL-2.0-only

//! Faults and hangs when nobody wants crash dumps (`/sys/class/devcoredump/disabled`). That can't
//! be undone: this program wants a guest of its own.

use harness::{ensure, ensure_errno, Context, Outcome, Test};
use programs::{eventually, works, Gpu};
use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};
use uapi::{
    abi::MSM_VM_BIND_OP_DUMP as DUMP, devcoredump::Devcoredump, memory, vadreno::Vadreno, Errno,
    Pm4,
};

/// How long a fence may take. It is 1 to 3 s; the rest is for machines that are busy.
const LIMIT: Duration = Duration::from_secs(30);

const SIZE: u64 = 16 << 20;

/// Runs commands that end in recovery, by itself or by what `end` does, twice: others work
/// afterwards, and no crash state is kept.
fn survived(commands: impl Fn(&Gpu) -> Pm4, end: impl Fn(&Vadreno, &Gpu) -> Outcome) -> Outcome {
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let _sleepy = vadreno.let_sleep()?;
    fs::write("/sys/class/devcoredump/disabled", "1").context("disabling devcoredumps")?;
    for round in 1..=2 {
        let gpu = Gpu::new()?;
        let bo = gpu.bo(1, SIZE)?;
        gpu.bind()
            .map_flags(&bo, 0, gpu.iova(0), SIZE, DUMP)
            .send_and_wait()?;
        let before = memory::meminfo("VmallocUsed")?;
        let begin = Instant::now();
        let submitted = gpu.start(&commands(&gpu), |s| s).context("SUBMIT")?;
        end(&vadreno, &gpu)?;
        submitted
            .wait(LIMIT)
            .with_context(|| format!("the fence, time {round}"))?;
        println!("# the fence took {:.1} s", begin.elapsed().as_secs_f32());
        ensure!(Devcoredump::present()?.is_none(), "there is a dump");
        ensure_errno!(
            gpu.start(&Pm4::new().nop(1), |s| s),
            Errno::EPIPE,
            "SUBMIT in the same context"
        );
        eventually("the crash state to go", || {
            Ok(memory::meminfo("VmallocUsed")? < before + SIZE / 2)
        })?;
        works(round)?;
    }
    Ok(())
}

fn defect_32_fault(_: &mut Test) -> Outcome {
    let fault = |gpu: &Gpu| {
        Pm4::new()
            .mem_to_mem(gpu.result_iova(0), gpu.iova(1 << 40))
            .barrier()
    };
    survived(fault, |_, _| Ok(()))
}

fn defect_32_hang(_: &mut Test) -> Outcome {
    const BEGUN: usize = 0;
    const NEVER: usize = 1;
    let hang = |gpu: &Gpu| {
        gpu.set_result(BEGUN, 0);
        gpu.set_result(NEVER, 0);
        Pm4::new()
            .mem_write(gpu.result_iova(BEGUN), &[1])
            .barrier()
            .wait_mem_eq(gpu.result_iova(NEVER), 1, !0)
    };
    survived(hang, |vadreno, gpu| {
        eventually("the SUBMIT to begin", || Ok(gpu.result(BEGUN) == 1))?;
        vadreno.hang();
        Ok(())
    })
}

fn main() -> ExitCode {
    harness::main(harness::cases![defect_32_fault, defect_32_hang])
}
