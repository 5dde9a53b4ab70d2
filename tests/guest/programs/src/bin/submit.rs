// SPDX-License-Identifier: GPL-2.0-only

//! SUBMIT: what it does, what it waits for and tells, and what it refuses; a request that is refused has changed nothing.

use harness::{bail, ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use nix::unistd::{geteuid, seteuid, Uid};
use programs::{pattern, Census, Gpu, Legacy, PATIENCE};
use std::{fs, io::Write, os::fd::AsRawFd, process::ExitCode, time::Duration};
use uapi::{
    abi::{
        self, drm_msm_gem_submit, drm_msm_gem_submit_bo, drm_msm_gem_submit_cmd,
        drm_msm_gem_submit_reloc, drm_msm_syncobj, MSM_SUBMIT_BO_READ as READ,
        MSM_SUBMIT_BO_WRITE as WRITE,
    },
    fault_injection, module,
    vadreno::Awake,
    vgem::Buffer,
    Bo, Errno, HeldFence, Pm4, Submit, SubmitQueue, Syncobj, PAGE,
};

/// What the commands of a request write, if they run.
const RAN: u32 = 0x600d_600d;

/// Addresses from which nothing can be read.
const BAD_ADDRESSES: [u64; 4] = [0, 8, 0xffff_0000_0000_0000, 0x7fff_ffff_f000];

fn open_files() -> harness::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// A request that would do in a `VM_BIND` context. It waits for a syncobj and resets it, and gives its fence to others.
struct Target {
    gpu: Gpu,
    /// Has a signalled fence, and loses it.
    ready: Syncobj,
    /// Has none, and gets one.
    done: Syncobj,
    timeline: Syncobj,
}

impl Target {
    fn new() -> harness::Result<Self> {
        let gpu = Gpu::new()?;
        Ok(Self {
            ready: Syncobj::new_signaled(&gpu.device)?,
            done: Syncobj::new(&gpu.device)?,
            timeline: Syncobj::new(&gpu.device)?,
            gpu,
        })
    }

    /// Commands that say that they ran.
    fn cmd(&self) -> drm_msm_gem_submit_cmd {
        let commands = Pm4::new()
            .mem_write(self.gpu.result_iova(0), &[RAN])
            .barrier();
        drm_msm_gem_submit_cmd {
            type_: abi::MSM_SUBMIT_CMD_BUF,
            iova: self.gpu.place(&commands),
            size: commands.size(),
            ..Default::default()
        }
    }

    fn submit(&self, cmds: Vec<drm_msm_gem_submit_cmd>) -> Submit<'_> {
        self.gpu.set_result(0, 0);
        let mut submit = Submit::new(&self.gpu.queue)
            .after_syncobj_reset(&self.ready)
            .signal(&self.done, 0)
            .signal(&self.timeline, 5);
        submit.cmds = cmds;
        submit
    }

    /// Sends a request that would do but for one change.
    fn refuses(
        &self,
        errno: Errno,
        what: &str,
        change: impl FnOnce(&mut drm_msm_gem_submit),
    ) -> Outcome {
        let submit = self.submit(vec![self.cmd()]);
        let mut request = submit.request();
        change(&mut request);
        self.refuses_request(request, errno, what)
    }

    fn refuses_request(
        &self,
        mut request: drm_msm_gem_submit,
        errno: Errno,
        what: &str,
    ) -> Outcome {
        let (sent, files) = (request, open_files()?);
        ensure_errno!(self.gpu.device.submit_raw(&mut request), errno, "{what}");
        ensure_eq!(request, sent, "the request after {what}");
        ensure_eq!(open_files()?, files, "open files after {what}");
        ensure!(self.ready.is_signaled()?, "the in-syncobj after {what}");
        ensure_errno!(
            self.done.is_signaled(),
            Errno::EINVAL,
            "the out-syncobj after {what}"
        );
        ensure_errno!(
            self.timeline.export().map(drop),
            Errno::EINVAL,
            "the timeline after {what}"
        );
        // What comes next on the queue runs, and nothing has before it.
        self.gpu
            .run(&Pm4::new().nop(4))
            .with_context(|| format!("a submit after {what}"))?;
        ensure_eq!(self.gpu.result(0), 0, "the commands of {what}");
        Ok(())
    }

    /// Sends commands that would do but for one change: alone, before and after others.
    fn refuses_cmd(
        &self,
        errno: Errno,
        what: &str,
        change: impl FnOnce(&mut drm_msm_gem_submit_cmd),
    ) -> Outcome {
        let good = self.cmd();
        let mut bad = good;
        change(&mut bad);
        for (place, cmds) in [
            ("alone", vec![bad]),
            ("first", vec![bad, good, good]),
            ("last", vec![good, good, bad]),
        ] {
            let submit = self.submit(cmds);
            self.refuses_request(submit.request(), errno, &format!("{what}, {place}"))?;
        }
        Ok(())
    }
}

