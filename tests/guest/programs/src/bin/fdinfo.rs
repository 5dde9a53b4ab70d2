// SPDX-License-Identifier: GPL-2.0-only

//! What `/proc/PID/fdinfo` says of a DRM file: whose it is, what its BOs take, and how much the GPU
//! has done for it.

use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use programs::{eventually, Gpu, Legacy, PATIENCE};
use std::{
    collections::HashMap,
    fs,
    os::fd::{AsFd, AsRawFd},
    process::ExitCode,
};
use uapi::{
    abi::{
        MSM_BO_NO_SHARE, MSM_BO_WC, MSM_MADV_DONTNEED, MSM_MADV_WILLNEED,
        MSM_SUBMIT_BO_WRITE as WRITE,
    },
    debugfs, module,
    swap::Swap,
    Bo, Device, HeldFence, Pm4, Submit, SubmitQueue, VmBind, PAGE,
};

const MIB: u64 = 1 << 20;

/// The fields of a file, sizes in bytes, times in ns.
struct Fdinfo(HashMap<String, String>);

impl Fdinfo {
    fn of(device: &Device) -> harness::Result<Self> {
        let path = format!("/proc/self/fdinfo/{}", device.as_fd().as_raw_fd());
        let text = fs::read_to_string(&path).context(path)?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(Self(
            fields
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
                .collect(),
        ))
    }

    fn text(&self, key: &str) -> harness::Result<&str> {
        Ok(self.0.get(key).with_context(|| format!("no {key}"))?)
    }

    fn number(&self, key: &str) -> harness::Result<u64> {
        let text = self.text(key)?;
        let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
        let factor = match unit {
            "" | "ns" | "Hz" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            unit => bail!("{key} in {unit}"),
        };
        Ok(number
            .parse::<u64>()
            .with_context(|| format!("{key}: {text}"))?
            * factor)
    }

    /// Bytes of that kind. Kinds that no BO is of aren't printed.
    fn memory(&self, kind: &str) -> harness::Result<u64> {
        let key = format!("drm-{kind}-memory");
        match self.0.contains_key(&key) {
            true => self.number(&key),
            false => Ok(0),
        }
    }
}

/// How many bytes more there are, of each kind, than at first.
struct Memory<'a> {
    device: &'a Device,
    before: [u64; 5],
}

/// Total, shared, resident, purgeable, active.
const NONE: [u64; 5] = [0; 5];

impl<'a> Memory<'a> {
    fn new(device: &'a Device) -> harness::Result<Self> {
        let mut memory = Self {
            device,
            before: NONE,
        };
        memory.before = memory.more()?;
        Ok(memory)
    }

    fn more(&self) -> harness::Result<[u64; 5]> {
        let info = Fdinfo::of(self.device)?;
        let mut more = NONE;
        let kinds = ["total", "shared", "resident", "purgeable", "active"];
        for (i, kind) in kinds.into_iter().enumerate() {
            more[i] = info
                .memory(kind)?
                .checked_sub(self.before[i])
                .with_context(|| format!("{kind} has become less"))?;
        }
        Ok(more)
    }
}

fn client(_: &mut Test) -> Outcome {
    let (one, other) = (Device::open()?, Device::open()?);
    let (first, second) = (Fdinfo::of(&one)?, Fdinfo::of(&other)?);
    ensure_eq!(first.text("drm-driver")?, "msm", "drm-driver");
    ensure!(
        first.number("drm-client-id")? != second.number("drm-client-id")?,
        "two files have the same drm-client-id"
    );
    ensure_eq!(first.memory("total")?, 0, "without BOs, drm-total-memory");
    ensure_eq!(first.number("drm-engine-gpu")?, 0, "without work, ns");
    ensure_eq!(first.number("drm-cycles-gpu")?, 0, "without work, cycles");
    first.number("drm-maxfreq-gpu")?;
    Ok(())
}

