// SPDX-License-Identifier: GPL-2.0-only

//! Walking an LRU without holding its lock.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};

use super::{
    gem::GemObject,
    graveyard::{
        Graveyard,
        Visited, //
    },
    lru::{
        Lru,
        LruGuard, //
    },
};
use crate::bindings;

/// A walk along an LRU that holds the lock between two objects only.
///
/// What was visited waits on a list of the walk's own and goes to the LRU's end when the walk ends,
/// unless it was moved to an LRU meanwhile: what is left where it was is in use, mostly.
///
/// # Invariants
///
/// `dev` is alive for `'a`.
#[pin_data(PinnedDrop)]
pub struct Walk<'a> {
    dev: *mut bindings::drm_device,
    lru: &'a Lru,
    graveyard: &'a Graveyard,
    /// How many pages there are still to visit: objects that come meanwhile, or again, don't make
    /// the walk endless.
    left: u64,
    #[pin]
    visited: Lru,
}

impl<'a> Walk<'a> {
    /// A walk along `lru`.
    pub fn new(lru: &'a Lru, graveyard: &'a Graveyard) -> impl PinInit<Self> + 'a {
        // INVARIANT: A graveyard is borrowed no longer than its device is alive.
        pin_init!(Self {
            dev: graveyard.device(),
            lru,
            graveyard,
            left: lru.pages(),
            visited <- Lru::init(),
        })
    }

    /// The next object. No lock is held.
    pub fn next(self: Pin<&mut Self>) -> Option<Visited<'a>> {
        let this = self.project();
        // SAFETY: By the type invariant.
        let locked = unsafe { LruGuard::new(*this.dev) };
        while *this.left > 0 {
            let raw = this.lru.first(&locked)?;
            // SAFETY: On the list, hence in memory while the lock is held.
            let size = unsafe { (*raw).size } as u64;
            *this.left = this.left.saturating_sub(size >> PAGE_SHIFT);
            // SAFETY: As above. An object whose last reference is gone waits for the lock to leave
            // its LRU; it does so from the walk's as well.
            unsafe { bindings::drm_gem_lru_move_tail_locked(this.visited.as_raw(), raw) };
            // SAFETY: As above.
            if unsafe { bindings::gpuvm_rs_obj_get_unless_zero(raw) } {
                // SAFETY: We own a reference.
                let obj = unsafe { GemObject::from_raw(raw) };
                // SAFETY: That reference is given up. Its LRU is the device's, as the graveyard is.
                return Some(unsafe { Visited::new(obj, this.graveyard) });
            }
        }
        None
    }
}

#[pinned_drop]
impl PinnedDrop for Walk<'_> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        // SAFETY: The device is alive, by the type invariant.
        let _locked = unsafe { LruGuard::new(*this.dev) };
        // SAFETY: Both LRUs are the device's, whose lock is held.
        unsafe { bindings::gpuvm_rs_lru_splice_tail(this.visited.as_raw(), this.lru.as_raw()) };
    }
}
