// SPDX-License-Identifier: GPL-2.0-only
//! The command processor when it was stopped: what its registers say, and where in the command
//! stream that is.

pub mod layout;
pub mod position;

use crate::dump::{
    Dump,
    Ring, //
};
use crate::pm4::Generation;
use layout::{
    Buffer,
    Error,
    Layout, //
};

/// A dump's registers, with their meaning.
#[derive(Debug, Clone, Copy)]
pub struct Registers<'a> {
    dump: &'a Dump,
    /// Which GPU.
    pub generation: Generation,
    /// Where its registers are.
    pub layout: &'static Layout,
}

impl<'a> Registers<'a> {
    /// `None`: of a GPU that this tool doesn't know.
    pub fn new(dump: &'a Dump) -> Option<Registers<'a>> {
        let generation = Generation::of(dump.revision.as_ref()?)?;
        Some(Registers {
            dump,
            generation,
            layout: Layout::of(generation),
        })
    }

    /// A register's value, by dword offset.
    pub fn get(&self, register: u32) -> Option<u32> {
        let offset = register.checked_mul(4)?;
        let mut registers = self.dump.registers.iter();
        registers.find(|r| r.offset == offset).map(|r| r.value)
    }

    /// An address, which two registers hold where it has 64 bits.
    pub fn address(&self, register: u32) -> Option<u64> {
        let low = self.get(register)?;
        let high = match self.layout.wide {
            true => self.get(register + 1)?,
            false => 0,
        };
        Some((u64::from(high) << 32) | u64::from(low))
    }

    /// RBBM_STATUS: of the registers, or as it was read first.
    pub fn status(&self) -> Option<u32> {
        let first = self.dump.rbbm_status.and_then(|n| u32::try_from(n).ok());
        // Some kernels print 0 for it when they read it too late.
        self.get(self.layout.status).or(first)
    }

    /// The SMMU holds an access back until its page fault is dealt with.
    pub fn is_stalled(&self) -> bool {
        let status = self.layout.status3.and_then(|register| self.get(register));
        status.is_some_and(|value| (value >> 24) & 1 != 0)
    }

    /// What the CP complains about.
    pub fn errors(&self) -> Vec<Error> {
        let (register, bits) = self.layout.errors;
        let value = self.get(register).unwrap_or(0);
        bits.iter()
            .filter(|&&(bit, _)| (value >> bit) & 1 != 0)
            .map(|&(_, error)| error)
            .collect()
    }

    /// Dwords of an indirect buffer that have not been executed.
    fn left(&self, buffer: Buffer) -> Option<u64> {
        let queued = buffer.queued.and_then(|register| self.get(register));
        // The dword that is being executed counts as queued.
        let queued = (queued.unwrap_or(0) >> 16).saturating_sub(1);
        Some(u64::from(self.get(buffer.rest)?) + u64::from(queued))
    }

    /// The ring that the CP reads, by its place in the list: that of CP_RB_BASE, or the first with
    /// work.
    pub fn ring(&self) -> Option<(usize, &'a Ring)> {
        let base = self.address(self.layout.ring_base);
        let mut rings = self.dump.rings.iter().enumerate();
        rings
            .clone()
            .find(|(_, ring)| base == Some(ring.iova))
            .or_else(|| rings.find(|(_, ring)| pending(ring) > 0))
            .or_else(|| self.dump.rings.iter().enumerate().next())
    }

    /// How far the CP has read in a ring, in dwords.
    pub fn ring_position(&self, ring: &Ring) -> u64 {
        let words = (ring.size / 4).max(1);
        let current = self.address(self.layout.ring_base) == Some(ring.iova);
        let read = self.get(self.layout.ring_read).filter(|_| current);
        let Some(read) = read.map(u64::from).filter(|&read| read < words) else {
            return ring.rptr;
        };
        let queued = self
            .layout
            .ring_queued
            .and_then(|register| self.get(register));
        let queued = u64::from(queued.unwrap_or(0) >> 16).min(words);
        (read + words - queued) % words
    }
}

/// How many submits of a ring have not been done. Fences are 32 bits that wrap.
pub fn pending(ring: &Ring) -> u32 {
    (ring.last_fence as u32).wrapping_sub(ring.retired_fence as u32)
}
