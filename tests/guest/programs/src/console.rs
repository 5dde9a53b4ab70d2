// SPDX-License-Identifier: GPL-2.0-only

//! The text console on the display (fbcon).

use crate::{eventually, screen::Panel};
use harness::{bail, Context, Outcome};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
};

/// Width and height of a character in pixels.
const CELL: (u32, u32) = (8, 16);

/// Colours of the console, by their numbers in its escape sequences.
const COLOURS: [u32; 8] = [
    0x00_0000, 0xaa_0000, 0x00_aa00, 0xaa_5500, 0x00_00aa, 0xaa_00aa, 0x00_aaaa, 0xaa_aaaa,
];

/// The console in the foreground.
#[derive(Debug)]
pub struct Console {
    terminal: File,
    /// Its picture's width and height.
    size: (u32, u32),
}

impl Console {
    /// Opens it. It has no cursor from now on, and doesn't go black by itself.
    pub fn open() -> harness::Result<Self> {
        const TERMINAL: &str = "/dev/tty0";
        const SIZE: &str = "/sys/class/graphics/fb0/virtual_size";
        let size = fs::read_to_string(SIZE).context(SIZE)?;
        let (width, height) = size.trim().split_once(',').context(SIZE)?;
        let mut terminal = OpenOptions::new()
            .write(true)
            .open(TERMINAL)
            .context(TERMINAL)?;
        terminal
            .write_all(b"\x1b[?25l\x1b[9;0]")
            .context(TERMINAL)?;
        Ok(Self {
            terminal,
            size: (width.parse()?, height.parse()?),
        })
    }

    /// Its width and height in pixels.
    pub fn pixels(&self) -> (u32, u32) {
        self.size
    }

    /// Characters across and down.
    fn characters(&self) -> (u32, u32) {
        (self.size.0 / CELL.0, self.size.1 / CELL.1)
    }

    /// Fills the screen with blanks whose colours depend on `tag` and on the place.
    pub fn write(&mut self, tag: u32) -> Outcome {
        let (columns, rows) = self.characters();
        let mut text = String::new();
        for row in 0..rows {
            text += &format!("\x1b[{};1H", row + 1);
            for column in 0..columns {
                text += &format!("\x1b[{}m ", 40 + number(tag, column, row));
            }
        }
        text += "\x1b[0m";
        self.terminal
            .write_all(text.as_bytes())
            .context("the console")
    }

    /// Waits until the panel shows what [`write`](Self::write) has written, every character of it.
    pub fn is_shown(&self, panel: &Panel, tag: u32, what: &str) -> Outcome {
        let shown = eventually("the console", || {
            panel.frames()?;
            Ok(self.first_wrong(panel, tag).is_none())
        });
        match self.first_wrong(panel, tag) {
            Some((at, shown, wanted)) => {
                bail!("the pixel at {at:?}: {shown:x}, not {wanted:x}: {what}")
            }
            None => shown,
        }
    }

    /// A pixel that isn't as written: where, its colour, and the one that it should have.
    fn first_wrong(&self, panel: &Panel, tag: u32) -> Option<((u32, u32), u32, u32)> {
        let (columns, rows) = self.characters();
        let corners = [(0, 0), (CELL.0 - 1, CELL.1 - 1)];
        (0..rows)
            .flat_map(|row| (0..columns).map(move |column| (column, row)))
            .flat_map(|cell| corners.map(|corner| (cell, corner)))
            .map(|((column, row), (x, y))| {
                let at = (column * CELL.0 + x, row * CELL.1 + y);
                (at, panel.colour(at), COLOURS[number(tag, column, row)])
            })
            .find(|(_, shown, wanted)| shown != wanted)
    }
}

/// The number of a character's colour.
fn number(tag: u32, column: u32, row: u32) -> usize {
    (tag + column + 3 * row) as usize % COLOURS.len()
}
