// SPDX-License-Identifier: GPL-2.0-only

//! The whole device: what the vfio-user thread, the CP's thread and the speculative reader share.

use crate::board::Board;
use crate::ctl::Mailbox;
use crate::gmu::{self, Gmu};
use crate::gpu::{Gpu, GPU_BASE, GPU_SIZE};
use crate::mdp::{self, Mdp};
use crate::model::{Model, MODELS};
use crate::smmu::{self, Port, Smmu};
use crate::trace;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use vadreno_ctl::{counter, power};

/// Size of BAR0 in bytes.
pub const BAR0_SIZE: u64 = 0x10_0000;
/// Where the SMMU's registers start in BAR0.
const SMMU_BASE: u32 = 0xa_0000;
/// Size in bytes of BAR1, where the display is: its registers, and then its SMMU's.
pub const BAR1_SIZE: u64 = 0x20_0000;

/// The GPU's registers, by word, that its bus interface to CX has.
const GBIF_FIRST: u32 = 0x3c00;
const GBIF_LAST: u32 = 0x3c48;

/// The device.
#[derive(Debug)]
pub struct Device {
    /// Guest memory, interrupts, counters and settings.
    pub board: Board,
    /// The GPU's SMMU.
    pub smmu: Smmu,
    /// The display, if there is one.
    pub display: Option<Mdp>,
    /// Which GPU it is.
    pub model: &'static Model,
    /// The GPU.
    pub gpu: Gpu,
    /// The GMU, or its wrapper.
    pub gmu: Gmu,
    /// The control BAR's mailboxes.
    pub mailbox: Mailbox,
    /// Power domains that the guest's driver has switched on.
    supplied: AtomicU64,
    /// Power domains that are on.
    power: AtomicU64,
}

/// What lies at an offset of BAR0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// The GPU's register, by word.
    Gpu(u32),
    /// The GMU's register, by word as those of the GPU.
    Gmu(u32),
    /// The RSC's, by word.
    Rsc(u32),
    /// The PDC's, by word.
    Pdc(u32),
    /// Of its sequencer, by word.
    PdcSequencer(u32),
    /// Of those beside the GMU, by word.
    Misc(u32),
    /// The SMMU's register, by byte.
    Smmu(u32),
}

impl Block {
    fn at(model: &Model, offset: u64) -> Option<Self> {
        let offset = u32::try_from(offset).ok()?;
        let within = |base, size| {
            offset
                .checked_sub(base)
                .filter(|offset: &u32| *offset < size)
        };
        if let Some(offset) = within(GPU_BASE, GPU_SIZE) {
            return Some(Self::Gpu(offset / 4));
        }
        // The RSC's lie among the GMU's.
        let around = model.gmu.and_then(|gmu| {
            let word = gmu.rsc.word(offset).map(Self::Rsc);
            word.or_else(|| gmu.pdc.word(offset).map(Self::Pdc))
                .or_else(|| gmu.pdc_sequencer.word(offset).map(Self::PdcSequencer))
                .or_else(|| gmu.misc?.word(offset).map(Self::Misc))
        });
        around
            .or_else(|| {
                within(gmu::BASE, gmu::SIZE).map(|offset| Self::Gmu(gmu::FIRST + offset / 4))
            })
            .or_else(|| within(SMMU_BASE, smmu::SIZE).map(Self::Smmu))
    }

    fn domain(self) -> u64 {
        match self {
            // The GPU's bus interface is beside it.
            Self::Gpu(GBIF_FIRST..=GBIF_LAST) => power::CX,
            Self::Gpu(_) => power::GX,
            Self::Gmu(_) => power::CX,
            Self::Smmu(_) => power::CX | power::SMMU_CLOCK,
            Self::Rsc(_) | Self::Pdc(_) | Self::PdcSequencer(_) | Self::Misc(_) => 0,
        }
    }
}

impl Device {
    /// A device as it is after power-on.
    pub fn new(board: Board) -> Self {
        Self::of_model(board, &MODELS[0])
    }

    /// … with another GPU than the default one.
    pub fn of_model(board: Board, model: &'static Model) -> Self {
        let device = Self {
            board,
            smmu: Smmu::new(Port::GPU),
            display: None,
            model,
            gpu: Gpu::default(),
            gmu: Gmu::new(model.gmu),
            mailbox: Mailbox::default(),
            supplied: AtomicU64::new(power::ALL),
            power: AtomicU64::new(0),
        };
        device.settle_power();
        device
    }

