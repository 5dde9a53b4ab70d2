// SPDX-License-Identifier: GPL-2.0-only

//! A buffer object: C's `struct msm_gem_object` with what Rust adds behind it, and who may touch
//! what of it.
//!
//! - [`Bo`]: what never changes, and what has a lock or an atomic of its own.
//! - [`BoLocked`]: its resv is locked. Pages, kernel mapping, pins for scanout; the madvise state
//!   to look at.
//! - [`BoLru`]: its resv and the device's LRU lock are. Pin count, madvise state, LRU.
//! - [`Retiring`]: only the LRU lock is, on the fence-signalling path, and the BO is pinned. Pin
//!   count, LRU.

use core::{
    cell::UnsafeCell,
    ffi::c_void,
    marker::PhantomData,
    mem::offset_of,
    ops::Deref,
    ptr::NonNull,
    sync::atomic::{
        AtomicU64,
        Ordering, //
    },
};

use kernel::{
    fmt,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
    },
    types::Opaque,
};

use super::{
    bindings,
    debug,
    holders::Holders, //
};
use crate::{
    gpuvm_rs::{
        gem::{
            GemObject,
            ObjGuard,
            ObjLocked, //
        },
        lru::LruLocked,
        pair,
        sm::OpMap,
        va::GpuVa,
        vm::{
            Driver,
            GpuVm,
            VmLocked, //
        },
    },
    pgtable::pte::Prot,
    pure::ops,
};

/// The bytes of a BO's name that the VM log keeps.
pub(crate) const NAME_LEN: usize = 32;

/// What userspace said about the content, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Madv {
    /// It is needed.
    WillNeed,
    /// It may be thrown away when memory is short.
    DontNeed,
    /// It was thrown away; the BO never gets pages again.
    Purged,
}

impl Madv {
    /// For `MSM_MADV_x`.
    pub(crate) fn from_raw(raw: u8) -> Self {
        match u32::from(raw) {
            bindings::MSM_MADV_WILLNEED => Self::WillNeed,
            bindings::MSM_MADV_DONTNEED => Self::DontNeed,
            _ => Self::Purged,
        }
    }

    /// As `MSM_MADV_x`.
    pub(crate) fn to_raw(self) -> u8 {
        let raw = match self {
            Self::WillNeed => bindings::MSM_MADV_WILLNEED,
            Self::DontNeed => bindings::MSM_MADV_DONTNEED,
            Self::Purged => bindings::__MSM_MADV_PURGED,
        };
        raw as u8
    }
}

/// The device's lists of BOs, each from the one used longest ago to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lru {
    /// Without pages.
    Unbacked,
    /// Pinned, or imported.
    Pinned,
    /// With pages that may be swapped out.
    WillNeed,
    /// With pages that may be thrown away.
    DontNeed,
}

/// A BO in memory: what C knows of it, and what it doesn't.
#[repr(C)]
pub(crate) struct BoMemory {
    pub(crate) c: Opaque<bindings::msm_gem_object>,
    pub(crate) holders: Holders,
    /// How often the VMA of the kms VM is pinned. Guarded by the BO's resv.
    scanout_pins: UnsafeCell<u32>,
    /// When it was last put into an LRU, in jiffies.
    placed: AtomicU64,
}

const _: () = {
    assert!(offset_of!(BoMemory, c) == 0);
    assert!(offset_of!(bindings::msm_gem_object, base) == 0);
};

/// A GEM object that is a `struct msm_gem_object`.
///
/// # Invariants
///
/// It is the first field of a [`BoMemory`].
#[repr(transparent)]
pub(crate) struct Bo(GemObject);

// SAFETY: As for the GEM object, whose count this is.
unsafe impl AlwaysRefCounted for Bo {
    fn inc_ref(&self) {
        self.0.inc_ref();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: Transparent over `GemObject`; the rest is the caller's promise.
        unsafe { GemObject::dec_ref(obj.cast()) }
    }
}

