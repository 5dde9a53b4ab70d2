// SPDX-License-Identifier: GPL-2.0-only

//! The SMMU-500: its register file, stream mapping, context banks and faults, and every access of
//! its client, which is the GPU or the display.
//!
//! One lock covers the translation **and** the access to memory that follows, and each
//! invalidation. So when an invalidation and its sync are done, no access that used the old
//! translation is under way, as the architecture demands of the hardware.
//!
//! Register offsets are bytes. Facts: Arm SMMU architecture 2 (IHI 0062), Linux's
//! `drivers/iommu/arm/arm-smmu/arm-smmu.h`.

use crate::bbm::{needs_break, Used};
use crate::board::Board;
use crate::finite::Finite;
use crate::freed::{Block, Freed, Hardware};
use crate::irq;
use crate::regs::RegFile;
use crate::tlb::{Scope, Tlb};
use crate::trace;
use crate::walk::{random_address, walk, Kind, Leaf, Regime, Table, Tables, WalkFault, IOVA_MASK};
use crate::watch::{Reach, Watch};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use vadreno_ctl::{counter, watch::BY_TLB};

/// Size of the register file in bytes.
pub const SIZE: u32 = 0x1_0000;

const SCR0: u32 = 0x0;
const SCR0_CLIENTPD: u32 = 1 << 0;
const SCR0_GFIE: u32 = 1 << 2;
const SCR0_USFCFG: u32 = 1 << 10;
const ID0: u32 = 0x20;
const ID1: u32 = 0x24;
const ID2: u32 = 0x28;
const ID7: u32 = 0x3c;
const SGFAR: u32 = 0x40;
const SGFSR: u32 = 0x48;
const SGFSR_USF: u32 = 1 << 1;
const SGFSYNR0: u32 = 0x50;
const SGFSYNR1: u32 = 0x54;
const STLBIALL: u32 = 0x60;
const TLBIVMID: u32 = 0x64;
const TLBIALLNSNH: u32 = 0x68;
const TLBIALLH: u32 = 0x6c;
const STLBGSYNC: u32 = 0x70;
const STLBGSTATUS: u32 = 0x74;
const SMR: u32 = 0x800;
const S2CR: u32 = 0xc00;
const STREAM_GROUPS: u32 = 8;
const CBFRSYNRA: u32 = 0x1400;
const CBFRSYNRA_END: u32 = CBFRSYNRA + 4 * BANK_COUNT;
const PRR_LOW: u32 = 0x6008;
const BANKS: u32 = 0x8000;
const BANK_SIZE: u32 = 0x1000;
const BANK_COUNT: u32 = 8;

const SCTLR: u32 = 0x0;
const SCTLR_M: u32 = 1 << 0;
const SCTLR_CFIE: u32 = 1 << 6;
const SCTLR_CFCFG: u32 = 1 << 7;
const ACTLR: u32 = 0x4;
const ACTLR_PRR: u32 = 1 << 5;
const RESUME: u32 = 0x8;
const TTBR0: u32 = 0x20;
const TTBR1: u32 = 0x28;
const TCR: u32 = 0x30;
const CONTEXTIDR: u32 = 0x34;
const FSR: u32 = 0x58;
const FSR_TF: u32 = 1 << 1;
const FSR_AFF: u32 = 1 << 2;
const FSR_PF: u32 = 1 << 3;
const FSR_EF: u32 = 1 << 4;
const FSR_SS: u32 = 1 << 30;
const FSR_MULTI: u32 = 1 << 31;
const FAR: u32 = 0x60;
const FSYNR0: u32 = 0x68;
const FSYNR0_WNR: u32 = 1 << 4;
const FSYNR0_PNU: u32 = 1 << 5;
const FSYNR0_PTWF: u32 = 1 << 10;
const FSYNR1: u32 = 0x6c;
const TLBIVA: u32 = 0x600;
const TLBIVAA: u32 = 0x608;
const TLBIASID: u32 = 0x610;
const TLBIALL: u32 = 0x618;
const TLBIVAL: u32 = 0x620;
const TLBIVAAL: u32 = 0x628;
const TLBSYNC: u32 = 0x7f0;
const TLBSTATUS: u32 = 0x7f4;

/// Where an SMMU sits: whose stream it takes, and which interrupts are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The client's stream ID.
    pub sid: u32,
    /// The GMU's.
    pub gmu: u32,
    /// Context banks, at most eight.
    pub banks: u32,
    /// Vector of the global fault interrupt; the context banks' follow.
    pub vector: usize,
}

impl Port {
    /// The GPU's SMMU.
    pub const GPU: Self = Self {
        sid: 0,
        gmu: 5,
        banks: BANK_COUNT,
        vector: irq::SMMU_GLOBAL,
    };
    /// The display's SMMU.
    pub const DISPLAY: Self = Self {
        sid: 0x420,
        gmu: 0x420,
        banks: 4,
        vector: irq::DISPLAY_SMMU_GLOBAL,
    };
}

