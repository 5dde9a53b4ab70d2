// SPDX-License-Identifier: GPL-2.0-only

//! GEM_SUBMIT requests.

use crate::{abi, Bo, Result, SubmitQueue, SyncFile, Syncobj};
use std::{
    mem::size_of,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// A GEM_SUBMIT request under construction. Nothing is checked here.
#[derive(Clone)]
pub struct Submit<'a> {
    queue: &'a SubmitQueue,
    /// The command buffers.
    pub cmds: Vec<abi::drm_msm_gem_submit_cmd>,
    /// The BO table (kernel-managed VMs only).
    pub bos: Vec<abi::drm_msm_gem_submit_bo>,
    in_syncobjs: Vec<abi::drm_msm_syncobj>,
    out_syncobjs: Vec<abi::drm_msm_syncobj>,
    in_fence: Option<&'a SyncFile>,
    fence_number: u32,
    flags: u32,
    cleared: u32,
}

/// A submit that the kernel accepted.
#[derive(Debug)]
pub struct Submitted {
    /// The fence as a sequence number of its queue.
    pub seqno: u32,
    /// The fence as a file.
    pub fence: SyncFile,
}

impl Submitted {
    /// Waits until the GPU is done with it. Says nothing on whether it went well.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        self.fence.wait(timeout)
    }
}

impl<'a> Submit<'a> {
    /// A request without commands on `queue`, without implicit synchronisation.
    pub fn new(queue: &'a SubmitQueue) -> Self {
        Self {
            queue,
            cmds: Vec::new(),
            bos: Vec::new(),
            in_syncobjs: Vec::new(),
            out_syncobjs: Vec::new(),
            in_fence: None,
            fence_number: 0,
            flags: abi::MSM_PIPE_3D0 | abi::MSM_SUBMIT_NO_IMPLICIT,
            cleared: 0,
        }
    }

    /// Adds `size` bytes of commands at `iova` (`VM_BIND` context).
    pub fn cmd_at(mut self, iova: u64, size: u32) -> Self {
        self.cmds.push(abi::drm_msm_gem_submit_cmd {
            type_: abi::MSM_SUBMIT_CMD_BUF,
            iova,
            size,
            ..Default::default()
        });
        self
    }

    /// Adds `size` bytes of commands at `offset` in entry `index` of the BO table (kernel-managed
    /// VM).
    pub fn cmd_in(mut self, index: u32, offset: u32, size: u32) -> Self {
        self.cmds.push(abi::drm_msm_gem_submit_cmd {
            type_: abi::MSM_SUBMIT_CMD_BUF,
            submit_idx: index,
            submit_offset: offset,
            size,
            ..Default::default()
        });
        self
    }

    /// Adds a BO to the table, with `MSM_SUBMIT_BO_*` flags.
    pub fn bo(mut self, bo: &Bo, flags: u32) -> Self {
        self.bos.push(abi::drm_msm_gem_submit_bo {
            flags,
            handle: bo.handle(),
            presumed: 0,
        });
        self
    }

    /// Lets the submit wait for the fences of its BOs.
    pub fn implicit_sync(mut self) -> Self {
        self.flags &= !abi::MSM_SUBMIT_NO_IMPLICIT;
        self
    }

    /// Lets the submit wait for a sync file.
    pub fn after(mut self, fence: &'a SyncFile) -> Self {
        self.in_fence = Some(fence);
        self
    }

    /// Lets the submit wait for a syncobj.
    pub fn after_syncobj(mut self, syncobj: &Syncobj, point: u64) -> Self {
        self.in_syncobjs.push(syncobj.desc(point));
        self
    }

    /// Lets the submit wait for a syncobj, whose fence is then taken away.
    pub fn after_syncobj_reset(mut self, syncobj: &Syncobj) -> Self {
        self.in_syncobjs.push(abi::drm_msm_syncobj {
            flags: abi::MSM_SYNCOBJ_RESET,
            ..syncobj.desc(0)
        });
        self
    }

    /// Chooses the number by which WAIT_FENCE knows the fence.
    pub fn fence_number(mut self, number: u32) -> Self {
        self.fence_number = number;
        self.flags |= abi::MSM_SUBMIT_FENCE_SN_IN;
        self
    }

    /// Adds more request flags.
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags |= flags;
        self
    }

    /// Takes request flags away, also those that what else is asked for would set.
    pub fn without(mut self, flags: u32) -> Self {
        self.cleared |= flags;
        self
    }

    /// Gives the submit's fence to a syncobj.
    pub fn signal(mut self, syncobj: &Syncobj, point: u64) -> Self {
        self.out_syncobjs.push(syncobj.desc(point));
        self
    }

    /// The command buffers as they are in memory.
    pub fn cmds_as_bytes(&self) -> &[u8] {
        let (cmds, len) = (self.cmds.as_ptr().cast(), size_of_val(&*self.cmds));
        // SAFETY: the structures are integers without padding.
        unsafe { std::slice::from_raw_parts(cmds, len) }
    }

    /// The request. It points into `self`.
    pub fn request(&self) -> abi::drm_msm_gem_submit {
        let mut flags = self.flags | abi::MSM_SUBMIT_FENCE_FD_OUT;
        if self.in_fence.is_some() {
            flags |= abi::MSM_SUBMIT_FENCE_FD_IN;
        }
        if !self.in_syncobjs.is_empty() {
            flags |= abi::MSM_SUBMIT_SYNCOBJ_IN;
        }
        if !self.out_syncobjs.is_empty() {
            flags |= abi::MSM_SUBMIT_SYNCOBJ_OUT;
        }
        abi::drm_msm_gem_submit {
            flags: flags & !self.cleared,
            fence: self.fence_number,
            nr_bos: self.bos.len() as u32,
            nr_cmds: self.cmds.len() as u32,
            bos: self.bos.as_ptr() as u64,
            cmds: self.cmds.as_ptr() as u64,
            fence_fd: self.in_fence.map_or(-1, |f| f.as_fd().as_raw_fd()),
            queueid: self.queue.id(),
            in_syncobjs: self.in_syncobjs.as_ptr() as u64,
            out_syncobjs: self.out_syncobjs.as_ptr() as u64,
            nr_in_syncobjs: self.in_syncobjs.len() as u32,
            nr_out_syncobjs: self.out_syncobjs.len() as u32,
            syncobj_stride: size_of::<abi::drm_msm_syncobj>() as u32,
            ..Default::default()
        }
    }

    /// Sends the request.
    pub fn send(&self) -> Result<Submitted> {
        let mut request = self.request();
        self.queue.device().submit_raw(&mut request)?;
        // SAFETY: the kernel just installed this descriptor for us.
        let fence = SyncFile::from(unsafe { OwnedFd::from_raw_fd(request.fence_fd) });
        Ok(Submitted {
            seqno: request.fence,
            fence,
        })
    }
}
