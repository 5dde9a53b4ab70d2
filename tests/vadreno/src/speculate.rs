// SPDX-License-Identifier: GPL-2.0-only

//! The speculative reader: touches mapped pages at random while a job runs.
//!
//! Only while a job runs, since hardware prefetches for its clients, and because the tables of the
//! context that ran last may be freed as soon as it is idle.

use crate::device::Device;
use crate::gpu::Activity;
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
        let busy = match device.gpu.control().activity {
            Activity::Busy | Activity::Held => true,
            Activity::Idle | Activity::Stalled | Activity::Hung => false,
        };
        if busy {
            device.smmu.speculate(&device.board);
        }
    }
}
