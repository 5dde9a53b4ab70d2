// SPDX-License-Identifier: GPL-2.0-only

//! What is to be done once something is idle, without a thread that waits for it: a fence may take
//! for ever.

use kernel::{
    new_work,
    prelude::*,
    sync::aref::ARef,
    types::Opaque,
    workqueue::{
        impl_has_work,
        Queue,
        Work,
        WorkItem, //
    },
};

use super::fence::Fence;
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
        // SAFETY: It isn't moved until it is pinned again. The callback is in no list.
        unsafe {
            let raw = KBox::into_raw(Pin::into_inner_unchecked(this));
            let callback = Opaque::cast_into(&raw const (*raw).callback);
            match bindings::dma_fence_add_callback(fence.as_raw(), callback, Some(Self::signaled)) {
                0 => Ok(()),
                _ => Err(Pin::new_unchecked(KBox::from_raw(raw))),
            }
        }
    }

    /// # Safety
    ///
    /// Called by the fence, once, and not any more once it was called.
    unsafe extern "C" fn signaled(
        _fence: *mut bindings::dma_fence,
        callback: *mut bindings::dma_fence_cb,
    ) {
        // SAFETY: From the box that `wait_for()` gave away.
        let this = unsafe {
            let callback: *mut Opaque<bindings::dma_fence_cb> = callback.cast();
            Pin::new_unchecked(KBox::from_raw(kernel::container_of!(
                callback, Self, callback
            )))
        };
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
