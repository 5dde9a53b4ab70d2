// SPDX-License-Identifier: GPL-2.0-only

//! Memory in large pages, mapped in blocks of 2 MiB, of which parts come and go while the GPU uses
//! the rest.

mod window;

use harness::{bail, cases, ensure, ensure_eq, falls_asleep, Context, Outcome, Result, Rng, Test};
use nix::unistd::gettid;
use programs::{eventually, hang, pattern, purge, works, Legacy, Waiting, PATIENCE};
use std::{
    env,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use uapi::{
    abi::{MSM_SUBMIT_BO_READ as READ, MSM_SUBMIT_BO_WRITE as WRITE},
    debugfs,
    devcoredump::Devcoredump,
    memory, module,
    swap::Swap,
    vadreno::Vadreno,
    Bo, HeldFence, Pm4, Submit, SubmitQueue, Submitted, VmBind, PAGE,
};
use window::{Window, BLOCK, BLOCK_LEVEL, PAGES, PAGE_LEVEL};

/// How long a call is given that shouldn't return yet.
const SHORT: Duration = Duration::from_millis(300);
/// Speculative reads per second.
const RATE: u64 = 20_000;

/// Each large page is mapped by one entry.
fn one_entry_each(_: &mut Test) -> Outcome {
    let mut window = Window::new(4)?;
    let bo = window.gpu.bo(1, 4 * BLOCK)?;
    window.map(&bo, 1, 0, 0, 4 * PAGES)?;
    window.are_blocks(0, 4)?;
    window.check()?;
    window.unmap(0, 4 * PAGES)?;
    window.check()
}

/// Only at addresses that are aligned like the memory, and only whole ones.
fn aligned_alike(_: &mut Test) -> Outcome {
    let mut window = Window::new(4)?;
    let bo = window.gpu.bo(1, 3 * BLOCK)?;
    window.map(&bo, 1, 0, 1, 3 * PAGES)?;
    ensure_eq!(window.levels(1, 3)?, [PAGE_LEVEL; 3], "a page further on");
    window.check()?;
    window.unmap(0, 4 * PAGES)?;
    // From the middle of the first large page to the middle of the last.
    window.map(&bo, 1, 256, 256, 2 * PAGES)?;
    ensure_eq!(window.levels(256, 1)?, [PAGE_LEVEL], "half of the first");
    window.are_blocks(PAGES, 1)?;
    ensure_eq!(
        window.levels(2 * PAGES, 1)?,
        [PAGE_LEVEL],
        "half of the last"
    );
    window.check()
}

/// Holes in blocks: at the start, in the middle, at the end, and over the border of two.
fn holes(_: &mut Test) -> Outcome {
    let mut window = Window::new(6)?;
    let bo = window.gpu.bo(1, 6 * BLOCK)?;
    window.map(&bo, 1, 0, 0, 6 * PAGES)?;
    window.are_blocks(0, 6)?;
    window.unmap(0, 1)?;
    window.unmap(PAGES + 200, 30)?;
    window.unmap(3 * PAGES - 1, 1)?;
    window.unmap(4 * PAGES - 3, 5)?;
    window.check()?;
    window.are_blocks(5 * PAGES, 1)?;
    // The whole of one block, with parts of those beside it.
    window.map(&bo, 1, 0, 0, 6 * PAGES)?;
    window.unmap(PAGES - 7, PAGES + 20)?;
    window.check()
}

/// The same memory again over all of it, which makes blocks of it again, and over a part.
fn mapped_over(_: &mut Test) -> Outcome {
    let mut window = Window::new(3)?;
    let (a, b) = (window.gpu.bo(1, 3 * BLOCK)?, window.gpu.bo(2, 3 * BLOCK)?);
    window.map(&a, 1, 0, 0, 3 * PAGES)?;
    window.unmap(PAGES + 5, 1)?;
    window.map(&b, 2, 0, 0, 3 * PAGES)?;
    window.are_blocks(0, 3)?;
    window.check()?;
    window.map(&a, 1, 7, PAGES + 7, 3)?;
    window.check()?;
    window.map(&a, 1, 0, 0, 3 * PAGES)?;
    window.are_blocks(0, 3)?;
    window.check()?;
    // Small ones over blocks.
    let small: Vec<Bo> = (3..6)
        .map(|tag| window.gpu.bo(tag, BLOCK / 2))
        .collect::<Result<_>>()?;
    for (n, bo) in (0..).zip(&small) {
        window.map(bo, 3 + n, 0, u64::from(n) * PAGES + 128, PAGES / 2)?;
    }
    window.check()
}

/// Commands that run until the CPU says so, reading all over the window.
struct Busy<'a> {
    window: &'a Window,
    submitted: Submitted,
}

