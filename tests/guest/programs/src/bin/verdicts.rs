// SPDX-License-Identifier: GPL-2.0-only

//! A crash dump for each verdict of `tools/devcoredump`.
//!
//! In `/share`, if there is one, each sub-test leaves its dump as `NAME.dump` and what the tool
//! should make of it as `NAME.expect`: lines of a key and a value, `verdict`, `address` and, if an
//! op of the VM log is to blame, `op` and `range`.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{eventually, fault, hang, pattern, Gpu, Waiting, PATIENCE};
use std::{fmt::Write, fs, path::Path, process::ExitCode};
use uapi::{
    abi,
    devcoredump::{fault_iova, Devcoredump},
    module,
    vadreno::Vadreno,
    vadreno_ctl as ctl, Bo, HeldFence, Pm4, Syncobj, Tracepoint, PAGE,
};

/// Where the CP writes its read pointer: a pair of registers (a6xx.xml of Linux 7.3).
const CP_RB_RPTR_ADDR: u32 = 0x804;

/// What the tool should say.
struct Expected {
    verdict: &'static str,
    /// `None`: there is no page fault.
    address: Option<u64>,
    /// The op to blame, and its range. The kernel's own msm.ko doesn't log all that ours does:
    /// there it isn't asked for.
    blamed: Option<(&'static str, u64, u64)>,
}

impl Expected {
    fn at(verdict: &'static str, address: u64) -> Self {
        Self {
            verdict,
            address: Some(address),
            blamed: None,
        }
    }

    fn blames(mut self, op: &'static str, start: u64, end: u64) -> Self {
        self.blamed = Some((op, start, end));
        self
    }

    /// Leaves the dump for the tool.
    fn save(self, name: &str, dump: &str) -> Outcome {
        if let Some(address) = self.address {
            ensure_eq!(fault_iova(dump), Some(address), "fault-info's iova");
        } else {
            ensure!(fault_iova(dump).is_none(), "a page fault in the dump");
        }
        let share = Path::new("/share");
        if !share.is_dir() {
            return Ok(());
        }
        let mut expect = format!("verdict {}\n", self.verdict);
        if let Some(address) = self.address {
            writeln!(expect, "address {address:#x}")?;
        }
        if let (Some((op, start, end)), true) = (self.blamed, module::is_out_of_tree("msm")?) {
            writeln!(expect, "op {op}\nrange {start:#x}-{end:#x}")?;
        }
        fs::write(share.join(format!("{name}.dump")), dump)?;
        fs::write(share.join(format!("{name}.expect")), expect)?;
        Ok(())
    }
}

/// A context whose VM has a log.
fn logged_gpu() -> harness::Result<Gpu> {
    fault::set_vm_log(8)?;
    Gpu::new()
}

fn named(gpu: &Gpu, name: &str, pages: u64) -> harness::Result<Bo> {
    let bo = gpu.bo(1, pages * PAGE)?;
    bo.set_name(name).context("SET_NAME")?;
    Ok(bo)
}

fn read_of(gpu: &Gpu, iova: u64) -> Pm4 {
    Pm4::new().mem_to_mem(gpu.result_iova(0), iova).barrier()
}

/// Until its ring has wrapped, the log of the kernel's own msm.ko lacks the newest op: this one,
/// then.
fn one_more(gpu: &Gpu) -> Outcome {
    let later = named(gpu, "later", 1)?;
    gpu.map(&later, gpu.iova(0x30_0000_0000))
}

/// The GPU works, in a new context.
fn works() -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(2, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.write(gpu.iova(0), &[0x5afe])?;
    ensure_eq!(gpu.read(gpu.iova(0), 1)?, [0x5afe], "in a new context");
    Ok(())
}

fn never_mapped(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    one_more(&gpu)?;
    let iova = gpu.iova(0x123_4000);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    Expected::at("never_mapped", iova).save("never_mapped", &dump)
}

fn null_pointer(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let dump = fault::provoke(&gpu, &read_of(&gpu, 0x40))?;
    Expected::at("null_pointer", 0x40).save("null_pointer", &dump)
}

/// Behind the end of a BO, and ahead of another's start.
fn outside_bo(_: &mut Test) -> Outcome {
    for (name, offset) in [
        ("outside_bo", 4 * PAGE + 0x10),
        ("outside_bo_before", 0x100_0000 - 0x20),
    ] {
        let gpu = logged_gpu()?;
        let (bo, other) = (named(&gpu, "vertices", 4)?, named(&gpu, "indices", 1)?);
        gpu.map(&bo, gpu.iova(0))?;
        gpu.map(&other, gpu.iova(0x100_0000))?;
        one_more(&gpu)?;
        let iova = gpu.iova(offset);
        let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
        Expected::at("outside_bo", iova).save(name, &dump)?;
    }
    Ok(())
}

fn used_after_unmap(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let bo = named(&gpu, "texture", 8)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.read(gpu.iova(0), 1)?;
    gpu.unmap(gpu.iova(0), 8 * PAGE)?;
    one_more(&gpu)?;
    let iova = gpu.iova(5 * PAGE + 0x30);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    Expected::at("used_after_unmap", iova)
        .blames("unmap", gpu.iova(0), gpu.iova(8 * PAGE))
        .save("used_after_unmap", &dump)
}

/// The UNMAP is the newest op: the one that the log of the kernel's own msm.ko lacks.
fn used_after_newest_unmap(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let bo = named(&gpu, "texture", 8)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(0), 8 * PAGE)?;
    let iova = gpu.iova(5 * PAGE + 0x30);
    let dump = fault::provoke(&gpu, &Pm4::new().mem_write(iova, &[1]).barrier())?;
    Expected::at("used_after_unmap", iova)
        .blames("unmap", gpu.iova(0), gpu.iova(8 * PAGE))
        .save("used_after_newest_unmap", &dump)
}

