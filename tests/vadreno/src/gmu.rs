// SPDX-License-Identifier: GPL-2.0-only

//! The GMU: the processor beside the GPU that switches its power on and off.
//!
//! The kernel loads its firmware, starts it, and from then on talks to it in two ways: by bits of
//! an interrupt register, the out-of-band requests (OOBs), and by messages ([`crate::hfi`]). What
//! the firmware would do is done here, at once. It votes with RPMh through the RSC, which has to
//! have been set up: all of that is modelled as far as the kernel looks at it.
//!
//! Without a GMU the registers are there, and keep what was written (a "GMU wrapper").
//!
//! Registers are numbered in words, from the GPU's first one on, as in `a6xx_gmu.xml` of Linux.

use crate::device::Device;
use crate::gpu::GPU_BASE;
use crate::hfi::{self, Protocol};
use crate::irq;
use crate::regs::RegFile;
use crate::smmu::Fault;
use crate::trace;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the registers start in BAR0.
pub const BASE: u32 = 0x6_a000;
/// Bytes of registers.
pub const SIZE: u32 = 0x3_1000;
/// Number of the first register.
pub const FIRST: u32 = (BASE - GPU_BASE) / 4;

const ITCM: u32 = 0x1_b400;
const DTCM_END: u32 = 0x1_d400;
const FW_VERSION: u32 = 0x1_d3f8;
const BOOT_SLUMBER_OPTION: u32 = 0x1_cbf8;
const GX_SPTPRAC_POWER_CONTROL: u32 = 0x1_a881;
const CM3_SYSRESET: u32 = 0x1_f800;
const CM3_FW_INIT_RESULT: u32 = 0x1_f81c;
const ALWAYS_ON_COUNTER: u32 = 0x1_f888;
const PWR_CLK_STATUS: u32 = 0x1_f8d0;
const RPMH_POWER_STATE: u32 = 0x1_f8ec;
const HFI_CTRL_STATUS: u32 = 0x1_f980;
const HFI_QTBL_ADDR: u32 = 0x1_f985;
const HFI_CTRL_INIT: u32 = 0x1_f986;
const TO_HOST_CLR: u32 = 0x1_f991;
const TO_HOST: u32 = 0x1_f992;
const TO_HOST_MASK: u32 = 0x1_f993;
const TO_HOST_MSGQ: u32 = 1 << 0;
const TO_HOST_FAULT: u32 = 1 << 23;
const TO_GMU: u32 = 0x1_f994;
const TO_GMU_MSGQ: u32 = 1 << 0;
const AO_INTERRUPT_CLR: u32 = 0x2_3b04;
const AO_INTERRUPT: u32 = 0x2_3b05;
const RSCC_CONTROL_REQ: u32 = 0x2_3b07;
const RSCC_CONTROL_ACK: u32 = 0x2_3b08;
const GPU_CX_BUSY: u32 = 0x2_3b0c;
const GPU_CX_BUSY_BIT: u32 = 1 << 23;

/// The RSC's registers, by word, and bits of [`RSCC_CONTROL_REQ`].
const RSC_STATUS0: u32 = 0x4;
const RSC_STATUS0_OFF: u32 = 1 << 16;
const RSC_SLEEP: u32 = 1 << 0;
const RSC_WAKE: u32 = 1 << 1;
const TCS_IDLE: u32 = 1;

/// The PDC's registers, by word.
const PDC_ENABLE: u32 = 0x1140;
const PDC_ENABLE_BIT: u32 = 1 << 0;

/// Of the registers beside the GMU, by word: 1 while its memory is to keep its state without power.
const TCM_RET_CNTL: u32 = 0x39;

/// The GMU and the GPU are awake, or asleep: values of [`RPMH_POWER_STATE`].
const ACTIVE: u32 = 0;
const SLUMBER: u32 = 0xf;
/// [`BOOT_SLUMBER_OPTION`]: the GPU is to sleep.
const OPTION_SLUMBER: u32 = 1;

/// Firmware newer than that says 0x100 when it runs.
const LAST_OLD_VERSION: u32 = 0x2001_0004;
const OLD_RESULT: u32 = 0xbabe_face;
const NEW_RESULT: u32 = 0x100;

/// A block of registers in BAR0, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Where it starts.
    pub base: u32,
    /// Its size.
    pub size: u32,
}

