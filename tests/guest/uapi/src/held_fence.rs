// SPDX-License-Identifier: GPL-2.0-only

//! A fence that signals when the test says so.

use crate::{abi, device::open_node, module, Errno, Result, SyncFile};
use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A fence of the stock `vgem` driver, as a sync file.
///
/// vgem signals it by itself after [`LIMIT`](Self::LIMIT), and when this is dropped. [`signal`](Self::signal) tells
/// when that happened, since a test that went on would then have tested nothing.
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
        let vgem = open_node("card", "vgem").or_else(|_| {
            module::load("vgem", &[])?;
            open_node("card", "vgem")
        })?;
        let fd = vgem.as_raw_fd();

        let mut dumb = abi::drm_mode_create_dumb {
            height: 1,
            width: 1024,
            bpp: 32,
            ..Default::default()
        };
        // SAFETY: each argument is valid for its call.
        unsafe { abi::ioctl::mode_create_dumb(fd, &mut dumb) }?;
        let mut attach = abi::drm_vgem_fence_attach {
            handle: dumb.handle,
            flags: abi::VGEM_FENCE_WRITE,
            ..Default::default()
        };
        // SAFETY: as above.
        unsafe { abi::ioctl::vgem_fence_attach(fd, &mut attach) }?;
        let mut prime = abi::drm_prime_handle {
            handle: dumb.handle,
            flags: abi::DRM_CLOEXEC,
            fd: -1,
        };
        // SAFETY: as above.
        unsafe { abi::ioctl::prime_handle_to_fd(fd, &mut prime) }?;
        // SAFETY: the kernel just installed this descriptor for us.
        let dma_buf = unsafe { OwnedFd::from_raw_fd(prime.fd) };
        let mut export = abi::dma_buf_export_sync_file {
            flags: abi::DMA_BUF_SYNC_RW,
            fd: -1,
        };
        // SAFETY: each argument is valid for its call.
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
