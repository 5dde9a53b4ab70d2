// SPDX-License-Identifier: GPL-2.0-only

//! The scenarios. Each is given a size, sets up contexts of its own, measures, and prints.

use crate::{
    fragment::{runs, Fragmented},
    meter::{at_rest, figure, median, report, Cost, Meter},
    trace::PreallocCleanup,
};
use harness::{ensure, Context, Result};
use programs::{screen::Screen, Gpu, PATIENCE};
use uapi::{
    abi, memory, Bo, Device, Errno, HeldFence, Mapping, Pm4, Submit, SubmitQueue, Submitted,
    Syncobj, Tracepoint, VmBind, PAGE,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What one page table of the last level maps.
const REGION: u64 = 2 * MIB;

/// Ops that are measured in each case of scattered binding; of single ones a quarter.
const SAMPLE: usize = 4096;

/// The MiB whose pages are bound in jobs of several sizes.
const SCATTERED: u64 = 64;

/// All scenarios, by name.
#[allow(clippy::type_complexity)]
pub const ALL: &[(&str, fn(u64) -> Result<()>)] = &[
    ("map-4k", |_| single(true, false)),
    ("unmap-4k", |_| single(false, false)),
    ("map-4k-syncobj", |_| single(true, true)),
    ("unmap-4k-syncobj", |_| single(false, true)),
    ("map-4k-empty", |_| in_empty_region(true)),
    ("unmap-4k-empty", |_| in_empty_region(false)),
    ("bo-made-and-freed", bo_made_and_freed),
    ("scatter-jobs", |batch| {
        with_fragments(SCATTERED, |target| scatter(target, batch))
    }),
    ("scatter", |mib| {
        with_fragments(mib, |target| scatter(target, 1024))
    }),
    ("contiguous-jobs", |batch| {
        scatter(&Target::contiguous(SCATTERED)?, batch)
    }),
    ("unmap-ranges", unmap_ranges),
    ("unmap-over", unmap_over),
    ("replace-over", replace_over),
    ("map-fragmented", |mib| with_fragments(mib, map_whole)),
    ("map-whole", |mib| map_whole(&Target::contiguous(mib)?)),
    ("map-null", map_null),
    ("holes-single", |count| holes(count, 1)),
    ("holes-job", |count| holes(count, count)),
    ("holes-blocks", holes_in_blocks),
    ("map-among", |count| among(count, true)),
    ("unmap-among", |count| among(count, false)),
    ("tables-reserved", tables_reserved),
    ("tables-left", tables_left),
    ("tables-mapped", tables_mapped),
    ("walks-first", |mib| walks(&Target::contiguous(mib)?, 0)),
    ("walks-first-fragmented", |mib| {
        with_fragments(mib, |target| walks(target, 0))
    }),
    ("walks-sweep", |mib| walks(&Target::contiguous(mib)?, 1)),
    ("submit-shared", |count| submit(count, 0)),
    ("submit-no-share", |count| {
        submit(count, abi::MSM_BO_NO_SHARE)
    }),
    ("submit-legacy", |count| submit_legacy(count, 0)),
    ("submit-legacy-no-share", |count| {
        submit_legacy(count, abi::MSM_BO_NO_SHARE)
    }),
    ("close-file", close_file),
    ("close-bo", close_bo),
    ("page-flip", page_flip),
];

/// A context, and a BO in it that has its memory.
struct Target {
    gpu: Gpu,
    meter: Meter,
    bo: Bo,
    mib: u64,
}

impl Target {
    fn new(mib: u64, fragmented: bool) -> Result<Self> {
        let (gpu, meter) = (Gpu::new()?, Meter::new()?);
        let bo = Bo::new(&gpu.device, mib * MIB).context("GEM_NEW")?;
        let runs = runs(&gpu, &meter, &bo)?;
        let pages = bo.size() / PAGE;
        ensure!(
            if fragmented {
                runs > pages / 10 * 9
            } else {
                runs < pages / 10
            },
            "the BO has {runs} runs of memory in {pages} pages"
        );
        figure("runs", runs as f64);
        at_rest()?;
        Ok(Self {
            gpu,
            meter,
            bo,
            mib,
        })
    }

    /// With memory as a guest gives it in which nothing has run before.
    fn contiguous(mib: u64) -> Result<Self> {
        Self::new(mib, false)
    }
}

/// `work` with a BO of `mib` whose pages are each a run of their own.
fn with_fragments(mib: u64, work: impl FnOnce(&Target) -> Result<()>) -> Result<()> {
    let _memory = Fragmented::new(mib * MIB + 32 * MIB)?;
    work(&Target::new(mib, true)?)
}

/// 4 KiB mapped, or unmapped, in a request of its own, where tables exist. Who waits for it has a
/// sync file, or a syncobj.
fn single(map: bool, with_syncobj: bool) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let bo = gpu.bo(1, 64 * PAGE)?;
    let syncobj = Syncobj::new(&gpu.device).context("syncobj")?;
    let measure = |bind: VmBind<'_>| match with_syncobj {
        true => meter.bind_with(&bind.signal(&syncobj, 0), &syncobj),
        false => meter.bind(&gpu.device, &bind),
    };
    gpu.map(&bo, gpu.iova(0))?;
    at_rest()?;
    let iova = |n: u64| gpu.iova((64 + 2 * n) * PAGE);
    let mut samples = Vec::new();
    for n in 0..64 {
        let mapped = measure(gpu.bind().map(&bo, n * PAGE, iova(n), PAGE))?;
        if map {
            samples.push(mapped);
        }
    }
    for n in 0..if map { 0 } else { 64 } {
        samples.push(measure(gpu.bind().unmap(iova(n), PAGE))?);
    }
    report(1, median(&samples));
    Ok(())
}

