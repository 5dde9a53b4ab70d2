// SPDX-License-Identifier: GPL-2.0-only

//! Buffer objects: their pages, and who keeps them. Where they are mapped is [`crate::mapping`].
//! `Documentation/bo.rst` draws their life.
//!
//! - [`backing`]: pages come and go.
//! - [`pin`]: what keeps them, and which LRU a BO is on.
//! - [`vmap`]: mapped for the kernel.
//! - [`cpu_prep`]: CPUs wait for the GPU.
//! - [`describe`]: what debugfs shows.
//!
//! A function says by the token that it takes which locks its caller holds, see `ffi::bo`.

pub(crate) mod backing;
pub(crate) mod cpu_prep;
#[cfg(CONFIG_DEBUG_FS)]
pub(crate) mod describe;
pub(crate) mod pin;

pub(crate) mod vmap;
