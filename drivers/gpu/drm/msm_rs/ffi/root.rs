// SPDX-License-Identifier: GPL-2.0-only

//! Per-process page tables as C knows them: a `struct msm_mmu` that says what TTBR0 is to be. And
//! what those of one SMMU domain share.
//!
//! The domain, with its tables for TTBR1, is C's (`msm_iommu.c`).

use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    },
};

use kernel::{
    prelude::*,
    sync::{
        global_lock,
        Arc, //
    },
    types::Opaque, //
};

use super::{
    bindings,
    gate::Gate,
    mmu::DomainMmu,
    smmu::{
        Smmu,
        TableList, //
    },
};
use crate::pgtable::{
    geometry::Geometry,
    memory::Table,
    NullTables, //
};

/// What the per-process page tables of a domain share. It is in [`DOMAINS`] from the first of them
/// on, until the domain is gone and the last of them, too. The SMMU uses TTBR0 until the domain
/// goes.
struct DomainTables {
    next: Option<KBox<DomainTables>>,
    /// Gone when the domain is: a VM may end long after its GPU was taken away, when the fence of a
    /// cancelled bind job signals.
    domain: Option<NonNull<bindings::msm_mmu>>,
    /// Which it is, since another domain may be where this one was.
    id: u64,
    users: usize,
    /// Where TTBR0 points until the GPU sets it, also when the SMMU has slept: nothing is mapped
    /// there.
    idle: Table,
    /// The PRR page and the tables that lead to it.
    null: Option<(Table, NullTables)>,
    /// Limits the tables that are reserved.
    gate: Arc<Gate>,
    /// Empty roots, for VMs to come. A VM's root is given back to them and not freed when the VM
    /// ends: TTBR0 keeps the address until the GPU switches to another context, and walkers may go
    /// there. A ring that was preempted has the address of its last context too, which the CP
    /// loads when it goes on with that ring. So roots are freed when no GPU can load any.
    roots: TableList,
    /// Keeps the tables.
    _tables: TableList,
}

// SAFETY: The domain isn't bound to a thread, and neither are tables.
unsafe impl Send for DomainTables {}

global_lock! {
    // SAFETY: `init()` is called before any device is there.
    unsafe(uninit) static DOMAINS: Mutex<Domains> = Domains {
        first: None,
        next_id: 0,
    };
}

/// The domains with per-process page tables.
struct Domains {
    first: Option<KBox<DomainTables>>,
    next_id: u64,
}

/// `domain` is about to be destroyed: nobody translates by its per-process page tables any more, of
/// which there may be some that belong to nobody but the job that will drop them.
pub(crate) fn domain_gone(domain: NonNull<bindings::msm_mmu>) {
    let mut list = DOMAINS.lock();
    if let Some(shared) = list.find(|shared| shared.domain == Some(domain)) {
        shared.off();
        shared.domain = None;
    }
    list.drop_unused();
}

/// Before anything else of the module runs.
pub(crate) fn init() {
    // SAFETY: Called once.
    unsafe { DOMAINS.init() };
}

