// SPDX-License-Identifier: GPL-2.0-only

//! What a VM_BIND op may say.
//!
//! Parsing turns the UAPI's op, whose fields mean different things for different ops, into an enum
//! that holds only what applies. Nothing is looked up here.

use core::num::NonZeroU32;

/// `MSM_VM_BIND_OP_UNMAP`.
pub const OP_UNMAP: u32 = 0;
/// `MSM_VM_BIND_OP_MAP`.
pub const OP_MAP: u32 = 1;
/// `MSM_VM_BIND_OP_MAP_NULL`.
pub const OP_MAP_NULL: u32 = 2;
/// `MSM_VM_BIND_OP_DUMP`, the only op flag: the mapping's content goes into devcoredumps.
pub const OP_DUMP: u32 = 1;

/// Granularity of everything, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// The fields of `struct drm_msm_vm_bind_op`.
#[derive(Clone, Copy, Debug)]
pub struct RawOp {
    /// One of `MSM_VM_BIND_OP_x`.
    pub op: u32,
    /// GEM handle, zero unless `op` is MAP.
    pub handle: u32,
    /// Bytes into the object, zero unless `op` is MAP.
    pub obj_offset: u64,
    /// First address.
    pub iova: u64,
    /// Bytes.
    pub range: u64,
    /// `MSM_VM_BIND_OP_x` flags.
    pub flags: u32,
    /// Must be zero.
    pub pad: u32,
}

/// A well-formed op: aligned, not empty, not wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// First address.
    pub iova: u64,
    /// Bytes.
    pub range: u64,
    /// What to do there.
    pub kind: Kind,
}

/// What an [`Op`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Remove whatever is mapped.
    Unmap,
    /// Reads give zero, writes are dropped.
    MapNull,
    /// Map an object's bytes from `offset` on.
    Map {
        /// GEM handle.
        handle: NonZeroU32,
        /// Bytes into the object.
        offset: u64,
        /// Mark the mapping for devcoredumps.
        dump: bool,
    },
}

/// Why an op is refused, with the offending value. All are `EINVAL` to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpError {
    /// Unknown op.
    Op(u32),
    /// Unknown flags.
    Flags(u32),
    /// `pad` must be zero.
    Pad(u32),
    /// Address not a multiple of the page size.
    Address(u64),
    /// Offset not a multiple of the page size.
    Offset(u64),
    /// Range zero or not a multiple of the page size.
    Range(u64),
    /// Address plus range, or offset plus range, doesn't fit 64 bits.
    Wraps(u64, u64),
    /// MAP without a handle.
    NoHandle,
    /// UNMAP or MAP_NULL with a handle.
    Handle(u32),
    /// UNMAP or MAP_NULL with an offset.
    OffsetSet(u64),
}

impl Op {
    /// Checks a raw op.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn parse(raw: &RawOp) -> Result<Self, OpError> {
        if raw.flags & !OP_DUMP != 0 {
            return Err(OpError::Flags(raw.flags));
        }
        if raw.pad != 0 {
            return Err(OpError::Pad(raw.pad));
        }
        if raw.iova % PAGE_SIZE != 0 {
            return Err(OpError::Address(raw.iova));
        }
        if raw.obj_offset % PAGE_SIZE != 0 {
            return Err(OpError::Offset(raw.obj_offset));
        }
        if raw.range == 0 || raw.range % PAGE_SIZE != 0 {
            return Err(OpError::Range(raw.range));
        }
        if raw.iova.checked_add(raw.range).is_none() {
            return Err(OpError::Wraps(raw.iova, raw.range));
        }
        let kind = match raw.op {
            OP_MAP => Kind::Map {
                handle: NonZeroU32::new(raw.handle).ok_or(OpError::NoHandle)?,
                offset: raw.obj_offset,
                dump: raw.flags & OP_DUMP != 0,
            },
            OP_UNMAP | OP_MAP_NULL => {
                if raw.handle != 0 {
                    return Err(OpError::Handle(raw.handle));
                }
                if raw.obj_offset != 0 {
                    return Err(OpError::OffsetSet(raw.obj_offset));
                }
                if raw.op == OP_UNMAP {
                    Kind::Unmap
                } else {
                    Kind::MapNull
                }
            }
            op => return Err(OpError::Op(op)),
        };
        if raw.obj_offset.checked_add(raw.range).is_none() {
            return Err(OpError::Wraps(raw.obj_offset, raw.range));
        }
        Ok(Self {
            iova: raw.iova,
            range: raw.range,
            kind,
        })
    }

    /// What running it costs at most, counted in page-table entries written, if `reserved` tables
    /// of the VM are reserved then.
    ///
    /// A mapping of memory writes an entry per page. MAP_NULL and UNMAP change whole tables where
    /// they can: not those that are reserved, and not at their ends. UNMAP looks at such a table,
    /// and clears what a MAP has written before.
    pub fn entries(&self, reserved: u64) -> u64 {
        /// Entries at both ends, on all levels.
        const ENDS: u64 = 4 * 2 * 512;
        /// To find a table takes as long as to write so many entries.
        const FIND: u64 = 32;
        let pages = self.range / PAGE_SIZE;
        let most = reserved.saturating_mul(512).saturating_add(ENDS);
        match self.kind {
            Kind::Map { .. } => pages,
            Kind::MapNull => pages.min(most),
            Kind::Unmap => (pages.min(most) / (512 / FIND)).max(1),
        }
    }
}

/// Whether `range` bytes from `offset` lie in an object of `size` bytes.
pub fn fits(offset: u64, range: u64, size: u64) -> bool {
    offset.checked_add(range).is_some_and(|end| end <= size)
}

/// Whether an array of ops may be spaced `stride` bytes apart, when each has `size` bytes.
pub fn stride_valid(stride: u32, size: u32) -> bool {
    stride >= size && stride % 8 == 0
}
