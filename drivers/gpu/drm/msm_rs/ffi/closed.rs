// SPDX-License-Identifier: GPL-2.0-only

//! How many closed VM_BIND VMs there are.
//!
//! Nobody waits for a VM to end: its file is closed, and what is left of it stays until the fences
//! that its jobs waited for have signalled, outside of everybody's resource limits. So there is a
//! limit to how many there may be, which is felt by whoever wants a new VM. It is one for all
//! devices: what it limits is memory.

use core::sync::atomic::{
    AtomicBool,
    AtomicUsize,
    Ordering, //
};

use kernel::prelude::*;

/// While there are so many, there is no new VM. A VM is some kilobytes, as far as it isn't charged
/// to its process.
pub(crate) const MAX: usize = 1024;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Whether a VM was closed. It counts until it is dropped.
pub(crate) struct Closed(AtomicBool);

impl Closed {
    /// Of a new VM.
    pub(crate) const fn not_yet() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Whether there may be another VM.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there are too many closed ones.
    pub(crate) fn room() -> Result {
        if COUNT.load(Ordering::Relaxed) >= MAX {
            return Err(ENOMEM);
        }
        Ok(())
    }

    /// The VM is being closed.
    pub(crate) fn set(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if *self.0.get_mut() {
            COUNT.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
