// SPDX-License-Identifier: GPL-2.0-only

//! `MSM_VM_BIND_OP_DUMP`: which mappings' contents the crash dump has, and who records submits.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{fault, pattern, Gpu};
use std::{fs::File, io::Read, process::ExitCode, thread};
use uapi::{abi::MSM_VM_BIND_OP_DUMP as DUMP, debugfs, devcoredump, Pm4, PAGE};

/// The dump's BOs: iova, size, and whether the contents are there.
fn bos(gpu: &Gpu) -> harness::Result<Vec<(u64, u64, bool)>> {
    let address = gpu.iova(0x50_0000_0000);
    let dump = fault::provoke(
        gpu,
        &Pm4::new().mem_to_mem(gpu.result_iova(0), address).barrier(),
    )?;
    let mut bos: Vec<(u64, u64, bool)> = devcoredump::bos(&dump)
        .context("no bos in the dump")?
        .iter()
        .map(|bo| (bo.iova, bo.size, bo.data.is_some()))
        .collect();
    // The tools' own mappings are below.
    bos.retain(|bo| bo.0 >= gpu.iova(0));
    Ok(bos)
}

/// Sections of debugfs' `rd` (`enum rd_sect_type`).
mod section_of_rd {
    pub const GPUADDR: u32 = 3;
    pub const CMDSTREAM_ADDR: u32 = 6;
    pub const BUFFER_CONTENTS: u32 = 12;
}

/// Reads a section: what it is, and its content.
fn read_section(rd: &mut File) -> harness::Result<(u32, Vec<u8>)> {
    let mut word = || -> harness::Result<u32> {
        let mut bytes = [0; 4];
        rd.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    };
    let (what, size) = (word()?, word()?);
    let mut content = vec![0; size as usize];
    rd.read_exact(&mut content)?;
    Ok((what, content))
}

/// Who reads debugfs' `rd` gets each submit, with the content of what is mapped to be dumped.
fn recorded_for_debugfs(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let (dumped, other) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
    gpu.bind()
        .map_flags(&dumped, 0, gpu.iova(0), 4 * PAGE, DUMP)
        .map(&other, 0, gpu.iova(4 * PAGE), 4 * PAGE)
        .send_and_wait()?;
    let mut rd = debugfs::rd().context("debugfs rd")?;
    let commands = Pm4::new().barrier();
    let reader = thread::spawn(move || -> harness::Result<Vec<(u32, Vec<u8>)>> {
        let mut sections = Vec::new();
        loop {
            let section = read_section(&mut rd).context("debugfs rd")?;
            let last = section.0 == section_of_rd::CMDSTREAM_ADDR;
            sections.push(section);
            if last {
                return Ok(sections);
            }
        }
    });
    gpu.run(&commands)?;
    let sections = reader.join().expect("a thread")?;
    let words = |bytes: &[u8]| -> Vec<u32> {
        let words = bytes.chunks_exact(4);
        words
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect()
    };
    for (iova, content) in [
        (
            gpu.iova(0),
            Some((0..4096).map(|n| pattern(1, n)).collect()),
        ),
        (gpu.iova(4 * PAGE), None),
    ] {
        let header = [iova as u32, 4 * PAGE as u32, (iova >> 32) as u32];
        let at = sections
            .iter()
            .position(|(what, bytes)| *what == section_of_rd::GPUADDR && words(bytes) == header)
            .context("a mapping isn't recorded")?;
        let next = &sections[at + 1];
        let found = (next.0 == section_of_rd::BUFFER_CONTENTS).then(|| words(&next.1));
        ensure!(found == content, "the content at {iova:#x}");
    }
    Ok(())
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
        recorded_for_debugfs,
    ])
}
