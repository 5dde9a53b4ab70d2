// SPDX-License-Identifier: GPL-2.0-only

//! Looking at unmapped addresses without consequences.

use crate::{fault, Gpu, PATIENCE};
use harness::{ensure, Context};
use std::time::{Duration, SystemTime};
use uapi::{
    devcoredump::{fault_iova, taken, Devcoredump},
    Pm4,
};

/// A dump that is older isn't relied on: the kernel frees it when it is five minutes old.
const OLD: Duration = Duration::from_secs(50);

/// While this lives, a GPU access that faults reads 0 or is dropped, and the GPU goes on.
///
/// The driver lets the SMMU stall on a fault only when it could take a crash dump, and it keeps one
/// dump at a time (`adreno_check_and_reenable_stall`). So a context of its own faults once, and its
/// dump stays, for the next user of this type too, unless it is [`OLD`].
#[derive(Debug)]
pub struct Tolerance(());

impl Tolerance {
    /// Makes the GPU forgive, from now on.
    pub fn new() -> harness::Result<Self> {
        if let Some(old) = Devcoredump::present().context("devcoredump")? {
            let text = old.head()?;
            let age = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)?
                .checked_sub(taken(&text).context("the dump doesn't say when it was taken")?);
            if fault_iova(&text).is_some() && age.is_some_and(|age| age < OLD) {
                return Ok(Self(()));
            }
            old.free().context("freeing an old devcoredump")?;
        }
        // Somebody may have had a fault just now, and freed its dump.
        fault::wait_until_it_may_stall()?;
        let victim = Gpu::new()?;
        let faulting = Pm4::new()
            .mem_to_mem(victim.result_iova(0), victim.iova(0))
            .barrier();
        let submitted = victim
            .start(&faulting, |submit| submit)
            .context("SUBMIT that faults")?;
        Devcoredump::wait(PATIENCE).context("dump of the first fault")?;
        submitted
            .wait(PATIENCE)
            .context("recovery from the first fault")?;
        Ok(Self(()))
    }

    /// Checks that the dump is still there, that is, that everything so far was forgiven.
    pub fn check(&self) -> harness::Result<()> {
        ensure!(
            Devcoredump::present().context("devcoredump")?.is_some(),
            "the dump that holds the stall off is gone"
        );
        Ok(())
    }
}
