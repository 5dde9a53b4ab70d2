// SPDX-License-Identifier: GPL-2.0-only

//! The display: an MDP4 whose pipes VG1, VG2 and RGB1 are mixed and go to an LCDC panel, without an
//! end and at the mode's rate.
//!
//! What software writes for a pipe or for the mixer is used from the vsync on that follows the
//! flush, as is a change of LCDC_ENABLE. Pixels are read in parts over the time of a frame, through
//! an SMMU of the display's own. One that can't be read is an underrun. The cursor lies above all
//! else; what is written for it counts at once, and its pixels are read with a frame's last part.
//!
//! Time is the host's. When its thread is late, the device first does what should have been before:
//! software that has waited for longer than a frame finds that the vsync has been.
//!
//! Register offsets are bytes, as in `mdp4.xml` of Linux (`drivers/gpu/drm/msm/registers/display`).
//! All that is not named here keeps what was written.

use crate::board::Board;
use crate::device::Device;
use crate::irq;
use crate::picture::{Layer, Picture};
use crate::regs::RegFile;
use crate::smmu::{Access, Client, Fault, Origin, Port, Smmu};
use crate::trace;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vadreno_ctl::counter;

/// Size of the register file in bytes.
pub const SIZE: u32 = 0x10_0000;

const VERSION: u32 = 0x0;
/// Version 4.4, as in the APQ8064.
const VERSION_VALUE: u32 = 0x0404_0000;
const INTR_ENABLE: u32 = 0x50;
const INTR_STATUS: u32 = 0x54;
const INTR_CLEAR: u32 = 0x58;
const INT_OVERLAY0_DONE: u32 = 1 << 0;
const INT_DMA_P_DONE: u32 = 1 << 4;
const INT_PRIMARY_VSYNC: u32 = 1 << 7;
const INT_PRIMARY_UNDERRUN: u32 = 1 << 8;
const OVLP0_SIZE: u32 = 0x1_0008;
/// What happens at each stage above the base.
const OVLP0_STAGE_OP: [u32; 4] = [0x1_0104, 0x1_0124, 0x1_0144, 0x1_0160];
const STAGE_FG_PIXEL_ALPHA: u32 = 2;
const LAYERMIXER_IN_CFG: u32 = 0x1_0100;
const OVERLAY_FLUSH: u32 = 0x1_8000;
const FLUSH_OVLP0: u32 = 1 << 0;
const LCDC_ENABLE: u32 = 0xc_0000;
/// Pixels of a frame, with those that nobody sees.
const LCDC_VSYNC_PERIOD: u32 = 0xc_0008;
const LVDS_PHY_PLL_LOCKED: u32 = 0xc_3080;

/// The cursor's registers, of DMA_P.
const CURSOR_SIZE: u32 = 0x9_0044;
const CURSOR_BASE: u32 = 0x9_0048;
const CURSOR_POS: u32 = 0x9_004c;
const CURSOR_BLEND_CONFIG: u32 = 0x9_0060;
const CURSOR_EN: u32 = 1 << 0;

/// The registers of a pipe begin here.
const PIPES: u32 = 0x2_0000;
const PIPE_SIZE: u32 = 0x1_0000;
const PIPE_SRC_SIZE: u32 = 0x0;
const PIPE_SRC_XY: u32 = 0x4;
const PIPE_DST_SIZE: u32 = 0x8;
const PIPE_DST_XY: u32 = 0xc;
const PIPE_SRC_BASE: u32 = 0x10;
const PIPE_SRC_STRIDE: u32 = 0x40;
const PIPE_SRC_FORMAT: u32 = 0x50;
const PIPE_SRC_UNPACK: u32 = 0x54;

/// The pipes that a panel on LCDC can show: VG1, VG2, RGB1.
const PIPE_COUNT: usize = 3;
/// Bit of the first pipe in [`OVERLAY_FLUSH`].
const FLUSH_FIRST_PIPE: u32 = 2;

/// The pixel clock in Hz, as the overlay in `tests/glue` has it.
const PIXEL_CLOCK: u64 = 25_200_000;
/// In so many parts a frame is read.
const PARTS: u32 = 4;

/// How the display reads.
const READER: Origin = Origin {
    client: Client::Display,
    privileged: false,
};

