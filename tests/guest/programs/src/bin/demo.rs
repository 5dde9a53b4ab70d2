// SPDX-License-Identifier: GPL-2.0-only

//! A VM_BIND workload, a fault on purpose, what the crash dump says, and the GPU at work again. For
//! `make run`.
//!
//! `demo [FILE]`: the devcoredump is saved as FILE.

use harness::{ensure, ensure_eq, Context, Outcome};
use programs::{fault, pattern, Gpu, PATIENCE};
use std::{env, fs, process::ExitCode};
use uapi::{
    abi,
    devcoredump::{fault_info, section, vm_log},
    module, HeldFence, Pm4, SyncFile, PAGE,
};

fn say(text: impl AsRef<str>) {
    println!("  {}", text.as_ref());
}

fn state(fence: &SyncFile) -> harness::Result<&'static str> {
    Ok(if fence.is_signaled()? {
        "done"
    } else {
        "waiting"
    })
}

fn aliases(gpu: &Gpu) -> Outcome {
    println!("\nOne buffer object, three addresses");
    let bo = gpu.bo(1, 4 * PAGE)?;
    bo.set_name("demo").context("SET_NAME")?;
    let iovas = [gpu.iova(0), gpu.iova(0x1000_0000), gpu.iova(0x20_0000_0000)];
    let mut bind = gpu.bind();
    for iova in iovas {
        bind = bind.map(&bo, 0, iova, 4 * PAGE);
        say(format!("VM_BIND MAP      {iova:#013x}  16 KiB"));
    }
    bind.send_and_wait().context("MAP")?;

    let word = 0x600d_cafe;
    gpu.write(iovas[0] + 2 * PAGE, &[word])?;
    say(format!(
        "GPU writes       {:#013x}  {word:#x}",
        iovas[0] + 2 * PAGE
    ));
    for iova in &iovas[1..] {
        let seen = gpu.read(iova + 2 * PAGE, 1)?[0];
        say(format!(
            "GPU reads        {:#013x}  {seen:#x}",
            iova + 2 * PAGE
        ));
        ensure_eq!(seen, word, "through the alias");
    }
    let seen = bo.map()?.read(2 * PAGE as usize / 4);
    say(format!("CPU reads its mmap              {seen:#x}"));
    ensure_eq!(seen, word, "through the CPU's mapping");
    Ok(())
}

fn asynchronous(gpu: &Gpu, iova: u64) -> Outcome {
    println!("\nA bind that waits for a fence, and GPU work that waits for the bind");
    let bo = gpu.bo(2, 8 * PAGE)?;
    bo.set_name("late texture").context("SET_NAME")?;
    let held = HeldFence::new().context("held fence")?;
    let mapped = gpu
        .bind()
        .map(&bo, 0, iova, 8 * PAGE)
        .after(held.file())
        .send()
        .context("MAP")?;
    gpu.set_result(0, 0);
    let copy = Pm4::new()
        .mem_to_mem(gpu.result_iova(0), iova + 3 * PAGE)
        .barrier();
    let submitted = gpu
        .start(&copy, |submit| submit.after(&mapped))
        .context("SUBMIT")?;
    say(format!(
        "VM_BIND MAP      {iova:#013x}  32 KiB   {}",
        state(&mapped)?
    ));
    say(format!(
        "SUBMIT (copy)                            {}",
        state(&submitted.fence)?
    ));
    ensure!(
        !mapped.is_signaled()? && !submitted.fence.is_signaled()?,
        "something ran ahead of its fence"
    );
    held.signal().context("the fence was held")?;
    submitted.wait(PATIENCE).context("SUBMIT")?;
    say("the fence signals");
    say(format!(
        "VM_BIND MAP                              {}",
        state(&mapped)?
    ));
    say(format!(
        "SUBMIT (copy)                            {}, {:#x}",
        state(&submitted.fence)?,
        gpu.result(0)
    ));
    ensure_eq!(gpu.result(0), pattern(2, 3 * 1024), "what the GPU copied");
    Ok(())
}

fn fault(gpu: &Gpu, iova: u64) -> Outcome {
    println!("\nUse after unmap, on purpose");
    gpu.unmap(iova, 8 * PAGE)?;
    say(format!("VM_BIND UNMAP    {iova:#013x}  32 KiB"));
    let later = gpu.bo(3, PAGE)?;
    gpu.map(&later, gpu.iova(0x30_0000_0000))?;
    let address = iova + 5 * PAGE;
    say(format!("GPU reads        {address:#013x}"));
    let dump = fault::provoke(
        gpu,
        &Pm4::new().mem_to_mem(gpu.result_iova(0), address).barrier(),
    )?;
    if let Some(file) = env::args().nth(1) {
        fs::write(&file, &dump).with_context(|| format!("can't write {file}"))?;
    }

    println!("\nThe devcoredump ({} KiB) says", dump.len() / 1024);
    let field = |name| fault_info(&dump, name).with_context(|| format!("no {name} in fault-info"));
    say(format!(
        "fault            {:#013x}  {} {} from {}",
        u64::from_str_radix(field("iova")?, 16)?,
        field("type")?,
        field("dir")?,
        field("source")?
    ));
    for line in section(&dump, "pgtable-fault-info").context("no pgtable-fault-info")? {
        say(format!(
            "page tables      {}",
            line.trim_start_matches([' ', '-'])
        ));
    }
    let log = vm_log(&dump);
    let culprit = log
        .iter()
        .rposition(|entry| (entry.start..entry.end).contains(&address))
        .context("the VM log has no op on the address")?;
    say(format!("VM log           {} ops", log.len()));
    for (n, entry) in log.iter().enumerate() {
        let mark = if n == culprit {
            "  <- took the mapping away"
        } else {
            ""
        };
        say(format!(
            "  {:<5} queue {}  {:#013x}-{:#013x}{mark}",
            entry.op, entry.queue, entry.start, entry.end
        ));
    }
    ensure_eq!(log[culprit].op, "unmap", "the newest op on the address");
    ensure_eq!(
        field("iova")?,
        format!("{address:016x}"),
        "the address that faulted"
    );
    Ok(())
}

fn again() -> Outcome {
    println!("\nThe GPU afterwards, in a new context");
    let gpu = Gpu::new()?;
    let bo = gpu.bo(4, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.write(gpu.iova(0), &[0x5afe])?;
    let seen = gpu.read(gpu.iova(0), 1)?[0];
    say(format!("GPU wrote 0x5afe and reads back {seen:#x}"));
    ensure_eq!(seen, 0x5afe, "what the GPU wrote");
    Ok(())
}

fn run() -> Outcome {
    fault::set_vm_log(8)?;
    let gpu = Gpu::new()?;
    let va = gpu.device.va_range()?;
    println!(
        "{}, Adreno {:#010x}, VM {:#x}-{:#x}",
        if module::is_out_of_tree("msm")? {
            "msm.ko from outside the kernel's tree"
        } else {
            "the kernel's own msm.ko"
        },
        gpu.device.param(abi::MSM_PARAM_CHIP_ID)? as u32,
        va.start,
        va.end
    );
    aliases(&gpu)?;
    let iova = gpu.iova(0x4000_0000);
    asynchronous(&gpu, iova)?;
    fault(&gpu, iova)?;
    drop(gpu);
    again()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("FAIL demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}