impl<'a> Busy<'a> {
    const GO: usize = 9000;

    fn new(window: &'a Window, index: usize) -> Result<Self> {
        let gpu = &window.gpu;
        gpu.set_result(Self::GO + index, 0);
        let mut commands = Pm4::new().wait_mem_eq(gpu.result_iova(Self::GO + index), 1, !0);
        for page in (0..window.model.len() as u64).step_by(64) {
            commands = commands.mem_to_mem(gpu.result_iova(0), window.iova(page + 1));
        }
        let submitted = gpu
            .start(&commands.barrier(), |s| s)
            .context("SUBMIT that waits")?;
        Ok(Self { window, submitted })
    }

    fn let_go(self, index: usize) -> Outcome {
        self.window.gpu.set_result(Self::GO + index, 1);
        self.submitted.wait(PATIENCE).context("the SUBMIT")
    }
}

/// A part goes while the GPU uses the rest: that waits for the GPU. SUBMITs that are sent meanwhile
/// are waited for as well, but not again those that come after.
fn while_in_use(_: &mut Test) -> Outcome {
    // On a busy machine the UNMAP may begin so late that it waits for all SUBMITs at once.
    for _ in 0..5 {
        if unmaps_in_two_waits()? {
            return Ok(());
        }
    }
    bail!("no SUBMIT was ever held back")
}

/// Returns whether a SUBMIT was held back by the second wait; true if there are no blocks.
fn unmaps_in_two_waits() -> Result<bool> {
    let mut window = Window::new(2)?;
    let bo = window.gpu.bo(1, 2 * BLOCK)?;
    window.map(&bo, 1, 0, 0, 2 * PAGES)?;
    window.are_blocks(0, 2)?;
    let _slow = debugfs::SlowHangcheck::new().context("hangcheck_period_ms")?;
    let first = Busy::new(&window, 0)?;
    let waits = |thread| falls_asleep(thread, "SD", 6, PATIENCE);
    let held = thread::scope(|scope| -> Result<bool> {
        let (gpu, hole) = (&window.gpu, window.iova(700));
        let (binds, queue) = (&gpu.binds, &gpu.queue);
        let (tell, told) = mpsc::channel();
        let unmap = scope.spawn(move || {
            tell.send(gettid()).ok();
            VmBind::new(binds).unmap(hole, PAGE).send_and_wait()
        });
        let unmapping = told.recv().context("the thread that unmaps")?;
        let mut held_back = vec![waits(unmapping)?];
        // What needs no other tables doesn't wait.
        let small = gpu.bo(7, PAGE)?;
        gpu.map(&small, window.iova(3 * PAGES))?;
        let second = Busy::new(&window, 1)?;
        first.let_go(0)?;
        held_back.push(waits(unmapping)?);
        let at = gpu.place(&Pm4::new().nop(1));
        let (mut submits, mut held) = (Vec::new(), false);
        // Some may get in before the UNMAP has seen that the first one has ended.
        let most = if window.has_blocks { 10 } else { 1 };
        while !held && submits.len() < most {
            let (tell, told) = mpsc::channel();
            submits.push(scope.spawn(move || {
                tell.send(gettid()).ok();
                Submit::new(queue).cmd_at(at, 8).send()
            }));
            held = waits(told.recv().context("the thread that submits")?)?;
            if !held {
                thread::sleep(SHORT);
            }
        }
        second.let_go(1)?;
        unmap.join().expect("no panic").context("UNMAP")?;
        for submit in submits {
            let submitted = submit.join().expect("no panic").context("SUBMIT")?;
            submitted.wait(PATIENCE).context("the last SUBMIT")?;
        }
        ensure!(
            held_back == [true; 2] || !window.has_blocks,
            "the UNMAP has waited for the first SUBMIT, and for the second: {held_back:?}"
        );
        Ok(held || !window.has_blocks)
    })?;
    window.model[700] = 0;
    window.check()?;
    Ok(held)
}

