// SPDX-License-Identifier: GPL-2.0-only

//! The GPU's registers, and what the CPU and the CP know of each other
//! through them.
//!
//! Registers are numbered in words, as in `a6xx.xml` of Linux
//! (`drivers/gpu/drm/msm/registers/adreno`). All that is not named here keeps what was written.

use crate::board::Board;
use crate::crashdump;
use crate::device::Device;
use crate::irq;
use crate::preempt;
use crate::regs::RegFile;
use crate::smmu::Resume;
use crate::trace;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vadreno_ctl::counter;

/// Bytes of GPU registers in BAR0.
pub const GPU_SIZE: u32 = 0x4_0000;

const RBBM_GBIF_HALT: u32 = 0x16;
const RBBM_GBIF_HALT_ACK: u32 = 0x17;
const RBBM_INT_CLEAR_CMD: u32 = 0x37;
const RBBM_INT_0_MASK: u32 = 0x38;
const RBBM_SW_RESET_CMD: u32 = 0x43;
const RBBM_INT_0_STATUS: u32 = 0x201;
const RBBM_STATUS: u32 = 0x210;
const RBBM_STATUS_BUSY: u32 = 1 << 23;
const RBBM_STATUS3: u32 = 0x213;
const RBBM_STATUS3_SMMU_STALLED: u32 = 1 << 24;
const RBBM_PERFCTR_SRAM_INIT_STATUS: u32 = 0x50f;
const GBIF_HALT: u32 = 0x3c45;
const GBIF_HALT_ACK: u32 = 0x3c46;
/// Address of the ring.
pub const CP_RB_BASE: u32 = 0x800;
/// Size of the ring and flags.
pub const CP_RB_CNTL: u32 = 0x802;
/// Dwords of a ring, from [`CP_RB_CNTL`].
pub fn ring_size(cntl: u32) -> u32 {
    1 << ((cntl & 0x3f) + 1).min(28)
}
/// Where the CP writes rptr.
pub const CP_RB_RPTR_ADDR: u32 = 0x804;
const CP_RB_RPTR: u32 = 0x806;
/// End of what is in the ring; a write starts the CP.
pub const CP_RB_WPTR: u32 = 0x807;
const CP_SQE_CNTL: u32 = 0x808;
const CP_SQE_RUN: u32 = 1;
const CP_SQE_HALT: u32 = 1 << 1;
const CP_CRASH_DUMP_SCRIPT_BASE: u32 = 0x900;
const CP_CRASH_DUMP_CNTL: u32 = 0x902;
const CP_CRASH_DUMP_STATUS: u32 = 0x903;
const CP_CRASH_DUMP_DONE: u32 = 1 << 1;
/// Address of the first-level IB, and after it what is left of it; then the same for the second
/// level.
pub const CP_IB1_BASE: u32 = 0x928;
/// What the CP has to say of itself.
pub const CP_INTERRUPT_STATUS: u32 = 0x823;
/// Data of the SQE; here the packet that hangs it.
pub const CP_SQE_STAT_DATA: u32 = 0x909;
/// Which client of UCHE caused the last fault.
pub const UCHE_CLIENT_PF: u32 = 0xe19;
const CP_ALWAYS_ON_COUNTER: u32 = 0x980;
const CP_ALWAYS_ON_CONTEXT: u32 = 0x982;

/// Registers, by word, that keep what was written and do nothing else. QEMU maps their memory, so
/// that the guest reaches them without a message to this process: a state capture reads
/// CP_SQE_UCODE_DBG_DATA alone 32,768 times. What is read there without power isn't seen; what is
/// written is, and lost, when the power comes back.
///
/// What is mapped begins at a page, of BAR0 and of the memory, which has BAR0's layout. So each
/// range begins where the first does in its page, and the GPU's registers at [`GPU_BASE`].
pub const MAPPABLE: [Range<u32>; 3] = [0x904..0x980, 0xd04..0x3c04, 0x4104..GPU_SIZE / 4];
/// Where the GPU's registers start in BAR0.
pub const GPU_BASE: u32 = PAGE - (MAPPABLE[0].start * 4) % PAGE;
const PAGE: u32 = 0x1000;

/// Which of the CP's accesses are privileged.
pub const CP_APRIV_CNTL: u32 = 0x844;

/// Bits of [`CP_APRIV_CNTL`].
pub mod apriv {
    /// Fetching the ring.
    pub const RING_FETCH: u32 = 1 << 1;
    /// What the ring's packets do.
    pub const RING: u32 = 1 << 2;
    /// Writing rptr.
    pub const RPTR: u32 = 1 << 3;
    /// What the crash dumper reads.
    pub const DUMPER_READ: u32 = 1 << 5;
    /// What the crash dumper writes.
    pub const DUMPER_WRITE: u32 = 1 << 6;
}

/// Bits of RBBM_INT_0.
pub mod int {
    /// The CP has gone over to another ring.
    pub const CP_SW: u32 = 8;
    /// The CP has met something that it cannot go on from.
    pub const CP_HW_ERROR: u32 = 9;
    /// An event that asked for an interrupt is done.
    pub const CACHE_FLUSH_TS: u32 = 20;
    /// The hang detector.
    pub const HANG_DETECT: u32 = 23;
}

