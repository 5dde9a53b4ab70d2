// SPDX-License-Identifier: GPL-2.0-only

//! A page of a file in memory that doesn't go when the file gives it up.

use crate::{Errno, PAGE};
use memmap2::MmapMut;
use nix::{
    fcntl::{vmsplice, SpliceFFlags},
    sys::memfd::{memfd_create, MFdFlags},
};
use std::{
    fs::File,
    io::{self, IoSlice},
    os::{fd::OwnedFd, unix::fs::FileExt},
};

/// A page of a file that a pipe refers to, too, as the kernel's own batches of pages do for a while.
#[derive(Debug)]
pub struct SharedPage {
    file: File,
    address: u64,
    _pipe: (OwnedFd, OwnedFd),
}

impl SharedPage {
    /// One that is full of zeros.
    pub fn new() -> io::Result<Self> {
        let file = File::from(memfd_create("shared page", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(PAGE)?;
        // SAFETY: nobody else has the file, which keeps its length as long as the mapping is there.
        let mut map = unsafe { MmapMut::map_mut(&file) }?;
        map[0] = 0;
        let pipe = nix::unistd::pipe()?;
        let len = vmsplice(&pipe.1, &[IoSlice::new(&map)], SpliceFFlags::empty())?;
        if len != map.len() {
            return Err(Errno::EIO.into());
        }
        // Documentation/admin-guide/mm/pagemap.rst: the low 55 bits are the page's number, which is
        // 0 for who may not see it; the highest says that the page is there.
        let mut entry = [0; 8];
        let at = map.as_ptr() as u64 / PAGE * 8;
        let pages = File::open("/proc/self/pagemap")?;
        pages.read_exact_at(&mut entry, at)?;
        let entry = u64::from_le_bytes(entry);
        let address = (entry & ((1 << 55) - 1)) * PAGE;
        if entry >> 63 == 0 || address == 0 {
            return Err(Errno::EFAULT.into());
        }
        Ok(Self {
            file,
            address,
            _pipe: pipe,
        })
    }

    /// Its physical address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The file gives it up: only the pipe has it now.
    pub fn give_up(&self) -> io::Result<()> {
        self.file.set_len(0)
    }
}
