// SPDX-License-Identifier: GPL-2.0-only

//! What one client may cost the others: time under locks that they need, memory, threads of the
//! kernel's.

use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{pattern, Gpu, Legacy, PATIENCE};
use std::{
    fs,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};
use uapi::{
    abi::MSM_SUBMIT_BO_READ as READ, debugfs, memory, swap::Swap, Bo, Device, Errno, HeldFence,
    Pm4, SubmitQueue, VmBind, PAGE,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The most ops that a request may have.
const MAX_OPS: u64 = 1 << 16;

/// A job of many large MAPs over one range would have the page tables, and a worker, for minutes:
/// it is refused, whole. One op of any size isn't.
fn defect_45_too_many_entries(_: &mut Test) -> Outcome {
    const SIZE: u64 = 64 * MIB;
    let gpu = Gpu::new()?;
    let (old, large) = (gpu.bo(1, PAGE)?, Bo::new(&gpu.device, SIZE)?);
    gpu.map(&old, gpu.iova(0))?;
    let many = (0..MAX_OPS).fold(gpu.bind(), |bind, _| bind.map(&large, 0, gpu.iova(0), SIZE));
    ensure_errno!(many.send(), Errno::ENOMEM, "64 Ki MAPs of 64 MiB");
    ensure_eq!(
        gpu.peek(&[gpu.iova(0)])?,
        [pattern(1, 0)],
        "what was mapped there"
    );
    // As many as map 64 GiB are none too many, and one MAP_NULL may be larger by far.
    let most =
        (0..64 * GIB / SIZE).fold(gpu.bind(), |bind, _| bind.map(&large, 0, gpu.iova(0), SIZE));
    let begin = Instant::now();
    let job = most.send().context("1,024 MAPs of 64 MiB")?;
    let asked = begin.elapsed();
    job.wait(PATIENCE).context("1,024 MAPs of 64 MiB")?;
    println!(
        "# 64 GiB: asked for in {asked:?}, mapped after {:?}",
        begin.elapsed()
    );
    gpu.bind()
        .map_null(gpu.iova(0), 1024 * GIB)
        .send_and_wait()
        .context("MAP_NULL of 1 TiB")?;
    ensure_eq!(gpu.peek(&[gpu.iova(0)])?, [0], "after MAP_NULL");
    // One that costs too much is one too many, wherever it is.
    let many = (0..MAX_OPS).fold(gpu.bind(), |bind, _| bind.map_null(gpu.iova(0), 1024 * GIB));
    ensure_errno!(many.send(), Errno::ENOMEM, "64 Ki MAP_NULLs of 1 TiB");
    gpu.unmap(gpu.iova(0), 1024 * GIB)
}

/// The time that the request itself takes. Its job has run when this returns.
fn asking(bind: &VmBind<'_>) -> harness::Result<Duration> {
    let begin = Instant::now();
    let job = bind.send().context("VM_BIND")?;
    let took = begin.elapsed();
    job.wait(PATIENCE).context("its job")?;
    Ok(took)
}

/// Ops that each remove everything take no longer to ask for than as many that remove a page each:
/// nobody who shares a BO is kept waiting meanwhile.
fn defect_46_everything_again_and_again(_: &mut Test) -> Outcome {
    const OPS: u64 = 15_000;
    let gpu = Gpu::new()?;
    let bos = (0..3000)
        .map(|_| Bo::new(&gpu.device, PAGE))
        .collect::<Result<Vec<_>, _>>()?;
    let place = |n: u64| gpu.iova(n * PAGE);
    let map = (0..OPS)
        .zip(bos.iter().cycle())
        .fold(gpu.bind(), |bind, (n, bo)| bind.map(bo, 0, place(n), PAGE));
    let each = (0..OPS).fold(gpu.bind(), |bind, n| bind.unmap(place(n), PAGE));
    let all = (0..OPS).fold(gpu.bind(), |bind, _| bind.unmap(place(0), OPS * PAGE));
    let mut times = Vec::new();
    // Somebody else may have the processors during one of the two.
    for _ in 0..3 {
        asking(&map)?;
        let each = asking(&each).context("15,000 UNMAPs of a page each")?;
        asking(&map)?;
        let all = asking(&all).context("15,000 UNMAPs of everything")?;
        println!("# {each:?} for a page each, {all:?} for everything each");
        if all < 10 * each + Duration::from_millis(500) {
            return Ok(());
        }
        times.push((each, all));
    }
    harness::bail!("times for a page each, and for everything each: {times:?}")
}

/// A context to which threads can send binds.
struct Client {
    gpu: Gpu,
    bo: Bo,
}

/// What threads need of it.
#[derive(Clone, Copy)]
struct Place<'a> {
    queue: &'a SubmitQueue,
    bo: &'a Bo,
    base: u64,
}

