// SPDX-License-Identifier: GPL-2.0-only

//! What a bind job would unmap, when the job is cancelled or its VM has become unusable: it stays
//! for as long as the GPU can reach it, and not longer.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{
    check_unpinned,
    eventually,
    fault,
    pattern,
    swap_out,
    untouched,
    Census,
    Gpu,
    Waiting,
    PATIENCE, //
};
use std::{
    os::fd::AsFd,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    debugfs,
    swap::Swap,
    vadreno::{Translation, Vadreno},
    Bo, Device, HeldFence, Pm4, Submit, SubmitQueue, VmBind, PAGE,
};

const PAGES: u64 = 64;

/// Where the BO that a bind takes away is mapped.
const TARGET: u64 = 0x10_0000;

/// A context whose bind job takes a BO's mapping away, and another context that sees what becomes
/// of the BO.
struct Scene {
    gpu: Gpu,
    witness: Gpu,
    /// Its first dword lets the GPU go on.
    gate: Bo,
    seen_gate: Bo,
    target: Bo,
    seen_target: Bo,
    /// For a MAP over `target`.
    other: Bo,
}

/// Another context's handle for a BO.
fn share(bo: &Bo, with: &Gpu) -> harness::Result<Bo> {
    let dma_buf = bo.export()?;
    Ok(Bo::import(&with.device, dma_buf.as_fd(), bo.size())?)
}

impl Scene {
    fn new() -> harness::Result<Self> {
        let (gpu, witness) = (Gpu::new()?, Gpu::new()?);
        let (gate, target) = (gpu.bo(1, PAGE)?, gpu.bo(2, PAGES * PAGE)?);
        gpu.map(&gate, gpu.iova(0))?;
        gpu.map(&target, gpu.iova(TARGET))?;
        let other = gpu.bo(3, PAGES * PAGE)?;
        Ok(Self {
            seen_gate: share(&gate, &witness)?,
            seen_target: share(&target, &witness)?,
            gpu,
            witness,
            gate,
            target,
            other,
        })
    }

    /// As [`Scene::new`]; and the target has another VMA in front, which was evicted before the one
    /// behind it was made.
    fn with_evicted() -> harness::Result<Self> {
        let scene = Self::new()?;
        let size = PAGES * PAGE;
        scene.unmap().send_and_wait().context("UNMAP")?;
        scene
            .gpu
            .map(&scene.target, scene.gpu.iova(TARGET - size))?;
        swap_out(&scene.gpu.device).context("the target")?;
        scene.gpu.map(&scene.target, scene.gpu.iova(TARGET))?;
        Ok(scene)
    }

    /// Commands that say that they have begun, by the second dword of the gate, wait until its
    /// first is 1, then write to each page of the target.
    fn write_later(&self) -> Pm4 {
        let wait = Pm4::new()
            .mem_write(self.gpu.iova(4), &[1])
            .barrier()
            .wait_mem_eq(self.gpu.iova(0), 1, !0);
        (0..PAGES)
            .fold(wait, |commands, page| {
                commands.mem_write(self.gpu.iova(TARGET + page * PAGE), &[0x0bad])
            })
            .barrier()
    }

    fn unmap(&self) -> VmBind<'_> {
        self.gpu.bind().unmap(self.gpu.iova(TARGET), PAGES * PAGE)
    }

    fn unmap_both(&self) -> VmBind<'_> {
        let size = PAGES * PAGE;
        self.gpu
            .bind()
            .unmap(self.gpu.iova(TARGET - size), 2 * size)
    }

    fn map_over(&self) -> VmBind<'_> {
        let at = self.gpu.iova(TARGET);
        self.gpu.bind().map(&self.other, 0, at, PAGES * PAGE)
    }
}

/// What there is before.
type Make = fn() -> harness::Result<Scene>;

/// How a bind job takes the target away.
type Take = for<'a> fn(&'a Scene) -> VmBind<'a>;

/// When the SUBMIT that writes the target is sent, beside the bind.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    Before,
    After,
}

/// The name of [`another_cancelled`]'s BO.
const MARKER: &str = "of another cancelled bind";

/// A bind of another file is cancelled. Its fence has signalled, which the kernel sees to right
/// before it frees the job, and what it held has gone.
fn another_cancelled() -> Outcome {
    let device = Device::open_vm_bind()?;
    let binds = SubmitQueue::new_vm_bind(&device)?;
    let bo = Bo::new(&device, PAGE)?;
    bo.set_name(MARKER)?;
    let at = device.va_range()?.start;
    VmBind::new(&binds).map(&bo, 0, at, PAGE).send_and_wait()?;
    let waiting = Waiting::send(VmBind::new(&binds).unmap(at, PAGE))?;
    drop((bo, binds, device));
    waiting.run()?;
    eventually("what another cancelled bind held to go", || {
        Ok(!debugfs::gem()?.contains(MARKER))
    })
}