fn bank_reg(bank: u32, reg: u32) -> u32 {
    BANKS + bank * BANK_SIZE + reg
}

/// A context bank, or all of them, as the trace names it.
fn named(bank: Option<u32>) -> impl std::fmt::Display {
    struct Name(Option<u32>);
    impl std::fmt::Display for Name {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self.0 {
                Some(bank) => bank.fmt(f),
                None => f.write_str("global"),
            }
        }
    }
    Name(bank)
}

/// Which block of the GPU makes an access. The kernel prints it with a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Command processor.
    Cp,
    /// Colour cache: what the 2D engine writes.
    Ccu,
    /// Texture pipe: what the 2D engine reads.
    Tp,
    /// The display, which has an SMMU to itself.
    Display,
    /// The GMU, which has a stream to itself.
    Gmu,
}

impl Client {
    /// FSYNR1's client: 0 is the CP, 4 the CCU, 3 one of UCHE's clients.
    fn mid(self) -> u32 {
        match self {
            Client::Cp | Client::Display | Client::Gmu => 0,
            Client::Ccu => 4,
            Client::Tp => 3,
        }
    }
}

/// Who makes an access, and with which privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The block.
    pub client: Client,
    /// It may use what only privileged accesses may (`IOMMU_PRIV`).
    pub privileged: bool,
}

/// What an access does.
#[derive(Debug)]
pub enum Access<'a> {
    /// Fills the buffer.
    Read(&'a mut [u8]),
    /// Stores the buffer.
    Write(&'a [u8]),
}

impl Access<'_> {
    fn writes(&self) -> bool {
        matches!(self, Access::Write(_))
    }
}

/// An access that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The address, 49 bits.
    pub iova: u64,
    /// It was a write.
    pub write: bool,
    /// Who made it.
    pub origin: Origin,
    /// The context bank and why it refused; `None` when no bank takes the stream.
    pub bank: Option<(u32, WalkFault)>,
}

/// How software ends a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Try the access again.
    Retry,
    /// The access is dropped; reads give 0.
    Terminate,
}

/// The last stale hit.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stale {
    /// Address.
    pub iova: u64,
    /// ASID.
    pub asid: u16,
    /// Descriptor in the TLB.
    pub old: u64,
    /// Descriptor in memory, 0 when a walk ends without one.
    pub new: u64,
}

/// What [`Smmu::probe`] finds.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// The translation, or why there is none.
    pub found: Result<Leaf, WalkFault>,
    /// Physical address of the last descriptor that was read; `None` when none was.
    pub at: Option<u64>,
}

/// What takes the client's stream.
enum Stream {
    Bank(u32),
    Bypass,
    Blocked,
}

#[derive(Debug, Default)]
struct State {
    tlb: Tlb,
    /// What a TLB of limited size would hold.
    finite: Finite,
    /// What jobs have used, for break before make.
    used: Used,
    /// Invalidations that wait for a sync, with their bank; `None` for global ones.
    pending: Vec<(Option<u32>, Scope)>,
    /// A sync that is not done before an instant.
    syncing: Option<(Option<u32>, Instant)>,
    stale: Stale,
    watch: Watch,
    freed: Freed,
    /// Invalidations that the settings had us ignore, and which nothing has made good for since.
    ignored: Vec<Scope>,
}

/// The SMMU.
#[derive(Debug)]
pub struct Smmu {
    port: Port,
    regs: RegFile,
    /// Banks with a fault whose FSR software hasn't cleared since: a bit each.
    faulted: AtomicU32,
    state: Mutex<State>,
}

impl Smmu {
    /// An SMMU as it is after power-on.
    pub fn new(port: Port) -> Self {
        let smmu = Self {
            port,
            regs: RegFile::new(SIZE as usize / 4, 0),
            faulted: AtomicU32::new(0),
            state: Mutex::default(),
        };
        smmu.power_off();
        smmu
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, offset: u32) -> u32 {
        self.regs.get(offset / 4)
    }

    fn bank(&self, bank: u32, reg: u32) -> u32 {
        self.get(bank_reg(bank, reg))
    }

    /// The registers lose their state. ACTLR and the PRR registers keep theirs: Linux writes them
    /// once and never again, and on real devices sparse residency goes on working after a suspend.
    /// The TLB keeps its entries, see [`crate::tlb`].
    pub fn power_off(&self) {
        let kept: Vec<(u32, u32)> = (0..BANK_COUNT)
            .map(|bank| bank_reg(bank, ACTLR))
            .chain([PRR_LOW, PRR_LOW + 4])
            .map(|reg| (reg / 4, self.get(reg)))
            .collect();
        self.regs.reset();
        for (reg, value) in kept {
            self.regs.set(reg, value);
        }
        self.regs.set(SCR0 / 4, SCR0_CLIENTPD);
    }

