// SPDX-License-Identifier: GPL-2.0-only

//! Queues of every priority. Where the GPU can be preempted there is a ring for some of them, and
//! contexts meet on it (`tests/vm --gpu a740`); where it can't, all share one.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{Gpu, PATIENCE};
use std::process::ExitCode;
use uapi::{abi, Pm4, Submit, SubmitQueue, Submitted, PAGE};

/// A context with a queue for each priority.
struct Many {
    gpu: Gpu,
    queues: Vec<SubmitQueue>,
}

impl Many {
    fn new() -> harness::Result<Self> {
        let gpu = Gpu::new()?;
        let priorities = gpu.device.param(abi::MSM_PARAM_PRIORITIES)? as u32;
        ensure!((3..=64).contains(&priorities), "{priorities} priorities");
        let queues = (0..priorities)
            .map(|priority| SubmitQueue::new(&gpu.device, priority))
            .collect::<Result<_, _>>()
            .context("submitqueue")?;
        Ok(Self { gpu, queues })
    }

    /// Has a queue write to result `index`.
    fn write(&self, queue: usize, index: usize, value: u32) -> harness::Result<Submitted> {
        let at = self.gpu.result_iova(index);
        let commands = Pm4::new().mem_write(at, &[value]).barrier();
        let place = self.gpu.place(&commands);
        Submit::new(&self.queues[queue])
            .cmd_at(place, commands.size())
            .send()
            .context("SUBMIT")
    }
}

/// One after the other, up and down.
fn one_by_one(_: &mut Test) -> Outcome {
    let many = Many::new()?;
    let count = many.queues.len();
    for (round, queue) in (1..).zip((0..count).chain((0..count).rev())) {
        many.write(queue, queue, round)?.wait(PATIENCE)?;
        ensure_eq!(many.gpu.result(queue), round, "queue {queue}");
    }
    Ok(())
}

/// Several contexts at once, whose tables are switched with the rings: each writes to its own
/// memory, at the same addresses.
fn several_contexts(test: &mut Test) -> Outcome {
    let contexts: Vec<Many> = (0..3).map(|_| Many::new()).collect::<Result<_, _>>()?;
    let mut last: Vec<(usize, usize, u32, Submitted)> = Vec::new();
    for value in 1..=400 {
        let context = test.rng.usize(..contexts.len());
        let many = &contexts[context];
        let queue = test.rng.usize(..many.queues.len());
        let submitted = many.write(queue, queue, value)?;
        last.retain(|(c, q, ..)| (*c, *q) != (context, queue));
        last.push((context, queue, value, submitted));
        if value % 32 == 0 {
            for (context, queue, value, submitted) in last.drain(..) {
                submitted.wait(PATIENCE)?;
                let found = contexts[context].gpu.result(queue);
                ensure_eq!(found, value, "queue {queue} of context {context}");
            }
        }
    }
    Ok(())
}

/// A ring goes on with the tables of whoever was the last on it. He is gone, and his memory is
/// somebody else's.
fn after_another_one(test: &mut Test) -> Outcome {
    for round in 1..=12 {
        let gone = Many::new()?;
        let bo = gone.gpu.bo(1, 64 * PAGE)?;
        gone.gpu.map(&bo, gone.gpu.iova(0))?;
        for queue in 0..gone.queues.len() {
            gone.write(queue, queue, round)?.wait(PATIENCE)?;
        }
        drop((bo, gone));
        let next = Many::new()?;
        let queue = test.rng.usize(..next.queues.len());
        next.write(queue, 0, round)?.wait(PATIENCE)?;
        ensure_eq!(next.gpu.result(0), round, "queue {queue}");
    }
    Ok(())
}

/// What waits on one ring doesn't keep the others, and an UNMAP between takes effect on all.
fn unmapped_for_all(_: &mut Test) -> Outcome {
    let many = Many::new()?;
    let gpu = &many.gpu;
    let (old, new) = (gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?);
    let iova = gpu.iova(0);
    for queue in 0..many.queues.len() {
        for (tag, bo) in [(1, &old), (2, &new)] {
            gpu.map(bo, iova)?;
            let commands = Pm4::new()
                .mem_to_mem(gpu.result_iova(0), iova + 4)
                .barrier();
            let place = gpu.place(&commands);
            Submit::new(&many.queues[queue])
                .cmd_at(place, commands.size())
                .send()
                .context("SUBMIT")?
                .wait(PATIENCE)?;
            ensure_eq!(
                gpu.result(0),
                programs::pattern(tag, 1),
                "through queue {queue}"
            );
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        one_by_one,
        several_contexts,
        after_another_one,
        unmapped_for_all,
    ])
}
