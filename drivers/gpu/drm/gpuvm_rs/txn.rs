// SPDX-License-Identifier: GPL-2.0-only

//! A change to a VM's tree that is committed whole or undone whole.
//!
//! Each VMA that goes in or out, each changed flag, and each page-table step that the driver wants
//! done later is an entry of a log. Dropping the transaction undoes the log backwards, which
//! allocates nothing: a removed VMA is kept, with its vm_bo, and put back. Committing turns the log
//! into [`Committed`]: the list of page-table steps for the job that runs them, and the removed
//! VMAs. Page tables may lead to what these map until the driver proves otherwise
//! ([`Driver::Unreachable`]); only then are they [`Retired`] and can be dropped.
//!
//! Why a log and not an allocation of everything beforehand: how many VMAs a request with a
//! thousand overlapping ops makes is known only once they are applied; a bound would be three times
//! too high, and paid for by every request. VM and objects stay locked throughout, so that nobody
//! sees a state that is undone.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/txn.rs")]
//! ```

use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    warn_on, //
};

use super::{
    exec::Locked,
    sm::{
        OpMap,
        OpRemap,
        OpUnmap, //
    },
    small_vec::SmallVec,
    va::{
        GpuVaAlloc,
        GpuVaRemoved, //
    },
    vm::{
        Driver,
        VmBo,
        VmLocked, //
    },
};
use crate::bindings;

/// An entry of the log.
enum Entry<T: Driver> {
    /// Put into the tree. Only used for undoing: after the commit it belongs to the tree.
    Inserted(NonNull<bindings::drm_gpuva>),
    /// Taken out of the tree.
    Removed(GpuVaRemoved<T>),
    /// Flags changed in place, with the old ones.
    Flags(NonNull<bindings::drm_gpuva>, u32),
    /// A page-table step of the driver.
    Step(T::Step),
}

// SAFETY: The pointers of `Inserted` and `Flags` aren't used outside the transaction.
unsafe impl<T: Driver> Send for Entry<T> where T::Va: Send {}
// SAFETY: As above.
unsafe impl<T: Driver> Sync for Entry<T>
where
    T::Va: Sync,
    T::Step: Sync,
{
}

/// A request with one op has two entries, if it meets nothing: the VMA and the step.
type Log<T> = SmallVec<Entry<T>, 2>;

/// A change in progress. Dropping it undoes everything.
pub struct Transaction<'l, T: Driver> {
    vm: &'l VmLocked<'l, T>,
    locked: &'l Locked<'l>,
    log: Log<T>,
}

impl<'l, T: Driver> Transaction<'l, T> {
    /// Starts a change of `vm`, with `locked` holding every object that it will touch, and room for
    /// `nr` entries (it grows).
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(vm: &'l VmLocked<'l, T>, locked: &'l Locked<'l>, nr: usize) -> Result<Self> {
        Ok(Self {
            vm,
            locked,
            log: Log::with_capacity(nr, GFP_KERNEL | __GFP_NOWARN)?,
        })
    }

    /// The VM that is changed.
    pub fn vm(&self) -> &'l VmLocked<'l, T> {
        self.vm
    }

    /// Makes room for `nr` more entries, so that logging them can't fail.
    fn reserve(&mut self, nr: usize) -> Result {
        self.log.reserve(nr, GFP_KERNEL | __GFP_NOWARN)
    }

    /// Logs into the room that `reserve()` made.
    fn push(&mut self, entry: Entry<T>) {
        // Can't fail, see `reserve()`.
        let _ = self.log.push(entry, GFP_KERNEL | __GFP_NOWARN);
    }

    /// Puts a VMA with `data` and `flags` where `op` says.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EDEADLK` if the object isn't locked (a bug).
    pub fn insert(&mut self, op: &OpMap<'_>, data: T::Va, flags: u32) -> Result {
        let Some(obj) = op.obj() else {
            return self.insert_into(None, op, data, flags);
        };
        let obj = self.locked.obj(obj).ok_or(EDEADLK)?;
        let vm_bo = VmBo::obtain(self.vm, &obj)?;
        self.insert_into(Some(&vm_bo), op, data, flags)
    }

    /// As [`Self::insert`], for the vm_bo of the object, if `op` has one.
    fn insert_into(
        &mut self,
        vm_bo: Option<&VmBo<'_, T>>,
        op: &OpMap<'_>,
        data: T::Va,
        flags: u32,
    ) -> Result {
        self.reserve(1)?;
        let va = GpuVaAlloc::new(data)?;
        let va = va.insert(self.vm, op.range()?, vm_bo, op.offset(), flags)?;
        self.push(Entry::Inserted(va));
        Ok(())
    }

