// SPDX-License-Identifier: GPL-2.0-only

//! A bind that has nothing to wait for is done when its ioctl returns, without a worker; all others
//! keep their place.

use harness::{ensure, ensure_eq, Context, Outcome, Process, Teller, Test};
use nix::{
    sys::signal::Signal,
    unistd::{gettid, Pid},
};
use programs::{model::Model, pattern, Census, Gpu, Tolerance, PATIENCE};
use std::{
    fs,
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};
use uapi::{
    vgem::Buffer, Bo, Errno, HeldFence, SubmitQueue, SyncFile, Syncobj, Tracepoint, VmBind, PAGE,
};

/// The work items that this thread queues, on the driver's workqueues.
struct Work(Tracepoint);

impl Work {
    fn new() -> harness::Result<Self> {
        let trace = Tracepoint::of("workqueue", "workqueue_queue_work");
        Ok(Self(trace.context("tracing")?))
    }

    /// How many there were since this was made.
    fn queued(&self) -> harness::Result<usize> {
        let events = self.0.events_here().context("the trace")?;
        let ours = |event: &&String| event.contains("workqueue=msm_rs");
        Ok(events.iter().filter(ours).count())
    }
}

/// Sends `bind`, which must be done when it returns.
fn at_once(what: &str, bind: &VmBind<'_>) -> Outcome {
    let fence = bind.send().with_context(|| what.to_owned())?;
    ensure_eq!(fence.status()?, Some(Ok(())), "the fence of {what}");
    Ok(())
}

/// Sends `bind`, which must not be done.
fn waits(what: &str, bind: &VmBind<'_>) -> harness::Result<SyncFile> {
    let fence = bind.send().with_context(|| what.to_owned())?;
    ensure!(!fence.is_signaled()?, "{what} is done");
    Ok(fence)
}

/// Ops of all kinds: the fence is signalled, what is mapped is there, and no work item was queued.
fn done_at_return(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let (a, b) = (gpu.bo(1, 8 * PAGE)?, gpu.bo(2, 8 * PAGE)?);
    let mut model = Model::new(gpu.iova(0), 16);
    let at = |page: usize| gpu.iova(page as u64 * PAGE);
    let work = Work::new()?;
    at_once("a MAP", &gpu.bind().map(&a, 0, at(0), 8 * PAGE))?;
    model.map(1, 0, 0, 8);
    at_once("a MAP over it", &gpu.bind().map(&b, 0, at(4), 8 * PAGE))?;
    model.map(2, 0, 4, 8);
    at_once("an UNMAP", &gpu.bind().unmap(at(2), 4 * PAGE))?;
    model.unmap(2, 4);
    at_once("no ops", &gpu.bind())?;
    at_once(
        "many ops",
        &gpu.bind()
            .map(&a, 0, at(12), PAGE)
            .unmap(at(13), PAGE)
            .map_null(at(14), PAGE)
            .map(&b, PAGE, at(15), PAGE),
    )?;
    model.map(1, 0, 12, 1);
    model.map(2, 1, 15, 1);
    ensure_eq!(work.queued()?, 0, "work items");
    model.check(&gpu, &tolerance, "after all")
}

/// The turn of a bind whose in-fences have signalled is now, and so it is for who waits for it.
fn signalled_fences(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    let held = HeldFence::new().context("held fence")?;
    let file = held.file().try_clone()?;
    held.signal().context("the fence was held")?;
    let ready = Syncobj::new_signaled(&gpu.device)?;
    let (out, points) = (Syncobj::new(&gpu.device)?, Syncobj::new(&gpu.device)?);
    points.signal_point(3).context("point 3")?;
    let work = Work::new()?;
    let bind = gpu
        .bind()
        .map(&bo, 0, gpu.iova(0), PAGE)
        .after(&file)
        .after_syncobj(&ready, 0)
        .after_syncobj(&points, 3)
        .signal(&out, 0)
        .signal(&points, 9);
    at_once("a MAP", &bind)?;
    ensure!(out.is_signaled()?, "its out-syncobj isn't signalled");
    ensure!(points.is_point_signaled(9)?, "its point isn't signalled");
    ensure_eq!(work.queued()?, 0, "work items");
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(1, 0)], "after the MAP");
    // A point behind one that isn't signalled isn't, either.
    let held = HeldFence::new().context("held fence")?;
    let waiting = waits(
        "a bind without ops",
        &gpu.bind().after(held.file()).signal(&points, 11),
    )?;
    let second = SubmitQueue::new_vm_bind(&gpu.device).context("second queue")?;
    let bind = VmBind::new(&second).signal(&points, 12);
    at_once("another without ops", &bind)?;
    ensure!(
        !points.is_point_signaled(12)?,
        "point 12 before point 11, which waits"
    );
    held.signal().context("the fence was held")?;
    waiting.wait(PATIENCE).context("the bind that waits")?;
    points.wait_point(12, PATIENCE).context("point 12")
}

