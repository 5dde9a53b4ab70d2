// SPDX-License-Identifier: GPL-2.0-only

//! The scenarios. Each sets up a context of its own, measures, and prints.

use crate::{
    fragment::{runs, Fragmented},
    meter::{figure, median, report, Cost, Meter},
};
use harness::{Context, Result};
use programs::{Gpu, PATIENCE};
use uapi::{abi, memory, Bo, Device, Pm4, Submit, SubmitQueue, PAGE};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Ops that are measured in each case of scattered binding.
const SAMPLE: usize = 4096;

type Scenario = fn(&str) -> Result<()>;

/// All scenarios, by name, in the order in which they are run.
pub const ALL: &[(&str, Scenario)] = &[
    ("map-4k", map_4k),
    ("unmap-4k", unmap_4k),
    ("contiguous-1", |name| scatter(name, &[64], 1, false)),
    ("contiguous-16", |name| scatter(name, &[64], 16, false)),
    ("contiguous-256", |name| scatter(name, &[64], 256, false)),
    ("contiguous-1024", |name| scatter(name, &[64], 1024, false)),
    ("map-whole", |name| map_whole(name, &[64], false)),
    ("unmap-ranges", unmap_ranges),
    ("unmap-over", unmap_over),
    ("replace-over", replace_over),
    ("map-null", map_null),
    ("holes-single", |name| holes(name, 1)),
    ("holes-job", |name| holes(name, 1024)),
    ("map-among", |name| among(name, true)),
    ("unmap-among", |name| among(name, false)),
    ("submit-shared", |name| submit(name, false)),
    ("submit-no-share", |name| submit(name, true)),
    ("submit-legacy", submit_legacy),
    ("close", close),
    // Last, for memory stays broken up.
    ("scatter-1", |name| scatter(name, &[64], 1, true)),
    ("scatter-16", |name| scatter(name, &[64], 16, true)),
    ("scatter-256", |name| scatter(name, &[64], 256, true)),
    ("scatter-1024", |name| {
        scatter(name, &[4, 16, 64, 128], 1024, true)
    }),
    ("map-fragmented", |name| map_whole(name, &[2, 16, 64], true)),
];

/// 4 KiB mapped in a request of its own, where tables exist.
fn map_4k(name: &str) -> Result<()> {
    single(name, true)
}

/// 4 KiB unmapped in a request of its own.
fn unmap_4k(name: &str) -> Result<()> {
    single(name, false)
}

fn single(name: &str, map: bool) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let bo = gpu.bo(1, 64 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let mut samples = Vec::new();
    for n in 0..64 {
        let iova = gpu.iova((64 + 2 * n) * PAGE);
        let mapped = meter.bind(&gpu.device, &gpu.bind().map(&bo, n * PAGE, iova, PAGE))?;
        if map {
            samples.push(mapped);
        }
    }
    for n in 0..if map { 0 } else { 64 } {
        let iova = gpu.iova((64 + 2 * n) * PAGE);
        samples.push(meter.bind(&gpu.device, &gpu.bind().unmap(iova, PAGE))?);
    }
    report(name, 1, 1, median(&samples));
    Ok(())
}

/// Pages of a BO bound one op each, in random order at random iovas, in jobs of `batch` ops.
fn scatter(name: &str, sizes: &[u64], batch: usize, fragmented: bool) -> Result<()> {
    for &mib in sizes {
        let _memory = fragmented
            .then(|| Fragmented::new(mib * MIB + 32 * MIB))
            .transpose()?;
        let (gpu, meter) = (Gpu::new()?, Meter::new()?);
        let bo = Bo::new(&gpu.device, mib * MIB).context("GEM_NEW")?;
        figure(name, mib, "runs", runs(&gpu, &meter, &bo)? as f64);
        let mut random = fastrand::Rng::with_seed(mib);
        let mut pages: Vec<u64> = (0..mib * MIB / PAGE).collect();
        random.shuffle(&mut pages);
        let ops = pages
            .len()
            .min(if batch == 1 { SAMPLE / 4 } else { SAMPLE });
        pages.truncate(ops);
        let mut places = pages.clone();
        random.shuffle(&mut places);
        let places: Vec<_> = pages.iter().zip(&places).collect();
        let mut samples = Vec::new();
        for job in places.chunks(batch) {
            let bind = job.iter().fold(gpu.bind(), |bind, (page, place)| {
                bind.map(&bo, **page * PAGE, gpu.iova(**place * PAGE), PAGE)
            });
            samples.push(meter.bind(&gpu.device, &bind)?);
        }
        report(name, mib, batch as u64, median(&samples));
    }
    Ok(())
}

