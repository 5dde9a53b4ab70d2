// SPDX-License-Identifier: GPL-2.0-only

//! The GPU after hangs and faults: who suffers, who doesn't, and what becomes of work that was
//! waiting.

use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{eventually, fault, hang, pattern, recorded::RecordedSubmit, works, Gpu, PATIENCE};
use std::{fs, os::fd::AsFd, process::ExitCode};
use uapi::{
    abi::MSM_VM_BIND_OP_DUMP as DUMP,
    devcoredump::{bos, section, Devcoredump},
    vadreno::Awake,
    Bo, Errno, HeldFence, Pm4, Submit, PAGE,
};

fn fault_of(gpu: &Gpu) -> Pm4 {
    Pm4::new()
        .mem_to_mem(gpu.result_iova(0), gpu.iova(0))
        .barrier()
}

fn free_dump() -> Outcome {
    if let Some(dump) = Devcoredump::present()? {
        dump.free().context("freeing the devcoredump")?;
    }
    Ok(())
}

fn after_a_fault(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    fault::provoke(&gpu, &fault_of(&gpu))?;
    ensure_errno!(
        gpu.start(&Pm4::new().nop(1), |s| s),
        Errno::EPIPE,
        "SUBMIT in the context that faulted"
    );
    works(1)
}

fn after_three_faults(_: &mut Test) -> Outcome {
    for round in 1..=3 {
        let gpu = Gpu::new()?;
        fault::provoke(&gpu, &fault_of(&gpu)).with_context(|| format!("fault {round}"))?;
        drop(gpu);
        works(round)?;
    }
    Ok(())
}

/// The thread that has sent what faults has exited by then.
fn defect_57_its_thread_has_exited(_: &mut Test) -> Outcome {
    fault::make_room()?;
    let gpu = Gpu::new()?;
    let faulting = fault_of(&gpu);
    let held = HeldFence::new().context("held fence")?;
    let (queue, iova) = (&gpu.queue, gpu.place(&faulting));
    let submitted = std::thread::scope(|scope| {
        let send = || {
            Submit::new(queue)
                .cmd_at(iova, faulting.size())
                .after(held.file())
                .send()
        };
        scope.spawn(send).join().expect("no panic")
    })
    .context("SUBMIT that faults")?;
    // A thread that was joined may not be quite gone.
    eventually("the thread to be gone", || {
        Ok(fs::read_dir("/proc/self/task")?.count() == 1)
    })?;
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("recovery")?;
    ensure_errno!(
        gpu.start(&Pm4::new().nop(1), |s| s),
        Errno::EPIPE,
        "SUBMIT in the context that faulted"
    );
    works(1)
}

/// Recovery may not count on the GPU's being suspended.
fn defect_56_kept_awake(_: &mut Test) -> Outcome {
    let _awake = Awake::new().context("power/control")?;
    for round in 1..3 {
        let gpu = Gpu::new()?;
        fault::provoke(&gpu, &fault_of(&gpu)).with_context(|| format!("fault {round}"))?;
        drop(gpu);
        works(round)?;
    }
    Ok(())
}

fn after_a_hang(_: &mut Test) -> Outcome {
    free_dump()?;
    let gpu = Gpu::new()?;
    let submitted = gpu
        .start(&hang::commands(&gpu, 1), |s| s)
        .context("SUBMIT that hangs")?;
    submitted.wait(PATIENCE).context("recovery")?;
    ensure_eq!(gpu.faults()?, 1, "MSM_PARAM_FAULTS");
    ensure_errno!(
        gpu.start(&Pm4::new().nop(1), |s| s),
        Errno::EPIPE,
        "SUBMIT in the context that hung"
    );
    ensure_errno!(
        gpu.bind().send(),
        Errno::EPIPE,
        "VM_BIND in the context that hung"
    );
    drop(gpu);
    free_dump()?;
    works(2)
}

/// Another context's work is queued behind the hang, and runs after it. (It may be counted as a
/// second hang: taking the crash dump can last longer than the driver's patience.)
fn work_behind_a_hang(_: &mut Test) -> Outcome {
    free_dump()?;
    let (hung, other) = (Gpu::new()?, Gpu::new()?);
    let bo = other.bo(3, PAGE)?;
    other.map(&bo, other.iova(0))?;
    let first = hung
        .start(&hang::commands(&hung, 1), |s| s)
        .context("SUBMIT that hangs")?;
    let copy = Pm4::new()
        .mem_to_mem(other.result_iova(5), other.iova(16))
        .barrier();
    other.set_result(5, 0);
    let second = other.start(&copy, |s| s).context("SUBMIT behind it")?;
    first.wait(PATIENCE).context("recovery")?;
    second.wait(PATIENCE).context("the SUBMIT behind it")?;
    ensure_eq!(other.result(5), pattern(3, 4), "what it read");
    free_dump()
}

