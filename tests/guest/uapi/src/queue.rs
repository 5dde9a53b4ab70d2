// SPDX-License-Identifier: GPL-2.0-only

//! Submitqueues.

use crate::{abi, deadline, Device, Result};
use std::time::Duration;

/// A submitqueue; closed when dropped.
#[derive(Debug)]
pub struct SubmitQueue {
    device: Device,
    id: u32,
}

impl SubmitQueue {
    /// A queue for the GPU, at priority `prio` (0 is the highest).
    pub fn new(device: &Device, prio: u32) -> Result<Self> {
        Self::with_flags(device, 0, prio)
    }

    /// A queue for `VM_BIND`.
    pub fn new_vm_bind(device: &Device) -> Result<Self> {
        Self::with_flags(device, abi::MSM_SUBMITQUEUE_VM_BIND, 0)
    }

    /// A queue with any `MSM_SUBMITQUEUE_*` flags.
    pub fn with_flags(device: &Device, flags: u32, prio: u32) -> Result<Self> {
        let mut arg = abi::drm_msm_submitqueue { flags, prio, id: 0 };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::msm_submitqueue_new(device.raw_fd(), &mut arg) }?;
        Ok(Self {
            device: device.clone(),
            id: arg.id,
        })
    }

    /// The id that requests name the queue by.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Leaves the queue to the closing of the file.
    pub fn leave_open(mut self) {
        // The default queue can't be closed.
        self.id = 0;
    }

    /// The device it belongs to.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Waits for a fence that a submit on this queue returned.
    ///
    /// # Errors
    /// `ETIMEDOUT`; `EINTR` on a signal.
    pub fn wait(&self, fence: u32, timeout: Duration) -> Result<()> {
        let end = deadline(timeout);
        let arg = abi::drm_msm_wait_fence {
            fence,
            timeout: abi::drm_msm_timespec {
                tv_sec: end / 1_000_000_000,
                tv_nsec: end % 1_000_000_000,
            },
            queueid: self.id,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::msm_wait_fence(self.device.raw_fd(), &arg) }?;
        Ok(())
    }

    /// How many of the queue's submits hung or faulted the GPU.
    pub fn faults(&self) -> Result<u32> {
        let mut faults = 0u32;
        let arg = abi::drm_msm_submitqueue_query {
            data: &raw mut faults as u64,
            id: self.id,
            param: abi::MSM_SUBMITQUEUE_PARAM_FAULTS,
            len: 4,
            pad: 0,
        };
        // SAFETY: `data` points at 4 bytes that outlive the call.
        unsafe { abi::ioctl::msm_submitqueue_query(self.device.raw_fd(), &arg) }?;
        Ok(faults)
    }
}

impl Drop for SubmitQueue {
    fn drop(&mut self) {
        // SAFETY: the argument is valid for the call. Closing only fails for the default queue.
        let _ = unsafe { abi::ioctl::msm_submitqueue_close(self.device.raw_fd(), &self.id) };
    }
}
