// SPDX-License-Identifier: GPL-2.0-only

//! A virtual Adreno, with an SMMU-500, as a vfio-user PCI device for QEMU.
//!
//! It models what a GPU memory manager depends on (registers, SMMU, command processor, faults and
//! recovery), not a GPU that draws. `Documentation/testbed.rst` says how to use it.
//!
//! Nothing that a guest writes, in registers, command streams or page tables, may make it panic.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod bbm;
pub mod blit;
pub mod board;
pub mod chance;
pub mod counters;
pub mod cp;
pub mod crashdump;
pub mod ctl;
pub mod device;
pub mod finite;
pub mod freed;
pub mod gmu;
pub mod gpu;
pub mod hfi;
pub mod index;
pub mod irq;
pub mod mdp;
pub mod mem;
pub mod model;
pub mod pci;
pub mod pending;
pub mod picture;
pub mod pm4;
pub mod preempt;
pub mod regs;
pub mod server;
pub mod smmu;
pub mod speculate;
pub mod tlb;
pub mod trace;
pub mod walk;
pub mod watch;

#[cfg(test)]
mod testing;
