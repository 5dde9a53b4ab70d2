// SPDX-License-Identifier: GPL-2.0-only

//! Pages are taken away from BOs that are idle: swapped out, or thrown away.

use kernel::warn_on;

use super::{
    backing,
    vmap,
    Madv, //
};
use crate::{
    ffi::{
        bo::BoLru,
        mappings::AllMappings, //
    },
    gpuvm_rs::shrinker::stages::Fate,
    vm_log::LogOp,
};

/// What may be done with the pages: nothing if there are none, or they are pinned or somebody else's.
pub(crate) fn fate(lru: &BoLru<'_>) -> Option<Fate> {
    let bo = lru.bo();
    if !bo.is_backed() || lru.pin_count() != 0 || bo.gem().is_imported() {
        return None;
    }
    match lru.madv() {
        Madv::WillNeed => Some(Fate::Swap),
        Madv::DontNeed => Some(Fate::Purge),
        Madv::Purged => None,
    }
}

/// Throws the content of a BO away that may be, and is idle. A kernel mapping that nobody uses doesn't keep it. It never gets pages again.
pub(crate) fn purge(bo: &AllMappings<'_>) {
    if take_away(bo, Fate::Purge, LogOp::Purge) {
        bo.with_lru(|lru| lru.set_madv(Madv::Purged));
        bo.forget_content();
    }
}

/// Lets the pages of a BO be swapped out that may be, and is idle. Whoever needs them next gets them back.
pub(crate) fn evict(bo: &AllMappings<'_>) {
    take_away(bo, Fate::Swap, LogOp::Evict);
}

/// Unmaps a BO everywhere and gives its pages back. Returns whether it did: nothing is done if that isn't its fate.
fn take_away(bo: &AllMappings<'_>, expected: Fate, op: LogOp) -> bool {
    vmap::unmap(bo);
    if warn_on!(bo.with_lru(fate) != Some(expected)) {
        return false;
    }
    bo.unmap(op);
    bo.unmap_for_users();
    backing::release(bo);
    true
}