/// Behind a bind that waits nothing on its queue is done, nor what overlaps it on another queue;
/// what doesn't overlap is. In the end all is as in the order of the ioctls.
fn order(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let second = SubmitQueue::new_vm_bind(&gpu.device).context("second queue")?;
    let third = SubmitQueue::new_vm_bind(&gpu.device).context("third queue")?;
    let bos: Vec<Bo> = (1..5)
        .map(|tag| gpu.bo(tag, 8 * PAGE))
        .collect::<harness::Result<_>>()?;
    let mut model = Model::new(gpu.iova(0), 32);
    let at = |page: usize| gpu.iova(page as u64 * PAGE);
    let held = HeldFence::new().context("held fence")?;
    let waiting = [
        waits(
            "a MAP behind the fence",
            &gpu.bind()
                .map(&bos[0], 0, at(0), 8 * PAGE)
                .after(held.file()),
        )?,
        waits(
            "a MAP elsewhere on its queue",
            &gpu.bind().map(&bos[1], 0, at(16), 4 * PAGE),
        )?,
        waits("no ops on its queue", &gpu.bind())?,
        waits(
            "a MAP over it on another queue",
            &VmBind::new(&second).map(&bos[2], 0, at(7), 2 * PAGE),
        )?,
        waits(
            "a MAP elsewhere behind that one",
            &VmBind::new(&second).map(&bos[2], 0, at(24), PAGE),
        )?,
        waits(
            "an UNMAP of that on a third queue",
            &VmBind::new(&third).unmap(at(8), PAGE),
        )?,
    ];
    // The third queue waits as well now; a fourth doesn't.
    let fourth = SubmitQueue::new_vm_bind(&gpu.device).context("fourth queue")?;
    let work = Work::new()?;
    let bind = VmBind::new(&fourth).map(&bos[3], 0, at(9), 7 * PAGE);
    at_once("a MAP between them on a fourth queue", &bind)?;
    model.map(4, 0, 9, 7);
    let bind = VmBind::new(&fourth).unmap(at(10), PAGE);
    at_once("an UNMAP of a part of that", &bind)?;
    model.unmap(10, 1);
    ensure_eq!(work.queued()?, 0, "work items");
    model.check(&gpu, &tolerance, "while the others wait")?;
    let late = waits(
        "a MAP over all on the fourth queue",
        &VmBind::new(&fourth).map(&bos[3], 0, at(4), 4 * PAGE),
    )?;
    for (n, fence) in waiting.iter().enumerate() {
        ensure!(!fence.is_signaled()?, "bind {n} is done before its fence");
    }
    held.signal().context("the fence was held")?;
    for (n, fence) in waiting.iter().chain([&late]).enumerate() {
        fence.wait(PATIENCE).with_context(|| format!("bind {n}"))?;
        ensure_eq!(fence.status()?, Some(Ok(())), "bind {n}'s fence");
    }
    model.map(1, 0, 0, 8);
    model.map(2, 0, 16, 4);
    model.map(3, 0, 7, 2);
    model.map(3, 0, 24, 1);
    model.unmap(8, 1);
    model.map(4, 0, 4, 4);
    model.check(&gpu, &tolerance, "after all")?;
    // What waited is over.
    let work = Work::new()?;
    for queue in [&gpu.binds, &second, &third, &fourth] {
        let bind = VmBind::new(queue).unmap(at(0), 32 * PAGE);
        at_once("an UNMAP of everything", &bind)?;
    }
    ensure_eq!(work.queued()?, 0, "work items");
    Model::new(gpu.iova(0), 32).check(&gpu, &tolerance, "in the end")
}