/// From the making of a BO to its end.
fn memory(_: &mut Test) -> Outcome {
    const SIZE: u64 = 3 * MIB + 5 * PAGE;
    let gpu = Gpu::new()?;
    let other = Gpu::new()?;
    let memory = Memory::new(&gpu.device)?;
    let strangers = Memory::new(&other.device)?;
    let bo = Bo::new(&gpu.device, SIZE)?;
    ensure_eq!(memory.more()?, [SIZE, 0, 0, 0, 0], "a new BO");
    bo.madvise(MSM_MADV_DONTNEED)?;
    ensure_eq!(memory.more()?, [SIZE, 0, 0, 0, 0], "no pages to be purged");
    bo.madvise(MSM_MADV_WILLNEED)?;
    bo.map()?.write(0, 1);
    ensure_eq!(memory.more()?, [SIZE, 0, SIZE, 0, 0], "with pages");
    gpu.map(&bo, gpu.iova(0))?;
    gpu.map(&bo, gpu.iova(1 << 30))?;
    ensure_eq!(memory.more()?, [SIZE, 0, SIZE, 0, 0], "mapped twice");
    gpu.unmap(gpu.iova(0), SIZE)?;
    gpu.unmap(gpu.iova(1 << 30), SIZE)?;
    bo.madvise(MSM_MADV_DONTNEED)?;
    ensure_eq!(memory.more()?, [SIZE, 0, SIZE, SIZE, 0], "not needed");
    ensure!(bo.madvise(MSM_MADV_WILLNEED)?, "it was purged");
    ensure_eq!(memory.more()?, [SIZE, 0, SIZE, 0, 0], "needed again");
    bo.madvise(MSM_MADV_DONTNEED)?;
    // It counts beside others.
    let other = Bo::new(&gpu.device, MIB)?;
    other.map()?.write(0, 1);
    ensure_eq!(
        memory.more()?,
        [SIZE + MIB, 0, SIZE + MIB, SIZE, 0],
        "beside one that is needed"
    );
    drop(other);
    eventually("the BO to be purged", || {
        debugfs::shrink(1 << 20)?;
        Ok(memory.more()?[2] == 0)
    })?;
    ensure_eq!(memory.more()?, [SIZE, 0, 0, 0, 0], "purged");
    ensure!(!bo.madvise(MSM_MADV_WILLNEED)?, "it wasn't purged");
    drop(bo);
    ensure_eq!(memory.more()?, NONE, "after GEM_CLOSE");
    ensure_eq!(strangers.more()?, NONE, "in another file");
    Ok(())
}

/// What is swapped out is neither resident nor purgeable, and is resident again when it is back:
/// for a CPU, or for the GPU.
fn swapped_out(_: &mut Test) -> Outcome {
    const SIZE: u64 = 2 * MIB + 3 * PAGE;
    let _swap = Swap::new(64 * MIB).context("swap")?;
    let device = Device::open_vm_bind()?;
    let memory = Memory::new(&device)?;
    let bo = Bo::new(&device, SIZE)?;
    bo.map()?.write(0, 1);
    let gone = || {
        eventually("the BO to be swapped out", || {
            debugfs::shrink(1 << 20)?;
            Ok(memory.more()?[2] == 0)
        })
    };
    for round in 0..2 {
        ensure_eq!(memory.more()?, [SIZE, 0, SIZE, 0, 0], "in round {round}");
        gone()?;
        ensure_eq!(memory.more()?, [SIZE, 0, 0, 0, 0], "swapped out");
        bo.madvise(MSM_MADV_DONTNEED)?;
        ensure_eq!(memory.more()?, [SIZE, 0, 0, 0, 0], "and not needed");
        bo.madvise(MSM_MADV_WILLNEED)?;
        ensure_eq!(bo.map()?.read(0), 1, "its content");
    }
    gone()?;
    let binds = SubmitQueue::new_vm_bind(&device).context("VM_BIND queue")?;
    let iova = device.va_range().context("VA range")?.start;
    VmBind::new(&binds)
        .map(&bo, 0, iova, SIZE)
        .send_and_wait()
        .context("MAP")?;
    ensure_eq!(memory.more()?, [SIZE, 0, SIZE, 0, 0], "after a MAP");
    Ok(())
}

