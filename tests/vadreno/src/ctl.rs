// SPDX-License-Identifier: GPL-2.0-only

//! The control BAR: carries out what [`vadreno_ctl`] describes.

use crate::device::Device;
use crate::gpu::{int, Activity};
use crate::pending;
use crate::picture::Picture;
use crate::smmu::Smmu;
use crate::trace;
use crate::walk::Kind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use vadreno_ctl::*;

/// Questions and answers of the TRANSLATE, TLB and ROW mailboxes.
#[derive(Debug, Default)]
pub struct Mailbox {
    row: Row,
    iova: AtomicU64,
    ttbr0: AtomicU64,
    translation: Mutex<Translation>,
    runs: AtomicU64,
    asid: AtomicU64,
    /// The last page that was given back though something leads there: the display.
    freed_by_display: AtomicBool,
    point: AtomicU64,
}

#[derive(Debug, Default)]
struct Row {
    ttbr0: AtomicU64,
    asid: AtomicU64,
    count: AtomicU64,
    mapped: AtomicU64,
    writable: AtomicU64,
    stale: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Translation {
    /// Address, and where the last descriptor is.
    iova: u64,
    at: Option<u64>,
    status: u64,
    pa: u64,
    pte: u64,
    level: u64,
}

/// The display's SMMU, if `ttbr0` is what it translates by, otherwise the GPU's.
fn smmu_of(device: &Device, ttbr0: u64) -> &Smmu {
    device
        .display
        .as_ref()
        .map(|display| &display.smmu)
        .filter(|smmu| ttbr0 != 0 && smmu.current().0 == ttbr0)
        .unwrap_or(&device.smmu)
}

/// Looks up the pages that the guest gives back.
fn check_freed(device: &Device) -> u64 {
    let by_display = &device.mailbox.freed_by_display;
    let gpu_on = device.power() & power::GX != 0;
    let pending = pending::roots(device);
    by_display.store(false, Relaxed);
    match device.smmu.check_freed(&device.board, gpu_on, &pending) {
        0 => device.display.as_ref().map_or(0, |display| {
            by_display.store(true, Relaxed);
            display.smmu.check_freed(&device.board, true, &[])
        }),
        found => found,
    }
}

/// The SMMUs whose tables are looked through when pages are given back.
fn freed_smmus(device: &Device) -> impl Iterator<Item = &Smmu> {
    let display = device.display.iter().map(|display| &display.smmu);
    std::iter::once(&device.smmu).chain(display)
}

/// Reads a register of the control BAR. `offset` is a multiple of 8.
pub fn read(device: &Device, offset: usize) -> u64 {
    let settings = &device.board.settings;
    let translation = || {
        *device
            .mailbox
            .translation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    let tlb_count = || {
        let asid = device.mailbox.asid.load(Relaxed);
        device
            .smmu
            .tlb_count((asid != tlb::ANY).then_some(asid as u16))
    };
    let finding = || match &device.display {
        Some(display) if device.mailbox.freed_by_display.load(Relaxed) => {
            display.smmu.freed(|freed| freed.finding)
        }
        _ => device.smmu.freed(|freed| freed.finding),
    };
    match offset {
        ID => ID_VALUE,
        VERSION => VERSION_VALUE,
        HOLD_CP => settings.hold_cp.load(Relaxed).into(),
        CP_STATE => match device.gpu.control().activity {
            Activity::Idle => cp_state::IDLE,
            Activity::Busy => cp_state::BUSY,
            Activity::Held => cp_state::HELD,
            Activity::Stalled => cp_state::STALLED,
            Activity::Hung => cp_state::HUNG,
        },
        POWER => device.power(),
        IGNORE_TLBI => settings.ignore_tlbi.load(Relaxed).into(),
        DELAY => settings.delay.load(Relaxed),
        SPECULATE => settings.speculate.load(Relaxed),
        SEED => device.board.chance.seed(),
        current::TTBR0 => device.smmu.current().0,
        current::ASID => device.smmu.current().1.into(),
        translate::IOVA => device.mailbox.iova.load(Relaxed),
        translate::TTBR0 => device.mailbox.ttbr0.load(Relaxed),
        translate::STATUS => translation().status,
        translate::PA => translation().pa,
        row::TTBR0 => device.mailbox.row.ttbr0.load(Relaxed),
        row::ASID => device.mailbox.row.asid.load(Relaxed),
        row::COUNT => device.mailbox.row.count.load(Relaxed),
        row::MAPPED => device.mailbox.row.mapped.load(Relaxed),
        row::WRITABLE => device.mailbox.row.writable.load(Relaxed),
        row::STALE => device.mailbox.row.stale.load(Relaxed),
        translate::PTE => translation().pte,
        translate::LEVEL => translation().level,
        translate::RUNS => device.mailbox.runs.load(Relaxed),
        tlb::ASID => device.mailbox.asid.load(Relaxed),
        tlb::COUNT => tlb_count().0 as u64,
        tlb::TABLES => tlb_count().1 as u64,
        stale::IOVA => device.smmu.stale().iova,
        stale::OLD_PTE => device.smmu.stale().old,
        stale::NEW_PTE => device.smmu.stale().new,
        stale::ASID => device.smmu.stale().asid.into(),
        watch::REACHABLE => device.smmu.watch(|watch| watch.answer.how),
        watch::IOVA => device.smmu.watch(|watch| watch.answer.iova),
        watch::TTBR0 => device.smmu.watch(|watch| watch.answer.ttbr0),
        watch::MAPPINGS => device.smmu.watch(|watch| watch.answer.mappings),
        watch::CONTEXTS => device.smmu.watch(|watch| watch.contexts() as u64),
        watch::HIT_IOVA => device.smmu.watch(|watch| watch.hit.0),
        watch::HIT_PAGE => device.smmu.watch(|watch| watch.hit.1),
        freed::LIST => device.smmu.freed(|freed| freed.list),
        freed::CHECK => check_freed(device),
        freed::PAGE => finding().page,
        freed::HOW => finding().how,
        freed::IOVA => finding().iova,
        freed::TTBR0 => finding().ttbr0,
        freed::LENIENT => device.smmu.freed(|freed| freed.lenient).into(),
        freed::CHECKED => device.smmu.freed(|freed| freed.checked),
        freed::DEAD_ROOTS => freed_smmus(device)
            .map(|smmu| smmu.freed(|freed| freed.dead_roots))
            .sum(),
        freed::BARE_TABLES => freed_smmus(device)
            .map(|smmu| smmu.freed(|freed| freed.bare_tables))
            .sum(),
        display::STATE..=display::KEEP => display(device, offset),
        _ => device.board.counters.get(offset).unwrap_or(0),
    }
}

/// Writes a register of the control BAR. `offset` is a multiple of 8.
pub fn write(device: &Device, offset: usize, value: u64) {
    let board = &device.board;
    let settings = &board.settings;
    trace!(board.trace, "ctl offset={offset:#x} value={value:#x}");
    match offset {
        HOLD_CP => {
            settings.hold_cp.store(value != 0, Relaxed);
            device.gpu.wake();
        }
        POWER => device.set_power(value),
        IGNORE_TLBI => settings.ignore_tlbi.store(value != 0, Relaxed),
        DELAY => settings.delay.store(value, Relaxed),
        SPECULATE => settings.speculate.store(value, Relaxed),
        SEED => board.chance.reseed(value),
        HANG => device.gpu.raise(board, int::HANG_DETECT),
        COUNTERS_RESET if value == 1 => {
            board.counters.reset();
            device.smmu.clear_stale();
        }
        translate::IOVA => device.mailbox.iova.store(value, Relaxed),
        translate::TTBR0 => device.mailbox.ttbr0.store(value, Relaxed),
        translate::GO => translate(device, value == translate::WRITE),
        translate::RUNS => {
            let runs = runs(device, value).unwrap_or(0);
            device.mailbox.runs.store(runs, Relaxed);
        }
        translate::STORE => {
            let Translation { iova, at, .. } = *device
                .mailbox
                .translation
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = at {
                let ttbr0 = device.mailbox.ttbr0.load(Relaxed);
                smmu_of(device, ttbr0).store(board, iova, at, value);
            }
        }
        tlb::ASID => device.mailbox.asid.store(value, Relaxed),
        row::TTBR0 => device.mailbox.row.ttbr0.store(value, Relaxed),
        row::ASID => device.mailbox.row.asid.store(value, Relaxed),
        row::COUNT => device.mailbox.row.count.store(value, Relaxed),
        row::FIRST => look_along(device, value),
        watch::PAGE => device.smmu.reach(board, value),
        watch::FORGET => device.smmu.watch(|watch| watch.forget(value)),
        watch::ADD => device.smmu.watch(|watch| watch.add(value)),
        freed::LIST => {
            for smmu in freed_smmus(device) {
                smmu.freed(|freed| freed.list = value & !0xfff);
            }
        }
        freed::LENIENT => {
            for smmu in freed_smmus(device) {
                smmu.freed(|freed| freed.lenient = value != 0);
            }
        }
        display::POINT => device.mailbox.point.store(value, Relaxed),
        display::KEEP => {
            if let Some(display) = &device.display {
                display.keep();
            }
        }
        watch::REMOVE => device.smmu.watch(|watch| watch.remove(value)),
        _ => {}
    }
}

/// Reads a register of [`vadreno_ctl::display`].
fn display(device: &Device, offset: usize) -> u64 {
    let Some(mdp) = &device.display else {
        return display::NONE;
    };
    match offset {
        display::STATE if mdp.on() => display::ON,
        display::STATE => display::OFF,
        display::TTBR0 => mdp.smmu.current().0,
        display::BASE => mdp.base(),
        display::FRAMES => mdp.frames(),
        display::SIZE => {
            let (width, height) = mdp.shown(Picture::size);
            u64::from(width) | (u64::from(height) << 32)
        }
        display::POINT => device.mailbox.point.load(Relaxed),
        display::COLOUR => {
            let point = device.mailbox.point.load(Relaxed);
            let [red, green, blue, _] =
                mdp.shown(|picture| picture.pixel(point as u32, (point >> 32) as u32));
            u64::from(u32::from_be_bytes([0, red, green, blue]))
        }
        _ => 0,
    }
}

fn look_along(device: &Device, first: u64) {
    let row = &device.mailbox.row;
    let ttbr0 = row.ttbr0.load(Relaxed);
    let asid = row.asid.load(Relaxed) as u16;
    let (mut mapped, mut writable, mut stale) = (0, 0, 0);
    for page in 0..row.count.load(Relaxed).min(64) {
        let iova = first.wrapping_add(page << 12);
        let found = device.smmu.probe(&device.board, ttbr0, iova);
        let leaf = found.as_ref().and_then(|probe| probe.found.as_ref().ok());
        mapped |= u64::from(leaf.is_some()) << page;
        writable |= u64::from(leaf.is_some_and(|leaf| leaf.writable())) << page;
        stale |= u64::from(device.smmu.is_stale(asid, iova, leaf)) << page;
    }
    row.mapped.store(mapped, Relaxed);
    row.writable.store(writable, Relaxed);
    row.stale.store(stale, Relaxed);
}

/// The runs that `length` bytes from the mailbox's address on have.
fn runs(device: &Device, length: u64) -> Option<u64> {
    const PAGE: u64 = 4096;
    let iova = device.mailbox.iova.load(Relaxed) & !(PAGE - 1);
    let ttbr0 = device.mailbox.ttbr0.load(Relaxed);
    if length > translate::RUNS_MAX {
        return None;
    }
    let (mut runs, mut expected) = (0, None);
    for page in 0..length.div_ceil(PAGE) {
        let iova = iova.wrapping_add(page * PAGE);
        let pa = device
            .smmu
            .probe(&device.board, ttbr0, iova)?
            .found
            .ok()?
            .pa(iova);
        runs += u64::from(expected != Some(pa));
        expected = Some(pa + PAGE);
    }
    Some(runs)
}

fn translate(device: &Device, write: bool) {
    let iova = device.mailbox.iova.load(Relaxed);
    let ttbr0 = device.mailbox.ttbr0.load(Relaxed);
    let probe = smmu_of(device, ttbr0).probe(&device.board, ttbr0, iova);
    let mut answer = match probe.map(|probe| probe.found) {
        None => Translation {
            status: translate::OFF,
            ..Translation::default()
        },
        Some(Ok(leaf)) => Translation {
            status: if write && !leaf.writable() {
                translate::PERMISSION
            } else {
                translate::OK
            },
            pa: leaf.pa(iova),
            pte: leaf.desc,
            level: leaf.level.into(),
            ..Translation::default()
        },
        Some(Err(fault)) => Translation {
            status: match fault.kind {
                Kind::Translation => translate::TRANSLATION,
                Kind::AccessFlag => translate::ACCESS_FLAG,
                Kind::Permission => translate::PERMISSION,
                Kind::External | Kind::ExternalWalk => translate::EXTERNAL,
            },
            pte: fault.desc,
            level: fault.level.into(),
            ..Translation::default()
        },
    };
    answer.iova = iova;
    answer.at = probe.and_then(|probe| probe.at);
    *device
        .mailbox
        .translation
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = answer;
}
