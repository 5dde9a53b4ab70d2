// SPDX-License-Identifier: GPL-2.0-only

//! VMs that the kernel manages: iovas from GET_IOVA and SET_IOVA, and SUBMITs with a BO table.

use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{pattern, recorded::RecordedSubmit, Census, Legacy, PATIENCE};
use std::{
    os::fd::{AsFd, FromRawFd, OwnedFd},
    process::ExitCode,
    thread::sleep,
    time::Duration,
};
use uapi::{
    abi::{
        self, MSM_SUBMIT_BO_DUMP as DUMP, MSM_SUBMIT_BO_READ as READ, MSM_SUBMIT_BO_WRITE as WRITE,
    },
    debugfs, Bo, Device, Errno, HeldFence, HeldPage, Pm4, Submit, PAGE,
};

/// The GPU copies from one BO to another, both at addresses that the kernel chose.
fn get_iova(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let (src, dst) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
    let (from, to) = (
        src.iova().context("GET_IOVA")?,
        dst.iova().context("GET_IOVA")?,
    );
    let va = gpu.device.va_range()?;
    for iova in [from, to] {
        ensure!(
            va.contains(&iova) && iova % PAGE == 0,
            "{iova:#x} in a VM of {va:#x?}"
        );
    }
    ensure!(
        from.abs_diff(to) >= 4 * PAGE,
        "{from:#x} and {to:#x} overlap"
    );
    ensure_eq!(src.iova()?, from, "GET_IOVA again");
    gpu.run(
        &Pm4::new().memcpy(to + PAGE, from + 2 * PAGE, 16).barrier(),
        &[(&src, READ), (&dst, WRITE)],
    )?;
    let map = dst.map()?;
    for i in 0..16 {
        ensure_eq!(map.read(1024 + i), pattern(1, 2048 + i), "dword {i}");
    }
    Ok(())
}

/// Addresses that userspace chose; taken, cleared, and free again.
fn set_iova(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let (a, b) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
    let iova = gpu.device.va_range()?.start + (1 << 32);
    a.set_iova(iova).context("SET_IOVA")?;
    ensure_eq!(a.iova()?, iova, "GET_IOVA");
    ensure_errno!(
        b.set_iova(iova + 3 * PAGE),
        Errno::ENOSPC,
        "an address that is taken"
    );
    b.set_iova(iova + 4 * PAGE)
        .context("SET_IOVA right behind")?;
    gpu.run(
        &Pm4::new()
            .mem_write(iova + 4 * PAGE, &[0x11])
            .mem_to_mem(iova + 8, iova + 4 * PAGE)
            .barrier(),
        &[(&a, READ | WRITE), (&b, READ | WRITE)],
    )?;
    ensure_eq!(a.map()?.read(2), 0x11, "what the GPU copied");
    a.set_iova(0).context("clearing")?;
    b.set_iova(0).context("clearing")?;
    b.set_iova(iova).context("SET_IOVA of what was cleared")?;
    gpu.run(
        &Pm4::new().mem_write(iova + 16, &[0x22]).barrier(),
        &[(&b, READ | WRITE)],
    )?;
    ensure_eq!(b.map()?.read(4), 0x22, "at its new address");
    ensure_eq!(a.map()?.read(4), pattern(1, 4), "what was there before");
    Ok(())
}

/// A BO that has an address keeps it when it is asked to have another one, and there is nothing to
/// complain about.
fn defect_26_set_another_iova(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    let iova = gpu.device.va_range()?.start + (1 << 32);
    bo.set_iova(iova).context("SET_IOVA")?;
    ensure_errno!(
        bo.set_iova(iova + PAGE),
        Errno::EBUSY,
        "another address, overlapping"
    );
    ensure_errno!(
        bo.set_iova(iova + (1 << 30)),
        Errno::EBUSY,
        "another address"
    );
    ensure_eq!(bo.iova()?, iova, "the address that it had");
    bo.set_iova(iova).context("the same address again")?;
    bo.set_iova(0).context("none")?;
    bo.set_iova(0).context("none again")?;
    bo.set_iova(iova + PAGE).context("another address, now")
}

