// SPDX-License-Identifier: GPL-2.0-only

//! The 2D engine: CP_BLIT as a fill with one colour or as a copy, between linear images of the same
//! format. Registers: `registers/adreno/a6xx.xml` of the msm driver (A2D).

use crate::cp::{Cp, Stop};
use crate::smmu::Client;

const RB_BLT_CNTL: u32 = 0x8c00;
const BLT_CNTL_SOLID_COLOR: u32 = 1 << 7;
const RB_DEST_INFO: u32 = 0x8c17;
const RB_DEST_BASE: u32 = 0x8c18;
const RB_DEST_PITCH: u32 = 0x8c1a;
const RB_CLEAR_COLOR: u32 = 0x8c2c;
const GRAS_SRC_XMIN: u32 = 0x8401;
const GRAS_SRC_XMAX: u32 = 0x8402;
const GRAS_SRC_YMIN: u32 = 0x8403;
const GRAS_SRC_YMAX: u32 = 0x8404;
const GRAS_DEST_TL: u32 = 0x8405;
const GRAS_DEST_BR: u32 = 0x8406;
const SRC_INFO: u32 = 0xb4c0;
const SRC_BASE: u32 = 0xb4c2;
const SRC_PITCH: u32 = 0xb4c4;

/// Format, swap and tiling of an image: bits 1:0 of the tiling, 1:0 of the swap, compression.
const INFO_FORMAT: u32 = 0xff;
const INFO_NOT_LINEAR: u32 = (3 << 8) | (1 << 12);

/// Channels of a format whose channels have equal sizes, and bytes of each.
fn channels(format: u32) -> Option<(usize, usize)> {
    Some(match format {
        0x02..=0x06 => (1, 1),
        0x0f..=0x13 => (2, 1),
        0x15..=0x19 => (1, 2),
        0x30..=0x34 | 0x91 => (4, 1),
        0x43..=0x47 => (2, 2),
        0x48..=0x4d => (1, 4),
        0x60..=0x64 => (4, 2),
        0x65..=0x6a => (2, 4),
        0x80..=0x85 => (4, 4),
        _ => return None,
    })
}

/// Bytes of a pixel.
fn pixel_size(format: u32) -> Option<usize> {
    match format {
        // Packed formats can be copied.
        0x08..=0x0e => Some(2),
        0x35..=0x42 => Some(4),
        0xa0 => Some(4),
        _ => channels(format).map(|(count, bytes)| count * bytes),
    }
}

/// A pixel of the clear colour, which has one dword per channel.
fn pixel(cp: &Cp<'_>, format: u32) -> Option<Vec<u8>> {
    let (count, bytes) = channels(format)?;
    Some(
        (0..count as u32)
            .flat_map(|channel| {
                let dword = cp.reg(RB_CLEAR_COLOR + channel).to_le_bytes();
                dword.into_iter().take(bytes)
            })
            .collect(),
    )
}