/// A VM with `count` VMAs of a page each, with a page between them.
fn comb(gpu: &Gpu, count: u64) -> Result<Bo> {
    let bo = gpu.bo(1, 1024 * PAGE)?;
    for first in (0..count).step_by(1024) {
        (first..count.min(first + 1024))
            .fold(gpu.bind(), |bind, n| {
                bind.map(&bo, n % 1024 * PAGE, gpu.iova(2 * n * PAGE), PAGE)
            })
            .send_and_wait()
            .context("MAPs")?;
    }
    Ok(bo)
}

/// 1024 VMAs unmapped by an op each, in one request.
fn unmap_ranges(name: &str) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let mut samples = Vec::new();
    for _ in 0..5 {
        let _bo = comb(&gpu, 1024)?;
        let bind = (0..1024).fold(gpu.bind(), |bind, n| {
            bind.unmap(gpu.iova(2 * n * PAGE), PAGE)
        });
        samples.push(meter.bind(&gpu.device, &bind)?);
    }
    report(name, 1024, 1024, median(&samples));
    Ok(())
}

/// 1024 VMAs unmapped by one op.
fn unmap_over(name: &str) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let mut samples = Vec::new();
    for _ in 0..5 {
        let _bo = comb(&gpu, 1024)?;
        let bind = gpu.bind().unmap(gpu.iova(0), 2048 * PAGE);
        samples.push(meter.bind(&gpu.device, &bind)?);
    }
    report(name, 1024, 1024, median(&samples));
    Ok(())
}

/// 16 MiB mapped over 2048 VMAs.
fn replace_over(name: &str) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let over = gpu.bo(2, 16 * MIB)?;
    let mut samples = Vec::new();
    for _ in 0..3 {
        let _bo = comb(&gpu, 2048)?;
        let bind = gpu.bind().map(&over, 0, gpu.iova(0), 16 * MIB);
        samples.push(meter.bind(&gpu.device, &bind)?);
        gpu.unmap(gpu.iova(0), 16 * MIB)?;
    }
    report(name, 2048, 1, median(&samples));
    Ok(())
}

/// A BO mapped whole; per page.
fn map_whole(name: &str, sizes: &[u64], fragmented: bool) -> Result<()> {
    for &mib in sizes {
        let _memory = fragmented
            .then(|| Fragmented::new(mib * MIB + 32 * MIB))
            .transpose()?;
        let (gpu, meter) = (Gpu::new()?, Meter::new()?);
        let bo = Bo::new(&gpu.device, mib * MIB).context("GEM_NEW")?;
        figure(name, mib, "runs", runs(&gpu, &meter, &bo)? as f64);
        let mut samples = Vec::new();
        for _ in 0..3 {
            let bind = gpu.bind().map(&bo, 0, gpu.iova(0), mib * MIB);
            samples.push(meter.bind(&gpu.device, &bind)?);
            gpu.unmap(gpu.iova(0), mib * MIB)?;
        }
        report(name, mib, mib * MIB / PAGE, median(&samples));
    }
    Ok(())
}

/// NULL mappings; per page.
fn map_null(name: &str) -> Result<()> {
    for mib in [64, 1024] {
        let (gpu, meter) = (Gpu::new()?, Meter::new()?);
        let mut samples = Vec::new();
        for _ in 0..3 {
            let bind = gpu.bind().map_null(gpu.iova(GIB), mib * MIB);
            samples.push(meter.bind(&gpu.device, &bind)?);
            gpu.unmap(gpu.iova(GIB), mib * MIB)?;
        }
        report(name, mib, mib * MIB / PAGE, median(&samples));
    }
    Ok(())
}

