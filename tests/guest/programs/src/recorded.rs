// SPDX-License-Identifier: GPL-2.0-only

//! Keeping a VM and BOs locked.

use crate::PATIENCE;
use harness::{ensure, Context, Outcome, Process, Result};
use std::{fs::File, time::Duration};
use uapi::{debugfs, HeldFence};

/// A SUBMIT that is recorded for debugfs' `rd`: it keeps what it has locked until somebody has read
/// it. Not the process that sends it, which has no file of that.
#[derive(Debug)]
pub struct RecordedSubmit {
    // Closed first: that lets the process go on.
    rd: File,
    process: Process,
}

impl RecordedSubmit {
    /// Has another process `send` one, of which more is recorded than `rd` has room for, and waits
    /// until that has its locks. SUBMITs that are sent meanwhile wait, too.
    pub fn start(send: impl FnOnce() -> Outcome) -> Result<Self> {
        let go = HeldFence::new().context("held fence")?;
        let process = Process::start(|| {
            go.file().wait(PATIENCE).context("the start")?;
            send()
        })?;
        let rd = debugfs::rd().context("debugfs rd")?;
        let mut this = Self { rd, process };
        go.signal().context("the fence was held")?;
        ensure!(
            this.process.waits(PATIENCE)?,
            "nothing keeps what is recorded waiting: {:?}",
            this.process.status()?
        );
        Ok(this)
    }

    /// It has kept its locks until now. Lets it go; it succeeds.
    pub fn end(mut self) -> Outcome {
        ensure!(
            self.process.wait(Duration::ZERO)?.is_none(),
            "nothing was locked"
        );
        drop(self.rd);
        self.process.succeeds(PATIENCE)
    }
}
