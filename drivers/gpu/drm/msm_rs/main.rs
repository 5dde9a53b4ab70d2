// SPDX-License-Identifier: GPL-2.0-only

//! The memory manager of the msm driver: VMs, VMAs, VM_BIND, buffer objects, SUBMIT, the shrinker.
//!
//! This crate is linked into `msm.ko` in place of C objects (`Makefile.msm` lists them) and
//! implements the functions that they export to the rest of the driver. It has no `module!`: C
//! loads and probes.
//!
//! # Lock order
//!
//! Outer first. Each is taken only while those before it may be held, never the other way round.
//!
//! 1. the submitqueue (`ffi::queue::QueueLocked`): jobs are armed and pushed in
//!    one order, and out-fences told of
//! 2. the VM's resv, then the BOs' resvs, all by one `Exec`
//! 3. `vm::state::BindState::pending`: the bind jobs that may not have run yet
//! 4. the work of one job (`vm::job::Slot`)
//! 5. `AddressSpace::page_tables`: page tables and VM log
//! 6. the device's LRU lock (`gpuvm_rs::lru::LruLocked`): LRUs, pin counts, madvise states
//!
//! Reclaim may be called with any of the first two held: the shrinker only tries them.
//!
//! 4 to 6 are taken on the fence-signalling path: nothing is allocated while they are held.
//! Kernel-managed VMs have neither 3 nor 4; the lock of their page tables
//! (`address_space::managed`) is in the place of 5.

// What is unsafe is in the modules that say so below.
#![deny(unsafe_code)]
// And each block of it does one thing.
#![deny(clippy::multiple_unsafe_ops_per_block)]

/// What `pr_err!` and its like print first; C's messages of the module have no prefix either.
#[allow(non_upper_case_globals)]
const __LOG_PREFIX: &[u8] = b"msm_rs\0";

// A library in all but name: what is public there is its interface.
#[allow(unreachable_pub, unsafe_code)]
#[path = "../gpuvm_rs/mod.rs"]
mod gpuvm_rs;

mod address_space;
mod bind;
mod bo;
#[allow(unsafe_code)]
mod entry;
#[allow(unsafe_code)]
mod ffi;
mod mapping;
#[allow(unreachable_pub)]
mod pgtable;
#[allow(unreachable_pub)]
mod pure;
mod shrinker;
mod submit;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;
mod vm;

// What `gpuvm_rs` needs of C is generated with the rest.
use ffi::bindings;
