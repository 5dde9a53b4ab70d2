// SPDX-License-Identifier: GPL-2.0-only

//! Who calls an ioctl, and what all requests may name: queues, BOs, fences, syncobjs.

use core::marker::PhantomData;

use kernel::{
    fmt,
    prelude::*,
    sync::aref::ARef, //
};

use super::{
    bindings,
    bo::Bo,
    debug,
    fences::{
        self,
        InFences,
        OutFence,
        OutSyncobjs,
        ResetSyncobjs,
        SyncobjArray, //
    },
    queue::{
        Queue, //
        QueueKind,
    },
    vm::AnyVm, //
};
use crate::gpuvm_rs::{
    fence::Fence,
    lru::LruGuard, //
};

/// An open file whose ioctl is in progress.
///
/// # Invariants
///
/// Device, file, context and GPU are alive for `'a`.
pub(crate) struct Caller<'a> {
    dev: *mut bindings::drm_device,
    file: *mut bindings::drm_file,
    ctx: *mut bindings::msm_context,
    gpu: *mut bindings::msm_gpu,
    vm: AnyVm<'a>,
}

impl<'a> Caller<'a> {
    /// The caller, and the ioctl's argument.
    ///
    /// # Errors
    ///
    /// `ENXIO` without a GPU, `ENOMEM` without a VM, `EPIPE` if the VM is unusable.
    ///
    /// # Safety
    ///
    /// The arguments are those of an ioctl that is in progress for `'a`, whose argument is a `T`.
    pub(crate) unsafe fn enter<T>(
        dev: *mut bindings::drm_device,
        data: *mut core::ffi::c_void,
        file: *mut bindings::drm_file,
    ) -> Result<(Self, &'a mut T)> {
        // SAFETY: The driver's device, by the caller's promise.
        let private = unsafe { super::private(dev) };
        // SAFETY: The device has it as long as it lives.
        let gpu = unsafe { (*private).gpu };
        if gpu.is_null() {
            return Err(ENXIO);
        }
        // SAFETY: An open file, by the caller's promise.
        let ctx: *mut bindings::msm_context = unsafe { (*file).driver_priv }.cast();
        // SAFETY: A file has its context as long as it is open.
        let vm = unsafe { bindings::msm_context_vm(dev, ctx) };
        // SAFETY: The device is alive, by the caller's promise.
        let note = |why| unsafe { debug::line(dev, why) };
        if vm.is_null() {
            note(fmt!("no VM"));
            return Err(ENOMEM);
        }
        // SAFETY: A context's VM lives as long as the context, once it is made; its kind is decided
        // by then.
        let vm = unsafe { AnyVm::from_raw(vm) };
        if vm.is_unusable() {
            note(fmt!("context is unusable"));
            return Err(EPIPE);
        }
        // INVARIANT: The caller's promise.
        let this = Self {
            dev,
            file,
            ctx,
            gpu,
            vm,
        };
        // SAFETY: The ioctl's argument, which is nobody else's, by the caller's promise.
        Ok((this, unsafe { &mut *data.cast() }))
    }

