// SPDX-License-Identifier: GPL-2.0-only

//! The fields of an op.

use crate::target::Target;
use harness::{ensure_eq, Context, Outcome, Test};
use programs::{model::Model, Gpu, Tolerance};
use uapi::{
    abi::{self, drm_msm_vm_bind_op},
    Errno, PAGE,
};

/// The control for all the others: what they change one thing of is accepted, and changes the VM.
pub(crate) fn what_would_do(_: &mut Test) -> Outcome {
    let mut t = Target::new()?;
    let bind = t.gpu.bind().op(t.map()).op(t.unmap());
    bind.send_and_wait().context("MAP and UNMAP")?;
    t.model.map(1, 1, 6, 4);
    t.model.unmap(5, 4);
    t.unchanged("MAP and UNMAP")?;
    t.gpu
        .bind()
        .op(t.map_null())
        .send_and_wait()
        .context("MAP_NULL")?;
    t.gpu
        .bind()
        .op(drm_msm_vm_bind_op {
            flags: abi::MSM_VM_BIND_OP_DUMP,
            ..t.map()
        })
        .send_and_wait()
        .context("MAP with DUMP")?;
    t.model.unmap(5, 4);
    t.model.map(1, 1, 6, 4);
    t.unchanged("after all")
}

pub(crate) fn op_code(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for op in [3, 4, 0x8000_0001, u32::MAX] {
        t.refuses(
            drm_msm_vm_bind_op { op, ..t.map() },
            Errno::EINVAL,
            &format!("op {op:#x}"),
        )?;
    }
    Ok(())
}

pub(crate) fn op_flags(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for bit in 1..32 {
        let flags = 1 << bit;
        t.refuses_request(
            |request| {
                request.nr_ops = 1;
                request.u.op = drm_msm_vm_bind_op { flags, ..t.map() };
            },
            Errno::EINVAL,
            &format!("op flags {flags:#x}"),
        )?;
    }
    t.refuses(
        drm_msm_vm_bind_op {
            flags: 3,
            ..t.map()
        },
        Errno::EINVAL,
        "DUMP and another flag",
    )
}

pub(crate) fn alignment(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for off in [1, 8, 0x800, PAGE - 1] {
        let map = t.map();
        for (what, op) in [
            (
                "iova",
                drm_msm_vm_bind_op {
                    iova: map.iova + off,
                    ..map
                },
            ),
            (
                "obj_offset",
                drm_msm_vm_bind_op {
                    obj_offset: map.obj_offset + off,
                    ..map
                },
            ),
            (
                "range",
                drm_msm_vm_bind_op {
                    range: map.range - off,
                    ..map
                },
            ),
            (
                "UNMAP's iova",
                drm_msm_vm_bind_op {
                    iova: map.iova + off,
                    ..t.unmap()
                },
            ),
        ] {
            t.refuses(op, Errno::EINVAL, &format!("{what} off by {off}"))?;
        }
    }
    Ok(())
}

/// Addresses outside the VM, and ranges that leave it or wrap.
pub(crate) fn va_range(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let va = t.gpu.device.va_range()?;
    let page = |op: drm_msm_vm_bind_op, iova, range| drm_msm_vm_bind_op { iova, range, ..op };
    for (name, op) in [
        ("MAP", t.map()),
        ("UNMAP", t.unmap()),
        ("MAP_NULL", t.map_null()),
    ] {
        for (iova, range) in [
            (0, PAGE),
            (va.start - PAGE, PAGE),
            (va.start - PAGE, 2 * PAGE),
            (va.end - PAGE, 2 * PAGE),
            (va.end, PAGE),
            (1 << 48, PAGE),
            (1 << 63, PAGE),
            (PAGE.wrapping_neg(), PAGE),
            (PAGE.wrapping_neg(), 2 * PAGE),
            (t.model.iova(0), PAGE.wrapping_neg()),
            (
                t.model.iova(0),
                t.model.iova(0).wrapping_neg().wrapping_add(va.start),
            ),
        ] {
            t.refuses(
                page(op, iova, range),
                Errno::EINVAL,
                &format!("{name} of {range:#x} at {iova:#x}"),
            )?;
        }
    }
    Ok(())
}

/// The first and the last page of the VM are part of it.
pub(crate) fn va_edges(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let last = t.gpu.device.va_range()?.end - PAGE;
    t.gpu
        .bind()
        .map(&t.bo, 0, last, PAGE)
        .send_and_wait()
        .context("MAP of the last page")?;
    ensure_eq!(
        t.gpu.peek(&[last])?,
        [programs::pattern(1, 0)],
        "the last page"
    );
    t.gpu
        .bind()
        .unmap(last, PAGE)
        .send_and_wait()
        .context("UNMAP of the last page")?;
    ensure_eq!(t.gpu.peek(&[last])?, [0], "the last page, unmapped");
    t.unchanged("after all")
}

/// Offsets and ranges beyond the end of an 8-page BO.
const BEYOND_THE_BO: [(u64, u64); 5] = [
    (0, 9 * PAGE),
    (PAGE, 8 * PAGE),
    (8 * PAGE, PAGE),
    (1 << 40, PAGE),
    (0, 1 << 40),
];

