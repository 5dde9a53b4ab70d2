// SPDX-License-Identifier: GPL-2.0-only

//! Pictures: what the display's pipes read, and what the mixer makes of it.
//!
//! Formats of one plane with whole bytes for a pixel are understood; of others only what they read
//! is right. Scaling takes the nearest pixel.

use std::io::{self, Write};
use std::ops::Range;

/// Rows and columns that a pipe reads at most.
const MAX: u32 = 2048;

/// A pipe: what it reads, and where it is shown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Address of the image.
    pub base: u32,
    /// Bytes from a row to the next one.
    pub stride: u32,
    /// First pixel and row that are read.
    pub from: (u32, u32),
    /// Pixels and rows that are read.
    pub size: (u32, u32),
    /// Where they are shown.
    pub to: (u32, u32),
    /// Their size there.
    pub shown_size: (u32, u32),
    /// SRC_FORMAT
    pub format: u32,
    /// SRC_UNPACK
    pub unpack: u32,
    /// Its pixels have an alpha that counts.
    pub alpha: bool,
}

/// A colour: red, green, blue, alpha.
pub type Colour = [u8; 4];

/// Without a layer.
const BLACK: Colour = [0, 0, 0, 0xff];

impl Layer {
    /// Nowhere, in ARGB8888.
    pub const ARGB: Self = Self {
        base: 0,
        stride: 0,
        from: (0, 0),
        size: (0, 0),
        to: (0, 0),
        shown_size: (0, 0),
        format: 0x66ff,
        unpack: 0x0302_0001,
        alpha: true,
    };

    fn bytes_per_pixel(&self) -> u32 {
        ((self.format >> 9) & 3) + 1
    }

    /// Rows that are read.
    pub fn rows(&self) -> u32 {
        self.size.1.min(MAX)
    }

    fn columns(&self) -> u32 {
        self.size.0.min(MAX)
    }

    fn row_bytes(&self) -> u32 {
        self.columns() * self.bytes_per_pixel()
    }

    /// What is to be read for some rows: where it is, and to which bytes it goes. Rows without a
    /// gap are read as one.
    pub fn lines(&self, rows: Range<u32>) -> impl Iterator<Item = (u32, Range<usize>)> {
        let bytes = self.row_bytes();
        let start = self
            .base
            .wrapping_add(self.from.1.wrapping_mul(self.stride))
            .wrapping_add(self.from.0 * self.bytes_per_pixel());
        let (stride, at_once) = (
            self.stride,
            if self.stride == bytes {
                rows.len() as u32
            } else {
                1
            },
        );
        rows.step_by(at_once.max(1) as usize).map(move |row| {
            let from = (row * bytes) as usize;
            let iova = start.wrapping_add(row.wrapping_mul(stride));
            (iova, from..from + (bytes * at_once) as usize)
        })
    }

    /// The colour of what was read for a pixel.
    fn colour(&self, pixels: &[u8], x: u32, y: u32) -> Option<Colour> {
        // Components in the order of SRC_FORMAT and SRC_UNPACK: green, blue, red, alpha.
        const PLACE: [usize; 4] = [1, 2, 0, 3];
        let bytes = self.bytes_per_pixel();
        let at = (y * self.row_bytes() + x * bytes) as usize;
        let word = pixels
            .get(at..at + bytes as usize)?
            .iter()
            .rev()
            .fold(0u32, |word, byte| (word << 8) | u32::from(*byte));
        let mut colour = BLACK;
        let mut shift = 0;
        for element in 0..=(self.format >> 13) & 3 {
            let component = (self.unpack >> (8 * element)) & 3;
            let depth = (self.format >> (2 * component)) & 3;
            let bits = match (component, depth) {
                (3, 0) => 1,
                (3, 1) => 4,
                (_, 0) => 4,
                (_, 1) => 5,
                (_, 2) => 6,
                _ => 8,
            };
            let full = (1 << bits) - 1;
            let value = word.checked_shr(shift).unwrap_or(0) & full;
            colour[PLACE[component as usize]] = (value * 0xff / full) as u8;
            shift += bits;
        }
        Some(colour)
    }

    /// The colour at a place of the screen, and how much of it is seen.
    fn at(&self, pixels: &[u8], x: u32, y: u32) -> Option<Colour> {
        let across = x
            .checked_sub(self.to.0)
            .filter(|x| *x < self.shown_size.0)?;
        let down = y
            .checked_sub(self.to.1)
            .filter(|y| *y < self.shown_size.1)?;
        let (width, height) = self.shown_size;
        let mut colour = self.colour(
            pixels,
            (u64::from(across) * u64::from(self.columns()) / u64::from(width)) as u32,
            (u64::from(down) * u64::from(self.rows()) / u64::from(height)) as u32,
        )?;
        if !self.alpha {
            colour[3] = 0xff;
        }
        Some(colour)
    }
}

/// A frame: its layers from the base up, and what was read for each.
#[derive(Debug, Default, Clone)]
pub struct Picture {
    size: (u32, u32),
    /// The layers with their pixels.
    pub layers: Vec<(Layer, Vec<u8>)>,
    /// Not all could be read.
    pub underrun: bool,
}

impl Picture {
    /// Begins a new frame; what can't be read is black.
    pub fn begin(&mut self, size: (u32, u32), layers: Vec<Layer>) {
        self.size = (size.0.min(MAX), size.1.min(MAX));
        self.underrun = false;
        let mut buffers = std::mem::take(&mut self.layers).into_iter();
        self.layers = layers
            .into_iter()
            .map(|layer| {
                let mut pixels = buffers.next().map_or_else(Vec::new, |(_, pixels)| pixels);
                pixels.clear();
                pixels.resize((layer.row_bytes() * layer.rows()) as usize, 0);
                (layer, pixels)
            })
            .collect();
    }

