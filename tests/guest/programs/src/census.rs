// SPDX-License-Identifier: GPL-2.0-only

//! Whether BOs are left that nobody can free any more.

use crate::{eventually, Gpu};
use harness::{bail, Context, Outcome, Result};
use std::{thread::sleep, time::Duration};
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
        let mut last = debugfs::most_gem_total()?;
        loop {
            sleep(Duration::from_millis(150));
            let now = debugfs::most_gem_total()?;
            if now == last {
                return Ok(Self(now));
            }
            last = now;
        }
    }

    /// Whether there are more BOs than before, now.
    pub fn exceeded(self) -> Result<bool> {
        let (bos, bytes) = debugfs::gem_total()?;
        Ok(bos > self.0 .0 || bytes > self.0 .1)
    }

    /// Waits until there aren't more BOs than before. (A file that was closed before may have ended
    /// since.)
    pub fn restored(self) -> Outcome {
        eventually("BOs to go", || Ok(!self.exceeded()?)).or_else(|e| {
            let listing = debugfs::gem()?;
            bail!("{e:#}; BOs: {:?} before, now:\n{listing}", self.0)
        })
    }

    /// Waits until there are as many BOs as before, no more and no fewer. (In one look those are
    /// missing that somebody has locked.)
    pub fn unchanged(self) -> Outcome {
        let mut last = (0, 0);
        eventually("as many BOs as before", || {
            last = debugfs::gem_total()?;
            Ok(last == self.0)
        })
        .with_context(|| format!("BOs, and their bytes: {last:?}, not {:?}", self.0))
    }
}
