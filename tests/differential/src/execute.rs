// SPDX-License-Identifier: GPL-2.0-only

//! Runs a program on the driver, with the model at its side.
//!
//! Nothing depends on time: before an op whose effect depends on what has run, all jobs that should have are waited for.

use crate::{
    model::{self, Expected, Model},
    program::{Change, Kind, Mistake, Op, Program, BOS, FENCES, PAGES, QUEUES},
};
use harness::{bail, ensure, Context as _, Result};
use programs::{pattern, PATIENCE};
use serde::Serialize;
use std::fmt::Write;
use uapi::{
    abi, debugfs,
    vadreno::{Row, Vadreno},
    Bo, Device, Errno, HeldFence, Mapping, Pm4, Submit, SubmitQueue, SyncFile, VmBind, PAGE,
};

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The program's seed.
    pub seed: u64,
    /// The answer to each op, in order.
    pub answers: String,
    /// What the window and the BOs looked like in the end.
    pub view: String,
    /// The first thing that wasn't as it should be.
    pub wrong: Option<String>,
    /// The defects of the C memory manager for which it wasn't run.
    pub excepted: Vec<u32>,
}

/// Why a program has no report.
#[derive(Debug)]
enum Stop {
    /// The driver did something wrong.
    Wrong(String),
    /// vgem has given up a held fence: the machine was too slow. The program has to be run again.
    Late,
}

impl From<harness::Error> for Stop {
    fn from(error: harness::Error) -> Self {
        Self::Wrong(format!("{error:#}"))
    }
}

/// Bytes of the BO for commands, and of that for results.
const OWN: u64 = 4 * PAGE;
/// Dwords that the GPU reads of each page.
const LOOKED_AT: u32 = 2;

struct Place {
    bo: Bo,
    map: Mapping,
}

/// A program's file, and what it has made there.
struct Context<'a> {
    device: Device,
    vadreno: &'a Vadreno,
    gpu: SubmitQueue,
    binds: Vec<SubmitQueue>,
    base: u64,
    own: Place,
    /// TTBR0 and ASID.
    tables: (u64, u64),
    places: [Option<Place>; BOS as usize],
    held: [Option<HeldFence>; FENCES as usize],
    jobs: Vec<Option<SyncFile>>,
    answers: String,
}

fn name(errno: Errno) -> String {
    format!("{errno:?}")
}

impl<'a> Context<'a> {
    fn new(vadreno: &'a Vadreno) -> Result<Self> {
        let device = Device::open_vm_bind().context("opening the GPU for VM_BIND")?;
        let gpu = SubmitQueue::new(&device, 0).context("submitqueue")?;
        let binds = (0..QUEUES)
            .map(|_| SubmitQueue::new_vm_bind(&device))
            .collect::<uapi::Result<Vec<_>>>()
            .context("VM_BIND queue")?;
        let base = device.va_range().context("VA range")?.start;
        let bo = Bo::new(&device, 2 * OWN).context("own BO")?;
        VmBind::new(&binds[0])
            .map(&bo, 0, base, 2 * OWN)
            .send_and_wait()
            .context("mapping the own BO")?;
        let mut context = Self {
            own: Place {
                map: bo.map().context("mmap")?,
                bo,
            },
            vadreno,
            device,
            gpu,
            binds,
            base,
            tables: (0, 0),
            places: Default::default(),
            held: Default::default(),
            jobs: Vec::new(),
            answers: String::new(),
        };
        // From now on the GPU's current context is this one.
        context.run(&Pm4::new().nop(1)).context("first SUBMIT")?;
        context.tables = vadreno.current();
        Ok(context)
    }

    /// The iova of a page of the window.
    fn iova(&self, page: u8) -> u64 {
        self.base + (2 << 30) - u64::from(PAGES / 2) * PAGE + u64::from(page) * PAGE
    }

    /// Runs commands, and waits for them.
    fn run(&self, commands: &Pm4) -> uapi::Result<()> {
        assert!(u64::from(commands.size()) <= OWN);
        for (i, dword) in commands.dwords().iter().enumerate() {
            self.own.map.write(i, *dword);
        }
        let job = Submit::new(&self.gpu)
            .cmd_at(self.base, commands.size())
            .send()?;
        job.wait(PATIENCE)?;
        job.fence.status()?.unwrap_or(Err(Errno::ETIMEDOUT))
    }