/// SUBMITs are sent on and on by another thread: a part goes all the same, soon.
fn among_submits(_: &mut Test) -> Outcome {
    let mut window = Window::new(8)?;
    let bo = window.gpu.bo(1, 8 * BLOCK)?;
    window.map(&bo, 1, 0, 0, 8 * PAGES)?;
    window.are_blocks(0, 8)?;
    let (stop, stopped) = mpsc::channel::<()>();
    let (tell, told) = mpsc::sync_channel(0);
    thread::scope(|scope| -> Outcome {
        let gpu = &window.gpu;
        let reads = (0..8).map(|n| window.iova(n * PAGES + 3));
        let commands = reads.fold(Pm4::new(), |commands, iova| {
            commands.mem_to_mem(gpu.result_iova(0), iova)
        });
        let (at, queue) = (gpu.place(&commands), &gpu.queue);
        let other = scope.spawn(move || -> Outcome {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                Submit::new(queue)
                    .cmd_at(at, commands.size())
                    .send()
                    .context("SUBMIT")?;
                let _ = tell.try_send(());
            }
            Ok(())
        });
        let began = Instant::now();
        for n in 0..8 {
            told.recv_timeout(PATIENCE).context("no SUBMIT gets in")?;
            gpu.unmap(window.iova(n * PAGES + 100 + n), 2 * PAGE)?;
        }
        let took = began.elapsed();
        drop(stop);
        other.join().expect("no panic")?;
        ensure!(took < PATIENCE, "{took:?} for eight UNMAPs");
        Ok(())
    })?;
    for n in 0..8 {
        window.model[(n * PAGES + 100 + n) as usize..][..2].fill(0);
    }
    window.check()
}

/// The GPU hangs in the VM while a part waits to go: the hang is recovered from, which needs the
/// VM's lock.
fn while_hung(_: &mut Test) -> Outcome {
    let mut window = Window::new(1)?;
    let bo = window.gpu.bo(1, BLOCK)?;
    window.map(&bo, 1, 0, 0, PAGES)?;
    window.are_blocks(0, 1)?;
    let submitted = window
        .gpu
        .start(&hang::commands(&window.gpu, 1), |s| s)
        .context("SUBMIT that hangs")?;
    let began = Instant::now();
    // The VM is unusable by then, or not yet.
    let _ = window.gpu.unmap(window.iova(10), PAGE);
    ensure!(began.elapsed() < PATIENCE, "the UNMAP takes for ever");
    submitted.wait(PATIENCE).context("recovery")?;
    drop(window);
    if let Some(dump) = Devcoredump::present()? {
        dump.free().context("freeing the devcoredump")?;
    }
    works(3)
}

/// A bind that waits for a fence and takes a part: until then the GPU finds all of it.
fn by_a_job_that_waits(_: &mut Test) -> Outcome {
    let mut window = Window::new(2)?;
    let bo = window.gpu.bo(1, 2 * BLOCK)?;
    window.map(&bo, 1, 0, 0, 2 * PAGES)?;
    window.are_blocks(0, 2)?;
    // Awake, it forgets nothing by itself.
    let _awake = Vadreno::open().context("virtual Adreno")?;
    window.check()?;
    let job = Waiting::send(window.gpu.bind().unmap(window.iova(300), 300 * PAGE))?;
    window.check()?;
    job.run()?;
    window.model[300..600].fill(0);
    window.check()
}

/// Memory whose place waits for a bind that needs tables there is mapped in pages.
fn beside_a_job_that_waits(_: &mut Test) -> Outcome {
    let mut window = Window::new(2)?;
    let bo = window.gpu.bo(1, 2 * BLOCK)?;
    let waiting = SubmitQueue::new_vm_bind(&window.gpu.device).context("VM_BIND queue")?;
    let job = Waiting::send(VmBind::new(&waiting).unmap(window.iova(300), 3 * PAGE))?;
    // None of these overlaps what the job changes.
    window.map(&bo, 1, 0, 0, 256)?;
    window.map(&bo, 1, PAGES, PAGES, PAGES)?;
    window.check()?;
    job.run()?;
    window.check()?;
    window.map(&bo, 1, 0, 0, 2 * PAGES)?;
    window.are_blocks(0, 2)?;
    window.check()
}

