// SPDX-License-Identifier: GPL-2.0-only

//! A VM_BIND request: what the ioctl's argument says, as plain values.

use kernel::{
    prelude::*,
    transmute::FromBytes, //
};

use super::{
    bindings,
    caller::{
        Caller,
        Fences, //
    },
    fences::SyncobjArray,
    user_array::{
        Element,
        UserArray, //
    },
    vm::{
        AnyVm,
        Bind, //
    },
};
use crate::{
    gpuvm_rs::vm::GpuVm,
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

/// All flags of a request that are known.
const FLAGS: u32 = bindings::MSM_VM_BIND_FENCE_FD_IN | bindings::MSM_VM_BIND_FENCE_FD_OUT;

// SAFETY: Integers without padding.
unsafe impl FromBytes for bindings::drm_msm_vm_bind_op {}

impl Element for RawOp {
    type Raw = bindings::drm_msm_vm_bind_op;

    fn from_raw(op: bindings::drm_msm_vm_bind_op) -> Self {
        Self {
            op: op.op,
            handle: op.handle,
            obj_offset: op.obj_offset,
            iova: op.iova,
            range: op.range,
            flags: op.flags,
            pad: op.pad,
        }
    }
}

/// A VM_BIND request.
pub(crate) struct VmBindRequest<'a> {
    /// Whose it is.
    pub(crate) caller: Caller<'a>,
    /// The VM to change.
    pub(crate) vm: &'a GpuVm<Bind>,
    /// The id of the queue that it is for.
    pub(crate) queue_id: u32,
    /// `MSM_VM_BIND_x` flags, which are known.
    pub(crate) flags: u32,
    /// What to do.
    pub(crate) ops: RawOps,
    /// What to wait for, and what gets the job's fence.
    pub(crate) fences: Fences<'a>,
}

/// The ops of a request; none is a request for fences only.
pub(crate) enum RawOps {
    /// One, which was in the argument itself.
    One(RawOp),
    /// The others are read one by one.
    Array(UserArray<RawOp>),
}

impl<'a> VmBindRequest<'a> {
    /// Checks what doesn't depend on the ops.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown flag or a context that isn't for VM_BIND.
    pub(crate) fn new(caller: Caller<'a>, args: &'a mut bindings::drm_msm_vm_bind) -> Result<Self> {
        let AnyVm::Bind(vm) = caller.any_vm() else {
            return Err(caller.invalid(fmt!("context does not support vmbind")));
        };
        if args.flags & !FLAGS != 0 {
            return Err(caller.invalid(fmt!("invalid flags: {:x}", args.flags)));
        }
        let ops = if args.nr_ops == 1 {
            // SAFETY: Both variants are integers; with one op, this is the one.
            RawOps::One(RawOp::from_raw(unsafe { args.__bindgen_anon_1.op }))
        } else {
            // SAFETY: As above.
            let addr = unsafe { args.__bindgen_anon_1.ops };
            RawOps::Array(UserArray::with_stride(addr, args.nr_ops, args.op_stride))
        };
        let has = |flag| args.flags & flag != 0;
        // Unlike SUBMIT, VM_BIND has no flags for the arrays: at address 0 there is none, whatever
        // the count says.
        let array = |addr, nr| SyncobjArray {
            addr,
            nr: if addr == 0 { 0 } else { nr },
            stride: args.syncobj_stride,
        };
        Ok(Self {
            caller,
            vm,
            queue_id: args.queue_id,
            flags: args.flags,
            ops,
            fences: Fences {
                in_fence: has(bindings::MSM_VM_BIND_FENCE_FD_IN).then_some(args.fence_fd),
                in_syncobjs: array(args.in_syncobjs, args.nr_in_syncobjs),
                out_syncobjs: array(args.out_syncobjs, args.nr_out_syncobjs),
                out_fence: has(bindings::MSM_VM_BIND_FENCE_FD_OUT).then_some(&mut args.fence_fd),
            },
        })
    }
}

impl RawOps {
    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        match self {
            Self::One(_) => 1,
            Self::Array(ops) => ops.len(),
        }
    }

    /// Bytes from one to the next, if they overlap or aren't aligned.
    pub(crate) fn invalid_stride(&self) -> Option<u32> {
        match self {
            Self::Array(ops) if self.len() > 1 => Some(ops.stride()),
            _ => None,
        }
        .filter(|&stride| !ops::stride_valid(stride, UserArray::<RawOp>::SIZE))
    }

    /// Reads op number `i`.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn get(&self, i: u32) -> Result<RawOp> {
        match self {
            Self::One(op) => Ok(*op),
            Self::Array(ops) => ops.get(i),
        }
    }
}
