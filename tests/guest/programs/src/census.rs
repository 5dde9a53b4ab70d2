// SPDX-License-Identifier: GPL-2.0-only

//! Whether BOs are left that nobody can free any more.

use crate::Gpu;
use harness::{bail, Outcome, Result};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::debugfs;

/// How many BOs there were, and their bytes, while no file came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census((u64, u64));

impl Census {
    /// Counts once the kernel's own BOs are there (they come with the first use of the GPU), and
    /// those of files closed earlier are gone: a VM ends a little later than its file.
    pub fn new() -> Result<Self> {
        drop(Gpu::new()?);
        Self::now()
    }

    /// Counts once nothing has changed for a while.
    pub fn now() -> Result<Self> {
        let mut last = debugfs::gem_total()?;
        loop {
            sleep(Duration::from_millis(150));
            let now = debugfs::gem_total()?;
            if now == last {
                return Ok(Self(now));
            }
            last = now;
        }
    }

    /// Waits until there aren't more BOs than before. (A file that was closed before may have ended
    /// since.)
    pub fn restored(self) -> Outcome {
        let end = Instant::now() + Duration::from_secs(10);
        let more = |(bos, bytes)| bos > self.0 .0 || bytes > self.0 .1;
        while more(debugfs::gem_total()?) {
            if Instant::now() > end {
                let listing = debugfs::gem()?;
                bail!("BOs: {:?} before, 10 s afterwards:\n{listing}", self.0);
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
