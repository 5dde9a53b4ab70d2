// SPDX-License-Identifier: GPL-2.0-only

//! A register file: 32-bit words that the vfio-user thread, the CP's thread and, where they are
//! [`mappable`](crate::gpu::MAPPABLE), the guest share.
//!
//! Reads and writes take no lock, since a state capture reads some 40,000 registers.

use nix::sys::memfd::{memfd_create, MFdFlags};
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use vm_memory::mmap::MmapRegion;
use vm_memory::{FileOffset, VolatileMemory};

/// Words that keep what was last written to them, in memory that others can map.
#[derive(Debug)]
pub struct RegFile {
    memory: MmapRegion,
    start: usize,
    words: usize,
}

impl RegFile {
    /// `words` registers, all 0; the first at byte `start` of the memory.
    ///
    /// # Panics
    /// Without memory for them.
    pub fn new(words: usize, start: usize) -> Self {
        let size = start + 4 * words;
        let memory = memfd_create(c"registers", MFdFlags::MFD_CLOEXEC)
            .map_err(std::io::Error::from)
            .and_then(|fd| {
                let file = File::from(fd);
                file.set_len(size as u64)?;
                let file = FileOffset::new(file, 0);
                MmapRegion::from_file(file, size).map_err(std::io::Error::other)
            });
        match memory {
            Ok(memory) => Self {
                memory,
                start,
                words,
            },
            Err(error) => panic!("no memory for registers: {error}"),
        }
    }

    /// The memory, for others to map.
    pub fn fd(&self) -> Option<RawFd> {
        let file = self.memory.file_offset()?;
        Some(file.file().as_raw_fd())
    }

    fn word(&self, reg: u32) -> Option<&AtomicU32> {
        let reg = usize::try_from(reg).ok()?;
        if reg >= self.words {
            return None;
        }
        self.memory.get_atomic_ref(self.start + 4 * reg).ok()
    }

    /// The register at word offset `reg`; 0 beyond the last one.
    pub fn get(&self, reg: u32) -> u32 {
        self.word(reg).map_or(0, |word| word.load(Relaxed))
    }

    /// Two registers as one 64-bit value, the low half at `reg`.
    pub fn get64(&self, reg: u32) -> u64 {
        u64::from(self.get(reg)) | (u64::from(self.get(reg.wrapping_add(1))) << 32)
    }

    /// Writes the register at word offset `reg`; beyond the last one nothing happens.
    pub fn set(&self, reg: u32, value: u32) {
        if let Some(word) = self.word(reg) {
            word.store(value, Relaxed);
        }
    }

    /// Writes two registers, the low half at `reg`.
    pub fn set64(&self, reg: u32, value: u64) {
        self.set(reg, value as u32);
        self.set(reg.wrapping_add(1), (value >> 32) as u32);
    }

    /// Sets `bits` in a register.
    pub fn set_bits(&self, reg: u32, bits: u32) {
        if let Some(word) = self.word(reg) {
            word.fetch_or(bits, Relaxed);
        }
    }

    /// Clears `bits` in a register.
    pub fn clear_bits(&self, reg: u32, bits: u32) {
        if let Some(word) = self.word(reg) {
            word.fetch_and(!bits, Relaxed);
        }
    }

    /// Loses all state.
    pub fn reset(&self) {
        for word in (0..).map_while(|reg| self.word(reg)) {
            word.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_is_harmless() {
        let regs = RegFile::new(4, 8);
        regs.set(4, 1);
        regs.set64(3, u64::MAX);
        regs.set_bits(u32::MAX, 1);
        assert_eq!(regs.get(4), 0);
        assert_eq!(regs.get64(3), 0xffff_ffff);
        assert_eq!(regs.get64(u32::MAX), 0);
        regs.reset();
        assert_eq!(regs.get(3), 0);
    }
}
