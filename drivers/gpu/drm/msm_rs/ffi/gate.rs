// SPDX-License-Identifier: GPL-2.0-only

//! A counted limit that lets tasks in first come, first served.

use kernel::{
    new_condvar, new_spinlock,
    prelude::*,
    sync::{
        CondVar,
        SpinLock, //
    },
};

use super::line::Line;

/// Lets in as many of something as there is room for, in the order in which they come.
#[pin_data]
pub(crate) struct Gate {
    cap: u64,
    #[pin]
    line: Line,
    #[pin]
    state: SpinLock<GateState>,
    #[pin]
    left: CondVar,
}

struct GateState {
    inside: u64,
    /// How many requests are in the line.
    waiting: u32,
}

impl Gate {
    /// With room for `cap`.
    pub(crate) fn new(cap: u64) -> impl PinInit<Self> {
        pin_init!(Self {
            cap,
            line <- Line::new(),
            state <- new_spinlock!(GateState { inside: 0, waiting: 0 }, "msm_rs::gate"),
            left <- new_condvar!("msm_rs::gate"),
        })
    }

    /// How many can be inside.
    pub(crate) fn cap(&self) -> u64 {
        self.cap
    }

    /// Waits until `nr` more fit, and counts them in.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if they can never fit, `ERESTARTSYS` for a signal.
    pub(crate) fn enter(&self, nr: u64) -> Result {
        if nr > self.cap {
            return Err(ENOMEM);
        }
        {
            let mut state = self.state.lock();
            if state.waiting == 0 && state.inside + nr <= self.cap {
                state.inside += nr;
                return Ok(());
            }
            state.waiting += 1;
        }
        let result = self.wait(nr);
        self.state.lock().waiting -= 1;
        result
    }

    #[cold]
    fn wait(&self, nr: u64) -> Result {
        let _turn = self.line.wait()?;
        let mut state = self.state.lock();
        while state.inside + nr > self.cap {
            if self.left.wait_interruptible(&mut state) {
                return Err(ERESTARTSYS);
            }
        }
        state.inside += nr;
        Ok(())
    }

    /// Undoes an [`Self::enter`].
    pub(crate) fn leave(&self, nr: u64) {
        if nr == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.inside -= nr;
        if state.waiting > 0 {
            self.left.notify_all();
        }
    }
}