/// What it costs to map a page of `bo`, or else to unmap it; both are done.
fn map_or_unmap(gpu: &Gpu, meter: &Meter, bo: &Bo, iova: u64, map: bool) -> Result<Cost> {
    let mapped = meter.bind(&gpu.device, &gpu.bind().map(bo, 0, iova, PAGE))?;
    let unmapped = meter.bind(&gpu.device, &gpu.bind().unmap(iova, PAGE))?;
    Ok(if map { mapped } else { unmapped })
}

/// 4 KiB mapped, or unmapped, where there is nothing else in the 2 MiB around it.
fn in_empty_region(map: bool) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    at_rest()?;
    let iova = gpu.iova(REGION);
    let mut samples = Vec::new();
    for _ in 0..64 {
        samples.push(map_or_unmap(&gpu, &meter, &bo, iova, map)?);
    }
    report(1, median(&samples));
    Ok(())
}

/// BOs that are made, mapped, unmapped and closed as turnip does it, with a timeline point for each
/// bind; per BO. Counts the work items of the driver and of its scheduler that workers have run.
fn bo_made_and_freed(count: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let timeline = Syncobj::new(&gpu.device).context("syncobj")?;
    let kept = gpu.bo(1, PAGE)?;
    gpu.map(&kept, gpu.iova(0))?;
    at_rest()?;
    let run = Tracepoint::of("workqueue", "workqueue_execute_start").context("tracing")?;
    let flags = abi::MSM_BO_WC | abi::MSM_BO_NO_SHARE;
    let cost = meter.to_the_end(|| {
        for n in 0..count {
            let bo = Bo::with_flags(&gpu.device, 16 * PAGE, flags).context("GEM_NEW")?;
            let iova = gpu.iova((16 + 16 * (n % 16)) * PAGE);
            let map = gpu.bind().map(&bo, 0, iova, bo.size());
            let unmap = gpu.bind().unmap(iova, bo.size());
            for (bind, point) in [(map, 2 * n + 1), (unmap, 2 * n + 2)] {
                bind.signal(&timeline, point)
                    .send_only()
                    .context("VM_BIND")?;
            }
        }
        Ok(())
    })?;
    let events = run.events().context("tracing")?;
    let of_driver = |event: &&String| event.contains("drm_sched_") || event.contains("[msm]");
    let per_bo = |all: u64| all as f64 / count as f64;
    let items = events.iter().filter(of_driver).count();
    figure("items", per_bo(items as u64));
    figure("work", per_bo(cost.work));
    figure("tlbi", per_bo(cost.tlbi));
    figure("registers", cost.registers as f64);
    Ok(())
}

