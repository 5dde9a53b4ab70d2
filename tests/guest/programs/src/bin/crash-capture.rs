// SPDX-License-Identifier: GPL-2.0-only

//! What a crash dump copies of BOs, and what it costs while it is there.

use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use programs::{pattern, Gpu, PATIENCE};
use std::{
    collections::HashMap,
    ops::Range,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread::{scope, sleep},
    time::Duration,
};
use uapi::{
    abi::MSM_VM_BIND_OP_DUMP as DUMP,
    devcoredump::{bos, Devcoredump, ListedBo},
    fault_injection, memory, Bo, Pm4, PAGE,
};

const MIB: u64 = 1 << 20;
const BO_SIZE: u64 = 16 * MIB;

/// After a fault the SMMU doesn't stall for 500 ms, and not before the dump is freed, which takes a
/// worker: without that there is no dump.
const STALL_AGAIN: Duration = Duration::from_secs(2);

/// What a BO of [`BO_SIZE`] may cost: its content, encoded (five bytes for four), and everything
/// else in a dump.
const COST_OF_ONE: u64 = BO_SIZE / 4 * 5 + MIB;

/// The pages of a large BO that aren't all zero. The rest makes no difference to what a copy costs,
/// but to the text: reading it takes time that grows with the square of its length.
const SEVENTH: usize = 7 * 1024;
const LAST: usize = (BO_SIZE - PAGE) as usize / 4;

/// Dword `index` of large BO `tag`.
fn sparse(tag: u32, index: usize) -> u32 {
    match index {
        SEVENTH..0x2000 | LAST.. => pattern(tag, index),
        _ => 0,
    }
}

/// A large BO.
fn large(gpu: &Gpu, tag: u32, last: bool) -> harness::Result<Bo> {
    let bo = Bo::new(&gpu.device, BO_SIZE).context("GEM_NEW")?;
    let map = bo.map()?;
    let end = if last { LAST + 1024 } else { LAST };
    (SEVENTH..0x2000)
        .chain(LAST..end)
        .for_each(|index| map.write(index, pattern(tag, index)));
    Ok(bo)
}

/// The bytes in large buffers of the kernel's.
fn vmalloc() -> harness::Result<u64> {
    Ok(memory::meminfo("VmallocUsed")?)
}

/// The bytes in small ones. On the debug kernel they say nothing: KASAN keeps much for a while.
fn slabs() -> harness::Result<u64> {
    match fault_injection::available() {
        true => Ok(0),
        false => Ok(memory::meminfo("SUnreclaim")?),
    }
}

/// A dump, and what it has cost at most.
struct Captured {
    text: String,
    cost: u64,
}

/// Lets the SMMU stall, so that the next fault gives a dump.
fn ready() -> Outcome {
    if let Some(old) = Devcoredump::present()? {
        old.free()?;
        sleep(STALL_AGAIN);
    }
    Ok(())
}

/// Faults, and has `read` do with the dump what it wants. Waits for recovery and frees the dump.
fn fault<T>(
    gpu: &Gpu,
    read: impl FnOnce(&Devcoredump) -> harness::Result<T>,
) -> harness::Result<T> {
    let nowhere = gpu.iova(0x50_0000_0000);
    let submitted = gpu.start(
        &Pm4::new().mem_to_mem(gpu.result_iova(0), nowhere).barrier(),
        |s| s,
    )?;
    let dump = Devcoredump::wait(2 * PATIENCE).context("devcoredump")?;
    let result = read(&dump)?;
    submitted.wait(PATIENCE).context("recovery")?;
    dump.free()?;
    // The driver doesn't let the SMMU stall for so long.
    sleep(STALL_AGAIN);
    Ok(result)
}

/// Reads a dump, looking all the time what there is in large and in small buffers. Returns its text
/// and the most that there was.
fn read_and_look(dump: &Devcoredump) -> harness::Result<(String, (u64, u64))> {
    let mut most = (vmalloc()?, slabs()?);
    let done = AtomicBool::new(false);
    let text = scope(|scope| {
        let sampler = scope.spawn(|| -> harness::Result<u64> {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(vmalloc()?);
                sleep(Duration::from_millis(5));
            }
            Ok(most)
        });
        let text = dump.read().context("reading the devcoredump");
        done.store(true, Ordering::Relaxed);
        most.0 = most.0.max(sampler.join().expect("no panic")?);
        text
    })?;
    Ok((text, (most.0.max(vmalloc()?), most.1.max(slabs()?))))
}