impl Bo {
    /// # Safety
    ///
    /// `obj` was made by the msm driver (it isn't a VM's resv object).
    pub(super) unsafe fn from_gem(obj: &GemObject) -> &Self {
        // SAFETY: Transparent; the caller's promise.
        unsafe { &*core::ptr::from_ref(obj).cast() }
    }

    /// Borrows a BO that C code holds a reference to.
    ///
    /// # Safety
    ///
    /// `obj` was made by the msm driver and stays referenced for `'a`.
    pub(crate) unsafe fn from_raw<'a>(obj: *mut bindings::drm_gem_object) -> &'a Self {
        // SAFETY: Referenced for `'a`, by the caller's promise.
        let obj = unsafe { GemObject::from_raw(obj) };
        // SAFETY: Made by the driver, by the caller's promise.
        unsafe { Self::from_gem(obj) }
    }

    /// What `va` maps; `None` for a NULL mapping.
    pub(crate) fn of_va<T: Driver>(va: &GpuVa<T>) -> Option<&Self> {
        // SAFETY: Only the driver's BOs are ever mapped.
        va.obj().map(|obj| unsafe { Self::from_gem(obj) })
    }

    /// What a step maps; `None` for a NULL mapping.
    pub(crate) fn of_op<'a>(op: &'a OpMap<'_>) -> Option<&'a Self> {
        // SAFETY: Only the driver's BOs are ever mapped.
        op.obj().map(|obj| unsafe { Self::from_gem(obj) })
    }

    /// Looks up a handle.
    ///
    /// # Safety
    ///
    /// `file` is an open file of the msm driver.
    pub(super) unsafe fn lookup(file: *mut bindings::drm_file, handle: u32) -> Option<ARef<Self>> {
        // SAFETY: An open file, by the caller's promise.
        let obj = unsafe { bindings::drm_gem_object_lookup(file, handle) };
        // SAFETY: The call returns a reference or NULL; all of the file's objects are the driver's.
        NonNull::new(obj.cast()).map(|obj| unsafe { ARef::from_raw(obj) })
    }

    /// As [`Self::lookup`], with the file's handles locked.
    ///
    /// # Safety
    ///
    /// As [`Self::lookup`]; they are locked.
    pub(super) unsafe fn find(file: *mut bindings::drm_file, handle: u32) -> Option<ARef<Self>> {
        // SAFETY: An open file, whose handles are locked, by the caller's promise.
        let obj = unsafe { bindings::msm_rs_find_bo(file, handle) };
        // SAFETY: As in `lookup()`.
        NonNull::new(obj.cast()).map(|obj| unsafe { ARef::from_raw(obj) })
    }

    /// As a GEM object.
    pub(crate) fn gem(&self) -> &GemObject {
        &self.0
    }

    pub(crate) fn raw(&self) -> *mut bindings::msm_gem_object {
        self.0.as_raw().cast()
    }

    /// The device, which outlives its BOs.
    pub(super) fn device(&self) -> *mut bindings::drm_device {
        // SAFETY: `self` keeps the BO alive; the pointer never changes.
        unsafe { (*self.0.as_raw()).dev }
    }

    /// Says in the drm debug log why userspace got an error.
    pub(crate) fn note(&self, args: fmt::Arguments<'_>) {
        // SAFETY: The device outlives its BOs.
        unsafe { debug::line(self.device(), args) };
    }

    /// `MSM_BO_x` flags, which never change.
    pub(super) fn flags(&self) -> u32 {
        // SAFETY: `self` keeps the BO alive.
        unsafe { (*self.raw()).flags }
    }

    /// Whether the BO may only be mapped in the VM that it was made in.
    pub(crate) fn is_no_share(&self) -> bool {
        self.flags() & bindings::MSM_BO_NO_SHARE != 0
    }

    /// Whether the GPU may not write.
    pub(crate) fn is_readonly(&self) -> bool {
        self.flags() & bindings::MSM_BO_GPU_READONLY != 0
    }

