// SPDX-License-Identifier: GPL-2.0-only

//! Why tables can't be changed.

/// Why the tables couldn't be changed. What was done before stays done and is consistent: unmapping
/// the range undoes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The range isn't made of whole pages of the address space.
    Range,
    /// Memory that isn't made of whole pages or lies beyond what the SMMU can address.
    Physical,
    /// Less memory than the range needs.
    Short,
    /// A table is needed that no footprint reserved.
    Unreserved,
    /// There are no NULL tables: the SMMU has no PRR.
    NoNull,
    /// Something else is mapped there, and has to be unmapped, and the TLB invalidated, before.
    Live,
}

/// Why tables couldn't be reserved; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pool had too few: so many more are needed.
    Shortage(u64),
    /// There are blocks where tables are needed. See
    /// [`PageTables::split`](super::PageTables::split).
    Blocks,
}
