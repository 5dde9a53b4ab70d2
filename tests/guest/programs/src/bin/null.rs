// SPDX-License-Identifier: GPL-2.0-only

//! MAP_NULL: reads give 0, writes go nowhere, neighbours don't notice.

use harness::{ensure_eq, Context, Outcome, Test};
use programs::{pattern, Gpu, Tolerance};
use std::process::ExitCode;
use uapi::{abi, PAGE};

fn gpu_with_prr() -> harness::Result<Gpu> {
    let gpu = Gpu::new()?;
    ensure_eq!(
        gpu.device.param(abi::MSM_PARAM_HAS_PRR)?,
        1,
        "MSM_PARAM_HAS_PRR"
    );
    Ok(gpu)
}

fn reads_zero_and_drops_writes(_: &mut Test) -> Outcome {
    let gpu = gpu_with_prr()?;
    gpu.bind()
        .map_null(gpu.iova(0), 16 * PAGE)
        .send_and_wait()
        .context("MAP_NULL")?;
    ensure_eq!(
        gpu.read(gpu.iova(3 * PAGE), 64)?,
        vec![0; 64],
        "before writing"
    );
    for page in 0..16 {
        gpu.write(gpu.iova(page * PAGE + 8), &[0x1234, 0x5678])?;
    }
    for page in 0..16 {
        ensure_eq!(
            gpu.read(gpu.iova(page * PAGE + 8), 2)?,
            [0, 0],
            "page {page}"
        );
    }
    ensure_eq!(gpu.faults()?, 0, "faults");
    Ok(())
}

/// Over a mapping: the BO is out of reach, and in reach again afterwards, unchanged.
fn over_a_mapping(_: &mut Test) -> Outcome {
    let gpu = gpu_with_prr()?;
    let bo = gpu.bo(1, 8 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    ensure_eq!(
        gpu.read(gpu.iova(3 * PAGE), 1)?,
        [pattern(1, 3 * 1024)],
        "mapped"
    );
    gpu.bind()
        .map_null(gpu.iova(2 * PAGE), 3 * PAGE)
        .send_and_wait()
        .context("MAP_NULL")?;
    gpu.write(gpu.iova(3 * PAGE), &[0x666])?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(PAGE), gpu.iova(3 * PAGE), gpu.iova(5 * PAGE)])?,
        [pattern(1, 1024), 0, pattern(1, 5 * 1024)],
        "before, in and behind the NULL range"
    );
    gpu.map(&bo, gpu.iova(0))?;
    ensure_eq!(
        gpu.read(gpu.iova(3 * PAGE), 1)?,
        [pattern(1, 3 * 1024)],
        "mapped again"
    );
    Ok(())
}

/// A residency buffer: NULL, with pages put in and taken out.
fn sparse(test: &mut Test) -> Outcome {
    let gpu = gpu_with_prr()?;
    let bo = gpu.bo(1, 64 * PAGE)?;
    gpu.bind()
        .map_null(gpu.iova(0), 64 * PAGE)
        .send_and_wait()
        .context("MAP_NULL")?;
    let mut model = [0u32; 64];
    let iovas: Vec<u64> = (0..64).map(|page| gpu.iova(page * PAGE)).collect();
    for _ in 0..40 {
        let mut bind = gpu.bind();
        for _ in 0..test.rng.usize(1..8) {
            let (at, from) = (test.rng.usize(..64), test.rng.usize(..64));
            if test.rng.bool() {
                bind = bind.map(&bo, from as u64 * PAGE, iovas[at], PAGE);
                model[at] = pattern(1, from * 1024);
            } else {
                bind = bind.map_null(iovas[at], PAGE);
                model[at] = 0;
            }
        }
        bind.send_and_wait().context("bind")?;
        ensure_eq!(gpu.peek(&iovas)?, model.to_vec(), "page by page");
    }
    ensure_eq!(gpu.faults()?, 0, "faults");
    Ok(())
}

/// What is unmapped from a NULL range faults again; what is left doesn't.
fn unmapped_again(_: &mut Test) -> Outcome {
    let _tolerance = Tolerance::new()?;
    let gpu = gpu_with_prr()?;
    let vadreno = uapi::vadreno::Vadreno::open().context("virtual Adreno")?;
    gpu.bind()
        .map_null(gpu.iova(0), 8 * PAGE)
        .send_and_wait()
        .context("MAP_NULL")?;
    gpu.unmap(gpu.iova(2 * PAGE), 2 * PAGE)?;
    gpu.peek(&[gpu.iova(0)])?;
    for page in 0..8 {
        let mapped =
            vadreno.translate(gpu.iova(page * PAGE))? != uapi::vadreno::Translation::Unmapped;
        ensure_eq!(mapped, !(2..4).contains(&page), "page {page} mapped");
    }
    Ok(())
}

/// A GiB of nothing.
fn large(_: &mut Test) -> Outcome {
    let gpu = gpu_with_prr()?;
    let size = 1 << 30;
    gpu.bind()
        .map_null(gpu.iova(0), size)
        .send_and_wait()
        .context("MAP_NULL of 1 GiB")?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(size / 2 + PAGE), gpu.iova(size - 4)])?,
        [0, 0, 0],
        "here and there"
    );
    ensure_eq!(gpu.faults()?, 0, "faults");
    gpu.unmap(gpu.iova(0), size)
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        reads_zero_and_drops_writes,
        over_a_mapping,
        sparse,
        unmapped_again,
        large,
    ])
}
