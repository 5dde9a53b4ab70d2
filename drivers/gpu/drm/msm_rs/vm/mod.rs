// SPDX-License-Identifier: GPL-2.0-only

//! VMs for VM_BIND: what requests do to their page tables, in jobs or at once, and their end.
//!
//! - [`state`]: the jobs of a VM that may not have run yet. [`job`]: one of them.
//! - [`close`]: how a VM ends.

pub(crate) mod close;
pub(crate) mod job;
pub(crate) mod state;