    /// All state goes, also the TLB's and the watch's.
    pub fn reset(&self) {
        self.regs.reset();
        self.regs.set(SCR0 / 4, SCR0_CLIENTPD);
        *self.state() = State::default();
    }

    /// A register read by the CPU.
    pub fn read(&self, board: &Board, offset: u32) -> u32 {
        match offset {
            // Stage 1, stream matching, no address translation operations, no AArch32, an interrupt
            // for each context bank, 15 stream ID bits, 8 stream mapping groups.
            ID0 => 0x4f00_1e08 | (self.port.banks << 16),
            // 4 KiB pages, 2·8 of them.
            ID1 => 0x2000_0000 | self.port.banks,
            // 48-bit addresses everywhere, 4 KiB granule.
            ID2 => 0x1555,
            // r2p1
            ID7 => 0x21,
            STLBGSTATUS => self.sync_status(board, None),
            _ if offset >= BANKS && offset % BANK_SIZE == TLBSTATUS => {
                self.sync_status(board, Some((offset - BANKS) / BANK_SIZE))
            }
            _ => self.get(offset),
        }
    }

    /// A register write by the CPU. Returns how a stall ends when the write says so.
    pub fn write(&self, board: &Board, offset: u32, value: u32) -> Option<Resume> {
        match offset {
            SGFSR => self.regs.clear_bits(offset / 4, value),
            ID0..=ID7 | STLBGSTATUS => {}
            STLBIALL | TLBIVMID | TLBIALLNSNH => self.invalidate(board, None, Scope::All),
            // Nothing is tagged as the hypervisor's.
            TLBIALLH => {
                board.counters.bump(counter::TLBI);
                board.counters.bump(counter::TLBI_ALL);
                trace!(board.trace, "tlbi kind=hyp");
            }
            STLBGSYNC => self.sync(board, None),
            _ if offset >= BANKS => {
                return self.write_bank(board, (offset - BANKS) / BANK_SIZE, offset, value)
            }
            _ => self.regs.set(offset / 4, value),
        }
        None
    }

    fn write_bank(&self, board: &Board, bank: u32, offset: u32, value: u32) -> Option<Resume> {
        match offset % BANK_SIZE {
            FSR => {
                self.regs.clear_bits(offset / 4, value);
                if self.regs.get(offset / 4) == 0 {
                    self.faulted.fetch_and(!(1 << bank), Relaxed);
                }
            }
            RESUME => {
                self.regs.clear_bits(bank_reg(bank, FSR) / 4, FSR_SS);
                trace!(board.trace, "resume bank={bank} value={value}");
                return Some(if value & 1 == 0 {
                    Resume::Retry
                } else {
                    Resume::Terminate
                });
            }
            TLBIASID => self.invalidate(board, Some(bank), Scope::Asid(value as u16)),
            TLBIALL => self.invalidate(board, Some(bank), Scope::All),
            TLBSYNC => self.sync(board, Some(bank)),
            TLBSTATUS => {}
            // The address registers have 64 bits: the write of the high half is what counts.
            reg @ (TLBIVA..=0x60f | TLBIVAL..=0x62f) => {
                self.regs.set(offset / 4, value);
                if reg % 8 == 4 {
                    let value = self.regs.get64(offset / 4 - 1);
                    self.invalidate_va(board, bank, reg - 4, value);
                }
            }
            SCTLR => {
                let before: Vec<Regime> = self.loaded(bank).collect();
                self.regs.set(offset / 4, value);
                let freed = &mut self.state().freed;
                if value & SCTLR_M == 0 {
                    before.iter().for_each(|regime| freed.unload(regime));
                }
                self.loaded(bank).for_each(|regime| freed.load(regime));
            }
            _ => self.regs.set(offset / 4, value),
        }
        None
    }

    fn invalidate_va(&self, board: &Board, bank: u32, reg: u32, value: u64) {
        // Linux shifts the sign-extended address of TTBR1's half, so that ones run into the ASID
        // field. Taken literally, that would never invalidate the kernel's own mappings.
        let sign_extended = (value >> 44) & 0xf == 0xf;
        let all = sign_extended || reg == TLBIVAA || reg == TLBIVAAL;
        self.invalidate(
            board,
            Some(bank),
            Scope::Va {
                asid: (!all).then_some((value >> 48) as u16),
                iova: (value << 12) & IOVA_MASK,
                last_level: reg == TLBIVAL || reg == TLBIVAAL,
            },
        );
    }

