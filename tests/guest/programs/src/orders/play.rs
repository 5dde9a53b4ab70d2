// SPDX-License-Identifier: GPL-2.0-only

//! Plays a sequence, and looks after each step whether it is as the model says.

use super::{
    client::{Client, Process, Setting},
    desk::{self, Word},
    enumerate::TAIL,
    event::{Event, Sequence},
    model::{Answer, Bind, Cell, File, Model, Pages, Submit, FIRST, WINDOW},
    testbed::{Seen, Testbed},
    PATIENCE,
};
use harness::{bail, ensure, ensure_eq, Context, Error, Outcome, Result};
use std::{
    os::fd::OwnedFd,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{debugfs, vadreno::Translation, vadreno_ctl::watch, Errno, HeldFence, SyncFile, PAGE};

/// How long a BO may be missing in the list of all BOs since somebody has locked it; who may not be
/// run for that time, and looks at the list may be far apart.
const IN_THE_LIST: Duration = Duration::from_millis(300);

/// How often somebody who holds a lock for a moment can be met at most.
const LOOKS: u32 = 50;

/// How long the kernel is given to free what it mustn't: it does such things from its workqueues.
const LATER: Duration = Duration::from_millis(30);

/// … and how often it is looked at meanwhile: who looks sleeps in between, so that the workqueues
/// have their turn on a busy machine, too.
const LATER_LOOKS: u32 = 10;

/// The context, in this process or in one to be killed.
enum Subject {
    Here(Client),
    There(Process),
}

impl Subject {
    fn perform(&mut self, event: Event) -> Result<Option<OwnedFd>, Errno> {
        match self {
            Self::Here(client) => client.perform(event),
            Self::There(process) => process.perform(event),
        }
    }
}

/// A fence that was given out, and how it has ended.
struct Fence {
    file: SyncFile,
    status: Option<Result<(), Errno>>,
}

impl Fence {
    fn new(file: OwnedFd) -> Self {
        Self {
            file: file.into(),
            status: None,
        }
    }

    /// Looks whether it has signalled, or waits until it has. It does so once, with one result.
    fn check(&mut self, expected: Answer, must_succeed: bool, whose: &str) -> Outcome {
        if expected == Answer::Yes {
            let waited = self.file.wait(PATIENCE);
            ensure!(waited.is_ok(), "{whose} fence doesn't signal");
        }
        let status = self.file.status()?;
        if let Some(before) = self.status {
            ensure!(
                status == Some(before),
                "{whose} fence was {before:?}, and is {status:?}"
            );
        }
        self.status = status;
        match status {
            None => Ok(()),
            Some(_) if expected == Answer::No => bail!("{whose} fence has signalled early"),
            Some(Err(errno)) if must_succeed => bail!("{whose} fence has signalled with {errno}"),
            Some(_) => Ok(()),
        }
    }
}

/// A sequence that is being played.
struct Play<'a> {
    bed: &'a mut Testbed,
    model: Model,
    context: Option<Subject>,
    signal: Option<HeldFence>,
    go: Option<HeldFence>,
    bind: Option<Fence>,
    submits: [Option<Fence>; Submit::ALL.len()],
    /// TTBR0 and ASID, and whether the device was told to forget them.
    tables: (u64, u64),
    forgotten: bool,
    /// Where the BOs' pages are, as far as that is known.
    first: Vec<u64>,
    second: Vec<u64>,
    /// The bind has run in a VM that was usable.
    bind_succeeds: bool,
    /// A fence had expired by the time that it was to signal.
    expired: bool,
}

/// Why a sequence has gone wrong.
#[derive(Debug)]
pub struct Failure {
    /// What was seen that mustn't be.
    pub why: Error,
    /// A fence that was held has expired meanwhile, as the machine was slow: that may be why.
    pub expired: bool,
}

/// Plays a sequence.
///
/// # Errors
/// See [`Failure`].
pub fn play(bed: &mut Testbed, sequence: &Sequence) -> Result<(), Failure> {
    let mut play = begin(bed, sequence).map_err(|why| {
        let expired = false;
        Failure { why, expired }
    })?;
    play.run(sequence).map_err(|why| {
        let expired = play.has_expired();
        play.give_up();
        Failure { why, expired }
    })
}