    fn ops<'b>(&'b self, mut bind: VmBind<'b>, changes: &[Change]) -> VmBind<'b> {
        for change in changes {
            bind = match *change {
                Change::Map {
                    bo,
                    first,
                    at,
                    count,
                    dump,
                } => bind.map_flags(
                    &self.places[usize::from(bo)].as_ref().expect("there").bo,
                    u64::from(first) * PAGE,
                    self.iova(at),
                    u64::from(count) * PAGE,
                    if dump { abi::MSM_VM_BIND_OP_DUMP } else { 0 },
                ),
                Change::Null { at, count } => bind.map_null(self.iova(at), u64::from(count) * PAGE),
                Change::Unmap { at, count } => bind.unmap(self.iova(at), u64::from(count) * PAGE),
            };
        }
        bind
    }

    /// Sends a request that has to be refused.
    fn refused(&self, changes: &[Change], mistake: Mistake) -> uapi::Result<()> {
        let mut op = abi::drm_msm_vm_bind_op {
            op: abi::MSM_VM_BIND_OP_UNMAP,
            iova: self.iova(0),
            range: PAGE,
            ..Default::default()
        };
        let first = self.places[0].as_ref();
        match mistake {
            Mistake::Op => op.op = 3,
            Mistake::Flag => op.flags = 2,
            Mistake::Iova => op.iova += 0x800,
            Mistake::Range => op.range += 0x10,
            Mistake::Offset | Mistake::BeyondBo => {
                let bo = &first.expect("there").bo;
                op.op = abi::MSM_VM_BIND_OP_MAP;
                op.handle = bo.handle();
                if mistake == Mistake::Offset {
                    op.obj_offset = 1;
                } else {
                    op.obj_offset = bo.size();
                }
            }
            Mistake::BeyondVm => op.range = 1 << 60,
            Mistake::UnmapHandle => op.handle = 1,
            Mistake::RequestFlag | Mistake::NoQueue | Mistake::GpuQueue => {}
        }
        let bind = self.ops(VmBind::new(&self.binds[0]), changes).op(op);
        let mut request = bind.request();
        match mistake {
            Mistake::RequestFlag => request.flags |= 1 << 9,
            Mistake::NoQueue => request.queue_id = 0x7fff,
            Mistake::GpuQueue => request.queue_id = self.gpu.id(),
            _ => {}
        }
        self.device.vm_bind_raw(&mut request)
    }

    fn new_bo(&mut self, place: u8, pages: u8, kind: Kind, tag: u32) -> uapi::Result<()> {
        let flags = match kind {
            Kind::Plain => abi::MSM_BO_WC,
            Kind::Cached => abi::MSM_BO_CACHED,
            Kind::ReadOnly => abi::MSM_BO_WC | abi::MSM_BO_GPU_READONLY,
            Kind::Private => abi::MSM_BO_WC | abi::MSM_BO_NO_SHARE,
        };
        let bo = Bo::with_flags(&self.device, u64::from(pages) * PAGE, flags)?;
        let map = bo.map()?;
        for page in 0..usize::from(pages) {
            map.write(page * 1024, pattern(tag, page));
        }
        self.places[usize::from(place)] = Some(Place { bo, map });
        Ok(())
    }

    fn info(&self, bo: &Bo) -> Result<()> {
        bo.set_name("random").context("SET_NAME")?;
        bo.set_metadata(&[1, 2, 3]).context("SET_METADATA")?;
        ensure!(
            bo.metadata().context("GET_METADATA")? == [1, 2, 3],
            "other metadata than was set"
        );
        // The kernel doesn't choose addresses here.
        ensure!(
            bo.iova() == Err(Errno::EINVAL),
            "GET_IOVA in a VM_BIND context"
        );
        ensure!(
            bo.set_iova(0) == Err(Errno::EINVAL),
            "SET_IOVA in a VM_BIND context"
        );
        Ok(())
    }

    /// Waits for the jobs that should have run, and looks whether others have as well.
    fn settle(&mut self, model: &Model) -> Result<(), Stop> {
        for (n, (job, done)) in self.jobs.iter_mut().zip(model.jobs()).enumerate() {
            let Some(fence) = job else { continue };
            if done {
                fence
                    .wait(PATIENCE)
                    .with_context(|| format!("bind {n} should have run"))?;
                let status = fence.status().context("fence")?;
                if status != Some(Ok(())) {
                    return Err(Stop::Wrong(format!("bind {n}'s fence: {status:?}")));
                }
                *job = None;
            } else if fence.is_signaled().context("fence")? {
                for held in self.held.iter().flatten() {
                    held.still_held().map_err(|_| Stop::Late)?;
                }
                return Err(Stop::Wrong(format!("bind {n} has run too early")));
            }
        }
        Ok(())
    }