/// Whether a thread of this process sleeps until a queue is unlocked.
fn sleeps_for_a_queue(thread: Pid) -> bool {
    let stack = format!("/proc/self/task/{thread}/stack");
    fs::read_to_string(stack).is_ok_and(|stack| stack.contains("queue_lock"))
}

/// Calls `done` until it is true. Who waits may not be run for long, and has to look again then.
fn until(what: &str, done: impl Fn() -> harness::Result<bool>) -> Outcome {
    const LIMIT: Duration = Duration::from_secs(100);
    let end = Instant::now() + LIMIT;
    let mut looks = 0;
    while !done()? {
        looks += 1;
        ensure!(
            looks < 50 || Instant::now() < end,
            "{what} takes more than {LIMIT:?}"
        );
        thread::yield_now();
    }
    Ok(())
}

/// What a bind has seen of earlier jobs is looked at again when all is locked: it sleeps for its
/// queue, and another bind gets its place before it. And fences are told in the order of a queue.
fn looks_again_when_locked(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let other = SubmitQueue::new_vm_bind(&gpu.device).context("another queue")?;
    let third = SubmitQueue::new_vm_bind(&gpu.device).context("third queue")?;
    let (bo, iova) = (gpu.bo(1, PAGE)?, gpu.iova(0));
    let end = Instant::now() + Duration::from_secs(60);
    let mut points = 250;
    while Instant::now() < end {
        let begin = Instant::now();
        let (timeline, out) = (Syncobj::new(&gpu.device)?, Syncobj::new(&gpu.device)?);
        let first = HeldFence::new().context("held fence")?;
        let bind = VmBind::new(&third).after(first.file());
        let bind = (1..=points).fold(bind, |bind, point| bind.signal(&timeline, point));
        let unsignalled = waits("points that wait", &bind)?;
        // Each point costs a look at all of those, with the queue locked.
        let long = (points + 1..=2 * points)
            .fold(gpu.bind(), |bind, point| bind.signal(&timeline, point))
            .signal(&out, 0);
        let map = gpu.bind().map(&bo, 0, iova, PAGE).signal(&out, 0);
        let second = HeldFence::new().context("held fence")?;
        let unmap = VmBind::new(&other).unmap(iova, PAGE).after(second.file());
        let (sender, receiver) = mpsc::channel();
        let (told, mapped, unmapped, slept) = thread::scope(|scope| -> harness::Result<_> {
            let told = scope.spawn(|| long.send());
            until("the first point", || Ok(timeline.newest_point()? > points))?;
            let mapped = scope.spawn(|| {
                let _ = sender.send(gettid());
                map.send()
            });
            let mapper = receiver.recv().context("a thread")?;
            until("a MAP's sleep", || {
                Ok(sleeps_for_a_queue(mapper) || mapped.is_finished() || told.is_finished())
            })?;
            let unmapped = waits("an UNMAP", &unmap)?;
            let slept = sleeps_for_a_queue(mapper);
            let (told, mapped) = (told.join(), mapped.join());
            Ok((told, mapped, unmapped, slept))
        })?;
        let told = told
            .expect("it doesn't panic")
            .context("a bind of no ops")?;
        ensure!(told.is_signaled()?, "a bind of no ops waits");
        let mapped = mapped.expect("it doesn't panic").context("a MAP")?;
        let (early, told_early) = (mapped.is_signaled()?, out.is_signaled()?);
        // On a slow machine the fence may have expired; then nothing is known.
        let slept = match second.signal() {
            Err(Errno::ETIMEDOUT) => false,
            held => held.map(|()| slept).context("the fence was held")?,
        };
        if slept {
            ensure!(
                !early,
                "a MAP is done before an UNMAP of the same iovas that came before it"
            );
            ensure!(
                !told_early,
                "the syncobj has the fence of the first of two binds on a queue"
            );
        }
        unmapped.wait(PATIENCE).context("an UNMAP")?;
        mapped.wait(PATIENCE).context("a MAP")?;
        drop(first);
        unsignalled.wait(PATIENCE).context("points")?;
        if slept {
            ensure_eq!(gpu.read(iova, 1)?, [pattern(1, 0)], "after both");
            return Ok(());
        }
        gpu.unmap(iova, PAGE)?;
        // The queue is to be locked for long, but not longer than fences are held: four times the
        // time.
        if points < 2000 && begin.elapsed() < Duration::from_secs(3) {
            points *= 2;
        }
    }
    Err(harness::Error::msg("the MAP never slept for its queue"))
}