/// The display.
#[derive(Debug)]
pub struct Mdp {
    regs: RegFile,
    /// Its SMMU.
    pub smmu: Smmu,
    state: Mutex<State>,
    /// The panel was switched.
    switched: Condvar,
}

impl Default for Mdp {
    fn default() -> Self {
        Self {
            regs: RegFile::new(SIZE as usize / 4, 0),
            smmu: Smmu::new(Port::DISPLAY),
            state: Mutex::default(),
            switched: Condvar::new(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// When the panel is on.
    frame: Option<Frame>,
    /// What was flushed for each pipe.
    pipes: [Layer; PIPE_COUNT],
    /// What was flushed for the mixer.
    mixer: Mixer,
    /// The last frame that was read to its end.
    shown: Picture,
    /// The one that a test wants as the screenshot.
    kept: Option<Picture>,
    /// Complete frames so far.
    frames: u64,
}

/// The frame that is going to the panel.
#[derive(Debug)]
struct Frame {
    /// The vsync that it begins with.
    start: Instant,
    period: Duration,
    /// The panel goes off with this frame's end.
    last: bool,
    /// Parts that were read, or given up.
    parts: u32,
    picture: Picture,
}

/// What the mixer makes of the pipes.
#[derive(Debug, Default, Clone, Copy)]
struct Mixer {
    /// LAYERMIXER_IN_CFG
    config: u32,
    /// Of the whole picture.
    size: (u32, u32),
    /// A bit for each stage above the base whose pixels have an alpha.
    alpha: u32,
}

fn pair(value: u32) -> (u32, u32) {
    (value & 0xffff, value >> 16)
}

impl Frame {
    fn end(&self) -> Instant {
        self.start + self.period
    }

    /// When the next part is to be read, or the frame ends.
    fn due(&self) -> Instant {
        self.start + self.period * self.parts / PARTS
    }
}

impl Mdp {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A register read by the CPU.
    pub fn read(&self, board: &Board, offset: u32) -> u32 {
        match offset {
            VERSION => VERSION_VALUE,
            LVDS_PHY_PLL_LOCKED => 1,
            OVERLAY_FLUSH => {
                self.catch_up(board, &mut self.state(), Instant::now());
                self.regs.get(offset / 4)
            }
            _ => self.regs.get(offset / 4),
        }
    }

    /// A register write by the CPU.
    pub fn write(&self, board: &Board, offset: u32, value: u32) {
        match offset {
            INTR_STATUS => {}
            INTR_CLEAR => self.regs.clear_bits(INTR_STATUS / 4, value),
            INTR_ENABLE => {
                self.regs.set(offset / 4, value);
                self.raise(board, 0);
            }
            OVERLAY_FLUSH => {
                trace!(board.trace, "flush bits={value:#x}");
                self.regs.set_bits(offset / 4, value);
            }
            CURSOR_SIZE | CURSOR_BASE | CURSOR_BLEND_CONFIG => {
                // What the old values lead to isn't read any more when the write is done.
                let _state = self.state();
                self.regs.set(offset / 4, value);
            }
            LCDC_ENABLE => {
                self.regs.set(offset / 4, value);
                self.switch(board, value & 1 != 0);
            }
            _ => self.regs.set(offset / 4, value),
        }
    }

    /// Adds to the interrupts that have happened, and tells the CPU of those that it wants.
    fn raise(&self, board: &Board, bits: u32) {
        self.regs.set_bits(INTR_STATUS / 4, bits);
        if self.regs.get(INTR_STATUS / 4) & self.regs.get(INTR_ENABLE / 4) != 0 {
            board.irqs.raise(irq::DISPLAY, &board.counters);
        }
    }

    fn switch(&self, board: &Board, on: bool) {
        let mut state = self.state();
        let now = Instant::now();
        self.catch_up(board, &mut state, now);
        match &mut state.frame {
            Some(frame) => frame.last = !on,
            None if on => {
                let pixels = u64::from(self.regs.get(LCDC_VSYNC_PERIOD / 4));
                let period = Duration::from_nanos(pixels * 1_000_000_000 / PIXEL_CLOCK)
                    .clamp(Duration::from_millis(1), Duration::from_secs(1));
                trace!(board.trace, "panel on=true period={period:?}");
                // Nothing is shown before the first vsync.
                state.frame = Some(Frame {
                    start: now,
                    period,
                    last: false,
                    parts: PARTS,
                    picture: Picture::default(),
                });
                self.switched.notify_all();
            }
            None => {}
        }
    }

    /// The vsyncs that have been by `now`.
    fn catch_up(&self, board: &Board, state: &mut State, now: Instant) {
        let Some(frame) = &mut state.frame else {
            return;
        };
        if now < frame.end() {
            return;
        }
        if frame.parts == PARTS && !frame.picture.layers.is_empty() {
            std::mem::swap(&mut state.shown, &mut frame.picture);
            state.frames += 1;
            board.counters.bump(counter::FRAMES);
        }
        let periods = now.duration_since(frame.start).as_nanos() / frame.period.as_nanos();
        frame.start += frame.period * u32::try_from(periods).unwrap_or(u32::MAX);
        frame.parts = 0;
        let last = frame.last;
        self.take_over(board, state);
        if last {
            trace!(board.trace, "panel on=false");
            state.frame = None;
            state.pipes = Default::default();
            state.mixer = Mixer::default();
        }
        let (size, layers) = (state.mixer.size, state.layers());
        if let Some(frame) = &mut state.frame {
            frame.picture.begin(size, layers);
        }
        self.raise(
            board,
            INT_PRIMARY_VSYNC | INT_DMA_P_DONE | INT_OVERLAY0_DONE,
        );
    }

    /// Takes over what was flushed.
    fn take_over(&self, board: &Board, state: &mut State) {
        let ours = FLUSH_OVLP0 | (((1 << PIPE_COUNT) - 1) << FLUSH_FIRST_PIPE);
        let flush = self.regs.get(OVERLAY_FLUSH / 4) & ours;
        if flush == 0 {
            return;
        }
        board.counters.bump(counter::FLUSHES);
        for (pipe, layer) in (0..).zip(&mut state.pipes) {
            if flush & (1 << (FLUSH_FIRST_PIPE + pipe)) != 0 {
                *layer = self.pipe(pipe);
            }
        }
        if flush & FLUSH_OVLP0 != 0 {
            let alpha = OVLP0_STAGE_OP.map(|op| self.regs.get(op / 4) & 3 == STAGE_FG_PIXEL_ALPHA);
            state.mixer = Mixer {
                config: self.regs.get(LAYERMIXER_IN_CFG / 4),
                size: pair(self.regs.get(OVLP0_SIZE / 4)),
                alpha: (0..)
                    .zip(alpha)
                    .map(|(n, alpha)| u32::from(alpha) << n)
                    .sum(),
            };
        }
        self.regs.clear_bits(OVERLAY_FLUSH / 4, flush);
        trace!(
            board.trace,
            "flushed bits={flush:#x} bases={:x?} mixer={:#x}",
            state.pipes.each_ref().map(|layer| layer.base),
            state.mixer.config
        );
    }

    /// What is written for a pipe.
    fn pipe(&self, pipe: u32) -> Layer {
        let get = |reg| self.regs.get((PIPES + pipe * PIPE_SIZE + reg) / 4);
        Layer {
            base: get(PIPE_SRC_BASE),
            stride: get(PIPE_SRC_STRIDE) & 0xffff,
            from: pair(get(PIPE_SRC_XY)),
            size: pair(get(PIPE_SRC_SIZE)),
            to: pair(get(PIPE_DST_XY)),
            shown_size: pair(get(PIPE_DST_SIZE)),
            format: get(PIPE_SRC_FORMAT),
            unpack: get(PIPE_SRC_UNPACK),
            alpha: false,
        }
    }

    /// What is written for the cursor, if there is one.
    fn cursor(&self) -> Option<Layer> {
        let get = |reg| self.regs.get(reg / 4);
        let (width, height) = pair(get(CURSOR_SIZE));
        let size = (width & 0x7f, height & 0x7f);
        (get(CURSOR_BLEND_CONFIG) & CURSOR_EN != 0).then(|| Layer {
            base: get(CURSOR_BASE),
            stride: 4 * size.0,
            size,
            to: pair(get(CURSOR_POS)),
            shown_size: size,
            alpha: true,
            ..Layer::ARGB
        })
    }

    /// Reads the parts of the frame that are due.
    fn fetch(&self, board: &Board, state: &mut State, now: Instant) {
        while let Some(frame) = &mut state.frame {
            if frame.parts == PARTS || now < frame.due() {
                break;
            }
            let part = frame.parts;
            frame.parts += 1;
            let picture = &mut frame.picture;
            let cursor = self.cursor().filter(|_| frame.parts == PARTS);
            let first_new = picture.layers.len();
            picture.add(cursor);
            for (number, (layer, pixels)) in picture.layers.iter_mut().enumerate() {
                let rows = |part: u32| layer.rows() * part / PARTS;
                let from = if number < first_new { rows(part) } else { 0 };
                let fault = layer.lines(from..rows(part + 1)).find_map(|(iova, bytes)| {
                    let pixels = pixels.get_mut(bytes)?;
                    self.read_pixels(board, iova, pixels).err()
                });
                if let Some(fault) = fault {
                    // Once a frame is enough: the next part would say the same.
                    if !std::mem::replace(&mut picture.underrun, true) {
                        self.underrun(board, &fault);
                    }
                }
            }
        }
    }

    fn read_pixels(&self, board: &Board, iova: u32, pixels: &mut [u8]) -> Result<(), Fault> {
        const PAGE: usize = 4096;
        let mut iova = iova;
        let mut rest = pixels;
        while !rest.is_empty() {
            let n = (PAGE - iova as usize % PAGE).min(rest.len());
            let (now, later) = rest.split_at_mut(n);
            self.smmu
                .access(board, READER, iova.into(), Access::Read(now))?;
            iova = iova.wrapping_add(n as u32);
            rest = later;
        }
        Ok(())
    }

    fn underrun(&self, board: &Board, fault: &Fault) {
        board.find(
            counter::UNDERRUNS,
            format_args!(
                "the display reads iova {:#x}, where it has nothing to read",
                fault.iova
            ),
        );
        let (vector, _) = self.smmu.latch(board, fault, false);
        if let Some(vector) = vector {
            board.irqs.raise(vector, &board.counters);
        }
        self.raise(board, INT_PRIMARY_UNDERRUN);
    }

    /// Does what is due by `now`. Returns when something is due next.
    fn advance(&self, board: &Board, state: &mut State, now: Instant) -> Option<Instant> {
        self.catch_up(board, state, now);
        self.fetch(board, state, now);
        state.frame.as_ref().map(Frame::due)
    }

    /// Whether the panel is on.
    pub fn on(&self) -> bool {
        self.state().frame.is_some()
    }

    /// Where the pixels of the lowest layer come from, as flushed; 0 without one.
    pub fn base(&self) -> u64 {
        self.state()
            .layers()
            .first()
            .map_or(0, |layer| layer.base.into())
    }

    /// Complete frames so far.
    pub fn frames(&self) -> u64 {
        self.state().frames
    }

    /// Runs `f` on the last frame that was read to its end.
    pub fn shown<R>(&self, f: impl FnOnce(&Picture) -> R) -> R {
        f(&self.state().shown)
    }

    /// What is shown now is the screenshot.
    pub fn keep(&self) {
        let mut state = self.state();
        state.kept = Some(state.shown.clone());
    }

    /// The frame that was kept, or the last one.
    pub fn screenshot(&self) -> Picture {
        let state = self.state();
        state.kept.as_ref().unwrap_or(&state.shown).clone()
    }

    /// Everything is as after power-on.
    pub fn reset(&self) {
        self.regs.reset();
        self.smmu.reset();
        *self.state() = State::default();
    }
}

impl State {
    /// What is mixed, from the base up.
    fn layers(&self) -> Vec<Layer> {
        const STAGE_BASE: u32 = 1;
        let mut layers: Vec<(u32, Layer)> = (0..)
            .zip(&self.pipes)
            .filter_map(|(pipe, layer)| {
                let config = self.mixer.config >> (4 * pipe);
                let stage = config & 7;
                let other_mixer = config & 8 != 0;
                let alpha = stage > STAGE_BASE && (self.mixer.alpha >> (stage - 2)) & 1 != 0;
                (stage != 0 && !other_mixer).then_some((stage, Layer { alpha, ..*layer }))
            })
            .collect();
        layers.sort_by_key(|(stage, _)| *stage);
        layers.into_iter().map(|(_, layer)| layer).collect()
    }
}

/// The display's thread: scans out while the panel is on, for ever.
pub fn run(device: &Device) {
    let Some(mdp) = &device.display else {
        return;
    };
    let mut state = mdp.state();
    loop {
        let now = Instant::now();
        state = match mdp.advance(&device.board, &mut state, now) {
            Some(due) => {
                mdp.switched
                    .wait_timeout(state, due.saturating_duration_since(now))
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            None => mdp
                .switched
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add_memory, map, write32, write64, PAGE, RAM, RAM_SIZE};
    use crate::trace::Trace;
    use vadreno_ctl::{display, freed};

    const SMMU: u64 = SIZE as u64;
    const BANK: u64 = SMMU + 0x8000;
    const IMAGE: u64 = RAM + 0x20_0000;
    const IOVA: u32 = 0x10_0000;

    /// A panel of 2 by 2 pixels, whose SMMU has an empty table.
    fn device() -> Device {
        let device = Device::new(Board::new(Trace::off(), 1)).with_display();
        add_memory(&device.board.memory, RAM, RAM_SIZE);
        for (offset, value) in [
            (SMMU + 0x800, (1 << 31) | Port::DISPLAY.sid),
            (SMMU + 0xc00, 0),
            (SMMU, 1 << 10),
            (BANK + 0x30, 16 | (1 << 23)),
            (BANK + 0x20, RAM as u32),
            (BANK, 0x61),
            (LCDC_VSYNC_PERIOD.into(), 420_000),
            (OVLP0_SIZE.into(), 0x2_0002),
        ] {
            device.bar1_write(offset, value);
        }
        map(&device, IOVA.into(), IMAGE, PAGE);
        device
    }

    fn mdp(device: &Device) -> &Mdp {
        device.display.as_ref().unwrap()
    }

    /// Writes what RGB1 shows, XRGB8888, and flushes it.
    fn flip(device: &Device, iova: u32) {
        const RGB1: u32 = PIPES + 2 * PIPE_SIZE;
        for (offset, value) in [
            (RGB1 + PIPE_SRC_SIZE, 0x2_0002),
            (RGB1 + PIPE_DST_SIZE, 0x2_0002),
            (RGB1 + PIPE_SRC_BASE, iova),
            (RGB1 + PIPE_SRC_STRIDE, 8),
            (RGB1 + PIPE_SRC_FORMAT, 0x66ff),
            (RGB1 + PIPE_SRC_UNPACK, 0x0302_0001),
            (LAYERMIXER_IN_CFG, 1 << 8),
            (OVERLAY_FLUSH, FLUSH_OVLP0 | (1 << 4)),
        ] {
            device.bar1_write(offset.into(), value);
        }
    }

    /// Lets so many frames pass, part by part.
    fn pass(device: &Device, frames: u32) {
        let mdp = mdp(device);
        let mut state = mdp.state();
        for _ in 0..frames * (PARTS + 1) {
            if let Some(due) = state.frame.as_ref().map(Frame::due) {
                mdp.advance(&device.board, &mut state, due);
            }
        }
    }

    fn count(device: &Device, counter: usize) -> u64 {
        device.board.counters.get(counter).unwrap()
    }

    fn colour(device: &Device, x: u64, y: u64) -> u64 {
        crate::ctl::write(device, display::POINT, x | (y << 32));
        crate::ctl::read(device, display::COLOUR)
    }

    #[test]
    fn a_flush_is_taken_over_at_vsync() {
        let device = device();
        write32(&device, IMAGE, 0x0011_2233);
        write32(&device, IMAGE + 12, 0x0044_5566);
        flip(&device, IOVA);
        device.bar1_write(LCDC_ENABLE.into(), 1);
        assert_eq!(mdp(&device).base(), 0);
        assert_eq!(device.bar1_read(OVERLAY_FLUSH.into()), 0x11);
        pass(&device, 2);
        assert_eq!(device.bar1_read(OVERLAY_FLUSH.into()), 0);
        assert_eq!(mdp(&device).base(), u64::from(IOVA));
        let status = device.bar1_read(INTR_STATUS.into());
        assert_eq!(status, 0x91);
        assert_eq!(colour(&device, 0, 0), 0x11_2233);
        assert_eq!(colour(&device, 1, 1), 0x44_5566);
        assert_eq!(count(&device, counter::FLUSHES), 1);
        assert_eq!(count(&device, counter::UNDERRUNS), 0);
        // Until it is flushed a pipe reads as before.
        device.bar1_write((PIPES + 2 * PIPE_SIZE + PIPE_SRC_BASE).into(), 0x9000);
        pass(&device, 2);
        assert_eq!(count(&device, counter::UNDERRUNS), 0);
    }

    #[test]
    fn the_cursor_is_above() {
        let device = device();
        flip(&device, IOVA);
        device.bar1_write(LCDC_ENABLE.into(), 1);
        write32(&device, IMAGE, 0x0011_2233);
        write32(&device, IMAGE + 4, 0xff44_5566);
        for (reg, value) in [
            (CURSOR_SIZE, 0x1_0001),
            (CURSOR_BASE, IOVA + 4),
            (CURSOR_POS, 0x1_0001),
            (CURSOR_BLEND_CONFIG, 2 | CURSOR_EN),
        ] {
            device.bar1_write(reg.into(), value);
        }
        pass(&device, 3);
        assert_eq!(colour(&device, 0, 0), 0x11_2233);
        assert_eq!(colour(&device, 1, 1), 0x44_5566);
        // Without a flush.
        device.bar1_write(CURSOR_POS.into(), 0);
        pass(&device, 2);
        assert_eq!(colour(&device, 0, 0), 0x44_5566);
        device.bar1_write(CURSOR_BLEND_CONFIG.into(), 2);
        pass(&device, 2);
        assert_eq!(colour(&device, 0, 0), 0x11_2233);
        assert_eq!(count(&device, counter::UNDERRUNS), 0);
    }

    #[test]
    fn the_panel_goes_off_with_the_frame() {
        let device = device();
        flip(&device, IOVA);
        device.bar1_write(LCDC_ENABLE.into(), 1);
        pass(&device, 2);
        device.bar1_write(INTR_CLEAR.into(), u32::MAX);
        device.bar1_write(LCDC_ENABLE.into(), 0);
        assert_eq!(crate::ctl::read(&device, display::STATE), display::ON);
        assert_eq!(device.bar1_read(INTR_STATUS.into()), 0);
        pass(&device, 2);
        assert_eq!(crate::ctl::read(&device, display::STATE), display::OFF);
        let status = device.bar1_read(INTR_STATUS.into());
        assert_ne!(status & INT_PRIMARY_VSYNC, 0);
        // What was shown before isn't shown again.
        device.bar1_write(LCDC_ENABLE.into(), 1);
        pass(&device, 2);
        assert_eq!(mdp(&device).base(), 0);
    }

    #[test]
    fn unmapped_is_an_underrun_and_a_fault() {
        let device = device();
        flip(&device, IOVA + 0xffc);
        device.bar1_write(LCDC_ENABLE.into(), 1);
        pass(&device, 2);
        assert!(count(&device, counter::UNDERRUNS) > 0);
        assert_ne!(device.bar1_read(BANK + 0x58) & 2, 0);
        assert_eq!(device.bar1_read(BANK + 0x60), IOVA + 0x1000);
        let sid = device.bar1_read(SMMU + 0x1400);
        assert_eq!(sid, Port::DISPLAY.sid);
        let status = device.bar1_read(INTR_STATUS.into());
        assert_ne!(status & INT_PRIMARY_UNDERRUN, 0);
        // The GPU's SMMU has nothing to do with it.
        assert_eq!(device.bar0_read(crate::testing::BANK + 0x58), 0);
    }

    #[test]
    fn pages_that_are_shown_may_not_be_freed() {
        let device = device();
        let list = RAM + 0x30_0000;
        crate::ctl::write(&device, freed::LIST, list);
        write64(&device, list, 2);
        write64(&device, list + 8, IMAGE + 0x1000);
        write64(&device, list + 16, IMAGE);
        assert_eq!(crate::ctl::read(&device, freed::CHECK), 2);
        assert_eq!(crate::ctl::read(&device, freed::PAGE), IMAGE);
        assert_eq!(crate::ctl::read(&device, freed::IOVA), u64::from(IOVA));
        assert_eq!(crate::ctl::read(&device, freed::TTBR0), RAM);
        write64(&device, list, 1);
        assert_eq!(crate::ctl::read(&device, freed::CHECK), 0);
    }
}
