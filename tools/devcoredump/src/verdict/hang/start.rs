// SPDX-License-Identifier: GPL-2.0-only
//! GPUs that had no power, no firmware, or never began.

use super::*;
use crate::verdict::unreadable::BEFORE;

impl Case<'_> {
    pub(super) fn never_ran(&self) -> Option<Finding> {
        self.powered_off().or_else(|| self.not_started())
    }

    /// The kernel reads no registers of a GPU without power, and says that it isn't initialised.
    /// Where it says the latter, what follows the registers is there even if they aren't, unless
    /// the dump was cut.
    fn powered_off(&self) -> Option<Finding> {
        let read = self.dump.section("registers-gmu").is_some();
        let off = self.dump.initialized == Some(false) && self.dump.registers.is_empty() && read;
        off.then(|| {
            let what = "The GPU had no power when the dump was taken: the kernel could not read \
                its registers.";
            Finding::new(Verdict::PoweredOff, Sure::Likely, Whose::Kernel, what)
                .next(BEFORE)
                .or("an earlier hang whose reset failed and left it off")
        })
    }

    /// The CP has read nothing since it was reset.
    fn not_started(&self) -> Option<Finding> {
        let registers = self.registers?;
        let (_, ring) = registers.ring()?;
        // All of them have to be there: a dump may be cut among the registers.
        let read = registers.get(registers.layout.ring_read)?;
        let mut buffers = registers.layout.buffers.iter();
        let in_ring = buffers.all(|buffer| registers.address(buffer.base) == Some(0));
        if read != 0 || ring.rptr != 0 || ring.wptr == 0 || pending(ring) == 0 || !in_ring {
            return None;
        }
        let firmware = registers
            .layout
            .firmware
            .and_then(|register| registers.address(register));
        if firmware == Some(0) {
            let what = format!(
                "The CP has no firmware (the address of it is 0), so it has read nothing of ring \
                    {}.",
                ring.id
            );
            return Some(
                Finding::new(Verdict::NoFirmware, Sure::Likely, Whose::Kernel, what).next(
                    "See which file is missing: journalctl -k -b | grep -iE \
                        'firmware|\\.fw|zap|adreno'; \
                     it must be in /lib/firmware/qcom, and in the initramfs if msm is.",
                ),
            );
        }
        let what = format!(
            "The CP has read nothing of ring {} since it was reset: {} submits wait, {} dwords \
                are in the ring.",
            ring.id,
            pending(ring),
            ring.wptr
        );
        Some(
            Finding::new(Verdict::NotStarted, Sure::Likely, Whose::Kernel, what)
                .next(
                    "Look for why it didn't come up (firmware, zap shader, GMU, an earlier hang): \
                     journalctl -k -b | grep -iE 'msm|adreno|gmu|zap|firmware'",
                )
                .or(
                    "a preemption to this ring that never finished, if other rings did work before",
                ),
        )
    }
}
