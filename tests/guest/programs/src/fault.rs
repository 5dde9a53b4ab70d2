// SPDX-License-Identifier: GPL-2.0-only

//! Faulting on purpose.

use crate::{Gpu, PATIENCE};
use harness::Context;
use std::{thread::sleep, time::Duration};
use uapi::{debugfs, devcoredump::Devcoredump, module, Pm4, Submit};

/// Runs commands that fault, waits for recovery, and returns the crash dump's text. The context is
/// unusable afterwards.
///
/// The dump is freed, and the time passes that the driver keeps the SMMU from stalling after a
/// fault (500 ms), so that the next fault gives a dump again.
pub fn provoke(gpu: &Gpu, commands: &Pm4) -> harness::Result<String> {
    provoke_by(gpu, commands, || Ok(()))
}

/// As [`provoke`]; `more` can add fences to the submit.
pub fn provoke_with<'a>(
    gpu: &'a Gpu,
    commands: &Pm4,
    more: impl FnOnce(Submit<'a>) -> Submit<'a>,
) -> harness::Result<String> {
    provoke_submit(gpu, commands, more, || Ok(()))
}

/// As [`provoke`], with commands that fault because of what is done while they run.
pub fn provoke_by(
    gpu: &Gpu,
    commands: &Pm4,
    meanwhile: impl FnOnce() -> harness::Outcome,
) -> harness::Result<String> {
    provoke_submit(gpu, commands, |submit| submit, meanwhile)
}

/// Waits until the SMMU stalls on a fault again, as it must for a dump: for half a second after a
/// fault the driver doesn't let it.
pub fn wait_until_it_may_stall() -> harness::Outcome {
    loop {
        let left = debugfs::stall_reenable_time().context("stall_reenable_time_us")?;
        if left.is_zero() {
            return Ok(());
        }
        sleep(left);
    }
}

/// Frees an old dump, and waits until a fault gives another one.
pub fn make_room() -> harness::Outcome {
    if let Some(old) = Devcoredump::present().context("devcoredump")? {
        old.free().context("freeing an old devcoredump")?;
    }
    wait_until_it_may_stall()
}

fn provoke_submit<'a>(
    gpu: &'a Gpu,
    commands: &Pm4,
    more: impl FnOnce(Submit<'a>) -> Submit<'a>,
    meanwhile: impl FnOnce() -> harness::Outcome,
) -> harness::Result<String> {
    make_room()?;
    let submitted = gpu.start(commands, more).context("SUBMIT that faults")?;
    meanwhile()?;
    let dump = Devcoredump::wait(PATIENCE).context("waiting for the devcoredump")?;
    let text = dump.read().context("reading the devcoredump")?;
    submitted.wait(PATIENCE).context("waiting for recovery")?;
    dump.free().context("freeing the devcoredump")?;
    sleep(Duration::from_millis(600));
    Ok(text)
}

/// Gives VMs that are created from now on a log of `1 << shift` ops (0 is none, 8 the most).
pub fn set_vm_log(shift: u32) -> harness::Result<()> {
    module::set_parameter("msm", "vm_log_shift", &shift.to_string()).context("msm.vm_log_shift")
}
