// SPDX-License-Identifier: GPL-2.0-only

//! Locking many reservation objects at once with `drm_exec`.
//!
//! The retry loop belongs to [`Exec::lock_all`]: its closure locks everything that it needs and may
//! run several times, since contention drops all locks and starts over. What comes back is
//! [`Locked`], from which the tokens for single objects and VMs are borrowed.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/exec.rs")]
//! ```

use core::{
    marker::PhantomData,
    ops::Deref, //
};

use kernel::{
    prelude::*,
    types::Opaque, //
};

use super::{
    fence::Fence,
    gem::{
        GemObject,
        ObjLocked,
        ObjLocks, //
    },
    to_result,
    vm::{
        Driver,
        GpuVm,
        VaRange,
        VmLocked, //
    },
};
use crate::bindings;

/// A `drm_exec` context, pinned since its ww ticket is pointed at by the locks that it holds.
///
/// Dropping it unlocks whatever is locked.
#[pin_data(PinnedDrop)]
pub struct Exec {
    #[pin]
    raw: Opaque<bindings::drm_exec>,
}

#[pinned_drop]
impl PinnedDrop for Exec {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised in `new()`; nothing can borrow the locks any more.
        unsafe { bindings::drm_exec_fini(self.raw.get()) };
    }
}

impl Exec {
    /// A context whose waits can be interrupted by a signal, with room for `nr` objects; 0 for as
    /// many as a page has room for. It grows, by a page.
    ///
    /// Objects that share a resv may be locked repeatedly.
    pub fn interruptible(nr: usize) -> impl PinInit<Self> {
        Self::with_flags(
            bindings::DRM_EXEC_FLAG_INTERRUPTIBLE_WAIT | bindings::DRM_EXEC_FLAG_IGNORE_DUPLICATES,
            nr,
        )
    }

    /// A context whose waits can't be interrupted, for teardown.
    pub fn uninterruptible(nr: usize) -> impl PinInit<Self> {
        Self::with_flags(bindings::DRM_EXEC_FLAG_IGNORE_DUPLICATES, nr)
    }

    fn with_flags(flags: u32, nr: usize) -> impl PinInit<Self> {
        let nr = nr.min(1 << 12) as core::ffi::c_uint;
        pin_init!(Self {
            // SAFETY: `drm_exec_init()` initialises all that the other functions rely on; the
            // ticket is initialised by the first `drm_exec_cleanup()`.
            raw <- Opaque::ffi_init(|slot| unsafe { bindings::drm_exec_init(slot, flags, nr) }),
        })
    }

    /// Runs `lock` until it has locked everything without contention.
    ///
    /// # Errors
    ///
    /// What `lock` returned, unless contention made it start over; `EINTR` for a signal.
    pub fn lock_all(
        self: Pin<&mut Self>,
        mut lock: impl FnMut(&Attempt<'_>) -> Result,
    ) -> Result<Locked<'_>> {
        let raw = self.raw.get();
        // SAFETY: `raw` is initialised. `drm_exec_cleanup()` returns true until nothing is
        // contended any more, and drops all locks when it asks for another attempt.
        while unsafe { bindings::drm_exec_cleanup(raw) } {
            let result = lock(&Attempt {
                raw,
                _borrow: PhantomData,
            });
            // SAFETY: `raw` is initialised; after the first cleanup `contended` is NULL or an
            // object.
            if unsafe { (*raw).contended }.is_null() {
                result?;
            }
        }
        Ok(Locked {
            raw,
            _borrow: PhantomData,
        })
    }
}

/// Whether `exec` holds the resv of `obj`.
///
/// # Safety
///
/// `exec` is initialised.
unsafe fn holds(exec: *mut bindings::drm_exec, obj: &GemObject) -> bool {
    // SAFETY: The object that is borrowed has its resv as long as it lives.
    let ctx = unsafe { &raw const (*obj.resv()).lock.ctx };
    // SAFETY: A word that is compared only. It is our ticket only while we hold the mutex: another
    // owner's may change meanwhile, but never into ours.
    let ctx = unsafe { ctx.read_volatile() };
    // SAFETY: Initialised, by the caller's promise.
    ctx == unsafe { &raw mut (*exec).ticket }
}

/// One attempt at locking everything.
pub struct Attempt<'a> {
    raw: *mut bindings::drm_exec,
    _borrow: PhantomData<&'a mut Exec>,
}