    /// Whether the GPU snoops CPU caches for it.
    pub(super) fn is_coherent(&self) -> bool {
        self.flags() & bindings::MSM_BO_CACHED_COHERENT != 0
    }

    /// Whether CPUs access it uncached.
    pub(crate) fn is_write_combined(&self) -> bool {
        self.flags() & bindings::MSM_BO_WC != 0
    }

    /// How its pages are mapped for the GPU.
    pub(crate) fn prot(&self) -> Prot {
        Prot {
            write: !self.is_readonly(),
            privileged: self.flags() & bindings::MSM_BO_MAP_PRIV != 0,
            cached: self.is_coherent(),
        }
    }

    /// The name that userspace gave it, for people to read: it may change under our eyes.
    pub(crate) fn name(&self) -> [u8; NAME_LEN] {
        // SAFETY: `self` keeps the BO alive.
        let name = unsafe { &raw const (*self.raw()).name };
        // SAFETY: As above; any bytes are a valid name.
        unsafe { name.cast::<[u8; NAME_LEN]>().read_volatile() }
    }

    /// Locks the BO. The wait can't be interrupted.
    pub(crate) fn lock(&self) -> BoGuard<'_> {
        BoGuard::new(self.0.lock())
    }

    /// Locks the BO, unless a signal comes.
    ///
    /// # Errors
    ///
    /// `EINTR`.
    pub(crate) fn lock_interruptible(&self) -> Result<BoGuard<'_>> {
        self.0.lock_interruptible().map(BoGuard::new)
    }

    /// Locks the BO if nobody else has.
    pub(crate) fn try_lock(&self) -> Option<BoGuard<'_>> {
        self.0.try_lock().map(BoGuard::new)
    }

    /// Calls `f` with `vm` and the BO locked. The wait can't be interrupted, and needs no memory.
    pub(crate) fn with_vm<T: Driver, R>(
        &self,
        vm: &GpuVm<T>,
        f: impl FnOnce(&VmLocked<'_, T>, &BoLocked<'_>) -> R,
    ) -> R {
        pair::with_both(vm, &self.0, |vm, obj| {
            f(
                vm,
                &BoLocked {
                    obj: obj.reborrow(),
                },
            )
        })
    }

    /// The contexts that have handles.
    pub(crate) fn holders(&self) -> &Holders {
        // SAFETY: A BO is in a `BoMemory`, by the type invariant, which lives as long as it does.
        unsafe { &(*self.raw().cast::<BoMemory>()).holders }
    }

    /// Whether a context whose VM is `vm` has a handle. If it gives its last one up now, it locks
    /// VM and BO after that.
    pub(crate) fn has_handle_in<T: Driver>(&self, vm: &GpuVm<T>) -> bool {
        self.holders().any_in(vm)
    }

    fn placed_place(&self) -> &AtomicU64 {
        // SAFETY: A BO is in a `BoMemory`, by the type invariant, which lives as long as it does.
        unsafe { &(*self.raw().cast::<BoMemory>()).placed }
    }

    /// When it was last put into an LRU, in jiffies.
    pub(crate) fn placed(&self) -> u64 {
        self.placed_place().load(Ordering::Relaxed)
    }

    fn scanout_refs(&self) -> &Atomic<i32> {
        // SAFETY: `self` keeps the BO alive.
        let counter = unsafe { &raw mut (*self.raw()).vma_ref.counter };
        // SAFETY: As above; C only touches it through us.
        unsafe { Atomic::from_ptr(counter) }
    }

    fn pin_count_place(&self) -> *mut i32 {
        // SAFETY: `self` keeps the BO alive.
        unsafe { &raw mut (*self.raw()).pin_count }
    }

    /// Handles, dma-bufs and framebuffers that want the VMA of the kms VM to stay.
    pub(crate) fn scanout_users(&self) -> i32 {
        self.scanout_refs().load(Relaxed)
    }

    /// One more of [`Self::scanout_users`].
    pub(crate) fn add_scanout_user(&self) {
        self.scanout_refs().fetch_add(1, Relaxed);
    }

    /// One less of [`Self::scanout_users`]. Returns how many there are now.
    pub(crate) fn remove_scanout_user(&self) -> i32 {
        self.scanout_refs().fetch_sub(1, Full) - 1
    }
}