/// A bind waits while a SUBMIT runs that writes what it takes away. The file is closed, the bind's
/// fence signals. The BO stays, with its pages, until the SUBMIT has ended.
fn cancelled(scene: Make, take: Take, sent: Sent) -> Outcome {
    let before = Census::new()?;
    let _slow = debugfs::SlowHangcheck::new().context("hangcheck_period_ms")?;
    let scene = scene()?;
    let gate = scene.seen_gate.map()?;
    let commands = scene.write_later();
    let submit = || scene.gpu.start(&commands, |s| s).context("SUBMIT");
    let early = (sent == Sent::Before).then(submit).transpose()?;
    let waiting = Waiting::send(take(&scene))?;
    let late = (sent == Sent::After).then(submit).transpose()?;
    let submitted = early.or(late).expect("one of the two");
    // What the GPU hasn't begun when the file is closed has no commands.
    eventually("the SUBMIT to begin", || Ok(gate.read(1) == 1))?;

    let Scene {
        gpu,
        witness,
        gate: gpu_gate,
        seen_gate,
        target,
        seen_target,
        other,
    } = scene;
    drop((gpu_gate, target, other, gpu));
    // What the VM had mapped, and what the waiting bind holds.
    let bos = debugfs::most_gem_total()?.0;
    waiting.run()?;

    // A BO that somebody has locked is missing for a moment, one that was freed for ever.
    let all_stay = || {
        debugfs::shrink(1 << 20)?;
        eventually("as many BOs as before, while the SUBMIT runs", || {
            Ok(debugfs::gem_total()?.0 == bos)
        })
    };
    // Nothing says when the cancelled job has been freed. By when it was the turn of several others
    // that were cancelled later, it was its own.
    seen_target.madvise(MSM_MADV_DONTNEED)?;
    let (end, mut others) = (Instant::now() + Duration::from_millis(500), 0);
    while others < 5 || Instant::now() < end {
        another_cancelled()?;
        others += 1;
        all_stay()?;
        sleep(Duration::from_millis(20));
    }
    ensure!(
        seen_target.madvise(MSM_MADV_WILLNEED)?,
        "purged while the SUBMIT runs that writes it"
    );
    // What the pages would be given to, had they been freed.
    let foreign = witness.bo(9, 8 * PAGES * PAGE)?;

    gate.write(0, 1);
    submitted.wait(PATIENCE).context("SUBMIT")?;
    let written = seen_target.map()?;
    for page in 0..PAGES as usize {
        ensure_eq!(
            written.read(page * 1024),
            0x0bad,
            "page {page} of the target"
        );
    }
    drop(written);
    untouched(&foreign, 9)?;
    drop(gate);
    check_unpinned(&seen_target).context("after the VM's end")?;
    drop((seen_gate, seen_target, foreign, witness));
    before.restored()
}

fn defect_10_cancelled_unmap(_: &mut Test) -> Outcome {
    cancelled(Scene::new, Scene::unmap, Sent::Before)
}

fn defect_10_cancelled_map_over(_: &mut Test) -> Outcome {
    cancelled(Scene::new, Scene::map_over, Sent::Before)
}

/// A SUBMIT that is sent after the UNMAP's ioctl doesn't know the BO any more.
fn defect_10_cancelled_unmap_before_the_submit(_: &mut Test) -> Outcome {
    cancelled(Scene::new, Scene::unmap, Sent::After)
}

fn defect_10_cancelled_map_over_before_the_submit(_: &mut Test) -> Outcome {
    cancelled(Scene::new, Scene::map_over, Sent::After)
}

/// Of two VMAs of the BO that the UNMAP takes away, page tables lead to its pages from the second
/// alone.
fn defect_10_cancelled_unmap_of_an_evicted_vma(_: &mut Test) -> Outcome {
    let _swap = Swap::new(64 << 20).context("swap")?;
    cancelled(Scene::with_evicted, Scene::unmap_both, Sent::After)
}

