// SPDX-License-Identifier: GPL-2.0-only

//! A page whose reader waits until the test lets it go on, also when it is the kernel.

use crate::{Errno, Result, PAGE};
use memmap2::{Advice, MmapMut, UncheckedAdvice};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::{
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// From `linux/userfaultfd.h`.
mod abi {
    pub const API: u64 = 0xaa;
    pub const MODE_MISSING: u64 = 1;
    pub const EVENT_PAGEFAULT: u8 = 0x12;

    #[repr(C)]
    pub struct Api {
        pub api: u64,
        pub features: u64,
        pub ioctls: u64,
    }

    #[repr(C)]
    pub struct Register {
        pub start: u64,
        pub len: u64,
        pub mode: u64,
        pub ioctls: u64,
    }

    #[repr(C)]
    pub struct Copy {
        pub dst: u64,
        pub src: u64,
        pub len: u64,
        pub mode: u64,
        pub copied: i64,
    }

    nix::ioctl_readwrite!(api, 0xaa, 0x3f, Api);
    nix::ioctl_readwrite!(register, 0xaa, 0x00, Register);
    nix::ioctl_readwrite!(copy, 0xaa, 0x03, Copy);
}

/// A page of this process that isn't there: who reads it waits for [`HeldPage::release`].
#[derive(Debug)]
pub struct HeldPage {
    map: MmapMut,
    faults: OwnedFd,
}

impl HeldPage {
    /// A page that isn't there.
    pub fn new() -> Result<Self> {
        let io = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
        let map = MmapMut::map_anon(PAGE as usize).map_err(io)?;
        map.advise(Advice::NoHugePage)
            .or_else(|e| match e.raw_os_error() {
                // A kernel without huge pages.
                Some(libc::EINVAL) => Ok(()),
                _ => Err(io(e)),
            })?;
        // SAFETY: the call makes a descriptor, which is ours.
        let faults = unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK);
            OwnedFd::from_raw_fd(Errno::result(fd)? as i32)
        };
        let mut api = abi::Api {
            api: abi::API,
            features: 0,
            ioctls: 0,
        };
        let mut register = abi::Register {
            start: map.as_ptr() as u64,
            len: PAGE,
            mode: abi::MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: the arguments are valid for the calls, and the page is ours.
        unsafe {
            abi::api(faults.as_raw_fd(), &mut api)?;
            abi::register(faults.as_raw_fd(), &mut register)?;
        }
        Ok(Self { map, faults })
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.map.as_ptr() as u64
    }

    /// Waits until somebody waits for the page.
    ///
    /// # Errors
    /// `ETIMEDOUT`.
    pub fn wait_for_reader(&self, timeout: Duration) -> Result<()> {
        let mut fds = [PollFd::new(self.faults.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).map_err(|_| Errno::EINVAL)?;
        if poll(&mut fds, timeout)? == 0 {
            return Err(Errno::ETIMEDOUT);
        }
        let mut message = [0; 32];
        let len = nix::unistd::read(&self.faults, &mut message)?;
        if len != message.len() || message[0] != abi::EVENT_PAGEFAULT {
            return Err(Errno::EIO);
        }
        Ok(())
    }

    /// Lets the readers go on, who find `bytes` at the beginning of the page.
    pub fn release(&self, bytes: &[u8]) -> Result<()> {
        let mut page = [0; PAGE as usize];
        page[..bytes.len()].copy_from_slice(bytes);
        let mut copy = abi::Copy {
            dst: self.address(),
            src: page.as_ptr() as u64,
            len: PAGE,
            mode: 0,
            copied: 0,
        };
        // SAFETY: the argument is valid for the call, and both pages are ours.
        unsafe { abi::copy(self.faults.as_raw_fd(), &mut copy) }?;
        Ok(())
    }

    /// Takes the page away again.
    pub fn hold(&mut self) -> Result<()> {
        // SAFETY: nobody has a reference into the page.
        unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) }
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
    }
}
