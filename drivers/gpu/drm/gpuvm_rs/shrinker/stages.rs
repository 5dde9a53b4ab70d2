// SPDX-License-Identifier: GPL-2.0-only

//! What a shrinker does first, and how much of it: decisions without a kernel, compiled for the
//! host as well.

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

/// What becomes of the content of an object whose pages are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nobody needs it: it is gone.
    Purge,
    /// It goes where it can be brought back from.
    Swap,
}

/// One pass over the objects of one fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stage {
    /// Which objects are looked at.
    pub fate: Fate,
    /// Whether those that are in use are waited for; otherwise they are left alone.
    pub waits: bool,
}

/// All stages, the cheapest first.
pub const STAGES: [Stage; 4] = [
    Stage {
        fate: Fate::Purge,
        waits: false,
    },
    Stage {
        fate: Fate::Swap,
        waits: false,
    },
    Stage {
        fate: Fate::Purge,
        waits: true,
    },
    Stage {
        fate: Fate::Swap,
        waits: true,
    },
];

/// What is asked of one scan.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// How many pages.
    pub pages: u64,
    /// Whether content may be swapped out.
    pub may_swap: bool,
    /// Whether the scan may wait for objects that are in use.
    pub may_wait: bool,
}

impl Request {
    /// Whether the request allows for `stage`.
    pub fn allows(&self, stage: Stage) -> bool {
        (self.may_swap || stage.fate == Fate::Purge) && (self.may_wait || !stage.waits)
    }
}

/// How many pages each of [`STAGES`] has freed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Freed(pub [u64; STAGES.len()]);

impl Freed {
    /// By all stages.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// By the stages of one fate.
    pub fn by(&self, fate: Fate) -> u64 {
        let stages = STAGES.iter().zip(self.0);
        stages
            .filter(|(stage, _)| stage.fate == fate)
            .map(|(_, pages)| pages)
            .sum()
    }
}

/// Pages that were swapped out though nobody asked for them: objects go whole, and reclaim asks for
/// a few pages at a time, from several tasks at once.
///
/// What is swapped out is paid for with what later scans would swap out, so that in the long run no
/// more goes to swap than reclaim asks for.
#[derive(Debug, Default)]
pub struct Surplus(AtomicU64);

impl Surplus {
    /// No surplus.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes up to `pages` from the surplus; returns how many there were.
    pub fn pay(&self, pages: u64) -> u64 {
        let update = |left: u64| Some(left.saturating_sub(pages));
        match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update)
        {
            Ok(before) | Err(before) => before.min(pages),
        }
    }

    /// Adds pages that weren't asked for.
    pub fn add(&self, pages: u64) {
        self.0.fetch_add(pages, Ordering::Relaxed);
    }
}
