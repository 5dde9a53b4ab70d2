// SPDX-License-Identifier: GPL-2.0-only

//! MAP over what is mapped already.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{pattern, Gpu, PATIENCE};
use std::process::ExitCode;
use uapi::{
    abi::MSM_VM_BIND_OP_DUMP, vadreno::Vadreno, vadreno_ctl::counter, HeldFence, Pm4, PAGE,
};

/// The same again: nothing changes, also for work that is queued.
fn same_again(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let copy = Pm4::new()
        .mem_to_mem(gpu.result_iova(0), gpu.iova(PAGE))
        .barrier();
    let submitted = gpu.start(&copy, |submit| submit.after(held.file()))?;
    for _ in 0..5 {
        gpu.map(&bo, gpu.iova(0))?;
    }
    ensure!(
        !submitted.fence.is_signaled()?,
        "the SUBMIT is done before its fence"
    );
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("SUBMIT")?;
    ensure_eq!(gpu.result(0), pattern(1, 1024), "what the SUBMIT read");
    gpu.unmap(gpu.iova(0), 4 * PAGE)
}

/// Only the DUMP flag changes: page tables and TLB are left alone. (Counted by the virtual Adreno.)
fn flag_leaves_page_tables_alone(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(1, 0)], "before");
    let before = (
        vadreno.translate(gpu.iova(PAGE))?,
        vadreno.read(counter::TLBI),
    );
    for flags in [MSM_VM_BIND_OP_DUMP, 0, MSM_VM_BIND_OP_DUMP] {
        gpu.bind()
            .map_flags(&bo, 0, gpu.iova(0), 4 * PAGE, flags)
            .send_and_wait()
            .context("MAP that only changes the flag")?;
    }
    let after = (
        vadreno.translate(gpu.iova(PAGE))?,
        vadreno.read(counter::TLBI),
    );
    ensure_eq!(after, before, "translation and TLB invalidations");
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(1, 0)], "after");
    Ok(())
}

fn another_bo(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let (a, b) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
    gpu.map(&a, gpu.iova(0))?;
    ensure_eq!(
        gpu.read(gpu.iova(PAGE), 1)?,
        [pattern(1, 1024)],
        "the first"
    );
    gpu.map(&b, gpu.iova(0))?;
    gpu.write(gpu.iova(PAGE), &[0x77])?;
    ensure_eq!(b.map()?.read(1024), 0x77, "the second");
    ensure_eq!(a.map()?.read(1024), pattern(1, 1024), "the first, after");
    Ok(())
}

/// The same BO at the same iova, from another offset: the TLB may not remember the old pages.
fn another_offset(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 16 * PAGE)?;
    for offset in [0, 5, 1, 12, 0] {
        gpu.bind()
            .map(&bo, offset * PAGE, gpu.iova(0), 4 * PAGE)
            .send_and_wait()
            .context("MAP")?;
        let expected: Vec<u32> = (0..4)
            .map(|page| pattern(1, (offset as usize + page) * 1024))
            .collect();
        let iovas: Vec<u64> = (0..4).map(|page| gpu.iova(page * PAGE)).collect();
        ensure_eq!(gpu.peek(&iovas)?, expected, "from page {offset}");
    }
    Ok(())
}

/// Larger, smaller and shifted: what isn't covered stays as it was.
fn overlapping(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let (a, b) = (gpu.bo(1, 16 * PAGE)?, gpu.bo(2, 16 * PAGE)?);
    gpu.map(&a, gpu.iova(0))?;
    gpu.bind()
        .map(&b, 2 * PAGE, gpu.iova(12 * PAGE), 8 * PAGE)
        .map(&b, 0, gpu.iova(4 * PAGE), 2 * PAGE)
        .map(&a, 9 * PAGE, gpu.iova(5 * PAGE), PAGE)
        .send_and_wait()
        .context("overlapping MAPs")?;
    let expected: Vec<u32> = (0..20)
        .map(|page| match page {
            4 => pattern(2, 0),
            5 => pattern(1, 9 * 1024),
            12.. => pattern(2, (page - 10) * 1024),
            _ => pattern(1, page * 1024),
        })
        .collect();
    let iovas: Vec<u64> = (0..20).map(|page| gpu.iova(page * PAGE)).collect();
    ensure_eq!(gpu.peek(&iovas)?, expected, "page by page");
    Ok(())
}

/// UNMAP and MAP of the same place in one job.
fn unmapped_and_mapped(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let (a, b) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
    gpu.map(&a, gpu.iova(0))?;
    for (bo, tag) in [(&b, 2), (&a, 1), (&a, 1)] {
        gpu.bind()
            .unmap(gpu.iova(0), 4 * PAGE)
            .map(bo, 0, gpu.iova(0), 4 * PAGE)
            .send_and_wait()
            .context("UNMAP and MAP")?;
        ensure_eq!(
            gpu.peek(&[gpu.iova(0), gpu.iova(3 * PAGE)])?,
            [pattern(tag, 0), pattern(tag, 3 * 1024)],
            "BO {tag}"
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        same_again,
        flag_leaves_page_tables_alone,
        another_bo,
        another_offset,
        overlapping,
        unmapped_and_mapped,
    ])
}
