// SPDX-License-Identifier: GPL-2.0-only

//! One VM's page tables, and what is reserved, limited and logged for their changes.
//!
//! - [`tables`]: the tables, and in which order they change. [`managed`]: those of VMs that the kernel
//!   manages.
//! - [`step`]: one change. [`footprint`]: which tables it may need.
//! - [`reservation`]: tables that are there before they are needed. [`throttle`]: how many may be.
//! - [`log`]: what was changed, for crash dumps.

pub(crate) mod footprint;
pub(crate) mod log;
pub(crate) mod managed;
pub(crate) mod reservation;
pub(crate) mod step;
pub(crate) mod tables;
pub(crate) mod throttle;
