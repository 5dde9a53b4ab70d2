// SPDX-License-Identifier: GPL-2.0-only

//! The VM that C and Rust share: `struct msm_gem_vm` with what Rust adds behind it.
//!
//! There are two kinds, of which a VM is one from its creation to its end: [`Managed`] VMs, whose
//! addresses the kernel gives out, and [`Bind`] VMs, which belong to VM_BIND.

use core::{
    mem::offset_of,
    ptr::NonNull, //
};

use kernel::{
    new_work,
    prelude::*,
    sync::aref::ARef,
    types::Opaque,
    workqueue::{
        impl_has_work,
        Work,
        WorkItem, //
    },
};

use super::{
    bindings,
    bo::{
        Bo,
        BoLocked, //
    },
    closed::Closed,
    module::{
        self,
        InUse, //
    },
    root::VmMmu, //
};
use crate::gpuvm_rs::{
    fence::Fence,
    gem::{
        GemObject,
        ObjLocked, //
    },
    sched,
    vm::{
        Driver,
        GpuVm,
        VmBo,
        VmLocked, //
    },
};

/// A VM whose addresses the kernel gives out. Its page tables change synchronously.
pub(crate) struct Managed;

/// A VM that userspace manages through VM_BIND.
pub(crate) struct Bind;

/// A kind of VM: what Rust keeps with a VM and with each of its VMAs.
///
/// # Safety
///
/// - [`Managed`] and [`Bind`] are the only kinds, and `MANAGED` says which is which.
/// - What it does with VMAs may rely on page tables, but C's part of [`Self::Va`] is C's: a VMA of
///   a managed VM begins as `struct msm_gem_vma` does, one of the other as far as `mapped`.
/// - `SCHEDULER` is [`super::jobs::start`] for the kind of job that the VM's queues get, or `None`
///   if they get none.
// Public as `Driver` is, which has its types.
#[allow(unreachable_pub)]
pub unsafe trait VmKind: Sized + 'static {
    /// Whether the kernel gives out the addresses.
    const MANAGED: bool;

    /// Starts the scheduler of a VM, if it has one.
    const SCHEDULER: Option<StartScheduler>;

    /// What each VMA carries.
    type Va;

    /// A page-table step of a job.
    type Step: Send;

    /// See [`Driver::Unreachable`].
    type Unreachable;

    /// What [`Self::restore`] is to know of who calls it.
    type Validation;

    /// The page tables, which are those that the VM was made for.
    type Space: Send + Sync;

    /// What else there is. Dropped before the page tables.
    type State: Send + Sync;

    /// Makes the VMAs of an evicted BO usable again, for a submit.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the BO was purged, `ENOMEM`, `EINTR`.
    fn restore(
        vm: &VmLocked<'_, Self>,
        obj: &ObjLocked<'_>,
        vm_bo: &VmBo<'_, Self>,
        how: &Self::Validation,
    ) -> Result;

    /// See [`Driver::removed`].
    fn removed(_vm: &VmLocked<'_, Self>, _bo: &BoLocked<'_>, _va: &mut Self::Va) -> bool {
        false
    }

    /// See [`Driver::retired`].
    fn retired(_bo: &Bo, _va: &mut Self::Va) {}
}

// SAFETY: `free()` gives the memory back.
unsafe impl<K: VmKind> Driver for K {
    type Va = K::Va;
    type Step = K::Step;
    type Unreachable = K::Unreachable;
    type Validation = K::Validation;

    fn validate(
        vm: &VmLocked<'_, K>,
        obj: &ObjLocked<'_>,
        vm_bo: &VmBo<'_, K>,
        how: &K::Validation,
    ) -> Result {
        K::restore(vm, obj, vm_bo, how)
    }

    fn removed(vm: &VmLocked<'_, K>, obj: &ObjLocked<'_>, va: &mut K::Va) -> bool {
        // SAFETY: Only the driver's BOs are ever mapped.
        let bo = unsafe { BoLocked::from_locked(obj.reborrow()) };
        <K as VmKind>::removed(vm, &bo, va)
    }

