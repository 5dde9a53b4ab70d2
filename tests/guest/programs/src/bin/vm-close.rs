// SPDX-License-Identifier: GPL-2.0-only

//! The device file closed in every state.

use harness::{ensure, ensure_eq, ensure_errno, Context, Ended, Outcome, Process, Test};
use nix::{
    sys::signal::{kill, Signal},
    unistd::getpid, //
};
use programs::{eventually, pattern, Census, Gpu, Legacy, Tolerance, PATIENCE};
use std::{
    mem::forget,
    os::fd::AsFd,
    process::ExitCode,
    sync::mpsc,
    thread::{self, sleep},
    time::Duration,
};
use uapi::{
    abi::{MSM_SUBMIT_BO_READ, MSM_SUBMIT_BO_WRITE},
    debugfs,
    devcoredump::Devcoredump,
    memory, module, Bo, Device, Errno, HeldFence, Pm4, SubmitQueue, VmBind, PAGE,
};

/// Runs something with a file of its own, and checks that no BO is left.
fn leaves_nothing(work: impl FnOnce() -> Outcome) -> Outcome {
    let before = Census::new()?;
    work()?;
    before.restored()
}

/// Runs something in a process of its own; the kernel closes what it leaves open.
fn in_a_process(work: impl FnOnce() -> Outcome) -> Outcome {
    Process::start(work)?.succeeds(Process::LONG)
}

fn untouched(_: &mut Test) -> Outcome {
    leaves_nothing(|| {
        for _ in 0..20 {
            drop(Device::open()?);
            drop(Device::open_vm_bind()?);
        }
        Ok(())
    })
}

/// With a VM but nothing in it, and queues that were never used.
fn empty(_: &mut Test) -> Outcome {
    leaves_nothing(|| {
        for _ in 0..20 {
            let device = Device::open_vm_bind()?;
            device.va_range()?;
            SubmitQueue::new_vm_bind(&device)?.leave_open();
        }
        Ok(())
    })
}

/// With mappings of all kinds, and handles both open and closed.
fn full(_: &mut Test) -> Outcome {
    leaves_nothing(|| {
        in_a_process(|| {
            let gpu = Gpu::new()?;
            for n in 0..32 {
                let bo = gpu.bo(n, 8 * PAGE)?;
                let iova = gpu.iova(u64::from(n) << 30);
                gpu.bind()
                    .map(&bo, 0, iova, 8 * PAGE)
                    .map(&bo, PAGE, iova + 64 * PAGE, 4 * PAGE)
                    .unmap(iova + 2 * PAGE, PAGE)
                    .map_null(iova + 128 * PAGE, 64 * PAGE)
                    .send_and_wait()?;
                gpu.write(iova, &[1])?;
                if n % 2 == 0 {
                    forget(bo);
                }
            }
            forget(gpu);
            Ok(())
        })
    })
}

/// Closes, and then does what closing may wait for; if closing takes longer than `limit`, that is
/// done meanwhile.
fn close_and_then<T: Send>(
    close: impl FnOnce(),
    limit: Duration,
    then: impl FnOnce() -> T + Send,
) -> T {
    let (closed, told) = mpsc::channel();
    thread::scope(|scope| {
        let then = scope.spawn(move || {
            let _ = told.recv_timeout(limit);
            then()
        });
        close();
        let _ = closed.send(());
        then.join().expect("no panic")
    })
}

/// While a SUBMIT waits for a fence: it ends without having been run, as the driver does with work
/// of closed files.
fn submit_waits(_: &mut Test) -> Outcome {
    leaves_nothing(|| {
        let (gpu, witness) = (Gpu::new()?, Gpu::new()?);
        let (bo, seen) = shared(&gpu, &witness)?;
        let held = HeldFence::new().context("held fence")?;
        let write = Pm4::new().mem_write(gpu.iova(0), &[0x77]).barrier();
        let submitted = gpu.start(&write, |s| s.after(held.file()))?;
        // With the C code closing waits for the fence, but the file counts as closed by then.
        let limit = Duration::from_secs(10);
        close_and_then(|| drop((bo, gpu)), limit, || held.signal())
            .context("the fence was held")?;
        submitted.wait(PATIENCE).context("SUBMIT")?;
        ensure_eq!(seen.map()?.read(0), pattern(1, 0), "what the SUBMIT left");
        Ok(())
    })
}