/// The log has wrapped, and begins with the UNMAP.
fn used_after_unmap_in_a_full_log(_: &mut Test) -> Outcome {
    fault::set_vm_log(2)?;
    let gpu = Gpu::new()?;
    let (bo, other) = (named(&gpu, "texture", 8)?, named(&gpu, "other", 1)?);
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(0), 8 * PAGE)?;
    for n in 0..3 {
        gpu.map(&other, gpu.iova((n + 1) << 30))?;
    }
    let iova = gpu.iova(0x30);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    Expected::at("used_after_unmap", iova)
        .blames("unmap", gpu.iova(0), gpu.iova(8 * PAGE))
        .save("used_after_unmap_in_a_full_log", &dump)
}

fn partially_unmapped(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let bo = named(&gpu, "heap", 8)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(2 * PAGE), 3 * PAGE)?;
    one_more(&gpu)?;
    let iova = gpu.iova(4 * PAGE);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    Expected::at("partially_unmapped", iova)
        .blames("unmap", gpu.iova(2 * PAGE), gpu.iova(5 * PAGE))
        .save("partially_unmapped", &dump)
}

/// A MAP waits for a fence; the SUBMIT doesn't wait for the MAP.
fn bound_too_late(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let bo = named(&gpu, "upload", 4)?;
    one_more(&gpu)?;
    let held = HeldFence::new().context("held fence")?;
    let mapped = gpu
        .bind()
        .map(&bo, 0, gpu.iova(0), 4 * PAGE)
        .after(held.file())
        .send()
        .context("MAP that waits")?;
    let iova = gpu.iova(PAGE);
    let dump = fault::provoke(&gpu, &read_of(&gpu, iova))?;
    held.signal().context("the fence was held")?;
    mapped.wait(PATIENCE).context("MAP")?;
    Expected::at("bound_too_late", iova)
        .blames("map", gpu.iova(0), gpu.iova(4 * PAGE))
        .save("bound_too_late", &dump)
}