/// A bind waits when its context dies: its fence signals once it may, the context closes, memory
/// comes back.
fn bind_waits_in_a_dead_context(_: &mut Test) -> Outcome {
    free_dump()?;
    let gpu = Gpu::new()?;
    let (mapped, other) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
    gpu.map(&mapped, gpu.iova(0x10_0000))?;
    let held = HeldFence::new().context("held fence")?;
    let job = gpu
        .bind()
        .map(&other, 0, gpu.iova(0), 4 * PAGE)
        .unmap(gpu.iova(0x10_0000), 4 * PAGE)
        .after(held.file())
        .send()
        .context("bind that waits")?;
    let submitted = gpu
        .start(&fault_of(&gpu), |s| s)
        .context("SUBMIT that faults")?;
    Devcoredump::wait(PATIENCE).context("devcoredump")?;
    submitted.wait(PATIENCE).context("recovery")?;
    ensure!(!job.is_signaled()?, "the bind's fence signalled early");
    held.signal().context("the fence was held")?;
    job.wait(PATIENCE).context("the bind's fence")?;
    drop((mapped, other, gpu));
    free_dump()?;
    works(4)
}

/// Commands of `gpu` hang, or fault, while a SUBMIT of `recorded` keeps its VM, and what is mapped
/// there, locked. Returns the dump's text.
fn recover_while_locked(gpu: &Gpu, commands: &Pm4, recorded: &Gpu) -> harness::Result<String> {
    fault::make_room()?;
    let held = HeldFence::new().context("held fence")?;
    let submitted = gpu
        .start(commands, |s| s.after(held.file()))
        .context("SUBMIT that hangs or faults")?;
    let locks = RecordedSubmit::start(|| recorded.run(&Pm4::new().nop(4).barrier()))?;
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("recovery")?;
    let dump = Devcoredump::wait(PATIENCE).context("devcoredump")?;
    let text = dump.read().context("reading the devcoredump")?;
    locks.end()?;
    dump.free().context("freeing the devcoredump")?;
    works(1)?;
    Ok(text)
}

/// A VM stays locked: there is no list of its BOs.
fn check_vm_stays_locked(commands: impl FnOnce(&Gpu) -> Pm4) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.bind()
        .map_flags(&bo, 0, gpu.iova(4 * PAGE), 4 * PAGE, DUMP)
        .send_and_wait()?;
    let text = recover_while_locked(&gpu, &commands(&gpu), &gpu)?;
    ensure!(section(&text, "bos").is_none(), "BOs are listed");
    let why = text.lines().find_map(|l| l.strip_prefix("bos-omitted: "));
    ensure_eq!(why, Some("the VM is locked by somebody else"), "why");
    Ok(())
}

fn defect_60_a_vm_stays_locked(_: &mut Test) -> Outcome {
    check_vm_stays_locked(|gpu| hang::commands(gpu, 1))
}

fn defect_60_a_vm_stays_locked_at_a_fault(_: &mut Test) -> Outcome {
    check_vm_stays_locked(fault_of)
}

/// A BO stays locked: it is listed without its content, and another one with it.
fn defect_60_a_bo_stays_locked(_: &mut Test) -> Outcome {
    let (gpu, recorded) = (Gpu::new()?, Gpu::new()?);
    let (bo, own) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
    let dma_buf = bo.export().context("export")?;
    let shared = Bo::import(&recorded.device, dma_buf.as_fd(), bo.size()).context("import")?;
    // C's own dma-bufs are imports, whose content isn't recorded.
    let other = recorded.bo(3, 4 * PAGE)?;
    gpu.bind()
        .map_flags(&bo, 0, gpu.iova(0), 4 * PAGE, DUMP)
        .map_flags(&own, 0, gpu.iova(4 * PAGE), 4 * PAGE, DUMP)
        .send_and_wait()?;
    recorded
        .bind()
        .map(&shared, 0, recorded.iova(0), 4 * PAGE)
        .map_flags(&other, 0, recorded.iova(4 * PAGE), 4 * PAGE, DUMP)
        .send_and_wait()?;
    let text = recover_while_locked(&gpu, &hang::commands(&gpu, 1), &recorded)?;
    let mut listed = bos(&text).context("no bos in the dump")?;
    listed.retain(|bo| bo.iova >= gpu.iova(0));
    ensure_eq!(listed.len(), 2, "mappings in the dump");
    ensure_eq!(
        (listed[0].iova, listed[0].omitted),
        (gpu.iova(0), Some("locked by somebody else")),
        "what is locked"
    );
    ensure!(
        listed[1].iova == gpu.iova(4 * PAGE) && listed[1].data.is_some(),
        "what isn't locked: {:?}",
        listed[1]
    );
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        after_a_fault,
        after_three_faults,
        after_a_hang,
        work_behind_a_hang,
        bind_waits_in_a_dead_context,
        defect_56_kept_awake,
        defect_57_its_thread_has_exited,
        defect_60_a_vm_stays_locked,
        defect_60_a_vm_stays_locked_at_a_fault,
        defect_60_a_bo_stays_locked,
    ])
}
