// SPDX-License-Identifier: GPL-2.0-only

//! What reclaim gets of BOs, and from whom: memory that is free afterwards, as much as was asked
//! for, and of those who don't use theirs.

use harness::{ensure, ensure_eq, Context, Ended, Outcome, Process, Test};
use nix::unistd::{pipe, read, write};
use programs::{
    known::{Known, Versions},
    pages_of, Census, Gpu, PATIENCE,
};
use std::{
    os::fd::OwnedFd,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    memory,
    swap::{vmstat, Swap},
    Bo, Errno, Pm4, Tracepoint, PAGE,
};

const MIB: u64 = 1 << 20;
/// Reclaim's usual request, in pages, and what it may take at most.
const REQUEST: u64 = 128;
const MOVED: u64 = 512;

/// A process with a context whose SUBMITs need all of its BOs.
struct Client {
    process: Process,
    orders: OwnedFd,
    answers: OwnedFd,
    /// All of its BOs'.
    pages: u64,
}

/// What it is told to do.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Order {
    /// To say how many pages its BOs have.
    Look,
    /// To say how many pages are missing, and then to have the GPU use all of them.
    Submit,
    /// To look at everything.
    Check,
    /// To end.
    End,
}

impl Client {
    /// One with `count` BOs of `size` bytes, which the GPU has used.
    fn new(test: &mut Test, count: u64, size: u64) -> harness::Result<Self> {
        let ((from_us, orders), (answers, to_us)) = (pipe()?, pipe()?);
        let mut versions = Versions::new(&mut test.rng);
        let process = Process::start(|| {
            let gpu = Gpu::new()?;
            let bos = (0..count)
                .map(|n| Known::new(&gpu, gpu.iova(n * size), size, versions.fresh()))
                .collect::<harness::Result<Vec<_>>>()?;
            let all = pages_of(&gpu.device, "total")?;
            write(&to_us, &all.to_ne_bytes())?;
            let mut order = [0];
            while read(&from_us, &mut order)? == 1 && order[0] != Order::End as u8 {
                let left = pages_of(&gpu.device, "resident")?;
                let mut answer = left;
                if order[0] == Order::Submit as u8 {
                    answer = all - left;
                    gpu.run(&Pm4::new().nop(4).barrier())?;
                } else if order[0] == Order::Check as u8 {
                    bos.iter().try_for_each(|bo| bo.check_by_gpu(&gpu))?;
                }
                write(&to_us, &answer.to_ne_bytes())?;
            }
            Ok(())
        })?;
        let mut client = Self {
            process,
            orders,
            answers,
            pages: 0,
        };
        client.pages = client.answer()?;
        Ok(client)
    }

    fn answer(&mut self) -> harness::Result<u64> {
        let mut answer = [0; 8];
        let len = read(&self.answers, &mut answer)?;
        if len != answer.len() {
            let ended = self.process.end(Process::LONG)?;
            harness::bail!("a process has ended: {ended:?}");
        }
        Ok(u64::from_ne_bytes(answer))
    }

    fn told(&mut self, order: Order) -> harness::Result<u64> {
        write(&self.orders, &[order as u8])?;
        self.answer()
    }

    fn ends(self) -> Outcome {
        write(&self.orders, &[Order::End as u8])?;
        self.process.succeeds(Process::LONG)
    }
}

/// What the kernel counts when memory is short.
struct Counters {
    start: Instant,
    before: [u64; 3],
}

impl Counters {
    const KEYS: [&'static str; 3] = ["oom_kill", "pswpout", "workingset_refault_anon"];

    fn now() -> harness::Result<[u64; 3]> {
        let mut values = [0; 3];
        for (value, key) in values.iter_mut().zip(Self::KEYS) {
            *value = vmstat(key)?;
        }
        Ok(values)
    }

    fn new() -> harness::Result<Self> {
        Ok(Self {
            start: Instant::now(),
            before: Self::now()?,
        })
    }

    /// How much more there are, and for people to read.
    fn more(&self) -> harness::Result<([u64; 3], String)> {
        let now = Self::now()?;
        let more = [0, 1, 2].map(|i| now[i] - self.before[i]);
        let text = format!(
            "{} killed, {} pages out, {} refaults, {:.1} s",
            more[0],
            more[1],
            more[2],
            self.start.elapsed().as_secs_f64()
        );
        Ok((more, text))
    }
}

/// The shrinker's own: pages asked for and freed, by each request of which it has got some.
fn scans(trace: &Tracepoint) -> harness::Result<Vec<(u64, u64)>> {
    let events = trace.events()?;
    let scans = events.iter().map(|event| {
        let mut numbers = event
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse::<u64>().ok());
        let asked = numbers.next().unwrap_or(0);
        (asked, numbers.sum())
    });
    Ok(scans.collect())
}

