// SPDX-License-Identifier: GPL-2.0-only

//! The fields of a request and of its commands.

use crate::{target::Target, BAD_ADDRESSES, RAN};
use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use nix::unistd::{geteuid, seteuid, Uid};
use programs::{Legacy, PATIENCE};
use std::{fs, os::fd::AsRawFd};
use uapi::{
    abi::{self, drm_msm_gem_submit_cmd, MSM_SUBMIT_BO_READ as READ, MSM_SUBMIT_BO_WRITE as WRITE},
    fault_injection, module, Errno, HeldFence, Pm4, Submit, PAGE,
};

/// The control for all the others: what they change one thing of is accepted, and does all that it
/// should.
pub(crate) fn what_would_do(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let submitted = t.submit(vec![t.cmd(), t.cmd()]).send().context("SUBMIT")?;
    submitted.wait(PATIENCE)?;
    ensure_eq!(submitted.fence.status()?, Some(Ok(())), "its fence");
    ensure_eq!(t.gpu.result(0), RAN, "its commands");
    t.gpu
        .queue
        .wait(submitted.seqno, PATIENCE)
        .context("WAIT_FENCE")?;
    ensure_errno!(
        t.ready.is_signaled(),
        Errno::EINVAL,
        "the syncobj that it resets"
    );
    ensure!(t.done.is_signaled()?, "its out-syncobj");
    ensure!(t.timeline.is_point_signaled(5)?, "its point");
    let next = t.gpu.start(&Pm4::new().nop(4), |s| s)?;
    ensure_eq!(
        next.seqno,
        submitted.seqno + 1,
        "the number of the next fence"
    );
    next.wait(PATIENCE)?;
    Ok(())
}

/// A request may be nothing but fences.
pub(crate) fn no_commands(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let held = HeldFence::new().context("held fence")?;
    let before = t.gpu.start(
        &Pm4::new().mem_write(t.gpu.result_iova(1), &[1]).barrier(),
        |s| s.after(held.file()),
    )?;
    let empty = t
        .submit(Vec::new())
        .send()
        .context("SUBMIT without commands")?;
    ensure!(
        !empty.fence.is_signaled()?,
        "before what is ahead of it in the queue"
    );
    held.signal().context("the fence was held")?;
    empty.wait(PATIENCE)?;
    ensure!(before.fence.is_signaled()?, "what was ahead of it");
    ensure!(t.done.is_signaled()?, "its out-syncobj");
    Ok(())
}

pub(crate) fn request_fields(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for bit in (0..4).chain(5..25) {
        t.refuses(Errno::EINVAL, &format!("flag {:#x}", 1u32 << bit), |r| {
            r.flags |= 1 << bit;
        })?;
    }
    t.refuses(Errno::EINVAL, "no pipe", |r| r.flags &= !abi::MSM_PIPE_3D0)?;
    t.refuses(Errno::EINVAL, "pad 1", |r| r.pad = 1)?;
    t.refuses(Errno::EINVAL, "pad -1", |r| r.pad = !0)?;
    t.refuses(Errno::ENOENT, "an unknown queue", |r| r.queueid = 999)?;
    t.refuses(Errno::EINVAL, "a VM_BIND queue", |r| {
        r.queueid = t.gpu.binds.id()
    })?;
    for address in BAD_ADDRESSES {
        t.refuses(Errno::EFAULT, &format!("commands at {address:#x}"), |r| {
            r.cmds = address
        })?;
    }
    t.refuses(Errno::ENOMEM, "4294967295 commands", |r| {
        r.nr_cmds = u32::MAX
    })?;
    let null = fs::File::open("/dev/null")?;
    for (what, fd) in [
        ("fd -1", -1),
        ("a closed fd", 900),
        ("a file that is no fence", null.as_raw_fd()),
    ] {
        t.refuses(Errno::EINVAL, &format!("in-fence {what}"), |r| {
            r.flags |= abi::MSM_SUBMIT_FENCE_FD_IN;
            r.fence_fd = fd;
        })?;
    }
    t.refuses(Errno::EINVAL, "fence number 0", |r| {
        r.flags |= abi::MSM_SUBMIT_FENCE_SN_IN;
    })
}

/// Whether the driver was built to accept SUDO: `scripts/module` does so for the debug kernel,
/// nobody else.
fn is_built_for_sudo() -> std::io::Result<bool> {
    Ok(fault_injection::available() && module::is_out_of_tree("msm")?)
}

