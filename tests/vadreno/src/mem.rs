// SPDX-License-Identifier: GPL-2.0-only

//! The guest's memory, as QEMU shares it (vfio-user DMA_MAP with a file descriptor).

use crate::walk::Tables;
use std::fs::File;
use std::io;
use std::sync::{PoisonError, RwLock};
use thiserror::Error;
use vm_memory::mmap::MmapRegion;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap,
};

/// No guest memory at a physical address.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("no guest memory at {0:#x}")]
pub struct NoMemory(pub u64);

/// All regions that are mapped now.
#[derive(Debug, Default)]
pub struct Memory(RwLock<GuestMemoryMmap>);

impl Memory {
    /// Maps `size` bytes of `file` from `offset` at guest-physical `address`.
    pub fn map(&self, file: File, offset: u64, address: u64, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let region =
            MmapRegion::from_file(FileOffset::new(file, offset), size).map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(region, GuestAddress(address))
            .ok_or_else(|| io::Error::other("region wraps around"))?;
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *memory = memory
            .insert_region(region.into())
            .map_err(io::Error::other)?;
        Ok(())
    }

    /// Unmaps each region that lies in `size` bytes at `address`.
    pub fn unmap(&self, address: u64, size: u64) {
        let end = address.saturating_add(size);
        let mut memory = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = memory
            .iter()
            .map(|region| (region.start_addr(), region.len()))
            .filter(|(start, len)| start.0 >= address && start.0.saturating_add(*len) <= end)
            .collect();
        for (start, len) in gone {
            if let Ok((rest, _)) = memory.remove_region(start, len) {
                *memory = rest;
            }
        }
    }

    /// Reads bytes at a physical address.
    pub fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), NoMemory> {
        let memory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        memory
            .read_slice(buf, GuestAddress(pa))
            .map_err(|_| NoMemory(pa))
    }

    /// Writes bytes at a physical address.
    pub fn write(&self, pa: u64, buf: &[u8]) -> Result<(), NoMemory> {
        let memory = self.0.read().unwrap_or_else(PoisonError::into_inner);
        memory
            .write_slice(buf, GuestAddress(pa))
            .map_err(|_| NoMemory(pa))
    }
}

impl Tables for Memory {
    fn descriptor(&self, pa: u64) -> Option<u64> {
        let mut buf = [0; 8];
        self.read(pa, &mut buf).ok()?;
        Some(u64::from_le_bytes(buf))
    }

    fn copy(&self, pa: u64, buf: &mut [u8]) -> Option<()> {
        self.read(pa, buf).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory;

    #[test]
    fn mapped_then_gone() {
        let mem = memory(0x4000_0000, 0x4000);
        mem.write(0x4000_3ffc, &[1, 2, 3, 4]).unwrap();
        let mut buf = [0; 4];
        mem.read(0x4000_3ffc, &mut buf).unwrap();
        assert_eq!(buf, [1, 2, 3, 4]);
        assert_eq!(mem.write(0x4000_3ffd, &buf), Err(NoMemory(0x4000_3ffd)));
        assert_eq!(mem.read(0, &mut buf), Err(NoMemory(0)));
        assert_eq!(mem.read(u64::MAX, &mut buf), Err(NoMemory(u64::MAX)));
        mem.unmap(0x4000_0000, 0x4000);
        assert_eq!(mem.read(0x4000_0000, &mut buf), Err(NoMemory(0x4000_0000)));
    }
}
