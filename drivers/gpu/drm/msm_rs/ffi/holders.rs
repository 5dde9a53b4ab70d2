// SPDX-License-Identifier: GPL-2.0-only

//! The contexts that have handles of a BO. In VMs that the kernel manages, its VMAs belong to them:
//! see [`crate::mapping::managed`].

use core::ptr::NonNull;

use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex,
    warn_on, //
};

use super::bindings;
use crate::gpuvm_rs::{
    small_vec::SmallVec,
    vm::{
        Driver,
        GpuVm, //
    },
};

/// A context and how many handles it has.
///
/// # Invariants
///
/// `handles` isn't 0, so that the context is alive: its file closes its handles first.
struct Holder {
    ctx: NonNull<bindings::msm_context>,
    handles: u32,
}

// SAFETY: A context isn't bound to a thread.
unsafe impl Send for Holder {}

/// The contexts that have handles of a BO. Most BOs have one.
///
/// The lock is taken with VM and BO locked, and alone. Reclaim never takes it.
#[pin_data]
pub(crate) struct Holders {
    #[pin]
    list: Mutex<SmallVec<Holder, 1>>,
}

impl Holders {
    /// Of a new BO.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            list <- new_mutex!(SmallVec::new(), "msm_rs::holders"),
        })
    }

    /// `ctx` gets a handle.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `ctx` is alive until [`Self::remove`] was called for it.
    pub(crate) unsafe fn add(&self, ctx: NonNull<bindings::msm_context>) -> Result {
        let mut list = self.list.lock();
        if let Some(holder) = list.iter_mut().find(|holder| holder.ctx == ctx) {
            holder.handles += 1;
            return Ok(());
        }
        // INVARIANT: One.
        list.push(Holder { ctx, handles: 1 }, GFP_KERNEL)
    }

    /// `ctx` gives a handle up.
    pub(crate) fn remove(&self, ctx: NonNull<bindings::msm_context>) {
        let mut list = self.list.lock();
        let Some(at) = list.iter().position(|holder| holder.ctx == ctx) else {
            warn_on!(true);
            return;
        };
        list[at].handles -= 1;
        if list[at].handles == 0 {
            let last = list.len() - 1;
            list.swap(at, last);
            list.pop();
        }
    }

    /// Whether a context whose VM is `vm` has a handle.
    pub(super) fn any_in<T: Driver>(&self, vm: &GpuVm<T>) -> bool {
        let its = |holder: &Holder| {
            // SAFETY: Alive by the type invariant.
            let place = unsafe { &raw const (*holder.ctx.as_ptr()).vm };
            // SAFETY: As above. The context may be getting its VM at this moment: then it doesn't
            // know it yet.
            let vm_of = unsafe { place.read_volatile() };
            vm_of == vm.as_raw()
        };
        self.list.lock().iter().any(its)
    }
}
