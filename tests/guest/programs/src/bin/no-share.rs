// SPDX-License-Identifier: GPL-2.0-only

//! `MSM_BO_NO_SHARE`: private BOs, which share their VM's reservation object.

use harness::{ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{check_unpinned, pattern, Census, Gpu, Mapped, Tolerance, Waiting};
use std::process::ExitCode;
use uapi::{
    abi::{MSM_BO_NO_SHARE, MSM_BO_WC},
    Bo, Errno, PAGE,
};

fn private(gpu: &Gpu, tag: u32, size: u64) -> harness::Result<Bo> {
    let bo = Bo::with_flags(&gpu.device, size, MSM_BO_WC | MSM_BO_NO_SHARE).context("GEM_NEW")?;
    bo.fill(|i| pattern(tag, i))?;
    Ok(bo)
}

fn is_mapped_and_used(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let (a, b) = (private(&gpu, 1, 8 * PAGE)?, gpu.bo(2, 8 * PAGE)?);
    gpu.bind()
        .map(&a, 0, gpu.iova(0), 8 * PAGE)
        .map(&b, 0, gpu.iova(8 * PAGE), 8 * PAGE)
        .map(&a, 4 * PAGE, gpu.iova(16 * PAGE), 4 * PAGE)
        .send_and_wait()
        .context("private and shared BOs in one job")?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(PAGE), gpu.iova(9 * PAGE), gpu.iova(17 * PAGE)])?,
        [pattern(1, 1024), pattern(2, 1024), pattern(1, 5 * 1024)],
        "page by page"
    );
    gpu.unmap(gpu.iova(4 * PAGE), 8 * PAGE)?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(3 * PAGE), gpu.iova(4 * PAGE), gpu.iova(12 * PAGE)])?,
        [pattern(1, 3 * 1024), 0, pattern(2, 4 * 1024)],
        "around the hole"
    );
    tolerance.check()
}

fn cannot_be_exported(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = private(&gpu, 1, PAGE)?;
    ensure_errno!(bo.export(), Errno::EPERM, "PRIME export");
    gpu.map(&bo, gpu.iova(0))?;
    ensure_errno!(bo.export(), Errno::EPERM, "PRIME export of a mapped BO");
    Ok(())
}

/// Handles closed while mapped, and while an UNMAP waits: the BOs go when their last mapping goes.
fn handles_closed(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    for n in 0..16 {
        let bo = private(&gpu, n + 1, 4 * PAGE)?;
        gpu.map(&bo, gpu.iova(u64::from(n) * 4 * PAGE))?;
    }
    ensure_eq!(
        gpu.read(gpu.iova(7 * 4 * PAGE), 1)?,
        [pattern(8, 0)],
        "a BO without a handle"
    );
    let waiting = Waiting::send(gpu.bind().unmap(gpu.iova(0), 64 * PAGE))?;
    ensure_eq!(
        gpu.read(gpu.iova(7 * 4 * PAGE), 1)?,
        [pattern(8, 0)],
        "while the UNMAP waits"
    );
    waiting.run()?;
    before.restored()
}

/// Still mapped when the file closes.
fn file_closed(_: &mut Test) -> Outcome {
    let before = Census::new()?;
    let gpu = Gpu::new()?;
    for n in 0..8 {
        let bo = private(&gpu, n + 1, 4 * PAGE)?;
        gpu.map(&bo, gpu.iova(u64::from(n) * 4 * PAGE))?;
    }
    gpu.write(gpu.iova(0), &[1])?;
    drop(gpu);
    before.restored()
}

/// Not needed any more, and unmapped: purged.
fn purged(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = private(&gpu, 1, 64 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(0), 64 * PAGE)?;
    check_unpinned(&bo)
}

/// A private BO whose UNMAP waits keeps its pages.
fn defect_03_waiting_unmap(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let mapped = Mapped::new(&gpu, 1, private(&gpu, 1, 64 * PAGE)?)?;
    let waiting = Waiting::send(gpu.bind().unmap(gpu.iova(0), 64 * PAGE))?;
    mapped.kept_under_pressure()?;
    waiting.run()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        is_mapped_and_used,
        cannot_be_exported,
        handles_closed,
        file_closed,
        purged,
        defect_03_waiting_unmap,
    ])
}
