// SPDX-License-Identifier: GPL-2.0-only

//! The GPU's and the GMU wrapper's registers, and what the CPU and the CP know of each other through them.
//!
//! Registers are numbered in words from the start of BAR0, as in `a6xx.xml` of Linux
//! (`drivers/gpu/drm/msm/registers/adreno`). All that is not named here keeps what was written.

use crate::board::Board;
use crate::crashdump;
use crate::device::Device;
use crate::irq;
use crate::regs::RegFile;
use crate::smmu::Resume;
use crate::trace;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vadreno_ctl::{counter, cp_state};

/// Bytes of GPU registers at the start of BAR0.
pub const GPU_SIZE: u32 = 0x4_0000;
/// Where the GMU wrapper's registers start in BAR0.
pub const GMU_BASE: u32 = 0x6_a000;
/// Bytes of GMU wrapper registers.
pub const GMU_SIZE: u32 = 0x3_0000;

const RBBM_GPR0_CNTL: u32 = 0x16;
const RBBM_GPR0_ACK: u32 = 0x17;
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
const CP_RB_BASE: u32 = 0x800;
const CP_RB_CNTL: u32 = 0x802;
const CP_RB_CNTL_NO_UPDATE: u32 = 1 << 27;
const CP_RB_RPTR_ADDR: u32 = 0x804;
const CP_RB_RPTR: u32 = 0x806;
const CP_RB_WPTR: u32 = 0x807;
const CP_SQE_CNTL: u32 = 0x808;
const CP_SQE_RUN: u32 = 1;
const CP_SQE_HALT: u32 = 1 << 1;
const CP_CRASH_DUMP_SCRIPT_BASE: u32 = 0x900;
const CP_CRASH_DUMP_CNTL: u32 = 0x902;
const CP_CRASH_DUMP_STATUS: u32 = 0x903;
const CP_CRASH_DUMP_DONE: u32 = 1 << 1;
const CP_IB1_BASE: u32 = 0x928;
const CP_IB2_BASE: u32 = 0x92b;
const CP_ALWAYS_ON_COUNTER: u32 = 0x980;
const CP_ALWAYS_ON_CONTEXT: u32 = 0x982;

/// RBBM_INT_0: an event with the interrupt flag is done.
pub const INT_CACHE_FLUSH_TS: u32 = 20;
/// RBBM_INT_0: the hang detector.
pub const INT_HANG_DETECT: u32 = 23;

/// Frequency of the always-on counter in Hz.
const COUNTER_HZ: u128 = 19_200_000;

/// What the CP does, as [`vadreno_ctl::cp_state`] says it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Busy,
    Held,
    Stalled,
    Hung,
}

/// What the CP and those who steer it share.
#[derive(Debug, Default)]
struct Cp {
    phase: Phase,
    /// Index of the dword in the ring that comes next.
    rptr: u32,
    /// How the stall ends.
    resume: Option<Resume>,
    /// The thread has to end.
    quit: bool,
}

/// A piece of the ring that has to be run.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// The CP's run that it belongs to; see [`Gpu::alive`].
    pub run: u64,
    /// Address of the ring.
    pub base: u64,
    /// Dwords in the ring.
    pub size: u32,
    /// The first dword.
    pub rptr: u32,
    /// The dword after the last one.
    pub wptr: u32,
    /// Where to write rptr when all is done, if anywhere.
    pub shadow: Option<u64>,
}

/// The CP was reset, and what it was doing is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted;

/// The registers, and the state of the CP.
#[derive(Debug)]
pub struct Gpu {
    regs: RegFile,
    gmu: RegFile,
    start: Instant,
    cp: Mutex<Cp>,
    /// Something that the CP waits for may have changed.
    wake: Condvar,
    /// Number of the CP's run: each reset starts another one.
    run: AtomicU64,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            regs: RegFile::new(GPU_SIZE as usize / 4),
            gmu: RegFile::new(GMU_SIZE as usize / 4),
            start: Instant::now(),
            cp: Mutex::default(),
            wake: Condvar::new(),
            run: AtomicU64::new(0),
        }
    }
}

