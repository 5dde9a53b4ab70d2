// SPDX-License-Identifier: GPL-2.0-only

//! What waiting binds may cost: page tables reserved for them are memory that nobody else has.

use harness::{ensure, ensure_eq, Context, Outcome, Process, Test};
use nix::sys::signal::Signal;
use programs::{eventually, Gpu, PATIENCE};
use std::{process::ExitCode, time::Duration};
use uapi::{memory, Bo, Errno, HeldFence, SyncFile, VmBind};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What the reserved tables of all waiting jobs together may take. The C driver's limit is 1024
/// tables (4 MiB) before the last job; this leaves room for what else a job needs.
const ALLOWED: u64 = 24 * MIB;

/// How much free memory a call takes, measured around it.
fn taken<T>(call: impl FnOnce() -> T) -> harness::Result<(T, u64)> {
    memory::drop_caches().context("drop_caches")?;
    let before = memory::free()?;
    let result = call();
    Ok((result, before.saturating_sub(memory::free()?)))
}

/// One job that needs many tables waits: it takes no more than allowed, or is refused and changes
/// nothing.
fn one_job(size: u64) -> Outcome {
    let gpu = Gpu::new()?;
    let held = HeldFence::new().context("held fence")?;
    let (result, taken) = taken(|| {
        gpu.bind()
            .map_null(gpu.iova(0), size)
            .after(held.file())
            .send()
    })?;
    ensure!(
        taken <= ALLOWED,
        "a waiting MAP_NULL of {} GiB takes {} MiB",
        size / GIB,
        taken / MIB
    );
    match result {
        // Applications that get this fall back to smaller jobs.
        Err(e) => ensure_eq!(e, Errno::ENOMEM, "why it was refused"),
        Ok(job) => {
            held.signal().context("the fence was held")?;
            job.wait(Duration::from_secs(100)).context("MAP_NULL")?;
            ensure_eq!(job.status()?, Some(Ok(())), "its fence");
            ensure_eq!(
                gpu.peek(&[gpu.iova(0), gpu.iova(size - 4)])?,
                [0, 0],
                "both ends"
            );
            ensure_eq!(gpu.faults()?, 0, "faults");
        }
    }
    gpu.bind()
        .send_and_wait()
        .context("a bind without ops afterwards")
}

fn defect_08_64_gib(_: &mut Test) -> Outcome {
    one_job(64 * GIB)
}

/// More tables than the machine has memory.
fn defect_08_1_tib(_: &mut Test) -> Outcome {
    one_job(1024 * GIB)
}

/// A residency buffer as applications make them, when nothing waits.
fn residency_buffer(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    gpu.bind()
        .map_null(gpu.iova(0), GIB)
        .send_and_wait()
        .context("MAP_NULL of 1 GiB")?;
    gpu.unmap(gpu.iova(0), GIB)
}

/// A job that reserves some 400 tables, for a page every 2 MiB, in a place of its own for each `n`.
fn wide<'a>(gpu: &'a Gpu, bo: &Bo, n: u64) -> VmBind<'a> {
    (0..400).fold(gpu.bind(), |bind, i| {
        bind.map(bo, 0, gpu.iova((n << 36) + i * 2 * MIB), 4096)
    })
}

/// A process that queues jobs of some 400 tables each behind a fence until one call waits and
/// is interrupted; `after` gets the process's context and goes on from there.
fn blocked_child(fence: &SyncFile, after: fn(&Gpu, u64) -> Outcome) -> harness::Result<Process> {
    Process::start(|| {
        let gpu = Gpu::new()?;
        let bo = gpu.bo(1, 4096)?;
        for n in 0..64 {
            match wide(&gpu, &bo, n).after(fence).send() {
                Ok(_) => {}
                Err(Errno::EINTR) => return after(&gpu, n),
                Err(e) => return Err(e).context("a job that waits"),
            }
        }
        harness::bail!("64 waiting jobs of 400 tables each and no end")
    })
}

/// Waits until a process is held back in a call.
fn until_it_waits(child: &mut Process) -> Outcome {
    ensure!(
        child.waits(PATIENCE)?,
        "the process, which should wait, has ended"
    );
    Ok(())
}

extern "C" fn nothing(_: i32) {}

fn interruptible() -> Outcome {
    use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet};
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;
    Ok(())
}

/// Binds beyond the limit wait, can be interrupted, and go on once the fence signals.
fn waits_and_is_interrupted(_: &mut Test) -> Outcome {
    interruptible()?;
    let held = HeldFence::new().context("held fence")?;
    let mut child = blocked_child(held.file(), |gpu, done| {
        ensure!(done > 0, "the first job was held back already");
        // Interrupted: the VM is unchanged, so the address is free; and the context still works.
        gpu.unmap(gpu.iova(0x1_0000), 0x1000)
    })?;
    until_it_waits(&mut child)?;
    child.signal(Signal::SIGUSR1)?;
    // Its last call is a bind behind those that wait. Were it still to be interrupted, the fence
    // would let it go on instead.
    until_it_waits(&mut child)?;
    held.signal().context("the fence was held")?;
    child.succeeds(PATIENCE)
}

/// Killed while it waits for room: it ends at once, and what it had reserved comes back.
fn killed_while_it_waits(_: &mut Test) -> Outcome {
    memory::drop_caches().context("drop_caches")?;
    let before = memory::free()?;
    let held = HeldFence::new().context("held fence")?;
    let mut child = blocked_child(held.file(), |_, _| Ok(()))?;
    until_it_waits(&mut child)?;
    child.signal(Signal::SIGKILL)?;
    // Jobs that wait are the kernel's affair; let them go before looking at memory.
    held.signal().context("the fence was held")?;
    child.end(Process::LONG)?;
    let mut missing = 0;
    eventually("the memory to come back", || {
        missing = before.saturating_sub(memory::free()?);
        Ok(missing < 16 * MIB)
    })
    .with_context(|| format!("{} MiB are missing afterwards", missing / MIB))
}

/// Being interrupted doesn't make room: again and again, and the limit still holds.
fn defect_09_interrupted_again_and_again(_: &mut Test) -> Outcome {
    interruptible()?;
    let held = HeldFence::new().context("held fence")?;
    let mut child = blocked_child(held.file(), |gpu, done| {
        // Anything that still gets in was let in by an account that being interrupted has lowered.
        let held = HeldFence::new().context("second fence")?;
        let bo = gpu.bo(1, 4096)?;
        let before = memory::free()?;
        for n in 0..16 {
            match wide(gpu, &bo, done + 1 + n).after(held.file()).send() {
                Err(Errno::EINTR) => {}
                Ok(_) => harness::bail!("job {n} got in after an interrupted one, while all wait"),
                Err(e) => return Err(e).context("a job that waits"),
            }
        }
        let taken = before.saturating_sub(memory::free()?);
        ensure!(taken < ALLOWED, "{} MiB went meanwhile", taken / MIB);
        Ok(())
    })?;
    // Each time when its call waits: one that is interrupted earlier hasn't asked for room yet.
    while child.waits(PATIENCE)? {
        child.signal(Signal::SIGUSR1)?;
    }
    let late = held.signal();
    child.succeeds(Process::LONG)?;
    late.context("the fence was held")?;
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        residency_buffer,
        waits_and_is_interrupted,
        killed_while_it_waits,
        defect_09_interrupted_again_and_again,
        defect_08_64_gib,
        defect_08_1_tib,
    ])
}