/// 1024 holes of a page punched into a mapping of 8 MiB, in jobs of `batch`; per hole.
fn holes(name: &str, batch: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let bo = gpu.bo(1, 2048 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let mut samples = Vec::new();
    for first in (0..1024).step_by(batch as usize) {
        let bind = (first..first + batch).fold(gpu.bind(), |bind, n| {
            bind.unmap(gpu.iova((2 * n + 1) * PAGE), PAGE)
        });
        samples.push(meter.bind(&gpu.device, &bind)?);
    }
    report(name, 1024, batch, median(&samples));
    Ok(())
}

/// 4 KiB mapped, or unmapped, in a VM with many VMAs; and what memory these take.
fn among(name: &str, map: bool) -> Result<()> {
    for count in [1_000, 10_000, 100_000] {
        let (gpu, meter) = (Gpu::new()?, Meter::new()?);
        memory::drop_caches()?;
        let before = memory::meminfo("SUnreclaim")?;
        let bo = comb(&gpu, count)?;
        memory::drop_caches()?;
        let grown = memory::meminfo("SUnreclaim")?.saturating_sub(before);
        let mut samples = Vec::new();
        for n in 0..32 {
            // Between those that are there.
            let iova = gpu.iova((2 * (n * (count / 32)) + 1) * PAGE);
            let mapped = meter.bind(&gpu.device, &gpu.bind().map(&bo, 0, iova, PAGE))?;
            let unmapped = meter.bind(&gpu.device, &gpu.bind().unmap(iova, PAGE))?;
            samples.push(if map { mapped } else { unmapped });
        }
        report(name, count, 1, median(&samples));
        if map {
            figure(name, count, "bytes", grown as f64 / count as f64);
        }
    }
    Ok(())
}

/// A SUBMIT in a VM where many BOs are mapped.
fn submit(name: &str, no_share: bool) -> Result<()> {
    let flags = abi::MSM_BO_WC | if no_share { abi::MSM_BO_NO_SHARE } else { 0 };
    for count in [1, 100, 1000] {
        let (gpu, meter) = (Gpu::new()?, Meter::new()?);
        let bos = (0..count)
            .map(|_| Bo::with_flags(&gpu.device, PAGE, flags).context("GEM_NEW"))
            .collect::<Result<Vec<_>>>()?;
        for (bo, n) in bos.iter().zip(0..) {
            gpu.map(bo, gpu.iova(n * PAGE))?;
        }
        let nop = Pm4::new().barrier();
        let mut samples = Vec::new();
        for _ in 0..33 {
            let (cost, submitted) =
                meter.call(|| gpu.start(&nop, |submit| submit).context("SUBMIT"))?;
            submitted.wait(PATIENCE).context("the SUBMIT's fence")?;
            samples.push(cost);
        }
        report(name, count, 1, median(&samples));
    }
    Ok(())
}

/// A SUBMIT with a table of BOs, in a context whose addresses the kernel gives out.
fn submit_legacy(name: &str) -> Result<()> {
    for count in [1, 10, 100, 1000] {
        let meter = Meter::new()?;
        let device = Device::open().context("opening the GPU")?;
        let queue = SubmitQueue::new(&device, 0).context("submitqueue")?;
        let bos = (0..count)
            .map(|_| Bo::new(&device, PAGE).context("GEM_NEW"))
            .collect::<Result<Vec<_>>>()?;
        let nop = Pm4::new().barrier();
        let commands = Bo::new(&device, PAGE).context("GEM_NEW")?;
        let map = commands.map().context("mmap")?;
        for (at, dword) in nop.dwords().iter().enumerate() {
            map.write(at, *dword);
        }
        let mut samples = Vec::new();
        for _ in 0..17 {
            let table = bos
                .iter()
                .skip(1)
                .fold(
                    Submit::new(&queue).bo(&commands, abi::MSM_SUBMIT_BO_READ),
                    |submit, bo| submit.bo(bo, abi::MSM_SUBMIT_BO_READ),
                )
                .cmd_in(0, 0, nop.size());
            let (cost, submitted) = meter.call(|| table.send().context("SUBMIT"))?;
            submitted.wait(PATIENCE).context("the SUBMIT's fence")?;
            samples.push(cost);
        }
        report(name, count, 1, median(&samples));
    }
    Ok(())
}

/// A file closed with many VMAs; per VMA.
fn close(name: &str) -> Result<()> {
    for count in [10_000, 100_000] {
        let meter = Meter::new()?;
        let gpu = Gpu::new()?;
        comb(&gpu, count)?;
        let (cost, ()) = meter.call(|| {
            drop(gpu);
            Ok(())
        })?;
        report(name, count, count, Cost { ..cost });
    }
    Ok(())
}