/// Frequency of the always-on counter in Hz.
const COUNTER_HZ: u128 = 19_200_000;

fn is_mappable(reg: u32) -> bool {
    MAPPABLE.iter().any(|range| range.contains(&reg))
}

/// What the CP does. See [`vadreno_ctl::cp_state`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// The ring is empty, or the SQE is halted.
    #[default]
    Idle,
    /// Running packets.
    Busy,
    /// Stopped by a test.
    Held,
    /// An access waits for RESUME.
    Stalled,
    /// Hung until the next reset.
    Hung,
}

/// What the CP and those who steer it share.
#[derive(Debug, Default)]
pub struct Control {
    /// What the CP does.
    pub activity: Activity,
    /// Index of the dword in the ring that comes next.
    pub rptr: u32,
    /// Where the record of the ring is, for preemption; 0 if the ring hasn't said so.
    pub record: u64,
    /// How the stall ends, once that is known.
    pub resume: Option<Resume>,
}

/// The registers, and the state of the CP.
#[derive(Debug)]
pub struct Gpu {
    /// The registers as they were written, without what reading some of them gives.
    pub regs: RegFile,
    start: Instant,
    control: Mutex<Control>,
    /// Something that the CP waits for may have changed.
    changed: Condvar,
    /// Resets of the CP; changes only while `control` is locked.
    generation: AtomicU64,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            regs: RegFile::new(GPU_SIZE as usize / 4, GPU_BASE as usize),
            start: Instant::now(),
            control: Mutex::default(),
            changed: Condvar::new(),
            generation: AtomicU64::new(0),
        }
    }
}