pub(crate) fn bo_range(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for (obj_offset, range) in BEYOND_THE_BO {
        t.refuses_request(
            |request| {
                request.nr_ops = 1;
                request.u.op = drm_msm_vm_bind_op {
                    obj_offset,
                    range,
                    ..t.map()
                };
            },
            Errno::EINVAL,
            &format!("{range:#x} bytes at offset {obj_offset:#x}"),
        )?;
    }
    Ok(())
}

/// The same, in front of ops whose handles haven't been looked up by then.
pub(crate) fn defect_01_bo_range_among_others(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for (obj_offset, range) in BEYOND_THE_BO {
        t.refuses(
            drm_msm_vm_bind_op {
                obj_offset,
                range,
                ..t.map()
            },
            Errno::EINVAL,
            &format!("{range:#x} bytes at offset {obj_offset:#x}"),
        )?;
    }
    Ok(())
}

pub(crate) fn handles(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    t.refuses(
        drm_msm_vm_bind_op {
            handle: 0,
            ..t.map()
        },
        Errno::EINVAL,
        "MAP without a handle",
    )?;
    t.refuses(
        drm_msm_vm_bind_op {
            handle: t.bo.handle(),
            ..t.unmap()
        },
        Errno::EINVAL,
        "UNMAP with a handle",
    )?;
    t.refuses(
        drm_msm_vm_bind_op {
            handle: t.bo.handle(),
            ..t.map_null()
        },
        Errno::EINVAL,
        "MAP_NULL with a handle",
    )
}

/// The handle isn't known, alone and among others that are.
pub(crate) fn defect_01_unknown_handle(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let closed = {
        let bo = t.gpu.bo(3, PAGE)?;
        bo.handle()
    };
    for handle in [closed, 0x1234, 0x4141_4141, u32::MAX] {
        t.refuses(
            drm_msm_vm_bind_op { handle, ..t.map() },
            Errno::EINVAL,
            &format!("handle {handle:#x}"),
        )?;
    }
    Ok(())
}

/// `obj_offset + range` wraps around.
pub(crate) fn defect_02_bo_range_wraps(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for (obj_offset, range) in [
        ((2 * PAGE).wrapping_neg(), 4 * PAGE),
        (PAGE.wrapping_neg(), PAGE),
        (PAGE.wrapping_neg(), 2 * PAGE),
        ((4 * PAGE).wrapping_neg(), 4 * PAGE),
    ] {
        t.refuses(
            drm_msm_vm_bind_op {
                obj_offset,
                range,
                ..t.map()
            },
            Errno::EINVAL,
            &format!("{range:#x} bytes at offset {obj_offset:#x}"),
        )?;
    }
    Ok(())
}

pub(crate) fn defect_13_must_be_zero(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for (name, op) in [
        ("MAP", t.map()),
        ("UNMAP", t.unmap()),
        ("MAP_NULL", t.map_null()),
    ] {
        for pad in [1, 0x8000_0000] {
            t.refuses(
                drm_msm_vm_bind_op { pad, ..op },
                Errno::EINVAL,
                &format!("{name} with pad {pad:#x}"),
            )?;
        }
    }
    for (name, op) in [("UNMAP", t.unmap()), ("MAP_NULL", t.map_null())] {
        t.refuses(
            drm_msm_vm_bind_op {
                obj_offset: PAGE,
                ..op
            },
            Errno::EINVAL,
            &format!("{name} with an offset"),
        )?;
    }
    Ok(())
}

pub(crate) fn defect_13_zero_length(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for (name, op) in [
        ("MAP", t.map()),
        ("UNMAP", t.unmap()),
        ("MAP_NULL", t.map_null()),
    ] {
        t.refuses(
            drm_msm_vm_bind_op { range: 0, ..op },
            Errno::EINVAL,
            &format!("{name} of nothing"),
        )?;
    }
    Ok(())
}

/// Random bytes in place of the ops: whatever is accepted, nothing breaks, and the rest of the VM
/// is as it was.
pub(crate) fn defect_01_random_bytes(test: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 8 * PAGE)?;
    let mut model = Model::new(gpu.iova(0), 8);
    gpu.map(&bo, model.iova(0))?;
    model.map(1, 0, 0, 8);
    let far = gpu.iova(1 << 40);
    for _ in 0..2000 {
        let rng = &mut test.rng;
        let mut pick = |sane: u64| match rng.u8(..6) {
            0 => rng.u64(..),
            1 => rng.u64(..) & !(PAGE - 1),
            2 => 0,
            3 => sane.wrapping_neg(),
            _ => sane,
        };
        let op = drm_msm_vm_bind_op {
            op: pick(1) as u32,
            handle: pick(bo.handle().into()) as u32,
            obj_offset: pick(PAGE),
            iova: far,
            range: pick(4 * PAGE) & 0xffff_ffff,
            flags: pick(1) as u32,
            pad: pick(0) as u32,
        };
        let mut bind = gpu.bind();
        bind.ops = vec![op; rng.usize(1..4)];
        match bind.send() {
            Ok(_) | Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOMEM) => {}
            Err(e) => harness::bail!("{op:x?}: {e}"),
        }
    }
    gpu.bind()
        .send_and_wait()
        .context("a bind without ops after all")?;
    model.check(&gpu, &tolerance, "what nothing aimed at")
}
