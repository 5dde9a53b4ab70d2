// SPDX-License-Identifier: GPL-2.0-only

//! The VM that C and Rust share: `struct msm_gem_vm` with what Rust adds behind it.
//!
//! There are two kinds, of which a VM is one from its creation to its end: [`Managed`] VMs, whose
//! addresses the kernel gives out, and [`Bind`] VMs, which belong to VM_BIND.

use core::{
    cell::UnsafeCell,
    mem::{
        offset_of,
        ManuallyDrop, //
    },
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
        BoLocked,
        Kept, //
    },
    closed::Closed,
    jobs::Jobs,
    mmu::Mmu,
    module::{
        self,
        InUse, //
    },
    root::{
        Given,
        Root, //
    },
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
    },
    bo::pin,
    gpuvm_rs::{
        fence::Fence,
        gem::{
            GemObject,
            ObjLocked, //
        },
        sched,
        va::GpuVaAlloc,
        vm::{
            Driver,
            GpuVm,
            VmBo,
            VmLocked, //
        },
    },
    mapping::vm_bind,
    pure::ops,
    vm::{
        close::BindState,
        job::BindJob, //
    },
};

/// A VM whose addresses the kernel gives out. Its page tables change synchronously.
pub(crate) struct Managed;

/// A VM that userspace manages through VM_BIND.
pub(crate) struct Bind;

/// Something about a VMA that is so or isn't: whether its page table entries are (or, for a VM_BIND VMA, will be) in place.
///
/// Guarded by the VM's resv; C's debugfs code reads it as a `bool`.
#[repr(transparent)]
pub(crate) struct Flag(UnsafeCell<bool>);

// SAFETY: Only reachable with the VM's lock; C's reader is for people and reads a byte.
unsafe impl Send for Flag {}
// SAFETY: As above.
unsafe impl Sync for Flag {}

impl Flag {
    pub(crate) const fn new(mapped: bool) -> Self {
        Self(UnsafeCell::new(mapped))
    }

    pub(crate) fn get<T: Driver>(&self, _vm: &VmLocked<'_, T>) -> bool {
        // SAFETY: The lock keeps writers away.
        unsafe { self.0.get().read() }
    }

    pub(crate) fn set<T: Driver>(&self, mapped: bool, _vm: &VmLocked<'_, T>) {
        // SAFETY: The lock keeps other accesses away, see the type.
        unsafe { self.0.get().write(mapped) }
    }
}

/// What a VMA of a [`Managed`] VM carries. Begins as C's `struct msm_gem_vma` goes on behind its base.
#[repr(C)]
pub(crate) struct ManagedVa {
    mapped: Flag,
    node: Opaque<bindings::drm_mm_node>,
}

/// What a VMA of a [`Bind`] VM carries. C reads `mapped`.
#[repr(C)]
pub(crate) struct BindVa {
    mapped: Flag,
    /// Keeps the BO's pages, once the VMA was removed and until its page table entries are.
    kept: Option<Kept>,
    /// The GEM handle that the MAP named, for the log; 0 for NULL mappings.
    handle: u32,
}

const _: () = {
    assert!(offset_of!(bindings::msm_gem_vma, base) == 0);
    assert!(offset_of!(bindings::msm_gem_vma, mapped) == size_of::<bindings::drm_gpuva>());
    assert!(
        offset_of!(bindings::msm_gem_vma, node) - size_of::<bindings::drm_gpuva>()
            == offset_of!(ManagedVa, node)
    );
    assert!(offset_of!(bindings::msm_gem_vm, base) == 0);
};

// SAFETY: The node is only touched under the VM's lock.
unsafe impl Send for ManagedVa {}
// SAFETY: As above.
unsafe impl Sync for ManagedVa {}

impl BindVa {
    pub(crate) fn new(mapped: bool, handle: u32) -> Self {
        Self {
            mapped: Flag::new(mapped),
            kept: None,
            handle,
        }
    }

    /// Whether the page table entries are in place, or will be when the jobs that were asked for
    /// have run.
    pub(crate) fn mapped(&self) -> &Flag {
        &self.mapped
    }

    /// The GEM handle that the MAP named; 0 for NULL mappings.
    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }
}

impl ManagedVa {
    /// A VMA without addresses.
    pub(crate) fn new() -> Self {
        Self {
            mapped: Flag::new(false),
            node: Opaque::zeroed(),
        }
    }

