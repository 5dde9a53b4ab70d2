// SPDX-License-Identifier: GPL-2.0-only

//! The BO table of a submit: what the GPU may use, in a context whose VM the kernel manages.

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    ffi::{
        bo::{
            Bo,
            Pin, //
        },
        submit::{
            Request,
            Submit, //
        },
        vm::Managed,
    },
    gpuvm_rs::{
        exec::{
            Locked,
            Usage, //
        },
        gem::GemObject,
        small_vec::SmallVec,
        vm::{
            VmBo,
            VmLocked, //
        },
    },
    pure::submit::BoFlags,
};

/// An entry of the table.
pub(crate) struct Entry {
    pub(crate) bo: ARef<Bo>,
    pub(crate) flags: BoFlags,
}

/// The BOs that a submit lists, each once.
pub(super) struct Table {
    entries: List<Entry>,
}

/// Few submits list more.
type List<T> = SmallVec<T, 4>;

impl Table {
    /// Reads the table and looks up its BOs.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `ENOMEM`; `EINVAL` for flags that make no sense or an unknown handle.
    pub(super) fn parse(req: &Request<'_>) -> Result<Self> {
        let nr = req.nr_bos();
        let mut listed = List::with_capacity(nr as usize, GFP_KERNEL | __GFP_NOWARN)?;
        for i in 0..nr {
            let (handle, flags) = req.bo(i)?;
            let flags = BoFlags::new(flags)
                .ok_or_else(|| req.invalid(fmt!("BO {i}: invalid flags: {flags:x}")))?;
            listed.push((handle, flags), GFP_KERNEL)?;
        }

        let mut entries = List::with_capacity(nr as usize, GFP_KERNEL | __GFP_NOWARN)?;
        {
            let handles = req.handles();
            for &(handle, flags) in listed.iter() {
                let Some(bo) = handles.find(handle) else {
                    break;
                };
                // There is room.
                let _ = entries.push(Entry { bo, flags }, GFP_NOWAIT);
            }
        }
        match listed.get(entries.len()) {
            Some((handle, _)) => Err(req.invalid(fmt!("invalid handle {handle}"))),
            None => Ok(Self { entries }),
        }
    }

    /// Refuses a BO that is listed twice.
    ///
    /// # Errors
    ///
    /// `EALREADY`, `ENOMEM`.
    pub(super) fn check_unique(&self, req: &Request<'_>) -> Result {
        let mut addresses = List::with_capacity(self.len(), GFP_KERNEL | __GFP_NOWARN)?;
        for bo in self.bos() {
            addresses.push(core::ptr::from_ref(bo).addr(), GFP_KERNEL)?;
        }
        addresses.sort_unstable();
        if addresses.windows(2).any(|pair| pair[0] == pair[1]) {
            req.note(fmt!("a BO is listed twice"));
            return Err(EALREADY);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bos(&self) -> impl Iterator<Item = &Bo> {
        self.entries.iter().map(|entry| &*entry.bo)
    }

    /// The BO at `index`.
    pub(super) fn bo(&self, index: u32) -> Option<&Bo> {
        self.entries.get(index as usize).map(|entry| &*entry.bo)
    }

    /// What the GPU does with each object.
    pub(super) fn usages(&self) -> impl Iterator<Item = (&GemObject, Usage)> {
        self.entries.iter().map(|entry| {
            let usage = if entry.flags.writes() {
                Usage::Write
            } else {
                Usage::Read
            };
            (entry.bo.gem(), usage)
        })
    }

    /// Lets `submit` wait for the fences of the BOs, but for those whose entries say otherwise.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add_dependencies(&self, submit: &mut Submit, locked: &Locked<'_>) -> Result {
        for entry in self.entries.iter() {
            if entry.flags.implicit_sync() {
                let obj = locked.obj(entry.bo.gem()).ok_or(EDEADLK)?;
                submit.add_implicit_dependencies(&obj, entry.flags.writes())?;
            }
        }
        Ok(())
    }

    /// Gives each BO its pages and its place in the VM.
    ///
    /// # Errors
    ///
    /// `EBUSY` for a BO that isn't MSM_MADV_WILLNEED, `EINVAL` for one of another VM, `ENOSPC`, `ENOMEM`.
    pub(super) fn place<'l>(
        &'l self,
        vm: &VmLocked<'_, Managed>,
        locked: &'l Locked<'l>,
    ) -> Result<Placed<'l>> {
        let mut places = List::with_capacity(self.len(), GFP_KERNEL | __GFP_NOWARN)?;
        for bo in self.bos() {
            let obj = locked.obj(bo.gem()).ok_or(EDEADLK)?;
            let (vm_bo, iova) = bo.place(vm, &obj)?;
            places.push(Place { vm_bo, iova }, GFP_KERNEL)?;
        }
        Ok(Placed {
            table: self,
            locked,
            places,
        })
    }
}

/// Where a BO is, and the vm_bo that keeps it there.
struct Place<'l> {
    vm_bo: VmBo<'l, Managed>,
    iova: u64,
}

/// A table of which all BOs are mapped. They stay while they are locked.
pub(super) struct Placed<'l> {
    table: &'l Table,
    locked: &'l Locked<'l>,
    places: List<Place<'l>>,
}

impl<'l> Placed<'l> {
    /// Where the BO at `index` is.
    pub(super) fn iova(&self, index: u32) -> Option<u64> {
        self.places.get(index as usize).map(|place| place.iova)
    }

    /// Pins all BOs, with the LRU lock taken once: pages were allocated before, which is not allowed under it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn pin(self, req: &Request<'_>) -> Result<Pinned<'l>> {
        let mut pins = List::with_capacity(self.table.len(), GFP_KERNEL | __GFP_NOWARN)?;
        if self.table.len() != 0 {
            let lru = req.lock_lru();
            for bo in self.table.bos() {
                // All are locked, and there is room: neither happens.
                let Some(obj) = self.locked.obj(bo.gem()) else {
                    continue;
                };
                if let Some(pin) = Pin::new(bo, &obj, &lru) {
                    let _ = pins.push(pin, GFP_NOWAIT);
                }
            }
        }
        Ok(Pinned { placed: self, pins })
    }
}

/// A table of which all BOs are mapped and pinned, until the job runs or this is dropped.
pub(super) struct Pinned<'l> {
    placed: Placed<'l>,
    pins: List<Pin<'l>>,
}

impl Pinned<'_> {
    /// Where the BO at `index` is.
    pub(super) fn iova(&self, index: u32) -> Option<u64> {
        self.placed.iova(index)
    }

    /// Writes the table into `submit`, which owns pins and references from now on.
    pub(super) fn fill(self, submit: &mut Submit) {
        let entries = self.placed.table.entries.iter();
        for (entry, place) in entries.zip(self.placed.places) {
            submit.add_bo(entry, place.vm_bo, place.iova);
        }
        submit.own_pins(self.pins);
    }
}