    /// One more layer above the others, to be read.
    pub fn add(&mut self, layer: Option<Layer>) {
        self.layers.extend(layer.map(|layer| {
            let bytes = layer.row_bytes() * layer.rows();
            (layer, vec![0; bytes as usize])
        }));
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Writes it as PNG.
    ///
    /// # Errors
    /// Those of the writer; an empty picture can't be written either.
    pub fn write_png(&self, to: impl Write) -> io::Result<()> {
        let (width, height) = self.size;
        let mut encoder = png::Encoder::new(to, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bytes: Vec<u8> = rows
            .flat_map(|(x, y)| self.pixel(x, y).into_iter().take(3))
            .collect();
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&bytes)?;
        Ok(writer.finish()?)
    }

    /// The colour of a pixel.
    pub fn pixel(&self, x: u32, y: u32) -> Colour {
        self.layers.iter().fold(BLACK, |below, (layer, pixels)| {
            let Some(colour) = layer.at(pixels, x, y) else {
                return below;
            };
            let alpha = u32::from(colour[3]);
            let mut mixed = BLACK;
            for (mixed, (above, below)) in mixed.iter_mut().zip(colour.iter().zip(below)).take(3) {
                let sum = u32::from(*above) * alpha + u32::from(below) * (0xff - alpha);
                *mixed = (sum / 0xff) as u8;
            }
            mixed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XRGB8888, as Linux writes it.
    const XRGB: (u32, u32) = (0x3f | (3 << 6) | (3 << 9) | (3 << 13), 0x0302_0001);
    /// RGB565
    const RGB565: (u32, u32) = (2 | (1 << 2) | (1 << 4) | (1 << 9) | (2 << 13), 0x0002_0001);

    fn layer(format: (u32, u32), size: (u32, u32)) -> Layer {
        Layer {
            base: 0x1000,
            stride: size.0 * (((format.0 >> 9) & 3) + 1),
            size,
            shown_size: size,
            format: format.0,
            unpack: format.1,
            ..Layer::default()
        }
    }

    fn picture(layers: &[(Layer, &[u8])]) -> Picture {
        let mut picture = Picture::default();
        picture.begin((2, 2), layers.iter().map(|(layer, _)| *layer).collect());
        for ((_, pixels), (_, from)) in picture.layers.iter_mut().zip(layers) {
            pixels.copy_from_slice(from);
        }
        picture
    }

    #[test]
    fn formats() {
        let words = |words: [u32; 4]| words.map(u32::to_le_bytes).concat();
        let pixels = words([0xff11_2233, 0x0044_5566, 0, 0xffff_ffff]);
        let shown = picture(&[(layer(XRGB, (2, 2)), &pixels)]);
        assert_eq!(shown.pixel(0, 0), [0x11, 0x22, 0x33, 0xff]);
        assert_eq!(shown.pixel(1, 0), [0x44, 0x55, 0x66, 0xff]);
        assert_eq!(shown.pixel(1, 1), [0xff; 4]);
        assert_eq!(shown.pixel(2, 0), BLACK);
        let pixels = [0xf800u16, 0x07e0, 0x001f, 0]
            .map(u16::to_le_bytes)
            .concat();
        let shown = picture(&[(layer(RGB565, (2, 2)), &pixels)]);
        assert_eq!(shown.pixel(0, 0), [0xff, 0, 0, 0xff]);
        assert_eq!(shown.pixel(1, 0), [0, 0xff, 0, 0xff]);
        assert_eq!(shown.pixel(0, 1), [0, 0, 0xff, 0xff]);
    }

    #[test]
    fn as_png() {
        let pixels = [1u32, 2, 3, 0x0004_0506].map(u32::to_le_bytes).concat();
        let shown = picture(&[(layer(XRGB, (2, 2)), &pixels)]);
        let mut file = Vec::new();
        shown.write_png(&mut file).unwrap();
        let decoder = png::Decoder::new(io::Cursor::new(file));
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = [0; 12];
        assert_eq!(reader.output_buffer_size(), Some(bytes.len()));
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.width, info.height), (2, 2));
        assert_eq!(bytes, [0, 0, 1, 0, 0, 2, 0, 0, 3, 4, 5, 6]);
        assert!(Picture::default().write_png(Vec::new()).is_err());
    }

    #[test]
    fn layers_are_mixed_and_scaled() {
        let base = layer(XRGB, (1, 1));
        let base = Layer {
            shown_size: (2, 2),
            ..base
        };
        let above = Layer {
            to: (1, 1),
            alpha: true,
            ..layer(XRGB, (1, 1))
        };
        let red = 0xffff_0000u32.to_le_bytes();
        let half_blue = 0x8000_00ffu32.to_le_bytes();
        let shown = picture(&[(base, &red), (above, &half_blue)]);
        assert_eq!(shown.pixel(1, 0), [0xff, 0, 0, 0xff]);
        assert_eq!(shown.pixel(1, 1), [0x7f, 0, 0x80, 0xff]);
    }

    #[test]
    fn rows_are_read_where_they_are() {
        let mut layer = layer(XRGB, (4, 6));
        layer.from = (1, 2);
        let lines: Vec<_> = layer.lines(3..6).collect();
        assert_eq!(lines, [(0x1000 + 2 * 16 + 4 + 3 * 16, 48..96)]);
        layer.stride = 64;
        let lines: Vec<_> = layer.lines(4..6).collect();
        let first = 0x1000 + 2 * 64 + 4 + 4 * 64;
        assert_eq!(lines, [(first, 64..80), (first + 64, 80..96)]);
        layer.size = (0xffff, 0xffff);
        assert_eq!(layer.rows(), MAX);
        assert_eq!(layer.lines(0..0).count(), 0);
    }
}