/// Proof that a BO's resv is locked for `'l`.
///
/// # Invariants
///
/// `obj` is a [`Bo`].
pub(crate) struct BoLocked<'l> {
    obj: ObjLocked<'l>,
}

impl Deref for BoLocked<'_> {
    type Target = Bo;

    fn deref(&self) -> &Bo {
        // SAFETY: The type invariant.
        unsafe { Bo::from_gem(&self.obj) }
    }
}

impl<'l> BoLocked<'l> {
    /// `None` if it isn't `bo` that is locked.
    pub(crate) fn of(bo: &'l Bo, obj: &'l ObjLocked<'_>) -> Option<Self> {
        // INVARIANT: It is the BO.
        (bo.gem().as_raw() == obj.as_raw()).then(|| Self {
            obj: obj.reborrow(),
        })
    }

    /// `None` if the object isn't a BO of the driver.
    pub(crate) fn of_object(obj: &'l ObjLocked<'_>) -> Option<Self> {
        // SAFETY: The lock's object is alive; the functions never change. Only their address is
        // compared.
        let is_bo =
            unsafe { core::ptr::eq((*obj.as_raw()).funcs, &raw const bindings::msm_rs_gem_funcs) };
        // INVARIANT: Only BOs have these functions.
        is_bo.then(|| Self {
            obj: obj.reborrow(),
        })
    }

    /// As [`Self::of`], for as long as the lock that is given.
    pub(crate) fn of_owned(bo: &Bo, obj: ObjLocked<'l>) -> Option<Self> {
        // INVARIANT: It is the BO.
        (bo.gem().as_raw() == obj.as_raw()).then_some(Self { obj })
    }

    /// # Safety
    ///
    /// The object was made by the msm driver.
    pub(super) unsafe fn from_locked(obj: ObjLocked<'l>) -> Self {
        // INVARIANT: The caller's promise.
        Self { obj }
    }

    /// The token for a lock that C code holds around a call into Rust.
    ///
    /// # Safety
    ///
    /// `obj` was made by the msm driver. Its resv is locked for `'l`, or its last reference is
    /// gone; that is asserted under lockdep.
    pub(crate) unsafe fn assume(obj: *mut bindings::drm_gem_object) -> Self {
        // SAFETY: Locked for `'l`, or being freed by the caller: alive.
        let obj = unsafe { GemObject::from_raw(obj) };
        // SAFETY: The caller's promise.
        let obj = unsafe { ObjLocked::assume(obj) };
        // INVARIANT: The caller's promise.
        Self { obj }
    }