impl Client {
    fn new() -> harness::Result<Self> {
        let gpu = Gpu::new()?;
        let bo = gpu.bo(1, PAGE)?;
        Ok(Self { gpu, bo })
    }

    fn place(&self) -> Place<'_> {
        Place {
            queue: &self.gpu.binds,
            bo: &self.bo,
            base: self.gpu.iova(0),
        }
    }
}

impl<'a> Place<'a> {
    /// Where the MAP number `i` of [`wide`](Self::wide) goes.
    fn iova(&self, n: u64, i: u64) -> u64 {
        self.base + (n << 36) + i * 2 * MIB
    }

    /// A job that needs as many page tables, for a page every 2 MiB, in a place of its own for each
    /// `n`.
    fn wide(&self, n: u64, tables: u64) -> VmBind<'a> {
        (0..tables).fold(VmBind::new(self.queue), |bind, i| {
            bind.map(self.bo, 0, self.iova(n, i), PAGE)
        })
    }
}

/// Waits until a number hasn't changed for three seconds, in which a busy machine runs whoever
/// changes it, too.
fn settled(number: &AtomicU64) -> u64 {
    let mut last = number.load(Ordering::Relaxed);
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        sleep(Duration::from_millis(10));
        let now = number.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// How many jobs behind a held fence are accepted before the calls wait, if each client tries to
/// send `each` in a row. Once the fence signals they all are.
fn accepted(
    clients: &[Client],
    each: u64,
    job: impl for<'a> Fn(Place<'a>, u64) -> VmBind<'a> + Sync,
) -> harness::Result<u64> {
    let held = HeldFence::new().context("held fence")?;
    let fence = held.file().try_clone()?;
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter()
            .map(|client| {
                let (place, sent, fence, job) = (client.place(), &sent, &fence, &job);
                scope.spawn(move || -> Outcome {
                    let mut last = None;
                    for n in 0..each {
                        last = Some(
                            job(place, n)
                                .after(fence)
                                .send()
                                .context("a job that waits")?,
                        );
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    last.map_or(Ok(()), |job| job.wait(PATIENCE).context("the last job"))
                })
            })
            .collect();
        let accepted = settled(&sent);
        held.signal().context("the fence was held")?;
        for thread in threads {
            thread.join().expect("a thread that doesn't panic")?;
        }
        ensure_eq!(
            sent.load(Ordering::Relaxed),
            each * clients.len() as u64,
            "jobs accepted in the end"
        );
        Ok(accepted)
    })
}

/// However many contexts there are, what they have waiting reserves no more than a share of the
/// machine's memory.
fn defect_47_many_contexts(_: &mut Test) -> Outcome {
    const TABLES: u64 = 200;
    let clients = (0..32)
        .map(|_| Client::new())
        .collect::<Result<Vec<_>, _>>()?;
    let accepted = accepted(&clients, 3, |place, n| place.wide(n, TABLES))?;
    // Twice what it takes to map all of RAM, and at least 2048 tables.
    let allowed = (memory::meminfo("MemTotal")? / 256).max(8 * MIB);
    println!("# {accepted} of 96 jobs accepted");
    ensure!(accepted > 0, "no job at all was accepted");
    ensure!(
        accepted * TABLES * PAGE <= allowed + allowed / 8,
        "waiting jobs have reserved {} MiB, not {}",
        accepted * TABLES * PAGE / MIB,
        allowed / MIB
    );
    Ok(())
}

/// Page tables are memory of whoever asks for them.
fn defect_47_charged_to_the_group(_: &mut Test) -> Outcome {
    const TABLES: u64 = 4000;
    let group = memory::Group::new("limits")?;
    let client = Client::new()?;
    let place = client.place();
    let before = group.kernel()?;
    group.run(|| -> Outcome {
        for n in 0..TABLES / 400 {
            place.wide(n, 400).send_and_wait().context("400 MAPs")?;
        }
        Ok(())
    })??;
    let charged = group.kernel()?.saturating_sub(before);
    println!("# {} KiB for {TABLES} tables", charged >> 10);
    ensure!(
        charged >= TABLES * PAGE,
        "{} KiB charged for {TABLES} tables",
        charged >> 10
    );
    (0..TABLES / 400).try_for_each(|n| client.gpu.unmap(place.iova(n, 0), 800 * MIB))?;
    programs::eventually("the charge to go", || {
        Ok(group.kernel()?.saturating_sub(before) < TABLES * PAGE / 2)
    })
}

