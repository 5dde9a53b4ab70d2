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
    vmap::unmap(bo);
    if warn_on!(bo.with_lru(fate) != Some(Fate::Purge)) {
        return;
    }
    bo.unmap(LogOp::Purge);
    bo.unmap_for_users();
    backing::release(bo);
    bo.with_lru(|lru| lru.set_madv(Madv::Purged));
    bo.forget_content();
}

/// Lets the pages of a BO be swapped out that may be, and is idle. Whoever needs them next gets them back.
pub(crate) fn evict(bo: &AllMappings<'_>) {
    vmap::unmap(bo);
    if warn_on!(bo.with_lru(fate) != Some(Fate::Swap)) {
        return;
    }
    bo.unmap(LogOp::Evict);
    bo.unmap_for_users();
    backing::release(bo);
}
