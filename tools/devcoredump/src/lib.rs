// SPDX-License-Identifier: GPL-2.0-only
//! Reads the devcoredump that drm/msm writes when an Adreno GPU faults or hangs, and says why.
//!
//! - [`input`] opens a file or stdin, plain or compressed.
//! - [`scan`] cuts it into lines in bounded memory; [`ascii85`] decodes the binary blocks as they
//!   pass by.
//! - [`clean`] makes text from outside fit to be shown.
//! - [`parse`] turns lines into a [`dump::Dump`], one document at a time; [`vm_log`] and [`pte`]
//!   know the two parts that say most about a fault.
//! - [`contents`] keeps the bytes that [`pm4`] (the language of command streams) and [`cp`] (its
//!   reader's registers) need to say where a GPU hung.
//! - [`klog`] reads the kernel's log instead, where there is no dump.
//! - [`space`] replays the VM log into the address space as it was, [`map`] looks at a part of it;
//!   [`verdict`] judges.
//! - `report` (of the feature of that name) makes a page of it all. It needs no operating system,
//!   so `page/` can have it run in a browser.
//!
//! The text format is what `msm_gpu_devcoredump_read()` and the `show` functions below it print
//! (drivers/gpu/drm/msm in the kernel tree), and for the VM log `Documentation/devcoredump.rst` of
//! this repository.
//!
//! A dump is input from a broken machine: nothing in here panics on it, and memory doesn't grow
//! with what it claims.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod ascii85;
pub mod clean;
pub mod contents;
pub mod cp;
pub mod dump;
pub mod input;
pub mod klog;
pub mod map;
pub mod parse;
pub mod pm4;
pub mod pte;
#[cfg(feature = "report")]
pub mod report;
pub mod scan;
pub mod space;
pub mod verdict;
pub mod vm_log;
