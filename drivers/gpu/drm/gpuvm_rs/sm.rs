// SPDX-License-Identifier: GPL-2.0-only

//! The split and merge steps of a map or unmap request.
//!
//! `drm_gpuvm` says what has to happen to the tree, one step at a time; the driver's [`Steps`] do
//! it through a [`Transaction`](super::txn::Transaction). A step token borrows the VMA that it is
//! about, and can only be completed by passing it to the transaction.

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use kernel::prelude::*;

use super::{
    from_result,
    gem::GemObject,
    va::GpuVa,
    vm::{
        Driver,
        VaRange, //
    },
};
use crate::bindings;

/// Does the steps of one request.
///
/// An error stops the request; the steps before it stay done until the transaction is dropped.
pub trait Steps<T: Driver> {
    /// Map something at a range that is free by now.
    fn map(&mut self, op: OpMap<'_>) -> Result;

    /// Unmap a whole VMA, or keep it, see [`OpUnmap::keep`].
    fn unmap(&mut self, op: OpUnmap<'_, T>) -> Result;

    /// Replace a VMA by what is left of it.
    fn remap(&mut self, op: OpRemap<'_, T>) -> Result;
}

/// A mapping to be made. Also what is left of a VMA on one side of a hole.
pub struct OpMap<'op> {
    raw: &'op bindings::drm_gpuva_op_map,
}

impl OpMap<'_> {
    /// Where; `None` if C code passed an empty or wrapping range.
    pub fn range(&self) -> Result<VaRange> {
        VaRange::new(self.raw.va.addr, self.raw.va.range).ok_or(EINVAL)
    }

    /// What; `None` for a NULL mapping.
    pub fn obj(&self) -> Option<&GemObject> {
        // SAFETY: The request (or the VMA that is split) holds a reference to the object.
        (!self.raw.gem.obj.is_null()).then(|| unsafe { GemObject::from_raw(self.raw.gem.obj) })
    }

    /// From which byte of it.
    pub fn offset(&self) -> u64 {
        self.raw.gem.offset
    }
}

/// A VMA to be unmapped.
pub struct OpUnmap<'op, T: Driver> {
    va: NonNull<bindings::drm_gpuva>,
    keep: bool,
    _op: PhantomData<&'op mut T>,
}

impl<T: Driver> OpUnmap<'_, T> {
    /// The VMA.
    pub fn va(&self) -> &GpuVa<T> {
        // SAFETY: In the tree until the token is passed to the transaction.
        unsafe { GpuVa::from_raw(self.va.as_ptr()) }
    }

    /// Whether the VMA maps the same bytes of the same object as the new mapping will, so that its
    /// page table entries could stay.
    pub fn keep(&self) -> bool {
        self.keep
    }

    /// Ends the token; the VMA is in the tree.
    pub(super) fn into_raw(self) -> NonNull<bindings::drm_gpuva> {
        self.va
    }
}

/// A VMA to be replaced by what is left of it before and after a hole.
pub struct OpRemap<'op, T: Driver> {
    unmap: OpUnmap<'op, T>,
    prev: Option<OpMap<'op>>,
    next: Option<OpMap<'op>>,
}

impl<'op, T: Driver> OpRemap<'op, T> {
    /// The VMA that is replaced.
    pub fn va(&self) -> &GpuVa<T> {
        self.unmap.va()
    }

    /// The hole: what is left to unmap.
    ///
    /// # Errors
    ///
    /// `EINVAL` if C code asked for an empty hole.
    pub fn hole(&self) -> Result<VaRange> {
        let whole = self.va().range();
        let start = match &self.prev {
            Some(prev) => prev.range()?.end(),
            None => whole.addr(),
        };
        let end = match &self.next {
            Some(next) => next.range()?.addr(),
            None => whole.end(),
        };
        VaRange::new(start, end.checked_sub(start).ok_or(EINVAL)?).ok_or(EINVAL)
    }

    /// Ends the token: the VMA to remove, and what is left of it.
    pub(super) fn into_parts(self) -> (OpUnmap<'op, T>, [Option<OpMap<'op>>; 2]) {
        (self.unmap, [self.prev, self.next])
    }
}

