// SPDX-License-Identifier: GPL-2.0-only

//! Safe bindings for `drm_gpuvm`, `drm_exec`, `dma_resv` and `drm_sched`, for drivers whose page
//! tables are changed by asynchronous jobs.
//!
//! One file per noun:
//!
//! - [`fence`]: `dma_fence` references.
//! - [`gem`]: GEM object references and the proof that an object's resv is locked.
//! - [`exec`]: locking many objects at once; fence slots; attaching a fence.
//! - [`pair`]: locking a VM and one object, which can't fail.
//! - [`vm`]: the GPUVM, its vm_bos, the proof that it is locked, iteration.
//! - [`range`]: ranges of iovas.
//! - [`va`]: the life of a VMA as types, `GpuVaAlloc` → in the tree → `GpuVaRemoved`.
//! - [`sm`]: the split and merge steps of a map or unmap request, as tokens that must be consumed.
//! - [`txn`]: a VMA tree change that is committed whole or undone whole.
//! - [`trylock`]: locking an object's VMs without waiting.
//! - [`lru`]: LRUs of objects; [`walk`]: walking them without their lock.
//! - [`idle`]: what is to be done once an object is idle.
//! - [`graveyard`]: where reclaim leaves objects whose last reference it drops.
//! - [`shrinker`]: giving objects' pages back when memory is short.
//! - [`small_vec`]: lists that allocate only when they are long. `list` walks those of C.
//! - [`sched`]: `PendingJob` → `ArmedJob` → pushed.
//!
//! # Locks
//!
//! A lock that is held is a value that is borrowed: [`gem::ObjLocked`] for an object's resv,
//! [`vm::VmLocked`] for the resv that a VM shares with its private objects. A function that needs a
//! lock takes the token by reference; [`lru::LruLocked`] is that of a device's LRUs. Tokens come
//! from [`exec::Locked`], [`pair::with_both`] or [`gem::ObjGuard`], or, where C code holds the
//! lock, from an `unsafe` constructor that asserts it under lockdep.
//!
//! # What this module never does
//!
//! It names no driver. What a driver adds to a VM or a VMA comes in through [`vm::Driver`].

#[cfg(CONFIG_KUNIT = "y")]
mod examples;
pub mod exec;
pub mod fence;
pub mod gem;
pub mod graveyard;
pub mod idle;
pub(crate) mod list;
pub mod lru;
pub mod pair;
pub mod range;
pub mod sched;
pub mod shrinker;
pub mod sm;
pub mod small_vec;
#[cfg(CONFIG_KUNIT = "y")]
mod test_device;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;
pub mod trylock;
pub mod txn;
pub mod va;
pub mod vm;
pub mod walk;

use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};

use kernel::prelude::*;

/// What the field at a pointer is a field of, as the kernel crate's macro of that name. What comes
/// of it is a pointer, so that nothing here is unsafe.
macro_rules! container_of {
    ($field:expr, $container:ty, $($path:tt)+) => {
        $field
            .wrapping_byte_sub(core::mem::offset_of!($container, $($path)+))
            .cast::<$container>()
    };
}
pub(crate) use container_of;

/// Memory for a box.
///
/// As `KBox::new_uninit()` with `GFP_KERNEL`, which is a `krealloc()` of nothing and costs twice as
/// much as the allocation.
///
/// # Errors
///
/// `ENOMEM`.
#[inline]
fn kmalloc<T>() -> Result<KBox<MaybeUninit<T>>> {
    const { assert!(size_of::<T>() > 0 && align_of::<T>() <= align_of::<u64>()) };
    // SAFETY: Any size may be asked for.
    let memory = unsafe { crate::bindings::gpuvm_rs_kmalloc(size_of::<T>()) };
    let memory = NonNull::new(memory.cast()).ok_or(ENOMEM)?;
    // SAFETY: Allocated as a `KBox` is, by kmalloc(), which aligns to 8 bytes at least.
    Ok(unsafe { KBox::from_raw(memory.as_ptr()) })
}

/// Turns a C return code (0 or a negative errno) into a [`Result`].
///
/// As the kernel crate's, which is a call each time.
#[inline]
pub(crate) fn to_result(err: core::ffi::c_int) -> Result {
    if err < 0 {
        return Err(Error::from_errno(err));
    }
    Ok(())
}

/// What C makes of a result: 0 or a negative errno.
pub(crate) fn from_result(result: Result) -> core::ffi::c_int {
    result.map_or_else(|e| e.to_errno(), |()| 0)
}
