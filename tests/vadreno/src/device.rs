// SPDX-License-Identifier: GPL-2.0-only

//! The whole device: what the vfio-user thread, the CP's thread and the speculative reader share.

use crate::board::Board;
use crate::gpu::{Gpu, GMU_BASE, GMU_SIZE, GPU_SIZE};
use crate::smmu::{self, Smmu};
use crate::trace;
use crate::trace::Trace;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vadreno_ctl::{counter, power};

/// Size of BAR0 in bytes.
pub const REGISTERS_SIZE: u32 = 0x10_0000;
/// Where the SMMU's registers start in BAR0.
const SMMU_BASE: u32 = 0xa_0000;

/// The device.
#[derive(Debug)]
pub struct Device {
    /// Guest memory, interrupts, counters and settings.
    pub board: Board,
    /// The SMMU.
    pub smmu: Smmu,
    /// The GPU.
    pub gpu: Gpu,
    /// Power domains that are on.
    power: AtomicU64,
}

impl Device {
    /// A device as it is after reset.
    pub fn new(trace: Trace, seed: u64) -> Self {
        Self {
            board: Board::new(trace, seed),
            smmu: Smmu::default(),
            gpu: Gpu::default(),
            power: AtomicU64::new(power::CX | power::GX),
        }
    }

    /// The CPU reads a 32-bit register of BAR0.
    pub fn read(&self, offset: u32) -> u32 {
        if let Some(offset) = within(offset, SMMU_BASE, smmu::SIZE) {
            self.board.counters.bump(counter::SMMU_READS);
            self.smmu.read(&self.board, offset)
        } else {
            self.board.counters.bump(counter::GPU_READS);
            self.gpu.read(offset / 4)
        }
    }

    /// The CPU writes a 32-bit register of BAR0.
    pub fn write(&self, offset: u32, value: u32) {
        if let Some(offset) = within(offset, SMMU_BASE, smmu::SIZE) {
            self.board.counters.bump(counter::SMMU_WRITES);
            if let Some(resume) = self.smmu.write(&self.board, offset, value) {
                self.gpu.resume(resume);
            }
        } else if offset < GPU_SIZE || within(offset, GMU_BASE, GMU_SIZE).is_some() {
            self.board.counters.bump(counter::GPU_WRITES);
            self.gpu.write(self, offset / 4, value);
        }
    }

    /// Power domains that are on.
    pub fn power(&self) -> u64 {
        self.power.load(Relaxed)
    }

    /// Switches power domains; what goes off loses its registers.
    pub fn set_power(&self, on: u64) {
        let off = self.power.swap(on, Relaxed) & !on;
        trace!(self.board.trace, "power on={on} off={off}");
        if off & power::GX != 0 {
            self.gpu.power_off();
        }
        if off & power::CX != 0 {
            self.gpu.gmu_power_off();
            self.smmu.power_off();
        }
    }

    /// Back to the state after power-on; counters and settings from the command line stay.
    pub fn reset(&self) {
        trace!(self.board.trace, "reset");
        self.board.settings.hold_cp.store(false, Relaxed);
        self.power.store(power::CX | power::GX, Relaxed);
        self.gpu.power_off();
        self.gpu.gmu_power_off();
        self.smmu.reset();
    }
}

/// `offset` from `base`, when it lies in the `size` bytes there.
fn within(offset: u32, base: u32, size: u32) -> Option<u32> {
    offset.checked_sub(base).filter(|offset| *offset < size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::device;

    #[test]
    fn registers_by_block() {
        let device = device();
        assert_eq!(device.read(SMMU_BASE + 0x28), 0x1555);
        device.write(0x8c00 * 4, 5);
        device.write(GMU_BASE + 8, 6);
        device.write(SMMU_BASE + 0x8020, 7);
        device.write(0x5_0000, 8);
        assert_eq!(device.read(0x8c00 * 4), 5);
        assert_eq!(device.read(GMU_BASE + 8), 6);
        assert_eq!(device.read(SMMU_BASE + 0x8020), 7);
        assert_eq!(device.read(0x5_0000), 0);
        let count = |offset| device.board.counters.get(offset).unwrap();
        assert_eq!(count(counter::SMMU_WRITES), 1);
        assert_eq!(count(counter::GPU_WRITES), 2);
    }

    #[test]
    fn power_off_loses_registers() {
        let device = device();
        device.write(0x8c00 * 4, 5);
        device.write(GMU_BASE + 8, 6);
        device.write(SMMU_BASE + 0x8020, 7);
        device.set_power(power::CX);
        assert_eq!(device.read(0x8c00 * 4), 0);
        assert_eq!(device.read(GMU_BASE + 8), 6);
        assert_eq!(device.read(SMMU_BASE + 0x8020), 7);
        device.set_power(0);
        assert_eq!(device.read(GMU_BASE + 8), 0);
        assert_eq!(device.read(SMMU_BASE + 0x8020), 0);
        // Switching on alone changes nothing.
        device.write(0x8c00 * 4, 5);
        device.set_power(power::CX | power::GX);
        assert_eq!(device.read(0x8c00 * 4), 5);
    }

    #[test]
    fn any_offset_is_harmless() {
        let device = device();
        for offset in (0..REGISTERS_SIZE).step_by(4) {
            device.read(offset);
            device.write(offset, u32::MAX);
        }
    }
}