    fn invalidate(&self, board: &Board, bank: Option<u32>, scope: Scope) {
        board.counters.bump(counter::TLBI);
        let from = named(bank);
        match scope {
            Scope::All | Scope::LowerHalf(_) => {
                board.counters.bump(counter::TLBI_ALL);
                trace!(board.trace, "tlbi kind=all bank={from}");
            }
            Scope::Asid(asid) => {
                board.counters.bump(counter::TLBI_ASID);
                trace!(board.trace, "tlbi kind=asid bank={from} asid={asid}");
            }
            Scope::Va {
                asid,
                iova,
                last_level,
            } => {
                board.counters.bump(counter::TLBI_VA);
                trace!(
                    board.trace,
                    "tlbi kind=va bank={from} iova={iova:#x} asid={} last_level={last_level}",
                    asid.map_or("any".into(), |asid| asid.to_string())
                );
            }
        }
        let mut state = self.state();
        // Global ones come from the SMMU's reset, before the stream is let through.
        if let Some(bank) = bank {
            self.check_broken(board, &state, bank, scope);
        }
        state.used.forget(scope);
        if board.settings.ignore_tlbi.load(Relaxed) {
            if state.ignored.len() == 64 {
                state.ignored = vec![Scope::All];
            } else if !state.ignored.contains(&scope) {
                state.ignored.push(scope);
            }
        } else {
            if !state.pending.contains(&(bank, scope)) {
                state.pending.push((bank, scope));
            }
            // Software that never syncs must not make the device grow.
            if state.pending.len() > 1 << 16 {
                state.complete(None);
            }
        }
    }

    /// Software asks for an invalidation: what it names may have gone, but not have become
    /// something else yet.
    fn check_broken(&self, board: &Board, state: &State, bank: u32, scope: Scope) {
        if !matches!(self.stream(), Stream::Bank(used) if used == bank)
            || self.bank(bank, SCTLR) & SCTLR_M == 0
        {
            return;
        }
        let asid = self.asid(bank);
        for (iova, old) in state.used.named(asid, scope) {
            let regime = self.regime(bank, iova >> 48 != 0);
            let fresh = regime
                .root(iova)
                .and_then(|root| walk(&board.memory, &regime, root, iova, |_| {}));
            if let Some(new) = fresh.ok().filter(|new| needs_break(&old, new)) {
                self.unbroken(board, iova, &old, &new);
            }
        }
    }

    fn unbroken(&self, board: &Board, iova: u64, old: &Leaf, new: &Leaf) {
        board.find(
            counter::UNBROKEN,
            format_args!(
                "no break before make at iova {iova:#x}: descriptor {:#x} of level {} became {:#x} \
                 of level {} with no invalidation between, ttbr0 {:#x}",
                old.desc, old.level, new.desc, new.level, self.current().0
            ),
        );
    }

    /// Whether a register is one that the handler of a context fault goes to, and such a fault has
    /// been.
    pub fn serves_fault(&self, register: u32) -> bool {
        let faulted = |bank: u32| self.faulted.load(Relaxed) & (1 << bank) != 0;
        match (register, register % BANK_SIZE) {
            // Linux' arm_smmu_context_fault() reads one of them, too.
            (CBFRSYNRA..CBFRSYNRA_END, _) => faulted((register - CBFRSYNRA) / 4),
            (BANKS.., RESUME | CONTEXTIDR | TTBR0..=0x2c | FSR..=FSYNR1) => {
                faulted((register - BANKS) / BANK_SIZE)
            }
            _ => false,
        }
    }

    /// The GPU loses power.
    pub fn gpu_off(&self) {
        let asid = self.asid(self.stream_bank());
        self.state().used.forget_contexts(asid);
    }

    /// The CP is started, and may use the TLB.
    pub fn start(&self, board: &Board) {
        let mut state = self.state();
        let State {
            tlb,
            freed,
            ignored,
            ..
        } = &mut *state;
        let left = freed.start(tlb);
        // What it holds against the kernel's will isn't the kernel's mistake.
        for page in left.iter().filter(|_| ignored.is_empty()) {
            board.find(
                counter::LEFT_IN_TLB,
                format_args!("page {page:#x}, freed while the GPU had no power, is in the TLB"),
            );
        }
    }

    fn sync(&self, board: &Board, bank: Option<u32>) {
        board.counters.bump(counter::TLB_SYNC);
        trace!(board.trace, "tlbsync bank={}", named(bank));
        let mut state = self.state();
        match board.delay() {
            Some(delay) => {
                // One sync at a time is modelled; a second one completes what the first asked for
                // too.
                let both = match state.syncing {
                    Some((asked, _)) if asked != bank => None,
                    _ => bank,
                };
                state.syncing = Some((both, Instant::now() + delay));
            }
            None => state.complete(bank),
        }
    }

    fn sync_status(&self, board: &Board, bank: Option<u32>) -> u32 {
        let mut state = self.state();
        match state.syncing {
            Some((_, until)) if Instant::now() < until => 1,
            Some((asked, _)) => {
                state.syncing = None;
                state.complete(if asked == bank { bank } else { None });
                trace!(board.trace, "tlbsync-done bank={}", named(asked));
                0
            }
            None => 0,
        }
    }

