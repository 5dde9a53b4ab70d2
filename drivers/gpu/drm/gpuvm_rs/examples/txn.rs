// SPDX-License-Identifier: GPL-2.0-only

use kernel::prelude::*;

use crate::gpuvm_rs::{
    exec::Exec,
    gem::GemObject,
    sm::{
        OpMap,
        OpRemap,
        OpUnmap,
        Steps, //
    },
    txn::{
        Committed,
        Transaction, //
    },
    vm::{
        Driver,
        GpuVm,
        MapRequest,
        VaRange, //
    },
};

/// Does in the tree what each step says. Of the page tables, the job is to change the range.
struct InTree<'l, D: Driver>(Transaction<'l, D>);

impl<D: Driver> Steps<D> for InTree<'_, D>
where
    D::Va: Default,
{
    fn map(&mut self, op: OpMap<'_>) -> Result {
        self.0.insert(&op, D::Va::default(), 0)
    }

    fn unmap(&mut self, op: OpUnmap<'_, D>) -> Result {
        self.0.remove(op)
    }

    fn remap(&mut self, op: OpRemap<'_, D>) -> Result {
        self.0.split(op, D::Va::default, 0)
    }
}

/// Maps `range` to `obj` in `vm`, in place of whatever is mapped there.
///
/// On errors the tree is as it was. What is returned is the job's: it changes the page tables, and
/// then calls [`Committed::retire`], after which the VMAs that were replaced can be dropped.
pub(super) fn map<D>(vm: &GpuVm<D>, obj: &GemObject, range: VaRange) -> Result<Committed<D>>
where
    D: Driver<Step = (u64, u64)>,
    D::Va: Default,
{
    pin_init::stack_pin_init!(let exec = Exec::interruptible(0));
    let locked = exec.lock_all(|attempt| {
        let vm = attempt.lock_vm(vm)?;
        attempt.lock(obj)?;
        // Those that lose a mapping.
        attempt.lock_mapped(&vm, range)
    })?;
    let vm = locked.vm(vm).ok_or(EDEADLK)?;

    let mut steps = InTree(Transaction::new(&vm, &locked, 2)?);
    let request = MapRequest {
        range,
        obj: Some(obj),
        offset: 0,
    };
    // An error drops the transaction, which undoes what was done so far.
    vm.sm_map(&request, &mut steps)?;
    steps.0.step((range.addr(), range.len()))?;
    Ok(steps.0.commit())
}