impl DomainTables {
    /// What the first page tables in `domain` need.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new(domain: NonNull<bindings::msm_mmu>, smmu: Smmu, gate: Arc<Gate>) -> Result<KBox<Self>> {
        // SAFETY: The caller of `Root::new()` says that the domain is alive.
        let prr = unsafe { bindings::msm_rs_smmu_has_prr(domain.as_ptr()) };
        let mut pool = TableList::new(smmu);
        let mut tables = TableList::new(smmu);
        pool.fill(if prr { 5 } else { 1 })?;
        // `NullTables::new()` publishes its tables again, once they are filled.
        let mut take = || -> Result<Table> {
            let table = pool.take_published().ok_or(ENOMEM)?;
            // SAFETY: Just taken out. The list is dropped after the domain has gone.
            unsafe { tables.give_back(table) };
            Ok(table)
        };
        let idle = take()?;
        let null = if prr {
            let page = take()?;
            let null = NullTables::new(&smmu, [take()?, take()?, take()?], page);
            Some((page, null))
        } else {
            None
        };
        let shared = Self {
            next: None,
            domain: Some(domain),
            id: 0,
            users: 0,
            idle,
            null,
            gate,
            roots: TableList::new(smmu),
            _tables: tables,
        };
        Ok(KBox::new(shared, GFP_KERNEL)?)
    }

    /// Has the SMMU use TTBR0. May wake it.
    fn on(&self) -> Result {
        let domain = self.domain.ok_or(ENODEV)?.as_ptr();
        // SAFETY: `domain_gone()` has not been called yet, so that it is alive. The table outlives
        // its use: see `off()`.
        kernel::error::to_result(unsafe { bindings::msm_rs_ttbr0_on(domain, self.idle.address()) })
    }

    /// Says where the PRR page is, whenever there is a first VM: the SMMU's driver doesn't when the
    /// SMMU resumes.
    fn set_prr(&self) {
        if let (Some(domain), Some((page, _))) = (self.domain, &self.null) {
            // SAFETY: `domain_gone()` has not been called yet, so that it is alive. The page
            // outlives its use: see `off()`.
            unsafe { bindings::msm_rs_prr_set(domain.as_ptr(), page.address()) };
        }
    }

    /// Undoes [`Self::on`], unless the domain is gone.
    fn off(&self) {
        let Some(domain) = self.domain.map(NonNull::as_ptr) else {
            return;
        };
        // SAFETY: `domain_gone()` has not been called yet, so that it is alive.
        unsafe { bindings::msm_rs_ttbr0_off(domain) };
        if self.null.is_some() {
            // SAFETY: As above.
            unsafe { bindings::msm_rs_prr_set(domain, 0) };
        }
    }
}

/// A share in what the page tables of a domain have in common, and a root of one's own.
struct DomainRef {
    id: u64,
    /// Nothing is mapped by it when this is dropped.
    root: Table,
    /// What else was known when this was made.
    null: Option<NullTables>,
    gate: Arc<Gate>,
}

impl DomainRef {
    /// # Errors
    ///
    /// `ENOMEM`; what the SMMU's driver says.
    fn new(
        domain: NonNull<bindings::msm_mmu>,
        smmu: Smmu,
        new_gate: fn() -> Result<Arc<Gate>>,
    ) -> Result<Self> {
        let mut pool = TableList::new(smmu);
        pool.fill(1)?;
        loop {
            if let Some(share) = Self::join(domain, &mut pool) {
                return Ok(share);
            }
            // Allocated without the lock: reclaim may take it, when it drops a VM's last reference.
            let shared = DomainTables::new(domain, smmu, new_gate()?)?;
            let mut list = DOMAINS.lock();
            if list.find(|shared| shared.domain == Some(domain)).is_none() {
                // The SMMU's driver may have noted the root, and fail to wake the SMMU then.
                shared.on().inspect_err(|_| shared.off())?;
                list.add(shared);
            }
        }
    }

    /// Counts one user more, if there are any. Without an empty root it gets that of `pool`.
    fn join(domain: NonNull<bindings::msm_mmu>, pool: &mut TableList) -> Option<Self> {
        let mut list = DOMAINS.lock();
        let shared = list.find(|shared| shared.domain == Some(domain))?;
        let root = shared
            .roots
            .take_published()
            .or_else(|| pool.take_published())?;
        if shared.users == 0 {
            shared.set_prr();
        }
        shared.users += 1;
        Some(Self {
            id: shared.id,
            root,
            null: shared.null.as_ref().map(|(_, null)| *null),
            gate: shared.gate.clone(),
        })
    }
}

