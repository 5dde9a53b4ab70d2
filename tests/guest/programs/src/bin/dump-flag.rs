// SPDX-License-Identifier: GPL-2.0-only

//! `MSM_VM_BIND_OP_DUMP`: which mappings' contents the crash dump has.

use harness::{ensure_eq, Context, Outcome, Test};
use programs::{fault, Gpu};
use std::process::ExitCode;
use uapi::{abi::MSM_VM_BIND_OP_DUMP as DUMP, devcoredump::section, Pm4, PAGE};

/// The dump's BOs: iova, size, and whether the contents are there.
fn bos(gpu: &Gpu) -> harness::Result<Vec<(u64, u64, bool)>> {
    let address = gpu.iova(0x50_0000_0000);
    let dump = fault::provoke(
        gpu,
        &Pm4::new().mem_to_mem(gpu.result_iova(0), address).barrier(),
    )?;
    let mut bos: Vec<(u64, u64, bool)> = Vec::new();
    for line in section(&dump, "bos").context("no bos in the dump")? {
        let line = line.trim_start();
        if let Some(iova) = line.strip_prefix("- iova: 0x") {
            bos.push((u64::from_str_radix(iova, 16)?, 0, false));
        } else if let (Some(size), Some(bo)) = (line.strip_prefix("size: "), bos.last_mut()) {
            bo.1 = size.parse()?;
        } else if let (true, Some(bo)) = (line.starts_with("data:"), bos.last_mut()) {
            bo.2 = true;
        }
    }
    // The tools' own mappings are below.
    bos.retain(|bo| bo.0 >= gpu.iova(0));
    Ok(bos)
}

fn asked_for_at_once(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.bind()
        .map(&bo, 0, gpu.iova(0), 4 * PAGE)
        .map_flags(&bo, 0, gpu.iova(0x10_0000), 4 * PAGE, DUMP)
        .send_and_wait()?;
    ensure_eq!(
        bos(&gpu)?,
        [
            (gpu.iova(0), 4 * PAGE, false),
            (gpu.iova(0x10_0000), 4 * PAGE, true)
        ],
        "BOs in the dump"
    );
    Ok(())
}

fn set_in_place(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.bind()
        .map_flags(&bo, 0, gpu.iova(0), 4 * PAGE, DUMP)
        .send_and_wait()?;
    ensure_eq!(
        bos(&gpu)?,
        [(gpu.iova(0), 4 * PAGE, true)],
        "BOs in the dump"
    );
    Ok(())
}

fn cleared_in_place(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.bind()
        .map_flags(&bo, 0, gpu.iova(0), 4 * PAGE, DUMP)
        .send_and_wait()?;
    gpu.map(&bo, gpu.iova(0))?;
    ensure_eq!(
        bos(&gpu)?,
        [(gpu.iova(0), 4 * PAGE, false)],
        "BOs in the dump"
    );
    Ok(())
}

/// Set for one of several mappings of the same BO.
fn set_for_one_alias(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.map(&bo, gpu.iova(0x10_0000))?;
    gpu.bind()
        .map_flags(&bo, 0, gpu.iova(0x10_0000), 4 * PAGE, DUMP)
        .send_and_wait()?;
    ensure_eq!(
        bos(&gpu)?,
        [
            (gpu.iova(0), 4 * PAGE, false),
            (gpu.iova(0x10_0000), 4 * PAGE, true)
        ],
        "BOs in the dump"
    );
    Ok(())
}

/// What is left of a mapping keeps its flag.
fn kept_by_the_pieces(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let (a, b) = (gpu.bo(1, 8 * PAGE)?, gpu.bo(2, 8 * PAGE)?);
    gpu.bind()
        .map_flags(&a, 0, gpu.iova(0), 8 * PAGE, DUMP)
        .map(&b, 0, gpu.iova(0x10_0000), 8 * PAGE)
        .send_and_wait()?;
    gpu.unmap(gpu.iova(3 * PAGE), 2 * PAGE)?;
    gpu.unmap(gpu.iova(0x10_0000), PAGE)?;
    ensure_eq!(
        bos(&gpu)?,
        [
            (gpu.iova(0), 3 * PAGE, true),
            (gpu.iova(5 * PAGE), 3 * PAGE, true),
            (gpu.iova(0x10_0000 + PAGE), 7 * PAGE, false),
        ],
        "BOs in the dump"
    );
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        asked_for_at_once,
        set_in_place,
        cleared_in_place,
        set_for_one_alias,
        kept_by_the_pieces,
    ])
}
