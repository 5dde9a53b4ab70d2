// SPDX-License-Identifier: GPL-2.0-only

//! What a request waits for, and who is told of its end.

use crate::{target::Target, BAD_ADDRESSES};
use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{Gpu, PATIENCE};
use std::time::Duration;
use uapi::{
    abi::{self, drm_msm_syncobj},
    Errno, HeldFence, Pm4, Submit, SubmitQueue, Syncobj,
};

pub(crate) fn syncobjs(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let (signaled, empty) = (
        Syncobj::new_signaled(&t.gpu.device)?,
        Syncobj::new(&t.gpu.device)?,
    );
    let good = signaled.desc(0);
    let bad = drm_msm_syncobj {
        handle: 0x7777,
        ..Default::default()
    };
    let flagged = drm_msm_syncobj {
        flags: 0x10,
        ..good
    };
    let reset = drm_msm_syncobj {
        flags: abi::MSM_SYNCOBJ_RESET,
        ..good
    };
    for (what, list, errno) in [
        ("an unknown handle", [reset, bad], Errno::ENOENT),
        ("unknown flags", [reset, flagged], Errno::EINVAL),
        ("no fence in it", [reset, empty.desc(0)], Errno::EINVAL),
        (
            "a point that nobody has promised",
            [reset, t.timeline.desc(9)],
            Errno::EINVAL,
        ),
    ] {
        t.refuses(errno, &format!("an in-syncobj: {what}"), |r| {
            r.in_syncobjs = list.as_ptr() as u64;
            r.nr_in_syncobjs = 2;
        })?;
        ensure!(signaled.is_signaled()?, "the other in-syncobj of {what}");
    }
    let to = empty.desc(0);
    for (what, list) in [
        ("an unknown handle", [to, bad]),
        (
            "an unknown handle with a point",
            [to, drm_msm_syncobj { point: 3, ..bad }],
        ),
        ("RESET", [to, reset]),
        ("unknown flags", [to, flagged]),
    ] {
        t.refuses(Errno::EINVAL, &format!("an out-syncobj: {what}"), |r| {
            r.out_syncobjs = list.as_ptr() as u64;
            r.nr_out_syncobjs = 2;
        })?;
        ensure_errno!(
            empty.is_signaled(),
            Errno::EINVAL,
            "the other out-syncobj of {what}"
        );
    }
    for address in &BAD_ADDRESSES {
        t.refuses(
            Errno::EFAULT,
            &format!("in-syncobjs at {address:#x}"),
            |r| {
                r.in_syncobjs = *address;
            },
        )?;
        t.refuses(
            Errno::EFAULT,
            &format!("out-syncobjs at {address:#x}"),
            |r| {
                r.out_syncobjs = *address;
            },
        )?;
    }
    t.refuses(Errno::ENOMEM, "4294967295 in-syncobjs", |r| {
        r.nr_in_syncobjs = u32::MAX
    })?;
    t.refuses(Errno::ENOMEM, "4294967295 out-syncobjs", |r| {
        r.nr_out_syncobjs = u32::MAX
    })?;
    // Fenced at last, though the same syncobj comes twice.
    let both = Submit::new(&t.gpu.queue)
        .after_syncobj_reset(&signaled)
        .after_syncobj(&signaled, 0)
        .signal(&empty, 0)
        .signal(&empty, 0)
        .send()
        .context("each syncobj twice")?;
    both.wait(PATIENCE)?;
    ensure_errno!(
        signaled.is_signaled(),
        Errno::EINVAL,
        "the syncobj that was reset"
    );
    ensure!(empty.is_signaled()?, "the syncobj that got the fence twice");
    Ok(())
}

