// SPDX-License-Identifier: GPL-2.0-only

//! Tasks that wait for their turn, first come first served.

use core::marker::PhantomData;

use kernel::{
    prelude::*,
    types::Opaque, //
};

use super::bindings;

/// A line: one task at a time is at its head. The kernel's semaphores keep the order; its mutexes
/// don't.
#[pin_data]
pub(crate) struct Line {
    #[pin]
    raw: Opaque<bindings::semaphore>,
}

// SAFETY: A semaphore locks for itself.
unsafe impl Send for Line {}
// SAFETY: As above.
unsafe impl Sync for Line {}

impl Line {
    /// An empty line.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: Initialises all of it.
            raw <- Opaque::ffi_init(|slot| unsafe { bindings::msm_rs_line_init(slot) }),
        })
    }

    /// Waits until everybody who came before has had a turn.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` for a signal: the place in the line is lost.
    pub(crate) fn wait(&self) -> Result<Turn<'_>> {
        // SAFETY: Initialised in `new()`, and pinned.
        if unsafe { bindings::down_interruptible(self.raw.get()) } != 0 {
            return Err(ERESTARTSYS);
        }
        Ok(Turn(self, PhantomData))
    }
}

/// Being at the head of a line, until this is dropped.
pub(crate) struct Turn<'a>(&'a Line, PhantomData<*mut ()>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // SAFETY: From `Line::wait()`.
        unsafe { bindings::up(self.0.raw.get()) };
    }
}
