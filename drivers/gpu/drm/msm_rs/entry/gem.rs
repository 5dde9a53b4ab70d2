// SPDX-License-Identifier: GPL-2.0-only

//! BOs begin and end, and what the DRM core calls in between: handles opened and closed, mmap, CPU
//! faults.

use core::{
    ffi::{
        c_char,
        c_int, //
    },
    ptr::NonNull, //
};

use kernel::{
    prelude::*,
    sync::aref::ARef,
    warn_on, //
};

use crate::{
    bo::{
        backing,
        vmap, //
    },
    ffi::{
        self,
        bindings,
        bo::{
            Bo,
            BoLocked,
            BoMemory,
            Madv, //
        },
        debug,
        holders::Holders,
        mappings::Unmapped,
        vm::AnyVm, //
    },
    gpuvm_rs::from_result,
    mapping::{
        handle_close::{
            self,
            Users, //
        },
        managed,
        pin,
        scanout, //
    },
    pure::ops, //
};

/// Functions for C that never change.
#[repr(transparent)]
struct ConstTable<T>(T);

// SAFETY: Never written.
unsafe impl<T> Sync for ConstTable<T> {}

/// What makes an object a BO of this driver.
#[no_mangle]
static msm_rs_gem_funcs: ConstTable<bindings::drm_gem_object_funcs> =
    ConstTable(bindings::drm_gem_object_funcs {
        free: Some(free),
        open: Some(open),
        close: Some(close),
        export: Some(bindings::msm_gem_prime_export),
        pin: Some(bindings::msm_gem_prime_pin),
        unpin: Some(bindings::msm_gem_prime_unpin),
        get_sg_table: Some(bindings::msm_gem_prime_get_sg_table),
        vmap: Some(bindings::msm_gem_prime_vmap),
        vunmap: Some(bindings::msm_gem_prime_vunmap),
        mmap: Some(mmap),
        status: Some(status),
        vm_ops: &VM_OPS.0,
        // SAFETY: No functions is what zeroes say.
        ..unsafe { core::mem::zeroed() }
    });

static VM_OPS: ConstTable<bindings::vm_operations_struct> =
    ConstTable(bindings::vm_operations_struct {
        fault: Some(fault),
        open: Some(bindings::drm_gem_vm_open),
        close: Some(bindings::drm_gem_vm_close),
        // SAFETY: No functions is what zeroes say.
        ..unsafe { core::mem::zeroed() }
    });

/// A BO that nobody knows yet.
struct NewBo(KBox<BoMemory>);

impl NewBo {
    /// # Errors
    ///
    /// `EINVAL` for `flags` that this device can't do, `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `dev` is the msm device.
    unsafe fn new(dev: *mut bindings::drm_device, flags: u32) -> Result<Self> {
        // SAFETY: The caller's promise.
        let coherent = unsafe { (*ffi::private(dev)).has_cached_coherent };
        match flags & bindings::MSM_BO_CACHE_MASK {
            bindings::MSM_BO_CACHED | bindings::MSM_BO_WC => {}
            bindings::MSM_BO_CACHED_COHERENT if coherent => {}
            other => {
                // SAFETY: The caller's promise.
                unsafe { debug::line(dev, fmt!("invalid cache flag: {other:x}")) };
                return Err(EINVAL);
            }
        }
        let mut memory = KBox::<BoMemory>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: Within the allocation, from which it doesn't move. All other fields may be zero.
        let memory = unsafe {
            pin_init::raw_init(&raw mut (*memory.as_mut_ptr()).holders, Holders::new());
            memory.assume_init()
        };
        let bo = memory.c.get();
        // SAFETY: Ours alone.
        unsafe {
            (*bo).flags = flags;
            (*bo).madv = Madv::WillNeed.to_raw();
            (*bo).base.funcs = &raw const bindings::msm_rs_gem_funcs;
            bindings::msm_rs_list_init(&raw mut (*bo).node);
        }
        Ok(Self(memory))
    }

    fn gem(&self) -> *mut bindings::drm_gem_object {
        self.0.c.get().cast()
    }