fn begin<'a>(bed: &'a mut Testbed, sequence: &Sequence) -> Result<Play<'a>> {
    bed.prepare(sequence.kind).context("before it began")?;
    let signal = HeldFence::new().context("held fence")?;
    let go = sequence
        .has(Event::Queue)
        .then(HeldFence::new)
        .transpose()?;
    let setting = Setting {
        kind: sequence.kind,
        private: sequence.private,
        desk: bed.desk()?,
        signal: signal.file().try_clone()?,
        go: go.as_ref().map(|go| go.file().try_clone()).transpose()?,
    };
    let context = if sequence.has(Event::Kill) {
        Subject::There(Process::new(setting)?)
    } else {
        Subject::Here(Client::new(setting)?)
    };
    ensure_eq!(bed.get(Word::Works), 1, "a new context's first SUBMIT");
    Ok(Play {
        tables: bed.current(),
        bed,
        model: Model::new(sequence.kind, sequence.private),
        context: Some(context),
        signal: Some(signal),
        go,
        bind: None,
        submits: Default::default(),
        forgotten: false,
        first: Vec::new(),
        second: Vec::new(),
        bind_succeeds: false,
        expired: false,
    })
}

impl Play<'_> {
    fn run(&mut self, sequence: &Sequence) -> Outcome {
        self.settle().context("at the beginning")?;
        for event in &sequence.events {
            // What the shrinker has taken isn't always known beforehand.
            if !self.model.can(*event) {
                break;
            }
            self.step(*event).with_context(|| event.to_string())?;
        }
        for event in TAIL {
            if self.model.can(event) {
                self.step(event)
                    .with_context(|| format!("{event} at the end"))?;
            }
        }
        self.check_what_was_run()
    }

    fn step(&mut self, event: Event) -> Outcome {
        let mut next = self.model.clone();
        let refused = next.apply(event);
        if next.file() != File::Open && !next.may_run() {
            self.forget();
        }
        if matches!(event, Event::BindNow | Event::Signal) {
            self.bind_succeeds = next.bind() == Bind::Ran && next.is_usable();
        }
        let ring_writes = self.bed.ring_writes();
        let answer = match event {
            Event::Signal => Self::release(&mut self.signal, &mut self.expired),
            Event::Go => Self::release(&mut self.go, &mut self.expired),
            Event::End => self.let_go(Submit::Run),
            Event::OtherEnds => self.let_go(Submit::Other),
            Event::CloseFile | Event::Kill => {
                self.context = None;
                Ok(None)
            }
            Event::Evict => Ok(None),
            Event::Hang | Event::Fault => {
                self.crash(event)?;
                Ok(None)
            }
            _ => self.perform(event),
        };
        match (answer, refused) {
            (Ok(given), None) => self.keep(event, given)?,
            (Err(errno), Some(expected)) if errno == expected => {}
            (Ok(_), Some(expected)) => bail!("accepted, not {expected}"),
            (Err(errno), expected) => bail!("{errno}, not {expected:?}"),
        }
        let shrinkable = self.model.shrinkable();
        self.model = next;
        if event
            .submit()
            .is_some_and(|submit| self.model.is_behind(submit))
        {
            self.bed.wait_for_ring_write(ring_writes)?;
        }
        if matches!(event, Event::Purge | Event::Evict) {
            self.shrink(shrinkable)?;
        }
        self.settle()
    }

    fn release(held: &mut Option<HeldFence>, expired: &mut bool) -> Result<Option<OwnedFd>, Errno> {
        let Some(held) = held.take() else {
            return Ok(None);
        };
        *expired |= held.has_expired().unwrap_or(false);
        held.signal().map(|()| None)
    }

    fn has_expired(&self) -> bool {
        let mut held = [&self.signal, &self.go].into_iter().flatten();
        self.expired || held.any(|held| held.has_expired().unwrap_or(false))
    }

    fn perform(&mut self, event: Event) -> Result<Option<OwnedFd>, Errno> {
        match &mut self.context {
            Some(context) => context.perform(event),
            None => Err(Errno::EBADF),
        }
    }

    fn let_go(&self, submit: Submit) -> Result<Option<OwnedFd>, Errno> {
        self.bed.set(Word::Go(submit), 1);
        Ok(None)
    }

    /// Keeps the fence that an event has given.
    fn keep(&mut self, event: Event, given: Option<OwnedFd>) -> Outcome {
        let submit = match event {
            Event::Run => Submit::Run,
            Event::Queue => Submit::Queue,
            Event::BringBack => Submit::Back,
            Event::Other => {
                let dma_buf = given.context("the BO's dma-buf")?;
                let fence = self.bed.start_other(dma_buf, FIRST as u64 * PAGE)?;
                self.submits[Submit::Other as usize] = Some(Fence::new(fence));
                return Ok(());
            }
            Event::Bind | Event::BindNow => {
                self.bind = given.map(Fence::new);
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.submits[submit as usize] = given.map(Fence::new);
        Ok(())
    }

    /// The context makes the GPU fault or hang.
    fn crash(&mut self, event: Event) -> Outcome {
        let running = self.model.head() == Some(Submit::Run);
        if event == Event::Fault {
            self.bed.expect_fault(running)?;
        }
        let sent = if running {
            if event == Event::Fault {
                self.bed.set(Word::Go(Submit::Run), 1);
            }
            None
        } else {
            let sent = self.perform(event)?;
            if event == Event::Hang {
                self.bed.wait(Word::Stuck)?;
            }
            sent.map(SyncFile::from)
        };
        let run = self.submits[Submit::Run as usize].as_ref();
        let victim = sent.as_ref().or(run.map(|fence| &fence.file));
        self.bed.recover(event, victim.context("nothing runs")?)
    }

    /// Looks which BOs there are, again while one is missing that must be there: somebody has it
    /// locked.
    fn look(&mut self) -> Result<Seen> {
        let begin = Instant::now();
        let mut looks = 0;
        loop {
            looks += 1;
            let seen = self.bed.look();
            let (first, second) = (self.model.first_lives(), self.model.second_lives());
            let all = seen.as_ref().is_ok_and(|seen| {
                (seen.first || first != Answer::Yes) && (seen.second || second != Answer::Yes)
            });
            if all || (looks >= LOOKS && begin.elapsed() > IN_THE_LIST) {
                return seen;
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// The shrinker looks for BOs.
    fn shrink(&mut self, expected: Answer) -> Outcome {
        let end = Instant::now() + PATIENCE;
        let mut looks = 0;
        let had_pages = self.look()?.second_resident;
        loop {
            debugfs::shrink(1 << 20).context("debugfs shrink")?;
            let seen = self.look()?;
            if had_pages && !seen.second_resident {
                ensure!(
                    !self.model.second_is_held(),
                    "the second BO's pages were taken while it is in use, {}",
                    self.reached()?
                );
                self.model.shrink_second();
            }
            if !seen.first_resident {
                ensure!(
                    expected != Answer::No,
                    "the BO's pages were taken while it is in use, {}",
                    self.reached()?
                );
                self.model.shrink();
                return Ok(());
            }
            // Whoever holds a lock for a moment keeps the shrinker away.
            if expected != Answer::Yes {
                return Ok(());
            }
            looks += 1;
            ensure!(
                looks < LOOKS || Instant::now() < end,
                "the shrinker doesn't take an idle BO"
            );
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits for what must have happened by now, and checks that nothing else has.
    fn settle(&mut self) -> Outcome {
        for submit in Submit::ALL {
            let expected = self.model.signalled(submit);
            let succeeds = self.model.ran(submit) == Answer::Yes;
            if let Some(fence) = &mut self.submits[submit as usize] {
                fence.check(expected, succeeds, &format!("the SUBMIT {submit:?}'s"))?;
            }
        }
        if let Some(fence) = &mut self.bind {
            let expected = self.model.bind_signalled();
            fence.check(expected, self.bind_succeeds, "the bind's")?;
        }
        if self.forgotten {
            // What has run since has loaded them again.
            self.bed.forget(self.tables.0);
        }
        if let Some(head @ (Submit::Run | Submit::Other)) = self.model.head() {
            self.bed.wait(Word::Begun(head))?;
        }
        if self.model.has_ended(Submit::Other) {
            self.bed.end_other()?;
        }
        self.check_tables()?;
        self.check_bos()
    }

    /// The page tables lead to what the model says, and the TLB nowhere else.
    fn check_tables(&mut self) -> Outcome {
        let (Some(tables), false) = (self.model.tables(), self.forgotten) else {
            return Ok(());
        };
        let row = self.bed.row(self.tables, WINDOW as u64)?;
        let mapped = desk::Desk::mapped(&tables);
        ensure!(
            row.mapped == mapped,
            "mapped pages: {:#b}, not {mapped:#b}",
            row.mapped
        );
        ensure!(
            row.stale == 0,
            "stale TLB entries for pages {:#b}",
            row.stale
        );
        if tables[..FIRST].contains(&Cell::First) && self.first.len() != FIRST {
            self.first = self.pages_of(&tables, Cell::First)?;
        }
        if tables.contains(&Cell::Second) && self.second.is_empty() {
            self.second = self.pages_of(&tables, Cell::Second)?;
        }
        Ok(())
    }

    fn pages_of(&self, tables: &[Cell; WINDOW], cell: Cell) -> Result<Vec<u64>> {
        let mut pages = Vec::new();
        for page in (0..WINDOW).filter(|page| tables[*page] == cell) {
            match self.bed.translate(self.tables.0, page)? {
                Translation::Mapped(pa) => pages.push(pa),
                other => bail!("page {page} is {other:?}"),
            }
        }
        Ok(pages)
    }

    /// Each BO is there that has to be, with its pages, and none that nobody needs.
    fn check_bos(&mut self) -> Outcome {
        let begin = Instant::now();
        let mut looks = 0;
        loop {
            looks += 1;
            // Some things happen a little later; and a BO that somebody has locked may be missing
            // in the list, though not for long.
            let (wrong, patience) = match self.bed.look() {
                Ok(seen) => match self.judge(&seen) {
                    Some(wrong) => wrong,
                    None => match self.check_reach(&seen) {
                        Ok(())
                            if self.model.outlives_its_file()
                                && (begin.elapsed() < LATER || looks < LATER_LOOKS) =>
                        {
                            sleep(Duration::from_millis(2));
                            continue;
                        }
                        Ok(()) => return Ok(()),
                        Err(e) => (format!("{e:#}"), IN_THE_LIST),
                    },
                },
                Err(e) => (format!("{e:#}"), PATIENCE),
            };
            if looks >= LOOKS && begin.elapsed() > patience {
                bail!("{wrong}, {}", self.reached()?);
            }
            sleep(Duration::from_millis(1));
        }
    }

    fn judge(&self, seen: &Seen) -> Option<(String, Duration)> {
        let judged = |there: bool, expected: Answer, which: &str| match (there, expected) {
            (true, Answer::No) => Some((format!("the {which} BO is still there"), PATIENCE)),
            (false, Answer::Yes) => Some((format!("the {which} BO is gone"), IN_THE_LIST)),
            _ => None,
        };
        let taken = self.model.first_lives() == Answer::Yes
            && self.model.pages() == Pages::Resident
            && !seen.first_resident;
        judged(seen.first, self.model.first_lives(), "first")
            .or_else(|| judged(seen.second, self.model.second_lives(), "second"))
            .or_else(|| taken.then(|| ("the first BO has lost its pages".into(), IN_THE_LIST)))
    }

    /// Pages that have been given back are out of the GPU's reach.
    fn check_reach(&mut self, seen: &Seen) -> Outcome {
        if !seen.first || !seen.first_resident {
            self.check_unreachable(&self.first, Cell::First)?;
            // Should it come back, it is somewhere else.
            if seen.first {
                self.first.clear();
            }
        }
        if !seen.second || !seen.second_resident {
            self.check_unreachable(&self.second, Cell::Second)?;
            if seen.second {
                self.second.clear();
            }
        }
        Ok(())
    }

    fn check_unreachable(&self, pages: &[u64], was: Cell) -> Outcome {
        for page in pages {
            if let Some(how) = self.reach(*page, was)? {
                bail!("page {page:#x} of the {was:?} BO was given back, and is {how}");
            }
        }
        Ok(())
    }

    /// How a page is reached, unless it belongs to somebody else by now.
    fn reach(&self, page: u64, was: Cell) -> Result<Option<String>> {
        let reach = self.bed.reach(page)?;
        if reach.how & (watch::BY_TABLE | watch::BY_TLB) == 0 {
            return Ok(None);
        }
        let Some(at) = self.bed.page_of(reach.iova) else {
            return Ok(None);
        };
        let is = match self.model.tables() {
            Some(tables) if reach.ttbr0 == self.tables.0 => tables[at],
            _ => was,
        };
        Ok((is == Cell::Empty || is == was).then(|| {
            format!(
                "reached at {:#x}, by TTBR0 {:#x} ({:#x})",
                reach.iova, reach.ttbr0, reach.how
            )
        }))
    }

    /// What of the BOs the GPU reaches, for a message.
    fn reached(&self) -> Result<String> {
        let mut text = Vec::new();
        for (pages, was) in [(&self.first, Cell::First), (&self.second, Cell::Second)] {
            for page in pages {
                if let Some(how) = self.reach(*page, was)? {
                    text.push(format!("the {was:?} BO's page {page:#x} is {how}"));
                }
            }
        }
        Ok(if text.is_empty() {
            "the GPU reaches neither".into()
        } else {
            text.join(", ")
        })
    }

    /// Before the context's page tables may be given back, the device forgets them.
    fn forget(&mut self) {
        if !self.forgotten {
            self.bed.forget(self.tables.0);
            self.forgotten = true;
        }
    }

    fn check_what_was_run(&self) -> Outcome {
        for submit in Submit::ALL {
            let done = self.bed.get(Word::Done(submit));
            match self.model.ran(submit) {
                Answer::Yes => ensure_eq!(done, 1, "the SUBMIT {submit:?} was run"),
                Answer::No => ensure_eq!(done, 0, "the SUBMIT {submit:?} was run"),
                Answer::Maybe => {}
            }
            if submit == Submit::Back && self.model.ran(submit) == Answer::Yes {
                let content = desk::content(self.model.back_read_first());
                ensure_eq!(
                    self.bed.get(Word::Read),
                    content,
                    "what it read of the first BO"
                );
            }
        }
        Ok(())
    }

    /// Something was wrong: ends everything, for what comes next.
    fn give_up(&mut self) {
        for submit in Submit::ALL {
            self.bed.set(Word::Go(submit), 1);
        }
        self.bed.set(Word::Never, 1);
        self.signal = None;
        self.go = None;
        self.context = None;
        self.forget();
        self.bed.clear_up();
    }
}