    fn retired(obj: &GemObject, va: &mut K::Va) {
        // SAFETY: Only the driver's BOs are ever mapped.
        let bo = unsafe { Bo::from_gem(obj) };
        <K as VmKind>::retired(bo, va);
    }

    unsafe fn free(vm: NonNull<GpuVm<K>>) {
        let memory: *mut Vm<K> = vm.as_ptr().cast();
        // The last reference is gone: jobs and entities hold one each, so that nothing uses what
        // Rust keeps.
        // SAFETY: The VM is in it, see `create()`.
        let state = unsafe { &raw mut (*memory).state };
        // SAFETY: Initialised, and not used any more.
        unsafe { core::ptr::drop_in_place(state) };
        // SAFETY: As for the state.
        let space = unsafe { &raw mut (*memory).space };
        // SAFETY: As for the state.
        unsafe { core::ptr::drop_in_place(space) };
        // SAFETY: As for the state.
        let closed = unsafe { &raw mut (*memory).closed };
        // SAFETY: As for the state.
        unsafe { core::ptr::drop_in_place(closed) };
        // SAFETY: As for the state.
        let deferred = unsafe { &mut (*memory).deferred };
        match deferred.take() {
            Some(deferred) => {
                module::reaper().enqueue(deferred);
            }
            // SAFETY: What Rust keeps was dropped. There is no scheduler.
            None => unsafe { release(memory.cast()) },
        }
    }
}

/// A VM in memory: what C knows of it, and what it doesn't.
#[repr(C)]
struct Vm<K: VmKind> {
    c: Opaque<bindings::msm_gem_vm>,
    state: K::State,
    space: K::Space,
    /// If there is a scheduler to be ended. Taken by `free()`.
    deferred: Option<Pin<KBox<DeferredFree>>>,
    closed: Closed,
}

const _: () = assert!(offset_of!(bindings::msm_gem_vm, base) == 0);

/// Ends a VM's scheduler and gives the memory back.
///
/// On the reaper, since ending a scheduler waits for its workqueue, and the VM's last reference may
/// be dropped on another scheduler's: a submit's is by its ring. Lockdep takes all schedulers'
/// workqueues for one.
#[pin_data]
struct DeferredFree {
    #[pin]
    work: Work<DeferredFree>,
    vm: *mut bindings::msm_gem_vm,
    /// What the VM's jobs and its end wait for may signal long after the file was closed. Given up
    /// at the very end, on the reaper, which the module's exit waits for.
    _module: InUse,
}

// SAFETY: The VM is shared between threads.
unsafe impl Send for DeferredFree {}
// SAFETY: As above.
unsafe impl Sync for DeferredFree {}

impl_has_work! {
    impl HasWork<DeferredFree> for DeferredFree { self.work }
}

impl DeferredFree {
    /// For `vm`, when it comes to that.
    fn new(vm: *mut bindings::msm_gem_vm) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                work <- new_work!("msm_rs::deferred_free"),
                vm,
                _module: InUse::new(),
            }),
            GFP_KERNEL,
        )
    }
}

impl WorkItem for DeferredFree {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Self::Pointer) {
        // SAFETY: `free()` has given the VM up, for us to release it.
        let sched = unsafe { &raw mut (*this.vm).sched };
        // SAFETY: Started by `create()`. Jobs and entities are gone: they hold references to the
        // VM. This isn't the scheduler's own queue.
        unsafe { sched::fini(sched) };
        // SAFETY: As above. `free()` has dropped what Rust keeps.
        unsafe { release(this.vm) };
    }
}

impl<K: VmKind> GpuVm<K> {
    fn memory(&self) -> *const Vm<K> {
        self.as_raw().cast()
    }

    /// Its page tables.
    pub(crate) fn space(&self) -> &K::Space {
        // SAFETY: All VMs of this kind are in a `Vm<K>`, see `create()`.
        unsafe { &(*self.memory()).space }
    }

