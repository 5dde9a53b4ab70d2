// SPDX-License-Identifier: GPL-2.0-only

//! A GPU that reads ahead at any time, as hardware does: what an UNMAP has taken away mustn't come
//! back. (Virtual Adreno only.)

use harness::{bail, cases, ensure, ensure_eq, Context, Outcome, Result, Test};
use programs::{Gpu, PATIENCE};
use std::{
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    vadreno::{Translation, Vadreno},
    vadreno_ctl::{counter, cp_state, watch, CP_STATE},
    PAGE,
};

/// Speculative reads per second.
const RATE: u64 = 20_000;

/// The device, knowing the tables of this context alone.
fn ready(gpu: &Gpu) -> Result<Vadreno> {
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    vadreno.forget_all();
    gpu.run(&uapi::Pm4::new().barrier())?;
    Ok(vadreno)
}

/// Waits for so many speculative reads.
fn some_reads(vadreno: &Vadreno, count: u64) -> Outcome {
    let wanted = vadreno.read(counter::SPECULATIVE) + count;
    let end = Instant::now() + PATIENCE;
    while vadreno.read(counter::SPECULATIVE) < wanted {
        ensure!(Instant::now() < end, "the GPU doesn't read ahead");
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The page behind an address of a context.
fn page(vadreno: &Vadreno, ttbr0: u64, iova: u64) -> Result<u64> {
    match vadreno.translate_in(ttbr0, iova)? {
        Translation::Mapped(pa) => Ok(pa),
        other => bail!("{iova:#x} is {other:?}"),
    }
}

/// It reads while no job runs.
fn while_idle(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let vadreno = ready(&gpu)?;
    let _reader = vadreno.speculate(RATE);
    some_reads(&vadreno, 200)?;
    ensure_eq!(vadreno.read(CP_STATE), cp_state::IDLE, "the CP");
    Ok(())
}

/// Pages that were unmapped while the GPU is idle are out of reach from then on, in the TLB as in
/// the tables; and so are the tables.
fn unmapped_while_idle(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let vadreno = ready(&gpu)?;
    let ttbr0 = vadreno.current().0;
    let _reader = vadreno.speculate(RATE);
    for round in 0..12 {
        let bo = gpu.bo(round + 1, 64 * PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        let pages = (0..64)
            .map(|i| page(&vadreno, ttbr0, gpu.iova(i * PAGE)))
            .collect::<Result<Vec<u64>>>()?;
        some_reads(&vadreno, 100)?;
        ensure!(
            vadreno.reachable(pages[0])? & watch::BY_TABLE != 0,
            "round {round}: a mapped page is out of reach"
        );
        gpu.unmap(gpu.iova(0), 64 * PAGE)?;
        let watched: Vec<_> = pages.iter().map(|page| vadreno.watch(*page)).collect();
        let before = (
            vadreno.read(counter::WATCH_HITS),
            vadreno.read(counter::WATCH_LIVE),
        );
        some_reads(&vadreno, 100)?;
        for page in &pages {
            ensure_eq!(vadreno.reachable(*page)?, 0, "round {round}: {page:#x}");
        }
        gpu.run(&uapi::Pm4::new().barrier())?;
        let after = (
            vadreno.read(counter::WATCH_HITS),
            vadreno.read(counter::WATCH_LIVE),
        );
        ensure_eq!(after, before, "round {round}: accesses and addresses");
        drop(watched);
    }
    Ok(())
}

/// The same is seen to fail when the TLB isn't told.
fn unflushed_is_noticed(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let vadreno = ready(&gpu)?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let page = page(&vadreno, vadreno.current().0, gpu.iova(0))?;
    gpu.read(gpu.iova(0), 1)?;
    {
        let _deaf = vadreno.ignore_tlbi();
        gpu.unmap(gpu.iova(0), 4 * PAGE)?;
        ensure_eq!(vadreno.reachable(page)?, watch::BY_TLB, "after the UNMAP");
    }
    // Leaves no page of ours in the TLB: this flush is heard.
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(0), 4 * PAGE)?;
    ensure_eq!(vadreno.reachable(page)?, 0, "after a flush that was heard");
    Ok(())
}

/// Two contexts side by side: each has its tables, and a context that was forgotten is known again
/// with its next job.
fn contexts_by_ttbr0(_: &mut Test) -> Outcome {
    let gpus = [Gpu::new()?, Gpu::new()?];
    let vadreno = ready(&gpus[0])?;
    let mut found = Vec::new();
    for (i, gpu) in gpus.iter().enumerate() {
        let bo = gpu.bo(i as u32 + 1, PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        gpu.run(&uapi::Pm4::new().barrier())?;
        let ttbr0 = vadreno.current().0;
        found.push((ttbr0, page(&vadreno, ttbr0, gpu.iova(0))?, bo));
    }
    ensure!(found[0].0 != found[1].0, "both have the same tables");
    for (ttbr0, pa, _) in &found {
        ensure_eq!(
            page(&vadreno, *ttbr0, gpus[0].iova(0))?,
            *pa,
            "the page by {ttbr0:#x}"
        );
    }
    let (ttbr0, pa, _) = &found[0];
    vadreno.forget(*ttbr0);
    ensure_eq!(
        vadreno.reachable(*pa)? & watch::BY_TABLE,
        0,
        "by a forgotten context"
    );
    gpus[0].run(&uapi::Pm4::new().barrier())?;
    ensure_eq!(
        vadreno.reachable(*pa)? & watch::BY_TABLE,
        watch::BY_TABLE,
        "by a context that has run again"
    );
    Ok(())
}

fn main() -> ExitCode {
    harness::main(cases![
        while_idle,
        unmapped_while_idle,
        unflushed_is_noticed,
        contexts_by_ttbr0,
    ])
}
