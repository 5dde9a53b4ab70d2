// SPDX-License-Identifier: GPL-2.0-only

//! Buffers of the stock `vgem` driver: somebody else's dma-bufs.

use crate::{abi, device::open_node, module, Errno, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Opens it. Loads `vgem` when it isn't there.
fn open() -> Result<File> {
    open_node("card", "vgem").or_else(|_| {
        module::load("vgem", &[])?;
        open_node("card", "vgem")
    })
}

/// A buffer, exported.
#[derive(Debug)]
pub struct Buffer {
    dma_buf: OwnedFd,
}

impl Buffer {
    /// A buffer of `size` bytes, a multiple of 4096. Loads `vgem` when it isn't there.
    pub fn new(size: u64) -> Result<Self> {
        let vgem = open()?;
        let fd = vgem.as_raw_fd();
        let mut dumb = abi::drm_mode_create_dumb {
            height: (size / 4096) as u32,
            width: 1024,
            bpp: 32,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::mode_create_dumb(fd, &mut dumb) }?;
        let mut prime = abi::drm_prime_handle {
            handle: dumb.handle,
            flags: abi::DRM_CLOEXEC | abi::DRM_RDWR,
            fd: -1,
        };
        // SAFETY: as above.
        unsafe { abi::ioctl::prime_handle_to_fd(fd, &mut prime) }?;
        Ok(Self {
            // SAFETY: the kernel just installed this descriptor for us.
            dma_buf: unsafe { OwnedFd::from_raw_fd(prime.fd) },
        })
    }

    /// The dma-buf.
    pub fn dma_buf_fd(&self) -> BorrowedFd<'_> {
        self.dma_buf.as_fd()
    }

    /// Fills `size` bytes with a dword per position, through the dma-buf.
    pub fn fill(&self, size: u64, value: impl Fn(usize) -> u32) -> Result<()> {
        let map: MmapRaw = MmapOptions::new()
            .len(size as usize)
            .map_raw(&self.dma_buf)
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        for index in 0..size as usize / 4 {
            // SAFETY: inside the mapping.
            unsafe {
                map.as_mut_ptr()
                    .cast::<u32>()
                    .add(index)
                    .write_volatile(value(index));
            }
        }
        Ok(())
    }
}

/// A file of `vgem`'s, which imports other drivers' dma-bufs: it attaches to them, and stays
/// attached until it is dropped.
#[derive(Debug)]
pub struct Importer(File);

impl Importer {
    /// Loads `vgem` when it isn't there.
    pub fn new() -> Result<Self> {
        open().map(Self)
    }

    /// Imports a dma-buf.
    pub fn import(&self, dma_buf: BorrowedFd<'_>) -> Result<()> {
        let mut arg = abi::drm_prime_handle {
            fd: dma_buf.as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::prime_fd_to_handle(self.0.as_raw_fd(), &mut arg) }.map(drop)
    }
}
