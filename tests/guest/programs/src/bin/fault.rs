// SPDX-License-Identifier: GPL-2.0-only

//! What the crash dump says about a fault: where, in which direction, why, and which op is to
//! blame.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{fault, pattern, Gpu};
use std::process::ExitCode;
use uapi::{
    abi, debugfs,
    devcoredump::{fault_info, fault_iova, vm_log, VmLogEntry},
    Bo, Errno, HeldFence, Pm4, PAGE,
};

/// A context whose VM has a log.
fn logged_gpu() -> harness::Result<Gpu> {
    fault::set_vm_log(8)?;
    Gpu::new()
}

fn read_of(gpu: &Gpu, iova: u64) -> Pm4 {
    Pm4::new().mem_to_mem(gpu.result_iova(0), iova).barrier()
}

fn check(dump: &str, iova: u64, dir: &str, type_: &str) -> Outcome {
    ensure_eq!(fault_iova(dump), Some(iova), "fault-info's iova");
    ensure_eq!(fault_info(dump, "dir"), Some(dir), "fault-info's dir");
    ensure_eq!(fault_info(dump, "type"), Some(type_), "fault-info's type");
    Ok(())
}

/// The newest op in the dump's log on an address.
fn newest(dump: &str, iova: u64) -> Option<VmLogEntry> {
    vm_log(dump)
        .into_iter()
        .rev()
        .find(|entry| (entry.start..entry.end).contains(&iova))
}

fn unmapped_read(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let iova = gpu.iova(0x123_4000);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    check(&dump, iova, "READ", "TRANSLATION")?;
    ensure_eq!(
        newest(&dump, iova),
        None,
        "an op in the log on an address that never had one"
    );
    Ok(())
}

fn unmapped_write(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let iova = gpu.iova(0x7_6543_2010);
    let dump = fault::provoke(&gpu, &Pm4::new().mem_write(iova, &[1]).barrier())?;
    check(&dump, iova, "WRITE", "TRANSLATION")
}

/// One page behind a mapping.
fn past_the_end(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let (bo, other) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, PAGE)?);
    gpu.map(&bo, gpu.iova(0))?;
    gpu.map(&other, gpu.iova(0x100_0000))?;
    let iova = gpu.iova(4 * PAGE);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    check(&dump, iova, "READ", "TRANSLATION")?;
    ensure_eq!(
        newest(&dump, iova),
        None,
        "an op in the log on the page behind"
    );
    let before = newest(&dump, iova - 1).context("no op in the log on the last page")?;
    ensure_eq!(before.op, "map", "the op on the last page");
    Ok(())
}

/// The log names the op that removed the mapping: what, range and queue.
fn used_after_unmap(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let (bo, other) = (gpu.bo(1, 8 * PAGE)?, gpu.bo(2, PAGE)?);
    gpu.map(&bo, gpu.iova(0))?;
    ensure_eq!(
        gpu.read(gpu.iova(5 * PAGE), 1)?,
        [pattern(1, 5 * 1024)],
        "while it is mapped"
    );
    gpu.unmap(gpu.iova(0), 8 * PAGE)?;
    gpu.map(&other, gpu.iova(0x100_0000))?;

    let iova = gpu.iova(5 * PAGE + 0x30);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    check(&dump, iova, "READ", "TRANSLATION")?;
    let blamed = newest(&dump, iova).context("no op in the log on the address")?;
    ensure_eq!(blamed.op, "unmap", "the newest op on the address");
    ensure_eq!(
        (blamed.start, blamed.end),
        (gpu.iova(0), gpu.iova(8 * PAGE)),
        "its range"
    );
    ensure_eq!(blamed.queue, i64::from(gpu.binds.id()), "its queue");
    Ok(())
}

/// A hole punched into a mapping: the log names the hole, not the whole.
fn used_after_partial_unmap(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let (bo, other) = (gpu.bo(1, 8 * PAGE)?, gpu.bo(2, PAGE)?);
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(2 * PAGE), 3 * PAGE)?;
    gpu.map(&other, gpu.iova(0x100_0000))?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(PAGE), gpu.iova(5 * PAGE)])?,
        [pattern(1, 1024), pattern(1, 5 * 1024)],
        "on both sides of the hole"
    );

    let iova = gpu.iova(4 * PAGE);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    check(&dump, iova, "READ", "TRANSLATION")?;
    let blamed = newest(&dump, iova).context("no op in the log on the address")?;
    ensure_eq!(blamed.op, "unmap", "the newest op on the address");
    ensure_eq!(
        (blamed.start, blamed.end),
        (gpu.iova(2 * PAGE), gpu.iova(5 * PAGE)),
        "its range"
    );
    Ok(())
}