/// Evicted, and back with the next SUBMIT: in what pages there are.
fn evicted_and_back(_: &mut Test) -> Outcome {
    let mut window = Window::new(3)?;
    let _swap = Swap::new(64 << 20).context("swap")?;
    let bo = window.gpu.bo(1, 3 * BLOCK)?;
    window.map(&bo, 1, 0, 0, 3 * PAGES)?;
    window.unmap(2 * PAGES + 9, 1)?;
    window.check()?;
    debugfs::shrink(1 << 20).context("debugfs shrink")?;
    window.check()?;
    // With a part of it gone meanwhile.
    debugfs::shrink(1 << 20).context("debugfs shrink")?;
    window.unmap(PAGES - 2, 4)?;
    window.check()?;
    Ok(())
}

/// The pages are looked at, then their MAP waits for tables; meanwhile they are swapped out, and come
/// back elsewhere.
fn evicted_while_its_map_waits(_: &mut Test) -> Outcome {
    let mut window = Window::new(1)?;
    // No 2 MiB of it are free in one piece: a large page is split on its way out.
    let _swap = Swap::new(2 * BLOCK - 16 * PAGE).context("swap")?;
    let group = memory::Group::new("large-pages").context("cgroup")?;
    let bo = Bo::new(&window.gpu.device, BLOCK).context("GEM_NEW")?;
    // Its pages alone are the group's.
    group.run(|| bo.fill(|index| pattern(1, index)))??;
    let small = window.gpu.bo(2, PAGE)?;
    let queues: Vec<SubmitQueue> = (0..2)
        .map(|_| SubmitQueue::new_vm_bind(&window.gpu.device))
        .collect::<std::result::Result<_, _>>()
        .context("VM_BIND queues")?;
    let held = HeldFence::new().context("held fence")?;
    let fence = &held.file().try_clone().context("its file")?;
    // Far away from each other and from the window.
    let start = window.iova(0);
    let far = move |n: u64, i: u64| start + ((n + 1) << 36) + i * BLOCK;
    let (bo, small, queues) = (&bo, &small, &queues);
    // Interruptibly, as who waits for tables does.
    let asleep = |thread| falls_asleep(thread, "S", 20, PATIENCE);
    thread::scope(|scope| -> Outcome {
        // Jobs that each reserve some 400 tables, until no more may be.
        let (tell, told) = mpsc::channel();
        let filling = scope.spawn(move || -> Outcome {
            for n in 0..64 {
                if tell.send(gettid()).is_err() {
                    break;
                }
                let job = (0..400).fold(VmBind::new(&queues[0]), |job, i| {
                    job.map(small, 0, far(n, i), PAGE)
                });
                job.after(fence).send().context("a job that waits")?;
            }
            Ok(())
        });
        asleep(told.recv().context("the thread that fills")?)?;
        drop(told);
        let (tell, told) = mpsc::channel();
        let mapping = scope.spawn(move || -> Outcome {
            let _ = tell.send(gettid());
            let map = VmBind::new(&queues[1]).map(bo, 0, start, BLOCK);
            let job = map.after(fence).send().context("MAP");
            let _ = tell.send(gettid());
            job?.wait(PATIENCE).context("the MAP's job")
        });
        asleep(told.recv().context("the thread that maps")?)?;
        let waits = told.try_recv().is_err();
        eventually("the BO to be swapped out", || {
            debugfs::shrink(1 << 20)?;
            // EAGAIN: there is less.
            let _ = group.reclaim(BLOCK);
            Ok(group.swapped()? >= BLOCK)
        })?;
        held.signal().context("the held fence")?;
        filling.join().expect("no panic")?;
        mapping.join().expect("no panic")?;
        ensure!(
            waits || !window.has_blocks,
            "the MAP hasn't waited for tables"
        );
        Ok(())
    })?;
    for page in 0..PAGES {
        window.model[page as usize] = pattern(1, page as usize * 1024);
    }
    window.check()?;
    ensure_eq!(
        window.levels(0, 1)?,
        [PAGE_LEVEL],
        "the level: its pages came back one by one"
    );
    Ok(())
}

/// Purged, the content is gone and the pages are free.
fn purged(_: &mut Test) -> Outcome {
    let mut window = Window::new(2)?;
    let bo = window.gpu.bo(1, 2 * BLOCK)?;
    window.map(&bo, 1, 0, 0, 2 * PAGES)?;
    ensure!(!purge(&bo)?, "nothing uses it");
    Ok(())
}