    /// The lock, as GPUVM knows it.
    pub(crate) fn obj(&self) -> &ObjLocked<'l> {
        &self.obj
    }

    /// Whether it has pages, which come and go with their table.
    pub(crate) fn is_backed(&self) -> bool {
        // SAFETY: `self` is the lock that guards it.
        unsafe { !(*self.raw()).pages.is_null() }
    }

    /// The physical page `index`.
    pub(crate) fn page(&self, index: u64) -> Option<NonNull<bindings::page>> {
        if !self.is_backed() || index >= self.gem().size() / ops::PAGE_SIZE {
            return None;
        }
        // SAFETY: `self` is the lock that guards it.
        let pages = unsafe { (*self.raw()).pages };
        // SAFETY: There are as many pages as the BO is large, see `Backing`.
        let page = unsafe { pages.add(index as usize) };
        // SAFETY: As above.
        NonNull::new(unsafe { *page })
    }

    /// The madvise state.
    pub(crate) fn madv(&self) -> Madv {
        // SAFETY: It is written with both locks held, of which `self` is one.
        Madv::from_raw(unsafe { (*self.raw()).madv })
    }

    /// Whether it is pinned. A job that retires may unpin it meanwhile.
    pub(crate) fn is_pinned(&self) -> bool {
        // SAFETY: `self` borrows the BO, which is alive. A word that others change under the LRU
        // lock.
        unsafe { self.pin_count_place().read_volatile() != 0 }
    }

    /// How many users the kernel mapping has.
    pub(crate) fn vmap_count(&self) -> u8 {
        // SAFETY: `self` is the lock that guards it.
        unsafe { (*self.raw()).vmap_count }
    }

    /// See [`Self::vmap_count`].
    pub(crate) fn set_vmap_count(&self, count: u8) {
        // SAFETY: `self` is the lock that guards it.
        unsafe { (*self.raw()).vmap_count = count };
    }

    /// Where the kernel has mapped it. The mapping may outlive its last user.
    pub(crate) fn vaddr(&self) -> Option<NonNull<c_void>> {
        // SAFETY: `self` is the lock that guards it.
        NonNull::new(unsafe { (*self.raw()).vaddr })
    }

    /// Maps all pages for the kernel, write-combined if the BO is.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn map_for_kernel(&self) -> Result<NonNull<c_void>> {
        if self.vaddr().is_some() || !self.is_backed() {
            return Err(EINVAL);
        }
        let nr = (self.gem().size() / ops::PAGE_SIZE) as u32;
        // SAFETY: `self` is the lock that guards it.
        let pages = unsafe { (*self.raw()).pages };
        // SAFETY: It is backed, and there are as many pages as the BO is large, see `Backing`.
        let vaddr = unsafe { bindings::msm_rs_vmap(pages, nr, self.is_write_combined()) };
        // SAFETY: `self` is the lock that guards it.
        unsafe { (*self.raw()).vaddr = vaddr };
        NonNull::new(vaddr).ok_or(ENOMEM)
    }

    /// Writes dword number `dword` through the kernel mapping. Without one, or for a dword that the
    /// BO doesn't have, warns and writes nothing.
    pub(crate) fn write_dword(&self, dword: u32, value: u32) {
        let inside = ops::fits(u64::from(dword) * 4, 4, self.gem().size());
        let Some(vaddr) = self.vaddr().filter(|_| inside) else {
            kernel::warn_on!(true);
            return;
        };
        // SAFETY: All of the BO is mapped there, for as long as the lock is held: `self`. The dword
        // is in it.
        let place = unsafe { vaddr.cast::<u32>().add(dword as usize) };
        // SAFETY: As above. Userspace and the GPU may use it at the same time.
        unsafe { place.write_volatile(value) };
    }

    /// Takes the kernel mapping away if there is one that has no users. Returns whether there was.
    pub(crate) fn unmap_for_kernel(&self) -> bool {
        if self.vmap_count() != 0 {
            return false;
        }
        // SAFETY: `self` is the lock that guards it.
        let vaddr = unsafe { core::mem::replace(&mut (*self.raw()).vaddr, core::ptr::null_mut()) };
        if vaddr.is_null() {
            return false;
        }
        // SAFETY: From `map_for_kernel()`, and taken out. It has no users, see above.
        unsafe { bindings::vunmap(vaddr) };
        true
    }

    fn pins_for_scanout(&self) -> *mut u32 {
        // SAFETY: A BO is in a `BoMemory`, by the type invariant.
        unsafe { UnsafeCell::raw_get(&raw const (*self.raw().cast::<BoMemory>()).scanout_pins) }
    }

    /// How often the VMA of the kms VM is pinned.
    pub(crate) fn scanout_pins(&self) -> u32 {
        // SAFETY: `self` is the lock that guards it.
        unsafe { *self.pins_for_scanout() }
    }

    /// See [`Self::scanout_pins`].
    pub(crate) fn set_scanout_pins(&self, count: u32) {
        // SAFETY: `self` is the lock that guards it.
        unsafe { *self.pins_for_scanout() = count };
    }

    /// Takes the CPU mappings of userspace away: the next access faults.
    pub(crate) fn unmap_for_users(&self) {
        // SAFETY: `self` borrows the BO, which is alive. Its device outlives it.
        unsafe { bindings::msm_rs_unmap_users(self.gem().as_raw()) };
    }

    /// Forgets the content, in memory and in swap, and the place at which userspace may map it. For
    /// good.
    pub(crate) fn forget_content(&self) {
        // SAFETY: `self` borrows the BO, which is alive. Not imported, or this wouldn't be asked
        // for.
        unsafe { bindings::msm_rs_forget_content(self.gem().as_raw()) };
    }

    /// Counts `bytes` of memory for the device: of a BO that got its pages, or, negative, lost
    /// them.
    pub(crate) fn charge(&self, bytes: i64) {
        // SAFETY: The device outlives its BOs.
        unsafe { bindings::msm_rs_charge_device(self.device(), bytes) };
    }

    /// Calls `f` with the LRU lock held.
    pub(crate) fn with_lru<R>(&self, f: impl FnOnce(&BoLru<'_>) -> R) -> R {
        let _lru = self.gem().lock_lru();
        // SAFETY: `_lru` holds it until `f` has returned.
        f(&unsafe { BoLru::assume(self) })
    }
}

