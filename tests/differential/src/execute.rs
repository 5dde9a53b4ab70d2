// SPDX-License-Identifier: GPL-2.0-only

//! Runs a program on the driver, with the model at its side.
//!
//! Nothing depends on time: before an op whose effect depends on what has run, all jobs that should
//! have are waited for.

use crate::{
    model::{self, Expected, Model},
    program::{Change, End, Kind, Mistake, Op, Program, BOS, FENCES, PAGES, QUEUES},
    trouble::{Source, Trouble},
};
use harness::{ensure, Context as _, Result};
use nix::{
    sys::wait::{waitpid, WaitStatus},
    unistd::{fork, ForkResult},
};
use programs::{pattern, PATIENCE};
use serde::Serialize;
use std::{
    cell::RefCell,
    fmt::Write,
    time::{Duration, Instant},
};
use uapi::{
    abi, debugfs,
    vadreno::{Row, Vadreno},
    Bo, Device, Errno, HeldFence, Mapping, Pm4, Submit, SubmitQueue, SyncFile, Syncobj, VmBind,
    PAGE,
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
    /// vgem has given up its held fences each time that it was run, for the machine was too slow:
    /// nothing is known of the driver, and it has to be run again.
    pub late: bool,
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

/// Bytes of the part for commands, of that for results, and of that for the commands of submits
/// that wait.
const OWN: u64 = 4 * PAGE;
/// Bytes of commands that one of those may have.
const WAITING: u64 = 256;
/// Dwords that the GPU reads of each page.
const LOOKED_AT: u32 = 2;

/// A bind, or a submit that waits for a fence.
struct Started {
    fence: SyncFile,
    /// Its end has been seen.
    over: bool,
}

struct Place {
    bo: Bo,
    map: Mapping,
}

/// A program's file, and what it has made there.
struct Context<'a> {
    device: Device,
    trouble: RefCell<Source>,
    vadreno: Option<&'a Vadreno>,
    gpu: SubmitQueue,
    /// For submits that wait.
    later: SubmitQueue,
    binds: Vec<SubmitQueue>,
    base: u64,
    own: Place,
    /// TTBR0 and ASID.
    tables: (u64, u64),
    places: [Option<Place>; BOS as usize],
    held: [Option<HeldFence>; FENCES as usize],
    jobs: Vec<Started>,
    /// Submits that wait, so far.
    submits: u64,
    answers: String,
}

fn name(errno: Errno) -> String {
    format!("{errno:?}")
}

impl<'a> Context<'a> {
    fn new(setting: &Setting<'a>, seed: u64) -> Result<Self> {
        let device = Device::open_vm_bind().context("opening the GPU for VM_BIND")?;
        let gpu = SubmitQueue::new(&device, 0).context("submitqueue")?;
        // All submitqueues of a file that have one priority are one to the scheduler.
        let later = SubmitQueue::new(&device, 1).context("submitqueue")?;
        let binds = (0..QUEUES)
            .map(|_| SubmitQueue::new_vm_bind(&device))
            .collect::<uapi::Result<Vec<_>>>()
            .context("VM_BIND queue")?;
        let base = device.va_range().context("VA range")?.start;
        let bo = Bo::new(&device, 3 * OWN).context("own BO")?;
        VmBind::new(&binds[0])
            .map(&bo, 0, base, 3 * OWN)
            .send_and_wait()
            .context("mapping the own BO")?;
        let mut context = Self {
            own: Place {
                map: bo.map().context("mmap")?,
                bo,
            },
            trouble: Source::new(setting.trouble, seed)?.into(),
            vadreno: setting.vadreno,
            device,
            gpu,
            later,
            binds,
            base,
            tables: (0, 0),
            places: Default::default(),
            held: Default::default(),
            jobs: Vec::new(),
            submits: 0,
            answers: String::new(),
        };
        if let Some(vadreno) = setting.vadreno {
            // From now on the GPU's current context is this one.
            context.insist(&Pm4::new().nop(1)).context("first SUBMIT")?;
            context.tables = vadreno.current();
        }
        Ok(context)
    }

