// SPDX-License-Identifier: GPL-2.0-only

//! A VM_BIND request: the ioctl's argument, and what it is about.

use core::num::NonZeroU32;

use kernel::{
    fmt,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    transmute::FromBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

use super::{
    bindings,
    bo::Bo,
    debug,
    queue::Queue,
    sync::{
        self,
        InSyncobjs,
        OutSyncobjs,
        SyncobjArray, //
    },
    vm::Bind, //
};
use crate::{
    bind::job::{
        BindJob,
        Jobs,
        Slot, //
    },
    gpuvm_rs::{
        fence::Fence,
        sched::PendingJob,
        vm::GpuVm, //
    },
    pure::ops::{
        self,
        RawOp, //
    },
};

const _: () = {
    assert!(ops::OP_UNMAP == bindings::MSM_VM_BIND_OP_UNMAP);
    assert!(ops::OP_MAP == bindings::MSM_VM_BIND_OP_MAP);
    assert!(ops::OP_MAP_NULL == bindings::MSM_VM_BIND_OP_MAP_NULL);
    assert!(ops::OP_DUMP == bindings::MSM_VM_BIND_OP_DUMP);
};

// SAFETY: Integers without padding.
unsafe impl FromBytes for bindings::drm_msm_vm_bind_op {}

/// A VM_BIND request.
///
/// # Invariants
///
/// `dev`, `file` and `ctx` are those of an ioctl in progress; `vm` is the context's.
pub(crate) struct Request<'a> {
    dev: *mut bindings::drm_device,
    file: *mut bindings::drm_file,
    ctx: *mut bindings::msm_context,
    gpu: *mut bindings::msm_gpu,
    args: &'a mut bindings::drm_msm_vm_bind,
    vm: &'a GpuVm<Bind>,
}

