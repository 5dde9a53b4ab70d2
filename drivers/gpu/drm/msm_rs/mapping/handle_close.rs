// SPDX-License-Identifier: GPL-2.0-only

//! What becomes of a BO's VMA when a context whose VM the kernel manages gives its last handle up.
//!
//! Submits of that context may use it still, so its addresses are free when they have ended: when
//! the ioctl returns. A fence that a submit waits for may take for ever, and a process that dies
//! can't: then the VMA goes later, or with the VM. Others who share the BO use it at addresses of
//! their own, and nobody waits for them.

use kernel::{
    sync::aref::ARef,
    time::msecs_to_jiffies,
    workqueue::Queue, //
};

use super::managed;
use crate::{
    ffi::{
        self,
        bo::Bo,
        module::{
            self,
            InUse, //
        },
        vm::Managed, //
    },
    gpuvm_rs::{
        fence::Fence,
        idle::{
            self,
            WhenIdle, //
        },
        vm::GpuVm, //
    },
};

/// How long a fatal signal may go unnoticed, in ms.
const SIGNAL_POLL_MS: u32 = 50;

/// Whose submits use the VMAs of a VM.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Users {
    /// The DRM client's whose VM it is.
    Client(u64),
    /// Those of several: GPUs without per-process page tables have one VM.
    Many,
}

impl Users {
    /// The fence of one that uses `bo` and hasn't ended, if there is any. For [`Users::Many`] it
    /// may be somebody else's.
    fn busy(self, bo: &Bo) -> Option<ARef<Fence>> {
        match self {
            Self::Client(id) => bo.gem().busy_of(id),
            Self::Many => bo.gem().busy(),
        }
    }
}

/// A VMA that goes when no submit uses it, unless a handle wants it again.
struct DeferredUnmap {
    bo: ARef<Bo>,
    vm: ARef<GpuVm<Managed>>,
    users: Users,
    /// The fence may signal long after the file was closed.
    _module: InUse,
}

impl WhenIdle for DeferredUnmap {
    fn busy(&self) -> Option<ARef<Fence>> {
        self.users.busy(&self.bo)
    }

    fn run(self) -> Option<Self> {
        part(&self.bo, &self.vm, self.users)
            .is_err()
            .then_some(self)
    }

    fn queue() -> &'static Queue {
        module::reaper()
    }
}

/// Closes the BO's VMA in `vm`, unless it belongs to a handle.
///
/// # Errors
///
/// The fence of a submit that uses it.
fn part(bo: &Bo, vm: &GpuVm<Managed>, users: Users) -> Result<(), ARef<Fence>> {
    bo.with_vm(vm, |vm, bo| {
        if bo.has_handle_in(vm) {
            return Ok(());
        }
        // With both locked, no submit can attach its fence any more.
        users.busy(bo).map_or(Ok(()), Err)?;
        managed::close(vm, bo);
        Ok(())
    })
}

/// A context of `vm` has given a handle of `bo` up.
pub(crate) fn handle_closed(bo: &Bo, vm: &GpuVm<Managed>, users: Users) {
    while let Err(fence) = part(bo, vm, users) {
        if ffi::is_dying() {
            let parting = DeferredUnmap {
                bo: bo.into(),
                vm: vm.into(),
                users,
                _module: InUse::new(),
            };
            if idle::when_idle(parting).is_ok() {
                return;
            }
        }
        fence.wait_timeout(msecs_to_jiffies(SIGNAL_POLL_MS) as usize);
    }
}
