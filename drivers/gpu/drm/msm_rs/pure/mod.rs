// SPDX-License-Identifier: GPL-2.0-only

//! Decisions without a kernel: the parts of the memory manager that only compute.
//!
//! Everything below here uses `core` alone, allocates nothing, has no `unsafe` and no way to panic
//! on any input, and names nothing of the kernel crate. `tests/pure` compiles the very same files
//! for the host and tests them against straightforward models; the page tables (`pgtable`) follow
//! the same rules.

pub mod log_ring;
pub mod ops;
pub mod ranges;
pub mod submit;
