// SPDX-License-Identifier: GPL-2.0-only

//! Memory pressure while a BO's last page-table entries still wait for their removal.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{pattern, Gpu, Tolerance, PATIENCE};
use std::process::ExitCode;
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    debugfs, Bo, HeldFence, Pm4, PAGE,
};

const PAGES: u64 = 256;

/// Marks a BO as not needed, has the shrinker run, and says whether the pages are still there.
fn purge(bo: &Bo) -> harness::Result<bool> {
    bo.madvise(MSM_MADV_DONTNEED).context("DONTNEED")?;
    debugfs::shrink(1 << 20).context("debugfs shrink")?;
    bo.madvise(MSM_MADV_WILLNEED).context("WILLNEED")
}

/// The GPU still reaches the pages: at the start, in the middle, at the end.
fn still_there(gpu: &Gpu, tag: u32) -> Outcome {
    for page in [0, PAGES / 2, PAGES - 1] {
        ensure_eq!(
            gpu.read(gpu.iova(page * PAGE), 1)?,
            [pattern(tag, page as usize * 1024)],
            "page {page} while its UNMAP waits"
        );
    }
    Ok(())
}

/// The control: what isn't mapped is purged when it isn't needed.
fn unmapped_bo_is_purged(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGES * PAGE)?;
    ensure!(!purge(&bo)?, "never mapped, not needed, and not purged");
    let bo = gpu.bo(2, PAGES * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(0), PAGES * PAGE)?;
    ensure!(!purge(&bo)?, "unmapped, not needed, and not purged");
    Ok(())
}

/// Purging a BO that is mapped takes its mapping away as well.
fn mapped_bo_is_purged_with_its_mapping(_: &mut Test) -> Outcome {
    let _tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let vadreno = uapi::vadreno::Vadreno::open().context("virtual Adreno")?;
    let bo = gpu.bo(1, PAGES * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    still_there(&gpu, 1)?;
    ensure!(!purge(&bo)?, "idle, not needed, and not purged");
    ensure_eq!(
        vadreno.translate(gpu.iova(0))?,
        uapi::vadreno::Translation::Unmapped,
        "the purged BO's first page"
    );
    Ok(())
}

/// A BO whose UNMAP waits keeps its pages until that has run.
fn defect_03_waiting_unmap(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGES * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let job = gpu
        .bind()
        .unmap(gpu.iova(0), PAGES * PAGE)
        .after(held.file())
        .send()
        .context("UNMAP that waits")?;
    ensure!(
        purge(&bo)?,
        "purged while page tables still lead to the pages"
    );
    still_there(&gpu, 1)?;
    held.signal().context("the fence was held")?;
    job.wait(PATIENCE).context("UNMAP")?;
    ensure_eq!(gpu.peek(&[gpu.iova(0)])?, [0], "after the UNMAP");
    ensure!(!purge(&bo)?, "not purged after the UNMAP");
    tolerance.check()
}

/// The same with a MAP of another BO over it.
fn defect_03_waiting_map_over_it(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let (bo, other) = (gpu.bo(1, PAGES * PAGE)?, gpu.bo(2, PAGES * PAGE)?);
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let job = gpu
        .bind()
        .map(&other, 0, gpu.iova(0), PAGES * PAGE)
        .after(held.file())
        .send()
        .context("MAP that waits")?;
    ensure!(
        purge(&bo)?,
        "purged while page tables still lead to the pages"
    );
    still_there(&gpu, 1)?;
    held.signal().context("the fence was held")?;
    job.wait(PATIENCE).context("MAP")?;
    ensure_eq!(
        gpu.read(gpu.iova(PAGE), 1)?,
        [pattern(2, 1024)],
        "after the MAP"
    );
    ensure!(!purge(&bo)?, "not purged after the MAP over it");
    Ok(())
}

/// The same with a hole: one page waits to go, the rest stays mapped.
fn defect_03_waiting_hole(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGES * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let job = gpu
        .bind()
        .unmap(gpu.iova(PAGE), PAGE)
        .after(held.file())
        .send()
        .context("UNMAP that waits")?;
    ensure!(
        purge(&bo)?,
        "purged while page tables still lead to the pages"
    );
    still_there(&gpu, 1)?;
    held.signal().context("the fence was held")?;
    job.wait(PATIENCE).context("UNMAP")?;
    still_there(&gpu, 1)
}

/// The handle is closed as well: the pages stay until the UNMAP has run, and the contents with them.
fn handle_closed_under_a_waiting_unmap(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGES * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let job = gpu
        .bind()
        .unmap(gpu.iova(0), PAGES * PAGE)
        .after(held.file())
        .send()
        .context("UNMAP that waits")?;
    drop(bo);
    // What the pages would be given to, had they been freed.
    let foreign = gpu.bo(9, 8 * PAGES * PAGE)?;
    let writes = (0..PAGES).fold(Pm4::new(), |commands, page| {
        commands.mem_write(gpu.iova(page * PAGE), &[0x0bad])
    });
    gpu.run(&writes.barrier())?;
    let map = foreign.map()?;
    for page in 0..foreign.size() / PAGE {
        let index = page as usize * 1024;
        ensure_eq!(
            map.read(index),
            pattern(9, index),
            "page {page} of a BO that was never mapped"
        );
    }
    held.signal().context("the fence was held")?;
    job.wait(PATIENCE).context("UNMAP")?;
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        unmapped_bo_is_purged,
        mapped_bo_is_purged_with_its_mapping,
        handle_closed_under_a_waiting_unmap,
        defect_03_waiting_unmap,
        defect_03_waiting_map_over_it,
        defect_03_waiting_hole,
    ])
}
