// SPDX-License-Identifier: GPL-2.0-only

//! What the shrinker takes, in which order, and that everything that is needed comes back.

mod races;

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{
    check_unpinned, eventually, fault, pattern, swap_out, Census, Gpu, Legacy, Waiting, PATIENCE,
};
use races::{cpu_access_races_with_purge, cpu_access_races_with_swapping_out};
use std::{
    fs,
    os::fd::AsFd,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED, MSM_SUBMIT_BO_READ, MSM_VM_BIND_OP_DUMP},
    debugfs, module,
    swap::Swap,
    vadreno::{Translation, Vadreno},
    Bo, HeldFence, Pm4, Submitted, Tracepoint, PAGE,
};

const PAGES: u64 = 64;
const SIZE: u64 = PAGES * PAGE;
const EVERYTHING: u64 = 1 << 20;
const SWAP: u64 = 256 << 20;

/// Has the shrinker take all that is idle.
fn shrink() -> harness::Result<u64> {
    debugfs::shrink(EVERYTHING).context("debugfs shrink")
}

/// Checks a BO's content through the GPU: the first and the last dword of each page.
fn check(gpu: &Gpu, iova: u64, tag: u32, when: &str) -> Outcome {
    let dwords: Vec<usize> = (0..PAGES as usize)
        .flat_map(|page| [page * 1024, page * 1024 + 1023])
        .collect();
    let iovas: Vec<u64> = dwords
        .iter()
        .map(|&dword| iova + 4 * dword as u64)
        .collect();
    let expected: Vec<u32> = dwords.iter().map(|&dword| pattern(tag, dword)).collect();
    ensure_eq!(gpu.peek(&iovas)?, expected, "BO {tag} {when}");
    Ok(())
}

/// Mapped BOs that were swapped out come back with the next submit, with what is in them.
fn swapped_out_and_back_by_submit(_: &mut Test) -> Outcome {
    let _swap = Swap::new(SWAP).context("swap")?;
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let gpu = Gpu::new()?;
    let bos = [gpu.bo(1, SIZE)?, gpu.bo(2, SIZE)?];
    for (i, bo) in bos.iter().enumerate() {
        gpu.map(bo, gpu.iova(i as u64 * SIZE))?;
    }
    for round in 0..3 {
        let freed = swap_out(&gpu.device)?;
        ensure!(freed >= 2 * PAGES, "{freed} pages of idle BOs were freed");
        ensure_eq!(
            vadreno.translate(gpu.iova(0))?,
            Translation::Unmapped,
            "a BO without pages"
        );
        for i in 0..2 {
            check(
                &gpu,
                gpu.iova(i * SIZE),
                i as u32 + 1,
                &format!("in round {round}"),
            )?;
        }
    }
    Ok(())
}

/// … and with a CPU access, and a bind.
fn swapped_out_and_back_by_cpu_and_bind(_: &mut Test) -> Outcome {
    let _swap = Swap::new(SWAP).context("swap")?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, SIZE)?;
    let map = bo.map()?;
    let freed = swap_out(&gpu.device)?;
    ensure!(freed >= PAGES, "{freed} pages of an idle BO were freed");
    for index in (0..map.len()).step_by(1024) {
        ensure_eq!(
            map.read(index),
            pattern(1, index),
            "dword {index} for the CPU"
        );
    }
    let freed = swap_out(&gpu.device)?;
    ensure!(freed >= PAGES, "{freed} pages were freed the second time");
    gpu.map(&bo, gpu.iova(0))?;
    check(&gpu, gpu.iova(0), 1, "after MAP")
}