/// The control for all the others: what they change one thing of is accepted, and does all that it should.
fn what_would_do(_: &mut Test) -> Outcome {
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
fn no_commands(_: &mut Test) -> Outcome {
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

fn request_fields(_: &mut Test) -> Outcome {
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

/// Whether the driver was built to accept SUDO: `scripts/module` does so for the debug kernel, nobody else.
fn is_built_for_sudo() -> std::io::Result<bool> {
    Ok(fault_injection::available() && module::is_out_of_tree("msm")?)
}

/// SUDO is for a driver that was built for it, and for CAP_SYS_RAWIO. Since Adreno 6xx, commands run as they would without.
fn sudo(_: &mut Test) -> Outcome {
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

fn command_fields(_: &mut Test) -> Outcome {
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
fn defect_13_command_addresses(_: &mut Test) -> Outcome {
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

fn syncobjs(_: &mut Test) -> Outcome {
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

/// What the request waits for, and who waits for it: a file, a syncobj and a point, in and out, across contexts.
fn waits_and_tells(_: &mut Test) -> Outcome {
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
fn fence_numbers(_: &mut Test) -> Outcome {
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
fn defect_21_fence_number_out_of_range(_: &mut Test) -> Outcome {
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

/// Commands that others call, and commands for when another context was active.
fn kinds_of_commands(_: &mut Test) -> Outcome {
    // A GPU that has slept has no context: the next one is a switch.
    let _awake = Awake::new().context("power/control")?;
    let gpu = Gpu::new()?;
    let other = Gpu::new()?;
    let add = |index| {
        Pm4::new()
            .mem_write(gpu.result_iova(index), &[RAN])
            .barrier()
    };
    let (target, restore) = (add(1), add(2));
    let target_at = gpu.place(&target);
    let call = Pm4::new()
        .indirect_buffer(target_at, target.size() / 4)
        .barrier();
    let kind = |type_, iova, size| drm_msm_gem_submit_cmd {
        type_,
        iova,
        size,
        ..Default::default()
    };
    let run = |calls: bool| -> harness::Result<[u32; 2]> {
        gpu.set_result(1, 0);
        gpu.set_result(2, 0);
        let mut submit = Submit::new(&gpu.queue);
        submit.cmds.push(kind(
            abi::MSM_SUBMIT_CMD_IB_TARGET_BUF,
            target_at,
            target.size(),
        ));
        submit.cmds.push(kind(
            abi::MSM_SUBMIT_CMD_CTX_RESTORE_BUF,
            gpu.place(&restore),
            restore.size(),
        ));
        if calls {
            submit
                .cmds
                .push(kind(abi::MSM_SUBMIT_CMD_BUF, gpu.place(&call), call.size()));
        }
        submit.send().context("SUBMIT")?.wait(PATIENCE)?;
        Ok([gpu.result(1), gpu.result(2)])
    };
    gpu.run(&Pm4::new().nop(1))?;
    ensure_eq!(run(false)?, [0, 0], "not called, and no switch");
    ensure_eq!(run(true)?, [RAN, 0], "called, and no switch");
    other.run(&Pm4::new().nop(1))?;
    ensure_eq!(run(true)?, [RAN, RAN], "called, and a switch");
    Ok(())
}

/// Queues of one priority share what runs them: each thread's submits run in order, and each fence is its own submit's.
fn from_many_threads(_: &mut Test) -> Outcome {
    const ROUNDS: u32 = 40;
    let gpu = Gpu::new()?;
    let queues = [
        SubmitQueue::new(&gpu.device, 0)?,
        SubmitQueue::new(&gpu.device, 0)?,
        SubmitQueue::new(&gpu.device, 2)?,
    ];
    // Each thread's commands, placed before the threads start.
    let work: Vec<Vec<(u64, u32)>> = (0..queues.len())
        .map(|thread| {
            (1..=ROUNDS)
                .map(|round| {
                    let commands = Pm4::new()
                        .mem_write(gpu.result_iova(thread), &[round])
                        .barrier();
                    (gpu.place(&commands), commands.size())
                })
                .collect()
        })
        .collect();
    (0..queues.len()).for_each(|thread| gpu.set_result(thread, 0));
    let last: Vec<harness::Result<uapi::Submitted>> = std::thread::scope(|scope| {
        let threads: Vec<_> = queues
            .iter()
            .zip(&work)
            .map(|(queue, work)| {
                scope.spawn(move || -> harness::Result<uapi::Submitted> {
                    let mut last = None;
                    for (iova, size) in work {
                        last = Some(
                            Submit::new(queue)
                                .cmd_at(*iova, *size)
                                .send()
                                .context("SUBMIT")?,
                        );
                    }
                    last.context("no rounds")
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
            .collect()
    });
    for (thread, submitted) in last.into_iter().enumerate() {
        submitted?.wait(PATIENCE)?;
        ensure_eq!(
            gpu.result(thread),
            ROUNDS,
            "the last submit of thread {thread}"
        );
    }
    Ok(())
}

/// Whoever sees the fence may unmap and free at once.
fn unmap_when_the_fence_signals(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    for round in 0..100 {
        let bo = gpu.bo(1, 4 * PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        let done = Syncobj::new(&gpu.device)?;
        gpu.start(
            &Pm4::new().mem_write(gpu.iova(PAGE), &[round]).barrier(),
            |s| s.signal(&done, 0),
        )?;
        done.wait(PATIENCE)?;
        let unmapped = gpu
            .bind()
            .unmap(gpu.iova(0), 4 * PAGE)
            .send()
            .context("UNMAP")?;
        ensure_eq!(bo.map()?.read(1024), round, "what the GPU wrote");
        drop(bo);
        unmapped.wait(PATIENCE)?;
    }
    before.restored()
}

/// The tracepoints that profilers read.
fn tracepoint(_: &mut Test) -> Outcome {
    let root = "/sys/kernel/tracing";
    if !fs::exists(format!("{root}/trace"))? {
        use nix::mount::{mount, MsFlags};
        mount(
            Some("tracefs"),
            root,
            Some("tracefs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("tracefs")?;
    }
    let enable = |name: &str, value: &str| -> Outcome {
        fs::write(format!("{root}/events/drm_msm_gpu/{name}/enable"), value).context("tracepoint")
    };
    let gpu = Gpu::new()?;
    fs::File::create(format!("{root}/trace"))?.flush()?;
    enable("msm_gpu_submit", "1")?;
    enable("msm_gpu_submit_retired", "1")?;
    let nop = Pm4::new().nop(4);
    let result = gpu
        .start(&nop, |s| s.cmd_at(gpu.place(&nop), nop.size()))
        .context("SUBMIT")
        .and_then(|submitted| submitted.wait(PATIENCE).context("the GPU"));
    let found = result.and_then(|()| {
        let wanted = format!("pid={} ring=", std::process::id());
        programs::eventually("the tracepoints", || {
            let trace = fs::read_to_string(format!("{root}/trace"))?;
            let submit = trace
                .lines()
                .find(|line| line.contains("msm_gpu_submit:"))
                .unwrap_or_default();
            ensure!(
                submit.contains("bos=0 cmds=2") && submit.contains(&wanted),
                "the tracepoint says: {submit}"
            );
            Ok(trace.contains("msm_gpu_submit_retired:"))
        })
    });
    enable("msm_gpu_submit", "0")?;
    enable("msm_gpu_submit_retired", "0")?;
    found
}

/// A request of a context whose VM the kernel manages: two BOs, of which one is written.
struct TableTarget {
    gpu: Legacy,
    bo: Bo,
}

impl TableTarget {
    fn new() -> harness::Result<Self> {
        let gpu = Legacy::new()?;
        let bo = gpu.bo(1, PAGE)?;
        gpu.place(&Pm4::new().mem_write(bo.iova()?, &[RAN]).barrier())?;
        Ok(Self { gpu, bo })
    }

    fn submit(&self) -> Submit<'_> {
        let size = Pm4::new().mem_write(0, &[0]).barrier().size();
        Submit::new(&self.gpu.queue)
            .bo(&self.gpu.cmds, READ)
            .bo(&self.bo, READ | WRITE)
            .cmd_in(0, 0, size)
    }

    fn refuses(&self, errno: Errno, what: &str, change: impl FnOnce(&mut Submit<'_>)) -> Outcome {
        let mut submit = self.submit();
        change(&mut submit);
        self.refuses_request(submit.request(), errno, what)
    }

    fn refuses_request(
        &self,
        mut request: drm_msm_gem_submit,
        errno: Errno,
        what: &str,
    ) -> Outcome {
        let (sent, files) = (request, open_files()?);
        ensure_errno!(self.gpu.device.submit_raw(&mut request), errno, "{what}");
        ensure_eq!(request, sent, "the request after {what}");
        ensure_eq!(open_files()?, files, "open files after {what}");
        Submit::new(&self.gpu.queue)
            .send()
            .and_then(|empty| empty.wait(PATIENCE))
            .with_context(|| format!("a submit after {what}"))?;
        ensure_eq!(
            self.bo.map()?.read(0),
            pattern(1, 0),
            "the commands of {what}"
        );
        // No fence was left on the BO.
        self.bo
            .cpu_prep(abi::MSM_PREP_WRITE | abi::MSM_PREP_NOSYNC, Duration::ZERO)
            .with_context(|| format!("the BO after {what}"))
    }
}

impl TableTarget {
    /// Sends a request whose commands have those relocations: they aren't written.
    fn refuses_relocs(
        &self,
        errno: Errno,
        what: &str,
        relocs: &[drm_msm_gem_submit_reloc],
    ) -> Outcome {
        let read = || -> harness::Result<Vec<u32>> {
            let map = self.gpu.cmds.map()?;
            Ok((0..map.len()).map(|i| map.read(i)).collect())
        };
        let commands = read()?;
        self.refuses(errno, what, |s| {
            s.cmds[0].nr_relocs = relocs.len() as u32;
            s.cmds[0].iova = relocs.as_ptr() as u64;
        })?;
        ensure!(read()? == commands, "the commands' BO after {what}");
        Ok(())
    }
}

/// The control for the others.
fn table_that_would_do(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    t.submit().send().context("SUBMIT")?.wait(PATIENCE)?;
    ensure_eq!(t.bo.map()?.read(0), RAN, "the commands");
    Ok(())
}

fn table_fields(_: &mut Test) -> Outcome {
    let before = Census::new()?;
    {
        let t = TableTarget::new()?;
        let closed = {
            let bo = t.gpu.bo(3, PAGE)?;
            bo.handle()
        };
        for handle in [0, closed, 0x4141_4141, u32::MAX] {
            for index in 0..2 {
                t.refuses(
                    Errno::EINVAL,
                    &format!("handle {handle:#x} at {index}"),
                    |s| {
                        s.bos[index].handle = handle;
                    },
                )?;
            }
        }
        for flags in (4..32).map(|bit| READ | (1 << bit)).chain([
            0,
            abi::MSM_SUBMIT_BO_DUMP,
            abi::MSM_SUBMIT_BO_NO_IMPLICIT,
        ]) {
            for index in 0..2 {
                t.refuses(
                    Errno::EINVAL,
                    &format!("BO flags {flags:#x} at {index}"),
                    |s| {
                        s.bos[index].flags = flags;
                    },
                )?;
            }
        }
        t.refuses(Errno::EALREADY, "a BO that is listed twice", |s| {
            let bo = s.bos[1];
            s.bos.push(bo);
        })?;
        t.refuses(Errno::EALREADY, "a BO twice in a row", |s| {
            s.bos[1] = s.bos[0]
        })?;
        for address in BAD_ADDRESSES {
            let submit = t.submit();
            let request = drm_msm_gem_submit {
                bos: address,
                ..submit.request()
            };
            t.refuses_request(
                request,
                Errno::EFAULT,
                &format!("a BO table at {address:#x}"),
            )?;
        }
        for nr_bos in [1 << 24, u32::MAX] {
            let submit = t.submit();
            let request = drm_msm_gem_submit {
                nr_bos,
                ..submit.request()
            };
            t.refuses_request(request, Errno::ENOMEM, &format!("{nr_bos} BOs"))?;
        }
    }
    before.restored()
}

fn commands_in_a_table(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    let end = t.gpu.cmds.size() as u32;
    for (what, index, offset, size) in [
        ("an index outside the table", 2, 0, 16),
        ("the largest index", u32::MAX, 0, 16),
        ("no size", 0, 0, 0),
        ("a size off by one", 0, 0, 17),
        ("more than the BO", 0, 0, end + 4),
        ("an end behind the BO", 0, end - 4, 8),
        ("a start behind the BO", 0, end, 4),
        ("a far start", 0, 0xffff_fff0, 4),
        ("an end that wraps", 0, 0xffff_fffc, 8),
        ("a size that wraps", 0, 4, 0xffff_fffc),
    ] {
        t.refuses(Errno::EINVAL, what, |s| {
            s.cmds[0].submit_idx = index;
            s.cmds[0].submit_offset = offset;
            s.cmds[0].size = size;
        })?;
        t.refuses(Errno::EINVAL, &format!("{what}, behind others"), |s| {
            let mut cmd = s.cmds[0];
            cmd.submit_idx = index;
            cmd.submit_offset = offset;
            cmd.size = size;
            s.cmds.push(cmd);
        })?;
    }
    Ok(())
}

/// Commands that don't begin at a dword.
fn defect_13_offset_in_a_table(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    for offset in [1, 2, 3, 4097] {
        t.refuses(Errno::EINVAL, &format!("offset {offset}"), |s| {
            s.cmds[0].submit_offset = offset
        })?;
    }
    Ok(())
}

/// Only GPUs up to Adreno 5xx have userspace that needs them.
fn relocations_are_refused(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    t.refuses_relocs(Errno::EINVAL, "a relocation", &[reloc(0, 1)])
}

/// A relocation of the dword at `at` (in dwords) in the commands' BO: it gets the low half of the address of the table's BO `index`.
fn reloc(at: u32, index: u32) -> drm_msm_gem_submit_reloc {
    drm_msm_gem_submit_reloc {
        submit_offset: 4 * at,
        reloc_idx: index,
        ..Default::default()
    }
}

/// … the high half.
fn high(at: u32, index: u32) -> drm_msm_gem_submit_reloc {
    drm_msm_gem_submit_reloc {
        shift: -32,
        ..reloc(at, index)
    }
}

fn with_offset(reloc: drm_msm_gem_submit_reloc, reloc_offset: u64) -> drm_msm_gem_submit_reloc {
    drm_msm_gem_submit_reloc {
        reloc_offset,
        ..reloc
    }
}

/// Commands get the addresses of the BOs that they are about, wherever these are.
fn relocations(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bos = [gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?];
    // An address with a high half.
    bos[1].set_iova(gpu.device.va_range()?.start + (5 << 32))?;
    let _allowed = module::Relocations::allow().context("the glue module")?;
    // Addresses are the dwords 1 and 2 of each packet.
    let first = Pm4::new().mem_write(0, &[RAN]);
    let second = Pm4::new().mem_write(0, &[RAN + 1]).barrier();
    let (at, size) = (first.dwords().len() as u32, first.size());
    for round in 0..3u64 {
        let map = gpu.cmds.map()?;
        for (i, dword) in [first.dwords(), second.dwords()]
            .concat()
            .iter()
            .enumerate()
        {
            map.write(i, *dword);
        }
        let offset = 16 + 64 * round;
        let relocs = [
            // Of the same command stream, in order.
            [
                with_offset(reloc(1, 1), offset),
                with_offset(high(2, 1), offset),
            ],
            [
                with_offset(reloc(at + 1, 2), offset),
                with_offset(high(at + 2, 2), offset),
            ],
        ];
        let mut submit = Submit::new(&gpu.queue)
            .bo(&gpu.cmds, READ)
            .bo(&bos[0], WRITE)
            .bo(&bos[1], WRITE)
            .cmd_in(0, 0, size)
            .cmd_in(0, size, second.size());
        for (cmd, relocs) in submit.cmds.iter_mut().zip(&relocs) {
            cmd.nr_relocs = relocs.len() as u32;
            cmd.iova = relocs.as_ptr() as u64;
        }
        submit.send().context("SUBMIT")?.wait(PATIENCE)?;
        for (n, (bo, at)) in bos.iter().zip([1, at as usize + 1]).enumerate() {
            let iova = bo.iova()? + offset;
            ensure_eq!(
                (map.read(at), map.read(at + 1)),
                (iova as u32, (iova >> 32) as u32),
                "the address in stream {n}"
            );
            ensure_eq!(
                bo.map()?.read(offset as usize / 4),
                RAN + n as u32,
                "what stream {n} wrote"
            );
        }
    }
    Ok(())
}

/// Shifted in both directions, with bits added; the same dword twice; dwords that aren't the commands' own; many.
fn relocated_values(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    let _allowed = module::Relocations::allow().context("the glue module")?;
    let iova = t.bo.iova()?;
    let shifted = |at, shift, or| drm_msm_gem_submit_reloc {
        shift,
        or,
        ..with_offset(reloc(at, 1), 0x123)
    };
    let last = (t.gpu.cmds.size() / 4) as u32 - 1;
    let mut relocs = vec![
        shifted(100, 0, 0),
        shifted(101, -8, 0x8000_0000),
        shifted(102, 4, 3),
        shifted(103, -63, 0x55),
        shifted(104, 31, 0x66),
        shifted(105, 0, 0),
        // The last one counts.
        shifted(105, -12, 0),
    ];
    relocs.extend((0..5000).map(|n| with_offset(reloc(1000 + n, 1), n.into())));
    relocs.push(reloc(last, 0));
    let mut submit = t.submit();
    submit.cmds[0].nr_relocs = relocs.len() as u32;
    submit.cmds[0].iova = relocs.as_ptr() as u64;
    submit.send().context("SUBMIT")?.wait(PATIENCE)?;
    ensure_eq!(t.bo.map()?.read(0), RAN, "the commands");
    let map = t.gpu.cmds.map()?;
    let address = iova + 0x123;
    for (at, value) in [
        (100, address as u32),
        (101, (address >> 8) as u32 | 0x8000_0000),
        (102, (address << 4) as u32 | 3),
        (103, 0x55),
        (104, (address << 31) as u32 | 0x66),
        (105, (address >> 12) as u32),
        (106, 0),
        (last as usize, t.gpu.cmds.iova()? as u32),
    ] {
        ensure_eq!(map.read(at), value, "dword {at}");
    }
    for n in 0..5000 {
        ensure_eq!(
            map.read(1000 + n),
            iova as u32 + n as u32,
            "the {n}th of many"
        );
    }
    Ok(())
}

/// What can't be written is refused, and nothing has been.
fn relocation_fields(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    let _allowed = module::Relocations::allow().context("the glue module")?;
    let end = (t.gpu.cmds.size() / 4) as u32;
    let bytes = |submit_offset| drm_msm_gem_submit_reloc {
        submit_offset,
        ..reloc(0, 1)
    };
    for (what, bad) in [
        ("behind the BO", vec![reloc(end, 1)]),
        ("far behind the BO", vec![bytes(0xffff_fffc)]),
        ("offset 1", vec![bytes(1)]),
        ("offset 2", vec![bytes(2)]),
        ("offset -1", vec![bytes(!0)]),
        ("no such BO", vec![reloc(0, 2)]),
        ("BO 4294967295", vec![reloc(0, u32::MAX)]),
    ] {
        t.refuses_relocs(Errno::EINVAL, what, &bad)?;
        // C writes what comes before a bad one.
        if module::is_out_of_tree("msm")? {
            let after = [vec![reloc(0, 1)], bad].concat();
            t.refuses_relocs(Errno::EINVAL, &format!("{what}, after a good one"), &after)?;
        }
    }
    if module::is_out_of_tree("msm")? {
        t.refuses_relocs(
            Errno::EINVAL,
            "one before the one before",
            &[reloc(9, 1), reloc(8, 1)],
        )?;
        // C shifts by any number of bits.
        for shift in [64, -64, i32::MAX, i32::MIN] {
            let bad = drm_msm_gem_submit_reloc {
                shift,
                ..reloc(0, 1)
            };
            t.refuses_relocs(Errno::EINVAL, &format!("shift {shift}"), &[bad])?;
        }
    }
    for address in BAD_ADDRESSES {
        t.refuses(
            Errno::EFAULT,
            &format!("relocations at {address:#x}"),
            |s| {
                s.cmds[0].nr_relocs = 1;
                s.cmds[0].iova = address;
            },
        )?;
    }
    let one = reloc(0, 1);
    t.refuses(Errno::ENOMEM, "4294967295 relocations", |s| {
        s.cmds[0].nr_relocs = u32::MAX;
        s.cmds[0].iova = &raw const one as u64;
    })?;
    ensure_eq!(
        t.gpu.cmds.map()?.read(0),
        Pm4::new().mem_write(0, &[0]).dwords()[0],
        "the commands"
    );
    // Nothing has kept it mapped, or pinned.
    programs::check_unpinned(&t.gpu.cmds)
}

/// Somebody else's buffer can't be written to by the kernel.
fn relocations_in_a_foreign_buffer(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let _allowed = module::Relocations::allow().context("the glue module")?;
    let buffer = Buffer::new(PAGE).context("vgem")?;
    buffer.fill(PAGE, |i| pattern(3, i))?;
    let foreign = Bo::import(&gpu.device, buffer.dma_buf_fd(), PAGE).context("import")?;
    let one = reloc(0, 0);
    let mut submit = Submit::new(&gpu.queue).bo(&foreign, READ).cmd_in(0, 0, 16);
    submit.cmds[0].nr_relocs = 1;
    submit.cmds[0].iova = &raw const one as u64;
    ensure_errno!(
        submit.send().map(drop),
        Errno::ENODEV,
        "relocations in a foreign buffer"
    );
    ensure_eq!(foreign.map()?.read(0), pattern(3, 0), "its content");
    Ok(())
}

/// BOs that share the VM's reservation object and BOs that don't, read and written by one submit, in any order.
fn defect_18_private_and_shared(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let private = || -> harness::Result<Bo> {
        let bo = Bo::with_flags(&gpu.device, PAGE, abi::MSM_BO_WC | abi::MSM_BO_NO_SHARE)?;
        bo.fill(|i| pattern(7, i))?;
        Ok(bo)
    };
    let bos = [
        private()?,
        gpu.bo(7, PAGE)?,
        private()?,
        gpu.bo(7, PAGE)?,
        private()?,
    ];
    for round in 0..8u32 {
        let mut commands = Pm4::new();
        let mut table = Vec::new();
        for (i, bo) in bos.iter().enumerate() {
            let writes = (round >> (i % 3)) & 1 == 0;
            if writes {
                commands = commands.mem_write(bo.iova()?, &[round * 8 + i as u32]);
            }
            table.push((bo, if writes { WRITE } else { READ }));
        }
        gpu.run(&commands.barrier(), &table)?;
        for (i, (bo, flags)) in table.iter().enumerate() {
            if flags & WRITE != 0 {
                ensure_eq!(
                    bo.map()?.read(0),
                    round * 8 + i as u32,
                    "BO {i} in round {round}"
                );
            }
        }
    }
    Ok(())
}

/// A BO that can't be placed is refused, and those before it in the table are free again.
fn table_that_cannot_be_placed(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let before = Census::now()?;
    {
        let (a, b) = (gpu.bo(1, 4 * PAGE)?, gpu.bo(2, 4 * PAGE)?);
        b.madvise(abi::MSM_MADV_DONTNEED)?;
        ensure_errno!(
            Submit::new(&gpu.queue)
                .bo(&a, READ)
                .bo(&gpu.cmds, READ)
                .bo(&b, READ)
                .cmd_in(1, 0, 16)
                .send()
                .map(drop),
            Errno::EBUSY,
            "a BO that isn't needed"
        );
        a.cpu_prep(abi::MSM_PREP_WRITE | abi::MSM_PREP_NOSYNC, Duration::ZERO)
            .context("the first BO has a fence")?;
        programs::check_unpinned(&a)?;
    }
    before.restored()
}

/// Random bytes in place of table and commands: whatever is accepted, nothing breaks.
fn random_bytes(test: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    for _ in 0..2000 {
        let rng = &mut test.rng;
        let mut pick = |sane: u32| match rng.u8(..8) {
            0 => rng.u32(..),
            1 => 0,
            2 => sane.wrapping_neg(),
            3 => sane.wrapping_add(1),
            _ => sane,
        };
        let mut submit = t.submit();
        for bo in &mut submit.bos {
            *bo = drm_msm_gem_submit_bo {
                flags: pick(READ),
                handle: pick(bo.handle),
                presumed: pick(0).into(),
            };
        }
        for cmd in &mut submit.cmds {
            *cmd = drm_msm_gem_submit_cmd {
                // Called by nobody: whatever it is, it isn't executed.
                type_: match pick(abi::MSM_SUBMIT_CMD_IB_TARGET_BUF) {
                    abi::MSM_SUBMIT_CMD_BUF | abi::MSM_SUBMIT_CMD_CTX_RESTORE_BUF => 0,
                    kind => kind,
                },
                submit_idx: pick(0),
                submit_offset: pick(64),
                size: pick(64),
                pad: pick(0),
                nr_relocs: pick(0) & 3,
                iova: 0,
            };
        }
        match submit.send() {
            Ok(_) | Err(Errno::EINVAL | Errno::EALREADY | Errno::ENOMEM | Errno::EFAULT) => {}
            Err(e) => bail!("{:x?} {:x?}: {e}", submit.bos, submit.cmds),
        }
    }
    t.submit()
        .send()
        .context("SUBMIT after all")?
        .wait(PATIENCE)?;
    ensure_eq!(t.bo.map()?.read(0), RAN, "the commands after all");
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        what_would_do,
        no_commands,
        request_fields,
        sudo,
        command_fields,
        syncobjs,
        waits_and_tells,
        fence_numbers,
        kinds_of_commands,
        from_many_threads,
        unmap_when_the_fence_signals,
        tracepoint,
        table_that_would_do,
        table_fields,
        commands_in_a_table,
        relocations_are_refused,
        relocations,
        relocated_values,
        relocation_fields,
        relocations_in_a_foreign_buffer,
        table_that_cannot_be_placed,
        random_bytes,
        defect_13_command_addresses,
        defect_13_offset_in_a_table,
        defect_18_private_and_shared,
        defect_21_fence_number_out_of_range,
    ])
}
