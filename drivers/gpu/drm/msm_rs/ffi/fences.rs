// SPDX-License-Identifier: GPL-2.0-only

//! In- and out-fences of an ioctl: sync file descriptors and syncobjs.

use core::ptr::NonNull;

use kernel::{
    fs::file::FileDescriptorReservation,
    prelude::*,
    sync::aref::ARef, //
};

use super::bindings;
use crate::gpuvm_rs::{
    fence::Fence,
    small_vec::SmallVec, //
};

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

/// A reference to a syncobj.
struct Syncobj(NonNull<bindings::drm_syncobj>);

impl Drop for Syncobj {
    fn drop(&mut self) {
        // SAFETY: `self` owns a reference.
        unsafe { bindings::msm_rs_syncobj_put(self.0.as_ptr()) };
    }
}

/// A request with more in-syncobjs is refused. Mesa sends a handful. Each costs a look for each job
/// of another queue that a bind comes after, with locks held.
const MAX_IN_SYNCOBJS: u32 = 1 << 12;

/// The fences that a request waits for: those that hadn't signalled when it was read. The others
/// are of no use any more.
pub(crate) struct InFences(SmallVec<ARef<Fence>, 2>);

impl InFences {
    /// None.
    pub(super) const fn new() -> Self {
        Self(SmallVec::new())
    }

    /// Adds one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(&mut self, fence: ARef<Fence>) -> Result {
        if fence.is_signaled() {
            return Ok(());
        }
        self.0.push(fence, GFP_KERNEL | __GFP_NOWARN)
    }

    /// Whether there is nothing to wait for. That stays so.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets `job` wait for them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ERESTARTSYS` if the caller was killed. It may wait for some of them then.
    ///
    /// # Safety
    ///
    /// `job` is initialised and not armed.
    pub(super) unsafe fn add_to(&self, job: *mut bindings::drm_sched_job) -> Result {
        for fence in self.0.iter() {
            // Each is compared with all that were added before.
            super::not_killed()?;
            let fence = ARef::into_raw(fence.clone()).as_ptr().cast();
            // SAFETY: Not armed, by the caller's promise. The call consumes the reference, also
            // when it fails.
            kernel::error::to_result(unsafe {
                bindings::drm_sched_job_add_dependency(job, fence)
            })?;
        }
        Ok(())
    }
}

/// The syncobjs that are to be reset once the request is served.
pub(super) struct ResetSyncobjs(SmallVec<Syncobj, 2>);

impl ResetSyncobjs {
    /// Reads the syncobjs of `from`, whose fences are added to `fences`.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `ENOENT`, `EFAULT`, `EOPNOTSUPP`, `ENOMEM`, as `msm_syncobj_parse_deps()`;
    /// `ERESTARTSYS` if the caller was killed.
    ///
    /// # Safety
    ///
    /// `dev` and `file` are the device and the open file of the ioctl.
    pub(super) unsafe fn parse(
        dev: *mut bindings::drm_device,
        file: *mut bindings::drm_file,
        from: SyncobjArray,
        fences: &mut InFences,
    ) -> Result<Self> {
        if from.nr > MAX_IN_SYNCOBJS {
            return Err(ENOMEM);
        }
        let mut reset = Self(SmallVec::new());
        for i in 0..from.nr {
            super::not_killed()?;
            let (mut fence, mut syncobj) = (core::ptr::null_mut(), core::ptr::null_mut());
            // SAFETY: The ioctl's, by the caller's promise. Any address may be read.
            kernel::error::to_result(unsafe {
                bindings::msm_rs_in_syncobj(
                    dev,
                    file,
                    from.addr,
                    i,
                    from.stride,
                    &mut fence,
                    &mut syncobj,
                )
            })?;
            // If it has succeeded, it has returned references to a fence and, perhaps, a syncobj.
            let syncobj = NonNull::new(syncobj).map(Syncobj);
            // SAFETY: As above.
            if let Some(fence) = unsafe { Fence::from_owned(fence) } {
                fences.add(fence)?;
            }
            if let Some(syncobj) = syncobj {
                reset.0.push(syncobj, GFP_KERNEL | __GFP_NOWARN)?;
            }
        }
        Ok(reset)
    }

    /// Takes the fences out of them.
    pub(super) fn reset(&self) {
        for syncobj in self.0.iter() {
            // SAFETY: We own a reference.
            unsafe { bindings::msm_rs_syncobj_reset(syncobj.0.as_ptr()) };
        }
    }
}

/// The syncobjs that get the request's fence.
///
/// # Invariants
///
/// C made the array, of `nr` entries, and it is ours to free.
pub(super) struct OutSyncobjs {
    array: NonNull<bindings::msm_syncobj_post_dep>,
    nr: u32,
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
        let SyncobjArray { addr, nr, stride } = from;
        if nr == 0 {
            return Ok(None);
        }
        // SAFETY: The caller's promise: device and file are the ioctl's.
        let array =
            unsafe { bindings::msm_syncobj_parse_post_deps(dev, file, addr, nr, stride as usize) };
        let array = kernel::error::from_err_ptr(array)?;
        // INVARIANT: C made it.
        Ok(NonNull::new(array).map(|array| Self { array, nr }))
    }

    /// Gives them `fence`.
    pub(super) fn attach(&self, fence: &Fence) {
        let array = self.array.as_ptr();
        // SAFETY: By the type invariant; the fence is borrowed.
        unsafe { bindings::msm_syncobj_process_post_deps(array, self.nr, fence.as_raw()) };
    }
}

impl Drop for OutSyncobjs {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it isn't used any more.
        unsafe { bindings::msm_rs_post_deps_free(self.array.as_ptr(), self.nr) };
    }
}
