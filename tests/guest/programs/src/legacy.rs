// SPDX-License-Identifier: GPL-2.0-only

//! A context whose VM the kernel manages.

use crate::{pattern, PATIENCE};
use harness::{Context, Outcome};
use uapi::{
    abi::MSM_SUBMIT_BO_READ as READ, Bo, Device, Pm4, Submit, SubmitQueue, Submitted, SyncFile,
    PAGE,
};

/// A context whose VM the kernel manages, with a queue and a place for commands.
#[derive(Debug)]
pub struct Legacy {
    /// The context.
    pub device: Device,
    /// For GPU work.
    pub queue: SubmitQueue,
    /// Where commands are.
    pub cmds: Bo,
}

impl Legacy {
    /// Opens a context.
    pub fn new() -> harness::Result<Self> {
        let device = Device::open().context("opening the GPU")?;
        let queue = SubmitQueue::new(&device, 0).context("submitqueue")?;
        let cmds = Bo::new(&device, 16 * PAGE).context("command BO")?;
        Ok(Self {
            device,
            queue,
            cmds,
        })
    }

    /// As [`Self::new`], with a VM: the kernel makes that with the first address it gives out.
    pub fn with_vm() -> harness::Result<Self> {
        let gpu = Self::new()?;
        gpu.cmds.iova().context("GET_IOVA")?;
        Ok(gpu)
    }

    /// A BO whose dwords are [`pattern`]s.
    pub fn bo(&self, tag: u32, size: u64) -> harness::Result<Bo> {
        let bo = Bo::new(&self.device, size).context("GEM_NEW")?;
        bo.fill(|i| pattern(tag, i))?;
        Ok(bo)
    }

    /// Writes commands to the start of their BO.
    pub fn place(&self, commands: &Pm4) -> harness::Result<()> {
        let map = self.cmds.map().context("mmap")?;
        for (i, dword) in commands.dwords().iter().enumerate() {
            map.write(i, *dword);
        }
        Ok(())
    }

    /// Queues commands that use `bos`, with their `MSM_SUBMIT_BO_*` flags.
    pub fn start(
        &self,
        commands: &Pm4,
        bos: &[(&Bo, u32)],
        after: Option<&SyncFile>,
    ) -> harness::Result<Submitted> {
        self.place(commands)?;
        let mut submit =
            Submit::new(&self.queue)
                .bo(&self.cmds, READ)
                .cmd_in(0, 0, commands.size());
        for (bo, flags) in bos {
            submit = submit.bo(bo, *flags);
        }
        if let Some(fence) = after {
            submit = submit.after(fence);
        }
        submit.send().context("SUBMIT")
    }

    /// Runs commands that use `bos`, and waits for them.
    pub fn run(&self, commands: &Pm4, bos: &[(&Bo, u32)]) -> Outcome {
        self.start(commands, bos, None)?
            .wait(PATIENCE)
            .context("waiting for the GPU")
    }
}
