// SPDX-License-Identifier: GPL-2.0-only

//! Arrays in userspace that a request names.

use core::marker::PhantomData;

use kernel::{
    prelude::*,
    transmute::FromBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// What there are arrays of.
pub(crate) trait Element: Sized {
    /// As it is in userspace.
    type Raw: FromBytes;

    /// As we have it.
    fn from_raw(raw: Self::Raw) -> Self;
}

/// An array of which nothing was read yet. Whoever reads an element twice may find something else.
pub(crate) struct UserArray<T> {
    addr: u64,
    nr: u32,
    stride: u32,
    _elements: PhantomData<T>,
}

impl<T: Element> UserArray<T> {
    /// Bytes of an element.
    pub(crate) const SIZE: u32 = size_of::<T::Raw>() as u32;

    /// `nr` elements at `addr`, one behind the other.
    pub(crate) const fn new(addr: u64, nr: u32) -> Self {
        Self::with_stride(addr, nr, Self::SIZE)
    }

    /// `nr` elements at `addr`, each `stride` bytes behind the one before.
    pub(super) const fn with_stride(addr: u64, nr: u32, stride: u32) -> Self {
        Self {
            addr,
            nr,
            stride,
            _elements: PhantomData,
        }
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> u32 {
        self.nr
    }

    /// Bytes from one to the next.
    pub(crate) const fn stride(&self) -> u32 {
        self.stride
    }

    /// Reads element `i`.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn get(&self, i: u32) -> Result<T> {
        read(self.addr, i, self.stride).map(T::from_raw)
    }

    /// Calls `f` with each element, until one returns an error. Many are read at a time if they are
    /// one behind the other.
    ///
    /// # Errors
    ///
    /// `EFAULT`, and those of `f`.
    pub(super) fn for_each(&self, mut f: impl FnMut(u32, T) -> Result) -> Result {
        const CHUNK: u32 = 8;

        let mut i = 0;
        while self.stride == Self::SIZE && self.nr - i >= CHUNK {
            let chunk: [T::Raw; CHUNK as usize] = read(self.addr, i / CHUNK, CHUNK * Self::SIZE)?;
            for element in chunk {
                f(i, T::from_raw(element))?;
                i += 1;
            }
        }
        while i < self.nr {
            f(i, self.get(i)?)?;
            i += 1;
        }
        Ok(())
    }
}

/// Reads element `i` of those at `addr`.
fn read<T: FromBytes>(addr: u64, i: u32, stride: u32) -> Result<T> {
    let addr = addr
        .checked_add(u64::from(i) * u64::from(stride))
        .ok_or(EFAULT)?;
    UserSlice::new(UserPtr::from_addr(addr as usize), size_of::<T>())
        .reader()
        .read::<T>()
}
