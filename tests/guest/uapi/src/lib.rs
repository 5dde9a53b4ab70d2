// SPDX-License-Identifier: GPL-2.0-only

//! What a program needs to use the msm driver, and what a test of its memory manager needs beside
//! it.
//!
//! The safe part follows the driver's nouns: [`Device`] (one open file, one VM), [`Bo`],
//! [`SubmitQueue`], [`VmBind`], [`Submit`], [`Syncobj`], [`SyncFile`]. Every request can also be
//! sent raw (see [`abi`]), since a hostile test must be able to send any bytes. Nothing is retried:
//! `EINTR` comes back as what it is.
//!
//! Around it: [`HeldFence`] (a fence that signals when the test says so), [`HeldPage`] (memory
//! whose reader waits as long), [`SharedPage`] (memory that its file alone gives up), [`pm4`]
//! (command streams), [`devcoredump`], [`debugfs`], [`fault_injection`], [`module`] (parameters),
//! [`memory`] (what the system has left), [`swap`] and [`Tracepoint`].

pub mod abi;
mod bind;
mod bo;
pub mod debugfs;
pub mod devcoredump;
mod device;
pub mod fault_injection;
mod held_fence;
mod held_page;
pub mod kms;
pub mod memory;
pub mod module;
pub mod pm4;
mod queue;
mod shared_page;
mod submit;
pub mod swap;
mod sync;
pub mod tracepoint;
pub mod vadreno;
pub mod vgem;

pub use bind::VmBind;
pub use bo::{Bo, Mapping};
pub use device::Device;
pub use held_fence::HeldFence;
pub use held_page::HeldPage;
pub use nix::errno::Errno;
pub use pm4::Pm4;
pub use queue::SubmitQueue;
pub use shared_page::SharedPage;
pub use submit::{Submit, Submitted};
pub use sync::{deadline, SyncFile, Syncobj};
pub use tracepoint::{Trace, Tracepoint};
pub use vadreno_ctl;

/// The granule of every iova, offset and range that VM_BIND takes, in bytes.
pub const PAGE: u64 = 4096;

/// Result with the kernel's error number.
pub type Result<T> = std::result::Result<T, Errno>;