    /// The context's VM.
    pub(crate) fn any_vm(&self) -> AnyVm<'a> {
        self.vm
    }

    /// The device.
    pub(super) fn dev(&self) -> *mut bindings::drm_device {
        self.dev
    }

    /// The GPU.
    pub(super) fn gpu(&self) -> *mut bindings::msm_gpu {
        self.gpu
    }

    /// Whether the SMMU can map to nothing.
    pub(crate) fn has_prr(&self) -> bool {
        // SAFETY: The GPU is alive, by the type invariant.
        unsafe { bindings::adreno_smmu_has_prr(self.gpu) }
    }

    /// Whether this GPU's userspace may ask for relocations.
    pub(crate) fn allows_relocs(&self) -> bool {
        // SAFETY: The GPU is alive, by the type invariant; the field never changes.
        unsafe { (*self.gpu).allow_relocs }
    }

    /// Locks the device's LRUs.
    pub(crate) fn lock_lru(&self) -> LruGuard<'_> {
        // SAFETY: The device is alive, by the type invariant.
        unsafe { LruGuard::new(self.dev) }
    }

    /// The id of the DRM client, for tracing.
    pub(crate) fn client_id(&self) -> u64 {
        // SAFETY: Open, by the type invariant.
        unsafe { (*self.file).client_id }
    }

    /// Prints a debug line for whoever looks for the reason of an error.
    pub(crate) fn note(&self, why: fmt::Arguments<'_>) {
        // SAFETY: Alive by the type invariant.
        unsafe { debug::line(self.dev, why) };
    }

    /// `EINVAL`, with a debug line that says why.
    pub(crate) fn invalid(&self, why: fmt::Arguments<'_>) -> Error {
        self.note(why);
        EINVAL
    }

    /// The BO behind a handle of the file.
    pub(crate) fn lookup(&self, handle: u32) -> Option<ARef<Bo>> {
        // SAFETY: The file is open, by the type invariant.
        unsafe { Bo::lookup(self.file, handle) }
    }

    /// Locks the file's handles.
    pub(crate) fn handles(&self) -> Handles<'_> {
        // SAFETY: The file is open, by the type invariant.
        unsafe { bindings::msm_rs_lock_handles(self.file) };
        Handles {
            file: self.file,
            _not_send: PhantomData,
        }
    }

    /// The context's queue `id`, which is to be of kind `kind`.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EINVAL`.
    pub(crate) fn queue(&self, id: u32, kind: QueueKind) -> Result<Queue> {
        // SAFETY: The context is alive, by the type invariant.
        unsafe { Queue::get(self.ctx, id, kind) }.inspect_err(|&e| {
            if e == EINVAL {
                self.note(fmt!("queue {id} is of another kind"));
            }
        })
    }

    /// Looks up the fences that a request waits for, and prepares telling those whom it names.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `ENOENT`, `EFAULT`, `EOPNOTSUPP`, `EMFILE`, `ENOMEM`; `ERESTARTSYS` if the caller
    /// was killed.
    pub(crate) fn sync<'f>(&self, named: Fences<'f>) -> Result<(InFences, OutFences<'f>)> {
        let file = match named.out_fence {
            Some(fd) => Some((OutFence::new()?, fd)),
            None => None,
        };
        let mut waits_for = InFences::new();
        if let Some(fd) = named.in_fence {
            let fence =
                fences::fence_from_fd(fd).map_err(|_| self.invalid(fmt!("invalid in-fence")))?;
            waits_for.add(fence)?;
        }
        let (dev, handles) = (self.dev, self.file);
        // SAFETY: Device and open file, by the type invariant.
        let reset =
            unsafe { ResetSyncobjs::parse(dev, handles, named.in_syncobjs, &mut waits_for)? };
        // SAFETY: As above.
        let attach = unsafe { OutSyncobjs::parse(dev, handles, named.out_syncobjs)? };
        let out = OutFences {
            reset,
            attach,
            file,
        };
        Ok((waits_for, out))
    }
}

/// The handles of an open file, locked by a spinlock, to look up many.
pub(crate) struct Handles<'a> {
    file: *mut bindings::drm_file,
    /// Spinlocks belong to a processor.
    _not_send: PhantomData<(&'a (), *mut ())>,
}

impl Handles<'_> {
    /// The BO behind a handle. Drop it with the handles unlocked.
    pub(crate) fn find(&self, handle: u32) -> Option<ARef<Bo>> {
        // SAFETY: `self` keeps the file's handles locked.
        unsafe { Bo::find(self.file, handle) }
    }
}

impl Drop for Handles<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked by `Caller::handles()`.
        unsafe { bindings::msm_rs_unlock_handles(self.file) };
    }
}

/// The fences that a request names.
pub(crate) struct Fences<'a> {
    /// The descriptor of one to wait for.
    pub(super) in_fence: Option<i32>,
    /// What to wait for.
    pub(super) in_syncobjs: SyncobjArray,
    /// What gets the job's fence.
    pub(super) out_syncobjs: SyncobjArray,
    /// If the job's fence gets a descriptor, where that goes.
    pub(super) out_fence: Option<&'a mut i32>,
}

/// What gets a job's fence once it is pushed: syncobjs, and a sync file. Dropped, they stay as they
/// are.
pub(crate) struct OutFences<'a> {
    reset: ResetSyncobjs,
    attach: Option<OutSyncobjs>,
    file: Option<(OutFence, &'a mut i32)>,
}

impl OutFences<'_> {
    /// Gives them the fence: the answer to the request. The descriptor of the fence's file goes to
    /// userspace, if one was asked for.
    pub(crate) fn tell(self, fence: ARef<Fence>) {
        self.reset.reset();
        if let Some(syncobjs) = self.attach {
            syncobjs.attach(&fence);
        }
        if let Some((file, fd)) = self.file {
            *fd = file.install(fence);
        }
    }
}
