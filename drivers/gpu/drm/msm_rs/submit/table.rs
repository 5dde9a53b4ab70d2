// SPDX-License-Identifier: GPL-2.0-only

//! The BO table of a submit: what the GPU may use, in a context whose VM the kernel manages.

use kernel::prelude::*;

use crate::{
    bo::pin,
    ffi::{
        bo::{
            BoLocked,
            BoLru, //
        },
        caller::Caller,
        effort::Effort,
        submit::{
            Entry,
            Submit, //
        },
        vm::Managed, //
    },
    gpuvm_rs::{
        exec::{
            Locked,
            Usage, //
        },
        gem::GemObject,
        small_vec::SmallVec,
        vm::VmLocked, //
    },
    mapping::managed, //
};

/// Refuses a BO that is listed twice.
///
/// # Errors
///
/// `EALREADY`, `ENOMEM`.
pub(super) fn check_unique(table: &[Entry], caller: &Caller<'_>) -> Result {
    let mut addresses = SmallVec::<_, 4>::with_capacity(table.len(), GFP_KERNEL | __GFP_NOWARN)?;
    for entry in table {
        addresses.push(core::ptr::from_ref(entry.bo()).addr(), GFP_KERNEL)?;
    }
    addresses.sort_unstable();
    if addresses.windows(2).any(|pair| pair[0] == pair[1]) {
        caller.note(fmt!("a BO is listed twice"));
        return Err(EALREADY);
    }
    Ok(())
}

/// What the GPU does with each object.
pub(super) fn usages(table: &[Entry]) -> impl Iterator<Item = (&GemObject, Usage)> {
    table.iter().map(|entry| {
        let usage = if entry.flags().writes() {
            Usage::Write
        } else {
            Usage::Read
        };
        (entry.bo().gem(), usage)
    })
}

/// Lets `submit` wait for the fences of its BOs, but for those whose entries say otherwise.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn add_dependencies(submit: &Submit, locked: &Locked<'_>) -> Result {
    for entry in submit.table() {
        let flags = entry.flags();
        if flags.implicit_sync() {
            let obj = locked.obj(entry.bo().gem()).ok_or(EDEADLK)?;
            submit.add_implicit_dependencies(&obj, flags.writes())?;
        }
    }
    Ok(())
}

/// A table of which all BOs are mapped. They stay while they are locked.
pub(super) struct Placed<'l> {
    table: &'l [Entry],
    locked: &'l Locked<'l>,
}

impl<'l> Placed<'l> {
    /// Gives each BO its pages and its place in the VM.
    ///
    /// # Errors
    ///
    /// `EBUSY` for a BO that isn't MSM_MADV_WILLNEED, `EINVAL` for one of another VM, `ENOSPC`,
    /// `ENOMEM` (see [`Effort::again`]), `EINTR`.
    pub(super) fn new(
        table: &'l [Entry],
        vm: &VmLocked<'_, Managed>,
        locked: &'l Locked<'l>,
        effort: &Effort,
    ) -> Result<Self> {
        // Dropped if one can't be placed.
        let this = Self { table, locked };
        for entry in table {
            let obj = locked.obj(entry.bo().gem()).ok_or(EDEADLK)?;
            let (vm_bo, iova) = managed::place(entry.bo(), vm, &obj, effort)?;
            entry.place(vm_bo, iova)?;
        }
        Ok(this)
    }

    /// Pins all BOs, with the LRU lock taken once: pages were allocated before, which is not
    /// allowed under it.
    pub(super) fn pin(self, caller: &Caller<'_>) -> Pinned<'l> {
        if !self.table.is_empty() {
            let lru = caller.lock_lru();
            self.for_each(|bo| {
                // It is the lock of the BOs' device.
                if let Some(lru) = BoLru::of(bo, &lru) {
                    pin::pin(&lru);
                }
            });
        }
        Pinned(self)
    }

    fn for_each(&self, mut f: impl FnMut(&BoLocked<'_>)) {
        for entry in self.table {
            // All are locked.
            if let Some(obj) = self.locked.obj(entry.bo().gem()) {
                if let Some(bo) = BoLocked::of(entry.bo(), &obj) {
                    f(&bo);
                }
            }
        }
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        for entry in self.table {
            if let Some(obj) = self.locked.obj(entry.bo().gem()) {
                entry.displace(&obj);
            }
        }
    }
}

/// A table of which all BOs are mapped and pinned, until the job runs or this is dropped.
pub(super) struct Pinned<'l>(Placed<'l>);

impl Pinned<'_> {
    /// Leaves places and pins to the submit. `run_job` drops the pins; its fence then guards the
    /// pages.
    pub(super) fn leave_to_job(self) {
        core::mem::forget(self);
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.0.for_each(|bo| bo.with_lru(pin::unpin));
    }
}
