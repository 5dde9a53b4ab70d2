// SPDX-License-Identifier: GPL-2.0-only

//! When the GPU uses nothing of a VM_BIND VM.
//!
//! The VM can't stay locked while somebody waits for the GPU: a hang is only recovered from when
//! its capture has had that lock. So SUBMITs are held back instead.

use core::sync::atomic::{
    AtomicU32,
    Ordering, //
};

use kernel::{
    new_condvar, new_spinlock,
    prelude::*,
    sync::{
        CondVar,
        SpinLock, //
    },
};

use crate::{
    ffi::vm::Bind,
    gpuvm_rs::vm::{
        GpuVm,
        VmLocked, //
    },
};

/// Lets SUBMITs of a VM in, or holds them back.
#[pin_data]
pub(crate) struct SubmitGate {
    /// How many hold them back. Becomes more only while the VM is locked.
    held: AtomicU32,
    #[pin]
    lock: SpinLock<()>,
    #[pin]
    opened: CondVar,
}

impl SubmitGate {
    /// Lets them in.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            held: AtomicU32::new(0),
            lock <- new_spinlock!((), "msm_rs::submit_gate"),
            opened <- new_condvar!("msm_rs::submit_gate"),
        })
    }

    /// Whether a SUBMIT may be sent before the VM is unlocked.
    #[inline]
    pub(crate) fn is_open(&self, _vm: &VmLocked<'_, Bind>) -> bool {
        self.lets_in()
    }

    /// Waits until SUBMITs aren't held back, or were not a moment ago. The VM isn't locked.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` for a signal.
    #[inline]
    pub(crate) fn wait(&self) -> Result {
        if self.lets_in() {
            return Ok(());
        }
        let mut lock = self.lock.lock();
        while !self.lets_in() {
            if self.opened.wait_interruptible(&mut lock) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    #[inline]
    fn lets_in(&self) -> bool {
        // Whoever has let them in again has done before what it held them back for.
        self.held.load(Ordering::Acquire) == 0
    }
}

/// Says that the GPU uses nothing of a VM: it has ended all SUBMITs that were sent, and until this
/// is dropped none is.
pub(crate) struct GpuIdle<'v>(&'v GpuVm<Bind>);

impl<'v> GpuIdle<'v> {
    /// Waits for that, with no lock held. Binds that haven't run aren't waited for, unless SUBMITs
    /// wait for them.
    ///
    /// # Errors
    ///
    /// As [`GpuVm::wait_for_submits`]; `ERESTARTSYS` for a signal.
    pub(crate) fn wait(vm: &'v GpuVm<Bind>) -> Result<Self> {
        // The longest of it, if one of them waits for somebody else, without holding others back.
        vm.wait_for_submits()?;
        let this = {
            // A SUBMIT attaches its fence before it unlocks the VM.
            let _locked = vm.resv_obj().lock_interruptible()?;
            vm.space().submits.held.fetch_add(1, Ordering::Relaxed);
            Self(vm)
        };
        // So the fences of those that were sent are all there, and only become less.
        vm.wait_for_submits()?;
        Ok(this)
    }

    /// Which VM.
    pub(super) fn vm(&self) -> &'v GpuVm<Bind> {
        self.0
    }
}

impl Drop for GpuIdle<'_> {
    fn drop(&mut self) {
        let gate = &self.0.space().submits;
        let _lock = gate.lock.lock();
        if gate.held.fetch_sub(1, Ordering::Release) == 1 {
            gate.opened.notify_all();
        }
    }
}