/// The lock of a BO, held until this is dropped.
pub(crate) struct BoGuard<'l> {
    locked: BoLocked<'l>,
    _guard: ObjGuard<'l>,
}

impl<'l> BoGuard<'l> {
    /// For the lock of a [`Bo`].
    fn new(guard: ObjGuard<'l>) -> Self {
        // INVARIANT: Callers are in `Bo`.
        // SAFETY: Locked for as long as `guard` lives, which is as long as `locked` does.
        let locked = unsafe { BoLocked::assume(guard.as_raw()) };
        Self {
            locked,
            _guard: guard,
        }
    }
}

impl<'l> Deref for BoGuard<'l> {
    type Target = BoLocked<'l>;

    fn deref(&self) -> &BoLocked<'l> {
        &self.locked
    }
}

/// What the LRU lock guards of a BO.
///
/// # Invariants
///
/// The LRU lock of the BO's device is held for `'l`.
pub(crate) struct LruState<'l> {
    bo: &'l Bo,
    /// Locks belong to a task.
    _not_send: PhantomData<*mut ()>,
}

impl LruState<'_> {
    /// How often the pages are pinned.
    pub(crate) fn pin_count(&self) -> i32 {
        // SAFETY: The LRU lock guards it, which is held by the type invariant.
        unsafe { *self.bo.pin_count_place() }
    }

    /// See [`Self::pin_count`].
    pub(crate) fn set_pin_count(&self, count: i32) {
        // SAFETY: The LRU lock, which is held by the type invariant, keeps other writers away;
        // readers without it read a word.
        unsafe { self.bo.pin_count_place().write_volatile(count) };
    }

    /// Whether the pages are somebody else's.
    pub(crate) fn is_imported(&self) -> bool {
        self.bo.gem().is_imported()
    }

    /// The madvise state.
    pub(crate) fn madv(&self) -> Madv {
        // SAFETY: It is written with both locks held, of which `self` is one.
        Madv::from_raw(unsafe { (*self.bo.raw()).madv })
    }

    /// Makes it the newest of `lru`.
    pub(crate) fn move_to(&self, lru: Lru) {
        let now = super::jiffies();
        self.bo.placed_place().store(now, Ordering::Relaxed);
        let offset = match lru {
            Lru::Unbacked => offset_of!(bindings::msm_drm_private, lru.unbacked),
            Lru::Pinned => offset_of!(bindings::msm_drm_private, lru.pinned),
            Lru::WillNeed => offset_of!(bindings::msm_drm_private, lru.willneed),
            Lru::DontNeed => offset_of!(bindings::msm_drm_private, lru.dontneed),
        };
        // SAFETY: The device outlives its BOs.
        let private = unsafe { super::private(self.bo.device()) };
        let lru: *mut bindings::drm_gem_lru = private.wrapping_byte_add(offset).cast();
        // SAFETY: The LRU lock is held, by the type invariant; the device has its LRUs as long as
        // it lives.
        unsafe { bindings::drm_gem_lru_move_tail_locked(lru, self.bo.gem().as_raw()) };
    }
}

