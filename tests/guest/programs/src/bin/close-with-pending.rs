// SPDX-License-Identifier: GPL-2.0-only

//! Handles and queues closed while binds wait.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{pattern, Census, Gpu, Tolerance, Waiting, PATIENCE};
use std::process::ExitCode;
use uapi::{HeldFence, SubmitQueue, VmBind, PAGE};

/// GEM_CLOSE of a BO whose MAP waits: the MAP happens.
fn bo_with_a_waiting_map(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    let waiting = Waiting::send(gpu.bind().map(&bo, 0, gpu.iova(0), 4 * PAGE))?;
    drop(bo);
    waiting.run()?;
    ensure_eq!(
        gpu.read(gpu.iova(2 * PAGE), 1)?,
        [pattern(1, 2048)],
        "the BO without a handle"
    );
    Ok(())
}

/// GEM_CLOSE of a BO whose UNMAP waits: the mapping works until then, and the BO goes afterwards.
fn bo_with_a_waiting_unmap(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let waiting = Waiting::send(gpu.bind().unmap(gpu.iova(0), 4 * PAGE))?;
    drop(bo);
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(3 * PAGE)])?,
        [pattern(1, 0), pattern(1, 3 * 1024)],
        "while the UNMAP waits"
    );
    waiting.run()?;
    ensure_eq!(gpu.peek(&[gpu.iova(0)])?, [0], "after the UNMAP");
    before.restored()?;
    tolerance.check()
}

/// MAP and UNMAP both wait, the handle is gone: nothing is left.
fn bo_mapped_and_unmapped_behind_a_fence(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    let held = HeldFence::new().context("held fence")?;
    let bo = gpu.bo(1, 64 * PAGE)?;
    gpu.bind()
        .map(&bo, 0, gpu.iova(0), 64 * PAGE)
        .after(held.file())
        .send_only()
        .context("MAP that waits")?;
    let job = gpu
        .bind()
        .unmap(gpu.iova(0), 64 * PAGE)
        .send()
        .context("UNMAP behind it")?;
    drop(bo);
    held.signal().context("the fence was held")?;
    job.wait(PATIENCE).context("UNMAP")?;
    before.restored()
}

/// SUBMITQUEUE_CLOSE with a bind waiting: it still runs.
fn queue_with_a_waiting_bind(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    let queue = SubmitQueue::new_vm_bind(&gpu.device).context("second queue")?;
    let waiting = Waiting::send(VmBind::new(&queue).map(&bo, 0, gpu.iova(0), PAGE))?;
    drop(queue);
    ensure!(
        !waiting.job().is_signaled()?,
        "closing the queue ended the MAP"
    );
    waiting.run()?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(1, 0)], "after the MAP");
    Ok(())
}

/// The fence's file closed before it signals: nobody needs it but the job.
fn fence_file_closed(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    let held = HeldFence::new().context("held fence")?;
    drop(
        gpu.bind()
            .map(&bo, 0, gpu.iova(0), PAGE)
            .after(held.file())
            .send()
            .context("MAP that waits")?,
    );
    held.signal().context("the fence was held")?;
    gpu.bind().send_and_wait().context("bind without ops")?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(1, 0)], "after the MAP");
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        bo_with_a_waiting_map,
        bo_with_a_waiting_unmap,
        bo_mapped_and_unmapped_behind_a_fence,
        queue_with_a_waiting_bind,
        fence_file_closed,
    ])
}
