// SPDX-License-Identifier: GPL-2.0-only

//! All VMAs of a BO, in VMs of both kinds.

use core::ops::Deref;

use kernel::prelude::*;

use super::{
    bo::BoLocked,
    vm::AnyVm, //
};
use crate::{
    gpuvm_rs::{
        trylock::AllLocked,
        va::GpuVa,
        vm::VmLocked, //
    },
    vm_log::LogOp,
    vma,
};

/// Proof that a BO and all VMs that map it are locked for `'l`.
pub(crate) struct AllMappings<'l>(BoLocked<'l>);

impl<'l> AllMappings<'l> {
    /// `None` if the object isn't a BO of the driver.
    pub(crate) fn of(obj: &'l AllLocked<'_>) -> Option<Self> {
        BoLocked::of_object(obj).map(Self)
    }

    /// Removes the page table entries of all VMAs. The VMAs keep their addresses.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody has the page tables of one of the VMs. Some entries may be gone then:
    /// whoever uses the VMAs next puts them back, as after an eviction.
    pub(crate) fn unmap(&self, op: LogOp) -> Result {
        let mut result = Ok(());
        self.obj().for_each_va(|va| {
            if result.is_err() {
                return;
            }
            let va = va.as_ptr();
            // SAFETY: In a VM of the kind that its functions say, which the caller has locked.
            unsafe {
                match AnyVm::from_raw((*va).vm) {
                    AnyVm::Managed(vm) => {
                        vma::unmap_managed(&VmLocked::assume(vm), GpuVa::from_raw(va));
                    }
                    AnyVm::Bind(vm) => {
                        let vm = VmLocked::assume(vm);
                        result = vma::unmap_bind(&vm, GpuVa::from_raw(va), op);
                    }
                }
            }
        });
        if result.is_err() {
            self.obj().set_evicted();
        }
        result
    }
}

impl<'l> Deref for AllMappings<'l> {
    type Target = BoLocked<'l>;

    fn deref(&self) -> &BoLocked<'l> {
        &self.0
    }
}
