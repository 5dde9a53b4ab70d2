// SPDX-License-Identifier: GPL-2.0-only

//! What the driver tells through its tracepoints.

use harness::{Context, Result};
use std::{fs, io::ErrorKind, path::Path};

const TRACING: &str = "/sys/kernel/debug/tracing";

/// The tracepoint at the end of a bind job, which says how many page tables were allocated in
/// advance. Off again when dropped.
///
/// It comes once per job for which any were.
pub struct PreallocCleanup;

impl PreallocCleanup {
    /// Switches it on, with an empty trace.
    pub fn new() -> Result<Self> {
        fs::write(Path::new(TRACING).join("trace"), "").context("the trace buffer")?;
        Self::switch(true).context("tracepoint msm_mmu_prealloc_cleanup")?;
        Ok(Self)
    }

    fn switch(on: bool) -> std::io::Result<()> {
        let events = Path::new(TRACING).join("events");
        let enable = fs::read_dir(events)?
            .filter_map(|system| Some(system.ok()?.path().join("msm_mmu_prealloc_cleanup/enable")))
            .find(|enable| enable.exists())
            .ok_or(ErrorKind::NotFound)?;
        fs::write(enable, if on { "1" } else { "0" })
    }

    /// The tables that all jobs since [`new`](Self::new) have reserved; `None` if nothing was told.
    pub fn reserved(&self) -> Result<Option<u64>> {
        let text = fs::read_to_string(Path::new(TRACING).join("trace")).context("the trace")?;
        let mut counts = text
            .lines()
            .filter_map(|line| line.split_once("msm_mmu_prealloc_cleanup: count="))
            .map(|(_, rest)| rest.split(',').next().unwrap_or(rest).parse::<u64>())
            .peekable();
        if counts.peek().is_none() {
            return Ok(None);
        }
        let sum = counts
            .sum::<std::result::Result<u64, _>>()
            .context("an event of msm_mmu_prealloc_cleanup")?;
        Ok(Some(sum))
    }
}

impl Drop for PreallocCleanup {
    fn drop(&mut self) {
        let _ = Self::switch(false);
    }
}