/// SUDO is for a driver that was built for it, and for CAP_SYS_RAWIO. Since Adreno 6xx, commands
/// run as they would without.
pub(crate) fn sudo(_: &mut Test) -> Outcome {
    const CMDS: usize = 3;

    let t = Target::new()?;
    let refuses = |who: &str| {
        t.refuses(Errno::EINVAL, &format!("SUDO by {who}"), |r| {
            r.flags |= abi::MSM_SUBMIT_SUDO
        })
    };
    let root = geteuid();
    // Takes the capabilities away, too.
    seteuid(Uid::from_raw(65534))?;
    let refused = refuses("somebody without CAP_SYS_RAWIO");
    seteuid(root)?;
    refused?;
    if !is_built_for_sudo()? {
        return refuses("root");
    }

    // Each command stream copies what the one before has left.
    let mut cmds = vec![t.cmd()];
    for i in 0..CMDS - 1 {
        t.gpu.set_result(i + 1, 0);
        let commands = Pm4::new()
            .mem_to_mem(t.gpu.result_iova(i + 1), t.gpu.result_iova(i))
            .barrier();
        cmds.push(drm_msm_gem_submit_cmd {
            type_: abi::MSM_SUBMIT_CMD_BUF,
            iova: t.gpu.place(&commands),
            size: commands.size(),
            ..Default::default()
        });
    }
    let submitted = t
        .submit(cmds)
        .flags(abi::MSM_SUBMIT_SUDO)
        .send()
        .context("SUBMIT")?;
    submitted.wait(PATIENCE)?;
    ensure_eq!(submitted.fence.status()?, Some(Ok(())), "its fence");
    ensure!(t.done.is_signaled()?, "its out-syncobj");
    for i in 0..CMDS {
        ensure_eq!(t.gpu.result(i), RAN, "the result of its commands {i}");
    }

    let legacy = Legacy::new()?;
    let target = legacy.bo(1, PAGE)?;
    let commands = Pm4::new().mem_write(target.iova()?, &[RAN]).barrier();
    legacy.place(&commands)?;
    Submit::new(&legacy.queue)
        .bo(&legacy.cmds, READ)
        .bo(&target, WRITE)
        .cmd_in(0, 0, commands.size())
        .flags(abi::MSM_SUBMIT_SUDO)
        .send()
        .context("SUBMIT in a VM that the kernel manages")?
        .wait(PATIENCE)?;
    ensure_eq!(target.map()?.read(0), RAN, "what its commands wrote");
    Ok(())
}

pub(crate) fn command_fields(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for type_ in [0, 4, 0x1_0001, u32::MAX] {
        t.refuses_cmd(Errno::EINVAL, &format!("type {type_:#x}"), |c| {
            c.type_ = type_
        })?;
    }
    for off in 1..4 {
        t.refuses_cmd(Errno::EINVAL, &format!("size off by {off}"), |c| {
            c.size += off
        })?;
    }
    t.refuses_cmd(Errno::EINVAL, "a relocation", |c| c.nr_relocs = 1)?;
    t.refuses_cmd(Errno::EINVAL, "4294967295 relocations", |c| {
        c.nr_relocs = u32::MAX
    })?;
    t.refuses_cmd(Errno::EINVAL, "submit_idx", |c| c.submit_idx = 1)?;
    t.refuses_cmd(Errno::EINVAL, "submit_offset", |c| c.submit_offset = 4)
}

/// Addresses that no commands can be at.
pub(crate) fn defect_13_command_addresses(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let va = t.gpu.device.va_range()?;
    for off in 1..4 {
        t.refuses_cmd(Errno::EINVAL, &format!("address off by {off}"), |c| {
            c.iova += off
        })?;
    }
    for iova in [
        0,
        va.start - 4,
        va.end - 4,
        va.end,
        1 << 48,
        4u64.wrapping_neg(),
        64u64.wrapping_neg(),
    ] {
        t.refuses_cmd(Errno::EINVAL, &format!("commands at {iova:#x}"), |c| {
            c.iova = iova
        })?;
    }
    t.refuses_cmd(Errno::EINVAL, "commands that end outside the VM", |c| {
        c.iova = va.end - 0x1000;
        c.size = 0x1004;
    })
}