    /// CP_SMMU_TABLE_UPDATE: loads TTBR0 and the ASID.
    pub fn table_update(&self, board: &Board, ttbr0: u64, contextidr: u32, bank: u32) {
        let bank = bank % BANK_COUNT;
        let mut state = self.state();
        self.regs.set64(bank_reg(bank, TTBR0) / 4, ttbr0);
        self.regs.set(bank_reg(bank, CONTEXTIDR) / 4, contextidr);
        let asid = (ttbr0 >> 48) as u16;
        state.tlb.invalidate(Scope::LowerHalf(asid));
        state.finite.invalidate(Scope::LowerHalf(asid));
        state.used.forget_contexts(asid);
        let regime = self.regime(bank, false);
        state.watch.remember(regime);
        state.freed.switch(&regime);
        board.counters.bump(counter::SWITCHES);
        trace!(
            board.trace,
            "context ttbr0={:#x} asid={asid}",
            ttbr0 & 0xffff_ffff_ffff
        );
    }

    /// TTBR0's address and ASID of the bank that the client uses.
    pub fn current(&self) -> (u64, u16) {
        let bank = self.stream_bank();
        let ttbr0 = self.regs.get64(bank_reg(bank, TTBR0) / 4);
        (ttbr0 & 0xffff_ffff_ffff, (ttbr0 >> 48) as u16)
    }

    fn stream_bank(&self) -> u32 {
        match self.stream() {
            Stream::Bank(bank) => bank,
            Stream::Bypass | Stream::Blocked => 0,
        }
    }

    /// The stream of what a client accesses.
    fn sid(&self, client: Client) -> u32 {
        match client {
            Client::Gmu => self.port.gmu,
            Client::Cp | Client::Ccu | Client::Tp | Client::Display => self.port.sid,
        }
    }

    fn stream(&self) -> Stream {
        self.stream_of(self.port.sid)
    }

    fn stream_of(&self, sid: u32) -> Stream {
        let scr0 = self.get(SCR0);
        if scr0 & SCR0_CLIENTPD != 0 {
            return Stream::Bypass;
        }
        let group = (0..STREAM_GROUPS).find(|n| {
            let smr = self.get(SMR + 4 * n);
            smr >> 31 == 1 && (smr ^ sid) & !(smr >> 16) & 0x7fff == 0
        });
        match group.map(|n| self.get(S2CR + 4 * n)) {
            Some(s2cr) => match (s2cr >> 16) & 3 {
                0 => Stream::Bank((s2cr & 0xff) % BANK_COUNT),
                1 => Stream::Bypass,
                _ => Stream::Blocked,
            },
            None if scr0 & SCR0_USFCFG != 0 => Stream::Blocked,
            None => Stream::Bypass,
        }
    }

    fn regime(&self, bank: u32, upper: bool) -> Regime {
        let tcr = self.bank(bank, TCR);
        let (ttbr, fields, granule) = if upper {
            (TTBR1, tcr >> 16, 2)
        } else {
            (TTBR0, tcr, 0)
        };
        Regime {
            ttbr: self.regs.get64(bank_reg(bank, ttbr) / 4) & 0xffff_ffff_ffff,
            tsz: fields & 0x3f,
            upper,
            granule_4k: (fields >> 14) & 3 == granule,
            disabled: fields & (1 << 7) != 0,
        }
    }

