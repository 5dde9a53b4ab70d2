// SPDX-License-Identifier: GPL-2.0-only

//! One BO at several iovas and offsets: what the GPU writes through one mapping it reads through
//! the others.

use harness::{ensure_eq, Context, Outcome, Test};
use programs::{pattern, Gpu};
use std::process::ExitCode;
use uapi::{Bo, PAGE};

/// A BO mapped whole at one place, without its first page at a second, and its last two pages at a
/// third.
fn three_iovas(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 8 * PAGE)?;
    let (a, b, c) = (gpu.iova(0), gpu.iova(0x1000_0000), gpu.iova(0x40_0000_0000));
    gpu.bind()
        .map(&bo, 0, a, 8 * PAGE)
        .map(&bo, PAGE, b, 7 * PAGE)
        .map(&bo, 6 * PAGE, c, 2 * PAGE)
        .send_and_wait()
        .context("MAP at three iovas")?;

    // Each position of the BO, as seen through each mapping that has it.
    let through = |offset: u64| {
        let mut iovas = vec![a + offset];
        iovas.extend(offset.checked_sub(PAGE).map(|o| b + o));
        iovas.extend(offset.checked_sub(6 * PAGE).map(|o| c + o));
        iovas
    };
    for offset in (0..8 * PAGE).step_by(0x7f4) {
        for seen in gpu.peek(&through(offset))? {
            ensure_eq!(seen, pattern(1, offset as usize / 4), "read at {offset:#x}");
        }
    }
    for (n, offset) in (0..8 * PAGE).step_by(0x6c0).enumerate() {
        let iovas = through(offset);
        for (k, iova) in iovas.iter().enumerate() {
            let value = pattern(2 + k as u32, n);
            gpu.write(*iova, &[value])?;
            for seen in gpu.peek(&iovas)? {
                ensure_eq!(
                    seen,
                    value,
                    "written through mapping {k} at {offset:#x}, read back"
                );
            }
            ensure_eq!(
                bo.map()?.read(offset as usize / 4),
                value,
                "seen by the CPU at {offset:#x}"
            );
        }
    }
    Ok(())
}

/// The same pages next to each other, so that a copy from one alias to another is a copy onto
/// itself.
fn neighbours(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(3, PAGE)?;
    let mut bind = gpu.bind();
    for i in 0..64 {
        bind = bind.map(&bo, 0, gpu.iova(i * PAGE), PAGE);
    }
    bind.send_and_wait().context("MAP of one page 64 times")?;
    for i in 0..64u64 {
        gpu.write(gpu.iova(i * PAGE + 4 * i), &[0x1000 + i as u32])?;
    }
    let seen = gpu.read(gpu.iova(17 * PAGE), PAGE as usize / 4)?;
    for (i, dword) in seen.into_iter().enumerate() {
        let expected = if i < 64 {
            0x1000 + i as u32
        } else {
            pattern(3, i)
        };
        ensure_eq!(dword, expected, "dword {i}");
    }
    Ok(())
}

/// Removing one alias leaves the others.
fn one_goes(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(4, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.map(&bo, gpu.iova(0x100_0000))?;
    gpu.unmap(gpu.iova(0), 4 * PAGE)?;
    ensure_eq!(
        gpu.read(gpu.iova(0x100_0000 + 3 * PAGE), 1)?,
        [pattern(4, 3 * 1024)],
        "the other alias"
    );
    gpu.write(gpu.iova(0x100_0000), &[7])?;
    ensure_eq!(bo.map()?.read(0), 7, "written through it");
    Ok(())
}

/// Closing the handle leaves the mappings: a VMA holds its BO.
fn handle_closed(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(5, 2 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.map(&bo, gpu.iova(0x100_0000))?;
    drop(bo);
    gpu.write(gpu.iova(PAGE), &[0x55])?;
    ensure_eq!(
        gpu.read(gpu.iova(0x100_0000 + PAGE), 2)?,
        [0x55, pattern(5, 1025)],
        "through the other alias"
    );
    gpu.unmap(gpu.iova(0), 2 * PAGE)?;
    ensure_eq!(
        gpu.read(gpu.iova(0x100_0000 + PAGE), 1)?,
        [0x55],
        "with one mapping left"
    );
    gpu.unmap(gpu.iova(0x100_0000), 2 * PAGE)
}

/// A shared BO: exported by one context, imported by another, seen by both.
fn shared(_: &mut Test) -> Outcome {
    let (gpu, other) = (Gpu::new()?, Gpu::new()?);
    let bo = gpu.bo(6, 4 * PAGE)?;
    let dma_buf = bo.export().context("PRIME export")?;
    let import = Bo::import(&other.device, std::os::fd::AsFd::as_fd(&dma_buf), 4 * PAGE)
        .context("PRIME import")?;
    gpu.map(&bo, gpu.iova(0))?;
    other.map(&import, other.iova(0x20_0000))?;
    gpu.write(gpu.iova(PAGE), &[0xabc])?;
    ensure_eq!(
        other.read(other.iova(0x20_0000 + PAGE), 1)?,
        [0xabc],
        "in the other context"
    );
    drop((bo, gpu));
    other.write(other.iova(0x20_0000), &[0xdef])?;
    ensure_eq!(import.map()?.read(0), 0xdef, "after the exporter went");
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        three_iovas,
        neighbours,
        one_goes,
        handle_closed,
        shared
    ])
}
