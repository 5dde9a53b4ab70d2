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

/// When something was used last, in a driver's own measure, of which more is later. 0 is before
/// all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LastUse(pub u64);

/// How often a scan looks through an LRU for what may be swapped out, at most.
pub const PASSES: u32 = 4;

/// Which objects a pass over an LRU leaves for a later one: those that were used too lately.
///
/// An LRU alone doesn't know how lately: it has the order in which objects got their pages, and a
/// VM's use moves none of its objects. So the first pass takes what was unused for as long as what
/// earlier scans took, and sees when the oldest of the rest was used. The second takes what is
/// about as old, the third what has half that age, and the last one anything. Ages go down by a
/// factor, so that few scans look at everything, however many different ages there are.
#[derive(Debug)]
pub struct Horizon {
    limit: LastUse,
    /// When the oldest of what was left was used; `None` if nothing was left.
    left: Option<LastUse>,
    pass: u32,
}

impl Horizon {
    /// For the first pass, which takes what was used at `limit` at the latest.
    pub const fn new(limit: LastUse) -> Self {
        Self {
            limit,
            left: None,
            pass: 1,
        }
    }

    /// For a single pass that takes anything.
    pub const fn none() -> Self {
        Self {
            limit: LastUse(u64::MAX),
            left: None,
            pass: PASSES,
        }
    }

    /// Whether an object is to be left that was used last at `used`.
    pub fn leaves(&mut self, used: LastUse) -> bool {
        let leaves = used > self.limit;
        if leaves {
            self.left = Some(self.left.map_or(used, |left| left.min(used)));
        }
        leaves
    }

    /// For another pass at the time `now`, if there is any use in one.
    pub fn next(&self, now: LastUse) -> Option<Self> {
        let left = self.left?;
        let age = now.0.saturating_sub(left.0);
        let limit = match self.pass {
            1 => LastUse(left.0 + age / 8),
            2 => LastUse(left.0 + age / 2),
            3 => LastUse(u64::MAX),
            _ => return None,
        };
        Some(Self {
            limit,
            left: None,
            pass: self.pass + 1,
        })
    }

    /// What a later scan may begin with, if this isn't for anything.
    pub fn limit(&self) -> Option<LastUse> {
        (self.limit.0 != u64::MAX).then_some(self.limit)
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
