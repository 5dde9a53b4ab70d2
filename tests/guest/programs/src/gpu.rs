// SPDX-License-Identifier: GPL-2.0-only

//! A `VM_BIND` context that is ready to work.

use crate::PATIENCE;
use harness::{ensure, Context};
use std::cell::Cell;
use uapi::{abi, Bo, Device, Errno, Mapping, Pm4, Submit, SubmitQueue, Submitted, VmBind};

const CMDS_SIZE: u64 = 1 << 20;
const RESULTS_SIZE: u64 = 64 << 10;
/// What a result is before the GPU writes it.
const UNTOUCHED: u32 = 0xdead_0bad;

/// A dword that tells which BO (`tag`, below 2048) and which dword of it it comes from. Never 0.
pub fn pattern(tag: u32, index: usize) -> u32 {
    0x8000_0000 | ((tag & 0x7ff) << 20) | (index as u32 & 0xf_ffff)
}

/// A `VM_BIND` context with a queue for each kind of work, a place for commands and one for
/// results.
///
/// The first GiB of the VM is its own; tests map from [`iova`](Self::iova) on.
#[derive(Debug)]
pub struct Gpu {
    /// The context.
    pub device: Device,
    /// For GPU work.
    pub queue: SubmitQueue,
    /// For binds.
    pub binds: SubmitQueue,
    base: u64,
    cmds: Mapping,
    results: Mapping,
    next: Cell<u64>,
    faults_before: u64,
    bos: [Bo; 2],
}

impl Gpu {
    /// Opens a context.
    pub fn new() -> harness::Result<Self> {
        let device = Device::open_vm_bind().context("opening the GPU for VM_BIND")?;
        let binds = SubmitQueue::new_vm_bind(&device).context("VM_BIND queue")?;
        let queue = SubmitQueue::new(&device, 0).context("submitqueue")?;
        let base = device.va_range().context("VA range")?.start;
        let cmds = Bo::new(&device, CMDS_SIZE).context("command BO")?;
        let results = Bo::new(&device, RESULTS_SIZE).context("result BO")?;
        VmBind::new(&binds)
            .map(&cmds, 0, base, CMDS_SIZE)
            .map(&results, 0, base + CMDS_SIZE, RESULTS_SIZE)
            .send_and_wait()
            .context("mapping the command and result BOs")?;
        let faults_before = device
            .param(abi::MSM_PARAM_FAULTS)
            .context("MSM_PARAM_FAULTS")?;
        Ok(Self {
            faults_before,
            cmds: cmds.map().context("mmap")?,
            results: results.map().context("mmap")?,
            device,
            queue,
            binds,
            base,
            next: Cell::new(0),
            bos: [cmds, results],
        })
    }

    /// Has crash dumps hold what it executes.
    pub fn dump_commands(&self) -> harness::Result<()> {
        self.bind()
            .map_flags(
                &self.bos[0],
                0,
                self.base,
                CMDS_SIZE,
                abi::MSM_VM_BIND_OP_DUMP,
            )
            .send_and_wait()
            .context("mapping the command BO for dumps")
    }

    /// Brings the BOs that are its own back from swap, so that a SUBMIT needn't.
    pub fn swap_in(&self) {
        self.cmds.read(0);
        self.results.read(0);
    }

    /// The iova `offset` bytes into the part of the VM that is the test's.
    pub fn iova(&self, offset: u64) -> u64 {
        self.base + (1 << 30) + offset
    }

