// SPDX-License-Identifier: GPL-2.0-only

//! What sequences are played on: the other context, which lives on, the desk, the virtual Adreno,
//! swap.

use super::{
    desk::{self, Commands, Desk, Places, Word},
    event::{Event, Kind},
    model::{Submit, FIRST, SECOND},
    PATIENCE,
};
use crate::{eventually, Gpu, Tolerance};
use harness::{bail, ensure, Context, Outcome, Result};
use std::{
    os::fd::{AsFd, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    abi::MSM_PARAM_SUSPENDS,
    debugfs::{self, GemList, SlowHangcheck},
    devcoredump::Devcoredump,
    swap::Swap,
    vadreno::{Reach, Row, Translation, Vadreno},
    vadreno_ctl::counter,
    Bo, Device, Submit as Request, SubmitQueue, SyncFile, VmBind, PAGE,
};

const SWAP: u64 = 64 << 20;

/// Which BOs of a sequence there are.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The first.
    pub first: bool,
    /// … and it has pages.
    pub first_resident: bool,
    /// The second.
    pub second: bool,
    /// … and it has pages.
    pub second_resident: bool,
}

/// Where sequences are played.
///
/// A crash dump that nobody reads lies there all the time: the GPU forgives accesses to what isn't
/// mapped, and recovers from a hang without its state being captured, which takes seconds. To let a
/// context fault, the dump is taken away.
#[derive(Debug)]
pub struct Testbed {
    vadreno: Vadreno,
    list: GemList,
    /// Bytes of BOs between sequences, and of those that have pages, without the desk.
    before: (u64, u64),
    /// For [`Submit::Other`].
    binds: SubmitQueue,
    queue: SubmitQueue,
    other_maps: bool,
    desk: Desk,
    places: Places,
    forgiving_since: Instant,
    /// A SUBMIT that only served to be sent.
    sent: Option<SyncFile>,
    /// SUBMITs run until they are let go. Of a hang the device tells by itself.
    _slow: SlowHangcheck,
    _swap: Swap,
}

impl Testbed {
    /// The kernel frees a crash dump after five minutes.
    const FORGIVES: Duration = Duration::from_secs(200);

    /// Sets it up.
    pub fn new() -> Result<Self> {
        let swap = Swap::new(SWAP).context("swap")?;
        let slow = SlowHangcheck::new().context("hangcheck_period_ms")?;
        Tolerance::new()?;
        drop(Gpu::new()?);
        let device = Device::open_vm_bind().context("opening the GPU")?;
        let places = Places::new(device.va_range().context("VA range")?.start);
        let desk = Desk::new(&device, places)?;
        let binds = SubmitQueue::new_vm_bind(&device).context("VM_BIND queue")?;
        VmBind::new(&binds)
            .map(desk.bo(), 0, places.desk(), desk::PAGES * PAGE)
            .send_and_wait()
            .context("mapping the desk")?;
        let mut this = Self {
            vadreno: Vadreno::open().context("virtual Adreno")?,
            list: GemList::open().context("debugfs gem")?,
            before: (0, 0),
            queue: SubmitQueue::new(&device, 0).context("submitqueue")?,
            binds,
            other_maps: false,
            desk,
            places,
            forgiving_since: Instant::now(),
            sent: None,
            _slow: slow,
            _swap: swap,
        };
        this.desk.prepare(Kind::Unmap);
        this.nothing()?.wait(PATIENCE)?;
        this.vadreno.forget_all();
        this.nothing()?.wait(PATIENCE)?;
        this.count()?;
        Ok(this)
    }

    /// Remembers what there is while nothing is played.
    fn count(&mut self) -> Outcome {
        // BOs of contexts that were closed go a little later.
        let mut last = self.list.bytes()?;
        loop {
            sleep(Duration::from_millis(200));
            let now = self.list.bytes()?;
            if now == last {
                self.before = (now.0, now.1.saturating_sub(desk::PAGES * PAGE));
                return Ok(());
            }
            last = now;
        }
    }