/// Addresses that can't be had.
fn impossible_iovas(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    let va = gpu.device.va_range()?;
    for (iova, what) in [
        (va.start + (1 << 32) + 512, "not at a page"),
        (va.end - PAGE, "beyond the end"),
        (va.end, "behind the end"),
    ] {
        ensure_errno!(bo.set_iova(iova), Errno::ENOSPC, "{what}");
    }
    bo.set_iova(va.end - 4 * PAGE).context("the last pages")
}

/// A BO has an address in each context that asks, and loses it with the context's handle alone.
fn one_iova_per_context(_: &mut Test) -> Outcome {
    let (a, b) = (Legacy::new()?, Legacy::new()?);
    let bo = a.bo(1, PAGE)?;
    let import = Bo::import(&b.device, bo.export()?.as_fd(), PAGE)?;
    let start = a.device.va_range()?.start;
    bo.set_iova(start + (1 << 32))?;
    import.set_iova(start + (2 << 32))?;
    ensure_eq!(bo.iova()?, start + (1 << 32), "in its context");
    drop(bo);
    ensure_eq!(import.iova()?, start + (2 << 32), "in the other one");
    b.run(
        &Pm4::new().mem_write(import.iova()?, &[9]).barrier(),
        &[(&import, READ | WRITE)],
    )?;
    ensure_eq!(import.map()?.read(0), 9, "what the GPU wrote");
    // The address is free again.
    let other = a.bo(2, PAGE)?;
    other.set_iova(start + (1 << 32))?;
    a.run(
        &Pm4::new().mem_write(start + (1 << 32), &[8]).barrier(),
        &[(&other, READ | WRITE)],
    )?;
    ensure_eq!(other.map()?.read(0), 8, "what is there now");
    Ok(())
}

/// GEM_CLOSE waits for the GPU, and frees the address.
fn handle_closed_while_busy(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let (src, dst) = (gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?);
    let (from, to) = (src.iova()?, dst.iova()?);
    let submitted = gpu.start(
        &Pm4::new().mem_to_mem(to, from + 4).barrier(),
        &[(&src, READ), (&dst, WRITE)],
        None,
    )?;
    drop(src);
    ensure!(
        submitted.fence.is_signaled()?,
        "GEM_CLOSE came back before the SUBMIT that uses the BO"
    );
    ensure_eq!(dst.map()?.read(0), pattern(1, 1), "what the GPU copied");
    let other = gpu.bo(3, PAGE)?;
    other.set_iova(from).context("the address that was freed")
}

/// GEM_CLOSE frees the address, and doesn't wait for somebody else who shares the BO and waits
/// himself.
fn defect_38_close_while_others_are_busy(_: &mut Test) -> Outcome {
    let (a, b) = (Legacy::new()?, Legacy::new()?);
    let (bo, dst) = (a.bo(1, PAGE)?, b.bo(2, PAGE)?);
    let import = Bo::import(&b.device, bo.export()?.as_fd(), PAGE)?;
    let iova = bo.iova()?;
    a.run(
        &Pm4::new().mem_write(iova + 4, &[7]).barrier(),
        &[(&bo, WRITE)],
    )?;
    let held = HeldFence::new().context("held fence")?;
    let reader = b.start(
        &Pm4::new()
            .mem_to_mem(dst.iova()?, import.iova()? + 4)
            .barrier(),
        &[(&import, READ), (&dst, WRITE)],
        Some(held.file()),
    )?;
    drop(bo);
    ensure!(!reader.fence.is_signaled()?, "GEM_CLOSE waited");
    let other = a.bo(3, PAGE)?;
    other.set_iova(iova).context("the address that was freed")?;
    held.signal().context("the fence was held")?;
    reader.wait(PATIENCE)?;
    ensure_eq!(dst.map()?.read(0), 7, "what the other one read");
    Ok(())
}