/// What shrinkers tell the kernel, if it is anything.
fn answers() -> harness::Result<Tracepoint> {
    Tracepoint::of_those("vmscan", "mm_shrink_slab_end", "retval > 0").context("tracing")
}

/// What the kernel heard from msm's shrinker, in all.
fn reported(trace: &Tracepoint) -> harness::Result<u64> {
    let events = trace.events()?;
    let ours = events.iter().filter(|event| event.contains("[msm]"));
    Ok(ours
        .filter_map(|event| {
            let value = event.split("return val ").nth(1)?;
            value.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum())
}

/// Pages in shmem files, BOs' mostly.
fn shmem() -> harness::Result<u64> {
    memory::settle_counters()?;
    Ok(memory::shmem()? / PAGE)
}

/// One process has used its BOs once, and another one, which is older and whose BOs are, uses its
/// all the time. When memory becomes short the first one gives its pages, and the second none.
fn idle_gives_before_active(test: &mut Test) -> Outcome {
    const ACTIVE: u64 = 16;
    const IDLE: u64 = 48;
    /// What is free at first.
    const SLACK: u64 = 48 * MIB;
    const STEP: u64 = MIB;
    let census = Census::new()?;
    let _hoard = memory::Hoard::leaving((ACTIVE + IDLE + 4) * MIB + SLACK).context("hoarding")?;
    let _swap = Swap::new(512 * MIB).context("swap")?;
    let mut active = Client::new(test, ACTIVE, MIB)?;
    let mut idle = Client::new(test, IDLE, MIB)?;
    // Its BOs may have been the idle ones while the other's were made.
    active.told(Order::Submit)?;
    let counters = Counters::new()?;
    let requests = Tracepoint::new("msm_gem_shrink").context("tracing")?;
    let answers = answers()?;
    let before = shmem()?;

    // Until the idle one has given most of its pages. `early` is what the active one had to give
    // when the idle one had some to give still.
    let (mut steps, mut missing, mut left) = (Vec::new(), Vec::new(), idle.pages);
    let mut early = 0;
    while left > idle.pages / 4 && missing.len() < 200 {
        missing.push(active.told(Order::Submit)?);
        if left > idle.pages / 10 {
            early += missing[missing.len() - 1];
        }
        steps.push(memory::Hoard::of(STEP).context("taking memory")?);
        left = idle.told(Order::Look)?;
    }
    for n in 0..10 {
        missing.push(active.told(Order::Submit)?);
        if n == 0 && left > idle.pages / 10 {
            early += missing[missing.len() - 1];
        }
    }
    let after = shmem()?;
    let (more, text) = counters.more()?;
    let back: u64 = missing.iter().sum();
    let next: u64 = missing[missing.len() - 10..].iter().sum();
    let scans = scans(&requests)?;
    let moved: u64 = scans.iter().map(|scan| scan.1).sum();
    let most = scans
        .iter()
        .filter(|scan| scan.0 <= REQUEST)
        .map(|scan| scan.1)
        .max();
    let reported = reported(&answers)?;
    let given = (before + back).saturating_sub(after);
    println!(
        "# {} steps; idle gave {} of {} pages; of {} active ones {back} came back, {early} too early, {next} in the last ten submits; \
         {} requests moved {moved} pages, one of {REQUEST} {} at most; {reported} reported, {given} given; {text}",
        steps.len(),
        idle.pages - left,
        idle.pages,
        active.pages,
        scans.len(),
        most.unwrap_or(0),
    );
    let (used, unused) = (active.pages, idle.pages);
    drop(steps);
    active.told(Order::Check)?;
    idle.told(Order::Check)?;
    active.ends()?;
    idle.ends()?;
    ensure_eq!(more[0], 0, "processes killed for want of memory");
    ensure!(
        left <= unused / 4,
        "the idle process has {left} pages still"
    );
    ensure!(
        early * 10 <= used,
        "{early} of the active process's {used} pages were taken before the idle one's"
    );
    census.restored()
}

/// Reclaim asks for a few pages again and again, of which BOs that are larger have the most.
/// Each time about as many are out of the BOs' files then. How that compares with what the kernel
/// was told is printed: it varies, since swapped-out pages are freed by reclaim and not here.
fn requests_move_little_more(_: &mut Test) -> Outcome {
    // A little more, and they have pages of that size, which go whole.
    const SIZE: u64 = 2 * MIB - PAGE;
    const BOS: u64 = 20;
    const REQUESTS: usize = 24;
    let census = Census::new()?;
    let _swap = Swap::new(512 * MIB).context("swap")?;
    let gpu = Gpu::new()?;
    let pages = || (0..SIZE / PAGE).map(|page| (page as usize * 1024, 1 + page as u32));
    let bos = (0..BOS)
        .map(|n| {
            let bo = Bo::new(&gpu.device, SIZE)?;
            let map = bo.map()?;
            pages().for_each(|(at, value)| map.write(at, value));
            gpu.map(&bo, gpu.iova(n * SIZE))?;
            Ok(bo)
        })
        .collect::<harness::Result<Vec<_>>>()?;
    let counters = Counters::new()?;
    let requests = Tracepoint::new("msm_gem_shrink").context("tracing")?;
    let answers = answers()?;
    let first = shmem()?;
    let (mut before, mut each) = (first, Vec::new());
    for _ in 0..REQUESTS {
        // EAGAIN: there is less.
        let _ = memory::reclaim(REQUEST * PAGE);
        let now = shmem()?;
        each.push(before.saturating_sub(now));
        before = now;
    }
    let given = first.saturating_sub(before);
    let most = each.iter().max().copied().unwrap_or(0);
    let (reported, scans) = (reported(&answers)?, scans(&requests)?);
    println!(
        "# {REQUESTS} requests for {REQUEST} pages: {reported} reported, {given} given, {most} by one at most ({each:?}); \
         BOs of {} pages taken from page tables: {}; {}",
        SIZE / PAGE,
        scans.iter().map(|scan| scan.1).sum::<u64>() * PAGE / SIZE,
        counters.more()?.1
    );
    for bo in &bos {
        let map = bo.map()?;
        for (at, value) in pages() {
            ensure_eq!(map.read(at), value, "dword {at}");
        }
    }
    drop((bos, gpu));
    ensure!(reported > 0, "the shrinker wasn't asked");
    ensure!(
        most <= MOVED,
        "{most} pages given to a request for {REQUEST}"
    );
    census.restored()
}

/// What the process of [`cgroup_at_its_limit`] ends with if it was refused memory.
const REFUSED: i32 = 3;

/// Fills BOs of two contexts, and uses them in turns. If there is no memory for the second one's,
/// there is when the first one is gone.
fn two_contexts(mut versions: Versions) -> harness::Result<i32> {
    const BOS: u64 = 14;
    let (one, other) = (Gpu::new()?, Gpu::new()?);
    let mut fill = |gpu: &Gpu| {
        (0..BOS)
            .map(|n| Known::new(gpu, gpu.iova(n * MIB), MIB, versions.fresh()))
            .collect::<harness::Result<Vec<_>>>()
    };
    let no_memory = |e: &harness::Error| e.root_cause().downcast_ref() == Some(&Errno::ENOMEM);
    let first = fill(&one)?;
    match fill(&other) {
        Ok(second) => {
            for _ in 0..4 {
                first.iter().try_for_each(|bo| bo.check_by_gpu(&one))?;
                second.iter().try_for_each(|bo| bo.check_by_gpu(&other))?;
            }
            Ok(0)
        }
        Err(e) if no_memory(&e) => {
            first.iter().try_for_each(|bo| bo.check_by_gpu(&one))?;
            drop((first, one));
            let mut tries = 0;
            let end = Instant::now() + PATIENCE;
            // The first context's VM ends a little later than its file.
            while let Err(e) = fill(&other) {
                tries += 1;
                let again = tries < 50 || Instant::now() < end;
                ensure!(no_memory(&e) && again, "with one context: {e:#}");
                sleep(Duration::from_millis(50));
            }
            Ok(REFUSED)
        }
        Err(e) => Err(e),
    }
}

/// A process whose BOs are more than its cgroup's memory, though those of each of its contexts
/// aren't: it isn't killed.
fn cgroup_at_its_limit(test: &mut Test) -> Outcome {
    let census = Census::new()?;
    let _swap = Swap::new(256 * MIB).context("swap")?;
    let group = memory::Group::new("reclaim").context("cgroup")?;
    group.limit(24 * MIB).context("memory.max")?;
    let counters = Counters::new()?;
    let versions = Versions::new(&mut test.rng);
    let mut process = Process::fork(|| match group.run(|| two_contexts(versions)) {
        Ok(Ok(status)) => status,
        Ok(Err(e)) => {
            println!("# {e:#}");
            1
        }
        Err(e) => {
            println!("# {e}");
            2
        }
    })?;
    let ended = process.end(Process::LONG)?;
    println!(
        "# {ended:?}{}; {} killed in the group; {}",
        if ended == Ended::With(REFUSED) {
            ", refused memory"
        } else {
            ""
        },
        group.killed()?,
        counters.more()?.1
    );
    ensure_eq!(group.killed()?, 0, "processes killed for the group's limit");
    ensure!(
        matches!(ended, Ended::With(0 | REFUSED)),
        "the process: {ended:?}"
    );
    census.restored()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        idle_gives_before_active,
        requests_move_little_more,
        cgroup_at_its_limit,
    ])
}