    /// Gives `va` `size` bytes of free addresses between `start` and `end`. Returns the first.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, `ENOMEM`.
    pub(crate) fn allocate(
        va: &GpuVaAlloc<Managed>,
        vm: &VmLocked<'_, Managed>,
        size: u64,
        start: u64,
        end: u64,
    ) -> Result<u64> {
        let node = va.data().node.get();
        // SAFETY: The VM's lock guards its drm_mm. The node is zeroed (a VMA gets addresses once)
        // and boxed, so that it stays where it is.
        unsafe {
            kernel::error::to_result(bindings::drm_mm_insert_node_in_range(
                &raw mut (*c_vm(vm)).mm,
                node,
                size,
                ops::PAGE_SIZE,
                0,
                start,
                end,
                bindings::drm_mm_insert_mode_DRM_MM_INSERT_BEST,
            ))?;
            Ok((*node).start)
        }
    }

    /// Whether the page table entries are in place.
    pub(crate) fn mapped(&self) -> &Flag {
        &self.mapped
    }
}

impl Drop for ManagedVa {
    fn drop(&mut self) {
        // SAFETY: VMAs of managed VMs are dropped where they are closed, with the VM locked, and the
        // VM, which holds the drm_mm, is alive there.
        unsafe { bindings::msm_rs_mm_remove(self.node.get()) };
    }
}

/// A VM in memory: what C knows of it, and what it doesn't.
#[repr(C)]
struct Vm<S> {
    c: Opaque<bindings::msm_gem_vm>,
    state: S,
}

/// What Rust keeps of a managed VM.
pub(crate) struct ManagedState {
    tables: ManagedTables,
}

/// What Rust keeps of a VM_BIND VM.
#[pin_data]
struct BindMemory {
    #[pin]
    state: BindState,
    /// Taken by `Bind::free()`.
    burial: ManuallyDrop<Pin<KBox<Burial>>>,
    closed: Closed,
}

/// Ends a VM_BIND VM's scheduler and gives the memory back.
///
/// On the reaper, since ending a scheduler waits for its workqueue, and the VM's last reference may be dropped on another
/// scheduler's: a submit's is by its ring. Lockdep takes all schedulers' workqueues for one.
#[pin_data]
struct Burial {
    #[pin]
    work: Work<Burial>,
    vm: *mut bindings::msm_gem_vm,
    /// What the VM's jobs and its end wait for may signal long after the file was closed. Given up at the very end, on the reaper, which the
    /// module's exit waits for.
    _module: InUse,
}

// SAFETY: The VM is shared between threads.
unsafe impl Send for Burial {}
// SAFETY: As above.
unsafe impl Sync for Burial {}

impl_has_work! {
    impl HasWork<Burial> for Burial { self.work }
}

impl Burial {
    /// For `vm`, when it comes to that.
    fn new(vm: *mut bindings::msm_gem_vm) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                work <- new_work!("msm_rs::burial"),
                vm,
                _module: InUse::new(),
            }),
            GFP_KERNEL,
        )
    }
}

impl WorkItem for Burial {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Self::Pointer) {
        // SAFETY: `Bind::free()` has given the VM up; jobs and entities are gone. This isn't the scheduler's own queue.
        unsafe {
            sched::fini(&raw mut (*this.vm).sched);
            release(this.vm);
        }
    }
}

fn c_vm<T: Driver>(vm: &GpuVm<T>) -> *mut bindings::msm_gem_vm {
    vm.as_raw().cast()
}

impl GpuVm<Managed> {
    /// The VM's page tables, which lock for themselves.
    pub(crate) fn tables(&self) -> &ManagedTables {
        // SAFETY: All VMs with these callbacks are in a `Vm<ManagedState>`, see `create()`.
        unsafe { &(*self.as_raw().cast::<Vm<ManagedState>>()).state.tables }
    }
}

impl GpuVm<Bind> {
    /// What Rust keeps of it.
    pub(crate) fn state(&self) -> &BindState {
        // SAFETY: All VMs with these callbacks are in a `Vm<BindMemory>`, see `create()`.
        unsafe { &(*self.as_raw().cast::<Vm<BindMemory>>()).state.state }
    }

    /// Whether its file was closed.
    pub(crate) fn closed(&self) -> &Closed {
        // SAFETY: As in `state()`.
        unsafe { &(*self.as_raw().cast::<Vm<BindMemory>>()).state.closed }
    }

    /// Whether something went wrong in it that can't be undone.
    pub(crate) fn is_unusable(&self) -> bool {
        AnyVm::Bind(self).is_unusable()
    }

