// SPDX-License-Identifier: GPL-2.0-only

//! Requests that make no sense: each is refused with the right error, and the VM is as it was.

use harness::{ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{model::Model, Gpu, Tolerance};
use std::{mem::size_of, process::ExitCode};
use uapi::{
    abi::{self, drm_msm_vm_bind, drm_msm_vm_bind_op},
    Bo, Device, Errno, Pm4, Submit, SubmitQueue, Syncobj, PAGE,
};

/// A VM with something in it, and a place that the requests aim at.
struct Target {
    tolerance: Tolerance,
    gpu: Gpu,
    bo: Bo,
    model: Model,
}

impl Target {
    /// Pages 4 to 8 of the window are mapped; what a request would change is there and right behind.
    fn new() -> harness::Result<Self> {
        let tolerance = Tolerance::new()?;
        let gpu = Gpu::new()?;
        let (bo, old) = (gpu.bo(1, 8 * PAGE)?, gpu.bo(2, 8 * PAGE)?);
        let mut model = Model::new(gpu.iova(0), 16);
        gpu.bind()
            .map(&old, 0, model.iova(4), 4 * PAGE)
            .send_and_wait()
            .context("MAP")?;
        model.map(2, 0, 4, 4);
        Ok(Self {
            tolerance,
            gpu,
            bo,
            model,
        })
    }

    /// A MAP that would do: over the end of what is mapped and beyond.
    fn map(&self) -> drm_msm_vm_bind_op {
        drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_MAP,
            handle: self.bo.handle(),
            obj_offset: PAGE,
            iova: self.model.iova(6),
            range: 4 * PAGE,
            flags: 0,
            pad: 0,
        }
    }

    fn unmap(&self) -> drm_msm_vm_bind_op {
        drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_UNMAP,
            iova: self.model.iova(5),
            range: 4 * PAGE,
            ..Default::default()
        }
    }

    fn map_null(&self) -> drm_msm_vm_bind_op {
        drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_MAP_NULL,
            ..self.unmap()
        }
    }

    /// Sends an op alone, as the first, as the last of several that would do, and twice.
    fn refuses(&self, op: drm_msm_vm_bind_op, errno: Errno, what: &str) -> Outcome {
        for (place, ops) in [
            ("alone", vec![op]),
            ("first", vec![op, self.unmap(), self.map()]),
            ("last", vec![self.map(), self.unmap(), self.map_null(), op]),
            ("twice", vec![op, op]),
        ] {
            let mut bind = self.gpu.bind();
            bind.ops = ops;
            ensure_errno!(bind.send(), errno, "{what}, {place}");
            self.unchanged(&format!("after {what}, {place}"))?;
        }
        self.still_usable(what)
    }

    /// Sends a request that would do but for one change.
    fn refuses_request(
        &self,
        change: impl FnOnce(&mut drm_msm_vm_bind),
        errno: Errno,
        what: &str,
    ) -> Outcome {
        let bind = self.gpu.bind().op(self.map()).op(self.unmap());
        let mut request = bind.request();
        change(&mut request);
        ensure_errno!(self.gpu.device.vm_bind_raw(&mut request), errno, "{what}");
        self.unchanged(&format!("after {what}"))?;
        self.still_usable(what)
    }

    fn unchanged(&self, when: &str) -> Outcome {
        self.model.check(&self.gpu, &self.tolerance, when)
    }

    /// The queue still takes and runs jobs.
    fn still_usable(&self, after: &str) -> Outcome {
        self.gpu
            .bind()
            .send_and_wait()
            .with_context(|| format!("a bind without ops after {after}"))
    }
}