/// Carries out what the registers describe. `Ok(false)`: the engine cannot do that.
pub fn run(cp: &Cp<'_>) -> Result<bool, Stop> {
    let info = cp.reg(RB_DEST_INFO);
    let format = info & INFO_FORMAT;
    let Some(size) = pixel_size(format) else {
        return Ok(false);
    };
    let (top_left, bottom_right) = (cp.reg(GRAS_DEST_TL), cp.reg(GRAS_DEST_BR));
    let x = |corner: u32| u64::from(corner & 0x3fff);
    let y = |corner: u32| u64::from((corner >> 16) & 0x3fff);
    let (x0, y0, x1, y1) = (x(top_left), y(top_left), x(bottom_right), y(bottom_right));
    if x1 < x0 || y1 < y0 || info & INFO_NOT_LINEAR != 0 {
        return Ok(false);
    }
    let width = x1 - x0 + 1;
    let pitch = u64::from(cp.reg(RB_DEST_PITCH) & 0xffff) << 6;
    let destination = cp.reg64(RB_DEST_BASE).wrapping_add(x0 * size as u64);
    let row = |y: u64| destination.wrapping_add(y * pitch);

    if cp.reg(RB_BLT_CNTL) & BLT_CNTL_SOLID_COLOR != 0 {
        let Some(pixel) = pixel(cp, format) else {
            return Ok(false);
        };
        let line = pixel.repeat(width as usize);
        for y in y0..=y1 {
            cp.write(Client::Ccu, row(y), &line)?;
        }
        return Ok(true);
    }

    let source_info = cp.reg(SRC_INFO);
    let coordinate = |reg| u64::from((cp.reg(reg) >> 8) & 0x1_ffff);
    let (sx, sy) = (coordinate(GRAS_SRC_XMIN), coordinate(GRAS_SRC_YMIN));
    let same_size = coordinate(GRAS_SRC_XMAX).wrapping_sub(sx) == x1 - x0
        && coordinate(GRAS_SRC_YMAX).wrapping_sub(sy) == y1 - y0;
    // Neither scaling nor conversion nor a mirror.
    if source_info & INFO_FORMAT != format
        || source_info & INFO_NOT_LINEAR != 0
        || !same_size
        || cp.reg(RB_BLT_CNTL) & 7 != 0
    {
        return Ok(false);
    }
    let source_pitch = u64::from((cp.reg(SRC_PITCH) >> 9) & 0x7fff) << 6;
    let source = cp.reg64(SRC_BASE).wrapping_add(sx * size as u64);
    let mut line = vec![0; width as usize * size];
    for y in y0..=y1 {
        let from = source.wrapping_add((sy + y - y0) * source_pitch);
        cp.read(Client::Tp, from, &mut line)?;
        cp.write(Client::Ccu, row(y), &line)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bypass_device, read32, write32};

    const DST: u64 = 0x4000_0000;
    const SRC: u64 = 0x4001_0000;

    fn set(device: &crate::device::Device, regs: &[(u32, u32)]) {
        for (reg, value) in regs {
            device.reg_write(*reg, *value);
        }
    }

    #[test]
    fn fill_32_uint() {
        let device = bypass_device();
        set(
            &device,
            &[
                (RB_BLT_CNTL, BLT_CNTL_SOLID_COLOR),
                (RB_DEST_INFO, 0x4b),
                (RB_DEST_BASE, DST as u32),
                (RB_DEST_PITCH, 1),
                (GRAS_DEST_TL, (1 << 16) | 2),
                (GRAS_DEST_BR, (2 << 16) | 3),
                (RB_CLEAR_COLOR, 0x1234_5678),
            ],
        );
        assert_eq!(run(&Cp::new(&device)).ok(), Some(true));
        for (offset, value) in [
            (64 + 4, 0),
            (64 + 8, 0x1234_5678),
            (64 + 12, 0x1234_5678),
            (64 + 16, 0),
            (128 + 8, 0x1234_5678),
            (192 + 8, 0),
            (8, 0),
        ] {
            assert_eq!(read32(&device, DST + offset), value, "at {offset}");
        }
    }

    #[test]
    fn fill_takes_one_dword_per_channel() {
        let device = bypass_device();
        set(
            &device,
            &[
                (RB_BLT_CNTL, BLT_CNTL_SOLID_COLOR),
                (RB_DEST_INFO, 0x30),
                (RB_DEST_BASE, DST as u32),
                (RB_CLEAR_COLOR, 0x11),
                (RB_CLEAR_COLOR + 1, 0x22),
                (RB_CLEAR_COLOR + 2, 0x33),
                (RB_CLEAR_COLOR + 3, 0x44),
            ],
        );
        assert_eq!(run(&Cp::new(&device)).ok(), Some(true));
        assert_eq!(read32(&device, DST), 0x4433_2211);
    }

    #[test]
    fn copy_and_what_it_refuses() {
        let device = bypass_device();
        for i in 0..64 {
            write32(&device, SRC + 4 * i, i as u32 + 1);
        }
        set(
            &device,
            &[
                (RB_BLT_CNTL, 0),
                (RB_DEST_INFO, 0x83),
                (RB_DEST_BASE, DST as u32),
                (RB_DEST_PITCH, 1),
                (GRAS_DEST_TL, 0),
                (GRAS_DEST_BR, (1 << 16) | 1),
                (SRC_INFO, 0x83),
                (SRC_BASE, SRC as u32),
                (SRC_PITCH, 1 << 9),
                (GRAS_SRC_XMIN, 1 << 8),
                (GRAS_SRC_XMAX, 2 << 8),
                (GRAS_SRC_YMIN, 1 << 8),
                (GRAS_SRC_YMAX, 2 << 8),
            ],
        );
        assert_eq!(run(&Cp::new(&device)).ok(), Some(true));
        assert_eq!(read32(&device, DST), 16 + 4 + 1);
        assert_eq!(read32(&device, DST + 64 + 28), 32 + 4 + 8);
        // Scaled, converted, tiled.
        for (reg, value) in [
            (GRAS_SRC_XMAX, 3 << 8),
            (SRC_INFO, 0x4b),
            (RB_DEST_INFO, 0x383),
        ] {
            let old = device.reg_read(reg);
            device.reg_write(reg, value);
            assert_eq!(run(&Cp::new(&device)).ok(), Some(false), "{reg:#x}");
            device.reg_write(reg, old);
        }
    }
}
