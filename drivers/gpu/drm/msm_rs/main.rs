// SPDX-License-Identifier: GPL-2.0-only

//! The memory manager of the msm driver: VMs, buffer objects, VM_BIND and submission.
//!
//! This crate is linked into `msm.ko` in place of C objects (`Makefile.msm` lists them) and implements the functions
//! that they export to the rest of the driver. It has no `module!`: C loads and probes.

mod ffi;