/// While its jobs are being run, one after the other, on two queues.
fn binds_run(_: &mut Test) -> Outcome {
    const JOBS: u64 = 48;
    leaves_nothing(|| {
        for round in 0..12 {
            let gpu = Gpu::new()?;
            let bo = gpu.bo(1, PAGE)?;
            let second = SubmitQueue::new_vm_bind(&gpu.device).context("second queue")?;
            for n in 0..JOBS {
                let queue = if n % 2 == 0 { &gpu.binds } else { &second };
                VmBind::new(queue)
                    .map(&bo, 0, gpu.iova(n * PAGE), PAGE)
                    .send_only()
                    .context("MAP")?;
            }
            // So that the end comes at another job each time.
            sleep(Duration::from_micros(200 * round));
            second.leave_open();
        }
        Ok(())
    })
}

/// While the GPU is at work for it: it may end that, and no page goes before.
fn submit_runs(_: &mut Test) -> Outcome {
    leaves_nothing(|| {
        let (gpu, witness) = (Gpu::new()?, Gpu::new()?);
        let (bo, seen) = shared(&gpu, &witness)?;
        let _slow = debugfs::SlowHangcheck::new().context("hangcheck_period_ms")?;
        let map = seen.map()?;
        let spin = Pm4::new()
            .mem_write(gpu.iova(4), &[1])
            .barrier()
            .wait_mem_eq(gpu.iova(0), 1, !0)
            .mem_write(gpu.iova(8), &[0x77])
            .barrier();
        let submitted = gpu.start(&spin, |s| s)?;
        // One that hasn't begun when the file is closed doesn't run.
        eventually("the SUBMIT to begin", || Ok(map.read(1) == 1))?;
        // With the C code closing waits for it. After some seconds it would count as hung.
        let limit = Duration::from_secs(2);
        close_and_then(|| drop((bo, gpu)), limit, || map.write(0, 1));
        submitted.wait(PATIENCE).context("SUBMIT")?;
        ensure_eq!(seen.map()?.read(2), 0x77, "what the SUBMIT wrote");
        Ok(())
    })
}

/// A BO mapped at the start of the one's VM, and the other's handle for it.
fn shared(gpu: &Gpu, witness: &Gpu) -> harness::Result<(Bo, Bo)> {
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let dma_buf = bo.export()?;
    let seen = Bo::import(&witness.device, dma_buf.as_fd(), PAGE)?;
    Ok((bo, seen))
}

