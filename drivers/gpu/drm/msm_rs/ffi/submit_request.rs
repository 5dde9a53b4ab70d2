// SPDX-License-Identifier: GPL-2.0-only

//! A SUBMIT request: what the ioctl's argument says, as plain values.

use kernel::{
    prelude::*,
    transmute::FromBytes, //
};

use super::{
    bindings,
    caller::{
        Caller,
        Fences, //
    },
    fences::SyncobjArray,
    user_array::{
        Element,
        UserArray, //
    },
};
use crate::pure::submit::{
    self,
    RawCmd,
    RawReloc, //
};

const _: () = {
    assert!(submit::CMD_BUF == bindings::MSM_SUBMIT_CMD_BUF);
    assert!(submit::CMD_IB_TARGET_BUF == bindings::MSM_SUBMIT_CMD_IB_TARGET_BUF);
    assert!(submit::CMD_CTX_RESTORE_BUF == bindings::MSM_SUBMIT_CMD_CTX_RESTORE_BUF);
    assert!(submit::BO_READ == bindings::MSM_SUBMIT_BO_READ);
    assert!(submit::BO_WRITE == bindings::MSM_SUBMIT_BO_WRITE);
    assert!(submit::BO_DUMP == bindings::MSM_SUBMIT_BO_DUMP);
    assert!(submit::BO_NO_IMPLICIT == bindings::MSM_SUBMIT_BO_NO_IMPLICIT);
};

/// All flags of a request that are known.
const FLAGS: u32 = bindings::MSM_SUBMIT_NO_IMPLICIT
    | bindings::MSM_SUBMIT_FENCE_FD_IN
    | bindings::MSM_SUBMIT_FENCE_FD_OUT
    | bindings::MSM_SUBMIT_SUDO
    | bindings::MSM_SUBMIT_SYNCOBJ_IN
    | bindings::MSM_SUBMIT_SYNCOBJ_OUT
    | bindings::MSM_SUBMIT_FENCE_SN_IN;

/// The bits of a request's flags that name a pipe, see `MSM_PIPE_ID()`.
const PIPE: u32 = 0xffff;

// SAFETY: Integers without padding.
unsafe impl FromBytes for bindings::drm_msm_gem_submit_bo {}
// SAFETY: Integers, and a union of two of one size, without padding.
unsafe impl FromBytes for bindings::drm_msm_gem_submit_cmd {}
// SAFETY: Integers without padding.
unsafe impl FromBytes for bindings::drm_msm_gem_submit_reloc {}

/// An entry of the BO table.
pub(crate) struct RawBo {
    pub(super) flags: u32,
    pub(super) handle: u32,
}

impl Element for RawBo {
    type Raw = bindings::drm_msm_gem_submit_bo;

    fn from_raw(bo: bindings::drm_msm_gem_submit_bo) -> Self {
        Self {
            flags: bo.flags,
            handle: bo.handle,
        }
    }
}

impl Element for RawCmd {
    type Raw = bindings::drm_msm_gem_submit_cmd;

    fn from_raw(cmd: bindings::drm_msm_gem_submit_cmd) -> Self {
        Self {
            kind: cmd.type_,
            index: cmd.submit_idx,
            offset: cmd.submit_offset,
            size: cmd.size,
            nr_relocs: cmd.nr_relocs,
            // SAFETY: Both variants are the same integer.
            address: unsafe { cmd.__bindgen_anon_1.iova },
        }
    }
}

impl Element for RawReloc {
    type Raw = bindings::drm_msm_gem_submit_reloc;

    fn from_raw(reloc: bindings::drm_msm_gem_submit_reloc) -> Self {
        Self {
            submit_offset: reloc.submit_offset,
            or: reloc.or,
            shift: reloc.shift,
            index: reloc.reloc_idx,
            offset: reloc.reloc_offset,
        }
    }
}

