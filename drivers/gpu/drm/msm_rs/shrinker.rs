// SPDX-License-Identifier: GPL-2.0-only

//! What BOs give back when memory is short, and when kernel addresses are.
//!
//! The mechanism is [`gpuvm_rs::shrinker`](crate::gpuvm_rs::shrinker)'s; here is what is the
//! driver's own.

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    ffi::{
        bo::{
            BoLocked,
            BoLru, //
        },
        jiffies,
        lrus::{
            self,
            Lrus, //
        },
        mappings::{
            self,
            AllMappings, //
        },
    },
    gpuvm_rs::{
        fence::Fence,
        gem::ObjLocked,
        lru::{
            Lru,
            LruLocked, //
        },
        shrinker::{
            self,
            stages::{
                Fate,
                Freed,
                LastUse,
                Request, //
            },
        },
        trylock::AllLocked, //
    },
    mapping::reclaim, //
};

/// The device's shrinker.
pub(crate) type Shrinker = shrinker::Shrinker<Lrus>;

impl shrinker::Driver for Lrus {
    fn lru(&self, fate: Fate) -> &Lru {
        match fate {
            Fate::Purge => self.dontneed(),
            Fate::Swap => self.willneed(),
        }
    }

    fn swap_room(&self) -> u64 {
        lrus::swap_room()
    }

    fn fate(&self, obj: &ObjLocked<'_>, lru: &LruLocked<'_>) -> Option<Fate> {
        fate(obj, lru)
    }

    fn busy(&self, obj: &ObjLocked<'_>) -> Option<ARef<Fence>> {
        mappings::busy(&BoLocked::of_object(obj)?)
    }

    fn last_use(&self, obj: &ObjLocked<'_>) -> LastUse {
        LastUse(BoLocked::of_object(obj).map_or(0, |bo| reclaim::last_use(&bo)))
    }

    fn now(&self) -> LastUse {
        LastUse(jiffies())
    }

    fn evict(&self, obj: &AllLocked<'_>, fate: Fate) -> Result {
        evict(obj, fate)
    }

    fn scanned(&self, asked: u64, freed: &Freed) {
        lrus::trace_shrink(asked, freed);
    }
}

/// What may be done with the BO's pages when memory is short.
pub(crate) fn fate(obj: &ObjLocked<'_>, lru: &LruLocked<'_>) -> Option<Fate> {
    reclaim::fate(&BoLru::of(&BoLocked::of_object(obj)?, lru)?)
}

/// Takes the BO's mappings away, then its pages. It is idle and not pinned.
///
/// # Errors
///
/// `EBUSY` as [`reclaim::evict`]. It has its pages and all of its content.
pub(crate) fn evict(obj: &AllLocked<'_>, fate: Fate) -> Result {
    let bo = AllMappings::of(obj).ok_or(EINVAL)?;
    match fate {
        Fate::Purge => reclaim::purge(&bo),
        Fate::Swap => reclaim::evict(&bo),
    }
}

/// Takes the BO's kernel mapping away, if there is one and nobody uses it. Returns whether that was
/// so.
pub(crate) fn vunmap(obj: &ObjLocked<'_>) -> bool {
    BoLocked::of_object(obj).is_some_and(|bo| bo.unmap_for_kernel())
}

/// Frees pages for debugfs' `shrink` file: idle BOs only, as much as is asked for. Returns how many
/// pages it was.
pub(crate) fn on_request(shrinker: &Shrinker, pages: u64) -> u64 {
    let request = Request {
        pages,
        may_swap: true,
        may_wait: false,
    };
    shrinker::as_reclaim(|| shrinker.scan(&request)).total()
}

/// How many kernel mappings are taken away at a time. Whoever is short of addresses asks again if
/// that wasn't enough.
const VMAPS_AT_ONCE: u32 = 15;

/// Kernel addresses are short: takes away mappings that nobody uses. Returns how many.
///
/// The task may hold the lock of any BO.
pub(crate) fn purge_vmaps(shrinker: &Shrinker) -> u32 {
    let of_device = shrinker.driver();
    let mut purged = 0;
    for lru in [
        of_device.dontneed(),
        of_device.willneed(),
        of_device.pinned(),
    ] {
        pin_init::stack_pin_init!(let walk = shrinker.walk(lru));
        while purged < VMAPS_AT_ONCE {
            let Some(obj) = walk.as_mut().next() else {
                break;
            };
            purged += u32::from(obj.try_lock().is_some_and(|obj| vunmap(&obj)));
        }
    }
    if purged > 0 {
        lrus::trace_purge_vmaps(purged);
    }
    purged
}