/// A MAP that waits, and the syncobj that it signals.
fn map_that_signals(gpu: &Gpu, bo: &Bo) -> harness::Result<(Waiting, Syncobj)> {
    let bound = Syncobj::new(&gpu.device).context("syncobj")?;
    let map = Waiting::send(
        gpu.bind()
            .map(bo, 0, gpu.iova(0), bo.size())
            .signal(&bound, 0),
    )?;
    Ok((map, bound))
}

/// The SUBMIT lists the syncobj that the MAP signals, but its flags lack SYNCOBJ_IN: the kernel
/// doesn't look at the list. The same SUBMIT with the flag waits.
///
/// What a SUBMIT waits for shows in the scheduler's trace, as the tool says.
fn ignored_syncobj(_: &mut Test) -> Outcome {
    let trace = Tracepoint::of("gpu_scheduler", "drm_sched_job_add_dep").context("trace")?;
    let dependencies = || -> harness::Result<usize> { Ok(trace.events().context("trace")?.len()) };

    let gpu = logged_gpu()?;
    let bo = named(&gpu, "sparse", 4)?;
    let (map, bound) = map_that_signals(&gpu, &bo)?;
    let before = dependencies()?;
    let read = gpu
        .start(&read_of(&gpu, gpu.iova(PAGE)), |submit| {
            submit.after_syncobj(&bound, 0)
        })
        .context("SUBMIT that waits")?;
    ensure!(dependencies()? > before, "what it waits for isn't traced");
    map.run()?;
    read.wait(PATIENCE).context("SUBMIT that waited")?;
    ensure_eq!(gpu.result(0), pattern(1, PAGE as usize / 4), "in the BO");

    let gpu = logged_gpu()?;
    let bo = named(&gpu, "sparse", 4)?;
    one_more(&gpu)?;
    let (map, bound) = map_that_signals(&gpu, &bo)?;
    let before = dependencies()?;
    let iova = gpu.iova(PAGE);
    let dump = fault::provoke_with(&gpu, &read_of(&gpu, iova), |submit| {
        submit
            .after_syncobj(&bound, 0)
            .without(abi::MSM_SUBMIT_SYNCOBJ_IN)
    })?;
    ensure_eq!(dependencies()?, before, "dependencies of no SUBMIT");
    ensure!(!bound.is_signaled()?, "the MAP has run");
    map.run()?;
    Expected::at("bound_too_late", iova)
        .blames("map", gpu.iova(0), gpu.iova(4 * PAGE))
        .save("ignored_syncobj", &dump)
}

fn read_only(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let bo = read_only_bo(&gpu)?;
    gpu.map(&bo, gpu.iova(0))?;
    one_more(&gpu)?;
    let iova = gpu.iova(PAGE + 4);
    let dump = fault::provoke(&gpu, &Pm4::new().mem_write(iova, &[1]).barrier())?;
    Expected::at("read_only", iova).save("read_only", &dump)
}

fn read_only_bo(gpu: &Gpu) -> harness::Result<Bo> {
    let flags = abi::MSM_BO_WC | abi::MSM_BO_GPU_READONLY;
    let bo = Bo::with_flags(&gpu.device, 2 * PAGE, flags).context("GEM_NEW")?;
    bo.set_name("shaders").context("SET_NAME")?;
    Ok(bo)
}

/// The kernel's half of the address space.
fn privileged(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    one_more(&gpu)?;
    let dump = fault::provoke(&gpu, &read_of(&gpu, 0x1_007f_0000_0000))?;
    let seen = fault_iova(&dump).context("no iova in fault-info")?;
    ensure_eq!(seen & 0xffff_ffff_ffff, 0x7f_0000_0000, "its lower bits");
    Expected::at("privileged", seen).save("privileged", &dump)
}

/// A page was read-only and isn't any more; the SMMU hasn't been told.
fn stale_translation(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let device = Vadreno::open().context("virtual Adreno")?;
    let (old, new) = (read_only_bo(&gpu)?, named(&gpu, "target", 2)?);
    gpu.map(&old, gpu.iova(0))?;
    gpu.read(gpu.iova(0), 1)?;
    let deaf = device.ignore_tlbi();
    gpu.unmap(gpu.iova(0), 2 * PAGE)?;
    gpu.map(&new, gpu.iova(0))?;
    one_more(&gpu)?;
    let dump = fault::provoke(&gpu, &Pm4::new().mem_write(gpu.iova(4), &[1]).barrier())?;
    drop(deaf);
    Expected::at("stale_translation", gpu.iova(4)).save("stale_translation", &dump)
}

