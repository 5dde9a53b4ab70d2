// SPDX-License-Identifier: GPL-2.0-only

//! The kinds of VM: what they are made of, and what becomes of their VMAs.

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    job::BindJob,
    state::BindState, //
};
use crate::{
    address_space::{
        log::VmLog,
        managed::ManagedTables,
        step::Step,
        tables::{
            Unreachable,
            VmTables, //
        },
        AddressSpace, //
    },
    bo::pin,
    ffi::{
        bindings,
        bo::{
            Bo,
            BoLocked, //
        },
        closed::Closed,
        jobs, module,
        root::VmMmu,
        vm::{
            self,
            Bind,
            Config,
            Managed,
            VmKind, //
        },
        vma::{
            BindVa,
            ManagedVa, //
        },
    },
    gpuvm_rs::{
        gem::ObjLocked,
        vm::{
            VmBo,
            VmLocked, //
        },
    },
    mapping::vm_bind, //
};

impl VmKind for Managed {
    const MANAGED: bool = true;

    type Va = ManagedVa;
    type Step = ();
    // No transactions: page tables change before the tree does.
    type Unreachable = core::convert::Infallible;
    type Space = ManagedTables;
    type State = ();

    fn restore(_vm: &VmLocked<'_, Self>, _obj: &ObjLocked<'_>, _vm_bo: &VmBo<'_, Self>) -> Result {
        // A submit pins the BOs that it lists.
        Ok(())
    }
}

impl VmKind for Bind {
    const MANAGED: bool = false;

    type Va = BindVa;
    type Step = Step;
    type Unreachable = Unreachable;
    type Space = Arc<AddressSpace>;
    type State = BindState;

    fn restore(vm: &VmLocked<'_, Self>, obj: &ObjLocked<'_>, vm_bo: &VmBo<'_, Self>) -> Result {
        vm_bind::restore(vm, obj, vm_bo)
    }

    fn removed(vm: &VmLocked<'_, Self>, bo: &BoLocked<'_>, va: &mut BindVa) {
        // Page tables don't lead to what was evicted.
        if va.mapped().get(vm) {
            va.keep(pin::keep(bo));
        }
    }

    fn retired(bo: &Bo, va: &mut BindVa) {
        if let Some(kept) = va.take_kept() {
            pin::let_go(bo, kept);
        }
    }
}

/// Makes a VM for which the kernel gives out addresses.
///
/// # Errors
///
/// `ENOMEM`; the page tables of a domain are still the caller's.
pub(crate) fn create_managed(config: &Config, mmu: VmMmu) -> Result<NonNull<bindings::drm_gpuvm>> {
    vm::create::<Managed, _>(config, mmu, |mmu| {
        let tables = match mmu {
            VmMmu::Domain(mmu) => ManagedTables::Domain(mmu.into_mmu()),
            VmMmu::Own(root) => ManagedTables::own(VmTables::new(root))?,
        };
        Ok((tables, ()))
    })
}

/// Makes a VM for VM_BIND.
///
/// # Errors
///
/// `ENOMEM`, also if too many closed VMs are still there; `EINVAL` for the page tables of a domain.
pub(crate) fn create_bind(config: &Config, mmu: VmMmu) -> Result<NonNull<bindings::drm_gpuvm>> {
    Closed::room()?;
    let log = VmLog::new(module::vm_log_shift())?;
    jobs::create_vm::<Bind, BindJob, _>(config, mmu, |mmu| match mmu {
        VmMmu::Own(root) => {
            let space = AddressSpace::new(VmTables::new(root), log)?;
            Ok((space, BindState::new()))
        }
        VmMmu::Domain(_) => Err(EINVAL),
    })
}
