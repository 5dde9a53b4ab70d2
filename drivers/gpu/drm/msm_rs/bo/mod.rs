// SPDX-License-Identifier: GPL-2.0-only

//! Buffer objects: their pages, who keeps them, and where they are mapped. `Documentation/bo.rst` draws their life.
//!
//! - [`backing`]: pages come and go.
//! - [`pin`]: what keeps them, and which LRU a BO is on.
//! - [`vmap`]: mapped for the kernel.
//! - [`iova`]: mapped in VMs that the kernel manages.
//! - [`parting`]: what a closed handle leaves to be done.
//! - [`reclaim`]: pages are taken away.
//! - [`sync`]: CPUs wait for the GPU.
//! - [`describe`]: what debugfs shows.
//!
//! A function says by the token that it takes which locks its caller holds, see `ffi::bo`.

pub(crate) mod backing;
#[cfg(CONFIG_DEBUG_FS)]
pub(crate) mod describe;
pub(crate) mod iova;
pub(crate) mod parting;
pub(crate) mod pin;
pub(crate) mod reclaim;
pub(crate) mod sync;
pub(crate) mod vmap;

use crate::ffi::bindings;

/// What userspace said about the content, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Madv {
    /// It is needed.
    WillNeed,
    /// It may be thrown away when memory is short.
    DontNeed,
    /// It was thrown away; the BO never gets pages again.
    Purged,
}

impl Madv {
    /// For `MSM_MADV_x`.
    pub(crate) fn from_raw(raw: u8) -> Self {
        match u32::from(raw) {
            bindings::MSM_MADV_WILLNEED => Self::WillNeed,
            bindings::MSM_MADV_DONTNEED => Self::DontNeed,
            _ => Self::Purged,
        }
    }

    /// As `MSM_MADV_x`.
    pub(crate) fn to_raw(self) -> u8 {
        let raw = match self {
            Self::WillNeed => bindings::MSM_MADV_WILLNEED,
            Self::DontNeed => bindings::MSM_MADV_DONTNEED,
            Self::Purged => bindings::__MSM_MADV_PURGED,
        };
        raw as u8
    }
}

/// The device's lists of BOs, each from the one used longest ago to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lru {
    /// Without pages.
    Unbacked,
    /// Pinned, or imported.
    Pinned,
    /// With pages that may be swapped out.
    WillNeed,
    /// With pages that may be thrown away.
    DontNeed,
}
