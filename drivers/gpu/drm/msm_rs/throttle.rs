// SPDX-License-Identifier: GPL-2.0-only

//! What jobs that haven't run yet may hold: page tables that are allocated in advance.
//!
//! There is a cap for all VMs of a device together. It is hard: a request waits until its tables fit beside those in
//! flight, however many threads and files ask, and holds none meanwhile. It is twice as many tables as mapping all of RAM once
//! takes; one VM may have half of that, since no sane request needs more, and a request that needs more is refused.
//!
//! Nobody starves. What is in flight is given back when its job has run or was cancelled: when the fences that the job waits
//! for have signalled, which fences do. Requests get their room in the order in which they came, so a large one isn't
//! passed by small ones for ever, and what a VM has in flight or in the line is no more than half of the cap, so that it can't fill
//! the line, either.

use kernel::{
    new_condvar, new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        CondVar,
        SpinLock, //
    },
};

use crate::{
    ffi::{
        self,
        line::Line,
        vm::Bind, //
    },
    gpuvm_rs::vm::GpuVm,
};

/// Pages that one table maps.
const PAGES_PER_TABLE: u64 = 512;

/// The share of a VM is never lower than this, in tables.
const MIN_SHARE: u64 = 1024;

/// How many tables one VM may have in flight.
fn share() -> u64 {
    MIN_SHARE.max(ffi::total_ram_pages() / PAGES_PER_TABLE)
}

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
    fn new(cap: u64) -> impl PinInit<Self> {
        pin_init!(Self {
            cap,
            line <- Line::new(),
            state <- new_spinlock!(GateState { inside: 0, waiting: 0 }, "msm_rs::gate"),
            left <- new_condvar!("msm_rs::gate"),
        })
    }

    /// The gate for the tables of all VMs of a device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn of_device() -> Result<Arc<Self>> {
        Arc::pin_init(Self::new(2 * share()), GFP_KERNEL)
    }

    /// Waits until `nr` more fit, and counts them in.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if they can never fit, `ERESTARTSYS` for a signal.
    fn enter(&self, nr: u64) -> Result {
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
    fn leave(&self, nr: u64) {
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

/// What a VM has in flight.
#[pin_data]
pub(crate) struct Throttle {
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
            own <- Gate::new(share()),
            device,
        })
    }

    /// How many tables the VM can have in flight.
    pub(crate) fn cap(&self) -> u64 {
        self.own.cap
    }

    /// Waits until `tables` more fit, and counts them in.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if they can never fit, `ERESTARTSYS` for a signal.
    pub(crate) fn acquire(vm: &GpuVm<Bind>, tables: u64) -> Result<Ticket> {
        let this = &vm.state().throttle;
        let mut ticket = Ticket {
            vm: vm.into(),
            own: 0,
            device: 0,
        };
        this.own.enter(tables)?;
        ticket.own = tables;
        this.device.enter(tables)?;
        ticket.device = tables;
        Ok(ticket)
    }
}

/// Tables that count as in flight until this is dropped.
pub(crate) struct Ticket {
    vm: ARef<GpuVm<Bind>>,
    own: u64,
    device: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let throttle = &self.vm.state().throttle;
        throttle.device.leave(self.device);
        throttle.own.leave(self.own);
    }
}