impl<'a> Request<'a> {
    /// Checks what doesn't depend on the ops.
    ///
    /// # Errors
    ///
    /// `ENXIO` without a GPU, `ENOMEM` without a VM, `EPIPE` if the VM is unusable, `EINVAL` for an
    /// unknown flag or a context that isn't for VM_BIND.
    ///
    /// # Safety
    ///
    /// The arguments are those of an ioctl in progress, whose argument is a `drm_msm_vm_bind`.
    pub(super) unsafe fn new(
        dev: *mut bindings::drm_device,
        data: *mut core::ffi::c_void,
        file: *mut bindings::drm_file,
    ) -> Result<Self> {
        let refuse = |err: Error, args: fmt::Arguments<'_>| {
            // SAFETY: The caller's promise.
            unsafe { debug::line(dev, args) };
            err
        };
        // SAFETY: The caller's promise. A context's VM lives as long as the context, once it is
        // made; which kind it is is decided by then.
        unsafe {
            let gpu = (*bindings::msm_rs_priv(dev)).gpu;
            if gpu.is_null() {
                return Err(ENXIO);
            }
            let ctx: *mut bindings::msm_context = (*file).driver_priv.cast();
            let vm = bindings::msm_context_vm(dev, ctx);
            if vm.is_null() {
                return Err(refuse(ENOMEM, fmt!("no VM")));
            }
            if !bindings::msm_context_is_vmbind(ctx) {
                return Err(refuse(EINVAL, fmt!("context does not support vmbind")));
            }
            let vm = GpuVm::<Bind>::from_raw(vm);
            if vm.is_unusable() {
                return Err(refuse(EPIPE, fmt!("context is unusable")));
            }
            let args = &mut *data.cast::<bindings::drm_msm_vm_bind>();
            if args.flags
                & !(bindings::MSM_VM_BIND_FENCE_FD_IN | bindings::MSM_VM_BIND_FENCE_FD_OUT)
                != 0
            {
                return Err(refuse(EINVAL, fmt!("invalid flags: {:x}", args.flags)));
            }
            Ok(Self {
                dev,
                file,
                ctx,
                gpu,
                args,
                vm,
            })
        }
    }

    /// The VM to change.
    pub(crate) fn vm(&self) -> &'a GpuVm<Bind> {
        self.vm
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

    /// How many ops there are; none is a request for fences only.
    pub(crate) fn nr_ops(&self) -> u32 {
        self.args.nr_ops
    }

    /// Bytes from one op to the next, if there are several.
    pub(crate) fn op_stride(&self) -> u32 {
        self.args.op_stride
    }

    /// Whether the ops don't overlap and are aligned.
    pub(crate) fn stride_valid(&self) -> bool {
        ops::stride_valid(
            self.args.op_stride,
            size_of::<bindings::drm_msm_vm_bind_op>() as u32,
        )
    }

    /// Reads op number `i`. A single op is in the argument itself.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn op(&self, i: u32) -> Result<RawOp> {
        let op = if self.args.nr_ops == 1 {
            // SAFETY: Both variants are integers; with one op, this is the one.
            unsafe { self.args.__bindgen_anon_1.op }
        } else {
            // SAFETY: As above.
            let base = unsafe { self.args.__bindgen_anon_1.ops };
            let addr = base
                .checked_add(u64::from(i) * u64::from(self.args.op_stride))
                .ok_or(EFAULT)?;
            UserSlice::new(
                UserPtr::from_addr(addr as usize),
                size_of::<bindings::drm_msm_vm_bind_op>(),
            )
            .reader()
            .read::<bindings::drm_msm_vm_bind_op>()?
        };
        Ok(RawOp {
            op: op.op,
            handle: op.handle,
            obj_offset: op.obj_offset,
            iova: op.iova,
            range: op.range,
            flags: op.flags,
            pad: op.pad,
        })
    }

    /// The BO behind a handle of the file.
    pub(crate) fn lookup(&self, handle: NonZeroU32) -> Option<ARef<Bo>> {
        // SAFETY: The file is open, by the type invariant.
        unsafe { Bo::lookup(self.file, handle.get()) }
    }

    /// Whether the SMMU can map to nothing.
    pub(crate) fn has_prr(&self) -> bool {
        // SAFETY: Alive by the type invariant.
        unsafe { bindings::adreno_smmu_has_prr(self.gpu) }
    }

    /// The queue that the request is for.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EINVAL`.
    pub(crate) fn queue(&self) -> Result<Queue> {
        // SAFETY: The context is alive, by the type invariant.
        unsafe { Queue::get(self.ctx, self.args.queue_id) }.inspect_err(|&e| {
            if e == EINVAL {
                self.note(fmt!("queue {} isn't for VM_BIND", self.args.queue_id));
            }
        })
    }

    /// A job on `queue` that runs what will be in `slot`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new_job(&self, queue: &Queue, slot: Arc<Slot>) -> Result<PendingJob<Jobs>> {
        // SAFETY: The file is open; the entity is the queue's, its scheduler the VM's, and the job
        // keeps both, see `Jobs`. Until the slot is filled the caller's `queue` does.
        unsafe {
            PendingJob::new(
                queue.entity(),
                (*self.file).client_id,
                BindJob::new(self.vm, slot),
            )
        }
    }

    /// The fence to wait for, if the request names one.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it isn't one.
    pub(crate) fn in_fence(&self) -> Result<Option<ARef<Fence>>> {
        if self.args.flags & bindings::MSM_VM_BIND_FENCE_FD_IN == 0 {
            return Ok(None);
        }
        sync::fence_from_fd(self.args.fence_fd)
            .map(Some)
            .inspect_err(|_| self.note(fmt!("invalid in-fence")))
    }

    /// Whether the request asks for a fence.
    pub(crate) fn wants_fence(&self) -> bool {
        self.args.flags & bindings::MSM_VM_BIND_FENCE_FD_OUT != 0
    }

    /// Tells userspace the descriptor of its fence.
    pub(crate) fn set_out_fence(&mut self, fd: i32) {
        self.args.fence_fd = fd;
    }

    /// Lets `job` wait for the request's syncobjs.
    ///
    /// # Errors
    ///
    /// See [`InSyncobjs::parse`].
    pub(crate) fn in_syncobjs(&self, job: &mut PendingJob<Jobs>) -> Result<Option<InSyncobjs>> {
        let from = SyncobjArray {
            addr: self.args.in_syncobjs,
            nr: self.args.nr_in_syncobjs,
            stride: self.args.syncobj_stride,
        };
        // SAFETY: The device and the open file, by the type invariant.
        unsafe { InSyncobjs::parse(self.dev, self.file, job, from) }
    }

    /// Looks up the syncobjs that get the job's fence.
    ///
    /// # Errors
    ///
    /// See [`OutSyncobjs::parse`].
    pub(crate) fn out_syncobjs(&self) -> Result<Option<OutSyncobjs>> {
        let from = SyncobjArray {
            addr: self.args.out_syncobjs,
            nr: self.args.nr_out_syncobjs,
            stride: self.args.syncobj_stride,
        };
        // SAFETY: As above.
        unsafe { OutSyncobjs::parse(self.dev, self.file, from) }
    }
}
