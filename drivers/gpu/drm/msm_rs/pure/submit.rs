// SPDX-License-Identifier: GPL-2.0-only

//! What a SUBMIT may say of its commands, its BO table and its relocations.

use super::ops;

/// `MSM_SUBMIT_CMD_BUF`: executed.
pub const CMD_BUF: u32 = 1;
/// `MSM_SUBMIT_CMD_IB_TARGET_BUF`: executed by other commands.
pub const CMD_IB_TARGET_BUF: u32 = 2;
/// `MSM_SUBMIT_CMD_CTX_RESTORE_BUF`: executed if another context was active.
pub const CMD_CTX_RESTORE_BUF: u32 = 3;

/// `MSM_SUBMIT_BO_READ`.
pub const BO_READ: u32 = 1;
/// `MSM_SUBMIT_BO_WRITE`.
pub const BO_WRITE: u32 = 2;
/// `MSM_SUBMIT_BO_DUMP`.
pub const BO_DUMP: u32 = 4;
/// `MSM_SUBMIT_BO_NO_IMPLICIT`.
pub const BO_NO_IMPLICIT: u32 = 8;

/// Bytes of a command stream's unit.
const DWORD: u32 = 4;

/// The fields of `struct drm_msm_gem_submit_cmd`.
#[derive(Clone, Copy, Debug)]
pub struct RawCmd {
    /// One of `MSM_SUBMIT_CMD_x`.
    pub kind: u32,
    /// Which BO of the table.
    pub index: u32,
    /// Bytes into that BO.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// How many relocations.
    pub nr_relocs: u32,
    /// Where the commands are in a VM_BIND context, else where the relocations are in userspace.
    pub address: u64,
}

/// Well-formed commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cmd {
    /// One of `MSM_SUBMIT_CMD_x`.
    pub kind: u32,
    /// Bytes, a multiple of 4.
    pub size: u32,
    /// Where they are.
    pub place: Place,
}

/// Where commands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// VM_BIND context: at this address, a multiple of 4.
    Iova(u64),
    /// Kernel-managed VM: in a BO of the table.
    Table {
        /// Which.
        index: u32,
        /// Bytes into it, a multiple of 4.
        offset: u32,
        /// How many relocations.
        nr_relocs: u32,
        /// Where they are in userspace.
        relocs: u64,
    },
}

/// Why commands are refused, with the offending value. All are `EINVAL` to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmdError {
    /// Unknown kind.
    Kind(u32),
    /// Size not a multiple of 4, or zero in a BO of the table.
    Size(u32),
    /// Offset not a multiple of 4.
    Offset(u32),
    /// Address not a multiple of 4.
    Address(u64),
    /// Address plus size doesn't fit 64 bits.
    Wraps(u64, u32),
    /// A VM_BIND context has no BO table.
    InTable(u32, u32),
    /// A VM_BIND context has no relocations.
    Relocs(u32),
}

impl Cmd {
    /// Checks raw commands of a VM_BIND context, or of one whose VM the kernel manages.
    ///
    /// # Errors
    ///
    /// The first rule that they break.
    pub fn parse(raw: &RawCmd, vm_bind: bool) -> Result<Self, CmdError> {
        if !matches!(raw.kind, CMD_BUF | CMD_IB_TARGET_BUF | CMD_CTX_RESTORE_BUF) {
            return Err(CmdError::Kind(raw.kind));
        }
        if raw.size % DWORD != 0 {
            return Err(CmdError::Size(raw.size));
        }
        let place = if vm_bind {
            if raw.nr_relocs != 0 {
                return Err(CmdError::Relocs(raw.nr_relocs));
            }
            if raw.index != 0 || raw.offset != 0 {
                return Err(CmdError::InTable(raw.index, raw.offset));
            }
            if raw.address % u64::from(DWORD) != 0 {
                return Err(CmdError::Address(raw.address));
            }
            if raw.address.checked_add(raw.size.into()).is_none() {
                return Err(CmdError::Wraps(raw.address, raw.size));
            }
            Place::Iova(raw.address)
        } else {
            if raw.size == 0 {
                return Err(CmdError::Size(0));
            }
            if raw.offset % DWORD != 0 {
                return Err(CmdError::Offset(raw.offset));
            }
            Place::Table {
                index: raw.index,
                offset: raw.offset,
                nr_relocs: raw.nr_relocs,
                relocs: raw.address,
            }
        };
        Ok(Self {
            kind: raw.kind,
            size: raw.size,
            place,
        })
    }

