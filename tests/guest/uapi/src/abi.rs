// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's structures, constants and ioctl numbers, under the kernel's own names.
//!
//! Facts from `include/uapi/drm/{drm,msm_drm,vgem_drm}.h`, `linux/sync_file.h` and
//! `linux/dma-buf.h` of Linux 7.3. Fields are documented there; only what this crate adds is
//! documented here.

#![expect(missing_docs, reason = "documented in the kernel's headers")]

use std::mem::size_of;

macro_rules! plain {
    ($($(#[$meta:meta])* $name:ident = $size:literal { $($field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $(pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

pub const MSM_PIPE_3D0: u32 = 0x10;

pub const MSM_PARAM_GPU_ID: u32 = 0x01;
pub const MSM_PARAM_CHIP_ID: u32 = 0x03;
pub const MSM_PARAM_PRIORITIES: u32 = 0x07;
pub const MSM_PARAM_FAULTS: u32 = 0x09;
pub const MSM_PARAM_SUSPENDS: u32 = 0x0a;
pub const MSM_PARAM_COMM: u32 = 0x0c;
pub const MSM_PARAM_VA_START: u32 = 0x0e;
pub const MSM_PARAM_VA_SIZE: u32 = 0x0f;
pub const MSM_PARAM_HAS_PRR: u32 = 0x15;
pub const MSM_PARAM_EN_VM_BIND: u32 = 0x16;

pub const MSM_BO_GPU_READONLY: u32 = 0x2;
pub const MSM_BO_NO_SHARE: u32 = 0x4;
pub const MSM_BO_CACHED: u32 = 0x1_0000;
pub const MSM_BO_WC: u32 = 0x2_0000;
pub const MSM_BO_CACHED_COHERENT: u32 = 0x8_0000;

pub const MSM_INFO_GET_OFFSET: u32 = 0;
pub const MSM_INFO_GET_IOVA: u32 = 1;
pub const MSM_INFO_SET_NAME: u32 = 2;
pub const MSM_INFO_GET_NAME: u32 = 3;
pub const MSM_INFO_SET_IOVA: u32 = 4;
pub const MSM_INFO_GET_FLAGS: u32 = 5;
pub const MSM_INFO_SET_METADATA: u32 = 6;
pub const MSM_INFO_GET_METADATA: u32 = 7;

pub const MSM_PREP_READ: u32 = 1;
pub const MSM_PREP_WRITE: u32 = 2;
pub const MSM_PREP_NOSYNC: u32 = 4;

pub const MSM_SYNCOBJ_RESET: u32 = 1;

pub const MSM_SUBMIT_CMD_BUF: u32 = 1;
pub const MSM_SUBMIT_CMD_IB_TARGET_BUF: u32 = 2;
pub const MSM_SUBMIT_CMD_CTX_RESTORE_BUF: u32 = 3;
pub const MSM_SUBMIT_BO_READ: u32 = 1;
pub const MSM_SUBMIT_BO_WRITE: u32 = 2;
pub const MSM_SUBMIT_BO_DUMP: u32 = 4;
pub const MSM_SUBMIT_BO_NO_IMPLICIT: u32 = 8;
pub const MSM_SUBMIT_NO_IMPLICIT: u32 = 0x8000_0000;
pub const MSM_SUBMIT_FENCE_FD_IN: u32 = 0x4000_0000;
pub const MSM_SUBMIT_FENCE_FD_OUT: u32 = 0x2000_0000;
pub const MSM_SUBMIT_SUDO: u32 = 0x1000_0000;
pub const MSM_SUBMIT_SYNCOBJ_IN: u32 = 0x0800_0000;
pub const MSM_SUBMIT_SYNCOBJ_OUT: u32 = 0x0400_0000;
pub const MSM_SUBMIT_FENCE_SN_IN: u32 = 0x0200_0000;

pub const MSM_VM_BIND_OP_UNMAP: u32 = 0;
pub const MSM_VM_BIND_OP_MAP: u32 = 1;
pub const MSM_VM_BIND_OP_MAP_NULL: u32 = 2;
pub const MSM_VM_BIND_OP_DUMP: u32 = 1;
pub const MSM_VM_BIND_FENCE_FD_IN: u32 = 1;
pub const MSM_VM_BIND_FENCE_FD_OUT: u32 = 2;

pub const MSM_MADV_WILLNEED: u32 = 0;
pub const MSM_MADV_DONTNEED: u32 = 1;

pub const MSM_SUBMITQUEUE_VM_BIND: u32 = 2;
pub const MSM_SUBMITQUEUE_PARAM_FAULTS: u32 = 0;

pub const DRM_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
pub const DRM_RDWR: u32 = libc::O_RDWR as u32;
pub const DRM_SYNCOBJ_CREATE_SIGNALED: u32 = 1;
pub const DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE: u32 = 1;
pub const DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED: u32 = 1;
pub const DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE: u32 = 1;
pub const DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL: u32 = 1;
pub const DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT: u32 = 2;

plain! {
    drm_version = 64 {
        version_major: i32, version_minor: i32, version_patchlevel: i32, _hole: u32,
        name_len: u64, name: u64, date_len: u64, date: u64, desc_len: u64, desc: u64,
    }
    drm_gem_close = 8 { handle: u32, pad: u32 }
    drm_prime_handle = 12 { handle: u32, flags: u32, fd: i32 }
    drm_mode_create_dumb = 32 {
        height: u32, width: u32, bpp: u32, flags: u32, handle: u32, pitch: u32, size: u64,
    }
    drm_syncobj_create = 8 { handle: u32, flags: u32 }
    drm_syncobj_destroy = 8 { handle: u32, pad: u32 }
    drm_syncobj_handle = 24 { handle: u32, flags: u32, fd: i32, pad: u32, point: u64 }
    drm_syncobj_wait = 40 {
        handles: u64, timeout_nsec: i64, count_handles: u32, flags: u32, first_signaled: u32,
        pad: u32, deadline_nsec: u64,
    }
    drm_syncobj_timeline_wait = 48 {
        handles: u64, points: u64, timeout_nsec: i64, count_handles: u32, flags: u32,
        first_signaled: u32, pad: u32, deadline_nsec: u64,
    }
    drm_syncobj_array = 16 { handles: u64, count_handles: u32, pad: u32 }
    drm_syncobj_timeline_array = 24 { handles: u64, points: u64, count_handles: u32, flags: u32 }

    drm_msm_timespec = 16 { tv_sec: i64, tv_nsec: i64 }
    drm_msm_param = 24 { pipe: u32, param: u32, value: u64, len: u32, pad: u32 }
    drm_msm_gem_new = 16 { size: u64, flags: u32, handle: u32 }
    drm_msm_gem_info = 24 { handle: u32, info: u32, value: u64, len: u32, pad: u32 }
    drm_msm_gem_cpu_prep = 24 { handle: u32, op: u32, timeout: drm_msm_timespec }
    drm_msm_syncobj = 16 { handle: u32, flags: u32, point: u64 }
    /// `iova` is the union of `relocs` (kernel-managed VM) and `iova` (`VM_BIND` context).
    drm_msm_gem_submit_cmd = 32 {
        type_: u32, submit_idx: u32, submit_offset: u32, size: u32, pad: u32, nr_relocs: u32,
        iova: u64,
    }
    drm_msm_gem_submit_reloc = 24 {
        submit_offset: u32, or: u32, shift: i32, reloc_idx: u32, reloc_offset: u64,
    }
    drm_msm_gem_submit_bo = 16 { flags: u32, handle: u32, presumed: u64 }
    drm_msm_gem_submit = 72 {
        flags: u32, fence: u32, nr_bos: u32, nr_cmds: u32, bos: u64, cmds: u64, fence_fd: i32,
        queueid: u32, in_syncobjs: u64, out_syncobjs: u64, nr_in_syncobjs: u32,
        nr_out_syncobjs: u32, syncobj_stride: u32, pad: u32,
    }
    drm_msm_vm_bind_op = 40 {
        op: u32, handle: u32, obj_offset: u64, iova: u64, range: u64, flags: u32, pad: u32,
    }
    drm_msm_wait_fence = 32 {
        fence: u32, flags: u32, timeout: drm_msm_timespec, queueid: u32, _hole: u32,
    }
    drm_msm_gem_madvise = 12 { handle: u32, madv: u32, retained: u32 }
    drm_msm_submitqueue = 12 { flags: u32, prio: u32, id: u32 }
    drm_msm_submitqueue_query = 24 { data: u64, id: u32, param: u32, len: u32, pad: u32 }

    sync_file_info = 56 {
        name: [u8; 32], status: i32, flags: u32, num_fences: u32, pad: u32, sync_fence_info: u64,
    }
}

/// The last member of [`drm_msm_vm_bind`]: one op inline, or a pointer to an array of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub union drm_msm_vm_bind_ops {
    /// Looked at when `nr_ops` is 1.
    pub op: drm_msm_vm_bind_op,
    /// Looked at when `nr_ops` is greater than 1.
    pub ops: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct drm_msm_vm_bind {
    pub flags: u32,
    pub nr_ops: u32,
    pub fence_fd: i32,
    pub queue_id: u32,
    pub in_syncobjs: u64,
    pub out_syncobjs: u64,
    pub nr_in_syncobjs: u32,
    pub nr_out_syncobjs: u32,
    pub syncobj_stride: u32,
    pub op_stride: u32,
    pub u: drm_msm_vm_bind_ops,
}
const _: () = assert!(size_of::<drm_msm_vm_bind>() == 88);

plain! {
    drm_mode_map_dumb = 16 { handle: u32, pad: u32, offset: u64 }
    drm_mode_card_res = 64 {
        fb_id_ptr: u64,
        crtc_id_ptr: u64,
        connector_id_ptr: u64,
        encoder_id_ptr: u64,
        count_fbs: u32,
        count_crtcs: u32,
        count_connectors: u32,
        count_encoders: u32,
        min_width: u32,
        max_width: u32,
        min_height: u32,
        max_height: u32,
    }
    drm_mode_modeinfo = 68 {
        clock: u32,
        hdisplay: u16,
        hsync_start: u16,
        hsync_end: u16,
        htotal: u16,
        hskew: u16,
        vdisplay: u16,
        vsync_start: u16,
        vsync_end: u16,
        vtotal: u16,
        vscan: u16,
        vrefresh: u32,
        flags: u32,
        r#type: u32,
        name: [u8; 32],
    }
    drm_mode_get_connector = 80 {
        encoders_ptr: u64,
        modes_ptr: u64,
        props_ptr: u64,
        prop_values_ptr: u64,
        count_modes: u32,
        count_props: u32,
        count_encoders: u32,
        encoder_id: u32,
        connector_id: u32,
        connector_type: u32,
        connector_type_id: u32,
        connection: u32,
        mm_width: u32,
        mm_height: u32,
        subpixel: u32,
        pad: u32,
    }
    drm_mode_crtc = 104 {
        set_connectors_ptr: u64,
        count_connectors: u32,
        crtc_id: u32,
        fb_id: u32,
        x: u32,
        y: u32,
        gamma_size: u32,
        mode_valid: u32,
        mode: drm_mode_modeinfo,
    }
    drm_mode_cursor = 28 {
        flags: u32,
        crtc_id: u32,
        x: i32,
        y: i32,
        width: u32,
        height: u32,
        handle: u32,
    }
    drm_mode_fb_cmd = 28 {
        fb_id: u32,
        width: u32,
        height: u32,
        pitch: u32,
        bpp: u32,
        depth: u32,
        handle: u32,
    }
    drm_mode_get_plane_res = 16 { plane_id_ptr: u64, count_planes: u32, _pad: u32 }
    drm_mode_set_plane = 48 {
        plane_id: u32,
        crtc_id: u32,
        fb_id: u32,
        flags: u32,
        crtc_x: i32,
        crtc_y: i32,
        crtc_w: u32,
        crtc_h: u32,
        src_x: u32,
        src_y: u32,
        src_h: u32,
        src_w: u32,
    }
    drm_mode_crtc_page_flip = 24 {
        crtc_id: u32,
        fb_id: u32,
        flags: u32,
        reserved: u32,
        user_data: u64,
    }
}
pub const DRM_MODE_CONNECTED: u32 = 1;
pub const DRM_MODE_PAGE_FLIP_EVENT: u32 = 1;
pub const DRM_MODE_CURSOR_BO: u32 = 1;
pub const DRM_MODE_CURSOR_MOVE: u32 = 2;
/// Bytes of `struct drm_event_vblank`, which `read()` gives after a flip.
pub const DRM_EVENT_VBLANK_SIZE: usize = 32;

/// The ioctls, each a function of the file and its argument.
pub mod ioctl {
    use super::*;

    macro_rules! drm {
        ($($kind:ident $name:ident $nr:literal $ty:ty;)*) => {
            $(nix::$kind!($name, b'd', $nr, $ty);)*
        };
    }

    drm! {
        ioctl_readwrite version 0x00 drm_version;
        ioctl_write_ptr gem_close 0x09 drm_gem_close;
        ioctl_readwrite prime_handle_to_fd 0x2d drm_prime_handle;
        ioctl_readwrite prime_fd_to_handle 0x2e drm_prime_handle;
        ioctl_readwrite mode_getresources 0xa0 drm_mode_card_res;
        ioctl_readwrite mode_setcrtc 0xa2 drm_mode_crtc;
        ioctl_readwrite mode_cursor 0xa3 drm_mode_cursor;
        ioctl_readwrite mode_getconnector 0xa7 drm_mode_get_connector;
        ioctl_readwrite mode_addfb 0xae drm_mode_fb_cmd;
        ioctl_readwrite mode_rmfb 0xaf u32;
        ioctl_readwrite mode_page_flip 0xb0 drm_mode_crtc_page_flip;
        ioctl_readwrite mode_getplaneresources 0xb5 drm_mode_get_plane_res;
        ioctl_readwrite mode_setplane 0xb7 drm_mode_set_plane;
        ioctl_readwrite mode_create_dumb 0xb2 drm_mode_create_dumb;
        ioctl_readwrite mode_map_dumb 0xb3 drm_mode_map_dumb;
        ioctl_readwrite syncobj_create 0xbf drm_syncobj_create;
        ioctl_readwrite syncobj_destroy 0xc0 drm_syncobj_destroy;
        ioctl_readwrite syncobj_handle_to_fd 0xc1 drm_syncobj_handle;
        ioctl_readwrite syncobj_fd_to_handle 0xc2 drm_syncobj_handle;
        ioctl_readwrite syncobj_wait 0xc3 drm_syncobj_wait;
        ioctl_readwrite syncobj_reset 0xc4 drm_syncobj_array;
        ioctl_readwrite syncobj_signal 0xc5 drm_syncobj_array;
        ioctl_readwrite syncobj_timeline_wait 0xca drm_syncobj_timeline_wait;
        ioctl_readwrite syncobj_query 0xcb drm_syncobj_timeline_array;
        ioctl_readwrite syncobj_timeline_signal 0xcd drm_syncobj_timeline_array;

        ioctl_readwrite msm_get_param 0x40 drm_msm_param;
        ioctl_write_ptr msm_set_param 0x41 drm_msm_param;
        ioctl_readwrite msm_gem_new 0x42 drm_msm_gem_new;
        ioctl_readwrite msm_gem_info 0x43 drm_msm_gem_info;
        ioctl_write_ptr msm_gem_cpu_prep 0x44 drm_msm_gem_cpu_prep;
        ioctl_readwrite msm_gem_submit 0x46 drm_msm_gem_submit;
        ioctl_write_ptr msm_wait_fence 0x47 drm_msm_wait_fence;
        ioctl_readwrite msm_gem_madvise 0x48 drm_msm_gem_madvise;
        ioctl_readwrite msm_submitqueue_new 0x4a drm_msm_submitqueue;
        ioctl_write_ptr msm_submitqueue_close 0x4b u32;
        ioctl_write_ptr msm_submitqueue_query 0x4c drm_msm_submitqueue_query;
        ioctl_readwrite msm_vm_bind 0x4d drm_msm_vm_bind;

    }

    nix::ioctl_readwrite!(sync_file_info, b'>', 4, super::sync_file_info);
    // tests/glue/fence.c
    nix::ioctl_none!(vadreno_fence_sync_file, b'v', 0);
    nix::ioctl_none!(vadreno_fence_signal, b'v', 1);
}