/// The pages of a BO and the places for them, both in random order.
fn shuffled(mib: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut random = fastrand::Rng::with_seed(mib);
    let mut pages: Vec<u64> = (0..mib * MIB / PAGE).collect();
    random.shuffle(&mut pages);
    let mut places = pages.clone();
    random.shuffle(&mut places);
    pages.into_iter().zip(places)
}

/// Pages of a BO bound one op each, in random order at random iovas, in jobs of `batch` ops.
fn scatter(target: &Target, batch: u64) -> Result<()> {
    let Target {
        gpu,
        meter,
        bo,
        mib,
    } = target;
    let ops = if batch == 1 { SAMPLE / 4 } else { SAMPLE };
    let places: Vec<_> = shuffled(*mib).take(ops).collect();
    let mut samples = Vec::new();
    for job in places.chunks_exact(batch as usize) {
        let bind = job.iter().fold(gpu.bind(), |bind, (page, place)| {
            bind.map(bo, page * PAGE, gpu.iova(place * PAGE), PAGE)
        });
        samples.push(meter.bind(&gpu.device, &bind)?);
    }
    // What the first job, or the first few, need of page tables, the others find.
    report(batch, median(&samples));
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

/// VMAs unmapped by an op each, in one request.
fn unmap_ranges(count: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let mut samples = Vec::new();
    for _ in 0..5 {
        let _bo = comb(&gpu, count)?;
        at_rest()?;
        let bind = (0..count).fold(gpu.bind(), |bind, n| {
            bind.unmap(gpu.iova(2 * n * PAGE), PAGE)
        });
        samples.push(meter.bind(&gpu.device, &bind)?);
    }
    report(count, median(&samples));
    Ok(())
}

/// VMAs unmapped by one op.
fn unmap_over(count: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let mut samples = Vec::new();
    for _ in 0..5 {
        let _bo = comb(&gpu, count)?;
        at_rest()?;
        let bind = gpu.bind().unmap(gpu.iova(0), 2 * count * PAGE);
        samples.push(meter.bind(&gpu.device, &bind)?);
    }
    report(count, median(&samples));
    Ok(())
}

/// A BO mapped over VMAs, with the gaps between them; per job.
fn replace_over(count: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let over = gpu.bo(2, 2 * count * PAGE)?;
    let mut samples = Vec::new();
    for _ in 0..3 {
        let _bo = comb(&gpu, count)?;
        at_rest()?;
        let bind = gpu.bind().map(&over, 0, gpu.iova(0), over.size());
        samples.push(meter.bind(&gpu.device, &bind)?);
        gpu.unmap(gpu.iova(0), over.size())?;
    }
    report(1, median(&samples));
    Ok(())
}

/// A BO mapped whole; per page.
fn map_whole(target: &Target) -> Result<()> {
    let Target { gpu, meter, bo, .. } = target;
    let mut samples = Vec::new();
    for _ in 0..3 {
        let bind = gpu.bind().map(bo, 0, gpu.iova(0), bo.size());
        samples.push(meter.bind(&gpu.device, &bind)?);
        gpu.unmap(gpu.iova(0), bo.size())?;
        at_rest()?;
    }
    report(bo.size() / PAGE, median(&samples));
    Ok(())
}

/// NULL mappings; per page.
fn map_null(mib: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let mut samples = Vec::new();
    for _ in 0..3 {
        at_rest()?;
        let bind = gpu.bind().map_null(gpu.iova(GIB), mib * MIB);
        samples.push(meter.bind(&gpu.device, &bind)?);
        gpu.unmap(gpu.iova(GIB), mib * MIB)?;
    }
    report(mib * MIB / PAGE, median(&samples));
    Ok(())
}

/// Holes of a page punched into a mapping of pages, in jobs of `batch`; per hole.
fn holes(count: u64, batch: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let bo = gpu.bo(1, 2 * count * PAGE)?;
    let mut samples = Vec::new();
    // Not aligned like the memory, so that there are no blocks.
    let iova = |page| gpu.iova((page + 1) * PAGE);
    for _ in 0..if batch == count { 5 } else { 1 } {
        gpu.map(&bo, iova(0))?;
        at_rest()?;
        for first in (0..count).step_by(batch as usize) {
            let bind = (first..first + batch)
                .fold(gpu.bind(), |bind, n| bind.unmap(iova(2 * n + 1), PAGE));
            samples.push(meter.bind(&gpu.device, &bind)?);
        }
    }
    report(batch, median(&samples));
    Ok(())
}

/// A hole of a page in each of many 2 MiB of contiguous memory, in a request of its own.
fn holes_in_blocks(count: u64) -> Result<()> {
    let Target { gpu, meter, bo, .. } = Target::contiguous(2 * count)?;
    gpu.map(&bo, gpu.iova(0))?;
    at_rest()?;
    let mut samples = Vec::new();
    for n in 0..count {
        let bind = gpu.bind().unmap(gpu.iova(2 * n * MIB + 7 * PAGE), PAGE);
        samples.push(meter.bind(&gpu.device, &bind)?);
    }
    report(1, median(&samples));
    Ok(())
}

/// 4 KiB mapped, or unmapped, in a VM with many VMAs; and what memory these take.
fn among(count: u64, map: bool) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let unreclaimable = || -> Result<u64> {
        at_rest()?;
        memory::drop_caches()?;
        Ok(memory::meminfo("SUnreclaim")?)
    };
    // One that isn't counted: what a first VMA makes exist stays.
    gpu.unmap(gpu.iova(0), PAGE)?;
    let before = unreclaimable()?;
    let bo = comb(&gpu, count)?;
    let grown = unreclaimable()?.saturating_sub(before);
    if map {
        figure("bytes", grown as f64 / count as f64);
    }
    let mut samples = Vec::new();
    for n in 0..32 {
        // Between those that are there.
        let iova = gpu.iova((2 * (n * (count / 32)) + 1) * PAGE);
        samples.push(map_or_unmap(&gpu, &meter, &bo, iova, map)?);
    }
    report(1, median(&samples));
    Ok(())
}