    /// From here on, the BO ends by `free()`.
    ///
    /// # Safety
    ///
    /// `drm_gem_private_object_init()` was called, or `drm_gem_object_init()`, with whatever
    /// result.
    unsafe fn initialised(self) -> ARef<Bo> {
        let bo = NonNull::from(Box::leak(self.0)).cast::<Bo>();
        // SAFETY: The object begins with one reference, which is ours.
        unsafe { ARef::from_raw(bo) }
    }
}

/// Makes a BO known to the device's lists and to mmap.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`; freeing the BO undoes what was done.
fn announce(bo: &Bo) -> Result {
    // SAFETY: Initialised.
    kernel::error::to_result(unsafe { bindings::msm_rs_announce_bo(bo.gem().as_raw()) })
}

/// Makes a BO of `size` bytes, rounded up to pages.
///
/// # Errors
///
/// `EINVAL` for a size or flags that can't be, `ENOMEM`.
///
/// # Safety
///
/// `dev` is the msm device. `private_to` is alive if `flags` has `MSM_BO_NO_SHARE`: the BO shares
/// its resv.
pub(super) unsafe fn create(
    dev: *mut bindings::drm_device,
    size: usize,
    flags: u32,
    private_to: *mut bindings::drm_gem_object,
) -> Result<ARef<Bo>> {
    let size = size
        .checked_next_multiple_of(ops::PAGE_SIZE as usize)
        .filter(|&size| size != 0)
        .ok_or(EINVAL)?;
    // SAFETY: The caller's promises.
    unsafe {
        let new = NewBo::new(dev, flags)?;
        let gem = new.gem();
        if flags & bindings::MSM_BO_NO_SHARE != 0 {
            if private_to.is_null() {
                return Err(EINVAL);
            }
            bindings::drm_gem_object_get(private_to);
            (*gem).resv = (*private_to).resv;
        }
        let result = bindings::drm_gem_object_init(dev, gem, size);
        let bo = new.initialised();
        kernel::error::to_result(result)?;
        bindings::msm_rs_choose_pages(gem);
        announce(&bo)?;
        Ok(bo)
    }
}

/// Makes a BO of the pages that somebody else exports.
///
/// # Errors
///
/// `ENOMEM`; `EINVAL` if the table has more or fewer pages than the dma-buf. The attachment and its
/// table are still the caller's.
///
/// # Safety
///
/// `dev` is the msm device, `sgt` the mapping of `attach`.
pub(super) unsafe fn import(
    dev: *mut bindings::drm_device,
    attach: *mut bindings::dma_buf_attachment,
    sgt: *mut bindings::sg_table,
) -> Result<ARef<Bo>> {
    // SAFETY: The caller's promises.
    unsafe {
        let new = NewBo::new(dev, bindings::MSM_BO_WC)?;
        let gem = new.gem();
        let dma_buf = (*attach).dmabuf;
        let size = (*dma_buf)
            .size
            .checked_next_multiple_of(ops::PAGE_SIZE as usize)
            .ok_or(EINVAL)?;
        (*gem).import_attach = attach;
        (*gem).resv = (*dma_buf).resv;
        bindings::drm_gem_private_object_init(dev, gem, size);
        let bo = new.initialised();
        let pages = bindings::msm_rs_page_array(sgt, size / ops::PAGE_SIZE as usize);
        (*bo.raw()).pages = kernel::error::from_err_ptr(pages)?;
        announce(&bo)?;
        // Freeing the BO unmaps the attachment from here on.
        (*bo.raw()).sgt = sgt;
        Ok(bo)
    }
}

