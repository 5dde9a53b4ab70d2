// SPDX-License-Identifier: GPL-2.0-only

//! All contexts are in the GPU's VM, as on GPUs without page tables for each process
//! (`tests/vm --gpu a702-shared`).

use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{pattern, Legacy, PATIENCE};
use std::{os::fd::AsFd, process::ExitCode};
use uapi::{
    abi::{self, MSM_SUBMIT_BO_READ as READ, MSM_SUBMIT_BO_WRITE as WRITE},
    Bo, Device, Errno, HeldFence, Pm4, SubmitQueue, PAGE,
};

/// No two BOs have the same address, whichever contexts they are of.
fn different_addresses(_: &mut Test) -> Outcome {
    let (a, b) = (Legacy::new()?, Legacy::new()?);
    let mut bos: Vec<(Bo, u64)> = Vec::new();
    for n in 0..8 {
        let gpu = if n % 2 == 0 { &a } else { &b };
        let bo = gpu.bo(n, 4 * PAGE)?;
        let iova = bo.iova().context("GET_IOVA")?;
        ensure!(
            bos.iter().all(|(_, at)| at.abs_diff(iova) >= 4 * PAGE),
            "{iova:#x} overlaps one of {bos:x?}"
        );
        let commands = Pm4::new().mem_write(iova, &[n]).barrier();
        gpu.run(&commands, &[(&bo, WRITE)])?;
        bos.push((bo, iova));
    }
    for (n, (bo, _)) in (0..).zip(&bos) {
        ensure_eq!(bo.map()?.read(0), n, "BO {n}");
    }
    Ok(())
}

/// A BO has one address, which all contexts use.
fn defect_28_one_address(_: &mut Test) -> Outcome {
    let (a, b) = (Legacy::new()?, Legacy::new()?);
    let bo = a.bo(1, 4 * PAGE)?;
    let import = Bo::import(&b.device, bo.export()?.as_fd(), 4 * PAGE)?;
    let iova = bo.iova().context("GET_IOVA")?;
    ensure_eq!(import.iova()?, iova, "its address in the other context");
    a.run(
        &Pm4::new().mem_write(iova + 8, &[7]).barrier(),
        &[(&bo, WRITE)],
    )?;
    let dst = b.bo(2, PAGE)?;
    b.run(
        &Pm4::new().mem_to_mem(dst.iova()?, iova + 8).barrier(),
        &[(&import, READ), (&dst, WRITE)],
    )?;
    ensure_eq!(dst.map()?.read(0), 7, "what the other context has written");
    Ok(())
}

/// A mapping stays for as long as somebody has the BO, and while the GPU uses it.
fn defect_28_stays_for_others(_: &mut Test) -> Outcome {
    let (a, b) = (Legacy::new()?, Legacy::new()?);
    let bo = a.bo(1, PAGE)?;
    let iova = bo.iova()?;
    let import = Bo::import(&b.device, bo.export()?.as_fd(), PAGE)?;
    let dst = b.bo(2, PAGE)?;
    let held = HeldFence::new().context("held fence")?;
    let reader = b.start(
        &Pm4::new().mem_to_mem(dst.iova()?, iova + 4).barrier(),
        &[(&import, READ), (&dst, WRITE)],
        Some(held.file()),
    )?;
    drop(bo);
    drop(a);
    ensure_eq!(import.iova()?, iova, "its address");
    held.signal().context("the fence was held")?;
    reader.wait(PATIENCE)?;
    ensure_eq!(dst.map()?.read(0), pattern(1, 1), "what was read there");
    Ok(())
}

/// When a BO is gone there is nothing at its address: a read gives 0, and the GPU goes on.
fn gone_with_the_last_handle(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bo = gpu.bo(1, 64 * PAGE)?;
    let iova = bo.iova()?;
    drop(bo);
    let dst = gpu.bo(2, PAGE)?;
    gpu.run(
        &Pm4::new()
            .mem_to_mem(dst.iova()?, iova + 32 * PAGE)
            .barrier(),
        &[(&dst, WRITE)],
    )?;
    ensure_eq!(dst.map()?.read(0), 0, "what was read where nothing is");
    gpu.run(
        &Pm4::new().mem_write(dst.iova()?, &[5]).barrier(),
        &[(&dst, WRITE)],
    )?;
    ensure_eq!(dst.map()?.read(0), 5, "what was written afterwards");
    Ok(())
}

/// Contexts and BOs come and go in every order.
fn come_and_go(test: &mut Test) -> Outcome {
    let mut open: Vec<(Legacy, Vec<(u32, Bo)>)> = Vec::new();
    for n in 0..200 {
        match test.rng.u32(..8) {
            0 => open.push((Legacy::new()?, Vec::new())),
            1 if open.len() > 3 => drop(open.swap_remove(test.rng.usize(..open.len()))),
            _ if open.is_empty() => {}
            _ => {
                let which = test.rng.usize(..open.len());
                let (gpu, bos) = &mut open[which];
                let bo = gpu.bo(n, (1 + test.rng.u64(..32)) * PAGE)?;
                let iova = bo.iova()?;
                let commands = Pm4::new().mem_write(iova, &[n]).barrier();
                gpu.run(&commands, &[(&bo, READ | WRITE)])?;
                bos.push((n, bo));
                if test.rng.bool() {
                    bos.swap_remove(test.rng.usize(..bos.len()));
                }
            }
        }
    }
    for (n, bo) in open.iter().flat_map(|(_, bos)| bos) {
        ensure_eq!(bo.map()?.read(0), *n, "BO {n}");
        ensure_eq!(bo.map()?.read(1), pattern(*n, 1), "BO {n}'s next dword");
    }
    Ok(())
}

/// What needs an address space of its own is refused.
fn nothing_of_ones_own(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    for param in [abi::MSM_PARAM_VA_START, abi::MSM_PARAM_VA_SIZE] {
        ensure_errno!(gpu.device.param(param), Errno::EINVAL, "parameter {param}");
    }
    let bo = gpu.bo(1, PAGE)?;
    ensure_errno!(
        bo.set_iova(1 << 32),
        Errno::EOPNOTSUPP,
        "an address of one's choice"
    );
    let device = Device::open_vm_bind().context("opening the GPU for VM_BIND")?;
    ensure!(
        SubmitQueue::new_vm_bind(&device).is_err(),
        "a queue for VM_BIND"
    );
    ensure!(
        SubmitQueue::new(&device, 0).is_err() || Bo::new(&device, PAGE)?.iova().is_err(),
        "a context without a VM has addresses"
    );
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        different_addresses,
        defect_28_one_address,
        defect_28_stays_for_others,
        gone_with_the_last_handle,
        come_and_go,
        nothing_of_ones_own,
    ])
}
