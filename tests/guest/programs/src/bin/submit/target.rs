// SPDX-License-Identifier: GPL-2.0-only

//! A request that would do in a `VM_BIND` context, and what it leaves when it is refused.

use crate::{open_files, RAN};
use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome};
use programs::Gpu;
use uapi::{
    abi::{self, drm_msm_gem_submit, drm_msm_gem_submit_cmd},
    Errno, Pm4, Submit, Syncobj,
};

/// A request that would do in a `VM_BIND` context. It waits for a syncobj and resets it, and gives
/// its fence to others.
pub(crate) struct Target {
    pub(crate) gpu: Gpu,
    /// Has a signalled fence, and loses it.
    pub(crate) ready: Syncobj,
    /// Has none, and gets one.
    pub(crate) done: Syncobj,
    pub(crate) timeline: Syncobj,
}

impl Target {
    pub(crate) fn new() -> harness::Result<Self> {
        let gpu = Gpu::new()?;
        Ok(Self {
            ready: Syncobj::new_signaled(&gpu.device)?,
            done: Syncobj::new(&gpu.device)?,
            timeline: Syncobj::new(&gpu.device)?,
            gpu,
        })
    }

    /// Commands that say that they ran.
    pub(crate) fn cmd(&self) -> drm_msm_gem_submit_cmd {
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

    pub(crate) fn submit(&self, cmds: Vec<drm_msm_gem_submit_cmd>) -> Submit<'_> {
        self.gpu.set_result(0, 0);
        let mut submit = Submit::new(&self.gpu.queue)
            .after_syncobj_reset(&self.ready)
            .signal(&self.done, 0)
            .signal(&self.timeline, 5);
        submit.cmds = cmds;
        submit
    }

    /// Sends a request that would do but for one change.
    pub(crate) fn refuses(
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
    pub(crate) fn refuses_cmd(
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