/// A BO's resv and the LRU lock of its device are held for `'l`.
pub(crate) struct BoLru<'l> {
    bo: &'l BoLocked<'l>,
    state: LruState<'l>,
}

impl<'l> BoLru<'l> {
    /// The token for an LRU lock that C code holds around a call into Rust.
    ///
    /// # Safety
    ///
    /// It is held for `'l`.
    pub(super) unsafe fn assume(bo: &'l BoLocked<'_>) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            bo,
            state: LruState {
                bo,
                _not_send: PhantomData,
            },
        }
    }

    /// `None` if `lru` is another device's.
    pub(crate) fn of(bo: &'l BoLocked<'_>, lru: &'l LruLocked<'_>) -> Option<Self> {
        // SAFETY: It is held for `'l`, and guards the BO.
        lru.guards(bo.gem()).then(|| unsafe { Self::assume(bo) })
    }

    /// The BO's lock.
    pub(crate) fn bo(&self) -> &BoLocked<'l> {
        self.bo
    }

    /// Sets the madvise state.
    pub(crate) fn set_madv(&self, madv: Madv) {
        // SAFETY: The BO is borrowed, hence alive.
        let place = unsafe { &raw mut (*self.bo.raw()).madv };
        // SAFETY: `self` is both locks, which keep other writers away; readers without them read a
        // byte.
        unsafe { place.write_volatile(madv.to_raw()) };
    }
}

impl<'l> Deref for BoLru<'l> {
    type Target = LruState<'l>;

    fn deref(&self) -> &LruState<'l> {
        &self.state
    }
}

/// A pin of a BO that had its pages when it was made, and so has them as long as it is there. It
/// isn't undone by dropping it, see [`Bo::with_kept`].
pub(crate) struct Kept(());

impl Kept {
    /// Counts a pin, if the BO has its pages.
    pub(crate) fn new(lru: &BoLru<'_>) -> Option<Self> {
        lru.bo().is_backed().then(|| {
            lru.set_pin_count(lru.pin_count().saturating_add(1));
            Self(())
        })
    }
}

/// A BO that is unpinned on the fence-signalling path, without its resv.
///
/// # Invariants
///
/// As [`LruState`]; and the pin that is undone, a submit's or a [`Kept`], is there, so that the BO
/// has its pages.
pub(crate) struct Retiring<'l>(LruState<'l>);

impl<'l> Retiring<'l> {
    /// # Safety
    ///
    /// The type invariant holds for `'l`.
    pub(crate) unsafe fn assume(bo: &'l Bo) -> Self {
        // INVARIANT: The caller's promise.
        Self(LruState {
            bo,
            _not_send: PhantomData,
        })
    }
}

impl<'l> Deref for Retiring<'l> {
    type Target = LruState<'l>;

    fn deref(&self) -> &LruState<'l> {
        &self.0
    }
}

impl Bo {
    /// Calls `f` with the LRU lock held, for it to undo `kept`, which was made for this BO.
    pub(crate) fn with_kept<R>(&self, _kept: Kept, f: impl FnOnce(&Retiring<'_>) -> R) -> R {
        let _lru = self.gem().lock_lru();
        // SAFETY: `_lru` holds the lock until `f` has returned; `_kept` says that the BO is pinned,
        // until `f` undoes it.
        f(&unsafe { Retiring::assume(self) })
    }
}