/// Makes a BO and a handle for it. Returns the handle.
///
/// # Errors
///
/// As [`create`]; `EINVAL` for a private BO on a device without a GPU.
///
/// # Safety
///
/// `file` is an open file of the msm device `dev`; `name` is NULL or a string.
pub(super) unsafe fn create_handle(
    dev: *mut bindings::drm_device,
    file: *mut bindings::drm_file,
    size: usize,
    flags: u32,
    name: *const c_char,
) -> Result<u32> {
    let mut handle = 0;
    // SAFETY: The caller's promises; the VM's resv object lives as long as the VM, which lives as
    // long as the file's context.
    unsafe {
        let mut private_to = core::ptr::null_mut();
        if flags & bindings::MSM_BO_NO_SHARE != 0 {
            if (*ffi::private(dev)).gpu.is_null() {
                debug::line(dev, fmt!("a private BO without a GPU"));
                return Err(EINVAL);
            }
            let vm = bindings::msm_context_vm(dev, (*file).driver_priv.cast());
            if vm.is_null() {
                debug::line(dev, fmt!("no VM"));
                return Err(ENOMEM);
            }
            private_to = (*vm).r_obj;
        }
        let bo = create(dev, size, flags, private_to)?;
        if !name.is_null() {
            bindings::msm_rs_set_name(bo.gem().as_raw(), name);
        }
        kernel::error::to_result(bindings::drm_gem_handle_create(
            file,
            bo.gem().as_raw(),
            &mut handle,
        ))?;
    }
    Ok(handle)
}

/// # Safety
///
/// The last reference to a BO is gone.
unsafe extern "C" fn free(obj: *mut bindings::drm_gem_object) {
    // SAFETY: Nobody else can reach the BO, which is as good as its lock.
    unsafe {
        bindings::msm_rs_forget_bo(obj);
        {
            let bo = BoLocked::assume(obj);
            // VMAs hold references. Whoever pins it or maps it for the kernel should.
            warn_on!(bo.obj().is_mapped());
            warn_on!(bo.is_pinned() || bo.vmap_count() != 0);
            warn_on!(bo.scanout_users() != 0 || bo.scanout_pins() != 0);
            bo.unmap_for_kernel();
            if !bo.gem().is_imported() {
                backing::release_last(Unmapped::of_unreferenced(&bo));
            }
        }
        let bo: *mut bindings::msm_gem_object = obj.cast();
        if bindings::drm_gem_is_imported(obj) {
            // The pages aren't ours, the array is.
            bindings::kvfree((*bo).pages.cast());
            // NULL if the import failed.
            if !(*bo).sgt.is_null() {
                bindings::drm_prime_gem_destroy(obj, (*bo).sgt);
            }
        }
        if (*bo).flags & bindings::MSM_BO_NO_SHARE != 0 {
            bindings::msm_rs_put_resv_owner(obj);
        }
        bindings::drm_gem_object_release(obj);
        bindings::kfree((*bo).metadata);
        drop(KBox::from_raw(bo.cast::<BoMemory>()));
    }
}

/// # Safety
///
/// `file` gets a handle for `obj`.
unsafe extern "C" fn open(
    obj: *mut bindings::drm_gem_object,
    file: *mut bindings::drm_file,
) -> c_int {
    // SAFETY: Both are alive, and so is the file's context for as long as it has handles.
    unsafe {
        let bo = Bo::from_raw(obj);
        let open = || {
            bo.holders().add(context(file)?)?;
            scanout::hold(bo);
            bindings::msm_rs_charge_context(file, (*obj).size as i64);
            Ok(())
        };
        from_result(open())
    }
}

/// The context of an open file.
///
/// # Safety
///
/// `file` is alive.
unsafe fn context(file: *mut bindings::drm_file) -> Result<NonNull<bindings::msm_context>> {
    // SAFETY: The caller's promise. Every file has one.
    NonNull::new(unsafe { (*file).driver_priv }.cast()).ok_or(EINVAL)
}

