// SPDX-License-Identifier: GPL-2.0-only

//! What every part of the device shares: the guest's memory, interrupts, counters, the trace, and
//! the settings that the command line and the control BAR change.

use crate::chance::Chance;
use crate::counters::Counters;
use crate::irq::Irqs;
use crate::mem::Memory;
use crate::trace;
use crate::trace::Trace;
use std::fmt::Arguments;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a test may change while the device runs. See [`vadreno_ctl`] for the meaning of each.
#[derive(Debug, Default)]
pub struct Settings {
    /// The CP stops before its next packet.
    pub hold_cp: AtomicBool,
    /// TLB invalidations are counted only.
    pub ignore_tlbi: AtomicBool,
    /// Least delay in µs in the low half, greatest in the high half.
    pub delay: AtomicU64,
    /// Speculative reads per second.
    pub speculate: AtomicU64,
}

/// The shared parts.
#[derive(Debug)]
pub struct Board {
    /// Guest memory.
    pub memory: Memory,
    /// Interrupts.
    pub irqs: Irqs,
    /// Counters.
    pub counters: Counters,
    /// Trace.
    pub trace: Trace,
    /// Random choices.
    pub chance: Chance,
    /// Settings.
    pub settings: Settings,
}

impl Board {
    /// A board without memory.
    pub fn new(trace: Trace, seed: u64) -> Self {
        Self {
            memory: Memory::default(),
            irqs: Irqs::default(),
            counters: Counters::default(),
            trace,
            chance: Chance::new(seed),
            settings: Settings::default(),
        }
    }

    /// Software did what it may never do: counts it, and says so on standard error, where
    /// `tests/vm` looks for it. Not more often than anybody reads.
    pub fn find(&self, counter: usize, what: Arguments<'_>) {
        const SAID: u64 = 10;
        trace!(self.trace, "finding {what}");
        self.counters.bump(counter);
        if self
            .counters
            .get(counter)
            .is_some_and(|count| count <= SAID)
        {
            eprintln!("BUG: vadreno: {what}");
        }
    }

    /// A delay as the settings ask for, chosen at random; `None` when delays are off.
    pub fn delay(&self) -> Option<Duration> {
        let delay = self.settings.delay.load(Relaxed);
        (delay != 0)
            .then(|| Duration::from_micros(self.chance.between(delay & 0xffff_ffff, delay >> 32)))
    }
}