/// A CPU maps a large page at its first access to it.
fn cpu_faults(_: &mut Test) -> Outcome {
    let window = Window::new(1)?;
    let bo = Bo::new(&window.gpu.device, 8 * BLOCK).context("GEM_NEW")?;
    let map = bo.map().context("mmap")?;
    let before = minor_faults()?;
    for page in 0..8 * PAGES {
        map.write(page as usize * 1024, page as u32);
    }
    let faults = minor_faults()? - before;
    for page in 0..8 * PAGES {
        ensure_eq!(map.read(page as usize * 1024), page as u32, "page {page}");
    }
    if window.has_blocks {
        ensure!(faults < 512, "{faults} faults for 8 large pages");
    }
    Ok(())
}

/// How many faults of this process needed no I/O.
fn minor_faults() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("/proc/self/stat")?.1;
    let field = fields.split_whitespace().nth(7).context("minflt")?;
    Ok(field.parse()?)
}

/// A context whose VM the kernel manages: an address at which large pages can be mapped as such.
fn managed(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bo = gpu.bo(5, 4 * BLOCK)?;
    let iova = bo.iova().context("IOVA")?;
    // Awake, it keeps this context.
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let copy = Pm4::new().mem_to_mem(iova, iova + 3 * BLOCK + 4 * PAGE);
    gpu.run(&copy.barrier(), &[(&bo, READ | WRITE)])?;
    ensure_eq!(
        bo.map()?.read(0),
        pattern(5, (3 * BLOCK + 4 * PAGE) as usize / 4),
        "what was copied"
    );
    if module::is_out_of_tree("msm").context("the module")? {
        ensure_eq!(iova % BLOCK, 0, "the address");
        ensure_eq!(vadreno.walk_level(iova + BLOCK)?, BLOCK_LEVEL, "the level");
    }
    Ok(())
}

/// Random pieces go and come, of blocks and of pages, many at a time, while the GPU reads ahead.
/// `OPS` says how many.
fn random(test: &mut Test) -> Outcome {
    const BLOCKS: u64 = 4;
    const TOTAL: u64 = BLOCKS * PAGES;
    let ops: usize = env::var("OPS").map_or(Ok(4000), |ops| ops.parse())?;
    let ops = test.rounds(ops).count() as u64;
    let mut window = Window::new(BLOCKS)?;
    let bos: Vec<Bo> = (1..4)
        .map(|tag| window.gpu.bo(tag, BLOCKS * BLOCK))
        .collect::<Result<_>>()?;
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let _reader = vadreno.speculate(RATE);
    let mut done = 0;
    while done < ops {
        let mut model = window.model.clone();
        let mut bind = window.gpu.bind();
        let count = test.rng.u64(1..=16);
        for _ in 0..count {
            let (at, count) = piece(&mut test.rng, TOTAL);
            let place = &mut model[at as usize..(at + count) as usize];
            let (iova, bytes) = (window.iova(at), count * PAGE);
            bind = match test.rng.u8(..5) {
                0 | 1 => {
                    place.fill(0);
                    bind.unmap(iova, bytes)
                }
                // Aligned like the memory, most of the time.
                which => {
                    let tag = test.rng.usize(..bos.len());
                    let first = match which {
                        2 => test.rng.u64(0..=TOTAL - count),
                        _ => at,
                    };
                    for (page, value) in (first..).zip(place) {
                        *value = pattern(tag as u32 + 1, page as usize * 1024);
                    }
                    bind.map(&bos[tag], first * PAGE, iova, bytes)
                }
            };
        }
        bind.send_and_wait().context("VM_BIND")?;
        window.model = model;
        let pages: Vec<u64> = (0..32).map(|_| test.rng.u64(..TOTAL)).collect();
        window.check_at(&pages)?;
        done += count;
    }
    window.check()
}

/// Some of so many pages: whole blocks, or any.
fn piece(rng: &mut Rng, total: u64) -> (u64, u64) {
    let count = match rng.u8(..4) {
        0 => PAGES * rng.u64(1..=total / PAGES),
        1 => rng.u64(1..=total / 2),
        _ => rng.u64(1..=20),
    };
    let at = rng.u64(0..=total - count);
    if rng.bool() {
        (at / PAGES * PAGES, count)
    } else {
        (at, count)
    }
}

fn main() -> ExitCode {
    harness::main(cases![
        one_entry_each,
        aligned_alike,
        holes,
        mapped_over,
        while_in_use,
        among_submits,
        while_hung,
        by_a_job_that_waits,
        beside_a_job_that_waits,
        evicted_and_back,
        evicted_while_its_map_waits,
        purged,
        cpu_faults,
        managed,
        random,
    ])
}