    fn nothing(&self) -> Result<SyncFile> {
        let (address, size) = self.places.commands(Commands::Nothing);
        let request = Request::new(&self.queue).cmd_at(address, size);
        Ok(request.send().context("an empty SUBMIT")?.fence)
    }

    /// Everything is as at the beginning.
    pub fn prepare(&mut self, kind: Kind) -> Outcome {
        let forgives = Devcoredump::present().context("devcoredump")?.is_some();
        if !forgives || self.forgiving_since.elapsed() > Self::FORGIVES {
            let _sleepy = self.vadreno.let_sleep()?;
            Self::stall_on_faults()?;
            Tolerance::new()?;
            self.forgiving_since = Instant::now();
        }
        self.sent = None;
        self.desk.prepare(kind);
        Ok(())
    }

    /// Takes the crash dump away. The SMMU stalls on the next fault of who has sent a SUBMIT since.
    fn stall_on_faults() -> Outcome {
        if let Some(dump) = Devcoredump::present().context("devcoredump")? {
            dump.free().context("freeing the devcoredump")?;
        }
        loop {
            let left = debugfs::stall_reenable_time().context("stall_reenable_time_us")?;
            if left.is_zero() {
                return Ok(());
            }
            sleep(left);
        }
    }

    /// The desk's dma-buf, and its bytes.
    pub fn desk(&self) -> Result<(OwnedFd, u64)> {
        Ok((
            self.desk.dma_buf().try_clone_to_owned()?,
            desk::PAGES * PAGE,
        ))
    }

    /// Reads a word of the desk's.
    pub fn get(&self, word: Word) -> u32 {
        self.desk.get(word)
    }

    /// Writes a word of the desk's.
    pub fn set(&self, word: Word, value: u32) {
        self.desk.set(word, value);
    }

    /// Waits until a word of the desk's is set.
    pub fn wait(&self, word: Word) -> Outcome {
        self.desk.wait(word)
    }

    /// How often the driver has put something into the ring.
    pub fn ring_writes(&self) -> u64 {
        self.vadreno.read(counter::RING_WRITES)
    }

    /// Waits until it has done so again. Until then the scheduler may still choose another job.
    pub fn wait_for_ring_write(&self, before: u64) -> Outcome {
        eventually("the SUBMIT to be in the ring", || {
            Ok(self.ring_writes() != before)
        })
    }

    /// TTBR0 and ASID of the context that ran last.
    pub fn current(&self) -> (u64, u64) {
        self.vadreno.current()
    }

    /// What a context's tables say of the first pages of the window.
    pub fn row(&self, tables: (u64, u64), count: u64) -> Result<Row> {
        Ok(self.vadreno.row(tables, self.places.window(0), count)?)
    }

    /// Where a page of the window leads in a context.
    pub fn translate(&self, ttbr0: u64, page: usize) -> Result<Translation> {
        Ok(self.vadreno.translate_in(ttbr0, self.places.window(page))?)
    }

    /// How the GPU reaches a physical page.
    pub fn reach(&self, page: u64) -> Result<Reach> {
        Ok(self.vadreno.reach(page)?)
    }

    /// The page of the window that an address is in.
    pub fn page_of(&self, iova: u64) -> Option<usize> {
        self.places.page(iova)
    }

    /// The device forgets a context's tables.
    pub fn forget(&self, ttbr0: u64) {
        self.vadreno.forget(ttbr0);
    }