impl Window {
    /// The register, by word, at an offset of BAR0.
    pub fn word(self, offset: u32) -> Option<u32> {
        let offset = offset.checked_sub(self.base)?;
        (offset < self.size).then_some(offset / 4)
    }
}

/// An out-of-band request: numbers of bits.
#[derive(Debug)]
pub struct Oob {
    name: &'static str,
    set: u32,
    ack: u32,
    clear: u32,
    power: Power,
}

/// What a request says of the GPU's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    /// Nothing.
    AsItIs,
    /// It is in [`BOOT_SLUMBER_OPTION`].
    Option,
    /// It is needed.
    On,
}

/// What differs between GMUs.
#[derive(Debug)]
pub struct Facts {
    /// The RSC.
    pub rsc: Window,
    /// The power domain controller.
    pub pdc: Window,
    /// The memory of its sequencer.
    pub pdc_sequencer: Window,
    /// Registers beside the GMU that never lose power, among them [`TCM_RET_CNTL`].
    pub misc: Option<Window>,
    /// The RSC's sequencer memory.
    rsc_sequencer: u32,
    /// The state of its first set of commands; of the next ones 0xa8 words on each.
    rsc_commands: u32,
    oobs: &'static [Oob],
    protocol: &'static Protocol,
    /// Where code begins that isn't in the GMU's own memory.
    code: Option<u32>,
    /// The register with the address of its log.
    log: u32,
    /// Bits of [`PWR_CLK_STATUS`] without power for the GPU.
    gx_off: u32,
    /// The kernel switches the shader processors on and off: the bits without and with power.
    sptprac: Option<(u32, u32)>,
}

/// Of the Adreno 618, and of the others of the sixth generation up to the 630.
pub const A618: Facts = Facts {
    rsc: Window {
        base: BASE + 0x2_3000,
        size: 0x2000,
    },
    pdc: Window {
        base: 0xc_0000,
        size: 0x1_0000,
    },
    pdc_sequencer: Window {
        base: 0xd_0000,
        size: 0x1_0000,
    },
    misc: None,
    rsc_sequencer: 0x180,
    rsc_commands: 0x346,
    oobs: &[
        Oob {
            name: "gpu",
            set: 16,
            ack: 24,
            clear: 24,
            power: Power::AsItIs,
        },
        Oob {
            name: "perfcounter",
            set: 17,
            ack: 25,
            clear: 25,
            power: Power::AsItIs,
        },
        Oob {
            name: "boot-slumber",
            set: 22,
            ack: 30,
            clear: 30,
            power: Power::Option,
        },
        Oob {
            name: "dcvs",
            set: 23,
            ack: 31,
            clear: 31,
            power: Power::AsItIs,
        },
    ],
    protocol: &hfi::V1,
    code: None,
    log: 0x1_f900,
    gx_off: 0xc0,
    sptprac: Some((0x14, 0x28)),
};

/// Of the Adreno 740.
pub const A740: Facts = Facts {
    rsc: Window {
        base: 0xe_0000,
        size: 0x1_0000,
    },
    pdc: Window {
        base: 0xc_0000,
        size: 0x1_0000,
    },
    pdc_sequencer: Window {
        base: 0xd_0000,
        size: 4,
    },
    misc: Some(Window {
        base: 0x9_e000,
        size: 0x1000,
    }),
    rsc_sequencer: 0x154,
    rsc_commands: 0x34a,
    oobs: &[
        Oob {
            name: "gpu",
            set: 30,
            ack: 31,
            clear: 31,
            power: Power::On,
        },
        Oob {
            name: "perfcounter",
            set: 28,
            ack: 30,
            clear: 29,
            power: Power::AsItIs,
        },
    ],
    protocol: &hfi::V2,
    code: Some(0x4000),
    log: 0x1_f9cd,
    gx_off: 0x3,
    sptprac: None,
};

#[derive(Debug, Default)]
struct State {
    /// The firmware runs.
    running: bool,
    /// The GPU has power, as far as that is the GMU's to say.
    gx: bool,
    /// The shader processors have.
    sptprac: bool,
}

/// The GMU.
#[derive(Debug)]
pub struct Gmu {
    facts: Option<&'static Facts>,
    regs: RegFile,
    rsc: RegFile,
    pdc: RegFile,
    pdc_sequencer: RegFile,
    misc: RegFile,
    state: Mutex<State>,
}