/// There are no more BOs than before, now, and no fewer.
fn all_gone_but(before: Census) -> Outcome {
    ensure!(!before.exceeded()?, "more BOs than {before:?}");
    before.unchanged()
}

/// What a bind removes is freed when it returns, if nobody else has it.
fn freed_at_return(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    let work = Work::new()?;
    for over in [false, true] {
        let bos: Vec<Bo> = (0..16)
            .map(|tag| gpu.bo(tag, 4 * PAGE))
            .collect::<harness::Result<_>>()?;
        let iova = |n: usize| gpu.iova(n as u64 * 4 * PAGE);
        for (n, bo) in bos.iter().enumerate() {
            at_once("a MAP", &gpu.bind().map(bo, 0, iova(n), 4 * PAGE))?;
        }
        drop(bos);
        ensure!(before.exceeded()?, "nothing is mapped");
        let all = 16 * 4 * PAGE;
        if over {
            at_once("a MAP_NULL", &gpu.bind().map_null(iova(0), all))?;
        } else {
            at_once("an UNMAP", &gpu.bind().unmap(iova(0), all))?;
        }
        all_gone_but(before).with_context(|| format!("over: {over}"))?;
    }
    ensure_eq!(work.queued()?, 0, "work items");
    Ok(())
}

/// A bind whose ops change what others of them have made may need an invalidation for each: it is a
/// job.
fn ops_over_each_other_are_jobs(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let (a, b) = (gpu.bo(1, 2 * PAGE)?, gpu.bo(2, 2 * PAGE)?);
    let at = |page: u64| gpu.iova(page * PAGE);
    let work = Work::new()?;
    let beside = gpu
        .bind()
        .map(&a, 0, at(0), PAGE)
        .map(&b, PAGE, at(1), PAGE);
    at_once("two MAPs beside each other", &beside)?;
    ensure_eq!(work.queued()?, 0, "work items");
    let fence = gpu
        .bind()
        .map(&a, 0, at(0), 2 * PAGE)
        .map(&b, PAGE, at(1), PAGE)
        .send()
        .context("a MAP over another one")?;
    ensure!(work.queued()? > 0, "a MAP over another one is no job");
    fence.wait(PATIENCE).context("a MAP over another one")?;
    let read = gpu.peek(&[at(0), at(1)])?;
    ensure_eq!(read, [pattern(1, 0), pattern(2, 1024)], "afterwards");
    Ok(())
}

/// A bind that takes too long for an ioctl is a job, and is done all the same.
fn long_ones_are_jobs(_: &mut Test) -> Outcome {
    const PAGES: u64 = 1 << 14;
    let gpu = Gpu::new()?;
    let bo = Bo::new(&gpu.device, (PAGES + 1) * PAGE).context("BO of 64 MiB and a page")?;
    let (iova, last) = (gpu.iova(0), gpu.iova(PAGES * PAGE));
    for (pages, jobs) in [(PAGES, false), (PAGES + 1, true)] {
        let len = pages * PAGE;
        for (what, bind) in [
            ("MAP", gpu.bind().map(&bo, 0, iova, len)),
            ("MAP_NULL", gpu.bind().map_null(iova, len)),
            ("UNMAP", gpu.bind().unmap(iova, len)),
        ] {
            long_or_short(&format!("{what} of {pages} pages"), &bind, jobs)?;
        }
    }
    long_or_short(
        "MAP",
        &gpu.bind().map(&bo, 0, iova, (PAGES + 1) * PAGE),
        true,
    )?;
    gpu.write(last, &[0x1234])?;
    ensure_eq!(gpu.read(last, 1)?, [0x1234], "the last page");
    for (ops, jobs) in [(1024, false), (1025, true)] {
        let bind = (0..ops).fold(gpu.bind(), |bind, n| {
            bind.unmap(gpu.iova(2 * n * PAGE), PAGE)
        });
        long_or_short(&format!("{ops} UNMAPs"), &bind, jobs)?;
    }
    Ok(())
}

