// SPDX-License-Identifier: GPL-2.0-only

//! The display's VM, in which a BO may be mapped to be shown.

use kernel::sync::aref::ARef;

use super::{
    bindings,
    bo::Bo,
    vm::{
        AnyVm,
        Managed, //
    },
};
use crate::gpuvm_rs::vm::GpuVm;

impl Bo {
    /// Whether `vm` is the display's. A VM that came to its place in memory after the display's
    /// went is taken for it.
    pub(crate) fn is_kms_vm(&self, vm: &GpuVm<Managed>) -> bool {
        // SAFETY: The device outlives its BOs, of which `self` is one. The pointer is compared
        // only, for the VM may be gone: C doesn't always clear it.
        unsafe { bindings::msm_rs_kms_vm(self.device()) == vm.as_raw() }
    }

    /// The VM of the display, if it maps the BO, and so is there.
    pub(crate) fn kms_vm(&self) -> Option<ARef<GpuVm<Managed>>> {
        // SAFETY: As above.
        let vm = unsafe { bindings::msm_rs_kms_vm(self.device()) };
        if vm.is_null() {
            return None;
        }
        let locked = self.lock();
        if !locked.obj().is_mapped_in(vm) {
            return None;
        }
        // SAFETY: The vm_bo refers to it, and stays for as long as the BO is locked.
        unsafe { AnyVm::managed(vm) }.ok().map(ARef::from)
    }
}
