// SPDX-License-Identifier: GPL-2.0-only

//! In- and out-fences of an ioctl: sync file descriptors and syncobjs.

use core::ptr::NonNull;

use kernel::{
    fs::file::FileDescriptorReservation,
    prelude::*,
    sync::aref::ARef, //
};

use super::bindings;
use crate::gpuvm_rs::fence::Fence;

/// The fence behind a sync file descriptor.
///
/// # Errors
///
/// `EINVAL` if `fd` isn't one.
pub(super) fn fence_from_fd(fd: i32) -> Result<ARef<Fence>> {
    // SAFETY: Any number may be passed.
    let fence = unsafe { bindings::sync_file_get_fence(fd) };
    // SAFETY: The call returns a reference or NULL.
    unsafe { Fence::from_owned(fence) }.ok_or(EINVAL)
}

/// A sync file for a fence that doesn't exist yet, with the descriptor that it will get.
///
/// Everything that can fail is done when it is made. Dropping it gives both back.
pub(super) struct OutFence {
    file: NonNull<bindings::sync_file>,
    fd: FileDescriptorReservation,
}

impl OutFence {
    /// Reserves a descriptor and makes the file.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        let fd =
            FileDescriptorReservation::get_unused_fd_flags(kernel::fs::file::flags::O_CLOEXEC)?;
        // SAFETY: The call returns a file that is ours, or NULL.
        let file = unsafe { bindings::msm_rs_sync_file_new() };
        Ok(Self {
            file: NonNull::new(file).ok_or(ENOMEM)?,
            fd,
        })
    }

    /// Gives the file its fence and the descriptor its file. Returns the descriptor.
    pub(super) fn install(self, fence: ARef<Fence>) -> i32 {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is never dropped, so that the reservation is moved out once.
        let fd = unsafe { core::ptr::read(&this.fd) };
        let number = fd.reserved_fd() as i32;
        let fence = ARef::into_raw(fence).as_ptr().cast();
        // SAFETY: The sync file is ours and nobody has seen it; it gets our reference to the fence.
        unsafe { bindings::msm_rs_sync_file_set(this.file.as_ptr(), fence) };
        // SAFETY: A sync file has its file as long as it lives.
        let file = unsafe { NonNull::new_unchecked(this.file()) };
        // SAFETY: We own a reference to it, which installing gives away.
        fd.fd_install(unsafe { ARef::from_raw(file.cast::<kernel::fs::File>()) });
        number
    }

    fn file(&self) -> *mut bindings::file {
        // SAFETY: Ours until it is installed, and used no more after that.
        unsafe { (*self.file.as_ptr()).file }
    }
}

impl Drop for OutFence {
    fn drop(&mut self) {
        // SAFETY: We own the only reference to it.
        unsafe { bindings::fput(self.file()) };
    }
}

/// An array of `struct drm_msm_syncobj` in userspace; by default an empty one.
#[derive(Clone, Copy, Default)]
pub(super) struct SyncobjArray {
    /// Address.
    pub(super) addr: u64,
    /// How many.
    pub(super) nr: u32,
    /// Bytes from one to the next.
    pub(super) stride: u32,
}

/// What C keeps of each syncobj that it has parsed.
pub(super) trait Parsed: Sized {
    /// Frees an array of them.
    ///
    /// # Safety
    ///
    /// C made it, of `nr` entries, and it isn't used any more.
    unsafe fn free(array: *mut Self, nr: u32);
}

/// Syncobjs that a request names.
///
/// # Invariants
///
/// C made the array, of `nr` entries, and it is ours to free.
pub(super) struct Syncobjs<T: Parsed> {
    array: NonNull<T>,
    nr: u32,
}

/// The syncobjs that a job waits for and that are to be reset once it is pushed.
pub(super) type InSyncobjs = Syncobjs<*mut bindings::drm_syncobj>;