/// What the request waits for, and who waits for it: a file, a syncobj and a point, in and out,
/// across contexts.
pub(crate) fn waits_and_tells(_: &mut Test) -> Outcome {
    let (a, b) = (Gpu::new()?, Gpu::new()?);
    let held = HeldFence::new().context("held fence")?;
    let (gate, binary, timeline) = (
        Syncobj::new(&a.device)?,
        Syncobj::new(&a.device)?,
        Syncobj::new(&a.device)?,
    );
    gate.import(held.file())?;
    a.set_result(0, 0);
    let count = Pm4::new().mem_write(a.result_iova(0), &[1]).barrier();
    let first = a
        .start(&count, |s| {
            s.after_syncobj_reset(&gate)
                .signal(&binary, 0)
                .signal(&timeline, 3)
        })
        .context("the first SUBMIT")?;
    ensure_errno!(
        gate.is_signaled(),
        Errno::EINVAL,
        "the syncobj that was reset"
    );
    // On a queue of another priority, so that only its fence keeps it back.
    let other = SubmitQueue::new(&a.device, 2)?;
    let read = Pm4::new()
        .mem_to_mem(a.result_iova(1), a.result_iova(0))
        .barrier();
    let second = Submit::new(&other)
        .cmd_at(a.place(&read), read.size())
        .after_syncobj(&timeline, 3)
        .signal(&timeline, 4)
        .send()
        .context("the second SUBMIT")?;
    // In another context, by file.
    b.set_result(0, 0);
    let third = b
        .start(
            &Pm4::new().mem_write(b.result_iova(0), &[1]).barrier(),
            |s| s.after(&second.fence),
        )
        .context("the third SUBMIT")?;
    std::thread::sleep(Duration::from_millis(50));
    ensure!(
        !binary.is_signaled()? && !timeline.is_point_signaled(3)?,
        "too early"
    );
    for (name, submitted) in [("first", &first), ("second", &second), ("third", &third)] {
        ensure!(
            !submitted.fence.is_signaled()?,
            "the {name} SUBMIT didn't wait"
        );
    }
    ensure_eq!(
        (a.result(0), b.result(0)),
        (0, 0),
        "commands before the fence"
    );
    held.signal().context("the fence was held")?;
    third.wait(PATIENCE).context("the third SUBMIT")?;
    ensure!(
        first.fence.is_signaled()? && second.fence.is_signaled()?,
        "out of order"
    );
    ensure!(
        binary.is_signaled()? && timeline.is_point_signaled(4)?,
        "syncobjs without fences"
    );
    ensure_eq!(
        (a.result(0), a.result(1), b.result(0)),
        (1, 1, 1),
        "commands"
    );
    Ok(())
}

/// Numbers of fences that userspace chooses.
pub(crate) fn fence_numbers(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    let queue = &t.gpu.queue;
    let held = HeldFence::new().context("held fence")?;
    let number = 0x1234_5678;
    let chosen = Submit::new(queue)
        .after(held.file())
        .fence_number(number)
        .send()
        .context("SUBMIT")?;
    ensure_eq!(chosen.seqno, number, "the number");
    ensure_errno!(
        queue.wait(number, Duration::from_millis(20)),
        Errno::ETIMEDOUT,
        "WAIT_FENCE"
    );
    t.refuses_while_busy(number)?;
    let another = Submit::new(queue)
        .fence_number(number + 7)
        .send()
        .context("another number")?;
    held.signal().context("the fence was held")?;
    queue.wait(number, PATIENCE).context("WAIT_FENCE")?;
    ensure!(chosen.fence.is_signaled()?, "WAIT_FENCE came back early");
    queue
        .wait(number + 7, PATIENCE)
        .context("WAIT_FENCE of another")?;
    another.wait(PATIENCE)?;
    Submit::new(queue)
        .fence_number(i32::MAX as u32)
        .send()
        .context("the largest number")?
        .wait(PATIENCE)?;
    Ok(())
}

impl Target {
    /// A number that is in use is refused.
    fn refuses_while_busy(&self, number: u32) -> Outcome {
        let submit = self.submit(vec![self.cmd()]).fence_number(number);
        let mut request = submit.request();
        let sent = request;
        ensure_errno!(
            self.gpu.device.submit_raw(&mut request),
            Errno::EINVAL,
            "a number that is in use"
        );
        ensure_eq!(request, sent, "the request");
        ensure!(self.ready.is_signaled()?, "the in-syncobj");
        ensure_errno!(self.done.is_signaled(), Errno::EINVAL, "the out-syncobj");
        Ok(())
    }
}

/// Numbers that are no positive `int`: the kernel has nowhere to keep them.
pub(crate) fn defect_21_fence_number_out_of_range(_: &mut Test) -> Outcome {
    let t = Target::new()?;
    for number in [1u32 << 31, u32::MAX - 4, u32::MAX] {
        t.refuses(Errno::EINVAL, &format!("fence number {number:#x}"), |r| {
            r.flags |= abi::MSM_SUBMIT_FENCE_SN_IN;
            r.fence = number;
        })?;
        // Nothing is known by that number.
        let _ = t.gpu.queue.wait(number, Duration::from_millis(1));
    }
    Ok(())
}
