// SPDX-License-Identifier: GPL-2.0-only

//! The fields of a request, what it points to, and who sends it.

use crate::target::Target;
use harness::{ensure_eq, ensure_errno, Context, Outcome, Test};
use std::mem::size_of;
use uapi::{
    abi::{self, drm_msm_vm_bind_op},
    Device, Errno, Pm4, Submit, SubmitQueue, Syncobj, PAGE,
};

pub(crate) fn request_flags_and_queue(_: &mut Test) -> Outcome {
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

pub(crate) fn pointers_and_counts(_: &mut Test) -> Outcome {
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
    // SAFETY: a fresh mapping, of which the second half is made inaccessible before anything points
    // into it.
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

pub(crate) fn fences(_: &mut Test) -> Outcome {
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

pub(crate) fn syncobjs(_: &mut Test) -> Outcome {
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
pub(crate) fn wrong_context(_: &mut Test) -> Outcome {
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

/// A BO table where VM_BIND decides what is resident: of a BO that is mapped, one that isn't, one
/// that is mapped twice.
pub(crate) fn defect_04_bo_table(_: &mut Test) -> Outcome {
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

/// Strides that can't hold an op, or that put one where it isn't aligned.
pub(crate) fn defect_13_op_stride(_: &mut Test) -> Outcome {
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
pub(crate) fn defect_13_wide_op_stride(_: &mut Test) -> Outcome {
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