/// They are whoever's who asks, when the tables are reserved: not whose file it is, nor who lets
/// the job run. So are those for what a SUBMIT brings back from swap, and of a VM that the kernel
/// manages.
fn defect_47_charged_to_whoever_asks(_: &mut Test) -> Outcome {
    // No more may be reserved for what waits in a VM of the smallest guest.
    const TABLES: u64 = 800;
    let (asking, other) = (memory::Group::new("asking")?, memory::Group::new("other")?);
    let kernel = || -> harness::Result<[u64; 2]> { Ok([asking.kernel()?, other.kernel()?]) };
    let charged = |what: &str, before: [u64; 2], tables: u64| -> Outcome {
        let after = kernel()?;
        let [asked, others] = [0, 1].map(|i| after[i].saturating_sub(before[i]));
        println!(
            "# {what}: {} KiB, and {} KiB to the other, for {tables} tables",
            asked >> 10,
            others >> 10
        );
        ensure!(
            asked >= tables * PAGE,
            "{what}: {asked} bytes are charged for {tables} tables"
        );
        ensure!(
            others < tables * PAGE / 4,
            "{what}: {others} bytes are charged to somebody else"
        );
        Ok(())
    };
    let _swap = Swap::new(64 * MIB).context("swap")?;
    let client = other.run(Client::new)??;
    let place = client.place();

    let before = kernel()?;
    let held = HeldFence::new().context("held fence")?;
    let jobs = asking.run(|| -> harness::Result<Vec<_>> {
        let jobs = (0..TABLES / 400).map(|n| place.wide(n, 400).after(held.file()).send());
        Ok(jobs.collect::<Result<_, _>>()?)
    })??;
    charged("reserved while jobs wait", before, TABLES)?;
    other.run(|| -> Outcome {
        held.signal().context("the fence was held")?;
        Ok(jobs.iter().try_for_each(|job| job.wait(PATIENCE))?)
    })??;
    charged("once they have run", before, TABLES)?;

    // Without the BO's pages, its tables aren't there, either.
    programs::eventually("the BO to be swapped out", || {
        debugfs::shrink(1 << 20)?;
        Ok(kernel()?[0] < before[0] + TABLES * PAGE / 4)
    })?;
    asking.run(|| client.gpu.peek(&[place.iova(0, 0)]))??;
    charged("brought back by a SUBMIT", before, TABLES)?;
    drop(client);

    // Each has a table of its own.
    const BOS: u64 = 300;
    let legacy = other.run(Legacy::with_vm)??;
    let base = legacy.cmds.iova()?.next_multiple_of(2 * MIB);
    let bos = (0..BOS)
        .map(|n| {
            let bo = legacy.bo(n as u32, PAGE)?;
            bo.set_iova(base + (n + 1) * 2 * MIB).context("SET_IOVA")?;
            Ok(bo)
        })
        .collect::<harness::Result<Vec<_>>>()?;
    let table: Vec<_> = bos.iter().map(|bo| (bo, READ)).collect();
    let before = kernel()?;
    asking.run(|| legacy.run(&Pm4::new().nop(1).barrier(), &table))??;
    charged("of a kernel-managed VM", before, BOS)
}

/// A VM has so many jobs waiting, and no more: the next call waits.
fn defect_46_jobs_without_number(_: &mut Test) -> Outcome {
    const EACH: u64 = 2500;
    let clients = [Client::new()?];
    let accepted = accepted(&clients, EACH, |place, _| {
        VmBind::new(place.queue).unmap(place.base, PAGE)
    })?;
    println!("# {accepted} jobs accepted");
    ensure!(
        (1000..EACH).contains(&accepted),
        "{accepted} of {EACH} jobs may wait"
    );
    Ok(())
}

/// More tables than may be reserved for what waits.
fn more_than_may_wait() -> harness::Result<u64> {
    Ok((memory::meminfo("MemTotal")? / PAGE / 512).max(1024) + 100)
}

