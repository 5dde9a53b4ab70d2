// SPDX-License-Identifier: GPL-2.0-only

//! The kinds of VM: what they are made of, and what becomes of their VMAs.

use core::ptr::NonNull;

use kernel::{
    prelude::*,
    sync::Arc, //
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
        effort::Effort,
        jobs, module,
        queue::Queue,
        root::VmMmu,
        vm::{
            self,
            Bind,
            Config,
            Managed,
            StartScheduler,
            VmKind, //
        },
        vma::{
            BindVa,
            ManagedVa, //
        },
    },
    gpuvm_rs::{
        gem::ObjLocked,
        sched::Finished,
        vm::{
            GpuVm,
            VmBo,
            VmLocked, //
        },
    },
    mapping::vm_bind,
    vm::{
        job::{
            BindJob,
            Work, //
        },
        state::BindState,
    },
};

// SAFETY: It is one of the two kinds, and the managed one; its VMAs are made as C has them. Its
// context has no queues for VM_BIND.
unsafe impl VmKind for Managed {
    const MANAGED: bool = true;
    const SCHEDULER: Option<StartScheduler> = None;

    type Va = ManagedVa;
    type Step = ();
    // No transactions: page tables change before the tree does.
    type Unreachable = core::convert::Infallible;
    type Validation = Effort;
    type Space = ManagedTables;
    type State = ();

    fn restore(
        _vm: &VmLocked<'_, Self>,
        _obj: &ObjLocked<'_>,
        _vm_bo: &VmBo<'_, Self>,
        _effort: &Effort,
    ) -> Result {
        // A submit pins the BOs that it lists.
        Ok(())
    }
}

// SAFETY: It is the other kind, which isn't managed; its VMAs have what C reads of them. The jobs
// on its queues are made by `BindQueue::new_job()`, for the one `jobs::Work` that there is.
unsafe impl VmKind for Bind {
    const MANAGED: bool = false;
    const SCHEDULER: Option<StartScheduler> = Some(jobs::start::<BindJob>);

    type Va = BindVa;
    type Step = Step;
    type Unreachable = Unreachable;
    type Validation = Effort;
    type Space = Arc<AddressSpace>;
    type State = BindState;

    fn restore(
        vm: &VmLocked<'_, Self>,
        obj: &ObjLocked<'_>,
        vm_bo: &VmBo<'_, Self>,
        effort: &Effort,
    ) -> Result {
        vm_bind::restore(vm, obj, vm_bo, effort)
    }

    fn removed(vm: &VmLocked<'_, Self>, bo: &BoLocked<'_>, va: &mut BindVa) -> bool {
        // Page tables don't lead to what was evicted.
        va.mapped().get(vm) && va.keep(pin::keep(bo))
    }

    fn retired(bo: &Bo, va: &mut BindVa) {
        if let Some(kept) = va.take_kept() {
            pin::let_go(bo, kept);
        }
    }
}

// SAFETY: `Bind::SCHEDULER` is for it. `Work` keeps the queue until it is cancelled or dropped.
unsafe impl jobs::Work for BindJob {
    type Load = Work;

    fn fill(&self, queue: Queue, load: Work) {
        self.slot().fill(queue, load);
    }

    fn run(&mut self, vm: &GpuVm<Bind>) {
        self.slot().run(vm);
    }

    /// If the VMA tree has changed by then, the page tables have to follow all the same; if not,
    /// the slot is empty.
    fn abandon(&mut self) {}

    fn finished() -> &'static Finished<jobs::Jobs<Self>> {
        static FINISHED: Finished<jobs::Jobs<BindJob>> = Finished::new();
        &FINISHED
    }
}

/// Makes a VM for which the kernel gives out addresses.
///
/// # Errors
///
/// `ENOMEM`; the page tables of a domain are still the caller's.
pub(crate) fn create_managed(config: &Config, mmu: VmMmu) -> Result<NonNull<bindings::drm_gpuvm>> {
    let prepare = |mmu| {
        let tables = match mmu {
            VmMmu::Domain(mmu) => ManagedTables::Domain(mmu.into_mmu()),
            VmMmu::Own(root) => ManagedTables::own(VmTables::new(root))?,
        };
        Ok((tables, ()))
    };
    // SAFETY: `ManagedTables` keeps them, whichever they are.
    unsafe { vm::create::<Managed, _>(config, mmu, prepare) }
}

/// Makes a VM for VM_BIND.
///
/// # Errors
///
/// `ENOMEM`, also if too many closed VMs are still there; `EINVAL` for the page tables of a domain.
pub(crate) fn create_bind(config: &Config, mmu: VmMmu) -> Result<NonNull<bindings::drm_gpuvm>> {
    Closed::room()?;
    let log = VmLog::new(module::vm_log_shift())?;
    let prepare = |mmu| match mmu {
        VmMmu::Own(root) => {
            let space = AddressSpace::new(VmTables::new(root), log)?;
            Ok((space, BindState::new()))
        }
        VmMmu::Domain(_) => Err(EINVAL),
    };
    // SAFETY: `VmTables`, in the address space, keeps them.
    unsafe { vm::create::<Bind, _>(config, mmu, prepare) }
}
