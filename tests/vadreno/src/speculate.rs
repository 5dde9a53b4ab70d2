// SPDX-License-Identifier: GPL-2.0-only

//! The speculative reader: touches mapped pages at random, whenever the SMMU translates.
//!
//! Hardware fetches ahead for any of its clients, whether a job runs or not. What it finds is
//! whatever the loaded tables say at that moment, so also the tables of a context that has ended,
//! until the next one is loaded.

use crate::device::Device;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::Duration;

/// Reads at the rate that the settings ask for, for ever.
pub fn run(device: &Device) {
    loop {
        let rate = device.board.settings.speculate.load(Relaxed);
        if rate == 0 {
            sleep(Duration::from_millis(50));
            continue;
        }
        sleep(Duration::from_nanos((1_000_000_000 / rate).max(1000)));
        device.smmu.speculate(&device.board);
    }
}
