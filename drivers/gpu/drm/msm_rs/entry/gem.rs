// SPDX-License-Identifier: GPL-2.0-only

//! BOs begin and end, and what the DRM core calls in between: handles opened and closed, mmap, CPU
//! faults.

use core::{
    ffi::{
        c_char,
        c_int,
        c_uint, //
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
        huge_fault: Some(huge_fault),
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
        let private = unsafe { ffi::private(dev) };
        // SAFETY: The device's, as long as it lives.
        let coherent = unsafe { (*private).has_cached_coherent };
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
        // SAFETY: Within the allocation.
        let holders = unsafe { &raw mut (*memory.as_mut_ptr()).holders };
        // SAFETY: As above, from where it doesn't move.
        unsafe { pin_init::raw_init(holders, Holders::new()) };
        // SAFETY: All other fields may be zero.
        let memory = unsafe { memory.assume_init() };
        // SAFETY: Ours alone.
        let bo = unsafe { &mut *memory.c.get() };
        bo.flags = flags;
        bo.madv = Madv::WillNeed.to_raw();
        bo.base.funcs = &raw const bindings::msm_rs_gem_funcs;
        // SAFETY: Ours alone, and doesn't move.
        unsafe { bindings::msm_rs_list_init(&mut bo.node) };
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
/// `ENOMEM`, `ENOSPC`; nobody has seen the BO then.
fn announce(bo: &Bo) -> Result {
    // SAFETY: Borrowed, hence alive, and initialised.
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
    // SAFETY: The msm device, by the caller's promise.
    let new = unsafe { NewBo::new(dev, flags) }?;
    let gem = new.gem();
    if flags & bindings::MSM_BO_NO_SHARE != 0 {
        if private_to.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: Alive, by the caller's promise. `free()` puts the reference.
        unsafe { bindings::drm_gem_object_get(private_to) };
        // SAFETY: As above.
        let resv = unsafe { (*private_to).resv };
        // SAFETY: Ours alone.
        unsafe { (*gem).resv = resv };
    }
    // SAFETY: Ours alone, zeroed but for what we have set; `dev` as above.
    let result = unsafe { bindings::drm_gem_object_init(dev, gem, size) };
    // SAFETY: Just called.
    let bo = unsafe { new.initialised() };
    kernel::error::to_result(result)?;
    // SAFETY: Initialised, so that it has a file.
    unsafe { bindings::msm_rs_choose_pages(gem) };
    announce(&bo)?;
    Ok(bo)
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
    // SAFETY: The msm device, by the caller's promise.
    let new = unsafe { NewBo::new(dev, bindings::MSM_BO_WC) }?;
    let gem = new.gem();
    // SAFETY: Alive, by the caller's promise.
    let dma_buf = unsafe { (*attach).dmabuf };
    // SAFETY: An attachment has a reference to its dma-buf, whose size never changes.
    let size = unsafe { (*dma_buf).size };
    let size = size
        .checked_next_multiple_of(ops::PAGE_SIZE as usize)
        .ok_or(EINVAL)?;
    // SAFETY: As above.
    let resv = unsafe { (*dma_buf).resv };
    // SAFETY: Ours alone.
    unsafe { (*gem).import_attach = attach };
    // SAFETY: Ours alone.
    unsafe { (*gem).resv = resv };
    // SAFETY: Ours alone, zeroed but for what we have set; `dev` as above.
    unsafe { bindings::drm_gem_private_object_init(dev, gem, size) };
    // SAFETY: Just called.
    let bo = unsafe { new.initialised() };
    // SAFETY: The attachment's table, by the caller's promise.
    let pages = unsafe { bindings::msm_rs_page_array(sgt, size / ops::PAGE_SIZE as usize) };
    let pages = kernel::error::from_err_ptr(pages)?;
    // SAFETY: Nobody else knows the BO yet.
    unsafe { (*bo.raw()).pages = pages };
    announce(&bo)?;
    // Freeing the BO unmaps the attachment from here on.
    // SAFETY: Nobody looks at an imported BO's table before it has a handle.
    unsafe { (*bo.raw()).sgt = sgt };
    Ok(bo)
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
    let mut private_to = core::ptr::null_mut();
    if flags & bindings::MSM_BO_NO_SHARE != 0 {
        // SAFETY: The caller's promise.
        private_to = unsafe { resv_object(dev, file) }?;
    }
    // SAFETY: The msm device. The VM's resv object lives as long as the VM, which lives as long as
    // the context of the file, which is open: the caller's promise.
    let bo = unsafe { create(dev, size, flags, private_to) }?;
    if !name.is_null() {
        // SAFETY: A string, by the caller's promise.
        unsafe { bindings::msm_rs_set_name(bo.gem().as_raw(), name) };
    }
    let mut handle = 0;
    // SAFETY: An open file, by the caller's promise. The handle takes its own reference.
    kernel::error::to_result(unsafe {
        bindings::drm_gem_handle_create(file, bo.gem().as_raw(), &mut handle)
    })?;
    Ok(handle)
}

/// The object with which the private BOs of a file's context share their resv.
///
/// # Errors
///
/// `EINVAL` without a GPU, `ENOMEM` without a VM.
///
/// # Safety
///
/// `file` is an open file of the msm device `dev`.
unsafe fn resv_object(
    dev: *mut bindings::drm_device,
    file: *mut bindings::drm_file,
) -> Result<*mut bindings::drm_gem_object> {
    // SAFETY: The device is alive, by the caller's promise.
    let note = |why| unsafe { debug::line(dev, why) };
    // SAFETY: As above.
    let private = unsafe { ffi::private(dev) };
    // SAFETY: The device's, as long as it lives.
    if unsafe { (*private).gpu }.is_null() {
        note(fmt!("a private BO without a GPU"));
        return Err(EINVAL);
    }
    // SAFETY: Open, by the caller's promise.
    let ctx = unsafe { (*file).driver_priv };
    // SAFETY: A file has its context as long as it is open.
    let vm = unsafe { bindings::msm_context_vm(dev, ctx.cast()) };
    if vm.is_null() {
        note(fmt!("no VM"));
        return Err(ENOMEM);
    }
    // SAFETY: A context keeps its VM.
    Ok(unsafe { (*vm).r_obj })
}

/// # Safety
///
/// The last reference to a BO is gone.
unsafe extern "C" fn free(obj: *mut bindings::drm_gem_object) {
    // SAFETY: Alive until its memory is given back below.
    unsafe { bindings::msm_rs_forget_bo(obj) };
    {
        // SAFETY: Nobody else can reach the BO, which is as good as its lock.
        let bo = unsafe { BoLocked::assume(obj) };
        // VMAs hold references. Whoever pins it or maps it for the kernel should.
        warn_on!(bo.obj().is_mapped());
        warn_on!(bo.is_pinned() || bo.vmap_count() != 0);
        warn_on!(bo.scanout_users() != 0 || bo.scanout_pins() != 0);
        bo.unmap_for_kernel();
        // A mapping that has users, which is a bug, keeps the pages.
        if !bo.gem().is_imported() && bo.vaddr().is_none() {
            // SAFETY: The last reference is gone, by the caller's promise.
            backing::release_last(unsafe { Unmapped::of_unreferenced(&bo) });
        }
    }
    let bo: *mut bindings::msm_gem_object = obj.cast();
    // SAFETY: Alive, as above.
    if unsafe { bindings::drm_gem_is_imported(obj) } {
        // SAFETY: As above; nobody else can reach it.
        let pages = unsafe { (*bo).pages };
        // SAFETY: From `msm_rs_page_array()`, or NULL. The pages aren't ours, the array is.
        unsafe { bindings::kvfree(pages.cast()) };
        // SAFETY: As for the pages.
        let sgt = unsafe { (*bo).sgt };
        // NULL if the import failed.
        if !sgt.is_null() {
            // SAFETY: The mapping of the attachment that `import()` was given.
            unsafe { bindings::drm_prime_gem_destroy(obj, sgt) };
        }
    }
    // SAFETY: Alive, as above.
    if unsafe { (*bo).flags } & bindings::MSM_BO_NO_SHARE != 0 {
        // SAFETY: `create()` took the reference.
        unsafe { bindings::msm_rs_put_resv_owner(obj) };
    }
    // SAFETY: Initialised, and ours alone.
    unsafe { bindings::drm_gem_object_release(obj) };
    // SAFETY: Alive, as above.
    let metadata = unsafe { (*bo).metadata };
    // SAFETY: C's, for this BO; or NULL, which is ignored.
    unsafe { bindings::kfree(metadata) };
    // SAFETY: The box that `NewBo::initialised()` gave away; nobody looks at it any more.
    drop(unsafe { KBox::from_raw(obj.cast::<BoMemory>()) });
}

/// # Safety
///
/// `file` gets a handle for `obj`.
unsafe extern "C" fn open(
    obj: *mut bindings::drm_gem_object,
    file: *mut bindings::drm_file,
) -> c_int {
    // SAFETY: The handle to be holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    let open = || {
        // SAFETY: An open file, by the caller's promise.
        let ctx = unsafe { context(file) }?;
        // SAFETY: The file's context is alive for as long as it has handles.
        unsafe { bo.holders().add(ctx) }?;
        scanout::hold(bo);
        // SAFETY: As above.
        unsafe { bindings::msm_rs_charge_context(file, bo.gem().size() as i64) };
        Ok(())
    };
    from_result(open())
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
    // SAFETY: The handle holds a reference until this returns.
    let bo = unsafe { Bo::from_raw(obj) };
    // SAFETY: A file that is alive, by the caller's promise.
    unsafe { bindings::msm_rs_charge_context(file, -(bo.gem().size() as i64)) };
    scanout::release(bo);

    // SAFETY: As above.
    let Ok(ctx) = (unsafe { context(file) }) else {
        return;
    };
    // What asks for the handle with VM and BO locked finds it gone, or has done so before they are
    // locked below.
    bo.holders().remove(ctx);
    let ctx = ctx.as_ptr();
    // SAFETY: A file has its context as long as it has handles.
    let vm = unsafe { (*ctx).vm };
    // VM_BIND's VMAs don't go with handles. Without a VM there are none.
    // SAFETY: As above.
    if vm.is_null() || unsafe { bindings::msm_context_is_vmbind(ctx) } {
        return;
    }
    // SAFETY: A context keeps its VM.
    if let AnyVm::Managed(managed) = unsafe { AnyVm::from_raw(vm) } {
        // SAFETY: As above.
        let users = if unsafe { is_gpus_own(bo, vm) } {
            Users::Many
        } else {
            // SAFETY: A file that is alive, by the caller's promise.
            Users::Client(unsafe { (*file).client_id })
        };
        handle_close::handle_closed(bo, managed, users);
    }
}

/// Whether `vm` is the GPU's own, which several contexts share.
///
/// # Safety
///
/// `bo` is one of the msm device's.
unsafe fn is_gpus_own(bo: &Bo, vm: *mut bindings::drm_gpuvm) -> bool {
    // SAFETY: Borrowed, hence alive; the pointer never changes.
    let dev = unsafe { (*bo.gem().as_raw()).dev };
    // SAFETY: The device outlives its BOs.
    let private = unsafe { ffi::private(dev) };
    // SAFETY: The device's, as long as it lives.
    let gpu = unsafe { (*private).gpu };
    // SAFETY: As above.
    !gpu.is_null() && unsafe { (*gpu).vm } == vm
}

/// # Safety
///
/// `obj` is about to be mapped at `vma`.
unsafe extern "C" fn mmap(
    obj: *mut bindings::drm_gem_object,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: The mapping to be holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    // SAFETY: The mm core calls this with the process's mappings locked.
    unsafe { bindings::msm_rs_mmap(vma, bo.is_write_combined()) }
}

/// # Safety
///
/// Called for a mapping of a BO, which holds a reference.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: The mm core passes a fault that is alive for the call.
    let obj = unsafe { bindings::msm_rs_fault_object(vmf) };
    // SAFETY: The mapping holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    let insert = |locked: &BoLocked<'_>| {
        // SAFETY: As above.
        let index = unsafe { bindings::msm_rs_fault_index(vmf) };
        let page = locked.page(index).ok_or(EINVAL)?;
        // SAFETY: As above. The page is the BO's while it is locked.
        Ok(unsafe { bindings::msm_rs_fault_insert(vmf, page.as_ptr()) })
    };
    let access = || {
        if let Some(done) = backing::with_pages_now(bo, insert)? {
            return Ok(done);
        }
        // Something has to be waited for, which may take long: not with mmap_lock, if possible.
        // SAFETY: Has no preconditions.
        let repeat = || unsafe { bindings::msm_rs_fault_retry() };
        // SAFETY: As above.
        if unsafe { bindings::msm_rs_fault_nowait(vmf) } {
            return Ok(repeat());
        }
        // SAFETY: As above. After this neither `vmf` nor the mapping is looked at, unless it
        // returns NULL.
        let file = unsafe { bindings::msm_rs_fault_unlock(vmf) };
        if file.is_null() {
            return backing::with_pages(bo, insert);
        }
        // SAFETY: The call took a reference.
        let bo = unsafe { ARef::from_raw(NonNull::from(bo)) };
        // Should that fail, the repeated access will say so.
        let _ = backing::with_pages(&bo, |_| Ok(()));
        drop(bo);
        // SAFETY: As above. It has kept the device so far.
        unsafe { bindings::fput(file) };
        Ok(repeat())
    };
    // SAFETY: Has no preconditions.
    access().unwrap_or_else(|e: Error| unsafe { bindings::msm_rs_fault_error(e.to_errno()) })
}