/// What isn't needed goes first, and no more than was asked for.
fn unneeded_first(_: &mut Test) -> Outcome {
    let _swap = Swap::new(SWAP).context("swap")?;
    let gpu = Gpu::new()?;
    shrink()?;
    let (needed, unneeded) = (gpu.bo(1, SIZE)?, gpu.bo(2, SIZE)?);
    unneeded.madvise(MSM_MADV_DONTNEED)?;
    let trace = Tracepoint::new("msm_gem_shrink").context("tracing")?;
    ensure_eq!(debugfs::shrink(1)?, PAGES, "pages that were freed");
    ensure_eq!(
        trace.events()?,
        [format!(
            "nr_to_scan=1 pg, purged={PAGES} pg, evicted=0 pg, active_purged=0 pg, \
             active_evicted=0 pg"
        )],
        "the tracepoint"
    );
    ensure!(!unneeded.madvise(MSM_MADV_WILLNEED)?, "not purged");
    ensure!(needed.madvise(MSM_MADV_WILLNEED)?, "purged");
    ensure_eq!(
        needed.map()?.read(5),
        pattern(1, 5),
        "the BO that is needed"
    );
    Ok(())
}

/// Without swap, or without leave, only what isn't needed goes.
fn nothing_is_swapped_without_swap_or_leave(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, SIZE)?;
    shrink()?;
    // What earlier contexts had is gone.
    Census::now()?;
    let before = debugfs::most_gem_resident()?;
    // In one look a BO is missing that somebody has locked.
    let all_stay = |when: &str| {
        shrink()?;
        eventually(&format!("as many BOs with pages as before, {when}"), || {
            Ok(debugfs::gem_resident()? == before)
        })
    };
    all_stay("without swap")?;
    let _swap = Swap::new(SWAP).context("swap")?;
    module::set_parameter("msm", "enable_eviction", "N")?;
    let result = all_stay("without leave");
    module::set_parameter("msm", "enable_eviction", "Y")?;
    result?;
    let freed = swap_out(&gpu.device)?;
    ensure!(freed >= PAGES, "{freed} pages freed with swap and leave");
    ensure_eq!(bo.map()?.read(7), pattern(1, 7), "the BO");
    Ok(())
}

/// BOs that a waiting job will use keep their pages, and reclaim doesn't wait for ever.
fn busy_ones_stay(_: &mut Test) -> Outcome {
    let _swap = Swap::new(SWAP).context("swap")?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, SIZE)?;
    let waiting = Waiting::send(gpu.bind().map(&bo, 0, gpu.iova(0), SIZE))?;
    bo.madvise(MSM_MADV_DONTNEED)?;
    shrink()?;
    // All caches' shrinkers, as reclaim calls them.
    let start = Instant::now();
    fs::write("/proc/sys/vm/drop_caches", "2").context("drop_caches")?;
    let took = start.elapsed();
    ensure!(took < PATIENCE, "reclaim has waited {took:?}");
    ensure!(bo.madvise(MSM_MADV_WILLNEED)?, "purged under a job");
    waiting.run()?;
    check(&gpu, gpu.iova(0), 1, "after the job")
}

