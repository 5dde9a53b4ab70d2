// SPDX-License-Identifier: GPL-2.0-only

//! What the programs share.

pub mod fault;
mod gpu;
mod tolerance;

pub use gpu::{pattern, Gpu};
pub use tolerance::Tolerance;

use std::time::Duration;

/// How long anything may take that isn't held back on purpose.
pub const PATIENCE: Duration = Duration::from_secs(30);