impl Attempt<'_> {
    /// Locks `obj`'s resv and takes a reference to the object, unless the resv is locked already.
    ///
    /// # Errors
    ///
    /// `EDEADLK` on contention (return it: the attempt starts over), `ENOMEM`, `EINTR`.
    pub fn lock(&self, obj: &GemObject) -> Result {
        // What was contended is locked before anything else, but kept only if somebody asks for it.
        // SAFETY: The attempt borrows an `Exec`, which is initialised.
        let prelocked = unsafe { (*self.raw).prelocked };
        // SAFETY: As above.
        if prelocked.is_null() && unsafe { holds(self.raw, obj) } {
            return Ok(());
        }
        // SAFETY: As above, and `Exec::lock_all()` is in its retry loop. The object is borrowed.
        to_result(unsafe { bindings::drm_exec_lock_obj(self.raw, obj.as_raw()) })
    }

    /// As [`Self::lock`]. Returns whether the resv was not locked before, for this object or for
    /// another that shares it.
    pub fn lock_new(&self, obj: &GemObject) -> Result<bool> {
        // SAFETY: The attempt borrows an `Exec`, which is initialised.
        let locked = || unsafe { (*self.raw).num_objects };
        let before = locked();
        self.lock(obj)?;
        Ok(locked() != before)
    }

    /// Locks the resv that `vm` shares with its private objects. Errors as [`Self::lock`].
    pub fn lock_vm<'v, T: Driver>(&'v self, vm: &'v GpuVm<T>) -> Result<VmLocked<'v, T>> {
        self.lock(vm.resv_obj())?;
        // SAFETY: Just locked; an attempt that is started over ends the borrow of `self` first.
        Ok(unsafe { VmLocked::new(vm) })
    }

    /// Locks the objects that are mapped in `range`, or partly so: those that a change of it unmaps
    /// or splits. Errors as [`Self::lock`].
    pub fn lock_mapped<T: Driver>(&self, vm: &VmLocked<'_, T>, range: VaRange) -> Result {
        vm.try_for_each_va_in(range, |va| match va.obj() {
            Some(obj) => self.lock(obj),
            None => Ok(()),
        })
    }

    /// Locks every object mapped in `vm` that has lost its pages, as [`Locked::validate`] wants it.
    ///
    /// # Errors
    ///
    /// As [`Self::lock`]; `EINVAL` for a VM without `DRM_GPUVM_RESV_PROTECTED`.
    pub fn lock_evicted<T: Driver>(&self, vm: &VmLocked<'_, T>) -> Result {
        vm.try_for_each_evicted(|obj| self.lock(obj))
    }

    /// Locks every object mapped in `vm` that isn't private to it. Errors as [`Self::lock`].
    pub fn lock_extobjs<T: Driver>(&self, vm: &VmLocked<'_, T>) -> Result {
        // SAFETY: The token says that the VM is locked, which is what keeps the list still.
        to_result(unsafe { bindings::drm_gpuvm_prepare_objects(vm.as_raw(), self.raw, 0) })
    }
}

/// Everything that an [`Exec`] asked for is locked for `'e`.
pub struct Locked<'e> {
    raw: *mut bindings::drm_exec,
    _borrow: PhantomData<&'e mut Exec>,
}

impl<'e> Locked<'e> {
    /// The token for `obj`, if this context holds its resv.
    pub fn obj<'l>(&'l self, obj: &'l GemObject) -> Option<ObjLocked<'l>> {
        // SAFETY: `self` borrows an `Exec`, which is initialised.
        unsafe { holds(self.raw, obj) }
            // SAFETY: Held until the borrow of `self` ends.
            .then(|| unsafe { ObjLocked::new(obj) })
    }

    /// The token for `vm`, if this context holds its resv.
    pub fn vm<'l, T: Driver>(&'l self, vm: &'l GpuVm<T>) -> Option<VmLocked<'l, T>> {
        self.obj(vm.resv_obj())
            // SAFETY: `obj()` proved that the VM's resv is held until the borrow of `self` ends.
            .map(|_| unsafe { VmLocked::new(vm) })
    }

    /// The locked objects, one per resv.
    fn objects(&self) -> &[*mut bindings::drm_gem_object] {
        // SAFETY: `self` borrows an `Exec`, which is initialised.
        let nr = unsafe { (*self.raw).num_objects };
        if nr == 0 {
            return &[];
        }
        // SAFETY: As above.
        let objects = unsafe { (*self.raw).objects };
        // SAFETY: drm_exec keeps so many there, each with a reference and locked, until the `Exec`
        // is used again, which `self` borrows.
        unsafe { core::slice::from_raw_parts(objects, nr as usize) }
    }