impl Domains {
    fn find(&mut self, is_it: impl Fn(&DomainTables) -> bool) -> Option<&mut DomainTables> {
        let mut next = self.first.as_deref_mut();
        while let Some(shared) = next {
            if is_it(shared) {
                return Some(shared);
            }
            next = shared.next.as_deref_mut();
        }
        None
    }

    fn add(&mut self, mut shared: KBox<DomainTables>) {
        shared.id = self.next_id;
        self.next_id += 1;
        shared.next = self.first.take();
        self.first = Some(shared);
    }

    /// Drops what belongs to domains that are gone, and to no page tables.
    fn drop_unused(&mut self) {
        let mut rest = self.first.take();
        while let Some(mut shared) = rest {
            rest = shared.next.take();
            if shared.domain.is_some() || shared.users > 0 {
                shared.next = self.first.take();
                self.first = Some(shared);
            }
        }
    }
}

impl Drop for DomainRef {
    fn drop(&mut self) {
        let mut list = DOMAINS.lock();
        if let Some(shared) = list.find(|shared| shared.id == self.id) {
            // SAFETY: Taken out by `join()`, for this share alone. The list is dropped when the
            // domain is gone, and with it all that could load the root.
            unsafe { shared.roots.give_back(self.root) };
            shared.users -= 1;
        }
        list.drop_unused();
    }
}

/// The root of a VM's own page tables. C passes it from `msm_iommu_pagetable_create()` to
/// `msm_gem_vm_create()` and then asks the VM for it.
#[repr(C)]
pub(crate) struct Root {
    base: Opaque<bindings::msm_mmu>,
    /// The VM, once there is one. It outlives the root.
    vm: AtomicPtr<bindings::drm_gpuvm>,
    pub(crate) table: Table,
    pub(crate) null: Option<NullTables>,
    pub(crate) smmu: Smmu,
    pub(crate) geometry: Geometry,
    /// Limits the tables that are reserved, those of the domain's other VMs included.
    pub(crate) gate: Arc<Gate>,
    /// Keeps the table. Given up last.
    _share: DomainRef,
}

// SAFETY: C's part is never changed; the rest isn't bound to a thread.
unsafe impl Send for Root {}
// SAFETY: As above.
unsafe impl Sync for Root {}

/// C calls none of them for per-process page tables.
static FUNCS: bindings::msm_mmu_funcs = bindings::msm_mmu_funcs {
    detach: None,
    prealloc_count: None,
    prealloc_allocate: None,
    prealloc_cleanup: None,
    map: None,
    unmap: None,
    destroy: None,
    set_stall: None,
};

impl Root {
    /// Page tables in `domain`, in which nothing is mapped. `new_gate` makes what limits the tables
    /// that are reserved for all VMs of the domain, if this is its first.
    ///
    /// # Errors
    ///
    /// `ENODEV` for an SMMU without per-process page tables or of a geometry that ours don't have,
    /// which is so for all that are asked for or for none: `EIO`, `ENOMEM`, `ERESTARTSYS` if the
    /// caller was killed, or what else the SMMU's driver says otherwise.
    ///
    /// # Safety
    ///
    /// `domain` is the `msm_mmu` of a domain, and [`domain_gone`] is called before it goes.
    pub(crate) unsafe fn new(
        domain: NonNull<bindings::msm_mmu>,
        new_gate: fn() -> Result<Arc<Gate>>,
    ) -> Result<KBox<Self>> {
        // SAFETY: The caller's promise.
        let smmu = unsafe { Smmu::of(domain.as_ptr()) }.ok_or(ENODEV)?;
        let geometry = smmu.geometry().ok_or(ENODEV)?;
        let share = DomainRef::new(domain, smmu, new_gate).map_err(|e| match e {
            // C gives the context the GPU's own VM then, which it may do for all or none.
            ENODEV => EIO,
            e => e,
        })?;
        let base = bindings::msm_mmu {
            funcs: &FUNCS,
            // SAFETY: The caller's promise; the device never changes.
            dev: unsafe { (*domain.as_ptr()).dev },
            handler: None,
            arg: core::ptr::null_mut(),
            type_: bindings::msm_mmu_type_MSM_MMU_IOMMU_PAGETABLE,
            prealloc: core::ptr::null_mut(),
        };
        let root = Self {
            base: Opaque::new(base),
            vm: AtomicPtr::new(core::ptr::null_mut()),
            table: share.root,
            null: share.null,
            smmu,
            geometry,
            gate: share.gate.clone(),
            _share: share,
        };
        Ok(KBox::new(root, GFP_KERNEL)?)
    }