impl Gpu {
    /// Locks the CP's state.
    pub fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed; also returns without a reason.
    pub fn wait<'a>(&self, control: MutexGuard<'a, Control>) -> MutexGuard<'a, Control> {
        self.changed
            .wait(control)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Like [`wait`](Self::wait), but not for longer than `time`.
    pub fn wait_for<'a>(
        &self,
        control: MutexGuard<'a, Control>,
        time: Duration,
    ) -> MutexGuard<'a, Control> {
        self.changed
            .wait_timeout(control, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Resets of the CP so far. What was begun before a reset is void.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the CP has something to do.
    pub fn busy(&self) -> bool {
        self.control().activity != Activity::Idle
    }

    /// The always-on counter.
    pub fn ticks(&self) -> u64 {
        (self.start.elapsed().as_nanos() * COUNTER_HZ / 1_000_000_000) as u64
    }

    /// Reads a register, as the CPU, the CP and the crash dumper do.
    pub fn read(&self, reg: u32) -> u32 {
        match reg {
            _ if is_mappable(reg) => self.regs.get(reg),
            RBBM_GBIF_HALT_ACK => self.regs.get(RBBM_GBIF_HALT),
            GBIF_HALT_ACK => self.regs.get(GBIF_HALT),
            RBBM_STATUS if self.busy() => RBBM_STATUS_BUSY,
            RBBM_STATUS => 0,
            RBBM_STATUS3 if self.control().activity == Activity::Stalled => {
                RBBM_STATUS3_SMMU_STALLED
            }
            RBBM_PERFCTR_SRAM_INIT_STATUS => 1,
            CP_RB_RPTR => self.control().rptr,
            CP_ALWAYS_ON_COUNTER | CP_ALWAYS_ON_CONTEXT => self.ticks() as u32,
            0x981 | 0x983 => (self.ticks() >> 32) as u32,
            _ => self.regs.get(reg),
        }
    }

    /// Writes a register, as the CPU and the CP do.
    pub fn write(&self, device: &Device, reg: u32, value: u32) {
        match reg {
            _ if is_mappable(reg) => self.regs.set(reg, value),
            RBBM_INT_0_STATUS | RBBM_STATUS | RBBM_STATUS3 | CP_RB_RPTR | CP_CRASH_DUMP_STATUS => {}
            RBBM_INT_CLEAR_CMD => self.regs.clear_bits(RBBM_INT_0_STATUS, value),
            RBBM_INT_0_MASK => {
                let enabled = value & !self.regs.get(reg);
                self.regs.set(reg, value);
                if self.regs.get(RBBM_INT_0_STATUS) & enabled != 0 {
                    device.board.irqs.raise(irq::GPU, &device.board.counters);
                }
            }
            RBBM_SW_RESET_CMD => {
                self.regs.set(reg, value);
                if value & 1 != 0 {
                    trace!(device.board.trace, "gpu-reset");
                    self.regs.set(CP_SQE_CNTL, 0);
                    self.restart();
                }
            }
            CP_SQE_CNTL => {
                trace!(device.board.trace, "sqe-cntl value={value}");
                self.regs.set(reg, value);
                if value == CP_SQE_RUN {
                    device.smmu.start(&device.board);
                    self.restart();
                }
                self.wake();
            }
            preempt::CNTL => {
                self.regs.set(reg, value);
                self.wake();
            }
            CP_RB_WPTR => {
                device.board.counters.bump(counter::RING_WRITES);
                self.regs.set(reg, value);
                self.wake();
            }
            CP_CRASH_DUMP_CNTL => {
                self.regs.set(reg, value);
                self.regs.set(CP_CRASH_DUMP_STATUS, 0);
                if value & 1 != 0 {
                    let script = self.regs.get64(CP_CRASH_DUMP_SCRIPT_BASE);
                    if crashdump::run(device, script).is_ok() {
                        self.regs.set(CP_CRASH_DUMP_STATUS, CP_CRASH_DUMP_DONE);
                    }
                }
            }
            _ => self.regs.set(reg, value),
        }
    }

    /// Sets a bit of RBBM_INT_0 and raises the interrupt if it is enabled.
    pub fn raise(&self, board: &Board, bit: u32) {
        self.regs.set_bits(RBBM_INT_0_STATUS, 1 << bit);
        if self.regs.get(RBBM_INT_0_MASK) & (1 << bit) != 0 {
            trace!(board.trace, "irq vector={} bit={bit}", irq::GPU);
            board.irqs.raise(irq::GPU, &board.counters);
        }
    }

    /// The GPU's registers lose their state, and the CP stops.
    pub fn power_off(&self) {
        self.regs.reset();
        self.restart();
    }

    /// The GPU's registers are as after a reset, whatever the guest has done to those that it maps.
    /// Returns whether it has written to one without power.
    pub fn power_on(&self) -> bool {
        let mut mapped = MAPPABLE.into_iter().flatten();
        let written = mapped.any(|reg| self.regs.get(reg) != 0);
        self.regs.reset();
        written
    }

    /// Voids what the CP does, and empties the ring.
    fn restart(&self) {
        let mut control = self.control();
        self.generation.fetch_add(1, Ordering::Release);
        self.regs.set(CP_RB_WPTR, 0);
        self.regs.set(RBBM_INT_0_STATUS, 0);
        *control = Control::default();
        self.changed.notify_all();
    }

    /// Something that the CP may be waiting for has changed.
    pub fn wake(&self) {
        // With the lock, so that a CP that has just looked does not miss it.
        let _control = self.control();
        self.changed.notify_all();
    }

    /// Ends a stall.
    pub fn resume(&self, resume: Resume) {
        self.control().resume = Some(resume);
        self.changed.notify_all();
    }

    /// Whether the SQE runs.
    pub fn running(&self) -> bool {
        self.regs.get(CP_SQE_CNTL) == CP_SQE_RUN
    }

    /// Whether software has halted the SQE, as Linux does to capture the GPU's state.
    pub fn halted(&self) -> bool {
        self.regs.get(CP_SQE_CNTL) & CP_SQE_HALT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bypass_device;

    #[test]
    fn interrupts_are_latched_and_cleared() {
        let device = bypass_device();
        device.gpu.raise(&device.board, int::CACHE_FLUSH_TS);
        let irqs = || device.board.counters.get(counter::IRQS).unwrap();
        assert_eq!((device.reg_read(RBBM_INT_0_STATUS), irqs()), (1 << 20, 0));
        device.reg_write(RBBM_INT_0_MASK, 1 << 20);
        assert_eq!(irqs(), 1);
        device.reg_write(RBBM_INT_CLEAR_CMD, 1 << 20);
        assert_eq!(device.reg_read(RBBM_INT_0_STATUS), 0);
        device.gpu.raise(&device.board, int::HANG_DETECT);
        assert_eq!(irqs(), 1);
    }

    #[test]
    fn sqe_start_empties_the_ring() {
        let device = bypass_device();
        device.reg_write(CP_RB_WPTR, 9);
        device.gpu.control().rptr = 5;
        let before = device.gpu.generation();
        device.reg_write(CP_SQE_CNTL, CP_SQE_RUN);
        assert_eq!(device.reg_read(CP_RB_WPTR), 0);
        assert_eq!(device.reg_read(CP_RB_RPTR), 0);
        assert_ne!(device.gpu.generation(), before);
        assert!(device.gpu.running());
        device.reg_write(CP_SQE_CNTL, 3);
        assert!(device.gpu.halted() && !device.gpu.running());
        device.reg_write(RBBM_SW_RESET_CMD, 1);
        assert_eq!(device.reg_read(CP_SQE_CNTL), 0);
    }

    #[test]
    fn what_is_mapped_begins_at_a_page() {
        for range in MAPPABLE {
            assert_eq!((GPU_BASE + range.start * 4) % PAGE, 0);
        }
    }

    #[test]
    fn acknowledgements_and_constants() {
        let device = bypass_device();
        device.reg_write(GBIF_HALT, 3);
        device.reg_write(RBBM_GBIF_HALT, 1);
        assert_eq!(device.reg_read(GBIF_HALT_ACK), 3);
        assert_eq!(device.reg_read(RBBM_GBIF_HALT_ACK), 1);
        assert_eq!(device.reg_read(RBBM_PERFCTR_SRAM_INIT_STATUS), 1);
        let low = u64::from(device.reg_read(CP_ALWAYS_ON_COUNTER));
        assert!(low <= device.gpu.ticks());
    }
}
