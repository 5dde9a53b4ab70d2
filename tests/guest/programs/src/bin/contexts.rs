// SPDX-License-Identifier: GPL-2.0-only

//! The same iova in several contexts, each with its own pages behind it.

use harness::{bail, ensure, ensure_eq, Context, Outcome, Process, Test};
use programs::{pattern, Gpu, Tolerance};
use std::process::ExitCode;
use uapi::PAGE;

/// Three processes, the same iova, interleaved by the scheduler: each sees what it wrote.
fn three_processes(_: &mut Test) -> Outcome {
    let children = (1..=3)
        .map(|tag| Process::start(|| one_of_three(tag).with_context(|| format!("process {tag}"))))
        .collect::<harness::Result<Vec<_>>>()?;
    children
        .into_iter()
        .try_for_each(|child| child.succeeds(Process::LONG))
}

fn one_of_three(tag: u32) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(tag, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    for round in 0..40usize {
        let at = gpu.iova((round % 4) as u64 * PAGE + 16);
        let expected = pattern(tag, (round % 4) * 1024 + 4);
        if round >= 4 {
            let last = pattern(tag + 8, round - 4);
            ensure_eq!(gpu.read(at, 1)?, [last], "round {round}");
        } else {
            ensure_eq!(gpu.read(at, 1)?, [expected], "round {round}");
        }
        gpu.write(at, &[pattern(tag + 8, round)])?;
    }
    Ok(())
}

/// In one process, strictly in turn: every SUBMIT switches page tables.
fn in_turn(_: &mut Test) -> Outcome {
    let gpus = [Gpu::new()?, Gpu::new()?, Gpu::new()?];
    let mut bos = Vec::new();
    for (gpu, tag) in gpus.iter().zip(1..) {
        let bo = gpu.bo(tag, 2 * PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        bos.push(bo);
    }
    for round in 0..10 {
        for (gpu, tag) in gpus.iter().zip(1..) {
            ensure_eq!(
                gpu.read(gpu.iova(PAGE), 1)?,
                [pattern(tag, 1024)],
                "context {tag}, round {round}"
            );
        }
    }
    for (n, gpu) in gpus.iter().enumerate() {
        gpu.write(gpu.iova(0), &[0xc0 + n as u32])?;
    }
    for (n, bo) in bos.iter().enumerate() {
        ensure_eq!(bo.map()?.read(0), 0xc0 + n as u32, "BO of context {n}");
    }
    Ok(())
}

/// What one context unmaps, another keeps; what it never mapped, it can't see.
fn not_mine(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let (a, b) = (Gpu::new()?, Gpu::new()?);
    let (bo_a, bo_b) = (a.bo(1, 2 * PAGE)?, b.bo(2, 2 * PAGE)?);
    a.map(&bo_a, a.iova(0))?;
    ensure_eq!(a.peek(&[a.iova(0)])?, [pattern(1, 0)], "the owner");
    ensure_eq!(b.peek(&[b.iova(0)])?, [0], "a context that never mapped it");
    b.map(&bo_b, b.iova(0))?;
    a.unmap(a.iova(0), 2 * PAGE)?;
    ensure_eq!(
        b.peek(&[b.iova(PAGE)])?,
        [pattern(2, 1024)],
        "the other, after the owner unmapped"
    );
    ensure_eq!(
        a.peek(&[a.iova(PAGE)])?,
        [0],
        "the owner, after it unmapped"
    );
    tolerance.check()
}

/// Contexts come and go; a new one doesn't inherit translations.
fn come_and_go(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    for round in 0..8 {
        let gpu = Gpu::new()?;
        ensure_eq!(
            gpu.peek(&[gpu.iova(0)])?,
            [0],
            "a new context, round {round}"
        );
        let bo = gpu.bo(round + 1, PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        ensure_eq!(
            gpu.peek(&[gpu.iova(0)])?,
            [pattern(round + 1, 0)],
            "round {round}"
        );
    }
    tolerance.check()
}

/// A handle means nothing in another file.
fn handles_are_local(_: &mut Test) -> Outcome {
    let (a, b) = (Gpu::new()?, Gpu::new()?);
    let mine = a.bo(1, PAGE)?;
    // Handles count up from 1, so the other file's BO may have the same number, and is another BO.
    let theirs = loop {
        let bo = b.bo(2, PAGE)?;
        if bo.handle() == mine.handle() {
            break bo;
        }
        ensure!(bo.handle() < 64, "no BO with the same handle");
        std::mem::forget(bo);
    };
    a.map(&mine, a.iova(0))?;
    b.map(&theirs, b.iova(0))?;
    let seen = (a.read(a.iova(0), 1)?[0], b.read(b.iova(0), 1)?[0]);
    if seen != (pattern(1, 0), pattern(2, 0)) {
        bail!("{seen:x?}");
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        three_processes,
        in_turn,
        not_mine,
        come_and_go,
        handles_are_local,
    ])
}