/// After a fault.
fn unusable(_: &mut Test) -> Outcome {
    leaves_nothing(|| {
        let gpu = Gpu::new()?;
        let bo = gpu.bo(1, 8 * PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        let fault = Pm4::new()
            .mem_to_mem(gpu.result_iova(0), gpu.iova(1 << 32))
            .barrier();
        programs::fault::provoke(&gpu, &fault).map(drop)
    })
}

/// Right after jobs whose fence has just signalled.
fn defect_10_binds_just_let_go(_: &mut Test) -> Outcome {
    leaves_nothing(|| {
        for _ in 0..10 {
            let gpu = Gpu::new()?;
            let bo = gpu.bo(1, 8 * PAGE)?;
            let held = HeldFence::new().context("held fence")?;
            for n in 0..16 {
                let bind = gpu
                    .bind()
                    .map(&bo, 0, gpu.iova(n * 16 * PAGE), 8 * PAGE)
                    .unmap(gpu.iova(n * 16 * PAGE + PAGE), PAGE);
                let bind = if n == 0 {
                    bind.after(held.file())
                } else {
                    bind
                };
                bind.send_only()?;
            }
            held.signal().context("the fence was held")?;
        }
        Ok(())
    })
}

/// What a process does and keeps until it ends, while it holds a fence back.
type Busy = fn(&HeldFence) -> Outcome;

fn waiting_bind(held: &HeldFence) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = Bo::new(&gpu.device, 4096 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.bind()
        .map(&bo, 0, gpu.iova(1 << 32), 64 * PAGE)
        .unmap(gpu.iova(0), 4096 * PAGE)
        .after(held.file())
        .send()?;
    gpu.bind().map(&bo, 0, gpu.iova(0), 64 * PAGE).send()?;
    forget((gpu, bo));
    Ok(())
}

fn waiting_submit(held: &HeldFence) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = Bo::new(&gpu.device, 4096 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let write = Pm4::new().mem_write(gpu.iova(0), &[0x77]).barrier();
    gpu.start(&write, |s| s.after(held.file()))?;
    forget((gpu, bo));
    Ok(())
}

fn waiting_legacy_submit(held: &HeldFence) -> Outcome {
    let gpu = Legacy::new()?;
    let bos = [Bo::new(&gpu.device, 4096 * PAGE)?, gpu.bo(2, PAGE)?];
    let write = Pm4::new().mem_write(bos[0].iova()?, &[0x77]).barrier();
    let table = [
        (&bos[0], MSM_SUBMIT_BO_WRITE),
        (&bos[1], MSM_SUBMIT_BO_READ),
    ];
    gpu.start(&write, &table, Some(held.file()))?;
    forget((gpu, bos));
    Ok(())
}

/// A process has ended, or tries to, while what it asked for waits for a fence: the driver can't be
/// taken away. Afterwards it could be.
fn driver_stays(busy: Busy) -> Outcome {
    let bos = Census::new()?;
    let held = HeldFence::new().context("held fence")?;
    // It keeps the driver as well, for some minutes.
    if let Some(dump) = Devcoredump::present()? {
        dump.free()?;
    }
    let before = module::users("msm")?;
    let (mut child, listener) = Process::start_telling(|teller| {
        busy(&held)?;
        teller.tell(Duration::ZERO)
    })?;
    listener.hear(PATIENCE)?;
    // With the C code it can't end while a SUBMIT waits.
    child.waits(PATIENCE)?;
    // Only now: if nobody used it, it would be gone.
    let users = module::users("msm")?;
    ensure!(users > before, "{users} users, {before} before");
    ensure_errno!(module::unload("msm"), Errno::EWOULDBLOCK, "unloading");
    held.signal().context("the fence was held")?;
    child.succeeds(Process::LONG)?;
    eventually("the driver's users to be gone", || {
        Ok(module::users("msm")? == before)
    })?;
    bos.restored()
}

fn driver_stays_while_a_submit_waits(_: &mut Test) -> Outcome {
    driver_stays(waiting_submit)
}

fn driver_stays_while_a_legacy_submit_waits(_: &mut Test) -> Outcome {
    driver_stays(waiting_legacy_submit)
}

const EXIT: Ended = Ended::With(0);
const KILL: Ended = Ended::By(Signal::SIGKILL);

/// What a process leaves behind that ends while what it asked for waits for a fence. With `at_once`
/// its BOs go before the fence is signalled.
fn ends_while_something_waits(busy: Busy, how: Ended, at_once: bool) -> Outcome {
    let bos = Census::new()?;
    let shmem = memory::shmem()?;
    let held = HeldFence::new().context("held fence")?;
    let mut child = Process::start(|| {
        busy(&held)?;
        if let Ended::By(signal) = how {
            kill(getpid(), signal)?;
        }
        Ok(())
    })?;
    // It may take its time on a busy machine, but it doesn't wait for the fence.
    ensure_eq!(child.end(Process::LONG)?, how, "the process");
    held.still_held()
        .context("the fence that the process needn't wait for")?;
    if at_once {
        bos.restored().context("while the fence is held")?;
    }
    // Whatever still refers to the file finds it in order when the fence signals.
    held.signal().context("the fence was held")?;
    bos.restored()?;
    // The kernel closes a BO's backing file a little later.
    eventually("the BOs' memory to come back", || {
        Ok(memory::shmem()?.saturating_sub(shmem) < 8 << 20)
    })?;
    // And the GPU is in order.
    let gpu = Gpu::new()?;
    let bo = gpu.bo(2, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.write(gpu.iova(0), &[3])?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [3], "a new context");
    Ok(())
}

fn defect_10_exits_while_a_bind_waits(_: &mut Test) -> Outcome {
    ends_while_something_waits(waiting_bind, EXIT, false)
}

fn defect_10_killed_while_a_bind_waits(_: &mut Test) -> Outcome {
    ends_while_something_waits(waiting_bind, KILL, false)
}

fn defect_29_exits_while_a_submit_waits(_: &mut Test) -> Outcome {
    ends_while_something_waits(waiting_submit, EXIT, true)
}

fn defect_29_killed_while_a_submit_waits(_: &mut Test) -> Outcome {
    ends_while_something_waits(waiting_submit, KILL, true)
}

/// What the kernel manages goes with the handles, and these with the fence.
fn defect_29_exits_while_a_legacy_submit_waits(_: &mut Test) -> Outcome {
    ends_while_something_waits(waiting_legacy_submit, EXIT, false)
}

fn defect_29_killed_while_a_legacy_submit_waits(_: &mut Test) -> Outcome {
    ends_while_something_waits(waiting_legacy_submit, KILL, false)
}

/// GEM_CLOSE waits for what uses the BO. A process that is killed meanwhile ends.
fn defect_29_killed_in_gem_close(_: &mut Test) -> Outcome {
    let bos = Census::new()?;
    let held = HeldFence::new().context("held fence")?;
    let (mut child, listener) = Process::start_telling(|teller| {
        let gpu = Legacy::new()?;
        let bo = gpu.bo(1, PAGE)?;
        let commands = Pm4::new().mem_write(bo.iova()?, &[0x77]).barrier();
        let table = [(&bo, MSM_SUBMIT_BO_WRITE)];
        gpu.start(&commands, &table, Some(held.file()))?;
        teller.tell(Duration::ZERO)?;
        drop(bo);
        Ok(())
    })?;
    listener.hear(PATIENCE)?;
    ensure!(child.waits(PATIENCE)?, "GEM_CLOSE doesn't wait");
    child.kill(Process::LONG)?;
    held.still_held()
        .context("the fence that the process needn't wait for")?;
    held.signal().context("the fence was held")?;
    bos.restored()
}

/// Several at once: a fence that many closed files' binds wait for.
fn defect_10_many_files(_: &mut Test) -> Outcome {
    let _tolerance = Tolerance::new()?;
    let before = Census::new()?;
    let held = HeldFence::new().context("held fence")?;
    for _ in 0..8 {
        let gpu = Gpu::new()?;
        let bo = gpu.bo(1, 64 * PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        gpu.bind()
            .unmap(gpu.iova(0), 64 * PAGE)
            .after(held.file())
            .send_only()?;
    }
    // Closing doesn't wait for it.
    held.signal().context("the fence was held")?;
    before.restored()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        untouched,
        empty,
        full,
        submit_waits,
        binds_run,
        submit_runs,
        unusable,
        driver_stays_while_a_submit_waits,
        driver_stays_while_a_legacy_submit_waits,
        defect_10_binds_just_let_go,
        defect_10_exits_while_a_bind_waits,
        defect_10_killed_while_a_bind_waits,
        defect_10_many_files,
        defect_29_exits_while_a_submit_waits,
        defect_29_killed_while_a_submit_waits,
        defect_29_exits_while_a_legacy_submit_waits,
        defect_29_killed_while_a_legacy_submit_waits,
        defect_29_killed_in_gem_close,
    ])
}