    /// The iova of a page of the window.
    fn iova(&self, page: u8) -> u64 {
        self.base + (2 << 30) - u64::from(PAGES / 2) * PAGE + u64::from(page) * PAGE
    }

    /// Makes a call, with the program's trouble.
    fn call<T>(&self, call: impl FnOnce() -> uapi::Result<T>) -> uapi::Result<T> {
        self.trouble.borrow_mut().call(call)
    }

    /// Runs commands, and waits for them.
    fn run(&self, commands: &Pm4) -> uapi::Result<()> {
        assert!(u64::from(commands.size()) <= OWN);
        self.put(0, commands);
        let submit = Submit::new(&self.gpu).cmd_at(self.base, commands.size());
        let job = self.call(|| submit.send())?;
        job.wait(PATIENCE)?;
        job.fence.status()?.unwrap_or(Err(Errno::ETIMEDOUT))
    }

    /// Lets commands run after a fence, and after the jobs so far.
    fn run_later(&mut self, commands: &Pm4, fence: u8) -> uapi::Result<()> {
        let mut before = Vec::new();
        for job in self.jobs.iter().filter(|job| !job.over) {
            let syncobj = Syncobj::new(&self.device)?;
            syncobj.import(&job.fence)?;
            before.push(syncobj);
        }
        let at = 2 * OWN + self.submits % (OWN / WAITING) * WAITING;
        assert!(u64::from(commands.size()) <= WAITING);
        self.put(at, commands);
        let held = self.held[usize::from(fence)].as_ref().expect("there");
        let submit = Submit::new(&self.later)
            .cmd_at(self.base + at, commands.size())
            .after(held.file());
        let submit = before
            .iter()
            .fold(submit, |submit, job| submit.after_syncobj(job, 0));
        let fence = self.call(|| submit.send())?.fence;
        self.submits += 1;
        self.jobs.push(Started { fence, over: false });
        Ok(())
    }

    /// Puts commands where the GPU finds them `at` bytes into the own BO.
    fn put(&self, at: u64, commands: &Pm4) {
        for (dword, i) in commands.dwords().iter().zip(at as usize / 4..) {
            self.own.map.write(i, *dword);
        }
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
        self.call(|| self.device.vm_bind_raw(&mut request))
    }

