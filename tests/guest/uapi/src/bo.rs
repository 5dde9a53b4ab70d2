// SPDX-License-Identifier: GPL-2.0-only

//! Buffer objects.

use crate::{abi, deadline, Device, Errno, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

/// A GEM handle; closed when dropped.
#[derive(Debug)]
pub struct Bo {
    device: Device,
    handle: u32,
    size: u64,
}

impl Bo {
    /// Allocates a write-combined BO of `size` bytes.
    pub fn new(device: &Device, size: u64) -> Result<Self> {
        Self::with_flags(device, size, abi::MSM_BO_WC)
    }

    /// Allocates a BO with the given `MSM_BO_*` flags.
    pub fn with_flags(device: &Device, size: u64, flags: u32) -> Result<Self> {
        let mut arg = abi::drm_msm_gem_new {
            size,
            flags,
            handle: 0,
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::msm_gem_new(device.raw_fd(), &mut arg) }?;
        Ok(Self {
            device: device.clone(),
            handle: arg.handle,
            size,
        })
    }

    /// Allocates a dumb BO for a picture with 32 bits for a pixel, whose rows follow each other
    /// without a gap if `width` is a multiple of 32.
    pub fn dumb(device: &Device, width: u32, height: u32) -> Result<Self> {
        let mut arg = abi::drm_mode_create_dumb {
            height,
            width,
            bpp: 32,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::mode_create_dumb(device.raw_fd(), &mut arg) }?;
        Ok(Self {
            device: device.clone(),
            handle: arg.handle,
            size: arg.size,
        })
    }

    /// Maps a dumb BO for the CPU, as one does who knows nothing of the driver.
    pub fn map_dumb(&self) -> Result<Mapping> {
        let mut arg = abi::drm_mode_map_dumb {
            handle: self.handle,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::mode_map_dumb(self.device.raw_fd(), &mut arg) }?;
        self.map_at(arg.offset)
    }

    /// Imports a dma-buf of `size` bytes.
    pub fn import(device: &Device, dma_buf: BorrowedFd<'_>, size: u64) -> Result<Self> {
        let mut arg = abi::drm_prime_handle {
            fd: dma_buf.as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::prime_fd_to_handle(device.raw_fd(), &mut arg) }?;
        Ok(Self {
            device: device.clone(),
            handle: arg.handle,
            size,
        })
    }

    /// Exports the BO as a dma-buf.
    ///
    /// # Errors
    /// `EPERM` for `MSM_BO_NO_SHARE`.
    pub fn export(&self) -> Result<OwnedFd> {
        let mut arg = abi::drm_prime_handle {
            handle: self.handle,
            flags: abi::DRM_CLOEXEC | abi::DRM_RDWR,
            fd: -1,
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::prime_handle_to_fd(self.device.raw_fd(), &mut arg) }?;
        // SAFETY: the kernel just installed this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(arg.fd) })
    }

    /// Leaves the handle to the closing of the file.
    pub fn leave_open(mut self) {
        // There is no handle 0 to close.
        self.handle = 0;
    }

    /// The file that the handle is of.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The GEM handle.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// The size in bytes that was asked for.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn info(&self, info: u32, value: u64, len: u32) -> Result<abi::drm_msm_gem_info> {
        let mut arg = abi::drm_msm_gem_info {
            handle: self.handle,
            info,
            value,
            len,
            pad: 0,
        };
        // SAFETY: the callers below pass pointers to buffers of `len` bytes that outlive the call.
        unsafe { abi::ioctl::msm_gem_info(self.device.raw_fd(), &mut arg) }?;
        Ok(arg)
    }

    /// The iova in a kernel-managed VM, allocated when there is none yet.
    pub fn iova(&self) -> Result<u64> {
        Ok(self.info(abi::MSM_INFO_GET_IOVA, 0, 0)?.value)
    }

    /// Sets the iova in a kernel-managed VM; 0 removes it.
    pub fn set_iova(&self, iova: u64) -> Result<()> {
        self.info(abi::MSM_INFO_SET_IOVA, iova, 0).map(drop)
    }

    /// Sets the name that debugfs and crash dumps show (at most 31 bytes).
    pub fn set_name(&self, name: &str) -> Result<()> {
        self.info(
            abi::MSM_INFO_SET_NAME,
            name.as_ptr() as u64,
            name.len() as u32,
        )
        .map(drop)
    }

    /// Stores up to 128 bytes of metadata.
    pub fn set_metadata(&self, data: &[u8]) -> Result<()> {
        self.info(
            abi::MSM_INFO_SET_METADATA,
            data.as_ptr() as u64,
            data.len() as u32,
        )
        .map(drop)
    }

    /// The metadata that [`set_metadata`](Self::set_metadata) stored.
    pub fn metadata(&self) -> Result<Vec<u8>> {
        let mut data = vec![0u8; self.info(abi::MSM_INFO_GET_METADATA, 0, 0)?.len as usize];
        if !data.is_empty() {
            self.info(
                abi::MSM_INFO_GET_METADATA,
                data.as_mut_ptr() as u64,
                data.len() as u32,
            )?;
        }
        Ok(data)
    }

    /// Maps the whole BO for the CPU.
    pub fn map(&self) -> Result<Mapping> {
        self.map_at(self.info(abi::MSM_INFO_GET_OFFSET, 0, 0)?.value)
    }

    fn map_at(&self, offset: u64) -> Result<Mapping> {
        Mapping::new(self.device.raw_fd(), offset, self.size)
    }

    /// Whether the whole BO can be mapped for the CPU with `MAP_PRIVATE`. Nothing is accessed.
    pub fn map_private(&self) -> Result<()> {
        let offset = self.info(abi::MSM_INFO_GET_OFFSET, 0, 0)?.value;
        let mut options = MmapOptions::new();
        options.offset(offset).len(self.size as usize);
        // SAFETY: the mapping is dropped at once.
        unsafe { options.map_copy(self.device.raw_fd()) }
            .map(drop)
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// Fills the BO with a dword per position, through the CPU.
    pub fn fill(&self, value: impl FnMut(usize) -> u32) -> Result<()> {
        self.map()?.fill(value);
        Ok(())
    }

    /// `MSM_MADV_*`; returns whether the pages are still there.
    pub fn madvise(&self, madv: u32) -> Result<bool> {
        let mut arg = abi::drm_msm_gem_madvise {
            handle: self.handle,
            madv,
            retained: 0,
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::msm_gem_madvise(self.device.raw_fd(), &mut arg) }?;
        Ok(arg.retained != 0)
    }

    /// Waits until nobody uses the BO any more in the way that `op` (`MSM_PREP_*`) conflicts with.
    pub fn cpu_prep(&self, op: u32, timeout: Duration) -> Result<()> {
        let end = deadline(timeout);
        let arg = abi::drm_msm_gem_cpu_prep {
            handle: self.handle,
            op,
            timeout: abi::drm_msm_timespec {
                tv_sec: end / 1_000_000_000,
                tv_nsec: end % 1_000_000_000,
            },
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::msm_gem_cpu_prep(self.device.raw_fd(), &arg) }?;
        Ok(())
    }
}

impl Drop for Bo {
    fn drop(&mut self) {
        // A handle can only be gone already when a test closed it on purpose.
        let _ = self.device.close_handle(self.handle);
    }
}

/// A BO's pages in the process's address space. The GPU may change them at any time.
#[derive(Debug)]
pub struct Mapping {
    map: MmapRaw,
}

impl Mapping {
    fn new(file: RawFd, offset: u64, length: u64) -> Result<Self> {
        let map = MmapOptions::new()
            .offset(offset)
            .len(length as usize)
            .map_raw(file)
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        Ok(Self { map })
    }

    /// The first `length` bytes of another file than the driver's: a frame buffer's.
    pub fn of_file(file: &File, length: u64) -> Result<Self> {
        Self::new(file.as_raw_fd(), 0, length)
    }

    /// The number of dwords.
    pub fn len(&self) -> usize {
        self.map.len() / 4
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn at(&self, index: usize) -> *mut u32 {
        assert!(
            index < self.len(),
            "dword {index} of a BO of {}",
            self.len()
        );
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.map.as_mut_ptr().cast::<u32>().add(index) }
    }

    /// The dword at `index` (in dwords).
    pub fn read(&self, index: usize) -> u32 {
        // SAFETY: the pointer is valid and aligned; volatile since the GPU writes as well.
        unsafe { self.at(index).read_volatile() }
    }

    /// Sets the dword at `index` (in dwords).
    pub fn write(&self, index: usize, value: u32) {
        // SAFETY: as above.
        unsafe { self.at(index).write_volatile(value) }
    }

    /// The dword at `index`, read by the kernel: an access that faults for good is an error.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn try_read(&self, index: usize) -> Result<u32> {
        let (reader, writer) = nix::unistd::pipe()?;
        self.write_to(writer.as_fd(), index)?;
        let mut bytes = [0; 4];
        nix::unistd::read(&reader, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// Has the kernel write the dword at `index` to a file. One system call.
    ///
    /// # Errors
    /// `EFAULT` if it can't be read.
    pub fn write_to(&self, file: BorrowedFd<'_>, index: usize) -> Result<()> {
        // SAFETY: inside the mapping; the kernel checks whether it can be read.
        let written = unsafe { libc::write(file.as_raw_fd(), self.at(index).cast(), 4) };
        Errno::result(written).map(drop)
    }

    /// Unmaps the first `bytes`, a multiple of the page size. They may not be accessed any more.
    pub fn unmap_front(&self, bytes: u64) -> Result<()> {
        let len = std::num::NonZeroUsize::new(bytes as usize).ok_or(Errno::EINVAL)?;
        assert!(bytes <= 4 * self.len() as u64, "{bytes} bytes of a BO");
        // SAFETY: our own mapping, whose drop doesn't mind the hole; the caller's promise.
        Errno::result(unsafe { libc::munmap(self.map.as_mut_ptr().cast(), len.get()) }).map(drop)
    }

    /// Sets every dword.
    pub fn fill(&self, mut value: impl FnMut(usize) -> u32) {
        for index in 0..self.len() {
            self.write(index, value(index));
        }
    }
}
