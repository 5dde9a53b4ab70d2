// SPDX-License-Identifier: GPL-2.0-only

//! Syncobjs and sync files.

use crate::{abi, Device, Errno, Result};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// The CLOCK_MONOTONIC time, in nanoseconds, that is `timeout` from now: how DRM ioctls take
/// timeouts.
pub fn deadline(timeout: Duration) -> i64 {
    let now =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC");
    let now = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
    now.saturating_add(i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX))
}

/// A syncobj handle, binary or timeline; destroyed when dropped.
#[derive(Debug)]
pub struct Syncobj {
    device: Device,
    handle: u32,
}

impl Syncobj {
    /// A syncobj without a fence.
    pub fn new(device: &Device) -> Result<Self> {
        Self::create(device, 0)
    }

    /// A syncobj whose fence has signalled.
    pub fn new_signaled(device: &Device) -> Result<Self> {
        Self::create(device, abi::DRM_SYNCOBJ_CREATE_SIGNALED)
    }

    fn create(device: &Device, flags: u32) -> Result<Self> {
        let mut arg = abi::drm_syncobj_create { handle: 0, flags };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::syncobj_create(device.raw_fd(), &mut arg) }?;
        Ok(Self {
            device: device.clone(),
            handle: arg.handle,
        })
    }

    /// The handle.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// Makes the fence of a sync file this syncobj's.
    pub fn import(&self, file: &SyncFile) -> Result<()> {
        let mut arg = abi::drm_syncobj_handle {
            handle: self.handle,
            flags: abi::DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE,
            fd: file.as_fd().as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::syncobj_fd_to_handle(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// The syncobj's present fence as a sync file.
    pub fn export(&self) -> Result<SyncFile> {
        let mut arg = abi::drm_syncobj_handle {
            handle: self.handle,
            flags: abi::DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE,
            fd: -1,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::syncobj_handle_to_fd(self.device.raw_fd(), &mut arg) }?;
        // SAFETY: the kernel just installed this descriptor for us.
        Ok(SyncFile::from(unsafe { OwnedFd::from_raw_fd(arg.fd) }))
    }

    /// Waits until the fence, which must be there already, has signalled.
    ///
    /// # Errors
    /// `ETIME` on timeout, `EINVAL` without a fence.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        let mut arg = abi::drm_syncobj_wait {
            handles: &raw const self.handle as u64,
            timeout_nsec: deadline(timeout),
            count_handles: 1,
            ..Default::default()
        };
        // SAFETY: `handles` points at one handle that outlives the call.
        unsafe { abi::ioctl::syncobj_wait(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// Waits until a point of the timeline has signalled.
    pub fn wait_point(&self, point: u64, timeout: Duration) -> Result<()> {
        let mut arg = abi::drm_syncobj_timeline_wait {
            handles: &raw const self.handle as u64,
            points: &raw const point as u64,
            timeout_nsec: deadline(timeout),
            count_handles: 1,
            flags: abi::DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT,
            ..Default::default()
        };
        // SAFETY: both arrays have one element and outlive the call.
        unsafe { abi::ioctl::syncobj_timeline_wait(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// Whether the fence, which must be there already, has signalled.
    pub fn is_signaled(&self) -> Result<bool> {
        signaled(self.wait(Duration::ZERO))
    }

    /// Whether a point of the timeline has signalled.
    pub fn is_point_signaled(&self, point: u64) -> Result<bool> {
        signaled(self.wait_point(point, Duration::ZERO))
    }

    /// Gives the syncobj a fence that has signalled.
    pub fn signal(&self) -> Result<()> {
        let mut arg = abi::drm_syncobj_array {
            handles: &raw const self.handle as u64,
            count_handles: 1,
            pad: 0,
        };
        // SAFETY: `handles` points at one handle that outlives the call.
        unsafe { abi::ioctl::syncobj_signal(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// Takes the fence away.
    pub fn reset(&self) -> Result<()> {
        let mut arg = abi::drm_syncobj_array {
            handles: &raw const self.handle as u64,
            count_handles: 1,
            pad: 0,
        };
        // SAFETY: as above.
        unsafe { abi::ioctl::syncobj_reset(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// Adds a signalled point to the timeline.
    pub fn signal_point(&self, point: u64) -> Result<()> {
        let mut arg = abi::drm_syncobj_timeline_array {
            handles: &raw const self.handle as u64,
            points: &raw const point as u64,
            count_handles: 1,
            flags: 0,
        };
        // SAFETY: both arrays have one element and outlive the call.
        unsafe { abi::ioctl::syncobj_timeline_signal(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// The newest point of the timeline, whether it has signalled or not.
    pub fn newest_point(&self) -> Result<u64> {
        let mut point = 0;
        let mut arg = abi::drm_syncobj_timeline_array {
            handles: &raw const self.handle as u64,
            points: &raw mut point as u64,
            count_handles: 1,
            flags: abi::DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED,
        };
        // SAFETY: as above; the kernel writes the one point.
        unsafe { abi::ioctl::syncobj_query(self.device.raw_fd(), &mut arg) }?;
        Ok(point)
    }

    /// As an entry of a request's in or out array.
    pub fn desc(&self, point: u64) -> abi::drm_msm_syncobj {
        abi::drm_msm_syncobj {
            handle: self.handle,
            flags: 0,
            point,
        }
    }
}

fn signaled(wait: Result<()>) -> Result<bool> {
    match wait {
        Ok(()) => Ok(true),
        Err(Errno::ETIME | Errno::ETIMEDOUT) => Ok(false),
        Err(e) => Err(e),
    }
}

impl Drop for Syncobj {
    fn drop(&mut self) {
        let mut arg = abi::drm_syncobj_destroy {
            handle: self.handle,
            pad: 0,
        };
        // SAFETY: the argument is valid for the call.
        let _ = unsafe { abi::ioctl::syncobj_destroy(self.device.raw_fd(), &mut arg) };
    }
}

/// A fence in a file descriptor.
#[derive(Debug)]
pub struct SyncFile {
    fd: OwnedFd,
}

impl SyncFile {
    /// Waits until the fence has signalled.
    ///
    /// # Errors
    /// `ETIMEDOUT`; `EINTR` on a signal.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        let timeout = PollTimeout::try_from(timeout).map_err(|_| Errno::EINVAL)?;
        match poll(
            &mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)],
            timeout,
        )? {
            0 => Err(Errno::ETIMEDOUT),
            _ => Ok(()),
        }
    }

    /// `None` while the fence is active, then its error, if it has one.
    pub fn status(&self) -> Result<Option<Result<()>>> {
        let mut arg = abi::sync_file_info::default();
        // SAFETY: `num_fences` is 0, so no other memory is touched.
        unsafe { abi::ioctl::sync_file_info(self.fd.as_raw_fd(), &mut arg) }?;
        Ok(match arg.status {
            0 => None,
            1.. => Some(Ok(())),
            error => Some(Err(Errno::from_raw(-error))),
        })
    }

    /// Whether the fence has signalled.
    pub fn is_signaled(&self) -> Result<bool> {
        Ok(self.status()?.is_some())
    }

    /// Another descriptor of the same fence.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self
            .fd
            .try_clone()
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        Ok(Self { fd })
    }
}

impl From<OwnedFd> for SyncFile {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<SyncFile> for OwnedFd {
    fn from(file: SyncFile) -> Self {
        file.fd
    }
}

impl AsFd for SyncFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
