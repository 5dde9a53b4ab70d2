// SPDX-License-Identifier: GPL-2.0-only

//! The entries of a `struct list_head`, one after the other.

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

use crate::bindings;

/// The entries of a list, as what they are in.
///
/// # Invariants
///
/// `head` is an initialised list, all of whose entries are at byte `offset` of a `T`; `next` is one
/// of them, or `head`. It stays so for `'l`.
pub(crate) struct Entries<'l, T> {
    head: *mut bindings::list_head,
    next: *mut bindings::list_head,
    offset: usize,
    _list: PhantomData<&'l T>,
}

impl<T> Entries<'_, T> {
    /// All entries of the list at `head`.
    ///
    /// # Safety
    ///
    /// The list is initialised, and its entries are at byte `offset` of a `T`. As long as this is
    /// used nobody changes it, but for taking off what this has returned.
    #[inline]
    pub(crate) unsafe fn of(head: *mut bindings::list_head, offset: usize) -> Self {
        // SAFETY: An initialised list, by the caller's promise.
        let first = unsafe { (*head).next };
        // SAFETY: The caller's promise.
        unsafe { Self::from(head, first, offset) }
    }

    /// As [`Self::of`], from the entry `first` on.
    ///
    /// # Safety
    ///
    /// As there; and `first` is an entry of the list, or `head`.
    #[inline]
    pub(crate) unsafe fn from(
        head: *mut bindings::list_head,
        first: *mut bindings::list_head,
        offset: usize,
    ) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            head,
            next: first,
            offset,
            _list: PhantomData,
        }
    }
}

impl<T> Iterator for Entries<'_, T> {
    type Item = NonNull<T>;

    #[inline]
    fn next(&mut self) -> Option<NonNull<T>> {
        if self.next == self.head {
            return None;
        }
        let entry = self.next;
        // SAFETY: On the list, by the type invariant.
        self.next = unsafe { (*entry).next };
        NonNull::new(entry.wrapping_byte_sub(self.offset).cast())
    }
}