impl Gpu {
    fn cp(&self) -> MutexGuard<'_, Cp> {
        self.cp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The always-on counter.
    pub fn ticks(&self) -> u64 {
        (self.start.elapsed().as_nanos() * COUNTER_HZ / 1_000_000_000) as u64
    }

    /// Reads a register, as the CPU, the CP and the crash dumper do.
    pub fn read(&self, reg: u32) -> u32 {
        match reg {
            RBBM_GPR0_ACK => self.regs.get(RBBM_GPR0_CNTL),
            GBIF_HALT_ACK => self.regs.get(GBIF_HALT),
            RBBM_STATUS => match self.cp().phase {
                Phase::Idle => 0,
                _ => RBBM_STATUS_BUSY,
            },
            RBBM_STATUS3 if self.cp().phase == Phase::Stalled => RBBM_STATUS3_SMMU_STALLED,
            RBBM_PERFCTR_SRAM_INIT_STATUS => 1,
            CP_RB_RPTR => self.cp().rptr,
            CP_ALWAYS_ON_COUNTER | CP_ALWAYS_ON_CONTEXT => self.ticks() as u32,
            0x981 | 0x983 => (self.ticks() >> 32) as u32,
            _ if reg >= GMU_BASE / 4 => self.gmu.get(reg - GMU_BASE / 4),
            _ => self.regs.get(reg),
        }
    }

