// SPDX-License-Identifier: GPL-2.0-only

//! What becomes of a BO's VMA when a context whose VM the kernel manages gives its handle up.
//!
//! Submits may use it still, so its addresses are free when they have ended: when the ioctl returns. A fence that a submit waits for
//! may take for ever, and a process that dies can't: then the VMA goes later, or with the VM.

use kernel::{
    sync::aref::ARef,
    time::msecs_to_jiffies,
    workqueue::Queue, //
};

use super::iova;
use crate::{
    ffi::{
        self,
        bo::Bo,
        vm::Managed,
        wq::{
            self,
            InUse, //
        },
    },
    gpuvm_rs::{
        gem::GemObject,
        idle::{
            self,
            WhenIdle, //
        },
        vm::GpuVm,
    },
};

/// How long a fatal signal may go unnoticed, in ms.
const NOTICE: u32 = 50;

/// A VMA that goes when its BO is idle, unless a handle wants it again.
struct Parting {
    bo: ARef<Bo>,
    vm: ARef<GpuVm<Managed>>,
    /// The fence may signal long after the file was closed.
    _module: InUse,
}

impl WhenIdle for Parting {
    fn obj(&self) -> &GemObject {
        self.bo.gem()
    }

    fn run(self) -> Option<Self> {
        (!part(&self.bo, &self.vm)).then_some(self)
    }

    fn queue() -> &'static Queue {
        wq::reaper()
    }
}

/// Closes the BO's VMA in `vm` if it belongs to no handle any more. Returns whether there is nothing left to be done; otherwise it is
/// in use.
fn part(bo: &Bo, vm: &GpuVm<Managed>) -> bool {
    bo.with_vm(vm, |vm, bo| {
        if bo.has_handle_in(vm) {
            return true;
        }
        let idle = bo.gem().is_idle();
        if idle {
            iova::close(vm, bo);
        }
        idle
    })
}

/// A context of `vm` has given a handle of `bo` up.
pub(crate) fn handle_closed(bo: &Bo, vm: &GpuVm<Managed>) {
    while !part(bo, vm) {
        if ffi::is_dying() {
            let parting = Parting {
                bo: bo.into(),
                vm: vm.into(),
                _module: InUse::new(),
            };
            if idle::when_idle(parting).is_ok() {
                return;
            }
        }
        bo.gem()
            .wait_idle_timeout(msecs_to_jiffies(NOTICE) as usize);
    }
}
