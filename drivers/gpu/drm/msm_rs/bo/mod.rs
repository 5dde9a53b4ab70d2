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
