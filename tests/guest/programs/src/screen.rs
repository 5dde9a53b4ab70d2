// SPDX-License-Identifier: GPL-2.0-only

//! A display, and what it shows.

use crate::{pattern, PATIENCE};
use harness::{bail, ensure, ensure_eq, Context, Outcome};
use std::{
    ops::Deref,
    os::fd::AsFd,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    kms::{Display, Framebuffer},
    vadreno::Vadreno,
    vadreno_ctl::{counter, display as registers},
    Bo, Errno,
};

/// What the device says of what its panel shows, whoever has drawn it.
#[derive(Debug)]
pub struct Panel {
    /// The device.
    pub vadreno: Vadreno,
}

impl Panel {
    /// Opens the device.
    pub fn open() -> harness::Result<Self> {
        let panel = Self {
            vadreno: Vadreno::open().context("virtual Adreno")?,
        };
        ensure!(
            panel.vadreno.read(registers::STATE) != registers::NONE,
            "the virtual Adreno has no display"
        );
        Ok(panel)
    }

    /// Waits until the display has read some frames to their end.
    pub fn frames(&self) -> Outcome {
        let begin = Instant::now();
        let frames = self.vadreno.read(registers::FRAMES);
        while self.vadreno.read(registers::FRAMES) < frames + 3 {
            if begin.elapsed() > PATIENCE {
                bail!("the display doesn't show anything");
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The colour of a pixel of the last frame.
    pub fn colour(&self, (x, y): (u32, u32)) -> u32 {
        let point = u64::from(x) | (u64::from(y) << 32);
        self.vadreno.write(registers::POINT, point);
        self.vadreno.read(registers::COLOUR) as u32
    }

    /// Nothing that wasn't there has been read.
    pub fn done(&self) -> Outcome {
        ensure_eq!(self.vadreno.read(counter::UNDERRUNS), 0, "underruns");
        Ok(())
    }
}

/// The display, and what it shows.
#[derive(Debug)]
pub struct Screen {
    /// The display.
    pub display: Display,
    panel: Panel,
}

impl Deref for Screen {
    type Target = Panel;

    fn deref(&self) -> &Panel {
        &self.panel
    }
}

impl Screen {
    /// Opens both.
    pub fn open() -> harness::Result<Self> {
        Ok(Self {
            display: Display::open().context("a display")?,
            panel: Panel::open()?,
        })
    }

    /// Opens both, and shows a pattern for as long as the file is open.
    pub fn showing(tag: u32) -> harness::Result<Self> {
        let screen = Self::open()?;
        let (bo, framebuffer) = screen.dumb(tag)?;
        screen.show(&framebuffer)?;
        screen.shows(tag, "before anything else")?;
        bo.leave_open();
        framebuffer.leave();
        Ok(screen)
    }

    /// How many the panel has.
    pub fn pixels(&self) -> u64 {
        let (width, height) = self.display.size();
        u64::from(width) * u64::from(height)
    }

    /// A dumb BO with a pattern, and its framebuffer.
    pub fn dumb(&self, tag: u32) -> harness::Result<(Bo, Framebuffer)> {
        let (width, height) = self.display.size();
        let bo = Bo::dumb(self.display.device(), width, height).context("a dumb BO")?;
        bo.map_dumb()
            .context("mmap")?
            .fill(|index| pattern(tag, index));
        let framebuffer = self.display.framebuffer(&bo).context("a framebuffer")?;
        Ok((bo, framebuffer))
    }

    /// Somebody else's BO, and its framebuffer.
    pub fn import(&self, bo: &Bo) -> harness::Result<(Bo, Framebuffer)> {
        let dma_buf = bo.export().context("export")?;
        let device = self.display.device();
        let bo = Bo::import(device, dma_buf.as_fd(), bo.size()).context("import")?;
        let framebuffer = self.display.framebuffer(&bo).context("a framebuffer")?;
        Ok((bo, framebuffer))
    }

    /// Three dumb BOs, with the patterns 1 to 3, and their framebuffers.
    pub fn three_dumb(&self) -> harness::Result<[(Bo, Framebuffer); 3]> {
        Ok([self.dumb(1)?, self.dumb(2)?, self.dumb(3)?])
    }

    /// Switches the panel on, if it is off, and shows a framebuffer.
    pub fn show(&self, framebuffer: &Framebuffer) -> Outcome {
        self.display.show(framebuffer).context("SETCRTC")
    }

    /// Shows another framebuffer, and waits until it is shown.
    ///
    /// SETCRTC returns when the display has taken over what was flushed, which may be before the
    /// interrupt that ends the flip; until then the kernel says `EBUSY`.
    pub fn flip(&self, framebuffer: &Framebuffer) -> Outcome {
        let begin = Instant::now();
        loop {
            match self.display.flip(framebuffer, PATIENCE) {
                Err(Errno::EBUSY) if begin.elapsed() < PATIENCE => {
                    sleep(Duration::from_millis(5));
                }
                result => return result.context("a flip"),
            }
        }
    }

    /// Whether the pixels that are shown are those of a pattern.
    pub fn shows(&self, tag: u32, what: &str) -> Outcome {
        self.frames()?;
        let (width, height) = self.display.size();
        for (x, y) in [
            (0, 0),
            (width - 1, 0),
            (width / 3, height / 2),
            (7, height - 1),
        ] {
            self.shows_at((x, y), tag, (x, y), what)?;
        }
        Ok(())
    }

    /// Whether the pixel of the last frame at `at` is the one that a pattern has at `from`.
    pub fn shows_at(&self, at: (u32, u32), tag: u32, from: (u32, u32), what: &str) -> Outcome {
        let (width, _) = self.display.size();
        ensure_eq!(
            self.colour(at),
            pattern(tag, (from.1 * width + from.0) as usize) & 0xff_ffff,
            "the pixel at {at:?}: {what}"
        );
        Ok(())
    }
}