/// Runs a step and turns its result into a C return code.
///
/// # Safety
///
/// `arg` points at the `&mut dyn Steps<T>` of `VmLocked::sm_map()` or `sm_unmap()`.
unsafe fn step<T: Driver>(
    arg: *mut core::ffi::c_void,
    f: impl FnOnce(&mut dyn Steps<T>) -> Result,
) -> core::ffi::c_int {
    // SAFETY: The caller's promise; `drm_gpuvm` calls one step at a time.
    let steps = unsafe { &mut *arg.cast::<&mut dyn Steps<T>>() };
    from_result(f(*steps))
}

/// # Safety
///
/// `op.va` is in the tree of a locked VM of driver `T`.
unsafe fn op_unmap<'op, T: Driver>(op: &bindings::drm_gpuva_op_unmap) -> OpUnmap<'op, T> {
    OpUnmap {
        // SAFETY: In a tree, hence not NULL.
        va: unsafe { NonNull::new_unchecked(op.va) },
        keep: op.keep,
        _op: PhantomData,
    }
}

/// Callback for `drm_gpuvm_ops::sm_step_map`.
///
/// # Safety
///
/// Called by `drm_gpuvm` for `VmLocked::sm_map()` or `sm_unmap()`.
pub(super) unsafe extern "C" fn step_map<T: Driver>(
    op: *mut bindings::drm_gpuva_op,
    arg: *mut core::ffi::c_void,
) -> core::ffi::c_int {
    // SAFETY: `drm_gpuvm` passes an op that is alive for the call.
    let op = unsafe { &(*op).__bindgen_anon_1 };
    // SAFETY: Of the callback's kind.
    let raw = unsafe { &op.map };
    // SAFETY: `drm_gpuvm` passes our `priv`.
    unsafe { step::<T>(arg, |s| s.map(OpMap { raw })) }
}

/// Callback for `drm_gpuvm_ops::sm_step_unmap`.
///
/// # Safety
///
/// Called by `drm_gpuvm` for `VmLocked::sm_map()` or `sm_unmap()`.
pub(super) unsafe extern "C" fn step_unmap<T: Driver>(
    op: *mut bindings::drm_gpuva_op,
    arg: *mut core::ffi::c_void,
) -> core::ffi::c_int {
    // SAFETY: `drm_gpuvm` passes an op that is alive for the call.
    let op = unsafe { &(*op).__bindgen_anon_1 };
    // SAFETY: Of the callback's kind.
    let raw = unsafe { &op.unmap };
    // SAFETY: `drm_gpuvm` unmaps what is in the tree.
    let unmap = unsafe { op_unmap(raw) };
    // SAFETY: `drm_gpuvm` passes our `priv`.
    unsafe { step::<T>(arg, |s| s.unmap(unmap)) }
}

/// Callback for `drm_gpuvm_ops::sm_step_remap`.
///
/// # Safety
///
/// Called by `drm_gpuvm` for `VmLocked::sm_map()` or `sm_unmap()`.
pub(super) unsafe extern "C" fn step_remap<T: Driver>(
    op: *mut bindings::drm_gpuva_op,
    arg: *mut core::ffi::c_void,
) -> core::ffi::c_int {
    // SAFETY: `drm_gpuvm` passes an op that is alive for the call.
    let op = unsafe { &(*op).__bindgen_anon_1 };
    // SAFETY: Of the callback's kind.
    let raw = unsafe { &op.remap };
    // SAFETY: A part of it, as are the others, if they aren't NULL.
    let unmap = unsafe { &*raw.unmap };
    // SAFETY: As above.
    let side = |side: *mut bindings::drm_gpuva_op_map| unsafe { side.as_ref() };
    let op = OpRemap {
        // SAFETY: `drm_gpuvm` replaces what is in the tree.
        unmap: unsafe { op_unmap(unmap) },
        prev: side(raw.prev).map(|raw| OpMap { raw }),
        next: side(raw.next).map(|raw| OpMap { raw }),
    };
    // SAFETY: `drm_gpuvm` passes our `priv`.
    unsafe { step::<T>(arg, |s| s.remap(op)) }
}