    /// What else Rust keeps of it.
    pub(crate) fn state(&self) -> &K::State {
        // SAFETY: As above.
        unsafe { &(*self.memory()).state }
    }

    /// Whether its file was closed.
    pub(crate) fn closed(&self) -> &Closed {
        // SAFETY: As above.
        unsafe { &(*self.memory()).closed }
    }
}

impl GpuVm<Bind> {
    /// Whether something went wrong in it that can't be undone.
    pub(crate) fn is_unusable(&self) -> bool {
        AnyVm::Bind(self).is_unusable()
    }

    /// Waits until the GPU has ended the SUBMITs that were sent before. The VM isn't locked.
    ///
    /// # Errors
    ///
    /// As [`GemObject::wait_for_all_but`].
    pub(crate) fn wait_for_submits(&self) -> Result {
        self.resv_obj().wait_for_all_but(self.binds())
    }

    /// The fence of a SUBMIT that was sent and hasn't ended, if there is any.
    pub(crate) fn busy(&self) -> Option<ARef<Fence>> {
        self.resv_obj().busy_but(self.binds())
    }

    /// The scheduler of the VM's binds. All other fences of the VM's own resv are SUBMITs'.
    fn binds(&self) -> *const bindings::drm_gpu_scheduler {
        let vm: *const bindings::msm_gem_vm = self.as_raw().cast();
        // SAFETY: Within the VM, which `self` keeps alive.
        unsafe { &raw const (*vm).sched }
    }

    /// The fence of a submit that the GPU has begun and not ended, if there is any. The file is
    /// closed: what the GPU begins from now on has no commands. With `wait`, waits for the GPU's
    /// lock.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if it takes a wait to know that.
    pub(crate) fn gpu_busy(&self, wait: bool) -> Result<Option<ARef<Fence>>> {
        // SAFETY: `self` keeps the VM alive, and its device outlives it.
        let fence = unsafe { bindings::msm_rs_vm_busy(self.as_raw(), wait) };
        let fence = kernel::error::from_err_ptr(fence)?;
        // SAFETY: The call returns a reference, NULL or an errno.
        Ok(unsafe { Fence::from_owned(fence) })
    }
}

/// Says that the file of a VM is being closed.
///
/// # Invariants
///
/// Nobody else closes it, and no lock is held. No requests come any more.
pub(crate) struct Closing<'a>(&'a GpuVm<Bind>);

impl<'a> Closing<'a> {
    /// # Safety
    ///
    /// The type invariants hold.
    pub(crate) unsafe fn assume(vm: &'a GpuVm<Bind>) -> Self {
        // INVARIANT: The caller's promise.
        Self(vm)
    }

    /// For KUnit tests, whose VMs have no file.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn without_file(vm: &'a GpuVm<Bind>) -> Self {
        Self(vm)
    }

    /// Which VM.
    pub(crate) fn vm(&self) -> &'a GpuVm<Bind> {
        self.0
    }
}

/// A VM of either kind, from C.
#[derive(Clone, Copy)]
pub(crate) enum AnyVm<'a> {
    Managed(&'a GpuVm<Managed>),
    Bind(&'a GpuVm<Bind>),
}

impl<'a> AnyVm<'a> {
    /// A VM that has to be a managed one.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none or it is of the other kind.
    ///
    /// # Safety
    ///
    /// As [`Self::from_raw`], unless `vm` is NULL.
    pub(crate) unsafe fn managed(vm: *mut bindings::drm_gpuvm) -> Result<&'a GpuVm<Managed>> {
        // SAFETY: The caller's promise.
        match (!vm.is_null()).then(|| unsafe { AnyVm::from_raw(vm) }) {
            Some(AnyVm::Managed(vm)) => Ok(vm),
            _ => Err(EINVAL),
        }
    }

    /// # Safety
    ///
    /// `vm` came from `msm_gem_vm_create()` and stays referenced for as long as the result is used.
    pub(crate) unsafe fn from_raw(vm: *mut bindings::drm_gpuvm) -> Self {
        // SAFETY: Alive, by the caller's promise; which kind it is never changes.
        if unsafe { (*vm.cast::<bindings::msm_gem_vm>()).managed } {
            // SAFETY: As above; `create()` made it of this kind.
            Self::Managed(unsafe { GpuVm::from_raw(vm) })
        } else {
            // SAFETY: As above.
            Self::Bind(unsafe { GpuVm::from_raw(vm) })
        }
    }

    /// The C object.
    pub(super) fn as_raw(self) -> *mut bindings::drm_gpuvm {
        match self {
            Self::Managed(vm) => vm.as_raw(),
            Self::Bind(vm) => vm.as_raw(),
        }
    }

    /// Whether something went wrong in it that can't be undone.
    pub(super) fn is_unusable(self) -> bool {
        let vm: *mut bindings::msm_gem_vm = self.as_raw().cast();
        // SAFETY: A VM that is borrowed, hence alive.
        let place = unsafe { &raw const (*vm).unusable };
        // SAFETY: A byte that is only ever set.
        unsafe { place.read_volatile() }
    }
}

