// SPDX-License-Identifier: GPL-2.0-only

//! A fence that signals when the test says so.

use crate::{abi, Errno, Result, SyncFile};
use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A fence of the testbed's own driver (`tests/glue/fence.c`), as a sync file.
///
/// The driver signals it by itself after 100 s, and when this is dropped.
/// [`signal`](Self::signal) tells when that happened, since a test that went on would then have
/// tested nothing.
#[derive(Debug)]
pub struct HeldFence {
    fence: File,
    file: SyncFile,
}

impl HeldFence {
    /// A new fence.
    pub fn new() -> Result<Self> {
        let fence = File::open("/dev/vadreno-fence")
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        // SAFETY: the ioctl has no argument.
        let fd = unsafe { abi::ioctl::vadreno_fence_sync_file(fence.as_raw_fd()) }?;
        // SAFETY: the kernel just installed this descriptor for us.
        let file = SyncFile::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { fence, file })
    }

    /// The fence, to wait for.
    pub fn file(&self) -> &SyncFile {
        &self.file
    }

    /// Whether it has signalled by itself.
    pub fn has_expired(&self) -> Result<bool> {
        self.file.is_signaled()
    }

    /// Signals the fence.
    ///
    /// # Errors
    /// `ETIMEDOUT`: it had already signalled by itself.
    pub fn signal(self) -> Result<()> {
        // SAFETY: the ioctl has no argument.
        unsafe { abi::ioctl::vadreno_fence_signal(self.fence.as_raw_fd()) }?;
        Ok(())
    }

    /// Checks that it hasn't signalled by itself.
    ///
    /// # Errors
    /// `ETIMEDOUT`: it has.
    pub fn still_held(&self) -> Result<()> {
        if self.file.is_signaled()? {
            return Err(Errno::ETIMEDOUT);
        }
        Ok(())
    }
}
