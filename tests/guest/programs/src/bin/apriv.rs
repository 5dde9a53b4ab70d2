// SPDX-License-Identifier: GPL-2.0-only

//! What the kernel maps for itself alone (`MSM_BO_MAP_PRIV`, `IOMMU_PRIV`) is out of reach for the
//! commands of applications: the GPU has expanded APRIV (`hw_apriv`), and so an IB's accesses are
//! unprivileged.

use harness::{ensure_eq, Context, Outcome, Test};
use programs::{eventually, fault, Gpu};
use std::process::ExitCode;
use uapi::{
    debugfs::gem_iova,
    devcoredump::{fault_info, fault_iova},
    Pm4,
};

/// The address of a BO of the kernel's, as the SMMU reports it: 49 bits.
fn address(name: &str) -> harness::Result<u64> {
    let mut found = None;
    eventually(name, || {
        found = gem_iova(name).context("debugfs gem")?;
        Ok(found.is_some())
    })?;
    Ok(found.context("its iova")? & ((1 << 49) - 1))
}

/// Commands of a context fault at an address; the dump says how.
fn refused(iova: u64, dir: &str, commands: impl FnOnce(&Gpu) -> Pm4) -> Outcome {
    let gpu = Gpu::new()?;
    let commands = commands(&gpu).barrier();
    let dump = fault::provoke(&gpu, &commands)?;
    ensure_eq!(fault_iova(&dump), Some(iova), "fault-info's iova");
    ensure_eq!(fault_info(&dump, "dir"), Some(dir), "fault-info's dir");
    ensure_eq!(
        fault_info(&dump, "type"),
        Some("PERMISSION"),
        "fault-info's type"
    );
    Ok(())
}

fn read_refused(iova: u64) -> Outcome {
    refused(iova, "READ", |gpu| {
        Pm4::new().mem_to_mem(gpu.result_iova(0), iova)
    })
}

fn write_refused(iova: u64) -> Outcome {
    refused(iova, "WRITE", |_| Pm4::new().mem_write(iova, &[0x0bad]))
}

/// Neither read nor written.
fn out_of_reach(name: &str) -> Outcome {
    // The first context starts the GPU, which makes some of them.
    drop(Gpu::new()?);
    let iova = address(name)?;
    read_refused(iova + 4).context("reading")?;
    write_refused(iova + 8).context("writing")
}

fn ring(_: &mut Test) -> Outcome {
    out_of_reach("ring0")
}

fn memptrs(_: &mut Test) -> Outcome {
    out_of_reach("memptrs")
}

fn shadow(_: &mut Test) -> Outcome {
    out_of_reach("shadow")
}

fn power_up_list(_: &mut Test) -> Outcome {
    out_of_reach("pwrup_reglist")
}

/// Linux maps it with `MSM_BO_GPU_READONLY` alone: applications can read it.
fn sqe_firmware(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let iova = address("sqefw")?;
    gpu.run(&Pm4::new().mem_to_mem(gpu.result_iova(0), iova + 4))
        .context("reading")?;
    write_refused(iova + 8).context("writing")
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        ring,
        memptrs,
        shadow,
        power_up_list,
        sqe_firmware
    ])
}