/// The syncobjs that get the job's fence.
pub(super) type OutSyncobjs = Syncobjs<bindings::msm_syncobj_post_dep>;

impl<T: Parsed> Syncobjs<T> {
    /// Those of `from`, of which `parse` makes an array. `None` if there are none.
    ///
    /// # Errors
    ///
    /// That of `parse`.
    ///
    /// # Safety
    ///
    /// `parse` is a function of C's that returns an array of as many entries, NULL, or an errno.
    unsafe fn new(from: SyncobjArray, parse: impl FnOnce() -> *mut T) -> Result<Option<Self>> {
        if from.nr == 0 {
            return Ok(None);
        }
        let array = kernel::error::from_err_ptr(parse())?;
        // INVARIANT: The caller's promise.
        Ok(NonNull::new(array).map(|array| Self { array, nr: from.nr }))
    }
}

impl<T: Parsed> Drop for Syncobjs<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it isn't used any more.
        unsafe { T::free(self.array.as_ptr(), self.nr) };
    }
}

impl Parsed for *mut bindings::drm_syncobj {
    unsafe fn free(array: *mut Self, nr: u32) {
        // SAFETY: References or NULLs, by the caller's promise.
        unsafe { bindings::msm_rs_syncobjs_free(array, nr) };
    }
}

impl Parsed for bindings::msm_syncobj_post_dep {
    unsafe fn free(array: *mut Self, nr: u32) {
        // SAFETY: The caller's promise.
        unsafe { bindings::msm_rs_post_deps_free(array, nr) };
    }
}

impl InSyncobjs {
    /// Lets `job` wait for the syncobjs of `from`. `None` if there are none.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `ENOENT`, `EFAULT`, `EOPNOTSUPP`, `ENOMEM`, as `msm_syncobj_parse_deps()`.
    ///
    /// # Safety
    ///
    /// `dev` and `file` are the device and the open file of the ioctl; `job` isn't armed.
    pub(super) unsafe fn parse(
        dev: *mut bindings::drm_device,
        file: *mut bindings::drm_file,
        job: *mut bindings::drm_sched_job,
        from: SyncobjArray,
    ) -> Result<Option<Self>> {
        let (addr, nr, stride) = (from.addr, from.nr, from.stride as usize);
        let parse = || {
            // SAFETY: The caller's promise: device and file are the ioctl's, the job isn't armed.
            unsafe { bindings::msm_syncobj_parse_deps(dev, job, file, addr, nr, stride) }
        };
        // SAFETY: That is such a function.
        unsafe { Self::new(from, parse) }
    }

    /// Takes the fences out of those syncobjs that asked for it.
    pub(super) fn reset(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::msm_syncobj_reset(self.array.as_ptr(), self.nr) };
    }
}

impl OutSyncobjs {
    /// Looks up the syncobjs of `from` and allocates what signalling them takes. `None` if there
    /// are none.
    ///
    /// # Errors
    ///
    /// As `msm_syncobj_parse_post_deps()`.
    ///
    /// # Safety
    ///
    /// `dev` and `file` are the device and the open file of the ioctl.
    pub(super) unsafe fn parse(
        dev: *mut bindings::drm_device,
        file: *mut bindings::drm_file,
        from: SyncobjArray,
    ) -> Result<Option<Self>> {
        let (addr, nr, stride) = (from.addr, from.nr, from.stride as usize);
        let parse = || {
            // SAFETY: The caller's promise: device and file are the ioctl's.
            unsafe { bindings::msm_syncobj_parse_post_deps(dev, file, addr, nr, stride) }
        };
        // SAFETY: That is such a function.
        unsafe { Self::new(from, parse) }
    }

    /// Gives them `fence`.
    pub(super) fn attach(&self, fence: &Fence) {
        let array = self.array.as_ptr();
        // SAFETY: By the type invariant; the fence is borrowed.
        unsafe { bindings::msm_syncobj_process_post_deps(array, self.nr, fence.as_raw()) };
    }
}
