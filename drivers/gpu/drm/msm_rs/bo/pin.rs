// SPDX-License-Identifier: GPL-2.0-only

//! Pins, which keep a BO's pages where they are, and the LRU that follows from pins, pages and
//! madvise state.

use kernel::warn_on;

use crate::ffi::bo::{
    Bo,
    BoLocked,
    BoLru,
    Kept,
    Lru,
    LruState,
    Madv,
    Retiring, //
};

/// Pins the pages that the BO has.
pub(crate) fn pin(lru: &BoLru<'_>) {
    lru.set_pin_count(lru.pin_count().saturating_add(1));
    lru.move_to(Lru::Pinned);
}

/// Keeps the BO's pages what they are, if it has any: neither swapped out nor purged. For pages to
/// which page tables may lead although no VMA says so any more.
pub(crate) fn keep(bo: &BoLocked<'_>) -> Option<Kept> {
    bo.with_lru(|lru| {
        let kept = Kept::new(lru)?;
        lru.move_to(Lru::Pinned);
        Some(kept)
    })
}

/// Undoes [`keep`] of the same BO. Takes the LRU lock; may be called on the fence-signalling path.
pub(crate) fn let_go(bo: &Bo, kept: Kept) {
    bo.with_kept(kept, retire);
}

/// Undoes one [`pin`].
pub(crate) fn unpin(lru: &BoLru<'_>) {
    count_down(lru);
    update(lru);
}

/// Undoes one [`pin`] on the fence-signalling path.
pub(crate) fn retire(bo: &Retiring<'_>) {
    count_down(bo);
    place(bo);
}

/// Sets the madvise state, unless the BO was purged. Returns whether its content is still there.
pub(crate) fn madvise(bo: &BoLocked<'_>, madv: Madv) -> bool {
    bo.with_lru(|lru| {
        if lru.madv() == Madv::Purged {
            return false;
        }
        lru.set_madv(madv);
        update(lru);
        madv != Madv::Purged
    })
}

/// Moves the BO to where it belongs now.
pub(super) fn update(lru: &BoLru<'_>) {
    if lru.bo().is_backed() {
        place(lru);
    } else {
        lru.move_to(Lru::Unbacked);
    }
}

fn count_down(bo: &LruState<'_>) {
    let count = bo.pin_count();
    if !warn_on!(count <= 0) {
        bo.set_pin_count(count - 1);
    }
}

/// For a BO with pages. Those of an imported one are its exporter's: reclaim needn't look at it.
fn place(bo: &LruState<'_>) {
    bo.move_to(if bo.pin_count() > 0 || bo.is_imported() {
        Lru::Pinned
    } else if bo.madv() == Madv::WillNeed {
        Lru::WillNeed
    } else {
        Lru::DontNeed
    });
}