    /// Does an op that makes sense; `model` is still as before it.
    fn act(&mut self, op: &Op, model: &Model) -> Result<Expected, Stop> {
        let place = |context: &'_ Self, bo: u8| -> Result<_> {
            context.places[usize::from(bo)]
                .as_ref()
                .map(|place| place.bo.handle())
                .context("no BO there")
        };
        let answer = match op {
            Op::New { bo, pages, kind } => {
                // As many as there were, and one.
                self.new_bo(*bo, *pages, *kind, model.next_bo())
            }
            Op::Close { bo } => {
                self.places[usize::from(*bo)] = None;
                Ok(())
            }
            Op::Madvise { bo, needed } => {
                place(self, *bo)?;
                let madv = if *needed {
                    abi::MSM_MADV_WILLNEED
                } else {
                    abi::MSM_MADV_DONTNEED
                };
                let bo = &self.places[usize::from(*bo)].as_ref().expect("there").bo;
                return Ok(match bo.madvise(madv) {
                    Ok(retained) => Expected::Retained(retained),
                    Err(e) => Expected::Errno(e),
                });
            }
            Op::Shrink => {
                self.settle(model)?;
                self.shrink(model)?;
                Ok(())
            }
            Op::Bind {
                queue,
                changes,
                after,
            } => {
                let queue = &self.binds[usize::from(*queue)];
                let mut bind = self.ops(VmBind::new(queue), changes);
                if let Some(held) = after.and_then(|after| self.held[usize::from(after)].as_ref()) {
                    bind = bind.after(held.file());
                }
                match bind.send() {
                    Ok(fence) => {
                        self.jobs.push(Some(fence));
                        Ok(())
                    }
                    Err(e) => Err(e),
                }
            }
            Op::Refused { changes, mistake } => self.refused(changes, *mistake),
            Op::Submit { writes } => {
                self.settle(model)?;
                let commands = writes.iter().fold(Pm4::new(), |commands, (page, value)| {
                    commands.mem_write(self.iova(*page) + 4, &[*value])
                });
                self.run(&commands.barrier())
            }
            Op::Hold { fence } => {
                self.signal(*fence)?;
                let held = HeldFence::new().context("held fence")?;
                self.held[usize::from(*fence)] = Some(held);
                Ok(())
            }
            Op::Signal { fence } => {
                // Nothing may have run before.
                self.settle(model)?;
                self.signal(*fence)?;
                Ok(())
            }
            Op::Reopen { queue } => match SubmitQueue::new_vm_bind(&self.device) {
                Ok(queue_made) => {
                    self.binds[usize::from(*queue)] = queue_made;
                    Ok(())
                }
                Err(e) => Err(e),
            },
            Op::Info { bo } => {
                let place = self.places[usize::from(*bo)].as_ref();
                self.info(&place.context("no BO there")?.bo)?;
                Ok(())
            }
        };
        Ok(match answer {
            Ok(()) => Expected::Ok,
            Err(e) => Expected::Errno(e),
        })
    }

    /// Has the shrinker run until all is purged that should be.
    ///
    /// It passes over BOs whose reservation is locked, as by a job's clean-up.
    fn shrink(&self, model: &Model) -> Result<()> {
        let mut after = model.clone();
        after.done(&Op::Shrink);
        for _ in 0..50 {
            debugfs::shrink(1 << 20).context("debugfs shrink")?;
            let mut missed = false;
            for (place, bo) in (0..BOS).zip(&self.places) {
                // Asked of what isn't needed, DONTNEED changes nothing.
                if let (true, Some(place)) = (after.is_purged(place) && !model.is_purged(place), bo)
                {
                    missed |= place
                        .bo
                        .madvise(abi::MSM_MADV_DONTNEED)
                        .context("MADVISE")?;
                }
            }
            if !missed {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        bail!("the shrinker leaves pages that nobody needs");
    }

    fn signal(&mut self, fence: u8) -> Result<(), Stop> {
        match self.held[usize::from(fence)].take() {
            Some(held) => held.signal().map_err(|_| Stop::Late),
            None => Ok(()),
        }
    }

    /// The window through the page tables, the TLB and the GPU; the BOs through the CPU.
    fn view(&self, model: &Model) -> Result<String> {
        let row: Row = self
            .vadreno
            .row(self.tables, self.iova(0), PAGES.into())
            .context("page tables")?;
        ensure!(
            row.stale == 0,
            "the TLB doesn't agree with the page tables, pages {:#x}",
            row.stale
        );
        let pages = || (0..PAGES).filter(|page| row.mapped & (1 << page) != 0);
        let results = OWN as usize / 4;
        let looks = !model.is_broken();
        if looks && row.mapped != 0 {
            let mut commands = Pm4::new();
            for (n, page) in (0..).zip(pages()) {
                let result = self.base + OWN + n * 4 * u64::from(LOOKED_AT);
                commands = commands.memcpy(result, self.iova(page), LOOKED_AT);
            }
            self.run(&commands.barrier()).context("looking at pages")?;
        }
        let mut text = String::new();
        let mut n = results;
        for page in 0..PAGES {
            let (mapped, writable) = (
                row.mapped & (1 << page) != 0,
                row.writable & (1 << page) != 0,
            );
            let _ = if !mapped {
                write!(text, ". ")
            } else if !looks {
                write!(text, "{} ", model::mode(!writable))
            } else {
                let (tag, word) = (self.own.map.read(n), self.own.map.read(n + 1));
                n += LOOKED_AT as usize;
                write!(text, "{} ", model::seen(!writable, tag, word))
            };
        }
        for (place, bo) in (0..BOS).zip(&self.places) {
            let Some(Place { map, .. }) = bo.as_ref().filter(|_| model.is_readable(place)) else {
                continue;
            };
            let _ = write!(text, "| ");
            for page in 0..map.len() / 1024 {
                let (tag, word) = (map.read(page * 1024), map.read(page * 1024 + 1));
                let _ = write!(text, "{} ", model::seen(false, tag, word));
            }
        }
        Ok(text)
    }

    fn play(&mut self, program: &Program, view: &mut String) -> Result<(), Stop> {
        let mut model = Model::default();
        for (n, op) in program.ops.iter().enumerate() {
            let expected = model.expect(op);
            if expected == Expected::Skip {
                self.answers.push_str("skip ");
                continue;
            }
            let answer = self.act(op, &model)?;
            let _ = match &answer {
                Expected::Skip | Expected::Ok => write!(self.answers, "ok "),
                Expected::Errno(e) => write!(self.answers, "{} ", name(*e)),
                Expected::Retained(true) => write!(self.answers, "kept "),
                Expected::Retained(false) => write!(self.answers, "gone "),
            };
            if answer != expected {
                return Err(Stop::Wrong(format!("op {n}: {answer:?}, not {expected:?}")));
            }
            if !matches!(answer, Expected::Errno(_)) {
                model.done(op);
            }
        }
        for fence in 0..FENCES {
            self.signal(fence)?;
        }
        model.signal_all();
        self.settle(&model)?;
        *view = self.view(&model)?;
        let expected = model.view();
        if *view != expected {
            return Err(Stop::Wrong(format!("it should look like {expected}")));
        }
        Ok(())
    }

    fn leave_open(self) {
        self.own.bo.leave_open();
        self.gpu.leave_open();
        self.binds.into_iter().for_each(SubmitQueue::leave_open);
        for place in self.places.into_iter().flatten() {
            place.bo.leave_open();
        }
    }
}

/// The defects of the C memory manager that a program would run into.
pub fn defects(program: &Program) -> Vec<u32> {
    let mut model = Model::default();
    for op in &program.ops {
        match model.expect(op) {
            Expected::Skip => {}
            Expected::Errno(_) => model.meets(op),
            Expected::Ok | Expected::Retained(_) => model.done(op),
        }
    }
    model.defects.into_iter().collect()
}

/// Runs a program, unless it would run into one of the defects `except`.
pub fn run(program: &Program, vadreno: &Vadreno, except: &[u32]) -> Report {
    let mut report = Report {
        seed: program.seed,
        answers: String::new(),
        view: String::new(),
        wrong: None,
        excepted: defects(program)
            .into_iter()
            .filter(|defect| except.contains(defect))
            .collect(),
    };
    if !report.excepted.is_empty() {
        return report;
    }
    for _ in 0..3 {
        report.view.clear();
        let mut context = match Context::new(vadreno) {
            Ok(context) => context,
            Err(e) => {
                report.wrong = Some(format!("{e:#}"));
                return report;
            }
        };
        let stop = context.play(program, &mut report.view);
        report.answers = std::mem::take(&mut context.answers);
        if !program.tidy {
            context.leave_open();
        }
        report.wrong = match stop {
            Ok(()) => None,
            Err(Stop::Wrong(why)) => Some(why),
            Err(Stop::Late) => {
                report.wrong = Some("vgem's fences ended by themselves, three times".into());
                continue;
            }
        };
        break;
    }
    report
}