    fn new_bo(&mut self, place: u8, pages: u8, kind: Kind, tag: u32) -> uapi::Result<()> {
        let flags = match kind {
            Kind::Plain => abi::MSM_BO_WC,
            Kind::Cached => abi::MSM_BO_CACHED,
            Kind::ReadOnly => abi::MSM_BO_WC | abi::MSM_BO_GPU_READONLY,
            Kind::Private => abi::MSM_BO_WC | abi::MSM_BO_NO_SHARE,
        };
        let (bo, map) = self.call(|| {
            let bo = Bo::with_flags(&self.device, u64::from(pages) * PAGE, flags)?;
            let map = bo.map()?;
            Ok((bo, map))
        })?;
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
            if job.over {
                continue;
            }
            if done {
                job.fence
                    .wait(PATIENCE)
                    .with_context(|| format!("job {n} should have run"))?;
                let status = job.fence.status().context("fence")?;
                if status != Some(Ok(())) {
                    return Err(Stop::Wrong(format!("job {n}'s fence: {status:?}")));
                }
                job.over = true;
            } else if job.fence.is_signaled().context("fence")? {
                for held in self.held.iter().flatten() {
                    held.still_held().map_err(|_| Stop::Late)?;
                }
                return Err(Stop::Wrong(format!("job {n} has run too early")));
            }
        }
        Ok(())
    }

    /// Does an op that makes sense; `model` is still as before it. `out` gets a bind's fence in
    /// place of the list of jobs.
    fn act(&mut self, op: &Op, model: &Model, out: Option<&Syncobj>) -> Result<Expected, Stop> {
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
                let bo = &self.places[usize::from(*bo)].as_ref().expect("there").bo;
                let madv = if *needed {
                    abi::MSM_MADV_WILLNEED
                } else {
                    abi::MSM_MADV_DONTNEED
                };
                return Ok(match self.call(|| bo.madvise(madv)) {
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
                after_job,
            } => {
                let job = after_job.and_then(|job| self.jobs.get(usize::from(job)));
                let syncobj = match job {
                    Some(job) => {
                        let syncobj = Syncobj::new(&self.device).context("syncobj")?;
                        syncobj.import(&job.fence).context("syncobj import")?;
                        Some(syncobj)
                    }
                    None => None,
                };
                let queue = &self.binds[usize::from(*queue)];
                let mut bind = self.ops(VmBind::new(queue), changes);
                if let Some(held) = after.and_then(|after| self.held[usize::from(after)].as_ref()) {
                    bind = bind.after(held.file());
                }
                if let Some(syncobj) = &syncobj {
                    bind = bind.after_syncobj(syncobj, 0);
                }
                if let Some(out) = out {
                    let bind = bind.signal(out, 0);
                    self.call(|| bind.send_only())
                } else {
                    match self.call(|| bind.send()) {
                        Ok(fence) => {
                            self.jobs.push(Started { fence, over: false });
                            Ok(())
                        }
                        Err(e) => Err(e),
                    }
                }
            }
            Op::Fork { op } => return self.forked(op, model),
            Op::Refused { changes, mistake } => self.refused(changes, *mistake),
            Op::Submit { writes, after } => {
                let commands = writes.iter().fold(Pm4::new(), |commands, (page, value)| {
                    commands.mem_write(self.iova(*page) + 4, &[*value])
                });
                match after.filter(|after| self.held[usize::from(*after)].is_some()) {
                    Some(after) => self.run_later(&commands.barrier(), after),
                    None => {
                        self.settle(model)?;
                        self.run(&commands.barrier())
                    }
                }
            }
            Op::Hold { fence } => {
                self.settle(model)?;
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

    /// Has a child process do an op.
    fn forked(&mut self, op: &Op, model: &Model) -> Result<Expected, Stop> {
        /// An exit status that stands for no error number.
        const GONE: i32 = 200;
        const KEPT: i32 = 201;
        const STOPPED: i32 = 202;
        self.settle(model)?;
        let out = match op {
            Op::Bind { .. } => Some(Syncobj::new(&self.device).context("syncobj")?),
            _ => None,
        };
        // SAFETY: this process has one thread.
        let status = match unsafe { fork() }.context("fork")? {
            ForkResult::Child => {
                let status = match self.act(op, model, out.as_ref()) {
                    Ok(Expected::Ok | Expected::Skip) => 0,
                    Ok(Expected::Errno(e)) => e as i32,
                    Ok(Expected::Retained(kept)) => [GONE, KEPT][usize::from(kept)],
                    Err(_) => STOPPED,
                };
                // SAFETY: ends the process, without closing what isn't its own.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => match waitpid(child, None).context("waitpid")? {
                WaitStatus::Exited(_, status) => status,
                status => return Err(Stop::Wrong(format!("the child process: {status:?}"))),
            },
        };
        let answer = match status {
            0 => Expected::Ok,
            GONE | KEPT => Expected::Retained(status == KEPT),
            STOPPED => return Err(Stop::Wrong("the child process has failed".into())),
            errno => Expected::Errno(Errno::from_raw(errno)),
        };
        match (op, &answer, out) {
            (Op::Bind { .. }, Expected::Ok, Some(out)) => {
                let fence = out.export().context("syncobj export")?;
                self.jobs.push(Started { fence, over: false });
            }
            (Op::Close { bo }, Expected::Ok, _) => {
                if let Some(place) = self.places[usize::from(*bo)].take() {
                    place.bo.leave_open();
                }
            }
            _ => {}
        }
        Ok(answer)
    }

    /// Has the shrinker run until all is purged that should be.
    ///
    /// It passes over BOs whose reservation is locked, as by a job's clean-up.
    fn shrink(&self, model: &Model) -> Result<()> {
        let mut after = model.clone();
        after.done(&Op::Shrink);
        let end = Instant::now() + PATIENCE;
        loop {
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
            ensure!(
                Instant::now() < end,
                "the shrinker leaves pages that nobody needs"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&mut self, fence: u8) -> Result<(), Stop> {
        match self.held[usize::from(fence)].take() {
            Some(held) => held.signal().map_err(|_| Stop::Late),
            None => Ok(()),
        }
    }

    /// The window through the page tables, the TLB and the GPU; the BOs through the CPU.
    fn view(&self, model: &Model) -> Result<String> {
        let row = match self.vadreno {
            Some(vadreno) => vadreno
                .row(self.tables, self.iova(0), PAGES.into())
                .context("page tables")?,
            // Then only what should be there can be looked at.
            None => Row {
                mapped: model.mapped(),
                writable: model.writable(),
                stale: 0,
            },
        };
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
            self.insist(&commands.barrier())
                .context("looking at pages")?;
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

    /// Sends and waits again for as long as the trouble makes it fail.
    fn insist(&self, commands: &Pm4) -> uapi::Result<()> {
        loop {
            match self.run(commands) {
                Err(e) if self.trouble.borrow().explains(e) => {}
                answer => return answer,
            }
        }
    }

    fn play(&mut self, program: &Program, forgiving: bool, view: &mut String) -> Result<(), Stop> {
        let mut model = Model::default();
        for (n, op) in program.ops.iter().enumerate() {
            let harmless;
            let op = if forgiving {
                op
            } else {
                harmless = model.without_faults(op);
                &harmless
            };
            let expected = model.expect(op);
            if expected == Expected::Skip {
                self.answers.push_str("skip ");
                continue;
            }
            let answer = self.act(op, &model, None)?;
            let _ = match &answer {
                Expected::Skip | Expected::Ok => write!(self.answers, "ok "),
                Expected::Errno(e) => write!(self.answers, "{} ", name(*e)),
                Expected::Retained(true) => write!(self.answers, "kept "),
                Expected::Retained(false) => write!(self.answers, "gone "),
            };
            let troubled =
                matches!(answer, Expected::Errno(e) if self.trouble.borrow().explains(e));
            if troubled {
                continue;
            }
            if answer != expected {
                return Err(Stop::Wrong(format!("op {n}: {answer:?}, not {expected:?}")));
            }
            if !matches!(answer, Expected::Errno(_)) {
                model.done(op);
            }
            // A submit that was let go isn't ordered with the binds that come next.
            if matches!(op, Op::Hold { .. } | Op::Signal { .. }) {
                self.settle(&model)?;
            }
        }
        if program.end == End::Abrupt {
            return Ok(());
        }
        // A submit that is let go now must find what has run before.
        self.settle(&model)?;
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

    /// Closes the file without anything in it; gives the fences that are held.
    fn leave_open(self) -> [Option<HeldFence>; FENCES as usize] {
        self.own.bo.leave_open();
        self.gpu.leave_open();
        self.later.leave_open();
        self.binds.into_iter().for_each(SubmitQueue::leave_open);
        for place in self.places.into_iter().flatten() {
            place.bo.leave_open();
        }
        self.held
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
    model.ends(program.end);
    model.defects.into_iter().collect()
}

/// What a program runs in.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The virtual Adreno, if nobody else uses the GPU meanwhile and it is awake.
    pub vadreno: Option<&'a Vadreno>,
    /// A GPU access that faults is harmless.
    pub forgiving: bool,
    /// What the program's ioctls are troubled with.
    pub trouble: Trouble,
}

/// Runs a program, unless it would run into one of the defects `except`.
pub fn run(program: &Program, setting: &Setting<'_>, except: &[u32]) -> Report {
    let mut report = Report {
        seed: program.seed,
        answers: String::new(),
        view: String::new(),
        wrong: None,
        late: false,
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
        let mut context = match Context::new(setting, program.seed) {
            Ok(context) => context,
            Err(e) => {
                report.wrong = Some(format!("{e:#}"));
                return report;
            }
        };
        let stop = context.play(program, setting.forgiving, &mut report.view);
        report.answers = std::mem::take(&mut context.answers);
        if program.end != End::Tidy {
            // Held fences outlive the file.
            drop(context.leave_open());
        }
        report.late = matches!(stop, Err(Stop::Late));
        report.wrong = match stop {
            Ok(()) => None,
            Err(Stop::Wrong(why)) => Some(why),
            Err(Stop::Late) => Some("vgem's fences ended by themselves, three times".into()),
        };
        if !report.late {
            break;
        }
    }
    report
}