/// An UNMAP that waits doesn't fault before its time.
fn used_before_and_after_a_waiting_unmap(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let held = HeldFence::new().context("held fence")?;
    let unmapped = gpu
        .bind()
        .unmap(gpu.iova(0), PAGE)
        .after(held.file())
        .send()
        .context("UNMAP that waits")?;
    ensure_eq!(
        gpu.read(gpu.iova(0), 1)?,
        [pattern(1, 0)],
        "while the UNMAP waits"
    );
    ensure!(
        !unmapped.is_signaled()?,
        "the UNMAP is done before its fence"
    );
    held.signal().context("the fence was held")?;
    unmapped.wait(programs::PATIENCE).context("UNMAP")?;
    let dump = fault::provoke(&gpu, &read_of(&gpu, gpu.iova(0)))?;
    check(&dump, gpu.iova(0), "READ", "TRANSLATION")
}

/// The GPU looks at a page again and again while a long job unmaps it as its last step. What the
/// TLB learns meanwhile is forgotten when the job's fence has signalled.
fn unmapped_while_the_gpu_looks(_: &mut Test) -> Outcome {
    const AWAITED: u32 = 77;
    const FILLER: u64 = 16 << 20;
    const MAPS: u64 = 64;
    // The dump is to be of the fault, however long the job takes.
    let _slow = debugfs::SlowHangcheck::new().context("hangcheck_period_ms")?;
    let gpu = logged_gpu()?;
    let (bo, filler) = (gpu.bo(1, PAGE)?, Bo::new(&gpu.device, FILLER)?);
    gpu.map(&bo, gpu.iova(0))?;
    let map = bo.map()?;
    (0..2).for_each(|i| gpu.set_result(i, 0));
    let looks = Pm4::new()
        .mem_write(gpu.result_iova(0), &[1])
        .wait_mem_eq(gpu.iova(0), AWAITED, !0)
        .mem_write(gpu.result_iova(1), &[1])
        .barrier();
    let dump = fault::provoke_by(&gpu, &looks, || {
        programs::eventually("the GPU to begin", || Ok(gpu.result(0) == 1))?;
        let mut job = gpu.bind();
        for n in 0..MAPS {
            job = job.map(&filler, 0, gpu.iova((1 << 30) + n * FILLER), FILLER);
        }
        job.unmap(gpu.iova(0), PAGE)
            .send_and_wait()
            .context("a long job")?;
        map.write(0, AWAITED);
        Ok(())
    })
    .with_context(|| {
        let sees = ["doesn't see", "still sees"][gpu.result(1) as usize & 1];
        format!("the GPU {sees} the page that was unmapped")
    })?;
    check(&dump, gpu.iova(0), "READ", "TRANSLATION")?;
    ensure_eq!(gpu.result(1), 0, "what the GPU did after the UNMAP");
    Ok(())
}

/// A BO that the GPU may only read: a write is refused, and changes nothing.
fn read_only(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let bo = Bo::with_flags(
        &gpu.device,
        2 * PAGE,
        abi::MSM_BO_WC | abi::MSM_BO_GPU_READONLY,
    )
    .context("GEM_NEW")?;
    bo.fill(|i| pattern(9, i))?;
    gpu.map(&bo, gpu.iova(0))?;
    ensure_eq!(
        gpu.read(gpu.iova(PAGE), 2)?,
        [pattern(9, 1024), pattern(9, 1025)],
        "reading it"
    );
    let iova = gpu.iova(PAGE + 4);
    let dump = fault::provoke(&gpu, &Pm4::new().mem_write(iova, &[0x666]).barrier())?;
    check(&dump, iova, "WRITE", "PERMISSION")?;
    ensure_eq!(
        bo.map()?.read(1025),
        pattern(9, 1025),
        "what should have been protected"
    );
    Ok(())
}

/// After a fault the context refuses work, and others don't notice.
fn only_the_culprit_suffers(_: &mut Test) -> Outcome {
    let (gpu, other) = (logged_gpu()?, logged_gpu()?);
    let bo = other.bo(3, PAGE)?;
    other.map(&bo, other.iova(0))?;
    fault::provoke(&gpu, &read_of(&gpu, gpu.iova(0)))?;
    ensure_eq!(gpu.faults()?, 1, "MSM_PARAM_FAULTS of the culprit");
    ensure_eq!(gpu.queue.faults()?, 1, "the faults of its queue");
    harness::ensure_errno!(
        gpu.start(&Pm4::new().nop(1), |s| s),
        Errno::EPIPE,
        "SUBMIT in the culprit"
    );
    harness::ensure_errno!(
        gpu.bind().unmap(gpu.iova(0), PAGE).send(),
        Errno::EPIPE,
        "VM_BIND in the culprit"
    );
    ensure_eq!(other.faults()?, 0, "MSM_PARAM_FAULTS of the other");
    ensure_eq!(
        other.read(other.iova(0), 1)?,
        [pattern(3, 0)],
        "in the other"
    );
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        unmapped_read,
        unmapped_write,
        past_the_end,
        used_after_unmap,
        used_after_partial_unmap,
        used_before_and_after_a_waiting_unmap,
        unmapped_while_the_gpu_looks,
        read_only,
        only_the_culprit_suffers,
    ])
}
