// SPDX-License-Identifier: GPL-2.0-only

//! A VM_BIND request: the ioctl's argument, and what it is about.

use core::ops::Deref;

use kernel::{
    prelude::*,
    sync::aref::ARef,
    transmute::FromBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

use super::{
    bindings,
    caller::{
        Caller,
        Named,
        OutFences, //
    },
    fences::SyncobjArray,
    jobs::{
        BindQueue,
        Jobs,
        Work, //
    },
    vm::{
        AnyVm,
        Bind, //
    },
};
use crate::{
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
pub(crate) struct VmBindRequest<'a> {
    caller: Caller<'a>,
    args: &'a mut bindings::drm_msm_vm_bind,
    vm: &'a GpuVm<Bind>,
}

impl<'a> Deref for VmBindRequest<'a> {
    type Target = Caller<'a>;

    fn deref(&self) -> &Caller<'a> {
        &self.caller
    }
}

impl<'a> VmBindRequest<'a> {
    /// Checks what doesn't depend on the ops.
    ///
    /// # Errors
    ///
    /// See [`Caller::new`]; `EINVAL` for an unknown flag or a context that isn't for VM_BIND.
    ///
    /// # Safety
    ///
    /// The arguments are those of an ioctl in progress, whose argument is a `drm_msm_vm_bind`.
    pub(crate) unsafe fn new(
        dev: *mut bindings::drm_device,
        data: *mut core::ffi::c_void,
        file: *mut bindings::drm_file,
    ) -> Result<Self> {
        // SAFETY: An ioctl in progress, by the caller's promise.
        let caller = unsafe { Caller::new(dev, file) }?;
        // SAFETY: Its argument, which is nobody else's.
        let args = unsafe { &mut *data.cast::<bindings::drm_msm_vm_bind>() };
        let AnyVm::Bind(vm) = caller.any_vm() else {
            return Err(caller.invalid(fmt!("context does not support vmbind")));
        };
        if args.flags & !(bindings::MSM_VM_BIND_FENCE_FD_IN | bindings::MSM_VM_BIND_FENCE_FD_OUT)
            != 0
        {
            return Err(caller.invalid(fmt!("invalid flags: {:x}", args.flags)));
        }
        Ok(Self { caller, args, vm })
    }

    /// The VM to change.
    pub(crate) fn vm(&self) -> &'a GpuVm<Bind> {
        self.vm
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

    /// Whether the SMMU can map to nothing.
    pub(crate) fn has_prr(&self) -> bool {
        // SAFETY: The GPU is alive, by `Caller`'s invariant.
        unsafe { bindings::adreno_smmu_has_prr(self.gpu()) }
    }

    /// The queue that the request is for.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EINVAL`.
    pub(crate) fn queue(&self) -> Result<BindQueue<'a>> {
        BindQueue::get(&self.caller, self.vm, self.args.queue_id)
    }

    /// Lets `job` wait for what the request names, and prepares what gets its fence.
    ///
    /// # Errors
    ///
    /// See [`Caller::sync`].
    pub(crate) fn sync<W: Work>(&self, job: &mut PendingJob<Jobs<W>>) -> Result<OutFences> {
        let args = &self.args;
        let has = |flag| args.flags & flag != 0;
        // Unlike SUBMIT, VM_BIND has no flags for the arrays: at address 0 there is none, whatever
        // the count says.
        let array = |addr, nr| SyncobjArray {
            addr,
            nr: if addr == 0 { 0 } else { nr },
            stride: args.syncobj_stride,
        };
        let named = Named {
            in_fence: has(bindings::MSM_VM_BIND_FENCE_FD_IN).then_some(args.fence_fd),
            out_fence: has(bindings::MSM_VM_BIND_FENCE_FD_OUT),
            in_syncobjs: array(args.in_syncobjs, args.nr_in_syncobjs),
            out_syncobjs: array(args.out_syncobjs, args.nr_out_syncobjs),
        };
        // SAFETY: A pending job isn't armed.
        unsafe { self.caller.sync(&named, job.as_raw()) }
    }

    /// Tells of the job's fence. The descriptor of its file goes to userspace.
    pub(crate) fn tell(&mut self, out_fences: OutFences, fence: ARef<Fence>) {
        if let Some(fd) = out_fences.tell(fence) {
            self.args.fence_fd = fd;
        }
    }
}