    /// The fence of a submit that the GPU has begun and not ended, if there is any. The file is closed: what the GPU begins from now
    /// on has no commands. With `wait`, waits for the GPU's lock.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if it takes a wait to know that.
    pub(crate) fn gpu_busy(&self, wait: bool) -> Result<Option<ARef<Fence>>> {
        // SAFETY: Alive, and so is its device. The call returns a reference, NULL or an errno.
        unsafe {
            let fence = bindings::msm_rs_vm_busy(self.as_raw(), wait);
            Ok(Fence::from_owned(kernel::error::from_err_ptr(fence)?))
        }
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
        // SAFETY: The caller's promise; which kind it is never changes.
        unsafe {
            if (*vm.cast::<bindings::msm_gem_vm>()).managed {
                Self::Managed(GpuVm::from_raw(vm))
            } else {
                Self::Bind(GpuVm::from_raw(vm))
            }
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
        // SAFETY: A byte that is only ever set.
        unsafe { (&raw const (*vm).unusable).read_volatile() }
    }
}

/// Marks a VM as unusable: further requests fail. Returns whether it is news.
///
/// # Safety
///
/// `vm` came from `msm_gem_vm_create()` and is alive.
pub(crate) unsafe fn set_unusable(vm: *mut bindings::drm_gpuvm) {
    let vm: *mut bindings::msm_gem_vm = vm.cast();
    // SAFETY: A byte that is only ever set.
    unsafe { (&raw mut (*vm).unusable).write_volatile(true) };
}

impl GpuVm<Bind> {
    /// Marks the VM as unusable: further requests fail.
    pub(crate) fn set_unusable(&self) {
        // SAFETY: Alive.
        unsafe { set_unusable(self.as_raw()) };
    }
}

/// What a VM is made from.
pub(crate) struct Config {
    pub(crate) drm: *mut bindings::drm_device,
    pub(crate) name: *const core::ffi::c_char,
    pub(crate) start: u64,
    pub(crate) size: u64,
}

/// Makes a VM for which the kernel gives out addresses.
///
/// # Errors
///
/// `ENOMEM`; the page tables of a domain are still the caller's.
///
/// # Safety
///
/// The pointers are alive; `name` outlives the VM. A domain is given away if this succeeds.
pub(crate) unsafe fn create_managed(
    config: &Config,
    given: Given,
) -> Result<NonNull<bindings::drm_gpuvm>> {
    // SAFETY: The caller's promise; the state is only made when nothing can fail any more.
    unsafe {
        create::<Managed, _, _>(config, given.as_raw(), true, |_| {
            let tables = match given {
                Given::Domain(mmu) => ManagedTables::Domain(Mmu::from_raw(mmu)),
                Given::Own(root) => ManagedTables::own(VmTables::new(root))?,
            };
            Ok(pin_init::init_from_closure(
                move |slot: *mut ManagedState| {
                    slot.write(ManagedState { tables });
                    Ok::<(), core::convert::Infallible>(())
                },
            ))
        })
    }
}

/// Makes a VM for VM_BIND.
///
/// # Errors
///
/// `ENOMEM`.
///
/// # Safety
///
/// The pointers are alive; `name` outlives the VM.
pub(crate) unsafe fn create_bind(
    config: &Config,
    root: KBox<Root>,
) -> Result<NonNull<bindings::drm_gpuvm>> {
    Closed::room()?;
    // SAFETY: Reads a module parameter.
    let log = VmLog::new(unsafe { bindings::msm_rs_vm_log_shift() })?;
    // SAFETY: The caller's promise. The scheduler stays where it is until `free()` stops it.
    unsafe {
        create::<Bind, _, _>(config, root.as_raw(), false, |c| {
            let burial = Burial::new(c)?;
            let (sched, dev) = (&raw mut (*c).sched, (*config.drm).dev);
            sched::init::<Jobs<BindJob>>(sched, dev, c"msm-vm-bind", module::binds())?;
            Ok(pin_init!(BindMemory {
                state <- BindState::new(VmTables::new(root), log),
                burial: ManuallyDrop::new(burial),
                closed: Closed::not_yet(),
            }))
        })
    }
}

/// # Safety
///
/// As [`create_managed`]. `mmu` is what `prepare` makes the state from; it leaves nothing if it fails.
unsafe fn create<T: Driver, S, I: PinInit<S>>(
    config: &Config,
    mmu: *mut bindings::msm_mmu,
    managed: bool,
    prepare: impl FnOnce(*mut bindings::msm_gem_vm) -> Result<I>,
) -> Result<NonNull<bindings::drm_gpuvm>> {
    // All that can fail comes first.
    let mut memory = KBox::<Vm<S>>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
    let vm = memory.as_mut_ptr();
    // SAFETY: Within the allocation.
    let c = unsafe { Opaque::cast_into(&raw const (*vm).c) };
    // SAFETY: The device is alive.
    let resv_obj = unsafe { bindings::drm_gpuvm_resv_object_alloc(config.drm) };
    if resv_obj.is_null() {
        return Err(ENOMEM);
    }
    let state = prepare(c).inspect_err(|_| {
        // SAFETY: Just allocated, not used by anything.
        unsafe { bindings::drm_gem_object_put(resv_obj) }
    })?;

    // SAFETY: `c` is zeroed. The reference to the resv object that we drop was made by allocating
    // it; the VM has its own. The state's memory isn't initialised and doesn't move.
    unsafe {
        bindings::drm_gpuvm_init(
            &raw mut (*c).base,
            config.name,
            0,
            config.drm,
            resv_obj,
            config.start,
            config.size,
            0,
            0,
            &GpuVm::<T>::OPS,
        );
        bindings::drm_gem_object_put(resv_obj);
        bindings::drm_mm_init(&raw mut (*c).mm, config.start, config.size);
        (*c).mmu = mmu;
        (*c).managed = managed;
        pin_init::raw_init(&raw mut (*vm).state, state);
        Given::belongs_to(mmu, &raw mut (*c).base);
        KBox::into_raw(memory);
        Ok(NonNull::new_unchecked(&raw mut (*c).base))
    }
}

/// Gives back the memory of a VM that C knows of, and with it that of the state.
///
/// # Safety
///
/// `c` came from `create()`, no reference is left, and its state was dropped; called once.
unsafe fn release(c: *mut bindings::msm_gem_vm) {
    // SAFETY: The caller's promise. Fences may still point at the scheduler's name: the memory goes
    // back after a grace period.
    unsafe {
        bindings::drm_mm_takedown(&raw mut (*c).mm);
        bindings::put_pid((*c).pid);
        bindings::msm_rs_vm_free_rcu(c);
    }
}

// SAFETY: `free()` gives the memory back.
unsafe impl Driver for Managed {
    type Va = ManagedVa;
    type Step = ();
    // No transactions: page tables change before the tree does.
    type Unreachable = core::convert::Infallible;