/// Faults. Reads the dump, looking all the time what it costs, and frees it.
fn capture(gpu: &Gpu) -> harness::Result<Captured> {
    ready()?;
    let before = (vmalloc()?, slabs()?);
    let (text, most) = fault(gpu, read_and_look)?;
    let large = most.0.saturating_sub(before.0);
    let small = most.1.saturating_sub(before.1);
    println!(
        "# {} KiB of text; {} KiB and {} KiB of memory, in large and small buffers",
        text.len() >> 10,
        large >> 10,
        small >> 10
    );
    let cost = large + small;
    Ok(Captured { text, cost })
}

/// The mappings that are the test's.
fn listed<'a>(gpu: &Gpu, text: &'a str) -> harness::Result<Vec<ListedBo<'a>>> {
    let mut bos = bos(text).context("no bos in the dump")?;
    bos.retain(|bo| bo.iova >= gpu.iova(0));
    Ok(bos)
}

/// Whether a block is these dwords of a BO and no more.
fn check_data(data: &str, dwords: Range<usize>, expected: impl Fn(usize) -> u32) -> Outcome {
    let mut bytes = data.bytes();
    for index in dwords {
        let dword = match bytes.next().context("the content ends early")? {
            b'z' => 0,
            byte => (0..4)
                .try_fold(u32::from(byte - b'!'), |dword, _| {
                    let digit = u32::from(bytes.next()?.checked_sub(b'!')?);
                    dword.checked_mul(85)?.checked_add(digit)
                })
                .context("not ascii85")?,
        };
        ensure_eq!(dword, expected(index), "dword {index}");
    }
    ensure!(bytes.next().is_none(), "more content than the BO has");
    Ok(())
}

/// Captures what is mapped, which costs no more than one large BO.
fn capture_one(gpu: &Gpu) -> harness::Result<Captured> {
    let captured = capture(gpu)?;
    ensure!(
        captured.cost <= COST_OF_ONE,
        "the dump costs {} KiB",
        captured.cost >> 10
    );
    Ok(captured)
}

/// One BO, whole, at 200 addresses.
fn defect_33_content_once(_: &mut Test) -> Outcome {
    const MAPPINGS: u64 = 200;
    let gpu = Gpu::new()?;
    let bo = large(&gpu, 1, true)?;
    // All at once would be more page tables than a job may need.
    for some in 0..MAPPINGS / 20 {
        (20 * some..20 * (some + 1))
            .fold(gpu.bind(), |bind, n| {
                bind.map_flags(&bo, 0, gpu.iova(n * BO_SIZE), BO_SIZE, DUMP)
            })
            .send_and_wait()?;
    }
    let captured = capture_one(&gpu)?;
    let bos = listed(&gpu, &captured.text)?;
    ensure_eq!(bos.len() as u64, MAPPINGS, "mappings in the dump");
    let (first, others) = bos.split_first().context("no mapping")?;
    check_data(
        first.data.context("no content")?,
        0..BO_SIZE as usize / 4,
        |i| sparse(1, i),
    )?;
    for bo in others {
        ensure!(bo.data.is_none(), "content twice");
        ensure_eq!(bo.data_at, Some(first.iova), "where the content is");
    }
    Ok(())
}