    /// Makes the evicted VMAs of `vm` usable again (`Driver::validate()`, which gets `how`), in no
    /// particular order.
    ///
    /// What was evicted is to be locked, see [`Attempt::lock_evicted`], and no fence of the work
    /// that needs it attached: what was evicted has nobody who would signal it yet.
    ///
    /// # Errors
    ///
    /// The first that the driver returned. What was made usable before stays so.
    pub fn validate<T: Driver>(&self, vm: &VmLocked<'_, T>, how: &T::Validation) -> Result {
        // All that becomes of the second argument is that the callback gets it.
        let how = core::ptr::from_ref(how).cast_mut().cast();
        // SAFETY: The token says that the VM is locked, and this context has locked the objects.
        // The VM's callbacks are `GpuVm::OPS` of the same driver, which expects its `Validation`.
        to_result(unsafe { bindings::drm_gpuvm_validate(vm.as_raw(), how) })
    }

    /// Reserves `nr` fence slots in every locked resv, so that attaching can't fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn reserve_fences(self, nr: Slots) -> Result<Prepared<'e>> {
        let objects = match nr {
            Slots::Zero => &[],
            _ => self.objects(),
        };
        for &obj in objects {
            // SAFETY: The context has a reference to the object.
            let resv = unsafe { (*obj).resv };
            // SAFETY: It is the object's, and locked by the context.
            to_result(unsafe { bindings::dma_resv_reserve_fences(resv, nr as u32) })?;
        }
        Ok(Prepared {
            locked: self,
            slots: nr,
        })
    }
}

/// How many fences a resv may get.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// None: what is done is done before the locks are dropped.
    Zero = 0,
    /// One, for [`Prepared::attach_bookkeep`].
    One = 1,
    /// Two of one job: [`Prepared::attach_each`] may attach it to read one object and to write
    /// another that shares the resv.
    ReadWrite = 2,
}

/// What a job does with an object, and so who waits for it implicitly.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Writers wait for it.
    Read,
    /// Everybody waits for it.
    Write,
}

impl Usage {
    fn to_raw(self) -> bindings::dma_resv_usage {
        match self {
            Self::Read => bindings::dma_resv_usage_DMA_RESV_USAGE_READ,
            Self::Write => bindings::dma_resv_usage_DMA_RESV_USAGE_WRITE,
        }
    }
}

/// As [`Locked`], with fence slots reserved in every locked resv.
pub struct Prepared<'e> {
    locked: Locked<'e>,
    slots: Slots,
}

impl Prepared<'_> {
    /// Attaches `fence` to every locked resv for bookkeeping. The fence of work that uses all that
    /// is mapped in a VM is needed in the VM's resv alone, if who takes an object's pages away asks
    /// the VMs that map it, too.
    ///
    /// Bookkeeping fences keep the pages where they are (the shrinker asks for all fences) without
    /// making implicit synchronisation wait for them.
    ///
    /// Needs a slot; without, warns and leaves the fence off.
    pub fn attach_bookkeep(self, fence: &Fence) {
        if kernel::warn_on!(self.slots == Slots::Zero) {
            return;
        }
        for &obj in self.locked.objects() {
            // SAFETY: The context has a reference to the object.
            let resv = unsafe { (*obj).resv };
            // SAFETY: It is the object's, and locked by the context; `reserve_fences()` has
            // reserved a slot.
            unsafe {
                bindings::dma_resv_add_fence(
                    resv,
                    fence.as_raw(),
                    bindings::dma_resv_usage_DMA_RESV_USAGE_BOOKKEEP,
                )
            };
        }
    }

    /// Attaches `fence` to each of `objects`, which are all locked, for its usage.
    ///
    /// Needs [`Slots::ReadWrite`]; without, or for an object that isn't locked, warns and leaves
    /// the fence off.
    pub fn attach_each<'o>(
        self,
        fence: &Fence,
        objects: impl Iterator<Item = (&'o GemObject, Usage)>,
    ) {
        for (obj, usage) in objects {
            let usable = self.slots == Slots::ReadWrite && self.locked.obj(obj).is_some();
            if kernel::warn_on!(!usable) {
                continue;
            }
            // SAFETY: The object is borrowed, and was just found to be locked. A fence takes one
            // slot of a resv for each usage at most, and there are two.
            unsafe { bindings::dma_resv_add_fence(obj.resv(), fence.as_raw(), usage.to_raw()) };
        }
    }
}

impl<'e> Deref for Prepared<'e> {
    type Target = Locked<'e>;

    fn deref(&self) -> &Locked<'e> {
        &self.locked
    }
}

impl ObjLocks for Locked<'_> {
    fn of<'a>(&'a self, obj: &'a GemObject) -> Option<ObjLocked<'a>> {
        self.obj(obj)
    }
}
