// SPDX-License-Identifier: GPL-2.0-only

//! Binds that wait, binds that others wait for, and their order.

use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{pattern, Gpu, Tolerance, PATIENCE};
use std::process::ExitCode;
use uapi::{abi, Bo, Errno, HeldFence, Pm4, SyncFile, Syncobj, PAGE};

fn syncobj_of(gpu: &Gpu, fence: &SyncFile) -> harness::Result<Syncobj> {
    let syncobj = Syncobj::new(&gpu.device).context("syncobj")?;
    syncobj.import(fence).context("syncobj import")?;
    Ok(syncobj)
}

/// A MAP doesn't happen before the syncobj it waits for.
fn map_waits_for_syncobj(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 2 * PAGE)?;
    let held = HeldFence::new().context("held fence")?;
    let syncobj = syncobj_of(&gpu, held.file())?;
    let mapped = gpu
        .bind()
        .map(&bo, 0, gpu.iova(0), 2 * PAGE)
        .after_syncobj(&syncobj, 0)
        .send()
        .context("MAP that waits")?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(PAGE)])?,
        [0, 0],
        "while the MAP waits"
    );
    ensure!(
        !mapped.is_signaled()?,
        "the MAP's fence signalled before the one it waits for"
    );
    held.signal().context("the fence was held")?;
    mapped.wait(PATIENCE).context("MAP")?;
    ensure_eq!(mapped.status()?, Some(Ok(())), "the MAP's fence");
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(PAGE)])?,
        [pattern(1, 0), pattern(1, 1024)],
        "after the MAP"
    );
    tolerance.check()
}

/// An UNMAP doesn't happen before the sync file it waits for.
fn unmap_waits_for_sync_file(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 2 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let unmapped = gpu
        .bind()
        .unmap(gpu.iova(0), 2 * PAGE)
        .after(held.file())
        .send()
        .context("UNMAP that waits")?;
    for round in 0..3 {
        gpu.write(gpu.iova(PAGE), &[0x100 + round])?;
        ensure_eq!(
            gpu.read(gpu.iova(PAGE), 1)?,
            [0x100 + round],
            "while the UNMAP waits"
        );
    }
    ensure!(
        !unmapped.is_signaled()?,
        "the UNMAP's fence signalled before the one it waits for"
    );
    held.signal().context("the fence was held")?;
    unmapped.wait(PATIENCE).context("UNMAP")?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(PAGE)])?,
        [0, 0],
        "after the UNMAP"
    );
    ensure_eq!(bo.map()?.read(1024), 0x102, "the BO");
    tolerance.check()
}

/// Jobs of one queue run in order: one that waits for nothing still comes after one that waits.
fn queue_is_in_order(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let (first, second) = (gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?);
    let held = HeldFence::new().context("held fence")?;
    let one = gpu
        .bind()
        .map(&first, 0, gpu.iova(0), PAGE)
        .after(held.file())
        .send()
        .context("first MAP")?;
    let two = gpu
        .bind()
        .map(&second, 0, gpu.iova(0), PAGE)
        .send()
        .context("second MAP")?;
    let three = gpu
        .bind()
        .map(&first, 0, gpu.iova(PAGE), PAGE)
        .send()
        .context("third MAP")?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(PAGE)])?,
        [0, 0],
        "while the first MAP waits"
    );
    for (n, fence) in [&one, &two, &three].into_iter().enumerate() {
        ensure!(
            !fence.is_signaled()?,
            "MAP {n} is done while the first waits"
        );
    }
    held.signal().context("the fence was held")?;
    three.wait(PATIENCE).context("third MAP")?;
    ensure!(
        one.is_signaled()? && two.is_signaled()?,
        "the third MAP is done before the others"
    );
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(PAGE)])?,
        [pattern(2, 0), pattern(1, 0)],
        "after all"
    );
    tolerance.check()
}

/// A SUBMIT that waits for a bind that waits sees what the bind maps.
fn submit_waits_for_bind(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(4, PAGE)?;
    let held = HeldFence::new().context("held fence")?;
    let mapped = gpu
        .bind()
        .map(&bo, 0, gpu.iova(0), PAGE)
        .after(held.file())
        .send()
        .context("MAP that waits")?;
    gpu.set_result(0, 1);
    let copy = Pm4::new()
        .mem_to_mem(gpu.result_iova(0), gpu.iova(8))
        .barrier();
    let submitted = gpu
        .start(&copy, |submit| submit.after(&mapped))
        .context("SUBMIT")?;
    ensure!(
        !submitted.fence.is_signaled()?,
        "the SUBMIT is done before the MAP it waits for"
    );
    ensure_eq!(gpu.result(0), 1, "the SUBMIT's result while the MAP waits");
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("SUBMIT")?;
    ensure_eq!(gpu.result(0), pattern(4, 2), "the SUBMIT's result");
    Ok(())
}