impl Gmu {
    /// A GMU as it is after power-on.
    pub fn new(facts: Option<&'static Facts>) -> Self {
        let file = |size: u32| RegFile::new(size as usize / 4, 0);
        // Without a GMU, memory that nobody reaches.
        let window = |of: fn(&Facts) -> Window| file(facts.map_or(4, |facts| of(facts).size));
        let gmu = Self {
            facts,
            regs: file(SIZE),
            rsc: window(|facts| facts.rsc),
            pdc: window(|facts| facts.pdc),
            pdc_sequencer: window(|facts| facts.pdc_sequencer),
            misc: file(
                facts
                    .and_then(|facts| facts.misc)
                    .map_or(4, |misc| misc.size),
            ),
            state: Mutex::default(),
        };
        gmu.power_off();
        gmu
    }

    /// What it is, if there is one.
    pub fn facts(&self) -> Option<&'static Facts> {
        self.facts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, reg: u32) -> u32 {
        self.regs.get(reg - FIRST)
    }

    fn set(&self, reg: u32, value: u32) {
        self.regs.set(reg - FIRST, value);
    }

    /// Whether it lets the GPU have power.
    pub fn gx(&self) -> bool {
        self.facts.is_none() || self.state().gx
    }

    /// Reads a register.
    pub fn read(&self, device: &Device, reg: u32) -> u32 {
        let Some(facts) = self.facts else {
            return self.get(reg);
        };
        match reg {
            PWR_CLK_STATUS => {
                let state = self.state();
                let sptprac =
                    facts.sptprac.map_or(
                        0,
                        |(off, on)| {
                            if state.sptprac && state.gx {
                                on
                            } else {
                                off
                            }
                        },
                    );
                sptprac | if state.gx { 0 } else { facts.gx_off }
            }
            RSCC_CONTROL_ACK => match self.get(RSCC_CONTROL_REQ) & RSC_WAKE {
                request if request != 0 && self.rpmh_ready(facts) => request,
                _ => 0,
            },
            GPU_CX_BUSY if device.gpu.busy() => GPU_CX_BUSY_BIT,
            ALWAYS_ON_COUNTER => device.gpu.ticks() as u32,
            _ if reg == ALWAYS_ON_COUNTER + 1 => (device.gpu.ticks() >> 32) as u32,
            _ => self.get(reg),
        }
    }

    /// Writes a register.
    pub fn write(&self, device: &Device, reg: u32, value: u32) {
        let Some(facts) = self.facts else {
            return self.set(reg, value);
        };
        match reg {
            PWR_CLK_STATUS | RPMH_POWER_STATE | HFI_CTRL_STATUS | TO_HOST | AO_INTERRUPT
            | RSCC_CONTROL_ACK | GPU_CX_BUSY => {}
            TO_HOST_CLR => self.regs.clear_bits(TO_HOST - FIRST, value),
            AO_INTERRUPT_CLR => self.regs.clear_bits(AO_INTERRUPT - FIRST, value),
            GX_SPTPRAC_POWER_CONTROL => self.state().sptprac = value & 1 == 0,
            CM3_SYSRESET => {
                self.set(reg, value);
                if value & 1 != 0 {
                    self.halt();
                } else {
                    self.boot(device);
                }
            }
            HFI_CTRL_INIT if value & 1 != 0 && self.state().running => {
                let table = self.get(HFI_QTBL_ADDR);
                match hfi::check(device, table) {
                    Ok(()) => self.set(HFI_CTRL_STATUS, 1),
                    Err(why) => self.fail(device, why),
                }
            }
            TO_GMU if self.state().running => self.interrupt(device, facts, value),
            _ => self.set(reg, value),
        }
    }

    /// Reads a register of the RSC. It has power as long as the machine does.
    pub fn read_rsc(&self, reg: u32) -> u32 {
        let commands = self.facts.map_or(0, |facts| facts.rsc_commands);
        match reg {
            RSC_STATUS0 if self.get(RSCC_CONTROL_REQ) & RSC_SLEEP != 0 => RSC_STATUS0_OFF,
            RSC_STATUS0 => 0,
            _ if reg >= commands && (reg - commands) % 0xa8 == 0 => TCS_IDLE,
            _ => self.rsc.get(reg),
        }
    }

    /// Writes a register of the RSC.
    pub fn write_rsc(&self, reg: u32, value: u32) {
        self.rsc.set(reg, value);
    }

    /// The PDC's registers.
    pub fn pdc(&self) -> &RegFile {
        &self.pdc
    }

    /// The PDC's sequencer.
    pub fn pdc_sequencer(&self) -> &RegFile {
        &self.pdc_sequencer
    }

    /// The registers beside it.
    pub fn misc(&self) -> &RegFile {
        &self.misc
    }

    /// Whether what wakes the GPU's rails has been set up.
    fn rpmh_ready(&self, facts: &Facts) -> bool {
        self.rsc.get(facts.rsc_sequencer) != 0 && self.pdc.get(PDC_ENABLE) & PDC_ENABLE_BIT != 0
    }

    /// The firmware begins, if there is any.
    fn boot(&self, device: &Device) {
        let version = self.get(FW_VERSION);
        let loaded = match self.load(device) {
            Ok(loaded) => loaded,
            Err(fault) => return self.fail(device, fault.into()),
        };
        trace!(
            device.board.trace,
            "gmu-boot loaded={loaded} version={version:#x}"
        );
        if loaded {
            self.state().running = true;
            let result = if version <= LAST_OLD_VERSION {
                OLD_RESULT
            } else {
                NEW_RESULT
            };
            self.set(CM3_FW_INIT_RESULT, result);
            self.set(RPMH_POWER_STATE, ACTIVE);
        }
    }

    /// Whether there is firmware. Writes to the log that it begins.
    fn load(&self, device: &Device) -> Result<bool, Fault> {
        let Some(facts) = self.facts.filter(|_| self.get(ITCM) != 0) else {
            return Ok(false);
        };
        if let Some(code) = facts.code {
            if hfi::fetch(device, code)? == 0 {
                return Ok(false);
            }
        }
        // Its lower bits have the log's size in pages.
        let log = self.get(facts.log) & !0xfff;
        hfi::write(device, log, device.gpu.ticks() as u32)?;
        Ok(true)
    }

    /// The firmware stops; who has power keeps it.
    fn halt(&self) {
        self.state().running = false;
        self.set(HFI_CTRL_STATUS, 0);
        self.set(TO_HOST, 0);
    }

    /// The firmware can't go on.
    fn fail(&self, device: &Device, why: hfi::Broken) {
        trace!(device.board.trace, "gmu-fault {why:?}");
        self.halt();
        if let hfi::Broken::Fault(fault) = why {
            let (vector, _) = device.smmu.latch(&device.board, &fault, false);
            if let Some(vector) = vector {
                device.board.irqs.raise(vector, &device.board.counters);
            }
        }
        self.raise(device, TO_HOST_FAULT);
    }

    /// Tells the kernel.
    fn raise(&self, device: &Device, bits: u32) {
        self.regs.set_bits(TO_HOST - FIRST, bits);
        if bits & !self.get(TO_HOST_MASK) != 0 {
            trace!(device.board.trace, "irq vector={} bits={bits:#x}", irq::HFI);
            device.board.irqs.raise(irq::HFI, &device.board.counters);
        }
    }

    fn interrupt(&self, device: &Device, facts: &Facts, bits: u32) {
        if bits & TO_GMU_MSGQ != 0 {
            let table = self.get(HFI_QTBL_ADDR);
            let order = |id, _: &[u32]| match id {
                hfi::GX_BW_PERF_VOTE => self.power(device, true),
                hfi::PREPARE_SLUMBER => self.power(device, false),
                _ => {}
            };
            match hfi::serve(device, table, facts.protocol, order) {
                Ok(0) => {}
                Ok(_) => self.raise(device, TO_HOST_MSGQ),
                Err(why) => return self.fail(device, why),
            }
        }
        for oob in facts.oobs {
            if bits & (1 << oob.set) != 0 {
                trace!(device.board.trace, "oob name={}", oob.name);
                match oob.power {
                    Power::AsItIs => {}
                    Power::Option => {
                        let sleep = self.get(BOOT_SLUMBER_OPTION) == OPTION_SLUMBER;
                        self.power(device, !sleep);
                    }
                    Power::On => self.power(device, true),
                }
                self.raise(device, 1 << oob.ack);
            } else if bits & (1 << oob.clear) != 0 {
                trace!(device.board.trace, "oob name={} clear", oob.name);
            }
        }
    }

    /// Switches the GPU's power.
    fn power(&self, device: &Device, on: bool) {
        {
            let mut state = self.state();
            state.gx = on;
            state.sptprac &= on;
        }
        self.set(RPMH_POWER_STATE, if on { ACTIVE } else { SLUMBER });
        device.settle_power();
    }

    /// The GPU's rail is gone, whatever the firmware had in mind.
    pub fn gx_lost(&self) {
        let mut state = self.state();
        state.gx = false;
        state.sptprac = false;
    }

    /// All that isn't always on loses its state.
    pub fn power_off(&self) {
        // Its own memory keeps what is in it, if the kernel has asked for that.
        let retained = self.misc.get(TCM_RET_CNTL) == 1;
        let kept: Vec<(u32, u32)> = (ITCM..DTCM_END)
            .filter(|_| retained)
            .map(|reg| (reg, self.get(reg)))
            .collect();
        self.regs.reset();
        for (reg, value) in kept {
            self.set(reg, value);
        }
        // Interrupts are edges here: one that the kernel hasn't asked for mustn't come when it has.
        self.set(TO_HOST_MASK, u32::MAX);
        *self.state() = State::default();
    }

    /// Everything loses its state.
    pub fn reset(&self) {
        for file in [&self.misc, &self.rsc, &self.pdc, &self.pdc_sequencer] {
            file.reset();
        }
        self.power_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use crate::testing::{add_memory, read32, write32, RAM, RAM_SIZE};
    use crate::trace::Trace;
    use proptest::prelude::*;
    use vadreno_ctl::power;

    fn device() -> Device {
        let device = Device::of_model(
            Board::new(Trace::off(), 1),
            crate::model::named("a618").unwrap(),
        );
        add_memory(&device.board.memory, RAM, RAM_SIZE);
        device
    }

    fn at(reg: u32) -> u64 {
        u64::from(GPU_BASE + 4 * reg)
    }

    fn get(device: &Device, reg: u32) -> u32 {
        device.bar0_read(at(reg))
    }

    fn set(device: &Device, reg: u32, value: u32) {
        device.bar0_write(at(reg), value);
    }

    /// Loads something, starts it, and gives the GPU power, as the kernel does.
    fn boot(device: &Device) {
        set(device, ITCM, 1);
        set(device, A618.log, RAM as u32 + 0x8003);
        set(device, CM3_SYSRESET, 1);
        set(device, CM3_SYSRESET, 0);
        set(device, TO_GMU, 1 << 22);
        assert_eq!(get(device, TO_HOST), 1 << 30);
        set(device, TO_HOST_CLR, 1 << 30);
        assert_eq!(get(device, TO_HOST), 0);
    }

    #[test]
    fn nothing_runs_without_firmware() {
        let device = device();
        set(&device, CM3_SYSRESET, 1);
        set(&device, CM3_SYSRESET, 0);
        assert_eq!(get(&device, CM3_FW_INIT_RESULT), 0);
        set(&device, TO_GMU, 1 << 22);
        assert_eq!(get(&device, TO_HOST), 0);
        boot(&device);
        assert_eq!(get(&device, CM3_FW_INIT_RESULT), OLD_RESULT);
        set(&device, FW_VERSION, 0x2001_0005);
        boot(&device);
        assert_eq!(get(&device, CM3_FW_INIT_RESULT), NEW_RESULT);
    }

    #[test]
    fn the_gpu_has_power_when_both_say_so() {
        let device = device();
        let gx = || device.power() & power::GX != 0;
        assert!(!gx());
        assert_eq!(get(&device, PWR_CLK_STATUS), 0xd4);
        boot(&device);
        assert!(gx());
        set(&device, 0x8c00, 5);
        set(&device, GX_SPTPRAC_POWER_CONTROL, 0x77_8000);
        assert_eq!(get(&device, PWR_CLK_STATUS), 0x28);
        set(&device, BOOT_SLUMBER_OPTION, OPTION_SLUMBER);
        set(&device, TO_GMU, 1 << 22);
        assert_eq!(get(&device, RPMH_POWER_STATE), SLUMBER);
        assert!(!gx());
        set(&device, BOOT_SLUMBER_OPTION, 0);
        set(&device, TO_GMU, 1 << 22);
        assert!(gx());
        assert_eq!(
            (get(&device, 0x8c00), get(&device, PWR_CLK_STATUS)),
            (0, 0x14)
        );
        // The rail goes: it doesn't come back by itself.
        device.set_power(power::CX);
        device.set_power(power::ALL);
        assert!(!gx());
        boot(&device);
        assert!(gx());
        // Nor does the firmware without power.
        device.set_power(0);
        device.set_power(power::ALL);
        assert_eq!(get(&device, ITCM), 0);
        set(&device, TO_GMU, 1 << 22);
        assert!(!gx());
    }

    #[test]
    fn the_rsc_answers_once_it_is_set_up() {
        let device = device();
        let rsc = |reg: u32| u64::from(A618.rsc.base + 4 * reg);
        set(&device, RSCC_CONTROL_REQ, RSC_SLEEP);
        assert_eq!(device.bar0_read(rsc(RSC_STATUS0)), RSC_STATUS0_OFF);
        set(&device, RSCC_CONTROL_REQ, RSC_WAKE);
        assert_eq!(device.bar0_read(rsc(RSC_STATUS0)), 0);
        assert_eq!(get(&device, RSCC_CONTROL_ACK), 0);
        device.bar0_write(rsc(A618.rsc_sequencer), 1);
        device.bar0_write(u64::from(A618.pdc.base + 4 * PDC_ENABLE), 0x8000_0001);
        assert_eq!(get(&device, RSCC_CONTROL_ACK), RSC_WAKE);
        assert_eq!(device.bar0_read(rsc(0x3ee)), TCS_IDLE);
        // It is always on.
        device.set_power(0);
        assert_eq!(device.bar0_read(rsc(A618.rsc_sequencer)), 1);
    }

    #[test]
    fn commands_are_served_and_broken_queues_noticed() {
        let device = device();
        boot(&device);
        set(&device, HFI_QTBL_ADDR, RAM as u32);
        set(&device, HFI_CTRL_INIT, 1);
        // There is no table.
        assert_eq!(get(&device, HFI_CTRL_STATUS), 0);
        assert_eq!(get(&device, TO_HOST), TO_HOST_FAULT);
        for (n, word) in [0, 120, 6, 12, 2, 2].into_iter().enumerate() {
            write32(&device, RAM + 4 * n as u64, word);
        }
        for (header, base) in [(RAM + 24, RAM + 0x1000), (RAM + 72, RAM + 0x2000)] {
            write32(&device, header + 4, base as u32);
            write32(&device, header + 12, 64);
        }
        boot(&device);
        set(&device, HFI_CTRL_INIT, 1);
        assert_eq!(get(&device, HFI_CTRL_STATUS), 1);
        write32(&device, RAM + 0x1000, (1 << 8) | 5);
        write32(&device, RAM + 24 + 44, 1);
        set(&device, TO_GMU, TO_GMU_MSGQ);
        assert_eq!(get(&device, TO_HOST), TO_HOST_MSGQ);
        assert_eq!(read32(&device, RAM + 72 + 44), 3);
    }

    proptest! {
        /// Whatever the kernel writes, to the registers and to its queues, does no harm.
        #[test]
        fn any_registers_and_queues(
            model in 0..crate::model::MODELS.len(),
            words in prop::collection::vec((0u64..0x40, any::<u32>()), 0..40),
            writes in prop::collection::vec((0usize..8, any::<u32>()), 0..40),
        ) {
            const REGS: [u32; 8] = [
                CM3_SYSRESET,
                HFI_QTBL_ADDR,
                HFI_CTRL_INIT,
                TO_GMU,
                TO_HOST_CLR,
                RSCC_CONTROL_REQ,
                BOOT_SLUMBER_OPTION,
                A740.log,
            ];
            let model = &crate::model::MODELS[model];
            let device = Device::of_model(Board::new(Trace::off(), 1), model);
            add_memory(&device.board.memory, RAM, RAM_SIZE);
            for (at, word) in words {
                // Some are small, or addresses.
                let word = match word % 4 {
                    0 => word,
                    1 => RAM as u32 + (word >> 20),
                    _ => word >> 27,
                };
                write32(&device, RAM + 4 * at, word);
            }
            set(&device, ITCM, 1);
            for (reg, value) in writes {
                let value = match value % 3 {
                    0 => value,
                    1 => RAM as u32,
                    _ => value >> 31,
                };
                set(&device, REGS[reg], value);
                get(&device, REGS[reg]);
            }
            device.reset();
        }
    }

    #[test]
    fn a_wrapper_keeps_what_is_written() {
        let device = crate::testing::bypass_device();
        for reg in [TO_GMU, PWR_CLK_STATUS, CM3_SYSRESET] {
            set(&device, reg, 7);
            assert_eq!(get(&device, reg), 7);
        }
        assert_eq!(get(&device, TO_HOST), 0);
    }
}
