// SPDX-License-Identifier: GPL-2.0-only

//! All VMAs of a BO, in VMs of both kinds.

use core::ops::Deref;

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use super::{
    bo::BoLocked,
    vm::{
        AnyVm,
        Bind,
        Managed, //
    },
};
use crate::gpuvm_rs::{
    fence::Fence,
    trylock::AllLocked,
    va::GpuVa,
    vm::{
        GpuVm,
        VmLocked, //
    },
};

/// Proof that a BO and all VMs that map it are locked for `'l`.
pub(crate) struct AllMappings<'l> {
    bo: BoLocked<'l>,
    all: &'l AllLocked<'l>,
}

impl<'l> AllMappings<'l> {
    /// `None` if the object isn't a BO of the driver.
    pub(crate) fn of(all: &'l AllLocked<'l>) -> Option<Self> {
        BoLocked::of_object(all).map(|bo| Self { bo, all })
    }

    /// Calls `managed` or `bind` with each VMA, whichever its VM is, until one returns an error.
    fn each(
        &self,
        mut managed: impl FnMut(&VmLocked<'_, Managed>, &GpuVa<Managed>) -> Result,
        mut bind: impl FnMut(&VmLocked<'_, Bind>, &GpuVa<Bind>) -> Result,
    ) -> Result {
        let mut result = Ok(());
        self.obj().for_each_va(|va| {
            if result.is_err() {
                return;
            }
            let va = va.as_ptr();
            // SAFETY: Alive for the call, since the BO is locked.
            let vm = unsafe { (*va).vm };
            // SAFETY: A VM lives as long as it has VMAs.
            result = match unsafe { AnyVm::from_raw(vm) } {
                AnyVm::Managed(vm) => {
                    // SAFETY: `AllLocked`, from which `self` was made, has locked it.
                    let vm = unsafe { VmLocked::assume(vm) };
                    // SAFETY: In the tree of a VM of that kind.
                    let va = unsafe { GpuVa::<Managed>::from_raw(va) };
                    managed(&vm, va)
                }
                AnyVm::Bind(vm) => {
                    // SAFETY: As above.
                    let vm = unsafe { VmLocked::assume(vm) };
                    // SAFETY: As above.
                    let va = unsafe { GpuVa::<Bind>::from_raw(va) };
                    bind(&vm, va)
                }
            };
        });
        result
    }

    /// Calls `f` with the VM of each VMA of a VM_BIND VM, until it returns an error.
    ///
    /// # Errors
    ///
    /// What it returns.
    pub(crate) fn each_bind(&self, mut f: impl FnMut(&VmLocked<'_, Bind>) -> Result) -> Result {
        self.each(|_, _| Ok(()), |vm, _| f(vm))
    }

    /// Calls `managed` or `bind` with each VMA, whichever its VM is, until one returns an error.
    /// After that all VMAs count as evicted, and whoever uses them next looks whether they are.
    ///
    /// # Errors
    ///
    /// What they return; `EBUSY` if a VMA is mapped after that.
    pub(crate) fn unmap_each(
        &self,
        mut managed: impl FnMut(&VmLocked<'_, Managed>, &GpuVa<Managed>) -> Result,
        mut bind: impl FnMut(&VmLocked<'_, Bind>, &GpuVa<Bind>) -> Result,
    ) -> Result<Unmapped<'_>> {
        let result = self.each(
            |vm, va| {
                managed(vm, va)?;
                is_gone(va.data().mapped().get(vm))
            },
            |vm, va| {
                bind(vm, va)?;
                is_gone(va.data().mapped().get(vm))
            },
        );
        self.all.set_evicted();
        result?;
        // INVARIANT: All were visited and none is mapped.
        Ok(Unmapped(&self.bo))
    }
}

impl BoLocked<'_> {
    /// Calls `f` with each VM_BIND VM that maps the BO. They needn't be locked.
    pub(crate) fn each_bind_vm(&self, mut f: impl FnMut(&GpuVm<Bind>)) {
        self.obj().for_each_vm(|vm| {
            // SAFETY: Alive for the call. The driver's BOs are mapped in its VMs alone.
            if let AnyVm::Bind(vm) = unsafe { AnyVm::from_raw(vm.as_ptr()) } {
                f(vm);
            }
        });
    }
}

fn is_gone(mapped: bool) -> Result {
    if mapped {
        return Err(EBUSY);
    }
    Ok(())
}

/// A BO of which no VMA is mapped, for as long as it and all VMs that map it are locked.
pub(crate) struct Unmapped<'l>(&'l BoLocked<'l>);

impl<'l> Unmapped<'l> {
    /// For a BO that is being freed: VMAs hold references, so that there are none.
    ///
    /// # Safety
    ///
    /// The BO's last reference is gone.
    pub(crate) unsafe fn of_unreferenced(bo: &'l BoLocked<'l>) -> Self {
        Self(bo)
    }

    /// The BO.
    pub(crate) fn bo(&self) -> &'l BoLocked<'l> {
        self.0
    }
}

impl<'l> Deref for AllMappings<'l> {
    type Target = BoLocked<'l>;

    fn deref(&self) -> &BoLocked<'l> {
        &self.bo
    }
}

/// The fence of somebody who uses the BO that isn't signalled, if there is any.
///
/// A SUBMIT of a VM_BIND context uses all that is mapped in its VM, and has its fence on the VM's
/// resv alone. A bind has it on those of the BOs that it is about, too.
pub(crate) fn busy(bo: &BoLocked<'_>) -> Option<ARef<Fence>> {
    let mut busy = bo.gem().busy();
    bo.each_bind_vm(|vm| {
        if busy.is_none() {
            busy = vm.busy();
        }
    });
    busy
}