    /// Takes the VMA of `op` out.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EDEADLK` if the object isn't locked (a bug).
    pub fn remove(&mut self, op: OpUnmap<'_, T>) -> Result {
        self.reserve(1)?;
        if op.va().obj().is_some_and(|o| self.locked.obj(o).is_none()) {
            return Err(EDEADLK);
        }
        // SAFETY: The token's VMA is in the tree; VM and object are locked.
        let va = unsafe { GpuVaRemoved::take(op.into_raw()) };
        self.push(Entry::Removed(va));
        Ok(())
    }

    /// Takes the VMA of `op` out, and puts a VMA with `flags`, and data of its own, where something
    /// is left of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EDEADLK` if the object isn't locked (a bug).
    pub fn split(&mut self, op: OpRemap<'_, T>, data: impl Fn() -> T::Va, flags: u32) -> Result {
        let (whole, sides) = op.into_parts();
        let obj = match sides.iter().flatten().find_map(OpMap::obj) {
            Some(obj) => Some(self.locked.obj(obj).ok_or(EDEADLK)?),
            None => None,
        };
        let vm_bo = match &obj {
            Some(obj) => Some(VmBo::of_va(whole.va(), obj).ok_or(EINVAL)?),
            None => None,
        };
        self.remove(whole)?;
        for side in sides.iter().flatten() {
            self.insert_into(vm_bo.as_ref(), side, data(), flags)?;
        }
        Ok(())
    }

    /// Leaves the VMA of `op` in the tree, with new driver flags.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn keep_with_flags(&mut self, op: OpUnmap<'_, T>, flags: u32) -> Result {
        self.reserve(1)?;
        let va = op.into_raw();
        // SAFETY: In the tree of a locked VM, which guards the flags.
        let old = unsafe { core::mem::replace(&mut (*va.as_ptr()).flags, flags) };
        self.push(Entry::Flags(va, old));
        Ok(())
    }

    /// Records a page-table step, to be run after the entries before it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn step(&mut self, step: T::Step) -> Result {
        self.reserve(1)?;
        self.push(Entry::Step(step));
        Ok(())
    }

    /// Makes the change final. [`Driver::removed`] is called for each VMA that was taken out, but
    /// for one whose object the driver keeps for the one before: they are retired together.
    pub fn commit(mut self) -> Committed<T> {
        let mut log = core::mem::take(&mut self.log);
        let mut kept = core::ptr::null_mut();
        for entry in log.iter_mut() {
            if let Entry::Removed(va) = entry {
                va.commit(self.vm, self.locked, &mut kept);
            }
        }
        Committed {
            log: ManuallyDrop::new(log),
        }
    }
}

impl<T: Driver> Drop for Transaction<'_, T> {
    fn drop(&mut self) {
        while let Some(entry) = self.log.pop() {
            match entry {
                Entry::Inserted(va) => {
                    // SAFETY: Inserted by this transaction and everything after it is undone, so it
                    // is in the tree; VM and object are locked.
                    drop(unsafe { GpuVaRemoved::<T>::take(va) });
                }
                // SAFETY: Taken from this VM by this transaction, whose later changes are undone,
                // so the range is free again; VM and object are locked.
                Entry::Removed(va) => unsafe { va.restore(self.vm) },
                // SAFETY: In the tree, as for `Inserted`.
                Entry::Flags(va, old) => unsafe { (*va.as_ptr()).flags = old },
                Entry::Step(_) => {}
            }
        }
    }
}

/// What the job has to do to the page tables, in order, and the VMAs that it has to keep, since
/// page tables may lead to what they map.
///
/// There is one way to be rid of those: [`Self::retire`]. Dropping this instead warns, and leaks
/// them: their pages are never given back.
pub struct Committed<T: Driver> {
    log: ManuallyDrop<Log<T>>,
}

impl<T: Driver> Committed<T> {
    /// The page-table steps, in the order in which the tree was changed.
    pub fn steps(&self) -> impl Iterator<Item = &T::Step> {
        self.log.iter().filter_map(|entry| match entry {
            Entry::Step(step) => Some(step),
            _ => None,
        })
    }

    /// Nothing leads to what the removed VMAs map any more, as the proof says: [`Driver::retired`]
    /// is called for each. Doesn't free anything yet, so that it may be called on the
    /// fence-signalling path if that function may.
    pub fn retire(self, _proof: T::Unreachable) -> Retired<T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` isn't used again.
        let mut log = unsafe { ManuallyDrop::take(&mut this.log) };
        for entry in log.iter_mut() {
            if let Entry::Removed(va) = entry {
                va.retire();
            }
        }
        Retired { _log: log }
    }
}

impl<T: Driver> Drop for Committed<T> {
    fn drop(&mut self) {
        let keeps = |entry: &Entry<T>| matches!(entry, Entry::Removed(_));
        if !warn_on!(self.log.iter().any(keeps)) {
            // SAFETY: Not used again.
            unsafe { ManuallyDrop::drop(&mut self.log) };
        }
    }
}

/// What is left of a change that was carried out. Dropping it frees the removed VMAs, and the
/// objects that only they kept: that may sleep.
pub struct Retired<T: Driver> {
    _log: Log<T>,
}