/// The control for all the others: what they change one thing of is accepted, and changes the VM.
fn what_would_do(_: &mut Test) -> Outcome {
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

fn op_code(_: &mut Test) -> Outcome {
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

fn op_flags(_: &mut Test) -> Outcome {
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

fn alignment(_: &mut Test) -> Outcome {
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
fn va_range(_: &mut Test) -> Outcome {
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
fn va_edges(_: &mut Test) -> Outcome {
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

fn bo_range(_: &mut Test) -> Outcome {
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
fn defect_01_bo_range_among_others(_: &mut Test) -> Outcome {
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

fn handles(_: &mut Test) -> Outcome {
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

fn request_flags_and_queue(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for bit in 2..32 {
        t.refuses_request(
            |request| request.flags |= 1 << bit,
            Errno::EINVAL,
            &format!("request flags {:#x}", 1u32 << bit),
        )?;
    }
    t.refuses_request(
        |request| request.queue_id = 999,
        Errno::ENOENT,
        "an unknown queue",
    )?;
    t.refuses_request(
        |request| request.queue_id = t.gpu.queue.id(),
        Errno::EINVAL,
        "a queue for the GPU",
    )?;
    t.refuses_request(
        |request| request.queue_id = 0,
        Errno::EINVAL,
        "the default queue",
    )
}

fn pointers_and_counts(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for address in [0, 8, 0xffff_0000_0000_0000, 0x7fff_ffff_f000] {
        t.refuses_request(
            |request| request.u.ops = address,
            Errno::EFAULT,
            &format!("ops at {address:#x}"),
        )?;
    }
    t.refuses_request(
        |request| request.nr_ops = u32::MAX,
        Errno::ENOMEM,
        "4294967295 ops",
    )?;
    // Two good ops at the end of a page, and no third.
    let page =
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.context("page size")? as usize;
    let length = std::num::NonZeroUsize::new(2 * page).context("length")?;
    use nix::sys::mman::{mmap_anonymous, mprotect, MapFlags, ProtFlags};
    // SAFETY: a fresh mapping, of which the second half is made inaccessible before anything points into it.
    let base = unsafe {
        let base = mmap_anonymous(
            None,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE,
        )?;
        mprotect(base.add(page), page, ProtFlags::PROT_NONE)?;
        base
    };
    let at = base.as_ptr() as usize + page - 2 * size_of::<drm_msm_vm_bind_op>();
    // SAFETY: both are inside the accessible half, aligned to 8.
    unsafe {
        (at as *mut drm_msm_vm_bind_op).write(t.map());
        (at as *mut drm_msm_vm_bind_op).add(1).write(t.unmap());
    }
    t.refuses_request(
        |request| {
            request.u.ops = at as u64;
            request.nr_ops = 3;
        },
        Errno::EFAULT,
        "a third op on an inaccessible page",
    )
}

fn fences(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let null = std::fs::File::open("/dev/null")?;
    use std::os::fd::AsRawFd;
    for (what, fd) in [
        ("fd -1", -1),
        ("a closed fd", 900),
        ("a file that is no fence", null.as_raw_fd()),
    ] {
        t.refuses_request(
            |request| {
                request.flags |= abi::MSM_VM_BIND_FENCE_FD_IN;
                request.fence_fd = fd;
            },
            Errno::EINVAL,
            &format!("in-fence {what}"),
        )?;
    }
    Ok(())
}

fn syncobjs(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let (signaled, empty) = (
        Syncobj::new_signaled(&t.gpu.device)?,
        Syncobj::new(&t.gpu.device)?,
    );
    let bad = abi::drm_msm_syncobj {
        handle: 0x7777,
        ..Default::default()
    };
    let flagged = abi::drm_msm_syncobj {
        flags: 0x10,
        ..signaled.desc(0)
    };
    let reset = abi::drm_msm_syncobj {
        flags: abi::MSM_SYNCOBJ_RESET,
        ..signaled.desc(0)
    };
    let good = signaled.desc(0);
    for (what, list, errno) in [
        ("unknown handle", [good, bad], Errno::ENOENT),
        ("unknown flags", [good, flagged], Errno::EINVAL),
        ("no fence in it", [good, empty.desc(0)], Errno::EINVAL),
    ] {
        t.refuses_request(
            |request| {
                request.in_syncobjs = list.as_ptr() as u64;
                request.nr_in_syncobjs = 2;
            },
            errno,
            &format!("in-syncobj: {what}"),
        )?;
    }
    for (what, list, errno) in [
        ("unknown handle", [good, bad], Errno::EINVAL),
        ("RESET", [good, reset], Errno::EINVAL),
    ] {
        t.refuses_request(
            |request| {
                request.out_syncobjs = list.as_ptr() as u64;
                request.nr_out_syncobjs = 2;
            },
            errno,
            &format!("out-syncobj: {what}"),
        )?;
    }
    t.refuses_request(
        |request| {
            request.in_syncobjs = 8;
            request.nr_in_syncobjs = 1;
        },
        Errno::EFAULT,
        "in-syncobjs at 8",
    )?;
    t.refuses_request(
        |request| {
            request.out_syncobjs = 8;
            request.nr_out_syncobjs = 1;
        },
        Errno::EFAULT,
        "out-syncobjs at 8",
    )?;
    // RESET of a request that is refused must not have taken the fence out.
    let list = [reset];
    t.refuses_request(
        |request| {
            request.in_syncobjs = list.as_ptr() as u64;
            request.nr_in_syncobjs = 1;
            request.u.ops = 8;
        },
        Errno::EFAULT,
        "RESET in a request that fails",
    )?;
    ensure_eq!(
        signaled.is_signaled()?,
        true,
        "the syncobj of a request that failed"
    );
    // An out-syncobj of a request that is refused must not have got a fence.
    let list = [empty.desc(0)];
    t.refuses_request(
        |request| {
            request.out_syncobjs = list.as_ptr() as u64;
            request.nr_out_syncobjs = 1;
            request.u.ops = 8;
        },
        Errno::EFAULT,
        "out-syncobj of a request that fails",
    )?;
    ensure_errno!(
        empty.is_signaled(),
        Errno::EINVAL,
        "the out-syncobj of a request that failed"
    );
    Ok(())
}

/// Contexts of the wrong kind.
fn wrong_context(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let legacy = Device::open()?;
    let mut request = t.gpu.bind().op(t.map()).request();
    ensure_errno!(
        legacy.vm_bind_raw(&mut request),
        Errno::EINVAL,
        "VM_BIND without VM_BIND"
    );
    ensure_errno!(
        SubmitQueue::new_vm_bind(&legacy).map(drop),
        Errno::EINVAL,
        "a VM_BIND queue without VM_BIND"
    );
    ensure_errno!(
        SubmitQueue::with_flags(&t.gpu.device, abi::MSM_SUBMITQUEUE_VM_BIND, 1).map(drop),
        Errno::EINVAL,
        "a VM_BIND queue with a priority"
    );
    ensure_errno!(
        t.gpu.device.set_param(abi::MSM_PARAM_EN_VM_BIND, 0),
        Errno::EBUSY,
        "going back to a VM of the kernel's"
    );
    ensure_errno!(t.bo.iova(), Errno::EINVAL, "GET_IOVA");
    ensure_errno!(t.bo.set_iova(t.model.iova(0)), Errno::EINVAL, "SET_IOVA");
    ensure_errno!(
        Submit::new(&t.gpu.binds)
            .cmd_at(t.model.iova(4), 16)
            .send()
            .map(drop),
        Errno::EINVAL,
        "SUBMIT on a VM_BIND queue"
    );
    t.unchanged("after all")
}

/// The handle isn't known, alone and among others that are.
fn defect_01_unknown_handle(_: &mut Test) -> Outcome {
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
fn defect_02_bo_range_wraps(_: &mut Test) -> Outcome {
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

/// A BO table where VM_BIND decides what is resident: of a BO that is mapped, one that isn't, one that is mapped twice.
fn defect_04_bo_table(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let (once, never, twice) = (t.gpu.bo(3, PAGE)?, t.gpu.bo(4, PAGE)?, t.gpu.bo(5, PAGE)?);
    t.gpu.map(&once, t.gpu.iova(1 << 33))?;
    t.gpu.map(&twice, t.gpu.iova(2 << 33))?;
    t.gpu.map(&twice, t.gpu.iova(3 << 33))?;
    for (what, bo) in [
        ("mapped", &once),
        ("not mapped", &never),
        ("mapped twice", &twice),
    ] {
        ensure_errno!(
            t.gpu
                .start(&Pm4::new().nop(4), |s| s.bo(bo, abi::MSM_SUBMIT_BO_READ)),
            Errno::EINVAL,
            "SUBMIT with a BO in its table that is {what}"
        );
    }
    t.unchanged("after all")
}

fn defect_13_must_be_zero(_: &mut Test) -> Outcome {
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

fn defect_13_zero_length(_: &mut Test) -> Outcome {
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

/// Strides that can't hold an op, or that put one where it isn't aligned.
fn defect_13_op_stride(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for stride in [0, 1, 8, 39, 32, 41, 44, u32::MAX] {
        t.refuses_request(
            |request| request.op_stride = stride,
            Errno::EINVAL,
            &format!("op_stride {stride}"),
        )?;
    }
    Ok(())
}

/// A wider stride is honoured: what is between the ops isn't looked at.
fn defect_13_wide_op_stride(_: &mut Test) -> Outcome {
    let mut t = Target::new()?;
    #[repr(C)]
    struct Wide {
        op: drm_msm_vm_bind_op,
        later: [u64; 3],
    }
    let wide = |op| Wide { op, later: [!0; 3] };
    let ops = [
        wide(t.map()),
        wide(t.unmap()),
        wide(drm_msm_vm_bind_op {
            iova: t.model.iova(0),
            range: PAGE,
            ..t.map()
        }),
    ];
    let mut request = t.gpu.bind().request();
    request.nr_ops = 3;
    request.op_stride = size_of::<Wide>() as u32;
    request.u.ops = ops.as_ptr() as u64;
    t.gpu
        .device
        .vm_bind_raw(&mut request)
        .context("three ops, 64 bytes apart")?;
    t.still_usable("three ops, 64 bytes apart")?;
    t.model.map(1, 1, 6, 4);
    t.model.unmap(5, 4);
    t.model.map(1, 1, 0, 1);
    t.unchanged("after three ops, 64 bytes apart")
}

/// Random bytes in place of the ops: whatever is accepted, nothing breaks, and the rest of the VM is as it was.
fn defect_01_random_bytes(test: &mut Test) -> Outcome {
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

fn main() -> ExitCode {
    harness::main(harness::cases![
        what_would_do,
        op_code,
        op_flags,
        alignment,
        va_range,
        va_edges,
        bo_range,
        handles,
        request_flags_and_queue,
        pointers_and_counts,
        fences,
        syncobjs,
        wrong_context,
        defect_13_must_be_zero,
        defect_13_zero_length,
        defect_13_op_stride,
        defect_13_wide_op_stride,
        defect_02_bo_range_wraps,
        defect_04_bo_table,
        defect_01_unknown_handle,
        defect_01_bo_range_among_others,
        defect_01_random_bytes,
    ])
}
