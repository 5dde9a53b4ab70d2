// SPDX-License-Identifier: GPL-2.0-only

//! What the programs share.

pub mod asleep;
mod census;
pub mod console;
pub mod fault;
mod gpu;
pub mod hang;
pub mod known;
mod legacy;
pub mod model;
pub mod orders;
pub mod recorded;
pub mod screen;
mod tolerance;
mod waiting;

pub use census::Census;
pub use gpu::{pattern, Gpu};
pub use legacy::Legacy;
pub use tolerance::Tolerance;
pub use waiting::{pages_of, purge, swap_out, untouched, Mapped, Waiting};

use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    debugfs, Bo, PAGE,
};

/// How long anything may take that isn't held back on purpose.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A context that is made now can map, write and read; `tag` tells its BO from others.
pub fn works(tag: u32) -> harness::Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(tag, 2 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.write(gpu.iova(PAGE), &[tag])?;
    harness::ensure_eq!(
        gpu.read(gpu.iova(PAGE), 2)?,
        [tag, pattern(tag, 1025)],
        "a new context"
    );
    Ok(())
}

/// A BO that nobody pins any more can be purged.
pub fn check_unpinned(bo: &Bo) -> harness::Outcome {
    bo.madvise(MSM_MADV_DONTNEED)?;
    eventually("the BO to be purged", || {
        debugfs::shrink(1 << 20)?;
        Ok(!bo.madvise(MSM_MADV_WILLNEED)? || bo.madvise(MSM_MADV_DONTNEED).map(|_| false)?)
    })
}

/// Waits until something that the kernel does when it has time for it has happened. A busy machine
/// may stop this one between two looks, so that it has had time only if there were many.
pub fn eventually(what: &str, mut done: impl FnMut() -> harness::Result<bool>) -> harness::Outcome {
    let end = Instant::now() + PATIENCE;
    let mut looks = 0;
    while !done()? {
        looks += 1;
        harness::ensure!(
            looks < 50 || Instant::now() < end,
            "waited {PATIENCE:?} for {what}"
        );
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