/// A submit uses all that is mapped in its VM, as long as it waits, too. BOs that other VMs map,
/// where nothing runs, stay as well, whatever their fate is.
fn mapped_ones_stay_while_a_submit_waits(_: &mut Test) -> Outcome {
    let _swap = Swap::new(SWAP).context("swap")?;
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let (gpu, idle) = (Gpu::new()?, Gpu::new()?);
    let bos = [gpu.bo(1, SIZE)?, gpu.bo(2, SIZE)?];
    let mut imported = Vec::new();
    for (index, bo) in bos.iter().enumerate() {
        let iova = gpu.iova(index as u64 * SIZE);
        gpu.map(bo, iova)?;
        let other = Bo::import(&idle.device, bo.export()?.as_fd(), SIZE)?;
        idle.map(&other, idle.iova(index as u64 * SIZE))?;
        imported.push(other);
    }
    let held = HeldFence::new().context("held fence")?;
    let commands = Pm4::new()
        .mem_to_mem(gpu.result_iova(0), gpu.iova(4))
        .mem_to_mem(gpu.result_iova(1), gpu.iova(SIZE + 4))
        .barrier();
    let submitted = gpu
        .start(&commands, |submit| submit.after(held.file()))
        .context("SUBMIT that waits")?;
    bos[1].madvise(MSM_MADV_DONTNEED)?;
    shrink()?;
    fs::write("/proc/sys/vm/drop_caches", "2").context("drop_caches")?;
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("SUBMIT")?;
    for (index, tag) in [(0, 1), (1, 2)] {
        ensure_eq!(
            gpu.result(index),
            pattern(tag, 1),
            "what was copied from BO {tag}"
        );
    }
    // Nothing but the submit has kept them.
    check_unpinned(&bos[1]).context("when idle")?;
    eventually("the other BO to be swapped out", || {
        shrink()?;
        Ok(vadreno.translate(gpu.iova(0))? == Translation::Unmapped)
    })?;
    gpu.unmap(gpu.iova(SIZE), SIZE)?;
    idle.unmap(idle.iova(SIZE), SIZE)?;
    check(&gpu, gpu.iova(0), 1, "through the first VM")?;
    check(&idle, idle.iova(0), 1, "through the other")
}

/// Reclaim that may wait gets what becomes idle soon: a job ends that maps it.
fn busy_ones_are_waited_for(_: &mut Test) -> Outcome {
    waited_for(|gpu, bo| Waiting::send(gpu.bind().map(bo, 0, gpu.iova(0), SIZE)).map(User::Bind))
}

/// … or a submit in whose VM it is mapped.
fn mapped_ones_are_waited_for(_: &mut Test) -> Outcome {
    waited_for(|gpu, bo| {
        gpu.map(bo, gpu.iova(0))?;
        let held = HeldFence::new().context("held fence")?;
        let submitted = gpu
            .start(&Pm4::new().barrier(), |submit| submit.after(held.file()))
            .context("SUBMIT that waits")?;
        Ok(User::Submit(held, submitted))
    })
}

/// Who uses a BO, and waits.
enum User {
    Bind(Waiting),
    Submit(HeldFence, Submitted),
}

/// Has `begin` use a BO, and ends that while reclaim looks for memory.
fn waited_for(begin: impl Fn(&Gpu, &Bo) -> harness::Result<User>) -> Outcome {
    let gpu = Gpu::new()?;
    let trace = Tracepoint::new("msm_gem_shrink").context("tracing")?;
    // The job has to end while the scan waits, which is for 40 ms at most. How long all the caches'
    // shrinkers take before that one depends on the machine.
    for attempt in 0..80 {
        let bo = gpu.bo(1, SIZE)?;
        let user = begin(&gpu, &bo)?;
        bo.madvise(MSM_MADV_DONTNEED)?;
        thread::scope(|scope| {
            let reclaim = scope.spawn(|| fs::write("/proc/sys/vm/drop_caches", "2"));
            thread::sleep(Duration::from_millis(5 << (attempt % 8)));
            match user {
                User::Bind(waiting) => {
                    let job = waiting.let_go()?;
                    reclaim.join().expect("a thread").context("drop_caches")?;
                    job.wait(PATIENCE).context("MAP")
                }
                User::Submit(held, submitted) => {
                    held.signal().context("the fence was held")?;
                    reclaim.join().expect("a thread").context("drop_caches")?;
                    submitted.wait(PATIENCE).context("SUBMIT")
                }
            }
        })?;
        let purged = !bo.madvise(MSM_MADV_WILLNEED)?;
        gpu.unmap(gpu.iova(0), SIZE)?;
        let waited = trace
            .events()?
            .iter()
            .any(|event| event.contains(&format!("active_purged={PAGES} pg")));
        ensure!(purged || !waited, "counted as purged, and not purged");
        if waited {
            return Ok(());
        }
    }
    harness::bail!("nothing that became idle was freed in 80 attempts")
}