/// Shared: with a dma-buf, or a handle in another file.
fn shared(_: &mut Test) -> Outcome {
    let (one, other) = (Device::open()?, Device::open()?);
    let (here, there) = (Memory::new(&one)?, Memory::new(&other)?);
    let bo = Bo::new(&one, MIB)?;
    let exported = bo.export()?;
    let imported = Bo::import(&other, exported.as_fd(), MIB)?;
    ensure_eq!(here.more()?[..2], [MIB, MIB], "the exporter's");
    ensure_eq!(there.more()?[..2], [MIB, MIB], "the importer's");
    bo.map()?.write(0, 1);
    for (files, memory) in [("exporter", &here), ("importer", &there)] {
        ensure_eq!(
            memory.more()?,
            [MIB, MIB, MIB, 0, 0],
            "in the {files}'s, with pages"
        );
    }
    drop(imported);
    ensure_eq!(there.more()?, NONE, "the importer's, closed");
    drop(bo);
    ensure_eq!(here.more()?, NONE, "the exporter's, closed");
    Ok(())
}

/// What isn't needed is purgeable for everybody who shares it: it is one BO.
fn defect_28_purgeable_for_both(_: &mut Test) -> Outcome {
    let (one, other) = (Device::open()?, Device::open()?);
    let (here, there) = (Memory::new(&one)?, Memory::new(&other)?);
    let bo = Bo::new(&one, MIB)?;
    bo.map()?.write(0, 1);
    let imported = Bo::import(&other, bo.export()?.as_fd(), MIB)?;
    for (by, asked, madv, purgeable) in [
        ("importer", &imported, MSM_MADV_DONTNEED, MIB),
        ("exporter", &bo, MSM_MADV_WILLNEED, 0),
        ("exporter", &bo, MSM_MADV_DONTNEED, MIB),
    ] {
        asked.madvise(madv)?;
        for (files, memory) in [("exporter", &here), ("importer", &there)] {
            ensure_eq!(
                memory.more()?,
                [MIB, MIB, MIB, purgeable, 0],
                "in the {files}'s, once the {by} has said so"
            );
        }
    }
    Ok(())
}

/// Active: while a SUBMIT that names the BO waits or runs.
fn active(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bo = gpu.bo(1, MIB)?;
    let device = bo.device();
    let memory = Memory::new(device)?;
    let held = HeldFence::new().context("held fence")?;
    let submitted = Submit::new(&gpu.queue)
        .bo(&bo, WRITE)
        .after(held.file())
        .send()?;
    ensure_eq!(memory.more()?[4], MIB, "a BO that a SUBMIT uses");
    bo.madvise(MSM_MADV_DONTNEED)?;
    ensure_eq!(memory.more()?[3], 0, "an active BO can't be purged");
    bo.madvise(MSM_MADV_WILLNEED)?;
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE)?;
    ensure_eq!(memory.more()?, NONE, "afterwards");
    Ok(())
}

/// A SUBMIT of a VM_BIND context may use all that is mapped, and leaves implicit fences on none of
/// it: nothing counts as active.
fn active_in_vm_bind(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let memory = Memory::new(&gpu.device)?;
    let shared = gpu.bo(1, MIB)?;
    let private = Bo::with_flags(&gpu.device, MIB, MSM_BO_WC | MSM_BO_NO_SHARE)?;
    private.map()?.write(0, 1);
    gpu.map(&shared, gpu.iova(0))?;
    gpu.map(&private, gpu.iova(MIB))?;
    let held = HeldFence::new().context("held fence")?;
    let submitted = gpu
        .start(&Pm4::new().nop(1).barrier(), |s| s.after(held.file()))
        .context("SUBMIT")?;
    let binds = gpu
        .bind()
        .unmap(gpu.iova(0), MIB)
        .after(held.file())
        .send()?;
    ensure_eq!(
        memory.more()?,
        [2 * MIB, 0, 2 * MIB, 0, 0],
        "while a SUBMIT and a bind wait"
    );
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE)?;
    binds.wait(PATIENCE)?;
    Ok(())
}

