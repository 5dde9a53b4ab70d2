// SPDX-License-Identifier: GPL-2.0-only

//! A BO's pages come when they are first needed, whole or not at all, and go when memory is short
//! or the BO is freed.

use kernel::prelude::*;

use super::pin;
use crate::{
    ffi::{
        backing::Backing,
        bo::{
            Bo,
            BoLocked,
            Madv, //
        },
        effort::Effort,
        mappings::Unmapped,
        pages::Pages, //
    },
    gpuvm_rs::gem::ObjLocked, //
};

/// Sees to it that the BO has its pages. They stay while the lock is held, and after that while the
/// BO is pinned or somebody uses it ([`busy`](crate::ffi::mappings::busy)).
///
/// A BO that userspace needs less than `at_most` gets none.
///
/// # Errors
///
/// `EBUSY` for the madvise state, `ENOMEM` (see [`Effort::again`]), `EINTR` for a fatal signal.
/// Nothing has changed then: it can be tried again.
#[inline]
pub(crate) fn ensure(bo: &BoLocked<'_>, at_most: Madv, effort: &Effort) -> Result {
    if bo.madv() <= at_most && bo.is_backed() {
        return Ok(());
    }
    get(bo, at_most, effort)
}

/// Gets the pages of a BO that has none, or may not get any.
#[cold]
fn get(bo: &BoLocked<'_>, at_most: Madv, effort: &Effort) -> Result {
    let madv = bo.madv();
    if madv > at_most {
        bo.note(fmt!("the BO is {madv:?}"));
        return Err(EBUSY);
    }
    let backing = Backing::new(bo, effort).inspect_err(|e| bo.note(fmt!("no pages: {e:?}")))?;
    bo.publish(backing);
    bo.charge(bo.gem().size() as i64);
    bo.with_lru(pin::update);
    Ok(())
}

/// Gives the pages back. Their content stays in the shmem file, and so perhaps in swap.
///
/// Nothing may reach them any more: page tables, as `unmapped` says, and CPU mappings.
pub(crate) fn release(unmapped: Unmapped<'_>) {
    let bo = unmapped.bo();
    if release_last(unmapped) {
        bo.with_lru(pin::update);
    }
}

/// As [`release`], for a BO that is being freed: it leaves its LRU and no VM knows it. Returns
/// whether there were pages.
pub(crate) fn release_last(unmapped: Unmapped<'_>) -> bool {
    let bo = unmapped.bo();
    let Some(backing) = unmapped.take_backing() else {
        return false;
    };
    drop(backing);
    bo.charge(-(bo.gem().size() as i64));
    true
}

/// The BO's pages, allocated or brought back from swap if need be.
///
/// They stay while the lock is held, and after that as with [`ensure`].
///
/// # Errors
///
/// As [`ensure`]; `EINVAL` if another object is locked.
pub(crate) fn pages(bo: &Bo, locked: &ObjLocked<'_>, effort: &Effort) -> Result<Pages> {
    let locked = BoLocked::of(bo, locked).ok_or(EINVAL)?;
    ensure(&locked, Madv::WillNeed, effort)?;
    locked.pages()
}

/// Calls `f` with a BO locked that has its pages.
///
/// # Errors
///
/// As [`ensure`], `EINTR`, those of `f`.
pub(crate) fn with_pages<R>(bo: &Bo, f: impl FnOnce(&BoLocked<'_>) -> Result<R>) -> Result<R> {
    let mut again = false;
    loop {
        let effort = Effort::begin(again)?;
        // Of a private BO this is its VM's lock.
        let locked = bo.lock_interruptible()?;
        match ensure(&locked, Madv::WillNeed, &effort) {
            Ok(()) => return f(&locked),
            Err(e) => again = effort.again(e)?,
        }
    }
}

/// As [`with_pages`], if nothing has to be waited for: neither the lock nor memory. Otherwise
/// returns `None`.
///
/// # Errors
///
/// As [`ensure`], those of `f`.
pub(crate) fn with_pages_now<R>(
    bo: &Bo,
    f: impl FnOnce(&BoLocked<'_>) -> Result<R>,
) -> Result<Option<R>> {
    let effort = Effort::begin(false)?;
    let Some(locked) = bo.try_lock() else {
        return Ok(None);
    };
    match ensure(&locked, Madv::WillNeed, &effort) {
        Ok(()) => f(&locked).map(Some),
        Err(e) => effort.again(e).map(|_| None),
    }
}

/// Gets the pages and pins them.
///
/// # Errors
///
/// As [`ensure`].
pub(crate) fn pin_pages(bo: &BoLocked<'_>) -> Result {
    ensure(bo, Madv::WillNeed, &Effort::few_locks())?;
    bo.with_lru(pin::pin);
    Ok(())
}