    /// Whether commands at `offset` lie in a BO of `bo_size` bytes.
    pub fn fits(&self, offset: u32, bo_size: u64) -> bool {
        ops::fits(offset.into(), self.size.into(), bo_size)
    }
}

/// The flags of an entry of the BO table: known ones, READ or WRITE among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoFlags(u32);

impl BoFlags {
    /// `None` for flags that make no sense.
    pub fn new(flags: u32) -> Option<Self> {
        let known = BO_READ | BO_WRITE | BO_DUMP | BO_NO_IMPLICIT;
        (flags & !known == 0 && flags & (BO_READ | BO_WRITE) != 0).then_some(Self(flags))
    }

    /// As userspace said.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether the GPU writes.
    pub fn writes(self) -> bool {
        self.0 & BO_WRITE != 0
    }

    /// Whether the submit waits for the BO's fences.
    pub fn implicit_sync(self) -> bool {
        self.0 & BO_NO_IMPLICIT == 0
    }
}

/// The fields of `struct drm_msm_gem_submit_reloc`.
#[derive(Clone, Copy, Debug)]
pub struct RawReloc {
    /// Bytes into the BO that the commands are in.
    pub submit_offset: u32,
    /// ORed to the address.
    pub or: u32,
    /// By how much the address is shifted to the left; to the right if negative.
    pub shift: i32,
    /// The BO whose address is meant.
    pub index: u32,
    /// Bytes into it.
    pub offset: u64,
}

/// A well-formed relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloc {
    /// Which dword of the commands' BO gets the address.
    pub dword: u32,
    /// The BO whose address is meant.
    pub index: u32,
    or: u32,
    shift: i32,
    offset: u64,
}

/// Why a relocation is refused, with the offending value. All are `EINVAL` to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocError {
    /// Not a multiple of 4, outside the BO, or before the one before.
    Dword(u32),
    /// By 64 bits or more.
    Shift(i32),
    /// No such BO in the table.
    Index(u32),
}

impl Reloc {
    /// Checks a raw relocation in a BO of `bo_size` bytes, which follows one of dword `after`, in a
    /// table of `nr_bos`.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn parse(
        raw: &RawReloc,
        after: u32,
        bo_size: u64,
        nr_bos: u32,
    ) -> Result<Self, RelocError> {
        let dword = raw.submit_offset / DWORD;
        let inside = ops::fits(raw.submit_offset.into(), DWORD.into(), bo_size);
        if raw.submit_offset % DWORD != 0 || !inside || dword < after {
            return Err(RelocError::Dword(raw.submit_offset));
        }
        if raw.shift.unsigned_abs() >= u64::BITS {
            return Err(RelocError::Shift(raw.shift));
        }
        if raw.index >= nr_bos {
            return Err(RelocError::Index(raw.index));
        }
        Ok(Self {
            dword,
            index: raw.index,
            or: raw.or,
            shift: raw.shift,
            offset: raw.offset,
        })
    }

    /// What the dword becomes when the BO that is meant is at `iova`: the low half of the shifted
    /// address.
    pub fn value(&self, iova: u64) -> u32 {
        let address = iova.wrapping_add(self.offset);
        let by = self.shift.unsigned_abs();
        let shifted = if self.shift < 0 {
            address.checked_shr(by)
        } else {
            address.checked_shl(by)
        };
        shifted.unwrap_or(0) as u32 | self.or
    }
}
