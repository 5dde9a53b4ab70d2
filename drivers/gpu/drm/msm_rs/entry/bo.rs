// SPDX-License-Identifier: GPL-2.0-only

//! The functions that C calls: those of `msm_gem.h` about BOs. C's prototypes say what they do, and
//! by `_locked` which of them want the BO's resv locked. `msm_gem_object_set_name()`, which takes a
//! format, is in ffi/helpers/bo.c.

#![allow(
    clippy::missing_safety_doc,
    reason = "what C promises is said where it is relied on"
)]

use core::{
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_void, //
    },
    ptr::NonNull,
};

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use super::gem;
use crate::{
    bo::{
        backing,
        cpu_prep,
        pin,
        vmap, //
    },
    ffi::{
        bindings,
        bo::{
            Bo,
            BoLocked,
            Madv,
            Retiring, //
        },
        vm::AnyVm, //
    },
    gpuvm_rs::from_result,
    mapping::{
        self,
        managed::{
            self,
            Window, //
        },
        scanout, //
    },
};

// Places for results that are in an ioctl's argument may not be aligned.

/// A BO for C, which gets the reference.
fn give(result: Result<ARef<Bo>>) -> *mut bindings::drm_gem_object {
    result.map_or_else(
        |e| e.to_ptr(),
        |bo| {
            ARef::into_raw(bo)
                .as_ptr()
                .cast::<bindings::drm_gem_object>()
        },
    )
}

fn address(result: Result<NonNull<c_void>>) -> *mut c_void {
    result.map_or_else(|e| e.to_ptr(), NonNull::as_ptr)
}

#[no_mangle]
unsafe extern "C" fn msm_gem_new(
    dev: *mut bindings::drm_device,
    size: usize,
    flags: u32,
    r_obj: *mut bindings::drm_gem_object,
) -> *mut bindings::drm_gem_object {
    // SAFETY: C passes its device.
    give(unsafe { gem::create(dev, size, flags, r_obj) })
}

#[no_mangle]
unsafe extern "C" fn msm_gem_import(
    dev: *mut bindings::drm_device,
    attach: *mut bindings::dma_buf_attachment,
    sgt: *mut bindings::sg_table,
) -> *mut bindings::drm_gem_object {
    // SAFETY: C passes its device and a mapped attachment.
    give(unsafe { gem::import(dev, attach, sgt) })
}

#[no_mangle]
unsafe extern "C" fn msm_gem_new_handle(
    dev: *mut bindings::drm_device,
    file: *mut bindings::drm_file,
    size: usize,
    flags: u32,
    handle: *mut u32,
    name: *mut c_char,
) -> c_int {
    // SAFETY: Called for an ioctl in progress, of that file; C passes NULL or a name.
    let new = unsafe { gem::create_handle(dev, file, size, flags, name) };
    // SAFETY: C passes a place for the result.
    from_result(new.map(|new| unsafe { handle.write_unaligned(new) }))
}

#[no_mangle]
unsafe extern "C" fn msm_gem_dumb_create(
    file: *mut bindings::drm_file,
    dev: *mut bindings::drm_device,
    args: *mut bindings::drm_mode_create_dumb,
) -> c_int {
    let create = || -> Result {
        // SAFETY: Called for an ioctl in progress, whose argument that is.
        kernel::error::to_result(unsafe { bindings::msm_rs_size_dumb(dev, args) })?;
        // SAFETY: As above.
        let size = unsafe { &raw const (*args).size };
        // SAFETY: As above.
        let size = unsafe { size.read_unaligned() } as usize;
        let flags = bindings::MSM_BO_SCANOUT | bindings::MSM_BO_WC;
        // SAFETY: As above, of that file.
        let new = unsafe { gem::create_handle(dev, file, size, flags, c"dumb".as_char_ptr()) }?;
        // SAFETY: As above.
        let handle = unsafe { &raw mut (*args).handle };
        // SAFETY: As above.
        unsafe { handle.write_unaligned(new) };
        Ok(())
    };
    from_result(create())
}

