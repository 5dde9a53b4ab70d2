// SPDX-License-Identifier: GPL-2.0-only

//! How many page tables may be allocated in advance, for jobs that haven't run yet.
//!
//! The cap is hard: a request waits until its tables fit beside those in flight, however many threads
//! ask, and a request that doesn't fit alone is refused. It is as many tables as mapping all of RAM
//! once takes, since no sane request needs more.

use kernel::{
    new_condvar, new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        CondVar,
        SpinLock, //
    },
};

use crate::{
    ffi::{
        self,
        vm::Bind, //
    },
    gpuvm_rs::vm::GpuVm,
};

/// Pages that one table maps.
const PAGES_PER_TABLE: u64 = 512;

/// No cap is lower than this, in tables.
const MIN_CAP: u64 = 1024;

/// The cap of a VM, and what is in flight.
#[pin_data]
pub(crate) struct Throttle {
    cap: u64,
    #[pin]
    in_flight: SpinLock<u64>,
    #[pin]
    freed: CondVar,
}

impl Throttle {
    /// A throttle with nothing in flight.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            cap: MIN_CAP.max(ffi::total_ram_pages() / PAGES_PER_TABLE),
            in_flight <- new_spinlock!(0, "msm_rs::throttle"),
            freed <- new_condvar!("msm_rs::throttle"),
        })
    }

    /// How many tables can be in flight.
    pub(crate) fn cap(&self) -> u64 {
        self.cap
    }

    /// Waits until `tables` more fit, and counts them in.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if they can never fit, `ERESTARTSYS` for a signal.
    pub(crate) fn acquire(vm: &GpuVm<Bind>, tables: u64) -> Result<Ticket> {
        let this = &vm.state().throttle;
        if tables > this.cap {
            return Err(ENOMEM);
        }
        let mut in_flight = this.in_flight.lock();
        while *in_flight + tables > this.cap {
            if this.freed.wait_interruptible(&mut in_flight) {
                return Err(ERESTARTSYS);
            }
        }
        *in_flight += tables;
        Ok(Ticket {
            vm: vm.into(),
            tables,
        })
    }
}

/// Tables that count as in flight until this is dropped.
pub(crate) struct Ticket {
    vm: ARef<GpuVm<Bind>>,
    tables: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.tables != 0 {
            let throttle = &self.vm.state().throttle;
            *throttle.in_flight.lock() -= self.tables;
            throttle.freed.notify_all();
        }
    }
}