/// Page tables that jobs of 1024 scattered ops of 4 KiB reserve in all, and those that are there in
/// the end.
///
/// A job that waits for a fence has reserved its tables, and says how many they were once it is
/// over. Ours are linked already: then both have to be right.
fn tables_reserved(mib: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let bo = Bo::new(&gpu.device, mib * MIB).context("GEM_NEW")?;
    let trace = PreallocCleanup::new()?;
    // The device walks the tables of the context that ran last.
    gpu.run(&Pm4::new().barrier())?;
    let linked = || meter.tables(gpu.iova(0), gpu.iova(mib * MIB));
    let before = linked()?;
    let (mut waiting, mut there) = (0, before);
    let places: Vec<_> = shuffled(mib).collect();
    for job in places.chunks(1024) {
        let held = HeldFence::new().context("a held fence")?;
        let bind = job
            .iter()
            .fold(gpu.bind().after(held.file()), |bind, (page, place)| {
                bind.map(&bo, page * PAGE, gpu.iova(place * PAGE), PAGE)
            });
        let fence = bind.send().context("VM_BIND")?;
        waiting += linked()? - there;
        held.still_held().context("the held fence")?;
        held.signal().context("signalling")?;
        fence.wait(PATIENCE).context("the bind's fence")?;
        there = linked()?;
    }
    // Jobs are freed, and the tracepoint passed, behind their fence.
    at_rest()?;
    let reserved = trace.reserved()?.context("nothing was reserved")?;
    ensure!(
        waiting == 0 || waiting == reserved,
        "{reserved} tables were reserved, it says, but {waiting} were linked"
    );
    figure("reserved", reserved as f64);
    figure("used", (there - before) as f64);
    Ok(())
}

/// Page tables that stay, of those for so many pages 2 MiB apart, when all are unmapped.
fn tables_left(count: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let bo = Bo::new(&gpu.device, PAGE).context("GEM_NEW")?;
    gpu.run(&Pm4::new().barrier())?;
    let end = 2 * count * MIB;
    let linked = || meter.tables(gpu.iova(0), gpu.iova(end));
    let before = linked()?;
    for n in 0..count {
        gpu.bind()
            .map(&bo, 0, gpu.iova(2 * n * MIB), PAGE)
            .send_and_wait()
            .context("MAP")?;
    }
    let used = linked()? - before;
    ensure!(used >= count, "{used} tables for {count} mappings");
    figure("used", used as f64);
    for n in 0..count {
        gpu.unmap(gpu.iova(2 * n * MIB), PAGE)?;
    }
    figure("left", linked()?.saturating_sub(before) as f64);
    Ok(())
}