    /// Writes a register, as the CPU and the CP do.
    pub fn write(&self, device: &Device, reg: u32, value: u32) {
        match reg {
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
                    self.restart();
                }
                self.wake();
            }
            CP_RB_WPTR => {
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
            _ if reg >= GMU_BASE / 4 => self.gmu.set(reg - GMU_BASE / 4, value),
            _ => self.regs.set(reg, value),
        }
    }

    /// Two registers as a 64-bit value, the low half at `reg`.
    pub fn read64(&self, reg: u32) -> u64 {
        u64::from(self.read(reg)) | u64::from(self.read(reg.wrapping_add(1))) << 32
    }

    /// Sets a bit of RBBM_INT_0 and raises the interrupt if it is enabled.
    pub fn interrupt(&self, board: &Board, bit: u32) {
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

    /// The GMU wrapper's registers lose their state.
    pub fn gmu_power_off(&self) {
        self.gmu.reset();
    }

    /// The CP begins another run, with an empty ring.
    fn restart(&self) {
        let mut cp = self.cp();
        self.run.fetch_add(1, Ordering::Release);
        self.regs.set(CP_RB_WPTR, 0);
        self.regs.set(RBBM_INT_0_STATUS, 0);
        (cp.phase, cp.rptr, cp.resume) = (Phase::Idle, 0, None);
        self.wake.notify_all();
    }

    /// Something that the CP may be waiting for has changed.
    pub fn wake(&self) {
        let _cp = self.cp();
        self.wake.notify_all();
    }

    /// Ends a stall.
    pub fn resume(&self, resume: Resume) {
        self.cp().resume = Some(resume);
        self.wake.notify_all();
    }

    /// Ends the CP's thread.
    pub fn quit(&self) {
        self.cp().quit = true;
        self.run.fetch_add(1, Ordering::Release);
        self.wake.notify_all();
    }

    /// Whether the SQE runs.
    pub fn running(&self) -> bool {
        self.regs.get(CP_SQE_CNTL) == CP_SQE_RUN
    }

    /// What the CP does: a value of [`cp_state`].
    pub fn cp_state(&self) -> u64 {
        match self.cp().phase {
            Phase::Idle => cp_state::IDLE,
            Phase::Busy => cp_state::BUSY,
            Phase::Held => cp_state::HELD,
            Phase::Stalled => cp_state::STALLED,
            Phase::Hung => cp_state::HUNG,
        }
    }

    /// Waits until the ring has something to run; `None`: the thread has to end.
    pub fn next(&self) -> Option<Work> {
        let mut cp = self.cp();
        loop {
            if cp.quit {
                return None;
            }
            let size = 2 << (self.regs.get(CP_RB_CNTL) & 0x3f).min(24);
            let wptr = self.regs.get(CP_RB_WPTR) % size;
            if self.running() && cp.phase == Phase::Idle && cp.rptr % size != wptr {
                cp.phase = Phase::Busy;
                let shadow = self.regs.get64(CP_RB_RPTR_ADDR);
                let update = self.regs.get(CP_RB_CNTL) & CP_RB_CNTL_NO_UPDATE == 0;
                return Some(Work {
                    run: self.run.load(Ordering::Acquire),
                    base: self.regs.get64(CP_RB_BASE),
                    size,
                    rptr: cp.rptr % size,
                    wptr,
                    shadow: (update && shadow != 0).then_some(shadow),
                });
            }
            cp = self.wake.wait(cp).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether a run has not been ended by a reset.
    pub fn alive(&self, run: u64) -> Result<(), Aborted> {
        if self.run.load(Ordering::Acquire) == run {
            Ok(())
        } else {
            Err(Aborted)
        }
    }

    /// Runs `f` on the CP's state unless the run is over.
    fn with<R>(&self, run: u64, f: impl FnOnce(&mut Cp) -> R) -> Result<R, Aborted> {
        let mut cp = self.cp();
        self.alive(run)?;
        Ok(f(&mut cp))
    }

    /// Waits until `done` is true, with the CP's state locked.
    fn wait(&self, run: u64, done: impl Fn(&Cp) -> bool) -> Result<MutexGuard<'_, Cp>, Aborted> {
        let mut cp = self.cp();
        loop {
            self.alive(run)?;
            if done(&cp) {
                return Ok(cp);
            }
            cp = self.wake.wait(cp).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The CP has come to a dword of the ring.
    pub fn set_rptr(&self, run: u64, rptr: u32) -> Result<(), Aborted> {
        self.with(run, |cp| cp.rptr = rptr)
    }

    /// What is left of an IB: depth 1 and 2 have registers.
    pub fn set_ib(&self, depth: u32, iova: u64, dwords: u32) {
        let base = match depth {
            1 => CP_IB1_BASE,
            2 => CP_IB2_BASE,
            _ => return,
        };
        self.regs.set64(base, iova);
        self.regs.set(base + 2, dwords);
    }

    /// Before a packet: waits while the CP is held or the SQE is halted.
    pub fn before_packet(&self, board: &Board, run: u64) -> Result<(), Aborted> {
        let held = || board.settings.hold_cp.load(Ordering::Relaxed);
        self.alive(run)?;
        if self.running() && !held() {
            return Ok(());
        }
        if held() {
            self.with(run, |cp| cp.phase = Phase::Held)?;
            trace!(board.trace, "cp-held");
        }
        let mut cp = self.wait(run, |_| self.running() && !held())?;
        cp.phase = Phase::Busy;
        Ok(())
    }

    /// Lets time pass, unless the run ends.
    pub fn sleep(&self, run: u64, time: Duration) -> Result<(), Aborted> {
        let until = Instant::now() + time;
        let mut cp = self.cp();
        loop {
            self.alive(run)?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            cp = self
                .wake
                .wait_timeout(cp, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Latches a fault with `latch`, which says whether the access stalls, and marks the CP as stalled before
    /// anyone can ask for RESUME.
    pub fn stall<R>(
        &self,
        run: u64,
        latch: impl FnOnce() -> (R, bool),
    ) -> Result<(R, bool), Aborted> {
        self.with(run, |cp| {
            cp.resume = None;
            let (result, stall) = latch();
            if stall {
                cp.phase = Phase::Stalled;
            }
            (result, stall)
        })
    }

    /// Waits for RESUME. Linux halts the SQE to capture the GPU's state before that: then the hang detector
    /// fires, and only a reset helps.
    pub fn wait_resume(&self, board: &Board, run: u64) -> Result<Resume, Aborted> {
        let mut cp = self.wait(run, |cp| cp.resume.is_some())?;
        let resume = cp.resume.take().unwrap_or(Resume::Terminate);
        cp.phase = Phase::Busy;
        drop(cp);
        if self.regs.get(CP_SQE_CNTL) & CP_SQE_HALT == 0 {
            return Ok(resume);
        }
        trace!(board.trace, "hang kind=halted-after-fault");
        self.with(run, |cp| cp.phase = Phase::Hung)?;
        board.counters.bump(counter::HANGS);
        self.interrupt(board, INT_HANG_DETECT);
        self.wait(run, |_| false).map(|_| resume)
    }

    /// The CP can't go on. It stays so until the next reset.
    pub fn hang(&self, run: u64) {
        let _ = self.with(run, |cp| cp.phase = Phase::Hung);
    }

    /// All of a [`Work`] is done.
    pub fn finish(&self, work: &Work) {
        let _ = self.with(work.run, |cp| {
            cp.phase = Phase::Idle;
            cp.rptr = work.wptr;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::device;

    #[test]
    fn interrupts_are_latched_and_cleared() {
        let device = device();
        device.gpu.interrupt(&device.board, INT_CACHE_FLUSH_TS);
        let irqs = || device.board.counters.get(counter::IRQS).unwrap();
        assert_eq!((device.gpu.read(RBBM_INT_0_STATUS), irqs()), (1 << 20, 0));
        device.gpu.write(&device, RBBM_INT_0_MASK, 1 << 20);
        assert_eq!(irqs(), 1);
        device.gpu.write(&device, RBBM_INT_CLEAR_CMD, 1 << 20);
        assert_eq!(device.gpu.read(RBBM_INT_0_STATUS), 0);
        device.gpu.interrupt(&device.board, INT_HANG_DETECT);
        assert_eq!(irqs(), 1);
    }

    #[test]
    fn sqe_start_empties_the_ring() {
        let device = device();
        device.gpu.write(&device, CP_RB_CNTL, 8);
        device.gpu.write(&device, CP_RB_WPTR, 9);
        device.gpu.write(&device, CP_SQE_CNTL, CP_SQE_RUN);
        assert_eq!(device.gpu.read(CP_RB_WPTR), 0);
        device.gpu.write(&device, CP_RB_WPTR, 9);
        let work = device.gpu.next().unwrap();
        assert_eq!((work.size, work.rptr, work.wptr), (512, 0, 9));
        assert_eq!(device.gpu.read(RBBM_STATUS), RBBM_STATUS_BUSY);
        device.gpu.finish(&work);
        assert_eq!((device.gpu.read(CP_RB_RPTR), device.gpu.read(RBBM_STATUS)), (9, 0));
        device.gpu.write(&device, RBBM_SW_RESET_CMD, 1);
        assert_eq!(device.gpu.alive(work.run), Err(Aborted));
        assert_eq!(device.gpu.read(CP_SQE_CNTL), 0);
    }

    #[test]
    fn acknowledgements_and_constants() {
        let device = device();
        device.gpu.write(&device, GBIF_HALT, 3);
        device.gpu.write(&device, RBBM_GPR0_CNTL, 1);
        assert_eq!(device.gpu.read(GBIF_HALT_ACK), 3);
        assert_eq!(device.gpu.read(RBBM_GPR0_ACK), 1);
        assert_eq!(device.gpu.read(RBBM_PERFCTR_SRAM_INIT_STATUS), 1);
        assert!(device.gpu.read64(CP_ALWAYS_ON_COUNTER) <= device.gpu.ticks());
    }
}
