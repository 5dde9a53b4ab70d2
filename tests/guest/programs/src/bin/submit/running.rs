// SPDX-License-Identifier: GPL-2.0-only

//! Commands that run, and who sees it.

use crate::RAN;
use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use programs::{Census, Gpu, PATIENCE};
use std::{fs, io::Write};
use uapi::{
    abi::{self, drm_msm_gem_submit_cmd},
    vadreno::Awake,
    Pm4, Submit, SubmitQueue, Syncobj, PAGE,
};

/// Commands that others call, and commands for when another context was active.
pub(crate) fn kinds_of_commands(_: &mut Test) -> Outcome {
    // A GPU that has slept has no context: the next one is a switch.
    let _awake = Awake::new().context("power/control")?;
    let gpu = Gpu::new()?;
    let other = Gpu::new()?;
    let add = |index| {
        Pm4::new()
            .mem_write(gpu.result_iova(index), &[RAN])
            .barrier()
    };
    let (target, restore) = (add(1), add(2));
    let target_at = gpu.place(&target);
    let call = Pm4::new()
        .indirect_buffer(target_at, target.size() / 4)
        .barrier();
    let kind = |type_, iova, size| drm_msm_gem_submit_cmd {
        type_,
        iova,
        size,
        ..Default::default()
    };
    let run = |calls: bool| -> harness::Result<[u32; 2]> {
        gpu.set_result(1, 0);
        gpu.set_result(2, 0);
        let mut submit = Submit::new(&gpu.queue);
        submit.cmds.push(kind(
            abi::MSM_SUBMIT_CMD_IB_TARGET_BUF,
            target_at,
            target.size(),
        ));
        submit.cmds.push(kind(
            abi::MSM_SUBMIT_CMD_CTX_RESTORE_BUF,
            gpu.place(&restore),
            restore.size(),
        ));
        if calls {
            submit
                .cmds
                .push(kind(abi::MSM_SUBMIT_CMD_BUF, gpu.place(&call), call.size()));
        }
        submit.send().context("SUBMIT")?.wait(PATIENCE)?;
        Ok([gpu.result(1), gpu.result(2)])
    };
    gpu.run(&Pm4::new().nop(1))?;
    ensure_eq!(run(false)?, [0, 0], "not called, and no switch");
    ensure_eq!(run(true)?, [RAN, 0], "called, and no switch");
    other.run(&Pm4::new().nop(1))?;
    ensure_eq!(run(true)?, [RAN, RAN], "called, and a switch");
    Ok(())
}

/// Queues of one priority share what runs them: each thread's submits run in order, and each fence
/// is its own submit's.
pub(crate) fn from_many_threads(_: &mut Test) -> Outcome {
    const ROUNDS: u32 = 40;
    let gpu = Gpu::new()?;
    let queues = [
        SubmitQueue::new(&gpu.device, 0)?,
        SubmitQueue::new(&gpu.device, 0)?,
        SubmitQueue::new(&gpu.device, 2)?,
    ];
    // Each thread's commands, placed before the threads start.
    let work: Vec<Vec<(u64, u32)>> = (0..queues.len())
        .map(|thread| {
            (1..=ROUNDS)
                .map(|round| {
                    let commands = Pm4::new()
                        .mem_write(gpu.result_iova(thread), &[round])
                        .barrier();
                    (gpu.place(&commands), commands.size())
                })
                .collect()
        })
        .collect();
    (0..queues.len()).for_each(|thread| gpu.set_result(thread, 0));
    let last: Vec<harness::Result<uapi::Submitted>> = std::thread::scope(|scope| {
        let threads: Vec<_> = queues
            .iter()
            .zip(&work)
            .map(|(queue, work)| {
                scope.spawn(move || -> harness::Result<uapi::Submitted> {
                    let mut last = None;
                    for (iova, size) in work {
                        last = Some(
                            Submit::new(queue)
                                .cmd_at(*iova, *size)
                                .send()
                                .context("SUBMIT")?,
                        );
                    }
                    last.context("no rounds")
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
            .collect()
    });
    for (thread, submitted) in last.into_iter().enumerate() {
        submitted?.wait(PATIENCE)?;
        ensure_eq!(
            gpu.result(thread),
            ROUNDS,
            "the last submit of thread {thread}"
        );
    }
    Ok(())
}

/// Whoever sees the fence may unmap and free at once.
pub(crate) fn unmap_when_the_fence_signals(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    for round in 0..100 {
        let bo = gpu.bo(1, 4 * PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        let done = Syncobj::new(&gpu.device)?;
        gpu.start(
            &Pm4::new().mem_write(gpu.iova(PAGE), &[round]).barrier(),
            |s| s.signal(&done, 0),
        )?;
        done.wait(PATIENCE)?;
        let unmapped = gpu
            .bind()
            .unmap(gpu.iova(0), 4 * PAGE)
            .send()
            .context("UNMAP")?;
        ensure_eq!(bo.map()?.read(1024), round, "what the GPU wrote");
        drop(bo);
        unmapped.wait(PATIENCE)?;
    }
    before.restored()
}

/// The tracepoints that profilers read.
pub(crate) fn tracepoint(_: &mut Test) -> Outcome {
    let root = "/sys/kernel/tracing";
    if !fs::exists(format!("{root}/trace"))? {
        use nix::mount::{mount, MsFlags};
        mount(
            Some("tracefs"),
            root,
            Some("tracefs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("tracefs")?;
    }
    let enable = |name: &str, value: &str| -> Outcome {
        fs::write(format!("{root}/events/drm_msm_gpu/{name}/enable"), value).context("tracepoint")
    };
    let gpu = Gpu::new()?;
    fs::File::create(format!("{root}/trace"))?.flush()?;
    enable("msm_gpu_submit", "1")?;
    enable("msm_gpu_submit_retired", "1")?;
    let nop = Pm4::new().nop(4);
    let result = gpu
        .start(&nop, |s| s.cmd_at(gpu.place(&nop), nop.size()))
        .context("SUBMIT")
        .and_then(|submitted| submitted.wait(PATIENCE).context("the GPU"));
    let found = result.and_then(|()| {
        let wanted = format!("pid={} ring=", std::process::id());
        programs::eventually("the tracepoints", || {
            let trace = fs::read_to_string(format!("{root}/trace"))?;
            let submit = trace
                .lines()
                .find(|line| line.contains("msm_gpu_submit:"))
                .unwrap_or_default();
            ensure!(
                submit.contains("bos=0 cmds=2") && submit.contains(&wanted),
                "the tracepoint says: {submit}"
            );
            Ok(trace.contains("msm_gpu_submit_retired:"))
        })
    });
    enable("msm_gpu_submit", "0")?;
    enable("msm_gpu_submit_retired", "0")?;
    found
}
