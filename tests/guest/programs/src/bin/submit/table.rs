// SPDX-License-Identifier: GPL-2.0-only

//! The table of BOs, where the kernel manages the VM.

use crate::{open_files, BAD_ADDRESSES, RAN};
use harness::{bail, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{pattern, Census, Legacy, PATIENCE};
use std::time::Duration;
use uapi::{
    abi::{
        self, drm_msm_gem_submit, drm_msm_gem_submit_bo, drm_msm_gem_submit_cmd,
        MSM_SUBMIT_BO_READ as READ, MSM_SUBMIT_BO_WRITE as WRITE,
    },
    Bo, Errno, Pm4, Submit, PAGE,
};

/// A request of a context whose VM the kernel manages: two BOs, of which one is written.
pub(crate) struct TableTarget {
    pub(crate) gpu: Legacy,
    pub(crate) bo: Bo,
}

impl TableTarget {
    pub(crate) fn new() -> harness::Result<Self> {
        let gpu = Legacy::new()?;
        let bo = gpu.bo(1, PAGE)?;
        gpu.place(&Pm4::new().mem_write(bo.iova()?, &[RAN]).barrier())?;
        Ok(Self { gpu, bo })
    }

    pub(crate) fn submit(&self) -> Submit<'_> {
        let size = Pm4::new().mem_write(0, &[0]).barrier().size();
        Submit::new(&self.gpu.queue)
            .bo(&self.gpu.cmds, READ)
            .bo(&self.bo, READ | WRITE)
            .cmd_in(0, 0, size)
    }

    pub(crate) fn refuses(
        &self,
        errno: Errno,
        what: &str,
        change: impl FnOnce(&mut Submit<'_>),
    ) -> Outcome {
        let mut submit = self.submit();
        change(&mut submit);
        self.refuses_request(submit.request(), errno, what)
    }

    pub(crate) fn refuses_request(
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

/// The control for the others.
pub(crate) fn table_that_would_do(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    t.submit().send().context("SUBMIT")?.wait(PATIENCE)?;
    ensure_eq!(t.bo.map()?.read(0), RAN, "the commands");
    Ok(())
}

pub(crate) fn table_fields(_: &mut Test) -> Outcome {
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

pub(crate) fn commands_in_a_table(_: &mut Test) -> Outcome {
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
pub(crate) fn defect_13_offset_in_a_table(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    for offset in [1, 2, 3, 4097] {
        t.refuses(Errno::EINVAL, &format!("offset {offset}"), |s| {
            s.cmds[0].submit_offset = offset
        })?;
    }
    Ok(())
}

/// BOs that share the VM's reservation object and BOs that don't, read and written by one submit,
/// in any order.
pub(crate) fn defect_18_private_and_shared(_: &mut Test) -> Outcome {
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
pub(crate) fn table_that_cannot_be_placed(_: &mut Test) -> Outcome {
    let gpu = Legacy::with_vm()?;
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
pub(crate) fn random_bytes(test: &mut Test) -> Outcome {
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

/// A SUBMIT is the first thing that a context does: there is no VM yet.
pub(crate) fn defect_53_submit_before_anything(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    Submit::new(&gpu.queue)
        .bo(&gpu.cmds, READ)
        .send()
        .context("SUBMIT")?
        .wait(PATIENCE)?;
    Ok(())
}
