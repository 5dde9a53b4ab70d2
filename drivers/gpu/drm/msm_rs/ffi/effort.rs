// SPDX-License-Identifier: GPL-2.0-only

//! What a task does for pages while it holds locks that reclaim needs.
//!
//! Reclaim only tries locks. Who waits for memory with a VM locked keeps in memory whatever is
//! mapped there; and if everybody does that, there is nothing left to reclaim, however idle the BOs
//! are. So who holds the locks of many objects takes what is free. If that isn't enough, it drops
//! them all and waits for its turn: one task at a time may reclaim memory with such locks held, and
//! those that wait hold none.

use core::marker::PhantomData;

use kernel::{
    error::to_result,
    prelude::*, //
};

use super::bindings;

/// What a task does for pages. Dropping it ends the task's turn, if it has it: as soon as the pages
/// are there, for what comes then may take long.
///
/// # Invariants
///
/// With [`Kind::Turn`] the task holds the mutex.
pub(crate) struct Effort {
    kind: Kind,
    /// A mutex belongs to a task.
    _not_send: PhantomData<*mut ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It takes what is free.
    NoWait,
    /// It reclaims, and has the turn.
    Turn,
    /// It reclaims.
    FewLocks,
}

impl Effort {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            _not_send: PhantomData,
        }
    }

    /// Begins an attempt. No resv is held, nor a lock that reclaim takes. At first `again` is
    /// false, then what [`Self::again`] says.
    ///
    /// # Errors
    ///
    /// `EINTR` for a fatal signal. Another one might come again and again, and have the task never
    /// get its turn.
    pub(crate) fn begin(again: bool) -> Result<Self> {
        if !again {
            return Ok(Self::new(Kind::NoWait));
        }
        // SAFETY: Has no preconditions.
        to_result(unsafe { bindings::msm_rs_memory_lock() })?;
        // INVARIANT: Just locked.
        Ok(Self::new(Kind::Turn))
    }

    /// For a task that has locked the object that the pages are for, and one VM at most, which is
    /// the kernel's or the display's.
    pub(crate) fn few_locks() -> Self {
        Self::new(Kind::FewLocks)
    }

    /// Says how an attempt goes on that has failed with `error`: with another one, for which
    /// [`Self::begin`] is called when all locks are dropped.
    ///
    /// # Errors
    ///
    /// `error`, if another attempt is of no use.
    pub(crate) fn again(&self, error: Error) -> Result<bool> {
        if error == ENOMEM && self.kind == Kind::NoWait {
            Ok(true)
        } else {
            Err(error)
        }
    }

    /// Whether the task reclaims memory if none is free, for as long as there is progress.
    pub(super) fn may_wait(&self) -> bool {
        self.kind != Kind::NoWait
    }
}

impl Drop for Effort {
    fn drop(&mut self) {
        if self.kind == Kind::Turn {
            // SAFETY: Locked by this task, by the type invariant.
            unsafe { bindings::msm_rs_memory_unlock() };
        }
    }
}
