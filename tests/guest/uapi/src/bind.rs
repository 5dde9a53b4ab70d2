// SPDX-License-Identifier: GPL-2.0-only

//! VM_BIND requests.

use crate::{abi, Bo, Result, SubmitQueue, SyncFile, Syncobj};
use std::{
    mem::size_of,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// A VM_BIND request under construction.
///
/// Nothing is checked here: whatever is put in is sent. The public fields are the request's, filled
/// in by [`send`](Self::send) where the methods below are responsible for them.
#[derive(Clone)]
pub struct VmBind<'a> {
    queue: &'a SubmitQueue,
    /// The ops, in order.
    pub ops: Vec<abi::drm_msm_vm_bind_op>,
    /// The syncobjs waited for.
    pub in_syncobjs: Vec<abi::drm_msm_syncobj>,
    /// The syncobjs given the job's fence.
    pub out_syncobjs: Vec<abi::drm_msm_syncobj>,
    in_fence: Option<&'a SyncFile>,
}

impl<'a> VmBind<'a> {
    /// A request without ops on `queue`.
    pub fn new(queue: &'a SubmitQueue) -> Self {
        Self {
            queue,
            ops: Vec::new(),
            in_syncobjs: Vec::new(),
            out_syncobjs: Vec::new(),
            in_fence: None,
        }
    }

    /// Adds an op as it is.
    pub fn op(mut self, op: abi::drm_msm_vm_bind_op) -> Self {
        self.ops.push(op);
        self
    }

    /// Maps `range` bytes of `bo`, from `obj_offset`, at `iova`.
    pub fn map(self, bo: &Bo, obj_offset: u64, iova: u64, range: u64) -> Self {
        self.map_flags(bo, obj_offset, iova, range, 0)
    }

    /// As [`map`](Self::map), with `MSM_VM_BIND_OP_*` flags.
    pub fn map_flags(self, bo: &Bo, obj_offset: u64, iova: u64, range: u64, flags: u32) -> Self {
        self.op(abi::drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_MAP,
            handle: bo.handle(),
            obj_offset,
            iova,
            range,
            flags,
            pad: 0,
        })
    }

    /// Maps nothing at `iova`: reads give 0, writes are dropped.
    pub fn map_null(self, iova: u64, range: u64) -> Self {
        self.op(abi::drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_MAP_NULL,
            iova,
            range,
            ..Default::default()
        })
    }

    /// Unmaps what is mapped at `iova`.
    pub fn unmap(self, iova: u64, range: u64) -> Self {
        self.op(abi::drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_UNMAP,
            iova,
            range,
            ..Default::default()
        })
    }

    /// Lets the job wait for a sync file.
    pub fn after(mut self, fence: &'a SyncFile) -> Self {
        self.in_fence = Some(fence);
        self
    }

    /// Lets the job wait for a syncobj (a point of it, or 0 for a binary one).
    pub fn after_syncobj(mut self, syncobj: &Syncobj, point: u64) -> Self {
        self.in_syncobjs.push(syncobj.desc(point));
        self
    }

    /// Gives the job's fence to a syncobj.
    pub fn signal(mut self, syncobj: &Syncobj, point: u64) -> Self {
        self.out_syncobjs.push(syncobj.desc(point));
        self
    }

    /// The request, without an out-fence. It points into `self`.
    pub fn request(&self) -> abi::drm_msm_vm_bind {
        let u = match self.ops.as_slice() {
            [op] => abi::drm_msm_vm_bind_ops { op: *op },
            ops => {
                // Zero the bytes that the pointer doesn't cover.
                let mut u = abi::drm_msm_vm_bind_ops {
                    op: Default::default(),
                };
                u.ops = if ops.is_empty() {
                    0
                } else {
                    ops.as_ptr() as u64
                };
                u
            }
        };
        let address = |list: &[abi::drm_msm_syncobj]| {
            if list.is_empty() {
                0
            } else {
                list.as_ptr() as u64
            }
        };
        abi::drm_msm_vm_bind {
            flags: if self.in_fence.is_some() {
                abi::MSM_VM_BIND_FENCE_FD_IN
            } else {
                0
            },
            nr_ops: self.ops.len() as u32,
            fence_fd: self.in_fence.map_or(-1, |f| f.as_fd().as_raw_fd()),
            queue_id: self.queue.id(),
            in_syncobjs: address(&self.in_syncobjs),
            out_syncobjs: address(&self.out_syncobjs),
            nr_in_syncobjs: self.in_syncobjs.len() as u32,
            nr_out_syncobjs: self.out_syncobjs.len() as u32,
            syncobj_stride: size_of::<abi::drm_msm_syncobj>() as u32,
            op_stride: size_of::<abi::drm_msm_vm_bind_op>() as u32,
            u,
        }
    }

    /// Sends the request without asking for an out-fence.
    pub fn send_only(&self) -> Result<()> {
        self.queue.device().vm_bind_raw(&mut self.request())
    }

    /// Sends the request; returns the job's fence.
    pub fn send(&self) -> Result<SyncFile> {
        let mut request = self.request();
        request.flags |= abi::MSM_VM_BIND_FENCE_FD_OUT;
        self.queue.device().vm_bind_raw(&mut request)?;
        // SAFETY: the kernel just installed this descriptor for us.
        Ok(SyncFile::from(unsafe {
            OwnedFd::from_raw_fd(request.fence_fd)
        }))
    }

    /// Sends the request and waits until the job has run.
    pub fn send_and_wait(&self) -> Result<()> {
        let fence = self.send()?;
        fence.wait(Duration::from_secs(60))?;
        match fence.status()? {
            Some(result) => result,
            None => Err(crate::Errno::ETIMEDOUT),
        }
    }
}
