// SPDX-License-Identifier: GPL-2.0-only

//! Per-process page tables, as `msm_mmu.h` has them.

#![allow(
    clippy::missing_safety_doc,
    reason = "what C promises is said where it is relied on"
)]

use core::{ffi::c_int, ptr::NonNull};

use kernel::prelude::*;

use crate::{
    address_space::throttle,
    ffi::{
        bindings,
        root::{
            self,
            Root, //
        },
        vm::AnyVm, //
    },
    gpuvm_rs::from_result, //
};

#[no_mangle]
unsafe extern "C" fn msm_rs_domain_gone(domain: *mut bindings::msm_mmu) {
    if let Some(domain) = NonNull::new(domain) {
        root::domain_gone(domain);
    }
}

#[no_mangle]
unsafe extern "C" fn msm_iommu_pagetable_create(
    parent: *mut bindings::msm_mmu,
    _kernel_managed: bool,
) -> *mut bindings::msm_mmu {
    let create = || {
        let domain = NonNull::new(parent).ok_or(EINVAL)?;
        // SAFETY: C passes the GPU's own domain, and says when that goes: `msm_rs_domain_gone()`.
        unsafe { Root::new(domain, throttle::device_gate) }
    };
    match create() {
        Ok(root) => Root::into_raw(root),
        Err(e) => e.to_ptr(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_iommu_pagetable_params(
    mmu: *mut bindings::msm_mmu,
    ttbr: *mut bindings::phys_addr_t,
    asid: *mut c_int,
) -> c_int {
    // SAFETY: C passes the page tables of a VM to which it holds a reference.
    from_result(unsafe { Root::from_raw(mmu) }.map(|root| {
        // SAFETY: C passes NULL or a place for the result.
        if let Some(ttbr) = unsafe { ttbr.as_mut() } {
            *ttbr = root.table.address();
        }
        // SAFETY: As above.
        if let Some(asid) = unsafe { asid.as_mut() } {
            // The same as TTBR1's: invalidations name none.
            *asid = 0;
        }
    }))
}

#[no_mangle]
unsafe extern "C" fn msm_iommu_pagetable_walk(
    mmu: *mut bindings::msm_mmu,
    iova: u64,
    ptes: *mut u64,
) -> c_int {
    // SAFETY: C passes the page tables of a VM to which it holds a reference.
    let entries = unsafe { Root::from_raw(mmu) }
        // SAFETY: That VM, or NULL.
        .and_then(|root| unsafe { walk(root.vm(), iova) });
    // SAFETY: C passes an array of 4.
    from_result(entries.map(|entries| unsafe { ptes.cast::<[u64; 4]>().write(entries) }))
}

/// The entries that translate `iova`, as [`crate::pgtable::PageTables::walk`] gives them.
///
/// # Errors
///
/// `EINVAL` without a VM, and for the page tables of a domain.
///
/// # Safety
///
/// `vm` is NULL or alive.
unsafe fn walk(vm: *mut bindings::drm_gpuvm, iova: u64) -> Result<[u64; 4]> {
    if vm.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: The caller's promise.
    match unsafe { AnyVm::from_raw(vm) } {
        AnyVm::Bind(vm) => Ok(vm.space().page_tables.lock().tables.walk(iova)),
        AnyVm::Managed(vm) => vm.space().walk(iova),
    }
}