/// Sends `bind`, which is done when it returns unless it is to be a job.
fn long_or_short(what: &str, bind: &VmBind<'_>, is_job: bool) -> Outcome {
    let work = Work::new()?;
    let fence = bind.send().with_context(|| what.to_owned())?;
    ensure_eq!(work.queued()? > 0, is_job, "work items for {what}");
    ensure!(is_job || fence.is_signaled()?, "{what} waits");
    fence.wait(PATIENCE).with_context(|| what.to_owned())
}

/// A bind doesn't wait, with its locks, for a job that has the page tables: it is a job then, and
/// what it had begun is undone and done again.
fn page_tables_are_busy(_: &mut Test) -> Outcome {
    const LARGE: u64 = 32 << 20;
    const OPS: u64 = 8;
    const SHORT: u64 = 256;
    // While one of them writes entries the others' jobs wait for the page tables.
    const THREADS: u64 = 3;
    let before = Census::new()?;
    {
        let gpu = Gpu::new()?;
        let second = SubmitQueue::new_vm_bind(&gpu.device).context("second queue")?;
        let large = Bo::new(&gpu.device, LARGE).context("BO of 32 MiB")?;
        let bo = gpu.bo(1, PAGE)?;
        let short = |n: u64| gpu.iova(n % SHORT * PAGE);
        // Not aligned as the memory is: each page gets an entry, which takes a while.
        let (device, base) = (&gpu.device, gpu.iova(PAGE));
        let place = |n: u64| base + (n + 1) * 2 * LARGE;
        let stop = AtomicBool::new(false);
        // Threads of their own: a job may run where its ioctl did, and end before that goes on.
        let long_jobs = |first: u64| -> Outcome {
            let queue = SubmitQueue::new_vm_bind(device).context("a queue")?;
            let maps = (first..first + OPS).fold(VmBind::new(&queue), |bind, n| {
                bind.map(&large, 0, place(n), LARGE)
            });
            let unmap = VmBind::new(&queue).unmap(place(first), OPS * 2 * LARGE);
            while !stop.load(Ordering::Relaxed) {
                maps.send_and_wait().context("large MAPs")?;
                unmap.send_and_wait().context("a large UNMAP")?;
            }
            Ok(())
        };
        let mut sent = 0;
        let meet = |sent: &mut u64| -> harness::Result<bool> {
            let bind = VmBind::new(&second).map(&bo, 0, short(*sent), PAGE);
            let fence = bind.send().context("a MAP of a page")?;
            *sent += 1;
            // What is done at once has signalled.
            let is_job = !fence.is_signaled()?;
            fence.wait(PATIENCE).context("a MAP of a page")?;
            Ok(is_job)
        };
        let (long, met) = thread::scope(|scope| {
            let long: Vec<_> = (0..THREADS)
                .map(|n| scope.spawn(move || long_jobs(n * OPS)))
                .collect();
            let end = Instant::now() + Duration::from_secs(60);
            let mut met = Ok(false);
            while matches!(met, Ok(false))
                && Instant::now() < end
                && !long.iter().any(|thread| thread.is_finished())
            {
                met = meet(&mut sent);
            }
            stop.store(true, Ordering::Relaxed);
            let ends = long.into_iter().map(|thread| thread.join());
            let ends: Vec<_> = ends.map(|end| end.expect("it doesn't panic")).collect();
            (ends.into_iter().collect::<Outcome>(), met)
        });
        long?;
        ensure!(met?, "none of {sent} MAPs met busy page tables");
        let iovas: Vec<u64> = (0..sent.min(SHORT)).map(short).collect();
        for (n, read) in gpu.peek(&iovas)?.into_iter().enumerate() {
            ensure_eq!(read, pattern(1, 0), "page {n}");
        }
    }
    before.restored()
}