/// Time and cycles are those of the file's own work.
fn engine(_: &mut Test) -> Outcome {
    let (gpu, idle) = (Gpu::new()?, Gpu::new()?);
    let numbers = |gpu: &Gpu| -> harness::Result<(u64, u64)> {
        let info = Fdinfo::of(&gpu.device)?;
        Ok((
            info.number("drm-engine-gpu")?,
            info.number("drm-cycles-gpu")?,
        ))
    };
    let mut last = numbers(&gpu)?;
    for _ in 0..3 {
        gpu.run(&Pm4::new().nop(1000).barrier())?;
        // It is counted when the kernel retires the work, a little later.
        eventually("time to be counted", || Ok(numbers(&gpu)?.0 > last.0))?;
        let now = numbers(&gpu)?;
        ensure!(now.1 >= last.1, "cycles have become less");
        last = now;
    }
    ensure!(
        last.0 < 60_000_000_000,
        "three short SUBMITs took {} ns",
        last.0
    );
    ensure_eq!(numbers(&idle)?, (0, 0), "of a file without work");
    Ok(())
}

/// debugfs lists the VMAs of each file: where they are, how long, and from where in their BO.
fn gpuvas(_: &mut Test) -> Outcome {
    let (gpu, other) = (Gpu::new()?, Gpu::new()?);
    let bo = gpu.bo(1, 4 * PAGE)?;
    let at = gpu.iova(0x40_0000);
    gpu.bind()
        .map(&bo, PAGE, at, 2 * PAGE)
        .send_and_wait()
        .context("MAP")?;
    if debugfs::gpuvas().context("gpuvas")?.is_none() {
        ensure!(!module::is_out_of_tree("msm")?, "there is no gpuvas");
        return Ok(());
    }
    // A VM that somebody has locked isn't listed.
    let listing = || -> harness::Result<String> {
        let mut text = String::new();
        eventually("all VMs to be listed", || {
            text = debugfs::gpuvas().context("gpuvas")?.unwrap_or_default();
            Ok(!text.contains("locked by somebody"))
        })?;
        Ok(text)
    };
    let text = listing()?;
    let (start, len, end) = (at, 2 * PAGE, at + 2 * PAGE);
    let place = format!(" | {start:#018x} | {len:#018x} | {end:#018x} | ");
    let offset = format!(" | {PAGE:#018x}");
    let is_ours = |line: &&str| line.contains(&place) && line.ends_with(&offset);
    ensure_eq!(
        text.lines().filter(is_ours).count(),
        1,
        "our VMA in\n{text}"
    );
    let id = |gpu: &Gpu| -> harness::Result<String> {
        Ok(format!(
            "client {}, process {}:",
            Fdinfo::of(&gpu.device)?.number("drm-client-id")?,
            std::process::id()
        ))
    };
    for gpu in [&gpu, &other] {
        let id = id(gpu)?;
        ensure!(text.lines().any(|line| line == id), "no {id} in\n{text}");
    }
    gpu.unmap(at, 2 * PAGE)?;
    let text = listing()?;
    ensure_eq!(
        text.lines().filter(is_ours).count(),
        0,
        "our VMA in\n{text}"
    );
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        client,
        memory,
        swapped_out,
        shared,
        defect_28_purgeable_for_both,
        active,
        active_in_vm_bind,
        engine,
        gpuvas
    ])
}