/// Page tables, the root excepted, by which so many MiB of contiguous memory are mapped.
fn tables_mapped(mib: u64) -> Result<()> {
    const BO: u64 = 64;
    let Target { gpu, meter, bo, .. } = Target::contiguous(BO)?;
    gpu.run(&Pm4::new().barrier())?;
    let linked = || meter.tables(gpu.iova(0), gpu.iova(mib * MIB));
    let before = linked()?;
    let bind = (0..mib / BO).fold(gpu.bind(), |bind, n| {
        bind.map(&bo, 0, gpu.iova(n * BO * MIB), BO * MIB)
    });
    bind.send_and_wait().context("MAP")?;
    figure("tables", linked()?.saturating_sub(before) as f64);
    Ok(())
}

/// Walks that the GPU makes when it reads a dword of each page, one page after the other, per MiB.
/// At the first time a TLB of any size makes them; after `sweeps` it is one of limited size.
fn walks(target: &Target, sweeps: usize) -> Result<()> {
    let Target { gpu, meter, bo, .. } = target;
    const READS: u64 = 4096;
    let pages = bo.size() / PAGE;
    let sweep = |iova: &dyn Fn(u64) -> u64| {
        (0..pages).step_by(READS as usize).try_for_each(|first| {
            let iovas: Vec<u64> = (first..pages.min(first + READS)).map(iova).collect();
            gpu.peek(&iovas).map(drop)
        })
    };
    gpu.map(bo, gpu.iova(0))?;
    let aside = gpu.bo(1, PAGE)?;
    gpu.map(&aside, gpu.iova(GIB))?;
    let away = |_| gpu.iova(GIB);
    let all = |page| gpu.iova(page * PAGE);
    // So many SUBMITs have their commands all over the BO of commands: it is known from here on.
    for _ in 0..16u64.div_ceil(pages.div_ceil(READS)) {
        sweep(&away)?;
    }
    for _ in 0..sweeps {
        sweep(&all)?;
    }
    let before = meter.walks();
    sweep(&all)?;
    let after = meter.walks();
    let per_mib = |at: usize| (after[at] - before[at]) as f64 / target.mib as f64;
    figure("walks", per_mib(sweeps.min(1)));
    if sweeps > 0 {
        figure("reads", per_mib(2));
    }
    Ok(())
}

/// A SUBMIT in a VM where many BOs are mapped.
fn submit(count: u64, flags: u32) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    let bos = (0..count)
        .map(|_| Bo::with_flags(&gpu.device, PAGE, abi::MSM_BO_WC | flags).context("GEM_NEW"))
        .collect::<Result<Vec<_>>>()?;
    for (bo, n) in bos.iter().zip(0..) {
        gpu.map(bo, gpu.iova(n * PAGE))?;
    }
    at_rest()?;
    let nop = Pm4::new().barrier();
    let mut samples = Vec::new();
    for _ in 0..33 {
        let (cost, submitted) =
            meter.call(|| gpu.start(&nop, |submit| submit).context("SUBMIT"))?;
        submitted.wait(PATIENCE).context("the SUBMIT's fence")?;
        samples.push(cost);
    }
    report(1, median(&samples));
    Ok(())
}

/// A context whose addresses the kernel gives out, with a command that does nothing.
struct Legacy {
    device: Device,
    queue: SubmitQueue,
    commands: Bo,
    nop: Pm4,
    _map: Mapping,
}

impl Legacy {
    fn new() -> Result<Self> {
        let device = Device::open().context("opening the GPU")?;
        let queue = SubmitQueue::new(&device, 0).context("submitqueue")?;
        let commands = Bo::new(&device, PAGE).context("GEM_NEW")?;
        let nop = Pm4::new().barrier();
        let map = commands.map().context("mmap")?;
        for (at, dword) in nop.dwords().iter().enumerate() {
            map.write(at, *dword);
        }
        Ok(Self {
            device,
            queue,
            commands,
            nop,
            _map: map,
        })
    }