/// The page-table entry of `iova` goes, and the GPU gets there.
fn without_entry(gpu: &Gpu, iova: u64) -> harness::Result<String> {
    let device = Vadreno::open().context("virtual Adreno")?;
    one_more(gpu)?;
    // so that this context is the last
    gpu.run(&Pm4::new().nop(1))?;
    let lost = device.lose(iova).context("losing the entry")?;
    let dump = fault::provoke(gpu, &read_of(gpu, iova));
    drop(lost);
    dump
}

fn mapping_lost(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let bo = named(&gpu, "texture", 2)?;
    gpu.map(&bo, gpu.iova(0))?;
    let dump = without_entry(&gpu, gpu.iova(PAGE))?;
    Expected::at("mapping_lost", gpu.iova(PAGE))
        .blames("map", gpu.iova(0), gpu.iova(2 * PAGE))
        .save("mapping_lost", &dump)
}

fn null_mapping_lost(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    gpu.bind()
        .map_null(gpu.iova(0), 2 * PAGE)
        .send_and_wait()
        .context("MAP_NULL")?;
    let dump = without_entry(&gpu, gpu.iova(PAGE))?;
    Expected::at("null_mapping_lost", gpu.iova(PAGE))
        .blames("map_null", gpu.iova(0), gpu.iova(2 * PAGE))
        .save("null_mapping_lost", &dump)
}

/// The GPU has another context's page tables when it faults.
fn wrong_context(_: &mut Test) -> Outcome {
    let (gpu, other) = (logged_gpu()?, logged_gpu()?);
    let device = Vadreno::open().context("virtual Adreno")?;
    one_more(&gpu)?;
    other.run(&Pm4::new().nop(1))?;
    let asid = device.read(ctl::current::ASID) as u16;
    let tables = device.read(ctl::current::TTBR0);
    let iova = gpu.iova(0x123_4000);
    let dump = fault::provoke(
        &gpu,
        &Pm4::new()
            .smmu_table_update(tables, asid)
            .mem_write(iova, &[1])
            .barrier(),
    )?;
    Expected::at("wrong_context", iova).save("wrong_context", &dump)
}

/// Page tables where there is no memory.
fn external(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    one_more(&gpu)?;
    let iova = gpu.iova(0x123_4000);
    let dump = fault::provoke(
        &gpu,
        &Pm4::new()
            .smmu_table_update(0x8000_0000_0000, 0)
            .mem_write(iova, &[1])
            .barrier(),
    )?;
    Expected::at("external", iova).save("external", &dump)
}

/// The CP writes its read pointer to memory when all is done, and has been told a wrong address.
fn no_submit(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    one_more(&gpu)?;
    let iova = gpu.iova(0x123_4000);
    let address = [iova as u32, (iova >> 32) as u32];
    // No SUBMIT keeps GPU and SMMU awake while the SMMU's interrupt is served.
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let dump = fault::provoke(&gpu, &Pm4::new().reg_write(CP_RB_RPTR_ADDR, &address))?;
    eventually("the CP to go on", || {
        Ok(vadreno.read(ctl::CP_STATE) != ctl::cp_state::STALLED)
    })?;
    drop(vadreno);
    Expected::at("no_submit", iova).save("no_submit", &dump)?;
    works()
}

/// Where [`called`] puts its BO, and its size.
const CALLED: u64 = 2 * PAGE;

/// Commands in a BO of their own, and what calls them. The dump has the contents of both.
fn called(gpu: &Gpu, commands: &[u32]) -> harness::Result<Pm4> {
    gpu.dump_commands()?;
    let bo = named(gpu, "commands", CALLED / PAGE)?;
    bo.fill(|n| commands.get(n).copied().unwrap_or(0))
        .context("mmap")?;
    gpu.bind()
        .map_flags(&bo, 0, gpu.iova(0), CALLED, abi::MSM_VM_BIND_OP_DUMP)
        .send_and_wait()
        .context("MAP")?;
    Ok(Pm4::new().indirect_buffer(gpu.iova(0), commands.len() as u32))
}

