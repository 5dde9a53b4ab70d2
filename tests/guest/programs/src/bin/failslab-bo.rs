// SPDX-License-Identifier: GPL-2.0-only

//! Every allocation of what userspace does with BOs fails once: the call is refused and can be
//! repeated, or has happened in full; nothing is leaked, and no lock is left behind.
//!
//! Needs a kernel with fault injection. What is leaked, `tests/vm` finds at the end (`--kernel
//! debug`).

use harness::{bail, ensure, ensure_eq, Context, Outcome, Test};
use programs::{pattern, Census, Gpu, PATIENCE};
use std::{cell::Cell, os::fd::AsFd, process::ExitCode, time::Duration};
use uapi::{
    abi::{self, MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    debugfs, fault_injection,
    memory::Group,
    swap::Swap,
    vgem::{Buffer, Importer},
    Bo, Device, Errno, Pm4, PAGE,
};

/// More failures than any call can have allocations.
const ENDLESS: u32 = 2000;

/// Calls `call` on a fresh `subject` with its first, second, … allocation failing until none fails
/// any more, and `check`s what has come of it. At least `needed` allocations must be such that the
/// call can't do without.
fn each_allocation<S, T>(
    needed: u32,
    subject: impl Fn() -> harness::Result<S>,
    call: impl Fn(&S) -> Result<T, Errno>,
    check: impl Fn(&S, T) -> Outcome,
) -> Outcome {
    ensure!(
        fault_injection::available(),
        "this kernel has no fault injection"
    );
    fault_injection::set_up().context("failslab")?;
    // What is only allocated once isn't leaked.
    let warm = subject()?;
    check(&warm, call(&warm)?)?;
    drop(warm);
    let before = Census::now()?;
    let mut refused = 0;
    for n in 1..ENDLESS {
        let subject = subject()?;
        let (result, failed) =
            fault_injection::failing_nth(n, || call(&subject)).context("fail-nth")?;
        let done = match result {
            Ok(done) => done,
            // shmem says ENOSPC when it gets no inode.
            Err(Errno::ENOMEM | Errno::ENOSPC) if failed => {
                refused += 1;
                call(&subject).with_context(|| format!("again after allocation {n} failed"))?
            }
            Err(e) => bail!("allocation {n} failed ({failed}): {e}"),
        };
        check(&subject, done).with_context(|| format!("after allocation {n} failed"))?;
        drop(subject);
        if !failed {
            ensure!(refused >= needed, "only {refused} allocations failed");
            println!("# {} allocations, {refused} of them needed", n - 1);
            return before.restored();
        }
    }
    bail!("{ENDLESS} allocations and no end")
}

fn gem_new(_: &mut Test) -> Outcome {
    each_allocation(
        2,
        || Ok(Device::open()?),
        |device| Bo::new(device, 4 * PAGE),
        |_, bo| {
            bo.fill(|i| i as u32)?;
            ensure_eq!(bo.map()?.read(1030), 1030, "the new BO");
            Ok(())
        },
    )
}

fn bo() -> harness::Result<Bo> {
    Ok(Bo::new(&Device::open()?, 4 * PAGE)?)
}

fn get_offset(_: &mut Test) -> Outcome {
    each_allocation(0, bo, Bo::map, |_, map| {
        ensure_eq!(map.read(0), 0, "a new BO");
        Ok(())
    })
}

fn set_name(_: &mut Test) -> Outcome {
    each_allocation(0, bo, |bo| bo.set_name("name"), |_, ()| Ok(()))
}

/// A failure leaves no lock behind.
fn defect_27_set_metadata(_: &mut Test) -> Outcome {
    each_allocation(
        1,
        bo,
        |bo| bo.set_metadata(&[7; 100]),
        |bo, ()| {
            ensure_eq!(bo.metadata()?, vec![7; 100], "metadata");
            Ok(())
        },
    )
}

fn get_metadata(_: &mut Test) -> Outcome {
    each_allocation(
        1,
        || {
            let bo = bo()?;
            bo.set_metadata(&[9; 64])?;
            Ok(bo)
        },
        Bo::metadata,
        |_, data| {
            ensure_eq!(data, vec![9; 64], "metadata");
            Ok(())
        },
    )
}

fn get_iova(_: &mut Test) -> Outcome {
    each_allocation(
        1,
        || {
            let bo = bo()?;
            // The context's VM is there already.
            let _other = Bo::new(bo.device(), PAGE)?.iova()?;
            Ok(bo)
        },
        Bo::iova,
        |bo, iova| {
            ensure_eq!(bo.iova()?, iova, "GET_IOVA again");
            Ok(())
        },
    )
}

fn set_iova(_: &mut Test) -> Outcome {
    each_allocation(
        1,
        || {
            let bo = bo()?;
            let _other = Bo::new(bo.device(), PAGE)?.iova()?;
            let iova = bo.device().va_range()?.start + (1 << 32);
            Ok((bo, iova))
        },
        |(bo, iova)| bo.set_iova(*iova),
        |(bo, iova), ()| {
            ensure_eq!(bo.iova()?, *iova, "GET_IOVA");
            Ok(())
        },
    )
}

/// The first access through a mapping gets the pages. The kernel repeats an access for which it had
/// no memory.
fn mmap_fault(_: &mut Test) -> Outcome {
    each_allocation(
        0,
        || Ok(bo()?.map()?),
        |map| {
            map.write(1024, 0x55);
            Ok(())
        },
        |map, ()| {
            ensure_eq!(map.read(1024), 0x55, "what was written");
            ensure_eq!(map.read(2048), 0, "a page that nobody has written");
            Ok(())
        },
    )
}

fn export(_: &mut Test) -> Outcome {
    each_allocation(1, bo, Bo::export, |bo, fd| {
        bo.fill(|i| i as u32)?;
        let again = Bo::import(&Device::open()?, fd.as_fd(), 4 * PAGE)?;
        ensure_eq!(again.map()?.read(77), 77, "by the dma-buf");
        Ok(())
    })
}

/// Another driver attaches to a BO's dma-buf, which pins the BO for as long. (dma_buf_vmap() warns
/// by itself when it fails.)
fn attach_by_another_driver(_: &mut Test) -> Outcome {
    each_allocation(
        1,
        || {
            let bo = bo()?;
            bo.fill(|i| i as u32)?;
            let fd = bo.export()?;
            Ok((bo, fd, Cell::new(Some(Importer::new()?))))
        },
        |(_, fd, other)| {
            let importer = other.take().ok_or(Errno::EBADF)?;
            let imported = importer.import(fd.as_fd());
            other.set(Some(importer));
            imported
        },
        |(bo, _, other), ()| {
            bo.madvise(MSM_MADV_DONTNEED)?;
            debugfs::shrink(1 << 20)?;
            ensure!(
                bo.madvise(MSM_MADV_WILLNEED)?,
                "purged, though somebody is attached"
            );
            ensure_eq!(bo.map()?.read(3000), 3000, "its content");
            drop(other.take());
            programs::check_unpinned(bo)
        },
    )
}

fn import(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    each_allocation(
        3,
        || {
            let buffer = Buffer::new(2 * PAGE)?;
            buffer.fill(2 * PAGE, |i| 0x100 + i as u32)?;
            Ok(buffer)
        },
        |buffer| Bo::import(&gpu.device, buffer.dma_buf_fd(), 2 * PAGE),
        |_, bo| {
            gpu.map(&bo, gpu.iova(0))?;
            ensure_eq!(gpu.read(gpu.iova(PAGE), 1)?, [0x500], "by the GPU");
            gpu.unmap(gpu.iova(0), 2 * PAGE)
        },
    )
}

fn madvise(_: &mut Test) -> Outcome {
    each_allocation(
        0,
        bo,
        |bo| {
            bo.madvise(MSM_MADV_DONTNEED)?;
            bo.madvise(MSM_MADV_WILLNEED)
        },
        |bo, retained| {
            ensure!(retained, "nobody has purged it");
            ensure_eq!(bo.map()?.read(0), 0, "its content");
            Ok(())
        },
    )
}

fn cpu_prep(_: &mut Test) -> Outcome {
    each_allocation(
        0,
        bo,
        |bo| bo.cpu_prep(abi::MSM_PREP_WRITE, Duration::from_secs(1)),
        |_, ()| Ok(()),
    )
}

fn close(_: &mut Test) -> Outcome {
    each_allocation(
        0,
        || {
            let bo = bo()?;
            bo.iova()?;
            bo.fill(|i| i as u32)?;
            Ok(Cell::new(Some(bo)))
        },
        |bo| {
            drop(bo.take());
            Ok(())
        },
        |_, ()| Ok(()),
    )
}

/// A private BO shares its VM's resv.
fn gem_new_private(_: &mut Test) -> Outcome {
    each_allocation(
        2,
        || Ok(Device::open_vm_bind()?),
        |device| Bo::with_flags(device, PAGE, abi::MSM_BO_WC | abi::MSM_BO_NO_SHARE),
        |_, bo| {
            bo.fill(|i| i as u32)?;
            ensure_eq!(bo.map()?.read(7), 7, "the new BO");
            Ok(())
        },
    )
}

/// A BO's own dma-buf, by another file.
fn import_own(_: &mut Test) -> Outcome {
    each_allocation(
        1,
        || {
            let bo = bo()?;
            bo.fill(|i| i as u32)?;
            Ok((bo.export()?, Device::open()?))
        },
        |(fd, device)| Bo::import(device, fd.as_fd(), 4 * PAGE),
        |_, bo| {
            ensure_eq!(bo.map()?.read(2000), 2000, "by the other file");
            Ok(())
        },
    )
}

/// CPU_PREP that has to wait.
fn cpu_prep_busy(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    each_allocation(
        0,
        || {
            let write = Pm4::new().mem_write(gpu.iova(0), &[0x77]).barrier();
            Ok(gpu.start(&write, |submit| submit)?)
        },
        |_| bo.cpu_prep(abi::MSM_PREP_READ | abi::MSM_PREP_WRITE, PATIENCE),
        |submitted, ()| submitted.wait(PATIENCE).context("SUBMIT"),
    )
}

const SWAPPED: u64 = 4;

/// BOs whose content is in swap, not in memory.
struct SwappedOut {
    _swap: Swap,
    group: Group,
}

impl SwappedOut {
    fn new() -> harness::Result<Self> {
        Ok(Self {
            _swap: Swap::new(64 << 20).context("swap")?,
            group: Group::new("swapped-out").context("cgroup")?,
        })
    }

    /// Such a BO, of [`SWAPPED`] pages, mapped for the GPU at `iova`.
    fn bo(&self, gpu: &Gpu, iova: u64) -> harness::Result<Bo> {
        let before = self.group.swapped()?;
        let bo = Bo::new(&gpu.device, SWAPPED * PAGE)?;
        // Its pages alone are the group's.
        self.group.run(|| bo.fill(|i| pattern(1, i)))??;
        gpu.map(&bo, iova)?;
        programs::eventually("the BO to be swapped out", || {
            debugfs::shrink(1 << 20)?;
            // EAGAIN: there is less.
            let _ = self.group.reclaim(SWAPPED * PAGE);
            Ok(self.group.swapped()? >= before + SWAPPED * PAGE)
        })?;
        Ok(bo)
    }
}

fn check_by_cpu(bo: &Bo) -> Outcome {
    let map = bo.map()?;
    for i in 0..map.len() {
        ensure_eq!(map.read(i), pattern(1, i), "dword {i} by the CPU");
    }
    Ok(())
}

fn check_by_gpu(gpu: &Gpu, iova: u64) -> Outcome {
    let found = gpu.read(iova, SWAPPED as usize * 1024)?;
    for (i, found) in found.into_iter().enumerate() {
        ensure_eq!(found, pattern(1, i), "dword {i} by the GPU");
    }
    Ok(())
}

/// A SUBMIT that can't bring its BOs back from swap loses nothing, and the next one can.
fn swap_in_by_submit(_: &mut Test) -> Outcome {
    let swapped = SwappedOut::new()?;
    let gpu = Gpu::new()?;
    let nop = gpu.place(&Pm4::new().nop(4).barrier());
    let size = Pm4::new().nop(4).barrier().size();
    each_allocation(
        SWAPPED as u32,
        || {
            let bo = swapped.bo(&gpu, gpu.iova(0))?;
            gpu.swap_in();
            Ok(bo)
        },
        |_| uapi::Submit::new(&gpu.queue).cmd_at(nop, size).send(),
        |bo, submitted| {
            submitted.wait(PATIENCE)?;
            check_by_gpu(&gpu, gpu.iova(0))?;
            check_by_cpu(bo)?;
            gpu.unmap(gpu.iova(0), SWAPPED * PAGE)
        },
    )
}

/// … nor does a MAP.
fn swap_in_by_bind(_: &mut Test) -> Outcome {
    let swapped = SwappedOut::new()?;
    let gpu = Gpu::new()?;
    each_allocation(
        SWAPPED as u32,
        || swapped.bo(&gpu, gpu.iova(0)),
        |bo| {
            gpu.bind()
                .map(bo, 0, gpu.iova(1 << 20), SWAPPED * PAGE)
                .send_and_wait()
        },
        |bo, ()| {
            check_by_gpu(&gpu, gpu.iova(1 << 20))?;
            check_by_cpu(bo)?;
            gpu.unmap(gpu.iova(0), 2 << 20)
        },
    )
}

/// … nor does an access by a CPU, which the kernel repeats.
fn swap_in_by_access(_: &mut Test) -> Outcome {
    let swapped = SwappedOut::new()?;
    let gpu = Gpu::new()?;
    each_allocation(
        0,
        || {
            let bo = swapped.bo(&gpu, gpu.iova(0))?;
            Ok((bo.map()?, bo))
        },
        |(map, _)| Ok(map.read(1025)),
        |(_, bo), read| {
            ensure_eq!(read, pattern(1, 1025), "dword 1025 by the CPU");
            check_by_cpu(bo)?;
            check_by_gpu(&gpu, gpu.iova(0))?;
            gpu.unmap(gpu.iova(0), SWAPPED * PAGE)
        },
    )
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        gem_new,
        gem_new_private,
        get_offset,
        set_name,
        get_metadata,
        get_iova,
        set_iova,
        mmap_fault,
        export,
        import,
        import_own,
        attach_by_another_driver,
        madvise,
        cpu_prep,
        cpu_prep_busy,
        close,
        swap_in_by_submit,
        swap_in_by_bind,
        swap_in_by_access,
        defect_27_set_metadata,
    ])
}