/// An import whose last reference a bind drops goes back to its exporter.
fn import_freed_at_return(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    let exporter = Buffer::new(PAGE).context("vgem")?;
    let bo = Bo::import(&gpu.device, exporter.dma_buf_fd(), PAGE).context("import")?;
    at_once("a MAP", &gpu.bind().map(&bo, 0, gpu.iova(0), PAGE))?;
    drop((bo, exporter));
    ensure!(before.exceeded()?, "nothing is mapped");
    at_once("an UNMAP", &gpu.bind().unmap(gpu.iova(0), PAGE))?;
    all_gone_but(before)
}

/// A context that binds and unbinds many BOs, at once, until it is killed. It says when it begins,
/// and how long it takes to do so once.
fn binds_for_ever(teller: &Teller) -> Outcome {
    let gpu = Gpu::new()?;
    teller.tell(Duration::ZERO)?;
    let begin = Instant::now();
    for round in 0u64.. {
        if round == 1 {
            teller.tell(begin.elapsed())?;
        }
        let bos: Vec<Bo> = (0..8)
            .map(|tag| gpu.bo(tag, 16 * PAGE))
            .collect::<harness::Result<_>>()?;
        let bind = bos.iter().enumerate().fold(gpu.bind(), |bind, (n, bo)| {
            (0..16).fold(bind, |bind, page| {
                // Scattered, so that each op is a VMA.
                let iova = gpu.iova((n as u64 * 32 + 2 * page) * PAGE);
                bind.map(bo, page * PAGE, iova, PAGE)
            })
        });
        at_once("many MAPs", &bind)?;
        drop(bos);
        at_once("an UNMAP", &gpu.bind().unmap(gpu.iova(0), 256 * PAGE))?;
    }
    Ok(())
}

/// Processes that are killed while they bind leave nothing.
fn killed(test: &mut Test) -> Outcome {
    let before = Census::new()?;
    let end = Instant::now() + Duration::from_secs(60);
    for n in 0..30 {
        if n >= 5 && Instant::now() > end {
            break;
        }
        let (mut child, listener) = Process::start_telling(binds_for_ever)?;
        listener.hear(PATIENCE).context("it begins")?;
        let round = listener.hear(PATIENCE).context("it goes on")?;
        // Anywhere in the next two rounds, however long those take.
        sleep(round.mul_f64(2.0 * test.rng.f64()));
        ensure_eq!(child.status()?, None, "the process, which should go on");
        child.signal(Signal::SIGKILL)?;
        child.end(PATIENCE)?;
    }
    before.restored()
}

/// The file is closed with what was mapped at once, also over what a bind would change that waits.
fn closed(_: &mut Test) -> Outcome {
    let before = Census::new()?;
    let held = HeldFence::new().context("held fence")?;
    {
        let gpu = Gpu::new()?;
        let second = SubmitQueue::new_vm_bind(&gpu.device).context("second queue")?;
        let (a, b) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
        at_once("a MAP", &gpu.bind().map(&a, 0, gpu.iova(0), 4 * PAGE))?;
        waits(
            "a MAP over it",
            &gpu.bind().map(&b, 0, gpu.iova(0), PAGE).after(held.file()),
        )?;
        let bind = VmBind::new(&second).map(&b, 0, gpu.iova(8 * PAGE), PAGE);
        at_once("a MAP elsewhere", &bind)?;
    }
    before.restored()?;
    held.signal().context("the fence was held")?;
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        done_at_return,
        signalled_fences,
        order,
        looks_again_when_locked,
        freed_at_return,
        ops_over_each_other_are_jobs,
        page_tables_are_busy,
        import_freed_at_return,
        long_ones_are_jobs,
        killed,
        closed,
    ])
}
