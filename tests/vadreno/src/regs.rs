// SPDX-License-Identifier: GPL-2.0-only

//! A register file: 32-bit words that the vfio-user thread and the CP's thread share.
//!
//! Reads and writes take no lock, since a state capture reads some 40,000 registers.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Words that keep what was last written to them.
#[derive(Debug)]
pub struct RegFile(Box<[AtomicU32]>);

impl RegFile {
    /// `words` registers, all 0.
    pub fn new(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU32::new(0)).collect())
    }

    /// The register at word offset `reg`; 0 beyond the last one.
    pub fn get(&self, reg: u32) -> u32 {
        self.0
            .get(reg as usize)
            .map_or(0, |word| word.load(Relaxed))
    }

    /// Two registers as one 64-bit value, the low half at `reg`.
    pub fn get64(&self, reg: u32) -> u64 {
        u64::from(self.get(reg)) | (u64::from(self.get(reg.wrapping_add(1))) << 32)
    }

    /// Writes the register at word offset `reg`; beyond the last one nothing happens.
    pub fn set(&self, reg: u32, value: u32) {
        if let Some(word) = self.0.get(reg as usize) {
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
        if let Some(word) = self.0.get(reg as usize) {
            word.fetch_or(bits, Relaxed);
        }
    }

    /// Clears `bits` in a register.
    pub fn clear_bits(&self, reg: u32, bits: u32) {
        if let Some(word) = self.0.get(reg as usize) {
            word.fetch_and(!bits, Relaxed);
        }
    }

    /// Loses all state.
    pub fn reset(&self) {
        for word in &self.0 {
            word.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_is_harmless() {
        let regs = RegFile::new(4);
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