/// A job that waits for nothing gets as many tables as it needs.
fn defect_46_as_many_tables_as_it_needs(_: &mut Test) -> Outcome {
    let tables = more_than_may_wait()?;
    let client = Client::new()?;
    let place = client.place();
    // Nor has it to wait for those that come before it.
    let jobs = (0..4)
        .map(|n| place.wide(n, tables).send())
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{tables} MAPs, 2 MiB apart"))?;
    for (n, job) in (0..).zip(&jobs) {
        job.wait(PATIENCE)?;
        ensure_eq!(job.status()?, Some(Ok(())), "its fence");
        ensure_eq!(
            client
                .gpu
                .peek(&[place.iova(n, 0), place.iova(n, tables - 1)])?,
            [pattern(1, 0); 2],
            "both ends of {n}"
        );
    }
    // What waits doesn't get them.
    let held = HeldFence::new().context("held fence")?;
    ensure_errno!(
        place.wide(4, tables).after(held.file()).send(),
        Errno::ENOMEM,
        "{tables} MAPs that wait"
    );
    held.signal().context("the fence was held")
}

/// While others wait for room, a job that waits for nothing doesn't, on a queue of its own and in
/// another context.
fn defect_46_not_held_up_by_what_waits(_: &mut Test) -> Outcome {
    // Far more than may wait in a guest of a few GiB. In the end they all run.
    const CROWD: u64 = 16;
    let (client, other) = (Client::new()?, Client::new()?);
    let place = client.place();
    let queue = SubmitQueue::new_vm_bind(&client.gpu.device)?;
    let held = HeldFence::new().context("held fence")?;
    let fence = held.file().try_clone()?;
    let sent = AtomicU64::new(0);
    thread::scope(|scope| {
        let (sent, fence) = (&sent, &fence);
        let crowd = scope.spawn(move || -> Outcome {
            for n in 0..CROWD {
                place
                    .wide(n, 400)
                    .after(fence)
                    .send_only()
                    .context("a job that waits")?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let result = (|| -> Outcome {
            ensure!(
                settled(sent) < CROWD,
                "{CROWD} jobs of 400 tables each may wait"
            );
            let elsewhere = Place {
                queue: &queue,
                ..place
            };
            elsewhere
                .wide(100, 300)
                .send_and_wait()
                .context("300 MAPs on another queue")?;
            other
                .place()
                .wide(0, 300)
                .send_and_wait()
                .context("300 MAPs in another context")?;
            held.still_held().context("the fence was held")
        })();
        let late = held.signal();
        crowd.join().expect("a thread that doesn't panic")?;
        result?;
        late.context("the fence was held")
    })
}

/// How many threads the kernel has.
fn kernel_threads() -> harness::Result<u64> {
    let mut nr = 0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
        // A thread that has ended meanwhile has no status any more.
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        nr += u64::from(is_process && !status.is_empty() && !status.contains("VmSize:"));
    }
    Ok(nr)
}

/// Opens a context, has a bind wait, and closes it.
fn visit(fence: &uapi::SyncFile) -> Result<(), Errno> {
    let device = Device::open_vm_bind()?;
    let queue = SubmitQueue::new_vm_bind(&device)?;
    let start = device.va_range()?.start;
    VmBind::new(&queue)
        .map_null(start, GIB)
        .after(fence)
        .send_only()
}

/// Contexts that were closed while a bind waited keep no thread of the kernel's, and little memory.
fn defect_10_closed_contexts_hold_no_thread(_: &mut Test) -> Outcome {
    const VISITS: u64 = 512;
    let held = HeldFence::new().context("held fence")?;
    visit(held.file())?;
    let (threads, free) = (kernel_threads()?, memory::free()?);
    for n in 0..VISITS {
        visit(held.file()).with_context(|| format!("context {n}"))?;
    }
    let more = kernel_threads()?.saturating_sub(threads);
    let taken = free.saturating_sub(memory::free()?);
    held.still_held().context("the fence was held")?;
    println!("# {more} threads, {} KiB each", (taken / VISITS) >> 10);
    ensure!(
        more < VISITS / 8,
        "{more} threads more for {VISITS} contexts"
    );
    ensure!(
        taken < VISITS * MIB,
        "{} MiB for {VISITS} contexts",
        taken / MIB
    );
    held.signal().context("the fence was held")
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        defect_45_too_many_entries,
        defect_46_everything_again_and_again,
        defect_46_jobs_without_number,
        defect_47_many_contexts,
        defect_47_charged_to_the_group,
        defect_47_charged_to_whoever_asks,
        defect_46_as_many_tables_as_it_needs,
        defect_46_not_held_up_by_what_waits,
        defect_10_closed_contexts_hold_no_thread,
    ])
}
