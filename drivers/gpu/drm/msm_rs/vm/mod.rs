// SPDX-License-Identifier: GPL-2.0-only

//! VMs: their jobs, and their end.
//!
//! - [`kinds`]: what a VM of either kind is made of.
//! - [`state`]: the jobs of a VM that may not have run yet. [`job`]: one of them.
//! - [`close`]: how a VM ends.

pub(crate) mod close;
pub(crate) mod job;
pub(crate) mod kinds;
pub(crate) mod state;