/// A BO whose pages went under memory pressure is refused, one that is needed comes back.
fn purged(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bo = gpu.bo(1, 16 * PAGE)?;
    let iova = bo.iova()?;
    gpu.run(
        &Pm4::new().mem_write(iova, &[1]).barrier(),
        &[(&bo, READ | WRITE)],
    )?;
    bo.madvise(abi::MSM_MADV_DONTNEED)?;
    programs::eventually("the BO to be purged", || {
        debugfs::shrink(1 << 20)?;
        Ok(debugfs::gem()?.contains("purged"))
    })?;
    ensure!(
        !bo.madvise(abi::MSM_MADV_WILLNEED)?,
        "retained after a purge"
    );
    ensure_errno!(
        Submit::new(&gpu.queue)
            .bo(&gpu.cmds, READ)
            .bo(&bo, READ)
            .cmd_in(0, 0, 16)
            .send()
            .map(drop),
        Errno::EBUSY,
        "SUBMIT with a purged BO"
    );
    let other = gpu.bo(2, 16 * PAGE)?;
    let iova = other.iova()?;
    gpu.run(
        &Pm4::new().mem_write(iova, &[7]).barrier(),
        &[(&other, READ | WRITE)],
    )?;
    ensure_eq!(other.map()?.read(0), 7, "another BO");
    Ok(())
}

/// Implicit synchronisation: a reader waits for the writer that waits for a fence.
fn implicit_sync(_: &mut Test) -> Outcome {
    let (a, b) = (Legacy::new()?, Legacy::new()?);
    let (src, shared, dst) = (a.bo(1, PAGE)?, a.bo(2, PAGE)?, b.bo(3, PAGE)?);
    let dma_buf = shared.export()?;
    let import = Bo::import(&b.device, std::os::fd::AsFd::as_fd(&dma_buf), PAGE)?;
    let held = HeldFence::new().context("held fence")?;
    let write = Pm4::new().mem_to_mem(shared.iova()?, src.iova()?).barrier();
    a.start(&write, &[(&src, READ), (&shared, WRITE)], Some(held.file()))?;
    let read = Pm4::new().mem_to_mem(dst.iova()?, import.iova()?).barrier();
    b.place(&read)?;
    let reader = Submit::new(&b.queue)
        .implicit_sync()
        .bo(&b.cmds, READ)
        .bo(&import, READ)
        .bo(&dst, WRITE)
        .cmd_in(0, 0, read.size())
        .send()
        .context("the reader's SUBMIT")?;
    // What may run has run once later work of somebody else has.
    let other = Legacy::new()?;
    for _ in 0..4 {
        other.run(&Pm4::new().nop(4).barrier(), &[])?;
    }
    ensure!(!reader.fence.is_signaled()?, "the reader didn't wait");
    ensure_eq!(dst.map()?.read(0), pattern(3, 0), "before the writer");
    held.signal().context("the fence was held")?;
    reader.wait(PATIENCE).context("the reader")?;
    ensure_eq!(dst.map()?.read(0), pattern(1, 0), "after the writer");
    Ok(())
}

/// Many contexts and BOs come and go; nothing is left.
fn come_and_go(test: &mut Test) -> Outcome {
    let before = Census::new()?;
    for _ in 0..6 {
        let gpu = Legacy::new()?;
        let mut bos = Vec::new();
        for n in 0..24 {
            let bo = gpu.bo(n, (1 + test.rng.u64(..8)) * PAGE)?;
            let iova = bo.iova()?;
            gpu.run(
                &Pm4::new().mem_write(iova, &[n]).barrier(),
                &[(&bo, READ | WRITE)],
            )?;
            ensure_eq!(bo.map()?.read(0), n, "BO {n}");
            if test.rng.bool() {
                bos.push(bo);
            }
        }
    }
    before.restored()
}

/// How often a handle goes while a request that names it is under way.
const RACES: usize = 1000;

