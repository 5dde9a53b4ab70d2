// SPDX-License-Identifier: GPL-2.0-only

//! A BO at an address in a VM.
//!
//! - [`vm_bind`]: VMAs of VM_BIND VMs; [`info`]: as the VM log describes them.
//! - [`managed`]: VMAs of VMs that the kernel manages; [`pin`]: those that the kernel itself uses.
//! - [`scanout`]: the display's.
//! - [`handle_close`]: what a closed handle leaves to be done.
//! - [`reclaim`]: pages are taken away from a BO, wherever it is mapped.

pub(crate) mod handle_close;
pub(crate) mod info;
pub(crate) mod managed;
pub(crate) mod pin;
pub(crate) mod reclaim;
pub(crate) mod scanout;
pub(crate) mod vm_bind;