/// A bind that waits for a SUBMIT doesn't take its memory away: the GPU spins until it is let go.
fn bind_waits_for_submit(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(5, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let copy = Pm4::new()
        .mem_to_mem(gpu.result_iova(0), gpu.iova(12))
        .barrier();
    let submitted = gpu
        .start(&copy, |submit| submit.after(held.file()))
        .context("SUBMIT that waits")?;
    let unmapped = gpu
        .bind()
        .unmap(gpu.iova(0), PAGE)
        .after(&submitted.fence)
        .send()
        .context("UNMAP")?;
    ensure!(
        !unmapped.is_signaled()?,
        "the UNMAP is done before the SUBMIT it waits for"
    );
    held.signal().context("the fence was held")?;
    unmapped.wait(PATIENCE).context("UNMAP")?;
    ensure_eq!(gpu.result(0), pattern(5, 3), "what the SUBMIT read");
    ensure_eq!(gpu.peek(&[gpu.iova(0)])?, [0], "after the UNMAP");
    tolerance.check()
}

/// Timeline points, in and out.
fn timeline(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(6, PAGE)?;
    let (before, after) = (Syncobj::new(&gpu.device)?, Syncobj::new(&gpu.device)?);
    let held = HeldFence::new().context("held fence")?;
    // Point 5 of `before` is the held fence.
    let gate = syncobj_of(&gpu, held.file())?;
    gpu.bind()
        .after_syncobj(&gate, 0)
        .signal(&before, 5)
        .send_only()
        .context("bind without ops")?;
    gpu.bind()
        .map(&bo, 0, gpu.iova(0), PAGE)
        .after_syncobj(&before, 5)
        .signal(&after, 9)
        .send_only()
        .context("MAP between two points")?;
    ensure!(
        !after.is_point_signaled(9)?,
        "point 9 signalled before point 5"
    );
    held.signal().context("the fence was held")?;
    after.wait_point(9, PATIENCE).context("point 9")?;
    ensure!(before.is_point_signaled(5)?, "point 5 isn't signalled");
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(6, 0)], "after point 9");
    Ok(())
}

/// A bind without ops only passes a fence on, whatever its pointer says.
fn no_ops(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(7, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let fence = gpu
        .bind()
        .after(held.file())
        .send()
        .context("bind without ops")?;
    ensure!(
        !fence.is_signaled()?,
        "its fence signalled before the one it waits for"
    );
    held.signal().context("the fence was held")?;
    fence.wait(PATIENCE).context("bind without ops")?;
    let mut request = gpu.bind().request();
    request.u.ops = 0xdead_0000;
    request.op_stride = 0;
    gpu.device
        .vm_bind_raw(&mut request)
        .context("bind without ops, with a pointer to nowhere")?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [pattern(7, 0)], "the mapping");
    Ok(())
}

/// `MSM_SYNCOBJ_RESET` takes the fence out of the syncobj that the bind waits for.
fn syncobj_reset(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let syncobj = Syncobj::new_signaled(&gpu.device)?;
    let mut bind = gpu.bind();
    bind.in_syncobjs.push(abi::drm_msm_syncobj {
        flags: abi::MSM_SYNCOBJ_RESET,
        ..syncobj.desc(0)
    });
    bind.send_only().context("bind without ops")?;
    ensure_errno!(
        syncobj.is_signaled(),
        Errno::EINVAL,
        "waiting for a syncobj without a fence"
    );
    Ok(())
}

/// Wider strides than the structures: element i is at i times the stride.
fn wide_syncobj_stride(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let (a, b) = (Syncobj::new(&gpu.device)?, Syncobj::new(&gpu.device)?);
    let rows = [
        [
            a.desc(0),
            abi::drm_msm_syncobj {
                handle: !0,
                flags: !0,
                point: !0,
            },
        ],
        [b.desc(0), a.desc(0)],
    ];
    let mut request = gpu.bind().request();
    request.out_syncobjs = rows.as_ptr() as u64;
    request.nr_out_syncobjs = 2;
    request.syncobj_stride = 32;
    gpu.device
        .vm_bind_raw(&mut request)
        .context("bind without ops")?;
    a.wait(PATIENCE).context("first syncobj")?;
    b.wait(PATIENCE).context("second syncobj")
}

/// Many jobs pile up behind one fence; then the VM is what a model says.
fn pile_up(test: &mut Test) -> Outcome {
    const PAGES: usize = 64;
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bos: Vec<Bo> = (0..4)
        .map(|tag| gpu.bo(tag + 1, 16 * PAGE))
        .collect::<harness::Result<_>>()?;
    let mut model = [0u32; PAGES];
    let held = HeldFence::new().context("held fence")?;
    let mut last = gpu
        .bind()
        .after(held.file())
        .send()
        .context("bind without ops")?;
    for job in 0..48 {
        let mut bind = gpu.bind();
        for _ in 0..test.rng.usize(1..6) {
            let count = test.rng.usize(1..=16);
            let at = test.rng.usize(0..=PAGES - count);
            let (iova, range) = (gpu.iova(at as u64 * PAGE), count as u64 * PAGE);
            if test.rng.u8(..4) == 0 {
                bind = bind.unmap(iova, range);
                model[at..at + count].fill(0);
            } else {
                let tag = test.rng.usize(..bos.len());
                let first = test.rng.usize(0..=16 - count);
                bind = bind.map(&bos[tag], first as u64 * PAGE, iova, range);
                for page in 0..count {
                    model[at + page] = pattern(tag as u32 + 1, (first + page) * 1024);
                }
            }
        }
        last = bind.send().with_context(|| format!("job {job}"))?;
    }
    let iovas: Vec<u64> = (0..PAGES)
        .map(|page| gpu.iova(page as u64 * PAGE))
        .collect();
    ensure_eq!(gpu.peek(&iovas)?, vec![0; PAGES], "while all wait");
    held.signal().context("the fence was held")?;
    last.wait(PATIENCE).context("last job")?;
    ensure_eq!(gpu.peek(&iovas)?, model.to_vec(), "after all");
    tolerance.check()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        map_waits_for_syncobj,
        unmap_waits_for_sync_file,
        queue_is_in_order,
        submit_waits_for_bind,
        bind_waits_for_submit,
        timeline,
        no_ops,
        syncobj_reset,
        wide_syncobj_stride,
        pile_up,
    ])
}
