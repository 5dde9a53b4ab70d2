// SPDX-License-Identifier: GPL-2.0-only

//! Commands that run, and who sees it.

use crate::RAN;
use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use programs::{pattern, Census, Gpu, PATIENCE};
use std::{fs, io::Write};
use uapi::{
    abi::{self, drm_msm_gem_submit_cmd},
    vadreno::Awake,
    Errno, Pm4, Submit, SubmitQueue, Syncobj, PAGE,
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

/// A command, `count` times that does nothing, and another one.
fn many<'a>(gpu: &'a Gpu, first: &Pm4, count: usize, last: &Pm4) -> Submit<'a> {
    let nothing = Pm4::new().nop(1);
    let at = gpu.place(&nothing);
    let mut submit = Submit::new(&gpu.queue).cmd_at(gpu.place(first), first.size());
    for _ in 0..count {
        submit = submit.cmd_at(at, nothing.size());
    }
    submit.cmd_at(gpu.place(last), last.size())
}

/// The ring has 7,167 dwords for them, and a command takes four, in some places seven.
pub(crate) fn as_many_commands_as_fit(_: &mut Test) -> Outcome {
    let gpus = [Gpu::new()?, Gpu::new()?];
    for (round, gpu) in gpus.iter().cycle().take(4).enumerate() {
        let value = RAN + round as u32;
        let write = |index| Pm4::new().mem_write(gpu.result_iova(index), &[value]);
        let submit = many(gpu, &write(0), 1600, &write(1).barrier());
        submit.send().context("SUBMIT")?.wait(PATIENCE)?;
        ensure_eq!([gpu.result(0), gpu.result(1)], [value; 2], "round {round}");
    }
    Ok(())
}

/// More than fit into the ring at a time, of two contexts: each waits until there is room for it.
pub(crate) fn large_submits_in_flight(_: &mut Test) -> Outcome {
    const EACH: usize = 12;
    let gpus = [Gpu::new()?, Gpu::new()?];
    let mut sent = Vec::new();
    for n in 0..2 * EACH {
        let (gpu, index) = (&gpus[n % 2], n / 2);
        gpu.set_result(index, 0);
        let write = Pm4::new().mem_write(gpu.result_iova(index), &[RAN + n as u32]);
        let submit = many(gpu, &Pm4::new().nop(1), 300 + 100 * index, &write.barrier());
        sent.push(submit.send().context("SUBMIT")?);
    }
    for (n, submitted) in sent.iter().enumerate() {
        submitted
            .wait(PATIENCE)
            .with_context(|| format!("SUBMIT {n}"))?;
        ensure_eq!(gpus[n % 2].result(n / 2), RAN + n as u32, "SUBMIT {n}");
    }
    Ok(())
}

/// What doesn't fit into the ring is refused, or else runs in its own context whole: its end must
/// not run with the page tables of the context that came before.
pub(crate) fn defect_54_more_commands_than_the_ring_holds(_: &mut Test) -> Outcome {
    let gpus = [Gpu::new()?, Gpu::new()?];
    let mut bos = Vec::new();
    for (tag, gpu) in gpus.iter().enumerate() {
        let bo = gpu.bo(tag as u32, PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        bos.push(bo.map().context("mmap")?);
    }
    let [before, mine] = &gpus;
    for count in [2050, 4000, 60_000] {
        before.run(&Pm4::new().nop(1))?;
        let write = Pm4::new().mem_write(mine.iova(0), &[RAN]).barrier();
        match many(mine, &Pm4::new().nop(1), count, &write).send() {
            Ok(submitted) => {
                submitted.wait(PATIENCE).context("the SUBMIT")?;
                ensure_eq!(bos[1].read(0), RAN, "its own BO, {count} commands");
                bos[1].write(0, pattern(1, 0));
            }
            Err(Errno::ENOMEM) => {}
            Err(e) => bail!("{count} commands: {e}"),
        }
        ensure_eq!(
            bos[0].read(0),
            pattern(0, 0),
            "the other's BO, {count} commands"
        );
    }
    mine.run(&Pm4::new().mem_write(mine.iova(0), &[RAN]).barrier())?;
    ensure_eq!(bos[1].read(0), RAN, "its own BO, in the end");
    Ok(())
}
