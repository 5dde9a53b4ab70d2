// SPDX-License-Identifier: GPL-2.0-only

//! MSI-X vectors: eventfds that QEMU hands over.

use crate::counters::Counters;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use vadreno_ctl::counter;

/// Number of MSI-X vectors.
pub const VECTORS: u32 = 18;
/// Vector of the GPU's interrupt.
pub const GPU: usize = 0;
/// Vector of the global fault interrupt of the GPU's SMMU; its context banks follow.
pub const SMMU_GLOBAL: usize = 1;
/// Vector of the display's interrupt. The SMMU's context banks are before it.
pub const DISPLAY: usize = 10;
/// Vector of the global fault interrupt of the display's SMMU; its context banks follow.
pub const DISPLAY_SMMU_GLOBAL: usize = 11;
/// Vector of the GMU's messages.
pub const HFI: usize = 16;
/// Vector of what else the GMU has to say: of a watchdog and of bus errors, which aren't modelled.
pub const GMU: usize = 17;

/// The eventfds in use.
#[derive(Debug, Default)]
pub struct Irqs(Mutex<Vec<Option<File>>>);

impl Irqs {
    /// Gives the vectors from `start` on their eventfds.
    pub fn enable(&self, start: u32, fds: Vec<File>) {
        let mut vectors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        vectors.resize_with(VECTORS as usize, || None);
        for (vector, fd) in vectors.iter_mut().skip(start as usize).zip(fds) {
            *vector = Some(fd);
        }
    }

    /// No vector has an eventfd any more.
    pub fn disable(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Raises an interrupt. Nothing happens when the guest has not enabled the vector.
    pub fn raise(&self, vector: usize, counters: &Counters) {
        counters.bump(counter::IRQS);
        let mut vectors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(fd)) = vectors.get_mut(vector) {
            // An eventfd refuses only when its count is full, and then the interrupt is pending.
            let _ = fd.write_all(&1u64.to_ne_bytes());
        }
    }
}
