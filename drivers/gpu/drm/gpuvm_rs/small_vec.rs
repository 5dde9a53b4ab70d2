// SPDX-License-Identifier: GPL-2.0-only

//! Lists that allocate only when they are long.
//!
//! Most requests have one op. Lists about it that hold a few elements in place cost no allocation.
//!
//! # Example
//!
//! ```ignore
#![doc = include_str!("examples/small_vec.rs")]
//! ```

use core::{
    mem::MaybeUninit,
    ops::{
        Deref,
        DerefMut, //
    },
};

use kernel::{
    alloc::{
        Flags,
        KVVec, //
    },
    prelude::*,
};

/// A list whose first `N` elements are held in place. The next one moves all of them into a
/// [`KVVec`].
///
/// # Invariants
///
/// While `heap` is `None` the first `len` elements of `inline` are initialised; afterwards none is,
/// and `len` is 0.
pub struct SmallVec<T, const N: usize> {
    inline: [MaybeUninit<T>; N],
    len: usize,
    heap: Option<KVVec<T>>,
}

impl<T, const N: usize> SmallVec<T, N> {
    /// An empty list.
    pub const fn new() -> Self {
        // INVARIANT: None is initialised.
        Self {
            inline: [const { MaybeUninit::uninit() }; N],
            len: 0,
            heap: None,
        }
    }

    /// An empty list with room for `nr` elements.
    ///
    /// # Errors
    ///
    /// `ENOMEM` for more than `N`.
    pub fn with_capacity(nr: usize, flags: Flags) -> Result<Self> {
        let mut this = Self::new();
        if nr > N {
            this.heap = Some(KVVec::with_capacity(nr, flags)?);
        }
        Ok(this)
    }

    /// Makes room for `nr` more elements, so that [`Self::push`] of them doesn't fail. Doubles the
    /// room if it has to grow, which keeps the cost of growing proportional to the elements.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the list is as it was.
    #[inline]
    pub fn reserve(&mut self, nr: usize, flags: Flags) -> Result {
        let room = match &self.heap {
            Some(heap) => heap.capacity() - heap.len(),
            None => N - self.len,
        };
        if nr <= room {
            return Ok(());
        }
        self.grow(nr, flags)
    }

    #[cold]
    fn grow(&mut self, nr: usize, flags: Flags) -> Result {
        if let Some(heap) = &mut self.heap {
            return Ok(heap.reserve(nr.max(heap.len()), flags)?);
        }
        let mut heap = KVVec::with_capacity((self.len + nr).max(2 * N), flags)?;
        let len = core::mem::replace(&mut self.len, 0);
        for element in self.inline.iter().take(len) {
            // SAFETY: By the type invariant; `len` is 0 now, so that nobody reads it a second time.
            heap.push_within_capacity(unsafe { element.assume_init_read() })?;
        }
        // INVARIANT: The elements were moved out.
        self.heap = Some(heap);
        Ok(())
    }

    /// Appends `element`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the list is as it was.
    #[inline]
    pub fn push(&mut self, element: T, flags: Flags) -> Result {
        self.reserve(1, flags)?;
        match &mut self.heap {
            Some(heap) => {
                let place = heap.spare_capacity_mut().first_mut().ok_or(ENOMEM)?;
                // Not `push_within_capacity()`, for which the compiler stores the elements of a
                // request byte by byte.
                place.write(element);
                // SAFETY: The place behind the last element, which was just written.
                unsafe { heap.inc_len(1) };
            }
            None => {
                let place = self.inline.get_mut(self.len).ok_or(ENOMEM)?;
                place.write(element);
                // INVARIANT: Just initialised.
                self.len += 1;
            }
        }
        Ok(())
    }

    /// Takes the last element.
    pub fn pop(&mut self) -> Option<T> {
        if let Some(heap) = &mut self.heap {
            return heap.pop();
        }
        let last = self.len.checked_sub(1)?;
        let element = self.inline.get(last)?;
        self.len = last;
        // SAFETY: It was initialised by the type invariant, and isn't counted any more.
        Some(unsafe { element.assume_init_read() })
    }

    /// Drops all elements from index `len` on.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.heap {
            Some(heap) => heap.truncate(len),
            None => {
                while self.len > len {
                    drop(self.pop());
                }
            }
        }
    }
}

impl<T, const N: usize> Default for SmallVec<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Deref for SmallVec<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.heap {
            Some(heap) => heap,
            // SAFETY: Initialised by the type invariant.
            None => unsafe { core::slice::from_raw_parts(self.inline.as_ptr().cast(), self.len) },
        }
    }
}

impl<T, const N: usize> DerefMut for SmallVec<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.heap {
            Some(heap) => heap,
            // SAFETY: Initialised by the type invariant.
            None => unsafe {
                core::slice::from_raw_parts_mut(self.inline.as_mut_ptr().cast(), self.len)
            },
        }
    }
}

/// Gives the elements of a list away, in order.
pub struct IntoIter<T, const N: usize> {
    /// What is left, the next one last.
    reversed: SmallVec<T, N>,
}

impl<T, const N: usize> IntoIterator for SmallVec<T, N> {
    type Item = T;
    type IntoIter = IntoIter<T, N>;

    fn into_iter(mut self) -> IntoIter<T, N> {
        self.reverse();
        IntoIter { reversed: self }
    }
}

impl<T, const N: usize> Iterator for IntoIter<T, N> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.reversed.pop()
    }
}

impl<T, const N: usize> Drop for SmallVec<T, N> {
    fn drop(&mut self) {
        if self.heap.is_none() {
            self.truncate(0);
        }
    }
}
