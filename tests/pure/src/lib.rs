// SPDX-License-Identifier: GPL-2.0-only

//! The kernel crate's pure modules, compiled for the host.
//!
//! These are the very files that the kernel builds. A module takes part by standing in
//! `pure/mod.rs`, or by a line here; its tests go to `tests/`. With `no_std`, and without `alloc`,
//! what compiles here needs nothing but `core`.
#![no_std]

#[path = "../../../drivers/gpu/drm/msm_rs/pure/mod.rs"]
pub mod pure;

#[path = "../../../drivers/gpu/drm/msm_rs/pgtable/mod.rs"]
pub mod pgtable;

/// What the pure modules use of the bindings.
#[path = "."]
pub mod gpuvm_rs {
    #[path = "../../../drivers/gpu/drm/gpuvm_rs/range.rs"]
    pub mod range;
}

#[path = "../../../drivers/gpu/drm/gpuvm_rs/shrinker/stages.rs"]
pub mod stages;