/// # Safety
///
/// `file` loses its handle for `obj`.
unsafe extern "C" fn close(obj: *mut bindings::drm_gem_object, file: *mut bindings::drm_file) {
    // SAFETY: Both are alive.
    unsafe {
        let bo = Bo::from_raw(obj);
        bindings::msm_rs_charge_context(file, -((*obj).size as i64));
        scanout::release(bo);

        let Ok(ctx) = context(file) else {
            return;
        };
        // What asks for the handle with VM and BO locked finds it gone, or has done so before they
        // are locked below.
        bo.holders().remove(ctx);
        let ctx = ctx.as_ptr();
        // VM_BIND's VMAs don't go with handles. Without a VM there are none.
        if (*ctx).vm.is_null() || bindings::msm_context_is_vmbind(ctx) {
            return;
        }
        if let AnyVm::Managed(vm) = AnyVm::from_raw((*ctx).vm) {
            let gpu = (*ffi::private((*obj).dev)).gpu;
            let users = if !gpu.is_null() && (*gpu).vm == (*ctx).vm {
                Users::Many
            } else {
                Users::Client((*file).client_id)
            };
            handle_close::handle_closed(bo, vm, users);
        }
    }
}

/// # Safety
///
/// `obj` is about to be mapped at `vma`.
unsafe extern "C" fn mmap(
    obj: *mut bindings::drm_gem_object,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: Both are alive, and the process's mappings are locked.
    unsafe { bindings::msm_rs_mmap(vma, Bo::from_raw(obj).is_write_combined()) }
}

/// # Safety
///
/// Called for a mapping of a BO, which holds a reference.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: Alive for the call.
    unsafe {
        let bo = Bo::from_raw(bindings::msm_rs_fault_object(vmf));
        let insert = || {
            let locked = bo.lock_interruptible()?;
            let ensure = || backing::ensure(&locked, Madv::WillNeed);
            // There is no error to return to userspace. It may have been the worst of moments: a
            // second attempt, then SIGBUS.
            ensure().or_else(|e| if e == ENOMEM { ensure() } else { Err(e) })?;
            let page = locked
                .page(bindings::msm_rs_fault_index(vmf))
                .ok_or(EINVAL)?;
            Ok(bindings::msm_rs_fault_insert(vmf, page.as_ptr()))
        };
        insert().unwrap_or_else(|e: Error| bindings::msm_rs_fault_error(e.to_errno()))
    }
}

/// # Safety
///
/// `obj` is alive.
unsafe extern "C" fn status(obj: *mut bindings::drm_gem_object) -> bindings::drm_gem_object_status {
    let bo: *mut bindings::msm_gem_object = obj.cast();
    let mut status = 0;
    // SAFETY: Alive; both are looked at once, for statistics.
    unsafe {
        if !(&raw const (*bo).pages).read_volatile().is_null() {
            status |= bindings::drm_gem_object_status_DRM_GEM_OBJECT_RESIDENT;
        }
        if Madv::from_raw((&raw const (*bo).madv).read_volatile()) == Madv::DontNeed {
            status |= bindings::drm_gem_object_status_DRM_GEM_OBJECT_PURGEABLE;
        }
    }
    status
}

/// Makes a BO for the kernel, mapped for it and, if `vm` isn't NULL, in that VM, where it is pinned
/// at `*iova`.
///
/// Returns the BO and where the kernel has it.
///
/// # Errors
///
/// As [`create`], [`iova::pin`] and [`vmap::get`]; nothing is left behind.
///
/// # Safety
///
/// `dev` is the msm device; `vm` is NULL or alive.
pub(super) unsafe fn create_for_kernel(
    dev: *mut bindings::drm_device,
    size: usize,
    flags: u32,
    vm: *mut bindings::drm_gpuvm,
    iova: Option<&mut u64>,
) -> Result<(ARef<Bo>, NonNull<core::ffi::c_void>)> {
    // SAFETY: The caller's promises.
    unsafe {
        let bo = create(dev, size, flags, core::ptr::null_mut())?;
        let Some(iova) = iova else {
            let vaddr = vmap::get(&bo.lock(), Madv::WillNeed)?;
            return Ok((bo, vaddr));
        };
        let vm = AnyVm::managed(vm)?;
        *iova = pin::pin(&bo, vm, managed::Window::ANY)?;
        let mapped = vmap::get(&bo.lock(), Madv::WillNeed);
        let vaddr = mapped.inspect_err(|_| pin::unpin(&bo, vm))?;
        Ok((bo, vaddr))
    }
}
