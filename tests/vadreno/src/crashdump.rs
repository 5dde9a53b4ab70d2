// SPDX-License-Identifier: GPL-2.0-only

//! The CP's crash dumper: runs a script in memory that copies registers to memory.
//!
//! A script is pairs of 64-bit words and ends with two zeros. The second word of a pair has a
//! register in bits 63:44 and a number of registers in bits 20:0. With bit 21 set the first word is
//! a value for the register, else an address that the registers are copied to. Facts: Linux's
//! `a6xx_gpu_state.c`.

use crate::device::Device;
use crate::gpu::{apriv, CP_APRIV_CNTL};
use crate::smmu::{Access, Client, Fault, Origin};
use crate::trace;
use vadreno_ctl::counter;

/// Registers that one script may copy: more than exist, and few enough to end soon.
const LIMIT: u64 = 1 << 22;

/// Runs the script at `iova`. A fault ends it: the dumper does not stall.
pub fn run(device: &Device, mut iova: u64) -> Result<(), Fault> {
    device.board.counters.bump(counter::CRASH_DUMPS);
    let mut words = 0;
    while words < LIMIT {
        let data = read64(device, iova)?;
        let control = read64(device, iova.wrapping_add(8))?;
        iova = iova.wrapping_add(16);
        if data == 0 && control == 0 {
            break;
        }
        let reg = (control >> 44) as u32;
        if control & (1 << 21) != 0 {
            device.reg_write(reg, data as u32);
            words += 1;
        } else {
            let count = (control & 0x1f_ffff) as u32;
            copy(device, data, reg, count)?;
            words += u64::from(count) + 1;
        }
    }
    trace!(device.board.trace, "crash-dump words={words}");
    Ok(())
}

fn copy(device: &Device, mut iova: u64, mut reg: u32, mut count: u32) -> Result<(), Fault> {
    let mut page = [0; 4096];
    while count > 0 {
        // One access stays in one page, as the SMMU wants it.
        let room = (4096 - (iova & 0xffc) as u32) / 4;
        let now = count.min(room);
        let bytes = &mut page[..now as usize * 4];
        for (word, reg) in bytes.chunks_exact_mut(4).zip(reg..) {
            word.copy_from_slice(&device.reg_read(reg).to_le_bytes());
        }
        access(device, iova & !3, Access::Write(bytes))?;
        iova = iova.wrapping_add(u64::from(now) * 4);
        reg += now;
        count -= now;
    }
    Ok(())
}

fn read64(device: &Device, iova: u64) -> Result<u64, Fault> {
    let mut word = [0; 8];
    access(device, iova & !7, Access::Read(&mut word))?;
    Ok(u64::from_le_bytes(word))
}

fn access(device: &Device, iova: u64, access: Access<'_>) -> Result<(), Fault> {
    let bit = match access {
        Access::Read(_) => apriv::DUMPER_READ,
        Access::Write(_) => apriv::DUMPER_WRITE,
    };
    let origin = Origin {
        client: Client::Cp,
        privileged: device.gpu.regs.get(CP_APRIV_CNTL) & bit != 0,
    };
    device
        .smmu
        .access(&device.board, origin, iova, access)
        .inspect_err(|fault| {
            trace!(
                device.board.trace,
                "crash-dump-fault iova={:#x}",
                fault.iova
            );
            if let (Some(vector), _) = device.smmu.latch(&device.board, fault, false) {
                device.board.irqs.raise(vector, &device.board.counters);
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bypass_device, read32, write32, RAM};

    fn script(device: &Device, pairs: &[(u64, u64)]) {
        for (i, (data, control)) in pairs.iter().enumerate() {
            let words = [
                *data as u32,
                (*data >> 32) as u32,
                *control as u32,
                (*control >> 32) as u32,
            ];
            for (at, word) in (RAM + 16 * i as u64..).step_by(4).zip(words) {
                write32(device, at, word);
            }
        }
    }

    #[test]
    fn copies_and_writes() {
        let device = bypass_device();
        for reg in 0..8 {
            device.reg_write(0x8c00 + reg, 100 + reg);
        }
        // The target crosses a page.
        script(
            &device,
            &[
                (0x77, (0x8c03 << 44) | (1 << 21) | 1),
                (RAM + 0x1ff8, (0x8c00 << 44) | 4),
                (RAM + 0x3000, (0x8c06 << 44) | 1),
                (0, 0),
                (RAM + 0x3004, (0x8c06 << 44) | 1),
            ],
        );
        run(&device, RAM).unwrap();
        let got: Vec<u32> = (0..4)
            .map(|i| read32(&device, RAM + 0x1ff8 + 4 * i))
            .collect();
        assert_eq!(got, [100, 101, 102, 0x77]);
        assert_eq!(read32(&device, RAM + 0x3000), 106);
        assert_eq!(read32(&device, RAM + 0x3004), 0);
    }

    #[test]
    fn status_tells_success() {
        let device = bypass_device();
        script(&device, &[(RAM + 0x1000, (0x8c00 << 44) | 1)]);
        device.reg_write(0x900, RAM as u32);
        device.reg_write(0x902, 1);
        assert_eq!(device.reg_read(0x903), 2);
        // No memory where the script should be.
        device.reg_write(0x900, 0x1000);
        device.reg_write(0x902, 1);
        assert_eq!(device.reg_read(0x903), 0);
        assert_eq!(device.board.counters.get(counter::CRASH_DUMPS), Some(2));
    }

    #[test]
    fn hostile_script_ends() {
        let device = bypass_device();
        // Copies registers over the whole memory, the script included.
        script(&device, &[(RAM, (0xf_ffff << 44) | 0x1f_ffff)]);
        assert!(run(&device, RAM).is_err());
        assert!(run(&device, u64::MAX).is_err());
    }
}