/// What a BO should be like.
struct Known {
    bo: Bo,
    tag: u32,
    /// `None` when there can be no pages: not touched since it was made, swapped out, purged.
    resident: bool,
    needed: bool,
    purged: bool,
    mapped: bool,
}

/// Random madvise, accesses and memory pressure, against a model of what is retained.
fn madvise_against_a_model(test: &mut Test) -> Outcome {
    let _swap = Swap::new(SWAP).context("swap")?;
    let gpu = Gpu::new()?;
    let rng = &mut test.rng;
    let fresh = |tag: u32| -> harness::Result<Known> {
        Ok(Known {
            bo: gpu.bo(tag, SIZE)?,
            tag,
            resident: true,
            needed: true,
            purged: false,
            mapped: false,
        })
    };
    let mut bos = (0..6).map(fresh).collect::<harness::Result<Vec<_>>>()?;
    let mut tag = bos.len() as u32;
    for step in 0..200 {
        let index = rng.usize(..bos.len());
        let iova = gpu.iova(index as u64 * SIZE);
        let known = &mut bos[index];
        match rng.u32(..10) {
            0..=3 => {
                let needed = rng.bool();
                let madv = if needed {
                    MSM_MADV_WILLNEED
                } else {
                    MSM_MADV_DONTNEED
                };
                let retained = known.bo.madvise(madv)?;
                ensure_eq!(
                    retained,
                    !known.purged,
                    "step {step}: BO {} retained",
                    known.tag
                );
                known.needed = needed;
            }
            4 | 5 => {
                swap_out(&gpu.device)?;
                for known in bos.iter_mut().filter(|known| known.resident) {
                    known.purged |= !known.needed;
                    known.resident = false;
                }
            }
            6 => {
                // A SIGBUS for what isn't needed: the CPU may only touch what is.
                if known.needed && !known.purged {
                    let at = rng.usize(..SIZE as usize / 4);
                    ensure_eq!(
                        known.bo.map()?.read(at),
                        pattern(known.tag, at),
                        "step {step}: dword {at} of BO {}",
                        known.tag
                    );
                    known.resident = true;
                }
            }
            7 => {
                if !known.mapped {
                    let result = gpu.bind().map(&known.bo, 0, iova, SIZE).send_and_wait();
                    ensure_eq!(
                        result.is_ok(),
                        known.needed && !known.purged,
                        "step {step}: MAP of BO {}",
                        known.tag
                    );
                    known.mapped = result.is_ok();
                    known.resident |= result.is_ok();
                }
            }
            8 => {
                // A submit brings back all that is mapped, so that nothing purged or unneeded may
                // be.
                for (index, known) in bos.iter_mut().enumerate() {
                    if known.mapped && (known.purged || !known.needed) {
                        gpu.unmap(gpu.iova(index as u64 * SIZE), SIZE)?;
                        known.mapped = false;
                    }
                }
                for (index, known) in bos.iter_mut().enumerate().filter(|(_, k)| k.mapped) {
                    check(
                        &gpu,
                        gpu.iova(index as u64 * SIZE),
                        known.tag,
                        &format!("in step {step}"),
                    )?;
                    known.resident = true;
                }
            }
            _ => {
                if known.purged {
                    if known.mapped {
                        gpu.unmap(iova, SIZE)?;
                    }
                    tag = tag % 2000 + 1;
                    *known = fresh(tag)?;
                }
            }
        }
    }
    Ok(())
}