/// A part of what another mapping has is found there, and what it doesn't have is copied.
fn defect_33_parts(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 16 * PAGE)?;
    let at = |n: u64| gpu.iova(n << 20);
    gpu.bind()
        .map_flags(&bo, 6 * PAGE, at(0), 2 * PAGE, DUMP)
        .map_flags(&bo, 4 * PAGE, at(1), 8 * PAGE, DUMP)
        .map_flags(&bo, 12 * PAGE, at(2), 4 * PAGE, DUMP)
        .map(&bo, 0, at(3), 16 * PAGE)
        .send_and_wait()?;
    let captured = capture(&gpu)?;
    let bos = listed(&gpu, &captured.text)?;
    ensure_eq!(bos.len(), 4, "mappings in the dump");
    ensure_eq!(bos[0].data_at, Some(at(1) + 2 * PAGE), "where it is");
    ensure!(bos[0].data.is_none(), "content twice");
    let expected = |index| pattern(1, index);
    check_data(
        bos[1].data.context("no content")?,
        4 * 1024..12 * 1024,
        expected,
    )?;
    check_data(
        bos[2].data.context("no content")?,
        12 * 1024..16 * 1024,
        expected,
    )?;
    ensure!(
        bos[3].data.is_none() && bos[3].data_at.is_none() && bos[3].omitted.is_none(),
        "content that wasn't asked for"
    );
    Ok(())
}

/// However mappings overlap, they cost no more than the BO.
fn defect_33_overlaps(_: &mut Test) -> Outcome {
    const MAPPINGS: u64 = 6;
    let gpu = Gpu::new()?;
    let bo = large(&gpu, 1, false)?;
    let range = BO_SIZE - MAPPINGS * PAGE;
    (0..MAPPINGS)
        .fold(gpu.bind(), |bind, n| {
            bind.map_flags(&bo, n * PAGE, gpu.iova(n * BO_SIZE), range, DUMP)
        })
        .send_and_wait()?;
    let captured = capture_one(&gpu)?;
    let bos = listed(&gpu, &captured.text)?;
    ensure_eq!(bos.len() as u64, MAPPINGS, "mappings in the dump");
    ensure!(bos[0].data.is_some(), "the first has no content");
    for bo in &bos[1..] {
        ensure!(bo.omitted.is_some(), "nothing is said about {bo:x?}");
    }
    Ok(())
}

/// BOs that together are larger than a dump may be: it says which of them it left out.
fn defect_33_limit(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let limit = (memory::meminfo("MemTotal")? / 16).min(128 * MIB);
    let count = limit / BO_SIZE + 2;
    let bos = (0..count)
        .map(|n| large(&gpu, n as u32 + 1, false))
        .collect::<harness::Result<Vec<Bo>>>()?;
    bos.iter()
        .zip(0..)
        .fold(gpu.bind(), |bind, (bo, n)| {
            bind.map_flags(bo, 0, gpu.iova(n * BO_SIZE), BO_SIZE, DUMP)
        })
        .send_and_wait()?;
    let captured = capture(&gpu)?;
    ensure!(
        captured.cost <= limit + 2 * MIB,
        "the dump costs {} KiB, with a limit of {}",
        captured.cost >> 10,
        limit >> 10
    );
    let mut left_out = 0;
    for (bo, tag) in listed(&gpu, &captured.text)?.iter().zip(1..) {
        match (bo.data, bo.omitted) {
            (Some(data), None) => check_data(data, 0..0x2000, |i| sparse(tag, i))?,
            (None, Some(_)) => left_out += 1,
            _ => bail!("nothing is said about {:#x}", bo.iova),
        }
    }
    ensure!(left_out > 0, "nothing was left out");
    ensure!(left_out < count, "everything was left out");
    Ok(())
}

/// Two processes read the same dump at the same time.
fn defect_34_two_readers(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, MIB)?;
    gpu.bind()
        .map_flags(&bo, 0, gpu.iova(0), bo.size(), DUMP)
        .send_and_wait()?;
    ready()?;
    let texts = fault(&gpu, |dump| {
        scope(|scope| {
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| dump.read())).collect();
            readers
                .into_iter()
                .map(|reader| Ok(reader.join().expect("no panic")?))
                .collect::<harness::Result<Vec<String>>>()
        })
    })?;
    let mut seen = HashMap::new();
    texts
        .iter()
        .for_each(|text| *seen.entry(text).or_insert(0) += 1);
    ensure_eq!(seen.len(), 1, "different texts");
    let bos = listed(&gpu, &texts[0])?;
    check_data(
        bos[0].data.context("no content")?,
        0..MIB as usize / 4,
        |i| pattern(1, i),
    )
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        defect_33_content_once,
        defect_33_parts,
        defect_33_overlaps,
        defect_33_limit,
        defect_34_two_readers,
    ])
}
