// SPDX-License-Identifier: GPL-2.0-only

//! Pages are taken away from BOs that are idle: swapped out, or thrown away.

use kernel::{
    prelude::*,
    warn_on, //
};

use super::{
    managed,
    vm_bind, //
};
use crate::{
    address_space::log::LogOp,
    bo::backing,
    ffi::{
        bo::{
            BoLocked,
            BoLru,
            Madv, //
        },
        mappings::AllMappings,
        trace, //
    },
    gpuvm_rs::shrinker::stages::Fate, //
};

/// What may be done with the pages: nothing if there are none, or they are pinned or somebody
/// else's.
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

/// When the BO was used last, in jiffies. In VM_BIND VMs a SUBMIT uses all that is mapped; what
/// else uses a BO puts it into an LRU anew: a SUBMIT that lists it, whoever brings its pages back.
pub(crate) fn last_use(bo: &BoLocked<'_>) -> u64 {
    let mut last = bo.placed();
    bo.each_bind_vm(|vm| last = last.max(vm.space().last_use()));
    last
}

/// Throws the content of a BO away that may be, and is idle. A kernel mapping that nobody uses
/// doesn't keep it. It never gets pages again.
///
/// # Errors
///
/// As [`evict`].
pub(crate) fn purge(bo: &AllMappings<'_>) -> Result {
    take_away(bo, Fate::Purge, LogOp::Purge)?;
    bo.with_lru(|lru| lru.set_madv(Madv::Purged));
    bo.forget_content();
    trace::purge(bo);
    Ok(())
}

/// Lets the pages of a BO be swapped out that may be, and is idle. Whoever needs them next gets
/// them back.
///
/// # Errors
///
/// `EBUSY` if somebody changes page tables that lead to it, if a VM that maps it is closing and the
/// GPU hasn't ended what it does for that, or if that isn't its fate. It has its pages and all of
/// its content.
pub(crate) fn evict(bo: &AllMappings<'_>) -> Result {
    take_away(bo, Fate::Swap, LogOp::Evict)?;
    trace::evict(bo);
    Ok(())
}

/// Unmaps a BO everywhere and gives its pages back. Errors as [`evict`].
fn take_away(bo: &AllMappings<'_>, expected: Fate, op: LogOp) -> Result {
    // Before anything is unmapped that would have to be mapped again.
    bo.each_bind(vm_bind::as_in_tree)?;
    bo.unmap_for_kernel();
    if warn_on!(bo.with_lru(fate) != Some(expected)) {
        return Err(EBUSY);
    }
    let unmapped = bo.unmap_each(
        |vm, va| {
            managed::unmap_managed(vm, va, op);
            Ok(())
        },
        |vm, va| vm_bind::unmap_bind(vm, va, op),
    )?;
    bo.unmap_for_users();
    backing::release(unmapped);
    Ok(())
}
