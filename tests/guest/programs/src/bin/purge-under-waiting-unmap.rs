// SPDX-License-Identifier: GPL-2.0-only

//! Memory pressure while a BO's last page-table entries still wait for their removal.

use harness::{ensure_eq, Context, Outcome, Test};
use programs::{check_unpinned, pattern, untouched, Gpu, Mapped, Tolerance, Waiting};
use std::process::ExitCode;
use uapi::{Pm4, PAGE};

const PAGES: u64 = 256;

/// The control: what isn't mapped is purged when it isn't needed.
fn unmapped_bo_is_purged(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGES * PAGE)?;
    check_unpinned(&bo).context("never mapped")?;
    let bo = gpu.bo(2, PAGES * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(0), PAGES * PAGE)?;
    check_unpinned(&bo).context("unmapped")
}

/// Purging a BO that is mapped takes its mapping away as well.
fn mapped_bo_is_purged_with_its_mapping(_: &mut Test) -> Outcome {
    let _tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let vadreno = uapi::vadreno::Vadreno::open().context("virtual Adreno")?;
    let mapped = Mapped::new(&gpu, 1, gpu.bo(1, PAGES * PAGE)?)?;
    mapped.still_there()?;
    check_unpinned(&mapped.bo).context("idle")?;
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
    let mapped = Mapped::new(&gpu, 1, gpu.bo(1, PAGES * PAGE)?)?;
    let waiting = Waiting::send(gpu.bind().unmap(gpu.iova(0), PAGES * PAGE))?;
    mapped.kept_under_pressure()?;
    waiting.run()?;
    ensure_eq!(gpu.peek(&[gpu.iova(0)])?, [0], "after the UNMAP");
    check_unpinned(&mapped.bo).context("after the UNMAP")?;
    tolerance.check()
}

/// The same with a MAP of another BO over it.
fn defect_03_waiting_map_over_it(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let mapped = Mapped::new(&gpu, 1, gpu.bo(1, PAGES * PAGE)?)?;
    let other = gpu.bo(2, PAGES * PAGE)?;
    let waiting = Waiting::send(gpu.bind().map(&other, 0, gpu.iova(0), PAGES * PAGE))?;
    mapped.kept_under_pressure()?;
    waiting.run()?;
    ensure_eq!(
        gpu.read(gpu.iova(PAGE), 1)?,
        [pattern(2, 1024)],
        "after the MAP"
    );
    check_unpinned(&mapped.bo).context("after the MAP over it")
}

/// The same with a hole: one page waits to go, the rest stays mapped.
fn defect_03_waiting_hole(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let mapped = Mapped::new(&gpu, 1, gpu.bo(1, PAGES * PAGE)?)?;
    let waiting = Waiting::send(gpu.bind().unmap(gpu.iova(PAGE), PAGE))?;
    mapped.kept_under_pressure()?;
    waiting.run()?;
    mapped.still_there()
}

/// The handle is closed as well: the pages stay until the UNMAP has run, and the contents with
/// them.
fn handle_closed_under_a_waiting_unmap(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGES * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let waiting = Waiting::send(gpu.bind().unmap(gpu.iova(0), PAGES * PAGE))?;
    drop(bo);
    // What the pages would be given to, had they been freed.
    let foreign = gpu.bo(9, 8 * PAGES * PAGE)?;
    let writes = (0..PAGES).fold(Pm4::new(), |commands, page| {
        commands.mem_write(gpu.iova(page * PAGE), &[0x0bad])
    });
    gpu.run(&writes.barrier())?;
    untouched(&foreign, 9)?;
    waiting.run()
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
