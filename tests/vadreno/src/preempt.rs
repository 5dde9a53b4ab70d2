// SPDX-License-Identifier: GPL-2.0-only

//! Preemption: the CP leaves a ring and goes on with another one, as the kernel asks it to.
//!
//! It does so between two jobs, where the ring says that it may (CONTEXT_SWITCH_YIELD) or has
//! nothing left. What is to be known of a ring is in a record in the kernel's memory. Facts:
//! Linux's `a6xx_preempt.c` and `a6xx_gpu.h`.

use crate::cp::{Cp, Hang, Stop};
use crate::gpu::{self, int};
use crate::smmu::{Client, Origin};
use crate::trace;

/// The kernel asks for a switch; the CP clears [`STOP`] when it has been.
pub const CNTL: u32 = 0x8a0;
/// Bit of [`CNTL`].
pub const STOP: u32 = 1 << 0;
/// Address of the tables that the next ring was left with.
const SMMU_INFO: u32 = 0x8a1;
/// Address of the next ring's record.
const RESTORE: u32 = 0x8a3;

/// What a record and an SMMU info begin with.
const RECORD_MAGIC: u32 = 0xae39_9d6e;
const SMMU_INFO_MAGIC: u32 = 0x2413_50d5;

/// Of a record: the ring's size and flags, rptr, wptr.
const RING: u64 = 16;
/// Where rptr is written, and the ring.
const ADDRESSES: u64 = 32;

const PRIVILEGED: Origin = Origin {
    client: Client::Cp,
    privileged: true,
};

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | (u64::from(word(bytes, at + 4)) << 32)
}

/// Whether the kernel has asked for another ring.
pub fn wanted(cp: &Cp<'_>) -> bool {
    cp.reg(CNTL) & STOP != 0
}

/// Leaves the ring, whose record is at `save` if that isn't 0, and returns the next one's rptr and
/// the address of its record.
pub fn switch(cp: &Cp<'_>, save: u64, rptr: u32) -> Result<(u32, u64), Stop> {
    let restore = cp.reg64(RESTORE);
    if save != 0 {
        let ring = [cp.reg(gpu::CP_RB_CNTL), rptr, cp.reg(gpu::CP_RB_WPTR)];
        cp.write_as(
            PRIVILEGED,
            save.wrapping_add(RING),
            &ring.map(u32::to_le_bytes).concat(),
        )?;
        let addresses = [cp.reg64(gpu::CP_RB_RPTR_ADDR), cp.reg64(gpu::CP_RB_BASE)];
        let addresses = addresses.map(u64::to_le_bytes).concat();
        cp.write_as(PRIVILEGED, save.wrapping_add(ADDRESSES), &addresses)?;
    }
    let mut record = [0; 48];
    cp.read_as(PRIVILEGED, restore, &mut record)?;
    if word(&record, 0) != RECORD_MAGIC {
        return Err(Stop::Hang(Hang::BadRecord));
    }
    let regs = cp.plain();
    regs.set(gpu::CP_RB_CNTL, word(&record, 16));
    regs.set(gpu::CP_RB_WPTR, word(&record, 24));
    regs.set64(gpu::CP_RB_RPTR_ADDR, long(&record, 32));
    regs.set64(gpu::CP_RB_BASE, long(&record, 40));
    let info = cp.reg64(SMMU_INFO);
    if info != 0 {
        let mut tables = [0; 24];
        cp.read_as(PRIVILEGED, info, &mut tables)?;
        if word(&tables, 0) != SMMU_INFO_MAGIC {
            return Err(Stop::Hang(Hang::BadRecord));
        }
        // A ring that has run nothing was left with none.
        let ttbr0 = long(&tables, 8);
        if ttbr0 != 0 {
            cp.load_tables(ttbr0, word(&tables, 20));
        }
    }
    trace!(
        cp.board().trace,
        "preempt save={save:#x} restore={restore:#x}"
    );
    Ok((word(&record, 20), restore))
}

/// Tells the kernel that the next ring runs.
pub fn done(cp: &Cp<'_>) {
    cp.plain().clear_bits(CNTL, STOP);
    cp.raise(int::CP_SW);
}