/// When kernel addresses are short, BOs' unused kernel mappings go, all of them, as many at a time
/// as the tracepoint says. What else BOs are stays as it was.
fn defect_14_kernel_addresses(_: &mut Test) -> Outcome {
    const COUNT: usize = 20;
    const UNNEEDED: usize = 5;
    const BUSY: usize = 2;
    let gpu = Gpu::new()?;
    // What earlier dumps have left.
    module::exhaust_kernel_addresses().context("kernel addresses")?;
    let before = debugfs::gem_kernel_mappings()?;
    let bos = (0..COUNT)
        .map(|n| gpu.bo(n as u32, 2 * PAGE))
        .collect::<harness::Result<Vec<_>>>()?;
    for (n, bo) in bos.iter().enumerate() {
        let iova = gpu.iova(n as u64 * 4 * PAGE);
        gpu.bind()
            .map_flags(bo, 0, iova, 2 * PAGE, MSM_VM_BIND_OP_DUMP)
            .send_and_wait()?;
    }
    // A crash dump maps what it is to contain, and leaves it mapped.
    let nowhere = gpu.iova(0x50_0000_0000);
    let dump = fault::provoke(
        &gpu,
        &Pm4::new().mem_to_mem(gpu.result_iova(0), nowhere).barrier(),
    )?;
    ensure!(
        dump.matches("data:").count() >= COUNT,
        "the dump isn't of {COUNT} BOs"
    );
    ensure_eq!(
        debugfs::gem_kernel_mappings()?,
        before + COUNT,
        "BOs mapped for the kernel after the dump"
    );
    // Two are pinned by a submit that waits, five aren't needed.
    let legacy = Legacy::new()?;
    let busy = bos[..BUSY]
        .iter()
        .map(|bo| Ok(Bo::import(&legacy.device, bo.export()?.as_fd(), 2 * PAGE)?))
        .collect::<harness::Result<Vec<_>>>()?;
    let table: Vec<_> = busy.iter().map(|bo| (bo, MSM_SUBMIT_BO_READ)).collect();
    let held = HeldFence::new().context("held fence")?;
    let submitted = legacy.start(&Pm4::new().nop(4).barrier(), &table, Some(held.file()))?;
    for bo in &bos[COUNT - UNNEEDED..] {
        bo.madvise(MSM_MADV_DONTNEED)?;
    }

    let trace = Tracepoint::new("msm_gem_purge_vmaps").context("tracing")?;
    module::exhaust_kernel_addresses().context("kernel addresses")?;
    ensure_eq!(
        debugfs::gem_kernel_mappings()?,
        before,
        "BOs mapped for the kernel when addresses were short"
    );
    ensure_eq!(
        trace.events()?,
        ["Purging 15 vmaps", "Purging 5 vmaps"],
        "the tracepoint"
    );
    module::exhaust_kernel_addresses().context("kernel addresses")?;
    ensure_eq!(trace.events()?.len(), 2, "events with nothing to give back");
    drop(trace);

    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("the busy BOs' SUBMIT")?;
    // Each is where it was, and can be found there.
    ensure_eq!(
        shrink()?,
        UNNEEDED as u64 * 2,
        "pages that were freed without swap"
    );
    for (n, bo) in bos.iter().enumerate() {
        let needed = n < COUNT - UNNEEDED;
        ensure_eq!(bo.madvise(MSM_MADV_WILLNEED)?, needed, "BO {n} retained");
        if needed {
            ensure_eq!(bo.map()?.read(1030), pattern(n as u32, 1030), "BO {n}");
        }
    }
    // The kernel's own mappings were in use.
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, SIZE)?;
    gpu.map(&bo, gpu.iova(0))?;
    check(&gpu, gpu.iova(0), 1, "after the shortage")
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        swapped_out_and_back_by_submit,
        swapped_out_and_back_by_cpu_and_bind,
        unneeded_first,
        nothing_is_swapped_without_swap_or_leave,
        busy_ones_stay,
        mapped_ones_stay_while_a_submit_waits,
        busy_ones_are_waited_for,
        mapped_ones_are_waited_for,
        madvise_against_a_model,
        cpu_access_races_with_swapping_out,
        cpu_access_races_with_purge,
        defect_14_kernel_addresses,
    ])
}
