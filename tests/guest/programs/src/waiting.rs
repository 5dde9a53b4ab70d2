// SPDX-License-Identifier: GPL-2.0-only

//! A bind that waits until the test lets it run, and what becomes of BOs meanwhile.

use crate::{eventually, pattern, Gpu, PATIENCE};
use harness::{ensure, ensure_eq, Context, Outcome, Result};
use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
};
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    debugfs, Bo, Device, HeldFence, SyncFile, VmBind, PAGE,
};

/// A bind job that waits for a fence, which is held until [`Waiting::run`].
#[derive(Debug)]
pub struct Waiting {
    held: HeldFence,
    job: SyncFile,
}

impl Waiting {
    /// Sends a bind that waits.
    pub fn send(bind: VmBind<'_>) -> Result<Self> {
        let held = HeldFence::new().context("held fence")?;
        let job = bind
            .after(held.file())
            .send()
            .context("a bind that waits")?;
        Ok(Self { held, job })
    }

    /// The job's fence.
    pub fn job(&self) -> &SyncFile {
        &self.job
    }

    /// Lets it run, without waiting until it has.
    pub fn let_go(self) -> Result<SyncFile> {
        self.held.signal().context("the fence was held")?;
        Ok(self.job)
    }

    /// Lets it run, and waits until it has.
    pub fn run(self) -> Outcome {
        self.let_go()?
            .wait(PATIENCE)
            .context("the bind that waited")
    }
}

/// Marks a BO as not needed, has the shrinker run, and says whether the pages are still there.
///
/// That is for those that have to be kept. The shrinker passes over what is locked for a moment:
/// that a BO is purged which nobody uses, [`check_unpinned`](crate::check_unpinned) waits for.
pub fn purge(bo: &Bo) -> Result<bool> {
    bo.madvise(MSM_MADV_DONTNEED).context("DONTNEED")?;
    debugfs::shrink(1 << 20).context("debugfs shrink")?;
    bo.madvise(MSM_MADV_WILLNEED).context("WILLNEED")
}

/// How many pages BOs have, or are large, that `device` has handles of: "resident" or "total". No
/// BO is missing.
pub fn pages_of(device: &Device, which: &str) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", device.as_fd().as_raw_fd());
    let text = fs::read_to_string(&path).context(path)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("drm-{which}-memory:")));
    // None is printed if there are none.
    let mut words = line.unwrap_or("0").split_whitespace();
    let number: u64 = words.next().context("no number")?.parse()?;
    Ok(match words.next() {
        Some("KiB") => number << 10,
        Some("MiB") => number << 20,
        _ => number,
    } / PAGE)
}

/// Has the shrinker run until none of the BOs that `device` has handles of has pages. Returns how
/// many pages it says it has freed.
pub fn swap_out(device: &Device) -> Result<u64> {
    let mut freed = 0;
    eventually("all idle BOs to be swapped out", || {
        freed += debugfs::shrink(1 << 20).context("debugfs shrink")?;
        Ok(pages_of(device, "resident")? == 0)
    })?;
    Ok(freed)
}

/// A BO of [`Gpu::bo`]'s content that is mapped at the start of the test's part of a VM.
#[derive(Debug)]
pub struct Mapped<'a> {
    gpu: &'a Gpu,
    tag: u32,
    /// The BO.
    pub bo: Bo,
}

impl<'a> Mapped<'a> {
    /// Maps a BO that has the content of `tag`.
    pub fn new(gpu: &'a Gpu, tag: u32, bo: Bo) -> Result<Self> {
        gpu.map(&bo, gpu.iova(0))?;
        Ok(Self { gpu, tag, bo })
    }

    /// The GPU reaches the pages: at the start, in the middle, at the end.
    pub fn still_there(&self) -> Outcome {
        let pages = self.bo.size() / PAGE;
        for page in [0, pages / 2, pages - 1] {
            ensure_eq!(
                self.gpu.read(self.gpu.iova(page * PAGE), 1)?,
                [pattern(self.tag, page as usize * 1024)],
                "page {page} while a bind waits"
            );
        }
        Ok(())
    }

    /// While a bind waits that takes pages away, they are kept, though memory is short and the BO
    /// isn't needed.
    pub fn kept_under_pressure(&self) -> Outcome {
        ensure!(
            purge(&self.bo)?,
            "purged while page tables still lead to the pages"
        );
        self.still_there()
    }
}

/// A BO that was never mapped has what [`Gpu::bo`] put into it: had others' pages been freed while
/// the GPU wrote to them, they might be its own by now.
pub fn untouched(foreign: &Bo, tag: u32) -> Outcome {
    let map = foreign.map()?;
    for page in 0..foreign.size() / PAGE {
        let index = page as usize * 1024;
        ensure_eq!(
            map.read(index),
            pattern(tag, index),
            "page {page} of a BO that was never mapped"
        );
    }
    Ok(())
}
