// SPDX-License-Identifier: GPL-2.0-only

//! The vfio-user side: what QEMU asks of the device.

use crate::ctl;
use crate::device::Device;
use crate::pci::Config;
use crate::trace;
use std::fs::File;
use std::io;
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, ServerBackend};

/// The device as a vfio-user server's backend.
#[derive(Debug)]
pub struct Backend {
    device: Arc<Device>,
    config: Config,
}

impl Backend {
    /// A backend for `device`.
    pub fn new(device: Arc<Device>) -> Self {
        let config = Config::new(device.model);
        Self { device, config }
    }
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            0 | 1 => {
                let mut at = offset;
                let mut rest = data;
                while !rest.is_empty() {
                    let word = match region {
                        0 => self.device.bar0_read(at & !3),
                        _ => self.device.bar1_read(at & !3),
                    };
                    at = copy(&word.to_le_bytes(), at, &mut rest);
                }
            }
            vadreno_ctl::BAR => {
                let mut at = offset;
                let mut rest = data;
                while !rest.is_empty() {
                    let word = ctl::read(&self.device, (at & !7) as usize).to_le_bytes();
                    at = copy(&word, at, &mut rest);
                }
            }
            VFIO_PCI_CONFIG_REGION_INDEX => self.config.read(offset, data),
            _ => data.fill(0),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            // Registers are written in whole words.
            0 | 1 if offset % 4 == 0 => {
                for (i, word) in data.chunks_exact(4).enumerate() {
                    let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
                    let offset = offset + 4 * i as u64;
                    match region {
                        0 => self.device.bar0_write(offset, value),
                        _ => self.device.bar1_write(offset, value),
                    }
                }
            }
            vadreno_ctl::BAR if offset % 8 == 0 => {
                let mut value = [0; 8];
                if let 4 | 8 = data.len() {
                    value[..data.len()].copy_from_slice(data);
                    ctl::write(&self.device, offset as usize, u64::from_le_bytes(value));
                }
            }
            VFIO_PCI_CONFIG_REGION_INDEX => self.config.write(offset, data),
            _ => {}
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        trace!(
            self.device.board.trace,
            "dma-map address={address:#x} size={size:#x} shared={}",
            fd.is_some()
        );
        match fd {
            Some(fd) => self.device.board.memory.map(fd, offset, address, size),
            None => Ok(()),
        }
    }

    fn dma_unmap(&mut self, _flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        trace!(
            self.device.board.trace,
            "dma-unmap address={address:#x} size={size:#x}"
        );
        self.device.board.memory.unmap(address, size);
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.device.reset();
        self.config = Config::new(self.device.model);
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        if index == VFIO_PCI_MSIX_IRQ_INDEX && flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0 {
            if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
                self.device.board.irqs.enable(start, fds);
            } else if flags & VFIO_IRQ_SET_DATA_NONE != 0 && count == 0 {
                self.device.board.irqs.disable();
            }
        }
        Ok(())
    }
}

/// Copies to `rest` what the word at `at` (rounded down to its size) has from `at` on. Returns the
/// next address.
fn copy(word: &[u8], at: u64, rest: &mut &mut [u8]) -> u64 {
    let skip = at as usize % word.len();
    let n = (word.len() - skip).min(rest.len());
    let (now, later) = std::mem::take(rest).split_at_mut(n);
    now.copy_from_slice(&word[skip..skip + n]);
    *rest = later;
    at.wrapping_add(n as u64)
}
