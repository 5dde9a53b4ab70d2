// SPDX-License-Identifier: GPL-2.0-only

//! What C calls. C's prototypes say what the functions do.
//!
//! - [`ioctl`]: VM_BIND and SUBMIT: the front door.
//! - [`bo`]: `msm_gem.h`'s functions about BOs. [`gem`]: BOs are made, and what the DRM core calls
//!   of them.
//! - [`vm`], [`vm_log`], [`page_tables`]: VMs begin and end, what was changed in them, what the GPU
//!   is given. [`kinds`]: what a VM of either kind is made of.
//! - [`shrinker`]: who asks for BOs' memory.
//! - [`module`]: the module begins and ends.

mod bo;
#[cfg(CONFIG_KUNIT = "y")]
mod bo_test;
#[cfg(CONFIG_KUNIT = "y")]
mod closed_test;
#[cfg(CONFIG_KUNIT = "y")]
mod display_test;
mod gem;
mod ioctl;
mod kinds;
mod module;
mod page_tables;
#[cfg(CONFIG_KUNIT = "y")]
mod root_test;
mod shrinker;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod test_device;
mod vm;
mod vm_log;