/// A bind waits while its context faults. When its turn comes, what it takes away goes, and nothing
/// new is mapped.
fn unusable(take: Take) -> Outcome {
    let before = Census::new()?;
    let scene = Scene::new()?;
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    // As the context that ran last.
    ensure_eq!(
        scene.gpu.read(scene.gpu.iova(TARGET), 1)?,
        [pattern(2, 0)],
        "the target"
    );
    let (ttbr0, _) = vadreno.current();
    let waiting = Waiting::send(take(&scene))?;
    let fault = Pm4::new()
        .mem_to_mem(scene.gpu.result_iova(0), scene.gpu.iova(1 << 32))
        .barrier();
    fault::provoke(&scene.gpu, &fault)?;
    let at = |page: u64| vadreno.translate_in(ttbr0, scene.gpu.iova(TARGET + page * PAGE));
    ensure!(
        matches!(at(0)?, Translation::Mapped(_)),
        "gone before its turn"
    );
    waiting.run()?;
    for page in 0..PAGES {
        ensure_eq!(
            at(page)?,
            Translation::Unmapped,
            "page {page} of the target"
        );
    }
    // Nobody needs its pages any more: neither the job nor the VM.
    drop(scene.target);
    check_unpinned(&scene.seen_target).context("after the bind")?;
    drop((scene.gate, scene.seen_gate, scene.seen_target, scene.other));
    drop((scene.gpu, scene.witness));
    before.restored()
}

fn defect_49_unusable_unmap(_: &mut Test) -> Outcome {
    unusable(Scene::unmap)
}

fn defect_49_unusable_map_over(_: &mut Test) -> Outcome {
    unusable(Scene::map_over)
}

/// A SUBMIT that was queued before its context faulted ends without having been run.
fn defect_49_queued_submit_of_an_unusable_vm(_: &mut Test) -> Outcome {
    let scene = Scene::new()?;
    let held = HeldFence::new().context("held fence")?;
    let write = Pm4::new()
        .mem_write(scene.gpu.iova(TARGET), &[0x0bad])
        .barrier();
    // On a queue of another priority, so that it doesn't keep others back.
    let queue = SubmitQueue::new(&scene.gpu.device, 2).context("second queue")?;
    let queued = Submit::new(&queue)
        .cmd_at(scene.gpu.place(&write), write.size())
        .after(held.file())
        .send()
        .context("SUBMIT that waits")?;
    let fault = Pm4::new()
        .mem_to_mem(scene.gpu.result_iova(0), scene.gpu.iova(1 << 32))
        .barrier();
    fault::provoke(&scene.gpu, &fault)?;
    held.signal().context("the fence was held")?;
    queued.wait(PATIENCE).context("SUBMIT that waited")?;
    ensure_eq!(
        scene.seen_target.map()?.read(0),
        pattern(2, 0),
        "what the SUBMIT left"
    );
    Ok(())
}

/// Binds are cancelled again and again while their fences signal at the same moment: they run or
/// they don't, and nothing is left.
fn defect_10_cancelled_or_run(_: &mut Test) -> Outcome {
    let before = Census::new()?;
    let end = Instant::now() + Duration::from_secs(15);
    for round in 0..100u64 {
        if round >= 5 && Instant::now() > end {
            break;
        }
        let scene = Scene::new()?;
        let held = HeldFence::new().context("held fence")?;
        let jobs = [scene.unmap(), scene.map_over(), scene.unmap()]
            .map(|bind| bind.after(held.file()).send());
        let letting_go = std::thread::spawn(move || {
            sleep(Duration::from_micros(50 * (round % 20)));
            held.signal()
        });
        let Scene {
            gpu,
            witness: _witness,
            gate,
            seen_gate: _,
            target,
            seen_target,
            other,
        } = scene;
        // The last of them closes the file.
        drop((gate, target, other, gpu));
        letting_go
            .join()
            .expect("no panic")
            .context("the fence was held")?;
        for job in jobs {
            job.context("bind")?
                .wait(PATIENCE)
                .context("bind's fence")?;
        }
        eventually("the target to be purged", || {
            seen_target.madvise(MSM_MADV_DONTNEED)?;
            debugfs::shrink(1 << 20)?;
            Ok(!seen_target.madvise(MSM_MADV_WILLNEED)?)
        })?;
    }
    before.restored()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        defect_10_cancelled_unmap,
        defect_10_cancelled_map_over,
        defect_10_cancelled_unmap_before_the_submit,
        defect_10_cancelled_map_over_before_the_submit,
        defect_10_cancelled_unmap_of_an_evicted_vma,
        defect_10_cancelled_or_run,
        defect_49_unusable_unmap,
        defect_49_unusable_map_over,
        defect_49_queued_submit_of_an_unusable_vm,
    ])
}