    /// … with a display.
    pub fn with_display(self) -> Self {
        Self {
            display: Some(Mdp::default()),
            ..self
        }
    }

    /// The block at an offset of BAR0, if it has power.
    fn powered(&self, offset: u64) -> Option<Block> {
        let block = Block::at(self.model, offset)?;
        if self.power() & block.domain() != block.domain() {
            self.board.counters.bump(counter::OFF_ACCESSES);
            trace!(self.board.trace, "off-access offset={offset:#x}");
            match block {
                // On hardware the handler of a fault's interrupt is over before the GPU falls asleep.
                Block::Smmu(register) if !self.smmu.serves_fault(register) => self.board.find(
                    counter::SMMU_OFF,
                    format_args!(
                        "the SMMU's register {register:#x} is accessed without its power or clock"
                    ),
                ),
                _ => {}
            }
            return None;
        }
        Some(block)
    }

    /// The CPU reads a 32-bit register of BAR0; what has no power reads as 0.
    pub fn bar0_read(&self, offset: u64) -> u32 {
        match self.powered(offset) {
            None => 0,
            Some(Block::Smmu(offset)) => {
                self.board.counters.bump(counter::SMMU_READS);
                self.smmu.read(&self.board, offset)
            }
            Some(block) => {
                self.board.counters.bump(counter::GPU_READS);
                match block {
                    Block::Rsc(reg) => self.gmu.read_rsc(reg),
                    Block::Pdc(reg) => self.gmu.pdc().get(reg),
                    Block::PdcSequencer(reg) => self.gmu.pdc_sequencer().get(reg),
                    Block::Misc(reg) => self.gmu.misc().get(reg),
                    Block::Gpu(reg) | Block::Gmu(reg) | Block::Smmu(reg) => self.reg_read(reg),
                }
            }
        }
    }

    /// The CPU writes a 32-bit register of BAR0; what has no power drops it.
    pub fn bar0_write(&self, offset: u64, value: u32) {
        match self.powered(offset) {
            None => {}
            Some(Block::Smmu(offset)) => {
                self.board.counters.bump(counter::SMMU_WRITES);
                if let Some(resume) = self.smmu.write(&self.board, offset, value) {
                    self.gpu.resume(resume);
                }
            }
            Some(block) => {
                self.board.counters.bump(counter::GPU_WRITES);
                match block {
                    Block::Rsc(reg) => self.gmu.write_rsc(reg, value),
                    Block::Pdc(reg) => self.gmu.pdc().set(reg, value),
                    Block::PdcSequencer(reg) => self.gmu.pdc_sequencer().set(reg, value),
                    Block::Misc(reg) => self.gmu.misc().set(reg, value),
                    Block::Gpu(reg) | Block::Gmu(reg) | Block::Smmu(reg) => {
                        self.reg_write(reg, value)
                    }
                }
            }
        }
    }

    /// The CPU reads a 32-bit register of BAR1.
    pub fn bar1_read(&self, offset: u64) -> u32 {
        match (&self.display, u32::try_from(offset)) {
            (Some(display), Ok(offset @ ..mdp::SIZE)) => {
                self.board.counters.bump(counter::DISPLAY_READS);
                display.read(&self.board, offset)
            }
            (Some(display), Ok(offset)) if offset - mdp::SIZE < smmu::SIZE => {
                self.board.counters.bump(counter::SMMU_READS);
                display.smmu.read(&self.board, offset - mdp::SIZE)
            }
            _ => 0,
        }
    }

    /// The CPU writes a 32-bit register of BAR1.
    pub fn bar1_write(&self, offset: u64, value: u32) {
        match (&self.display, u32::try_from(offset)) {
            (Some(display), Ok(offset @ ..mdp::SIZE)) => {
                self.board.counters.bump(counter::DISPLAY_WRITES);
                display.write(&self.board, offset, value);
            }
            (Some(display), Ok(offset)) if offset - mdp::SIZE < smmu::SIZE => {
                self.board.counters.bump(counter::SMMU_WRITES);
                // The display's accesses don't stall: there is nobody to go on.
                display.smmu.write(&self.board, offset - mdp::SIZE, value);
            }
            _ => {}
        }
    }

    /// The CP or the crash dumper reads a register of the GPU or the GMU, by word.
    pub fn reg_read(&self, reg: u32) -> u32 {
        if reg >= gmu::FIRST {
            self.gmu.read(self, reg)
        } else {
            self.gpu.read(reg)
        }
    }