    /// Which BOs there are beside those that there always are.
    pub fn look(&mut self) -> Result<Seen> {
        let (total, resident) = self.list.bytes().context("debugfs gem")?;
        let pages = |bytes: u64, before: u64| bytes.wrapping_sub(before) / PAGE;
        let (first, second) = (FIRST as u64, SECOND as u64);
        let split = |pages: u64| match pages {
            0 => Some((false, false)),
            n if n == first => Some((true, false)),
            n if n == second => Some((false, true)),
            n if n == first + second => Some((true, true)),
            _ => None,
        };
        let there = pages(total, self.before.0);
        let with_pages = pages(resident, self.before.1);
        let with_pages = with_pages.checked_sub(desk::PAGES).unwrap_or(with_pages);
        match (split(there), split(with_pages)) {
            (Some((first, second)), Some((first_resident, second_resident))) => Ok(Seen {
                first,
                first_resident,
                second,
                second_resident,
            }),
            _ => bail!("there are {there} pages of BOs, {with_pages} in memory"),
        }
    }

    /// The other context maps a BO, and starts to use it.
    pub fn start_other(&mut self, dma_buf: OwnedFd, size: u64) -> Result<OwnedFd> {
        let device = self.queue.device().clone();
        let bo = Bo::import(&device, dma_buf.as_fd(), size).context("importing the BO")?;
        drop(dma_buf);
        self.other_maps = true;
        VmBind::new(&self.binds)
            .map(&bo, 0, self.places.window(0), size)
            .send_and_wait()
            .context("mapping the BO in the other context")?;
        drop(bo);
        let (address, size) = self.places.commands(Commands::Of(Submit::Other));
        let request = Request::new(&self.queue).cmd_at(address, size);
        Ok(request
            .send()
            .context("the other context's SUBMIT")?
            .fence
            .into())
    }

    /// It unmaps it.
    pub fn end_other(&mut self) -> Outcome {
        if self.other_maps {
            VmBind::new(&self.binds)
                .unmap(self.places.window(0), FIRST as u64 * PAGE)
                .send_and_wait()
                .context("unmapping the BO in the other context")?;
            self.other_maps = false;
        }
        Ok(())
    }

    /// The next fault isn't forgiven: that of what is sent next, or of what runs already.
    pub fn expect_fault(&mut self, of_what_runs: bool) -> Outcome {
        Self::stall_on_faults()?;
        if of_what_runs {
            self.desk.let_run_fault();
            // When it puts a SUBMIT into the ring the driver looks whether the SMMU may stall
            // again.
            let before = self.ring_writes();
            self.sent = Some(self.nothing()?);
            self.wait_for_ring_write(before)?;
        }
        Ok(())
    }

    /// Waits until the GPU has recovered from a hang, which is found now, or a fault.
    pub fn recover(&mut self, event: Event, victim: &SyncFile) -> Outcome {
        let suspends = || self.queue.device().param(MSM_PARAM_SUSPENDS);
        let before = suspends()?;
        let _sleepy = self.vadreno.let_sleep()?;
        if event == Event::Hang {
            self.vadreno.hang();
        }
        victim
            .wait(PATIENCE)
            .context("the end of what has crashed")?;
        // The GPU is switched off and on after that.
        eventually("the GPU to recover", || Ok(suspends()? > before))?;
        if event == Event::Fault {
            Devcoredump::wait(PATIENCE).context("devcoredump")?;
            self.forgiving_since = Instant::now();
        }
        Ok(())
    }

    /// After something was wrong: waits until nothing is left, or takes what is left for granted.
    pub fn clear_up(&mut self) {
        let _ = self.end_other();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if matches!(self.look(), Ok(seen) if !seen.first && !seen.second) {
                return;
            }
            sleep(Duration::from_millis(5));
        }
        let _ = self.nothing().map(|fence| fence.wait(PATIENCE));
        let _ = self.count();
    }

    /// A context of the usual kind works.
    pub fn works(&self) -> Outcome {
        let gpu = Gpu::new()?;
        let bo = gpu.bo(1, PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        gpu.write(gpu.iova(0), &[7])?;
        ensure!(
            gpu.read(gpu.iova(0), 1)? == [7],
            "a new context reads something else"
        );
        Ok(())
    }
}