/// # Safety
///
/// As [`fault`], for an access at which a page of 2^`order` small ones may be mapped.
unsafe extern "C" fn huge_fault(
    vmf: *mut bindings::vm_fault,
    order: c_uint,
) -> bindings::vm_fault_t {
    // SAFETY: Has no preconditions.
    let by_small_pages = || unsafe { bindings::msm_rs_fault_fallback() };
    // SAFETY: Has no preconditions.
    if !unsafe { bindings::msm_rs_is_large(order) } {
        return by_small_pages();
    }
    // SAFETY: The mm core passes a fault that is alive for the call.
    let obj = unsafe { bindings::msm_rs_fault_object(vmf) };
    // SAFETY: The mapping holds a reference.
    let bo = unsafe { Bo::from_raw(obj) };
    let insert = |locked: &BoLocked<'_>| {
        // SAFETY: As above.
        let index = unsafe { bindings::msm_rs_fault_index(vmf) };
        let page = locked.page(index).ok_or(EINVAL)?;
        // SAFETY: As above. The page is the BO's while it is locked.
        Ok(unsafe { bindings::msm_rs_fault_insert_large(vmf, page.as_ptr()) })
    };
    // `fault()` waits, and says what is wrong.
    match backing::with_pages_now(bo, insert) {
        Ok(Some(done)) => done,
        Ok(None) | Err(_) => by_small_pages(),
    }
}