#[no_mangle]
unsafe extern "C" fn msm_gem_kernel_new(
    dev: *mut bindings::drm_device,
    size: usize,
    flags: u32,
    vm: *mut bindings::drm_gpuvm,
    bo: *mut *mut bindings::drm_gem_object,
    iova: *mut u64,
) -> *mut c_void {
    // SAFETY: C passes NULL or a place for the result.
    let iova = unsafe { iova.as_mut() };
    // SAFETY: C passes its device, and NULL or a VM to which it holds a reference.
    match unsafe { gem::create_for_kernel(dev, size, flags, vm, iova) } {
        Ok((new, vaddr)) => {
            // Without a place for it, C never frees the BO.
            let new = ARef::into_raw(new).as_ptr();
            // SAFETY: C passes NULL or a place for the result.
            if let Some(bo) = unsafe { bo.as_mut() } {
                *bo = new.cast();
            }
            vaddr.as_ptr()
        }
        Err(e) => e.to_ptr(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_kernel_put(
    obj: *mut bindings::drm_gem_object,
    vm: *mut bindings::drm_gpuvm,
) {
    let Ok(Some(bo)) = kernel::error::from_err_ptr(obj).map(|obj| NonNull::new(obj.cast::<Bo>()))
    else {
        return;
    };
    // SAFETY: C gives up its reference to a BO of `msm_gem_kernel_new()`.
    let bo = unsafe { ARef::from_raw(bo) };
    vmap::put(&bo.lock());
    // SAFETY: C passes NULL or a VM to which it holds a reference.
    if let Ok(vm) = unsafe { AnyVm::managed(vm) } {
        mapping::pin::unpin(&bo, vm);
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vma_get(obj: *mut bindings::drm_gem_object) {
    // SAFETY: C holds a reference.
    scanout::hold(unsafe { Bo::from_raw(obj) });
}

#[no_mangle]
unsafe extern "C" fn msm_gem_vma_put(obj: *mut bindings::drm_gem_object) {
    // SAFETY: C holds a reference.
    scanout::release(unsafe { Bo::from_raw(obj) });
}

#[no_mangle]
unsafe extern "C" fn msm_gem_get_and_pin_iova_range(
    obj: *mut bindings::drm_gem_object,
    vm: *mut bindings::drm_gpuvm,
    result: *mut u64,
    start: u64,
    end: u64,
) -> c_int {
    // SAFETY: C holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    // SAFETY: C holds a reference, unless it is NULL.
    let iova = unsafe { AnyVm::managed(vm) }
        .and_then(|vm| mapping::pin::pin(bo, vm, Window { start, end }));
    // SAFETY: C passes a place for the result.
    from_result(iova.map(|iova| unsafe { result.write_unaligned(iova) }))
}

#[no_mangle]
unsafe extern "C" fn msm_gem_get_and_pin_iova(
    obj: *mut bindings::drm_gem_object,
    vm: *mut bindings::drm_gpuvm,
    result: *mut u64,
) -> c_int {
    // SAFETY: As there.
    unsafe { msm_gem_get_and_pin_iova_range(obj, vm, result, Window::ANY.start, Window::ANY.end) }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_unpin_iova(
    obj: *mut bindings::drm_gem_object,
    vm: *mut bindings::drm_gpuvm,
) {
    // SAFETY: C holds a reference, unless it is NULL.
    if let Ok(vm) = unsafe { AnyVm::managed(vm) } {
        // SAFETY: C holds a reference.
        mapping::pin::unpin(unsafe { Bo::from_raw(obj) }, vm);
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_get_iova(
    obj: *mut bindings::drm_gem_object,
    vm: *mut bindings::drm_gpuvm,
    result: *mut u64,
) -> c_int {
    // SAFETY: C holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    // SAFETY: C holds a reference, unless it is NULL.
    let iova = unsafe { AnyVm::managed(vm) }.and_then(|vm| managed::get(bo, vm));
    // SAFETY: C passes a place for the result.
    from_result(iova.map(|iova| unsafe { result.write_unaligned(iova) }))
}

#[no_mangle]
unsafe extern "C" fn msm_gem_set_iova(
    obj: *mut bindings::drm_gem_object,
    vm: *mut bindings::drm_gpuvm,
    iova: u64,
) -> c_int {
    // SAFETY: C holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    // SAFETY: C holds a reference, unless it is NULL.
    from_result(unsafe { AnyVm::managed(vm) }.and_then(|vm| managed::set(bo, vm, iova)))
}

#[no_mangle]
unsafe extern "C" fn msm_gem_unpin_active(obj: *mut bindings::drm_gem_object) {
    // SAFETY: The submit that is about to run has a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    // SAFETY: C holds the LRU lock. That submit has pinned the BO and put its fence into the resv.
    pin::retire(&unsafe { Retiring::assume(bo) });
}

#[no_mangle]
unsafe extern "C" fn msm_gem_pin_pages_locked(
    obj: *mut bindings::drm_gem_object,
) -> *mut *mut bindings::page {
    // SAFETY: C holds a reference and the lock.
    let bo = unsafe { BoLocked::assume(obj) };
    match backing::pin_pages(&bo) {
        // SAFETY: Locked, which guards it.
        Ok(()) => unsafe { (*bo.raw()).pages },
        Err(e) => e.to_ptr(),
    }
}

#[no_mangle]
unsafe extern "C" fn msm_gem_unpin_pages_locked(obj: *mut bindings::drm_gem_object) {
    // SAFETY: C holds a reference and the lock.
    unsafe { BoLocked::assume(obj) }.with_lru(pin::unpin);
}

#[no_mangle]
unsafe extern "C" fn msm_gem_get_vaddr_locked(obj: *mut bindings::drm_gem_object) -> *mut c_void {
    // SAFETY: C holds a reference and the lock.
    address(vmap::get(&unsafe { BoLocked::assume(obj) }, Madv::WillNeed))
}

#[no_mangle]
unsafe extern "C" fn msm_gem_get_vaddr(obj: *mut bindings::drm_gem_object) -> *mut c_void {
    // SAFETY: C holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    address(vmap::get(&bo.lock(), Madv::WillNeed))
}

/// For crash dumps: of BOs, too, that userspace doesn't need any more.
#[no_mangle]
unsafe extern "C" fn msm_gem_get_vaddr_active(obj: *mut bindings::drm_gem_object) -> *mut c_void {
    // SAFETY: C holds a reference and the lock.
    address(vmap::get(&unsafe { BoLocked::assume(obj) }, Madv::DontNeed))
}

#[no_mangle]
unsafe extern "C" fn msm_gem_put_vaddr_locked(obj: *mut bindings::drm_gem_object) {
    // SAFETY: C holds a reference and the lock.
    vmap::put(&unsafe { BoLocked::assume(obj) });
}

#[no_mangle]
unsafe extern "C" fn msm_gem_put_vaddr(obj: *mut bindings::drm_gem_object) {
    // SAFETY: C holds a reference.
    vmap::put(&unsafe { Bo::from_raw(obj) }.lock());
}

#[no_mangle]
unsafe extern "C" fn msm_gem_madvise(obj: *mut bindings::drm_gem_object, madv: c_uint) -> c_int {
    // SAFETY: C holds a reference.
    let bo = unsafe { Bo::from_raw(obj) }.lock();
    c_int::from(pin::madvise(&bo, Madv::from_raw(madv as u8)))
}

#[no_mangle]
unsafe extern "C" fn msm_gem_cpu_prep(
    obj: *mut bindings::drm_gem_object,
    op: u32,
    timeout: *mut bindings::ktime_t,
) -> c_int {
    // SAFETY: C holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    // SAFETY: C passes a time.
    let jiffies = unsafe { bindings::timeout_to_jiffies(timeout) } as usize;
    from_result(cpu_prep::prepare(bo, op, jiffies))
}

/// There is nothing to do: a BO that isn't coherent is write-combined, and cached ones are
/// userspace's business.
#[no_mangle]
unsafe extern "C" fn msm_gem_cpu_fini(_obj: *mut bindings::drm_gem_object) -> c_int {
    0
}

#[cfg(CONFIG_DEBUG_FS)]
mod debugfs {
    use core::mem::offset_of;

    use super::*;
    use crate::{
        bo::describe,
        ffi::seq::{
            Seq,
            Stats, //
        },
        gpuvm_rs::list::Entries,
    };

    #[no_mangle]
    unsafe extern "C" fn msm_gem_describe(
        obj: *mut bindings::drm_gem_object,
        m: *mut bindings::seq_file,
        stats: *mut bindings::msm_gem_stats,
    ) {
        // SAFETY: C holds a reference.
        let bo = unsafe { Bo::from_raw(obj) };
        // SAFETY: C reads the file.
        let out = unsafe { Seq::from_raw(m) };
        // SAFETY: C passes its statistics, which are laid out alike.
        let stats = unsafe { &mut *stats.cast::<Stats>() };
        describe::describe(bo, &out, stats);
    }

    /// C has locked the list.
    #[no_mangle]
    unsafe extern "C" fn msm_gem_describe_objects(
        list: *mut bindings::list_head,
        m: *mut bindings::seq_file,
    ) {
        let mut stats = Stats::default();
        // SAFETY: C reads the file.
        let out = unsafe { Seq::from_raw(m) };
        describe::header(&out);
        let offset = offset_of!(bindings::msm_gem_object, node);
        // SAFETY: C's list of BOs, which it has locked.
        for bo in unsafe { Entries::<bindings::msm_gem_object>::of(list, offset) } {
            // SAFETY: BOs leave the list before they are freed, for which its lock is needed; one
            // whose last reference is gone is still whole, and its lock can be tried.
            let bo = unsafe { Bo::from_raw(bo.as_ptr().cast()) };
            out.print(fmt!("   "));
            describe::describe(bo, &out, &mut stats);
        }
        describe::summary(&out, &stats);
    }
}
