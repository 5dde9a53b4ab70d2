// SPDX-License-Identifier: GPL-2.0-only

//! What jobs that haven't run yet may hold: page tables that are allocated in advance, and a place
//! in the VM's list of pending jobs.
//!
//! # Tables
//!
//! They are limited for jobs that *wait*: for an in-fence that hasn't signalled when the job is
//! asked for, or behind a job of the VM that waits. The tables of all others are in use, as page
//! tables, as soon as a worker has time; that is memory like any other, charged to the client.
//!
//! There is a cap for all VMs of a device together. It is hard: a request waits until its tables
//! fit beside those in flight, however many threads and files ask, and holds none meanwhile. It is
//! twice as many tables as mapping all of RAM once takes; one VM may have half of that, since no
//! sane request needs more, and a request that needs more is refused.
//!
//! Nobody starves. What is in flight is given back when its job has run or was cancelled: when the
//! fences that the job waits for have signalled, which fences do. Requests get their room in the
//! order in which they came, so a large one isn't passed by small ones for ever, and what a VM has
//! in flight or in the line is no more than half of the cap, so that it can't fill the line,
//! either.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::ffi::{
    self,
    gate::Gate, //
};

/// Pages that one table maps.
const PAGES_PER_TABLE: u64 = 512;

/// The share of a VM is never lower than this, in tables.
const MIN_SHARE: u64 = 1024;

/// How much may be pending in a VM, of jobs that wait and as much of jobs that don't, in ops. The
/// list of pending jobs is read with locks held that others wait for. It is twice what the largest
/// request has.
const MAX_PENDING: u64 = 1 << 17;

/// What a job counts for beside its ops: no more than 2 Ki jobs of either kind are pending.
const JOB: u64 = 63;

/// How many tables one VM may have in flight.
fn share() -> u64 {
    MIN_SHARE.max(ffi::total_ram_pages() / PAGES_PER_TABLE)
}

/// The gate for the tables of all VMs of a device.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn device_gate() -> Result<Arc<Gate>> {
    Arc::pin_init(Gate::new(2 * share()), GFP_KERNEL)
}

/// What a VM has in flight.
#[pin_data]
pub(crate) struct Throttle {
    /// Ops of jobs that wait.
    #[pin]
    waiting: Gate,
    /// Ops of jobs that run as soon as a worker has time.
    #[pin]
    ready: Gate,
    /// Its tables.
    #[pin]
    own: Gate,
    /// Those of all VMs of its device.
    device: Arc<Gate>,
}

impl Throttle {
    /// A throttle with nothing in flight.
    pub(crate) fn new(device: Arc<Gate>) -> impl PinInit<Self> {
        pin_init!(Self {
            waiting <- Gate::new(MAX_PENDING),
            ready <- Gate::new(MAX_PENDING),
            own <- Gate::new(share()),
            device,
        })
    }

    /// How many tables the VM can have in flight.
    pub(crate) fn cap(&self) -> u64 {
        self.own.cap()
    }

    /// Waits until one more job of `ops` ops can be pending, and counts it in. The job `waits`, or
    /// runs as soon as a worker has time.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` for a signal; `ENOMEM` for more ops than there are ever room for.
    pub(crate) fn admit(self: &Arc<Self>, ops: usize, waits: bool) -> Result<Ticket> {
        let mut ticket = Ticket {
            throttle: self.clone(),
            waits,
            ops: 0,
            own: 0,
            device: 0,
        };
        let ops = ops as u64 + JOB;
        ticket.jobs().enter(ops)?;
        ticket.ops = ops;
        Ok(ticket)
    }
}

/// A job that counts as in flight until this is dropped, with tables that may be reserved for it.
pub(crate) struct Ticket {
    throttle: Arc<Throttle>,
    waits: bool,
    ops: u64,
    own: u64,
    device: u64,
}

impl Ticket {
    fn jobs(&self) -> &Gate {
        if self.waits {
            &self.throttle.waiting
        } else {
            &self.throttle.ready
        }
    }

    /// Whether its job waits, and so may have only as many tables as [`Self::wait_for_tables`] has
    /// waited for.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Waits until `tables` fit, instead of those that there was room for before.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if they can never fit, `ERESTARTSYS` for a signal. There is room for none then.
    pub(crate) fn wait_for_tables(&mut self, tables: u64) -> Result {
        self.leave();
        self.throttle.own.enter(tables)?;
        self.own = tables;
        self.throttle.device.enter(tables)?;
        self.device = tables;
        Ok(())
    }

    fn leave(&mut self) {
        let throttle = &self.throttle;
        throttle.device.leave(core::mem::take(&mut self.device));
        throttle.own.leave(core::mem::take(&mut self.own));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
        self.jobs().leave(self.ops);
    }
}