    /// A SUBMIT that lists these BOs behind its own.
    fn submit<'a>(&'a self, bos: &[Bo]) -> Submit<'a> {
        bos.iter()
            .fold(
                Submit::new(&self.queue).bo(&self.commands, abi::MSM_SUBMIT_BO_READ),
                |submit, bo| submit.bo(bo, abi::MSM_SUBMIT_BO_READ),
            )
            .cmd_in(0, 0, self.nop.size())
    }
}

fn done(submitted: &Submitted) -> Result<()> {
    submitted.wait(PATIENCE).context("the SUBMIT's fence")
}

/// A SUBMIT with a table of `count` BOs, all but the first of them with these flags.
fn submit_legacy(count: u64, flags: u32) -> Result<()> {
    let (legacy, meter) = (Legacy::new()?, Meter::new()?);
    let bos = (1..count)
        .map(|_| Bo::with_flags(&legacy.device, PAGE, abi::MSM_BO_WC | flags).context("GEM_NEW"))
        .collect::<Result<Vec<_>>>()?;
    let table = legacy.submit(&bos);
    match table.send() {
        Ok(first) => done(&first)?,
        Err(refused @ (Errno::EALREADY | Errno::EINVAL)) => {
            figure("errno", f64::from(refused as i32));
            return Ok(());
        }
        Err(error) => return Err(error).context("SUBMIT"),
    }
    at_rest()?;
    let mut samples = Vec::new();
    for _ in 0..17 {
        let (cost, submitted) = meter.call(|| table.send().context("SUBMIT"))?;
        done(&submitted)?;
        samples.push(cost);
    }
    report(1, median(&samples));
    Ok(())
}

/// A file closed with many VMAs; per VMA.
fn close_file(count: u64) -> Result<()> {
    let (gpu, meter) = (Gpu::new()?, Meter::new()?);
    comb(&gpu, count)?;
    at_rest()?;
    let cost = meter.to_the_end(|| {
        drop(gpu);
        Ok(())
    })?;
    report(count, cost);
    Ok(())
}

/// A BO closed that the GPU has used, in a context whose addresses the kernel gives out.
fn close_bo(mib: u64) -> Result<()> {
    let (legacy, meter) = (Legacy::new()?, Meter::new()?);
    let mut samples = Vec::new();
    for _ in 0..5 {
        let bos = [Bo::new(&legacy.device, mib * MIB).context("GEM_NEW")?];
        done(&legacy.submit(&bos).send().context("SUBMIT")?)?;
        at_rest()?;
        samples.push(meter.to_the_end(|| {
            drop(bos);
            Ok(())
        })?);
    }
    report(1, median(&samples));
    Ok(())
}

/// A flip to the next one of `count` dumb BOs that were shown before, until it is shown and the one
/// before it isn't pinned any more.
fn page_flip(count: u64) -> Result<()> {
    const FLIPS: u64 = 30;
    let (screen, meter) = (Screen::open()?, Meter::new()?);
    let buffers = (1..=count as u32)
        .map(|tag| screen.dumb(tag))
        .collect::<Result<Vec<_>>>()?;
    let mut framebuffers = buffers.iter().map(|(_, framebuffer)| framebuffer).cycle();
    let mut next = || framebuffers.next().context("a framebuffer");
    screen.show(next()?)?;
    for _ in 0..2 * count {
        screen.flip(next()?)?;
    }
    at_rest()?;
    let unmaps = Tracepoint::of("iommu", "unmap").context("tracing")?;
    let mut samples = Vec::new();
    for _ in 0..FLIPS {
        let framebuffer = next()?;
        samples.push(meter.without_waiting(|| screen.flip(framebuffer))?);
    }
    let per_flip = |sum: u64| sum as f64 / FLIPS as f64;
    figure(
        "unmaps",
        per_flip(unmaps.events().context("tracing")?.len() as u64),
    );
    figure("tlbi", per_flip(samples.iter().map(|cost| cost.tlbi).sum()));
    let middle = median(&samples);
    figure("work", middle.work as f64);
    figure("registers", middle.registers as f64);
    screen.done()
}
