// SPDX-License-Identifier: GPL-2.0-only

//! VMs: their jobs, and their end.
//!
//! - [`job`]: a bind job. [`close`]: a VM's state, and how it ends.

pub(crate) mod close;
pub(crate) mod job;
