// SPDX-License-Identifier: GPL-2.0-only

//! Files of debugfs that list BOs.

use kernel::{
    fmt,
    prelude::*,
    str::CStr, //
};

use super::{
    bindings,
    bo::BoLocked, //
};

/// A file that is being read.
pub(crate) struct Seq(*mut bindings::seq_file);

/// How many BOs of each kind there are, and their bytes. C's `struct msm_gem_stats`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) all: Sum,
    pub(crate) active: Sum,
    pub(crate) resident: Sum,
    pub(crate) purgeable: Sum,
    pub(crate) purged: Sum,
}

/// A number of BOs, and their bytes.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Sum {
    count: core::ffi::c_uint,
    bytes: usize,
}

const _: () = {
    use core::mem::offset_of;

    assert!(size_of::<Stats>() == size_of::<bindings::msm_gem_stats>());
    assert!(offset_of!(Stats, purged) == offset_of!(bindings::msm_gem_stats, purged));
};

impl Sum {
    /// One more BO, of `bytes`.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes as usize;
    }

    /// How many.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Seq {
    /// # Safety
    ///
    /// `file` is being read for as long as the result is used.
    pub(crate) unsafe fn from_raw(file: *mut bindings::seq_file) -> Self {
        Self(file)
    }

    /// Prints.
    pub(crate) fn print(&self, args: fmt::Arguments<'_>) {
        // SAFETY: The file is being read, by the promise made to `from_raw()`. `%pA` takes a
        // pointer to `fmt::Arguments`, alive for the call.
        unsafe { bindings::msm_rs_seq_print(self.0, (&raw const args).cast()) };
    }

    /// Prints a BO's line.
    pub(crate) fn bo(&self, bo: &BoLocked<'_>, active: bool, madv: &CStr) {
        // SAFETY: The file is being read, by the promise made to `from_raw()`; the BO is borrowed.
        unsafe {
            bindings::msm_rs_seq_bo(self.0, bo.gem().as_raw(), active, madv.as_char_ptr());
        }
    }

    /// Prints the VMAs of a BO.
    pub(crate) fn vmas(&self, bo: &BoLocked<'_>) {
        bo.obj().for_each_va(|va| {
            // SAFETY: The file is being read, by the promise made to `from_raw()`; the VMA is alive
            // for the call, and with it its VM.
            unsafe { bindings::msm_rs_seq_va(self.0, va.as_ptr()) };
        });
    }

    /// Prints the fences of a BO.
    pub(crate) fn fences(&self, bo: &BoLocked<'_>) {
        // SAFETY: `bo` borrows the BO, which is alive.
        let resv = unsafe { (*bo.gem().as_raw()).resv };
        // SAFETY: The file is being read, by the promise made to `from_raw()`; the BO is locked.
        unsafe { bindings::dma_resv_describe(resv, self.0) };
    }
}
