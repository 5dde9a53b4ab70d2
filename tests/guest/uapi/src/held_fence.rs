// SPDX-License-Identifier: GPL-2.0-only

//! A fence that signals when the test says so.

use crate::{abi, vgem::Buffer, Errno, Result, SyncFile};
use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A fence of the stock `vgem` driver, as a sync file.
///
/// vgem signals it by itself after [`LIMIT`](Self::LIMIT), and when this is dropped.
/// [`signal`](Self::signal) tells when that happened, since a test that went on would then have
/// tested nothing.
#[derive(Debug)]
pub struct HeldFence {
    vgem: File,
    fence: u32,
    file: SyncFile,
}

impl HeldFence {
    /// How long vgem holds a fence (`VGEM_FENCE_TIMEOUT`).
    pub const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

    /// A new fence. Loads `vgem` when it isn't there.
    pub fn new() -> Result<Self> {
        let Buffer {
            vgem,
            handle,
            dma_buf,
        } = Buffer::new(crate::PAGE)?;
        let fd = vgem.as_raw_fd();
        let mut attach = abi::drm_vgem_fence_attach {
            handle,
            flags: abi::VGEM_FENCE_WRITE,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::vgem_fence_attach(fd, &mut attach) }?;
        let mut export = abi::dma_buf_export_sync_file {
            flags: abi::DMA_BUF_SYNC_RW,
            fd: -1,
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::dma_buf_export_sync_file(dma_buf.as_raw_fd(), &mut export) }?;
        // SAFETY: the kernel just installed this descriptor for us.
        let file = SyncFile::from(unsafe { OwnedFd::from_raw_fd(export.fd) });
        Ok(Self {
            vgem,
            fence: attach.out_fence,
            file,
        })
    }

    /// The fence, to wait for.
    pub fn file(&self) -> &SyncFile {
        &self.file
    }

    /// Whether vgem has signalled it by itself.
    pub fn has_expired(&self) -> Result<bool> {
        self.file.is_signaled()
    }

    /// Signals the fence.
    ///
    /// # Errors
    /// `ETIMEDOUT`: vgem had already done so.
    pub fn signal(self) -> Result<()> {
        let arg = abi::drm_vgem_fence_signal {
            fence: self.fence,
            flags: 0,
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::vgem_fence_signal(self.vgem.as_raw_fd(), &arg) }?;
        Ok(())
    }

    /// Checks that vgem hasn't given up yet.
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
