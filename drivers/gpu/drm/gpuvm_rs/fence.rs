// SPDX-License-Identifier: GPL-2.0-only

//! References to `dma_fence`.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/fence.rs")]
//! ```

use core::ptr::NonNull;

use kernel::{
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque,
};

use crate::bindings;

/// A `struct dma_fence`.
///
/// # Invariants
///
/// The fence was initialised with `dma_fence_init()`, so that its reference count is valid.
#[repr(transparent)]
pub struct Fence(Opaque<bindings::dma_fence>);

// SAFETY: A dma_fence is shared between threads by design; all of its state is locked or atomic.
unsafe impl Send for Fence {}
// SAFETY: As above.
unsafe impl Sync for Fence {}

// SAFETY: `dma_fence_get()` and `dma_fence_put()` keep the fence alive between them.
unsafe impl AlwaysRefCounted for Fence {
    fn inc_ref(&self) {
        // SAFETY: By the type invariant the fence is initialised.
        unsafe { bindings::dma_fence_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up one reference.
        unsafe { bindings::dma_fence_put(obj.as_ptr().cast()) };
    }
}

impl Fence {
    /// Borrows a fence that C code owns.
    ///
    /// # Safety
    ///
    /// `ptr` is an initialised fence that stays referenced for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::dma_fence) -> &'a Self {
        // SAFETY: `Self` is transparent over `dma_fence`; the rest is the caller's promise.
        unsafe { &*ptr.cast() }
    }

    /// Takes over a reference that C code returned; `None` for NULL.
    ///
    /// # Safety
    ///
    /// `ptr` is NULL or an initialised fence of which the caller owns one reference.
    pub unsafe fn from_owned(ptr: *mut bindings::dma_fence) -> Option<ARef<Self>> {
        // SAFETY: The caller gives its reference to the `ARef`.
        NonNull::new(ptr.cast()).map(|p| unsafe { ARef::from_raw(p) })
    }

    /// One that is signalled, and has been since the kernel started.
    pub fn signaled() -> ARef<Self> {
        // SAFETY: Has no preconditions.
        let fence = unsafe { bindings::dma_fence_get_stub() };
        // SAFETY: The call never returns NULL.
        let fence = unsafe { NonNull::new_unchecked(fence.cast()) };
        // SAFETY: It returns a reference.
        unsafe { ARef::from_raw(fence) }
    }

    /// The C object.
    pub fn as_raw(&self) -> *mut bindings::dma_fence {
        self.0.get()
    }

    /// Whether the fence is signalled (with or without an error).
    pub fn is_signaled(&self) -> bool {
        // SAFETY: By the type invariant the fence is initialised.
        unsafe { bindings::dma_fence_is_signaled(self.as_raw()) }
    }

    /// The timeline that it is on: of two fences of one timeline the later one signals last.
    pub fn timeline(&self) -> u64 {
        // SAFETY: By the type invariant the fence is initialised; its context never changes.
        unsafe { (*self.as_raw()).context }
    }

    /// Waits, not interruptibly, until the fence is signalled.
    pub fn wait(&self) {
        // SAFETY: By the type invariant the fence is initialised.
        // An uninterruptible wait without a timeout can't fail.
        unsafe { bindings::dma_fence_wait(self.as_raw(), false) };
    }

    /// As [`Self::wait`], for `jiffies` at most. Returns how many are left; 0 if the fence isn't
    /// signalled.
    pub fn wait_timeout(&self, jiffies: usize) -> usize {
        let (fence, jiffies) = (self.as_raw(), jiffies as isize);
        // SAFETY: By the type invariant the fence is initialised.
        let left = unsafe { bindings::dma_fence_wait_timeout(fence, false, jiffies) };
        usize::try_from(left).unwrap_or(0)
    }
}
