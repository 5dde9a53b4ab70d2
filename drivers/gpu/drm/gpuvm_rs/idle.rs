// SPDX-License-Identifier: GPL-2.0-only

//! What is to be done once something is idle, without a thread that waits for it: a fence may take
//! for ever.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/idle.rs")]
//! ```

use kernel::{
    new_work,
    prelude::*,
    sync::aref::ARef,
    types::{
        ForeignOwnable,
        Opaque, //
    },
    workqueue::{
        impl_has_work,
        Queue,
        Work,
        WorkItem, //
    },
};

use super::{
    container_of,
    fence::Fence, //
};
use crate::bindings;

/// What is to be done.
pub trait WhenIdle: Send + Sized + 'static {
    /// One of the fences that it waits for, and which isn't signalled, if there is any.
    fn busy(&self) -> Option<ARef<Fence>>;

    /// Does it, on the queue. The fences were signalled a moment ago; if it has others by now,
    /// returns itself to wait for them.
    fn run(self) -> Option<Self>;

    /// Where it is done. The queue lives for as long as anything waits.
    fn queue() -> &'static Queue;
}

/// Waits for one of the fences, in the fence's list of callbacks or in the queue.
#[pin_data]
struct Waiter<T: WhenIdle> {
    #[pin]
    callback: Opaque<bindings::dma_fence_cb>,
    #[pin]
    work: Work<Waiter<T>>,
    /// The fence with the callback.
    fence: Option<ARef<Fence>>,
    /// There until it is done.
    then: Option<T>,
}

// SAFETY: Owned by one thread, list or queue at a time; the callback's links are the fence's.
unsafe impl<T: WhenIdle> Send for Waiter<T> {}

impl_has_work! {
    impl{T: WhenIdle} HasWork<Waiter<T>> for Waiter<T> { self.work }
}

impl<T: WhenIdle> WorkItem for Waiter<T> {
    type Pointer = Pin<KBox<Self>>;

    fn run(mut this: Self::Pointer) {
        loop {
            // SAFETY: Nothing pinned is moved.
            let waiter = unsafe { this.as_mut().get_unchecked_mut() };
            waiter.fence = None;
            let Some(then) = waiter.then.take() else {
                return;
            };
            let Some(fence) = then.busy() else {
                waiter.then = then.run();
                continue;
            };
            waiter.then = Some(then);
            waiter.fence = Some(fence.clone());
            match Self::wait_for(this, &fence) {
                Ok(()) => return,
                Err(back) => this = back,
            }
        }
    }
}

impl<T: WhenIdle> Waiter<T> {
    /// Leaves `this` to the fence; gives it back if that is signalled.
    fn wait_for(this: Pin<KBox<Self>>, fence: &Fence) -> Result<(), Pin<KBox<Self>>> {
        let raw: *mut Self = this.into_foreign().cast();
        // SAFETY: From a box.
        let callback = Opaque::cast_into(unsafe { &raw const (*raw).callback });
        // SAFETY: The fence is borrowed. The callback is in no list, and stays where it is until
        // `signaled()` takes the box back.
        let ret = unsafe {
            bindings::dma_fence_add_callback(fence.as_raw(), callback, Some(Self::signaled))
        };
        if ret != 0 {
            // SAFETY: The box given away above, which the fence hasn't taken.
            return Err(unsafe { Pin::<KBox<Self>>::from_foreign(raw.cast()) });
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Called by the fence, once, and not any more once it was called.
    unsafe extern "C" fn signaled(
        _fence: *mut bindings::dma_fence,
        callback: *mut bindings::dma_fence_cb,
    ) {
        let this = container_of!(callback, Self, callback);
        // SAFETY: The box that `wait_for()` gave away. A fence calls back once.
        let this = unsafe { Pin::<KBox<Self>>::from_foreign(this.cast()) };
        T::queue().enqueue(this);
    }
}

/// Has `then` run on its queue when there is nothing left that it waits for.
///
/// # Errors
///
/// `ENOMEM`; `then` was dropped.
pub fn when_idle<T: WhenIdle>(then: T) -> Result {
    let waiter = KBox::pin_init(
        pin_init!(Waiter {
            callback: Opaque::zeroed(),
            work <- new_work!("gpuvm_rs::idle"),
            fence: None,
            then: Some(then),
        }),
        GFP_KERNEL,
    )?;
    T::queue().enqueue(waiter);
    Ok(())
}