    /// The CP or the crash dumper writes a register of the GPU or the GMU, by word.
    pub fn reg_write(&self, reg: u32, value: u32) {
        if reg >= gmu::FIRST {
            self.gmu.write(self, reg, value);
        } else {
            self.gpu.write(self, reg, value);
        }
    }

    /// Power domains that are on.
    pub fn power(&self) -> u64 {
        self.power.load(Relaxed)
    }

    /// The guest's driver switches power domains; what goes off loses its registers.
    pub fn set_power(&self, on: u64) {
        self.supplied.store(on & power::ALL, Relaxed);
        if on & power::GX == 0 {
            self.gmu.gx_lost();
        }
        self.settle_power();
    }

    /// Switches what has power to what the driver and the GMU agree on.
    pub fn settle_power(&self) {
        let supplied = self.supplied.load(Relaxed);
        let withheld = if self.gmu.gx() { 0 } else { power::GX };
        let on = supplied & !withheld;
        let before = self.power.swap(on, Relaxed);
        let off = before & !on;
        trace!(self.board.trace, "power on={on} off={off}");
        if on & !before & power::GX != 0 && self.gpu.power_on() {
            self.board.counters.bump(counter::OFF_ACCESSES);
            trace!(self.board.trace, "off-access mapped");
        }
        if off & power::GX != 0 {
            self.gpu.power_off();
            self.smmu.gpu_off();
        }
        if off & power::CX != 0 {
            self.gmu.power_off();
            self.smmu.power_off();
        }
    }

    /// Back to the state after power-on; counters and settings from the command line stay.
    pub fn reset(&self) {
        trace!(self.board.trace, "reset");
        self.board.settings.hold_cp.store(false, Relaxed);
        self.gmu.reset();
        self.set_power(power::ALL);
        self.gpu.power_off();
        self.smmu.reset();
        if let Some(display) = &self.display {
            display.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bypass_device, SMMU};

    #[test]
    fn registers_by_block() {
        let device = bypass_device();
        let gmu = u64::from(gmu::BASE) + 8;
        let gpu = u64::from(GPU_BASE) + 0x8c00 * 4;
        assert_eq!(device.bar0_read(SMMU + 0x28), 0x1555);
        device.bar0_write(gpu, 5);
        device.bar0_write(gmu, 6);
        device.bar0_write(SMMU + 0x8020, 7);
        device.bar0_write(0x5_0000, 8);
        assert_eq!(device.bar0_read(gpu), 5);
        assert_eq!(device.bar0_read(gmu), 6);
        assert_eq!(device.bar0_read(SMMU + 0x8020), 7);
        assert_eq!(device.bar0_read(0x5_0000), 0);
        assert_eq!(device.bar0_read(u64::MAX), 0);
        let count = |offset| device.board.counters.get(offset).unwrap();
        assert_eq!(count(counter::SMMU_WRITES), 1);
        assert_eq!(count(counter::GPU_WRITES), 2);
    }

    #[test]
    fn power_off_loses_registers() {
        let device = bypass_device();
        let gmu = u64::from(gmu::BASE) + 8;
        let gpu = u64::from(GPU_BASE) + 0x8c00 * 4;
        device.bar0_write(gpu, 5);
        device.bar0_write(gmu, 6);
        device.bar0_write(SMMU + 0x8020, 7);
        device.set_power(power::CX | power::SMMU_CLOCK);
        assert_eq!(device.reg_read(0x8c00), 0);
        assert_eq!(device.bar0_read(gmu), 6);
        assert_eq!(device.bar0_read(SMMU + 0x8020), 7);
        device.set_power(0);
        device.set_power(power::ALL);
        assert_eq!(device.bar0_read(gmu), 0);
        assert_eq!(device.bar0_read(SMMU + 0x8020), 0);
        // Without power nothing is read or written.
        device.set_power(power::CX);
        device.bar0_write(gpu, 5);
        assert_eq!(device.reg_read(0x8c00), 0);
        let off = || device.board.counters.get(counter::OFF_ACCESSES);
        assert_eq!(off(), Some(1));
        // What the guest writes to memory that it maps is found when the power comes back.
        device.gpu.regs.set(0x8c00, 5);
        device.set_power(power::ALL);
        assert_eq!((device.reg_read(0x8c00), off()), (0, Some(2)));
    }
}