/// Marks a VM as unusable: further requests fail. Returns whether it is news.
///
/// # Safety
///
/// `vm` came from `msm_gem_vm_create()` and is alive.
pub(crate) unsafe fn set_unusable(vm: *mut bindings::drm_gpuvm) {
    let vm: *mut bindings::msm_gem_vm = vm.cast();
    // SAFETY: Alive, by the caller's promise.
    let place = unsafe { &raw mut (*vm).unusable };
    // SAFETY: A byte that is only ever set.
    unsafe { place.write_volatile(true) };
}

impl GpuVm<Bind> {
    /// Marks the VM as unusable: further requests fail.
    pub(crate) fn set_unusable(&self) {
        // SAFETY: `self` keeps the VM alive.
        unsafe { set_unusable(self.as_raw()) };
    }
}

/// What a VM is made from.
///
/// # Invariants
///
/// The device is alive, and outlives the VM; so does the name.
pub(crate) struct Config {
    drm: *mut bindings::drm_device,
    name: *const core::ffi::c_char,
    start: u64,
    size: u64,
}

impl Config {
    /// For a VM with `size` bytes of addresses from `start`.
    ///
    /// # Safety
    ///
    /// Device and name are alive, and outlive the VM.
    pub(crate) unsafe fn new(
        drm: *mut bindings::drm_device,
        name: *const core::ffi::c_char,
        start: u64,
        size: u64,
    ) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            drm,
            name,
            start,
            size,
        }
    }
}

/// Starts the scheduler of a VM, on a device, which is alive. It is zeroed, and stays where it is
/// until it is ended.
pub(crate) type StartScheduler =
    unsafe fn(*mut bindings::drm_gpu_scheduler, *mut bindings::device) -> Result;