/// A dump without a page fault.
fn save_hang(verdict: &'static str, name: &str, dump: &str) -> Outcome {
    Expected {
        verdict,
        address: None,
        blamed: None,
    }
    .save(name, dump)
}

fn hang(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let dump = fault::provoke(&gpu, &hang::commands(&gpu, 1))?;
    save_hang("hang", "hang", &dump)
}

/// A value that nobody writes, in memory that the dump has.
fn wait_without_end(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let wait = Pm4::new().nop(2).wait_mem_eq(gpu.iova(PAGE), 1, !0).nop(1);
    let dump = fault::provoke(&gpu, &called(&gpu, wait.dwords())?)?;
    save_hang("waits", "wait_without_end", &dump)
}

/// Something that is no packet, among commands.
fn bad_packet(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    let mut commands = Pm4::new().nop(2).dwords().to_vec();
    commands.push(0xdead_d00d);
    commands.extend(Pm4::new().nop(1).dwords());
    let dump = fault::provoke(&gpu, &called(&gpu, &commands)?)?;
    save_hang("bad_packet", "bad_packet", &dump)
}

/// The buffer's mapping is removed while the CP, which has fetched the commands, waits in it.
fn wild_buffer(_: &mut Test) -> Outcome {
    let gpu = logged_gpu()?;
    gpu.set_result(1, 0);
    gpu.set_result(2, 0);
    let commands = Pm4::new()
        .mem_write(gpu.result_iova(2), &[1])
        .barrier()
        .wait_mem_eq(gpu.result_iova(1), 1, !0);
    let dump = fault::provoke_by(&gpu, &called(&gpu, commands.dwords())?, || {
        eventually("the CP in the buffer", || Ok(gpu.result(2) == 1))?;
        gpu.unmap(gpu.iova(0), CALLED)
    })?;
    save_hang("wild_buffer", "wild_buffer", &dump)
}

/// After the reset that a hang brings, the CP doesn't read the ring; another context's submit waits
/// in it.
fn not_started(_: &mut Test) -> Outcome {
    if let Some(old) = Devcoredump::present().context("devcoredump")? {
        old.free().context("freeing an old devcoredump")?;
    }
    let (hung, other) = (Gpu::new()?, logged_gpu()?);
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    // A reset takes the GPU's power away.
    let sleepy = vadreno.let_sleep().context("power")?;
    let first = hung
        .start(&hang::commands(&hung, 1), |submit| submit)
        .context("SUBMIT that hangs")?;
    let second = other
        .start(&Pm4::new().nop(1), |submit| submit)
        .context("SUBMIT behind it")?;
    let held = vadreno.hold_cp();
    let dump = Devcoredump::wait(PATIENCE).context("devcoredump of the hang")?;
    dump.free().context("freeing it")?;
    first.wait(PATIENCE).context("the first recovery")?;
    let dump = Devcoredump::wait(PATIENCE).context("devcoredump of the ring")?;
    drop(held);
    let text = dump.read().context("reading it")?;
    second.wait(PATIENCE).context("the second recovery")?;
    dump.free().context("freeing it")?;
    drop(sleepy);
    drop(vadreno);
    save_hang("not_started", "not_started", &text)?;
    works()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        never_mapped,
        null_pointer,
        outside_bo,
        used_after_unmap,
        used_after_newest_unmap,
        used_after_unmap_in_a_full_log,
        partially_unmapped,
        bound_too_late,
        ignored_syncobj,
        read_only,
        privileged,
        stale_translation,
        mapping_lost,
        null_mapping_lost,
        wrong_context,
        external,
        no_submit,
        hang,
        wait_without_end,
        bad_packet,
        wild_buffer,
        not_started,
    ])
}