    /// Gives it to C, which brings it back with [`VmMmu::take`].
    pub(crate) fn into_raw(this: KBox<Self>) -> *mut bindings::msm_mmu {
        KBox::into_raw(this).cast()
    }

    /// What C knows.
    pub(super) fn as_raw(&self) -> *mut bindings::msm_mmu {
        self.base.get()
    }

    /// Has the TLB forget all that these page tables led to.
    pub(crate) fn invalidate(&self) {
        // SAFETY: `self` keeps it alive.
        unsafe { bindings::msm_rs_smmu_invalidate(self.as_raw()) };
    }

    /// Says whose page tables these are.
    pub(super) fn belongs_to(&self, vm: *mut bindings::drm_gpuvm) {
        self.vm.store(vm, Ordering::Release);
    }

    /// The VM; NULL before there is one.
    pub(crate) fn vm(&self) -> *mut bindings::drm_gpuvm {
        self.vm.load(Ordering::Acquire)
    }

    /// The root behind C's pointer, if that is one.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a domain.
    ///
    /// # Safety
    ///
    /// `mmu` is alive, and for `'a`.
    pub(crate) unsafe fn from_raw<'a>(mmu: *mut bindings::msm_mmu) -> Result<&'a Self> {
        // SAFETY: Alive, by the caller's promise; the type never changes.
        if unsafe { (*mmu).type_ } != bindings::msm_mmu_type_MSM_MMU_IOMMU_PAGETABLE {
            return Err(EINVAL);
        }
        // SAFETY: Only `new()` makes any of this type.
        Ok(unsafe { &*mmu.cast() })
    }
}

/// What C makes a VM from.
pub(crate) enum VmMmu {
    /// The page tables of a domain, which stay C's until the VM is made.
    Domain(DomainMmu),
    /// Page tables of its own, which C has given away, whether there will be a VM or not: their
    /// only caller forgets them.
    Own(KBox<Root>),
}

impl VmMmu {
    /// # Safety
    ///
    /// `mmu` is alive, and if it isn't a domain's, it came from [`Root::into_raw`] and is given
    /// away.
    pub(crate) unsafe fn take(mmu: NonNull<bindings::msm_mmu>) -> Self {
        // SAFETY: Alive, by the caller's promise.
        match unsafe { Root::from_raw(mmu.as_ptr()) } {
            // SAFETY: From `Root::into_raw()`, and given away, by the caller's promise.
            Ok(_) => Self::Own(unsafe { KBox::from_raw(mmu.as_ptr().cast()) }),
            // SAFETY: Alive. Without a VM it stays C's, as the caller knows.
            Err(_) => Self::Domain(unsafe { DomainMmu::new(mmu) }),
        }
    }

    /// What C knows.
    pub(super) fn as_raw(&self) -> *mut bindings::msm_mmu {
        match self {
            Self::Domain(mmu) => mmu.as_raw(),
            Self::Own(root) => root.as_raw(),
        }
    }

    /// Says whose page tables these are.
    ///
    /// # Safety
    ///
    /// `mmu` is alive.
    pub(super) unsafe fn belongs_to(mmu: *mut bindings::msm_mmu, vm: *mut bindings::drm_gpuvm) {
        // SAFETY: The caller's promise.
        if let Ok(root) = unsafe { Root::from_raw(mmu) } {
            root.belongs_to(vm);
        }
    }
}