    /// A bind request.
    pub fn bind(&self) -> VmBind<'_> {
        VmBind::new(&self.binds)
    }

    /// A BO whose dwords are [`pattern`]s.
    pub fn bo(&self, tag: u32, size: u64) -> harness::Result<Bo> {
        let bo = Bo::new(&self.device, size).context("GEM_NEW")?;
        bo.fill(|index| pattern(tag, index)).context("mmap")?;
        Ok(bo)
    }

    /// Maps all of a BO and waits until that is done.
    pub fn map(&self, bo: &Bo, iova: u64) -> harness::Result<()> {
        self.bind()
            .map(bo, 0, iova, bo.size())
            .send_and_wait()
            .context("MAP")
    }

    /// Unmaps a range and waits until that is done.
    pub fn unmap(&self, iova: u64, range: u64) -> harness::Result<()> {
        self.bind()
            .unmap(iova, range)
            .send_and_wait()
            .context("UNMAP")
    }

    /// Writes commands to where the GPU can execute them, and returns that iova.
    pub fn place(&self, commands: &Pm4) -> u64 {
        let size = u64::from(commands.size());
        assert!(size <= CMDS_SIZE / 2, "{size} bytes of commands");
        let mut at = self.next.get();
        if at + size > CMDS_SIZE {
            at = 0;
        }
        self.next.set((at + size).next_multiple_of(64));
        for (i, dword) in commands.dwords().iter().enumerate() {
            self.cmds.write(at as usize / 4 + i, *dword);
        }
        self.base + at
    }

    /// Queues commands; `more` can add fences to the submit.
    pub fn start<'a>(
        &'a self,
        commands: &Pm4,
        more: impl FnOnce(Submit<'a>) -> Submit<'a>,
    ) -> Result<Submitted, Errno> {
        more(Submit::new(&self.queue).cmd_at(self.place(commands), commands.size())).send()
    }

    /// Runs commands and waits for them.
    pub fn run(&self, commands: &Pm4) -> harness::Result<()> {
        self.start(commands, |submit| submit)
            .context("SUBMIT")?
            .wait(PATIENCE)
            .context("waiting for the GPU")
    }

    /// Writes dwords through the GPU.
    pub fn write(&self, iova: u64, values: &[u32]) -> harness::Result<()> {
        let mut commands = Pm4::new();
        for (i, chunk) in values.chunks(Pm4::MEM_WRITE_MAX).enumerate() {
            commands = commands.mem_write(iova + (i * Pm4::MEM_WRITE_MAX * 4) as u64, chunk);
        }
        self.run(&commands)
    }

    /// Reads `count` dwords through the GPU.
    pub fn read(&self, iova: u64, count: usize) -> harness::Result<Vec<u32>> {
        ensure!(count <= self.results.len(), "{count} results");
        (0..count).for_each(|i| self.results.write(i, UNTOUCHED));
        self.run(
            &Pm4::new()
                .memcpy(self.base + CMDS_SIZE, iova, count as u32)
                .barrier(),
        )?;
        Ok((0..count).map(|i| self.results.read(i)).collect())
    }

    /// Reads one dword at each address through the GPU, in one go.
    pub fn peek(&self, iovas: &[u64]) -> harness::Result<Vec<u32>> {
        ensure!(iovas.len() <= self.results.len(), "{} results", iovas.len());
        let mut commands = Pm4::new();
        for (i, iova) in iovas.iter().enumerate() {
            self.results.write(i, UNTOUCHED);
            commands = commands.mem_to_mem(self.result_iova(i), *iova);
        }
        self.run(&commands.barrier())?;
        Ok((0..iovas.len()).map(|i| self.results.read(i)).collect())
    }

    /// Where the GPU can put result `index`.
    pub fn result_iova(&self, index: usize) -> u64 {
        self.base + CMDS_SIZE + 4 * index as u64
    }

    /// Result `index` as it is now.
    pub fn result(&self, index: usize) -> u32 {
        self.results.read(index)
    }

    /// Sets result `index` from the CPU.
    pub fn set_result(&self, index: usize, value: u32) {
        self.results.write(index, value);
    }

    /// The errors that the GPU has recovered from since this context was made, in it or for
    /// processes that are gone.
    pub fn faults(&self) -> Result<u64, Errno> {
        Ok(self.device.param(abi::MSM_PARAM_FAULTS)? - self.faults_before)
    }
}
