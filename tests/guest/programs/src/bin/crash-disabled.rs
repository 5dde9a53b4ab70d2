// SPDX-License-Identifier: GPL-2.0-only

//! Faults and hangs when nobody wants crash dumps (`/sys/class/devcoredump/disabled`). That can't
//! be undone: this program wants a guest of its own.

use harness::{ensure, ensure_errno, Context, Outcome, Test};
use programs::{eventually, hang, works, Gpu};
use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};
use uapi::{abi::MSM_VM_BIND_OP_DUMP as DUMP, devcoredump::Devcoredump, memory, Errno, Pm4};

/// How long a fence may take. It's 5 s or less after a fault on an idle machine, and 12 s more
/// until a hang is noticed (tests/lib/init); the rest is for machines that are busy.
const LIMIT: Duration = Duration::from_secs(45);

const SIZE: u64 = 16 << 20;

/// Runs commands that end in recovery, twice: others work afterwards, and no crash state is kept.
fn survived(commands: impl Fn(&Gpu) -> Pm4) -> Outcome {
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
    survived(|gpu| {
        Pm4::new()
            .mem_to_mem(gpu.result_iova(0), gpu.iova(1 << 40))
            .barrier()
    })
}

fn defect_32_hang(_: &mut Test) -> Outcome {
    survived(|gpu| hang::commands(gpu, 1))
}

fn main() -> ExitCode {
    harness::main(harness::cases![defect_32_fault, defect_32_hang])
}