/// A SUBMIT request.
pub(crate) struct SubmitRequest<'a> {
    /// Whose it is.
    pub(crate) caller: Caller<'a>,
    /// The id of the queue that it is for.
    pub(crate) queue_id: u32,
    /// The BO table.
    pub(crate) bos: UserArray<RawBo>,
    /// The command streams.
    pub(crate) cmds: UserArray<RawCmd>,
    /// Whether the commands are privileged.
    pub(crate) sudo: bool,
    /// Whether the submit waits for the fences of its BOs.
    pub(crate) implicit_sync: bool,
    /// What to wait for, and what gets the submit's fence.
    pub(crate) fences: Fences<'a>,
    /// How many in-syncobjs it lists without saying so in its flags: they aren't waited for.
    pub(crate) ignored_syncobjs: u32,
    /// The fence's number.
    pub(crate) number: FenceNumber<'a>,
}

/// The number by which userspace knows a fence.
pub(crate) struct FenceNumber<'a> {
    /// What it is to be, if userspace says that.
    pub(crate) wanted: Option<u32>,
    /// Where it goes.
    place: &'a mut u32,
}

impl FenceNumber<'_> {
    /// Tells userspace.
    pub(crate) fn tell(self, number: u32) {
        *self.place = number;
    }
}

impl<'a> SubmitRequest<'a> {
    /// Checks what doesn't depend on tables and commands.
    ///
    /// # Errors
    ///
    /// `EINVAL` for unknown flags, another pipe, or SUDO without the right to it.
    pub(crate) fn new(
        caller: Caller<'a>,
        args: &'a mut bindings::drm_msm_gem_submit,
    ) -> Result<Self> {
        if args.pad != 0 {
            return Err(caller.invalid(fmt!("pad isn't zero")));
        }
        if args.flags & PIPE != bindings::MSM_PIPE_3D0 {
            return Err(caller.invalid(fmt!("invalid pipe")));
        }
        if args.flags & !PIPE & !FLAGS != 0 {
            return Err(caller.invalid(fmt!("invalid flags: {:x}", args.flags)));
        }
        let flags = args.flags;
        let has = |flag| flags & flag != 0;
        let sudo = has(bindings::MSM_SUBMIT_SUDO);
        // SAFETY: Looks at the kernel's configuration and the task's capabilities.
        if sudo && !unsafe { bindings::msm_rs_may_sudo() } {
            return Err(caller.invalid(fmt!("SUDO isn't allowed")));
        }
        let stride = args.syncobj_stride;
        let array = |flag, addr, nr| {
            if has(flag) {
                SyncobjArray { addr, nr, stride }
            } else {
                SyncobjArray::default()
            }
        };
        let ignored_syncobjs = if has(bindings::MSM_SUBMIT_SYNCOBJ_IN) {
            0
        } else {
            args.nr_in_syncobjs
        };
        if ignored_syncobjs != 0 {
            caller.note(fmt!(
                "in-syncobjs without MSM_SUBMIT_SYNCOBJ_IN are ignored"
            ));
        }
        Ok(Self {
            caller,
            queue_id: args.queueid,
            bos: UserArray::new(args.bos, args.nr_bos),
            cmds: UserArray::new(args.cmds, args.nr_cmds),
            sudo,
            implicit_sync: !has(bindings::MSM_SUBMIT_NO_IMPLICIT),
            fences: Fences {
                in_fence: has(bindings::MSM_SUBMIT_FENCE_FD_IN).then_some(args.fence_fd),
                in_syncobjs: array(
                    bindings::MSM_SUBMIT_SYNCOBJ_IN,
                    args.in_syncobjs,
                    args.nr_in_syncobjs,
                ),
                out_syncobjs: array(
                    bindings::MSM_SUBMIT_SYNCOBJ_OUT,
                    args.out_syncobjs,
                    args.nr_out_syncobjs,
                ),
                out_fence: has(bindings::MSM_SUBMIT_FENCE_FD_OUT).then_some(&mut args.fence_fd),
            },
            ignored_syncobjs,
            number: FenceNumber {
                wanted: has(bindings::MSM_SUBMIT_FENCE_SN_IN).then_some(args.fence),
                place: &mut args.fence,
            },
        })
    }
}
