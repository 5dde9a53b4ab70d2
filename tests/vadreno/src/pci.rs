// SPDX-License-Identifier: GPL-2.0-only

//! The PCI function: configuration space, BARs and interrupts.

use crate::device::{BAR0_SIZE, BAR1_SIZE};
use crate::gpu::{GPU_BASE, MAPPABLE};
use crate::irq::VECTORS;
use crate::model::Model;
use std::ops::Range;
use std::os::fd::RawFd;
use vfio_bindings::bindings::vfio::{
    vfio_region_info, vfio_region_sparse_mmap_area, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};
use vfio_user::{IrqInfo, ServerRegion, SparseArea};

/// Size of the configuration space in bytes.
const CONFIG_SIZE: usize = 256;
/// Size of the BAR that holds the MSI-X table (at 0) and pending bits (at 0x800).
const MSIX_BAR_SIZE: u64 = 0x1000;
const MSIX_CAPABILITY: usize = 0x40;

/// The configuration space.
#[derive(Debug)]
pub struct Config {
    bytes: [u8; CONFIG_SIZE],
    /// Bits that can be written.
    mask: [u8; CONFIG_SIZE],
}

impl Config {
    /// That of a GPU.
    pub fn new(model: &Model) -> Self {
        let mut config = Self {
            bytes: [0; CONFIG_SIZE],
            mask: [0; CONFIG_SIZE],
        };
        config.put(0x00, &vadreno_ctl::PCI_VENDOR.to_le_bytes());
        config.put(0x02, &vadreno_ctl::PCI_DEVICE.to_le_bytes());
        // Status: a capability list.
        config.put(0x06, &[0x10]);
        // Revision 1, class: other display controller.
        config.put(0x08, &[1, 0, 0x80, 0x03]);
        config.put(0x2c, &vadreno_ctl::PCI_VENDOR.to_le_bytes());
        config.put(0x2e, &model.subsystem.to_le_bytes());
        config.put(0x34, &[MSIX_CAPABILITY as u8]);
        config.put(MSIX_CAPABILITY, &[0x11, 0]);
        config.put(MSIX_CAPABILITY + 2, &(VECTORS as u16 - 1).to_le_bytes());
        // Table at 0 and pending bits at 0x800 of BAR2.
        config.put(MSIX_CAPABILITY + 4, &2u32.to_le_bytes());
        config.put(MSIX_CAPABILITY + 8, &0x802u32.to_le_bytes());
        // Command, cache line size, interrupt line, MSI-X enable and mask. QEMU keeps the BARs
        // itself.
        config.mask[0x04..0x06].copy_from_slice(&0x0547u16.to_le_bytes());
        config.mask[0x0c] = 0xff;
        config.mask[0x3c] = 0xff;
        config.mask[MSIX_CAPABILITY + 3] = 0xc0;
        config
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Reads; 0 beyond the end.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            let at = usize::try_from(offset)
                .unwrap_or(CONFIG_SIZE)
                .saturating_add(i);
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes the bits that can be written.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (i, byte) in data.iter().enumerate() {
            let at = usize::try_from(offset)
                .unwrap_or(CONFIG_SIZE)
                .saturating_add(i);
            if let (Some(old), Some(mask)) = (self.bytes.get_mut(at), self.mask.get(at)) {
                *old = (*old & !mask) | (byte & mask);
            }
        }
    }
}

/// The vfio regions: BAR0 registers, BAR1 the display's, BAR2 MSI-X, BAR4 control, configuration
/// space. `registers` is the memory of those that QEMU maps.
pub fn regions(registers: Option<RawFd>, display: bool) -> Vec<ServerRegion> {
    let mut regions: Vec<ServerRegion> = (0..VFIO_PCI_NUM_REGIONS)
        .map(|index| {
            let size = match index {
                0 => BAR0_SIZE,
                1 if display => BAR1_SIZE,
                2 => MSIX_BAR_SIZE,
                vadreno_ctl::BAR => vadreno_ctl::BAR_SIZE as u64,
                VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_SIZE as u64,
                _ => 0,
            };
            let flags = if size == 0 {
                0
            } else {
                VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
            };
            ServerRegion {
                region_info: vfio_region_info {
                    argsz: size_of::<vfio_region_info>() as u32,
                    index,
                    size,
                    flags,
                    ..Default::default()
                },
                sparse_areas: Vec::new(),
                mmap_fd: None,
            }
        })
        .collect();
    if registers.is_some() {
        let bar0 = &mut regions[0];
        bar0.region_info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
        bar0.sparse_areas = MAPPABLE.map(area).into();
        bar0.mmap_fd = registers;
    }
    regions
}

fn area(registers: Range<u32>) -> SparseArea {
    let [offset, end] = [registers.start, registers.end].map(|reg| u64::from(GPU_BASE + reg * 4));
    SparseArea {
        area: vfio_region_sparse_mmap_area {
            offset,
            size: end - offset,
        },
    }
}

/// The vfio interrupts: MSI-X only.
pub fn irqs() -> Vec<IrqInfo> {
    (0..VFIO_PCI_NUM_IRQS)
        .map(|index| IrqInfo {
            index,
            flags: if index == VFIO_PCI_MSIX_IRQ_INDEX {
                VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE
            } else {
                0
            },
            count: if index == VFIO_PCI_MSIX_IRQ_INDEX {
                VECTORS
            } else {
                0
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MODELS;

    #[test]
    fn ids_are_fixed_and_command_is_not() {
        let mut config = Config::new(&MODELS[1]);
        config.write(0, &[0xff; CONFIG_SIZE + 8]);
        let mut word = [0; 4];
        config.read(0, &mut word);
        assert_eq!(u32::from_le_bytes(word), 0x0702_1d1d);
        config.read(4, &mut word);
        assert_eq!(u16::from_le_bytes([word[0], word[1]]), 0x0547);
        config.read(0x2c, &mut word);
        assert_eq!(u32::from_le_bytes(word), 0x0618_1d1d);
        config.read(u64::MAX, &mut word);
        assert_eq!(word, [0; 4]);
    }

    #[test]
    fn bars_and_vectors() {
        let sizes = |display| -> Vec<u64> {
            let regions = regions(None, display);
            regions.iter().map(|r| r.region_info.size).collect()
        };
        assert_eq!(sizes(false)[..6], [0x10_0000, 0, 0x1000, 0, 0x1_0000, 0]);
        assert_eq!(sizes(true)[..3], [0x10_0000, 0x20_0000, 0x1000]);
        assert_eq!(irqs()[VFIO_PCI_MSIX_IRQ_INDEX as usize].count, 18);
    }
}