/// A handle goes when a SUBMIT has looked it up: nothing is left that belongs to nobody.
fn defect_35_submit_races_close(test: &mut Test) -> Outcome {
    let before = Census::new()?;
    {
        let gpu = Legacy::new()?;
        let commands = Pm4::new().nop(4).barrier();
        gpu.place(&commands)?;
        // The commands are read after the lookup.
        let mut page = HeldPage::new().context("userfaultfd")?;
        let mut refused = 0;
        for round in test.rounds(RACES) {
            let bo = Bo::new(&gpu.device, PAGE)?;
            let submit = Submit::new(&gpu.queue)
                .bo(&gpu.cmds, READ)
                .bo(&bo, READ)
                .cmd_in(0, 0, commands.size());
            let mut request = submit.request();
            request.cmds = page.address();
            let sent = std::thread::scope(|scope| -> harness::Result<_> {
                let sender = scope.spawn(|| gpu.device.submit_raw(&mut request));
                page.wait_for_reader(PATIENCE)
                    .context("SUBMIT doesn't read its commands")?;
                drop(bo);
                page.release(submit.cmds_as_bytes())?;
                Ok(sender.join().expect("the sender's thread"))
            })?;
            match sent {
                // SAFETY: the kernel just installed this descriptor for us.
                Ok(()) => drop(unsafe { OwnedFd::from_raw_fd(request.fence_fd) }),
                Err(Errno::EINVAL) => refused += 1,
                Err(e) => harness::bail!("round {round}: {e}"),
            }
            page.hold()?;
        }
        println!("# {refused} of at most {RACES} SUBMITs were refused");
        gpu.run(&commands, &[]).context("a SUBMIT afterwards")?;
    }
    before.restored()
}

/// A handle goes while GET_IOVA makes an address for its BO.
fn defect_35_get_iova_races_close(test: &mut Test) -> Outcome {
    let before = Census::new()?;
    {
        let device = Device::open()?;
        // The context has its VM.
        Bo::new(&device, PAGE)?.iova()?;
        let mut refused = 0;
        for round in test.rounds(RACES) {
            let bo = Bo::new(&device, PAGE)?;
            let start = std::sync::Barrier::new(2);
            let got = std::thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    start.wait();
                    bo.iova()
                });
                start.wait();
                // One of them is earlier, by a different time in each round.
                for _ in 0..round % 100 {
                    std::hint::spin_loop();
                }
                device.close_handle(bo.handle()).map(|()| sender.join())
            })?;
            bo.leave_open();
            match got.expect("the sender's thread") {
                Ok(_) => {}
                Err(Errno::ENOENT) => refused += 1,
                Err(e) => harness::bail!("round {round}: {e}"),
            }
        }
        println!("# {refused} of at most {RACES} GET_IOVAs were refused");
    }
    before.restored()
}

/// A legacy context may list a private BO.
fn defect_18_no_share_in_bo_table(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bo = Bo::with_flags(&gpu.device, PAGE, abi::MSM_BO_WC | abi::MSM_BO_NO_SHARE)?;
    let iova = bo.iova()?;
    gpu.run(
        &Pm4::new().mem_write(iova, &[5]).barrier(),
        &[(&bo, READ | WRITE)],
    )?;
    ensure_eq!(bo.map()?.read(0), 5, "the private BO");
    Ok(())
}

/// Somebody keeps a BO locked that a SUBMIT is to give back: the fences of others signal meanwhile.
fn defect_59_a_bo_stays_locked(_: &mut Test) -> Outcome {
    let before = Census::new()?;
    {
        let (gpu, other) = (Legacy::with_vm()?, Legacy::with_vm()?);
        let bo = gpu.bo(1, 64 * PAGE)?;
        let commands = Pm4::new().nop(4).barrier();
        let (held, held_too) = (HeldFence::new()?, HeldFence::new()?);
        let first = gpu.start(&commands, &[(&bo, READ)], Some(held.file()))?;
        let others = other.start(&commands, &[], Some(held_too.file()))?;
        let locks = RecordedSubmit::start(|| gpu.run(&commands, &[(&bo, READ | DUMP)]))?;
        held.signal().context("the fence was held")?;
        first.wait(PATIENCE).context("the first SUBMIT")?;
        sleep(Duration::from_millis(100));
        held_too.signal().context("the fence was held")?;
        others.wait(PATIENCE).context("another SUBMIT")?;
        locks.end()?;
    }
    before.restored()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        get_iova,
        set_iova,
        impossible_iovas,
        one_iova_per_context,
        handle_closed_while_busy,
        purged,
        implicit_sync,
        come_and_go,
        defect_18_no_share_in_bo_table,
        defect_26_set_another_iova,
        defect_38_close_while_others_are_busy,
        defect_35_submit_races_close,
        defect_35_get_iova_races_close,
        defect_59_a_bo_stays_locked,
    ])
}