    fn validate(_vm: &VmLocked<'_, Self>, _obj: &ObjLocked<'_>, _vm_bo: &VmBo<'_, Self>) -> Result {
        // A submit pins the BOs that it lists.
        Ok(())
    }

    unsafe fn free(vm: NonNull<GpuVm<Self>>) {
        // SAFETY: The last reference is gone.
        unsafe {
            core::ptr::drop_in_place(&raw mut (*vm.as_ptr().cast::<Vm<ManagedState>>()).state);
            release(vm.as_ptr().cast());
        }
    }
}

// SAFETY: `free()` gives the memory back.
unsafe impl Driver for Bind {
    type Va = BindVa;
    type Step = Step;
    type Unreachable = Unreachable;

    fn validate(vm: &VmLocked<'_, Self>, obj: &ObjLocked<'_>, vm_bo: &VmBo<'_, Self>) -> Result {
        vm_bind::restore(vm, obj, vm_bo)
    }

    fn removed(vm: &VmLocked<'_, Self>, obj: &ObjLocked<'_>, va: &mut BindVa) {
        // Page tables don't lead to what was evicted.
        if va.mapped.get(vm) {
            // SAFETY: Only the driver's BOs are ever mapped.
            va.kept = pin::keep(&unsafe { BoLocked::from_locked(obj.reborrow()) });
        }
    }

    fn retired(obj: &GemObject, va: &mut BindVa) {
        if let Some(kept) = va.kept.take() {
            // SAFETY: Only the driver's BOs are ever mapped.
            pin::let_go(unsafe { Bo::from_gem(obj) }, kept);
        }
    }

    unsafe fn free(vm: NonNull<GpuVm<Self>>) {
        // SAFETY: The last reference is gone: jobs and entities hold one each, so that nothing uses the state.
        unsafe {
            let memory = &raw mut (*vm.as_ptr().cast::<Vm<BindMemory>>()).state;
            let burial = ManuallyDrop::take(&mut (*memory).burial);
            core::ptr::drop_in_place(memory);
            module::reaper().enqueue(burial);
        }
    }
}