/// # Safety
///
/// `obj` is alive.
unsafe extern "C" fn status(obj: *mut bindings::drm_gem_object) -> bindings::drm_gem_object_status {
    let bo: *mut bindings::msm_gem_object = obj.cast();
    let mut status = 0;
    // SAFETY: Alive, by the caller's promise.
    let pages = unsafe { &raw const (*bo).pages };
    // SAFETY: Looked at once, for statistics.
    if !unsafe { pages.read_volatile() }.is_null() {
        status |= bindings::drm_gem_object_status_DRM_GEM_OBJECT_RESIDENT;
    }
    // SAFETY: Alive, by the caller's promise.
    let madv = unsafe { &raw const (*bo).madv };
    // SAFETY: Looked at once, for statistics.
    if Madv::from_raw(unsafe { madv.read_volatile() }) == Madv::DontNeed {
        status |= bindings::drm_gem_object_status_DRM_GEM_OBJECT_PURGEABLE;
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
    // SAFETY: The msm device, by the caller's promise.
    let bo = unsafe { create(dev, size, flags, core::ptr::null_mut()) }?;
    let Some(iova) = iova else {
        let vaddr = vmap::get(&bo.lock(), Madv::WillNeed)?;
        return Ok((bo, vaddr));
    };
    // SAFETY: NULL or alive, by the caller's promise.
    let vm = unsafe { AnyVm::managed(vm) }?;
    *iova = pin::pin(&bo, vm, managed::Window::ANY)?;
    let mapped = vmap::get(&bo.lock(), Madv::WillNeed);
    let vaddr = mapped.inspect_err(|_| pin::unpin(&bo, vm))?;
    Ok((bo, vaddr))
}