/// Makes a VM. `prepare` makes from the page tables what Rust keeps of it, when nothing but a
/// scheduler's start can fail any more.
///
/// # Errors
///
/// `ENOMEM`, and those of `prepare`. The page tables of a domain are still the caller's.
///
/// # Safety
///
/// The space that `prepare` returns keeps the page tables that it got, for as long as it lives: C
/// asks them for TTBR0, and for what is mapped.
pub(crate) unsafe fn create<K: VmKind, I: PinInit<K::State>>(
    config: &Config,
    mmu: VmMmu,
    prepare: impl FnOnce(VmMmu) -> Result<(K::Space, I)>,
) -> Result<NonNull<bindings::drm_gpuvm>> {
    // All that can fail comes first.
    let mut memory = KBox::<Vm<K>>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
    let vm = memory.as_mut_ptr();
    // SAFETY: Within the allocation.
    let c = unsafe { Opaque::cast_into(&raw const (*vm).c) };
    let deferred = K::SCHEDULER.map(|_| DeferredFree::new(c)).transpose()?;
    let raw_mmu = mmu.as_raw();
    // SAFETY: The device is alive, by the invariant of `config`.
    let resv_obj = unsafe { bindings::drm_gpuvm_resv_object_alloc(config.drm) };
    if resv_obj.is_null() {
        return Err(ENOMEM);
    }
    let prepared = prepare(mmu).and_then(|prepared| {
        if let Some(start) = K::SCHEDULER {
            // SAFETY: Within the allocation.
            let sched = unsafe { &raw mut (*c).sched };
            // SAFETY: The device is alive, by the invariant of `config`.
            let dev = unsafe { (*config.drm).dev };
            // SAFETY: As above, and zeroed. The scheduler is in the VM, which stays where it is
            // until `DeferredFree` has ended it.
            unsafe { start(sched, dev) }?;
        }
        Ok(prepared)
    });
    let (space, state) = prepared.inspect_err(|_| {
        // SAFETY: Just allocated, not used by anything.
        unsafe { bindings::drm_gem_object_put(resv_obj) }
    })?;

    // A submit with a table gives its vm_bos up when it retires, without the VM's lock.
    let flags = match K::MANAGED {
        true => 0,
        false => bindings::drm_gpuvm_flags_DRM_GPUVM_RESV_PROTECTED,
    };
    // SAFETY: Within the allocation.
    let base = unsafe { &raw mut (*c).base };
    // SAFETY: Zeroed. Device and name outlive the VM, by the invariant of `config`.
    unsafe {
        bindings::drm_gpuvm_init(
            base,
            config.name,
            flags,
            config.drm,
            resv_obj,
            config.start,
            config.size,
            0,
            0,
            &GpuVm::<K>::OPS,
        )
    };
    // SAFETY: The reference that was made by allocating it; the VM has its own.
    unsafe { bindings::drm_gem_object_put(resv_obj) };
    // SAFETY: Within the allocation.
    let mm = unsafe { &raw mut (*c).mm };
    // SAFETY: Zeroed, and doesn't move.
    unsafe { bindings::drm_mm_init(mm, config.start, config.size) };
    // SAFETY: Within the allocation, which nobody knows yet.
    unsafe { (*c).mmu = raw_mmu };
    // SAFETY: As above.
    unsafe { (*c).managed = K::MANAGED };
    // SAFETY: As above.
    let place = unsafe { &raw mut (*vm).state };
    // SAFETY: Not initialised yet, and doesn't move.
    unsafe { pin_init::raw_init(place, state) };
    // SAFETY: As for the state.
    let place = unsafe { &raw mut (*vm).space };
    // SAFETY: As for the state.
    unsafe { place.write(space) };
    // SAFETY: As for the state.
    let place = unsafe { &raw mut (*vm).deferred };
    // SAFETY: As for the state.
    unsafe { place.write(deferred) };
    // SAFETY: As for the state.
    let place = unsafe { &raw mut (*vm).closed };
    // SAFETY: As for the state.
    unsafe { place.write(Closed::not_yet()) };
    // SAFETY: The space keeps them, by the caller's promise.
    unsafe { VmMmu::belongs_to(raw_mmu, base) };
    // C's from now on; `release()` gives it back.
    let _ = KBox::into_raw(memory);
    // SAFETY: In a box, hence not NULL.
    Ok(unsafe { NonNull::new_unchecked(base) })
}

/// Gives back the memory of a VM that C knows of, and with it that of what Rust keeps.
///
/// # Safety
///
/// `c` came from `create()`, no reference is left, and what Rust keeps was dropped; called once.
unsafe fn release(c: *mut bindings::msm_gem_vm) {
    // SAFETY: No reference is left, by the caller's promise, so that it is ours.
    let mm = unsafe { &raw mut (*c).mm };
    // SAFETY: Initialised by `create()`. VMAs held references to the VM.
    unsafe { bindings::drm_mm_takedown(mm) };
    // SAFETY: Ours, see above.
    let pid = unsafe { (*c).pid };
    // SAFETY: The VM's reference, or NULL, which is ignored.
    unsafe { bindings::put_pid(pid) };
    // SAFETY: Ours, see above. Fences may still point at the scheduler's name: the memory goes back
    // after a grace period.
    unsafe { bindings::msm_rs_vm_free_rcu(c) };
}