    /// The tables that a context bank translates by.
    fn loaded(&self, bank: u32) -> impl Iterator<Item = Regime> + '_ {
        let on = self.bank(bank, SCTLR) & SCTLR_M != 0;
        [false, true]
            .into_iter()
            .filter(move |_| on)
            .map(move |upper| self.regime(bank, upper))
            .filter(|regime| !regime.disabled)
    }

    fn asid(&self, bank: u32) -> u16 {
        let a1 = self.bank(bank, TCR) & (1 << 22) != 0;
        (self
            .regs
            .get64(bank_reg(bank, if a1 { TTBR1 } else { TTBR0 }) / 4)
            >> 48) as u16
    }

    /// Translates for an access of a job, or a speculative one, through the TLB.
    fn translate(
        &self,
        board: &Board,
        state: &mut State,
        bank: u32,
        iova: u64,
        job: bool,
    ) -> Result<Leaf, WalkFault> {
        let regime = self.regime(bank, iova >> 48 != 0);
        let asid = self.asid(bank);
        let (found, cached) = match state.tlb.leaf(asid, iova) {
            Some(leaf) => {
                board.counters.bump(counter::TLB_HITS);
                (Ok(leaf), true)
            }
            None => {
                board.counters.bump(counter::WALKS);
                let kept = state.tlb.table(asid, iova);
                let found = match kept.map_or_else(|| regime.root(iova), Ok) {
                    Ok(start) => {
                        let tlb = &mut state.tlb;
                        let keep = |table: Table| tlb.keep_table(asid, iova, table);
                        walk(&board.memory, &regime, start, iova, keep)
                    }
                    Err(fault) => Err(fault),
                };
                match found {
                    Ok(leaf) => {
                        state.tlb.keep_leaf(asid, iova, leaf);
                        trace!(
                            board.trace,
                            "walk iova={iova:#x} asid={asid} level={} pte={:#x} from_level={}",
                            leaf.level,
                            leaf.desc,
                            kept.map_or(0, |table| table.level)
                        );
                    }
                    Err(fault) => {
                        trace!(board.trace, "walk iova={iova:#x} asid={asid} {fault}")
                    }
                }
                (found, kept.is_some())
            }
        };
        let mut now = found;
        if cached {
            let fresh = regime
                .root(iova)
                .and_then(|root| walk(&board.memory, &regime, root, iova, |_| {}));
            now = fresh;
            let stale = match (&found, &fresh) {
                (Ok(old), Ok(new)) => !old.agrees(new),
                (Err(_), Err(_)) => false,
                _ => true,
            };
            if stale {
                let desc = |walk: Result<Leaf, WalkFault>| {
                    walk.map_or_else(|fault| fault.desc, |leaf| leaf.desc)
                };
                state.stale = Stale {
                    iova,
                    asid,
                    old: desc(found),
                    new: desc(fresh),
                };
                board.counters.bump(counter::STALE_HITS);
                trace!(
                    board.trace,
                    "stale iova={iova:#x} asid={asid} old={:#x} new={:#x}",
                    state.stale.old,
                    state.stale.new
                );
            }
        }
        if let Some(new) = now.ok().filter(|_| job) {
            let root = regime.root(iova).map_or(0, |root| root.level);
            let reads = state.finite.access(asid, iova, &new, root);
            board.counters.add(counter::FINITE_READS, reads);
            board.counters.add(counter::FINITE_WALKS, reads.min(1));
            if let Some(old) = state.used.note(asid, iova, new) {
                self.unbroken(board, iova, &old, &new);
            }
        }
        found
    }

    /// One access of the client for a job, which must not cross a 4 KiB boundary.
    pub fn access(
        &self,
        board: &Board,
        origin: Origin,
        iova: u64,
        access: Access<'_>,
    ) -> Result<(), Fault> {
        self.access_for(board, origin, iova, access, true)
    }

    fn access_for(
        &self,
        board: &Board,
        origin: Origin,
        iova: u64,
        access: Access<'_>,
        job: bool,
    ) -> Result<(), Fault> {
        let iova = iova & IOVA_MASK;
        let write = access.writes();
        let mut state = self.state();
        let fault = |bank| Fault {
            iova,
            write,
            origin,
            bank,
        };
        let mut bank = 0;
        let mut level = 0;
        let pa = match self.stream_of(self.sid(origin.client)) {
            Stream::Blocked => return Err(fault(None)),
            Stream::Bypass => iova,
            Stream::Bank(n) if self.bank(n, SCTLR) & SCTLR_M == 0 => iova,
            Stream::Bank(n) => {
                bank = n;
                let leaf = self
                    .translate(board, &mut state, bank, iova, job)
                    .map_err(|why| fault(Some((bank, why))))?;
                level = leaf.level;
                if !leaf.allows(write, origin.privileged) {
                    return Err(fault(Some((
                        bank,
                        WalkFault {
                            kind: Kind::Permission,
                            level,
                            desc: leaf.desc,
                        },
                    ))));
                }
                leaf.pa(iova)
            }
        };
        let prr = self.bank(bank, ACTLR) & ACTLR_PRR != 0
            && self.regs.get64(PRR_LOW / 4) & !0xfff == pa & !0xfff;
        if prr {
            board.counters.bump(counter::PRR);
        }
        if state.watch.note(iova, pa) {
            board.counters.bump(counter::WATCH_HITS);
            trace!(
                board.trace,
                "watch-hit iova={iova:#x} pa={pa:#x} write={write}"
            );
        }
        match access {
            Access::Write(_) if prr => Ok(()),
            Access::Write(buf) => board.memory.write(pa, buf),
            Access::Read(buf) => board.memory.read(pa, buf),
        }
        .map_err(|_| {
            fault(Some((
                bank,
                WalkFault {
                    kind: Kind::External,
                    level,
                    desc: 0,
                },
            )))
        })
    }

    /// Puts a fault into the registers. Returns the interrupt vector to raise, if it is enabled,
    /// and whether the access stalls until RESUME. `may_stall`: the client can wait.
    pub fn latch(&self, board: &Board, fault: &Fault, may_stall: bool) -> (Option<usize>, bool) {
        board.counters.bump(counter::FAULTS);
        let Some((bank, why)) = fault.bank else {
            trace!(
                board.trace,
                "fault kind=stream iova={:#x} write={}",
                fault.iova,
                fault.write
            );
            if self.get(SGFSR) == 0 {
                self.regs.set64(SGFAR / 4, fault.iova);
                self.regs.set(SGFSYNR0 / 4, u32::from(fault.write) << 1);
                let sid = self.sid(fault.origin.client);
                self.regs.set(SGFSYNR1 / 4, sid);
                self.regs.set_bits(SGFSR / 4, SGFSR_USF);
            } else {
                self.regs.set_bits(SGFSR / 4, FSR_MULTI);
            }
            let enabled = self.get(SCR0) & SCR0_GFIE != 0;
            return (enabled.then_some(self.port.vector), false);
        };
        let sctlr = self.bank(bank, SCTLR);
        let stall = may_stall && sctlr & SCTLR_CFCFG != 0;
        trace!(
            board.trace,
            "fault kind={} iova={:#x} write={} level={} pte={:#x} client={:?} privileged={} stall={stall}",
            why.kind,
            fault.iova,
            fault.write,
            why.level,
            why.desc,
            fault.origin.client,
            fault.origin.privileged
        );
        let status = match why.kind {
            Kind::Translation => FSR_TF,
            Kind::AccessFlag => FSR_AFF,
            Kind::Permission => FSR_PF,
            Kind::External | Kind::ExternalWalk => FSR_EF,
        } | if stall { FSR_SS } else { 0 };
        let fsr = bank_reg(bank, FSR) / 4;
        if self.regs.get(fsr) == 0 {
            // Addresses of TTBR1's half aren't sign-extended.
            self.regs.set64(bank_reg(bank, FAR) / 4, fault.iova);
            let mut syndrome = u32::from(why.level & 3) | (bank << 16);
            if fault.write {
                syndrome |= FSYNR0_WNR;
            }
            if fault.origin.privileged {
                syndrome |= FSYNR0_PNU;
            }
            if why.kind == Kind::ExternalWalk {
                syndrome |= FSYNR0_PTWF;
            }
            self.regs.set(bank_reg(bank, FSYNR0) / 4, syndrome);
            self.regs
                .set(bank_reg(bank, FSYNR1) / 4, fault.origin.client.mid());
            let sid = self.sid(fault.origin.client);
            self.regs.set((CBFRSYNRA + 4 * bank) / 4, sid);
            self.regs.set_bits(fsr, status);
        } else {
            // FAR and the syndrome stay those of the first fault.
            self.regs
                .set_bits(fsr, FSR_MULTI | if stall { FSR_SS } else { 0 });
        }
        self.faulted.fetch_or(1 << bank, Relaxed);
        let enabled = sctlr & SCTLR_CFIE != 0;
        (
            enabled.then_some(self.port.vector + 1 + bank as usize),
            stall,
        )
    }

    /// Reads at a random address that the current context maps.
    pub fn speculate(&self, board: &Board) {
        let bank = self.stream_bank();
        if self.bank(bank, SCTLR) & SCTLR_M == 0 {
            return;
        }
        let regime = self.regime(bank, board.chance.between(0, 7) == 0);
        let pick = |n: u64| board.chance.between(0, n.saturating_sub(1));
        if let Some(iova) = random_address(&board.memory, &regime, pick) {
            board.counters.bump(counter::SPECULATIVE);
            let mut word = [0; 4];
            // A speculative access that finds nothing is dropped without a fault.
            let origin = Origin {
                client: Client::Cp,
                privileged: true,
            };
            let _ = self.access_for(board, origin, iova, Access::Read(&mut word), false);
        }
    }

    /// Translates by the tables alone. `ttbr0`: 0 for the current context.
    /// `None` when the context bank is off.
    pub fn probe(&self, board: &Board, ttbr0: u64, iova: u64) -> Option<Probe> {
        let bank = self.stream_bank();
        if self.bank(bank, SCTLR) & SCTLR_M == 0 {
            return None;
        }
        let iova = iova & IOVA_MASK;
        let mut regime = self.regime(bank, iova >> 48 != 0);
        if !regime.upper && ttbr0 != 0 {
            regime = self.state().watch.context(ttbr0).unwrap_or(Regime {
                ttbr: ttbr0 & 0xffff_ffff_ffff,
                ..regime
            });
        }
        let mut last = None;
        let found = regime.root(iova).and_then(|root| {
            last = Some(root);
            walk(&board.memory, &regime, root, iova, |table| {
                last = Some(table)
            })
        });
        Some(Probe {
            found,
            at: last.map(|table| regime.descriptor(table, iova)),
        })
    }

    /// Puts a descriptor at a physical address, as a write of the CPU does, and forgets the
    /// translation of `iova`.
    pub fn store(&self, board: &Board, iova: u64, at: u64, desc: u64) {
        let mut state = self.state();
        // Where there is no memory, nothing changes.
        if board.memory.write(at, &desc.to_le_bytes()).is_ok() {
            let scope = Scope::Va {
                asid: None,
                iova: iova & IOVA_MASK & !0xfff,
                last_level: true,
            };
            state.tlb.invalidate(scope);
            state.finite.invalidate(scope);
            state.used.forget(scope);
        }
    }

    /// Whether the TLB holds, for `asid` and `iova`, what the tables don't say: `found` is their
    /// answer.
    pub fn is_stale(&self, asid: u16, iova: u64, found: Option<&Leaf>) -> bool {
        self.state()
            .tlb
            .leaf(asid, iova)
            .is_some_and(|kept| !found.is_some_and(|leaf| kept.agrees(leaf)))
    }

    /// Leaf and table entries of an ASID, or of all.
    pub fn tlb_count(&self, asid: Option<u16>) -> (usize, usize) {
        self.state().tlb.count(asid)
    }

    /// The last stale hit.
    pub fn stale(&self) -> Stale {
        self.state().stale
    }

    /// Forgets the last stale hit.
    pub fn clear_stale(&self) {
        self.state().stale = Stale::default();
    }

    /// Runs `f` on the page watch.
    pub fn watch<R>(&self, f: impl FnOnce(&mut Watch) -> R) -> R {
        f(&mut self.state().watch)
    }

    /// Asks how a page can be reached; the answer is kept in the watch.
    pub fn reach(&self, board: &Board, pa: u64) {
        let bank = self.stream_bank();
        let upper = (self.bank(bank, SCTLR) & SCTLR_M != 0).then(|| self.regime(bank, true));
        let mut state = self.state();
        let mut reach: Reach = state.watch.reach(&board.memory, upper, pa);
        if let Some(iova) = state.tlb.find_page(pa & !0xfff) {
            if reach.how & vadreno_ctl::watch::BY_TABLE == 0 {
                reach.iova = iova;
            }
            reach.how |= BY_TLB;
        }
        trace!(
            board.trace,
            "watch-query pa={pa:#x} how={} iova={:#x} ttbr0={:#x} mappings={}",
            reach.how,
            reach.iova,
            reach.ttbr0,
            reach.mappings
        );
        state.watch.answer = reach;
    }

    /// The guest gives back the pages of its list, see [`vadreno_ctl::freed`]. Returns 0, or the
    /// number of the first entry to which something leads. `client_on`: whether the client has
    /// power; `pending`: the roots that it is going to load.
    pub fn check_freed(&self, board: &Board, client_on: bool, pending: &[u64]) -> u64 {
        let mut state = self.state();
        let State {
            tlb,
            watch,
            freed,
            ignored,
            ..
        } = &mut *state;
        let on = self.get(SCR0) & SCR0_CLIENTPD == 0;
        let loaded: Vec<Regime> = (0..BANK_COUNT)
            .filter(|_| on)
            .flat_map(|bank| self.loaded(bank))
            .collect();
        let hardware = Hardware {
            // What it holds against the kernel's will isn't the kernel's mistake.
            tlb: (on && ignored.is_empty()).then_some(tlb),
            client_on,
            loaded: &loaded,
            pending,
        };
        let word = |at| board.memory.descriptor(freed.list + 8 * at);
        let count = word(0).unwrap_or(0).min(vadreno_ctl::freed::MAX);
        let blocks: Vec<Block> = (1..=count)
            .filter_map(word)
            .map(|entry| Block {
                pa: entry & !0xfff,
                order: (entry & 0xff) as u32,
            })
            .collect();
        let dead_roots = freed.dead_roots;
        let found = freed.check(&board.memory, watch, &hardware, &blocks);
        if found.is_some() {
            trace!(
                board.trace,
                "watch-freed page={:#x} how={} iova={:#x} ttbr0={:#x}",
                freed.finding.page,
                freed.finding.how,
                freed.finding.iova,
                freed.finding.ttbr0
            );
        }
        if freed.dead_roots != dead_roots {
            trace!(board.trace, "watch-dead-root count={}", freed.dead_roots);
        }
        found.map_or(0, |number| number as u64 + 1)
    }

    /// Runs `f` on what is known for pages that are given back.
    pub fn freed<R>(&self, f: impl FnOnce(&mut Freed) -> R) -> R {
        f(&mut self.state().freed)
    }

    /// After a job: counts the watched pages that live tables lead to.
    pub fn check_watched(&self, board: &Board) {
        let state = self.state();
        for (pa, iova, ttbr0) in state.watch.reachable(&board.memory) {
            board.counters.bump(counter::WATCH_LIVE);
            trace!(
                board.trace,
                "watch-live pa={pa:#x} iova={iova:#x} ttbr0={ttbr0:#x}"
            );
        }
    }
}

impl State {
    /// Carries out what a sync of `bank` completes; `None`: all.
    fn complete(&mut self, bank: Option<u32>) {
        let (tlb, ignored) = (&mut self.tlb, &mut self.ignored);
        self.pending.retain(|(from, scope)| {
            let done = bank.is_none() || *from == bank;
            if done {
                tlb.invalidate(*scope);
                ignored.retain(|ignored| *scope != Scope::All && ignored != scope);
            }
            !done
        });
        self.freed.invalidated(&self.tlb);
    }
}
