// SPDX-License-Identifier: GPL-2.0-only

//! What the driver should do with a program: every answer, the page tables after each job, the
//! contents of the BOs.
//!
//! A submit that waits for a fence also waits for the binds before it, since its user says so. The
//! VMA tree changes when an ioctl returns, the page tables when its job has run. A job runs once
//! the fence that it waits for is signalled, the jobs before it on its queue have run, and those
//! before it that touch the same pages have.

use crate::program::{Change, End, Kind, Mistake, Op, BOS, FENCES, PAGES, QUEUES};
use std::{collections::BTreeSet, fmt::Write};
use uapi::Errno;

/// What is at a page of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cell {
    #[default]
    Empty,
    Null,
    Page {
        bo: usize,
        page: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Needed,
    NotNeeded,
    Purged,
}

/// A BO, with or without a handle.
#[derive(Clone, Debug)]
struct Bo {
    /// It has been mapped: the driver may take a while to forget that.
    was_mapped: bool,
    kind: Kind,
    need: Need,
    /// The second dword of each page; the first tells BO and page.
    words: Vec<u32>,
}

/// A bind, or a submit that waits for a fence.
#[derive(Clone, Debug)]
struct Job {
    /// The queue for VM_BIND; `None`: the one for waiting submits.
    queue: Option<usize>,
    after: Option<usize>,
    after_job: Option<usize>,
    changes: Vec<(u8, Vec<Cell>)>,
    writes: Vec<(u8, u32)>,
    /// BOs that it maps, and BOs that it unmaps; for a submit, those that the VM maps.
    maps: BTreeSet<usize>,
    unmaps: BTreeSet<usize>,
    done: bool,
}

impl Job {
    fn touches(&self, page: usize) -> bool {
        self.changes
            .iter()
            .any(|(at, cells)| (usize::from(*at)..usize::from(*at) + cells.len()).contains(&page))
    }

    fn overlaps(&self, other: &Self) -> bool {
        (0..usize::from(PAGES)).any(|page| self.touches(page) && other.touches(page))
    }
}

/// What an op is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It makes no sense here, and isn't done.
    Skip,
    /// It succeeds.
    Ok,
    /// It fails.
    Errno(Errno),
    /// Madvise: whether the pages are still there.
    Retained(bool),
}

/// The state of a program's context.
#[derive(Clone, Debug)]
pub struct Model {
    bos: Vec<Bo>,
    places: [Option<usize>; BOS as usize],
    tree: [Cell; PAGES as usize],
    tables: [Cell; PAGES as usize],
    jobs: Vec<Job>,
    /// Each queue that a place has had is a queue of its own.
    queues: [usize; QUEUES as usize],
    queues_made: usize,
    fences: [Option<usize>; FENCES as usize],
    /// Held fences, and whether they have been signalled.
    signalled: Vec<bool>,
    /// Defects of the C memory manager that the program would run into.
    pub defects: BTreeSet<u32>,
}

impl Default for Model {
    fn default() -> Self {
        let mut queues = [0; QUEUES as usize];
        (0..).zip(&mut queues).for_each(|(n, queue)| *queue = n);
        Self {
            bos: Vec::new(),
            places: Default::default(),
            tree: [Cell::Empty; PAGES as usize],
            tables: [Cell::Empty; PAGES as usize],
            jobs: Vec::new(),
            queues,
            queues_made: QUEUES.into(),
            fences: Default::default(),
            signalled: Vec::new(),
            defects: BTreeSet::new(),
        }
    }
}

fn stretch(at: u8, count: u8) -> std::ops::Range<usize> {
    at.into()..usize::from(at) + usize::from(count)
}

impl Model {
    /// The BO at a place: its number counts from the program's first, and its size is in pages.
    pub fn bo(&self, place: u8) -> Option<(u32, u8)> {
        let bo = self.places[usize::from(place)]?;
        Some((bo as u32 + 1, self.bos[bo].words.len() as u8))
    }

    /// The number that the next BO gets.
    pub fn next_bo(&self) -> u32 {
        self.bos.len() as u32 + 1
    }

    /// Whether the shrinker has taken a BO's pages.
    pub fn is_purged(&self, place: u8) -> bool {
        self.places[usize::from(place)].is_some_and(|bo| self.bos[bo].need == Need::Purged)
    }

    /// Whether a BO's pages may be looked at through the CPU.
    pub fn is_readable(&self, place: u8) -> bool {
        self.places[usize::from(place)].is_some_and(|bo| self.bos[bo].need == Need::Needed)
    }

    /// For each job so far, whether it should have run.
    pub fn jobs(&self) -> impl Iterator<Item = bool> + '_ {
        self.jobs.iter().map(|job| job.done)
    }

    /// Whether a SUBMIT would be refused since a BO that is mapped has been purged.
    pub fn is_broken(&self) -> bool {
        self.tree
            .iter()
            .any(|cell| matches!(cell, Cell::Page { bo, .. } if self.bos[*bo].need == Need::Purged))
    }

    fn pages(&self, what: impl Fn(Cell) -> bool) -> u64 {
        (0..)
            .zip(self.tables)
            .filter(|(_, cell)| what(*cell))
            .fold(0, |bits, (page, _)| bits | (1 << page))
    }

    /// The pages that the GPU can read.
    pub fn mapped(&self) -> u64 {
        self.pages(|cell| cell != Cell::Empty)
    }

    /// The pages that the GPU can write.
    pub fn writable(&self) -> u64 {
        self.pages(|cell| match cell {
            Cell::Empty => false,
            Cell::Null => true,
            Cell::Page { bo, .. } => self.bos[bo].kind != Kind::ReadOnly,
        })
    }

    /// The op, but for accesses of the GPU that would fault, now or later.
    pub fn without_faults(&self, op: &Op) -> Op {
        match op {
            Op::Submit { writes, .. } => Op::Submit {
                writes: writes
                    .iter()
                    .copied()
                    .filter(|(at, _)| self.writable() & (1 << at) != 0)
                    .collect(),
                after: None,
            },
            Op::Fork { op } => Op::Fork {
                op: Box::new(self.without_faults(op)),
            },
            op => op.clone(),
        }
    }

    /// Whether a submit waits.
    fn submit_waits(&self) -> bool {
        self.jobs.iter().any(|job| !job.done && job.queue.is_none())
    }

    /// Whether every BO of these ops is there and large enough for them.
    fn makes_sense(&self, changes: &[Change]) -> bool {
        changes.iter().all(|change| match change {
            Change::Map {
                bo, first, count, ..
            } => self
                .bo(*bo)
                .is_some_and(|(_, pages)| first + count <= pages),
            _ => true,
        })
    }

    /// How an op should be answered.
    pub fn expect(&self, op: &Op) -> Expected {
        let there = |bo: &u8| self.places[usize::from(*bo)];
        match op {
            Op::Fork { op } => self.expect(op),
            // A submit's fence goes to all BOs of the VM, perhaps to one still that was unmapped
            // just before.
            Op::Shrink
                if self.submit_waits()
                    && self
                        .bos
                        .iter()
                        .any(|bo| bo.was_mapped && bo.need == Need::NotNeeded) =>
            {
                Expected::Skip
            }
            Op::New { .. } | Op::Shrink | Op::Reopen { .. } | Op::Hold { .. } => Expected::Ok,
            Op::Close { bo } | Op::Info { bo } if there(bo).is_none() => Expected::Skip,
            Op::Close { .. } | Op::Info { .. } => Expected::Ok,
            Op::Madvise { bo, .. } => match there(bo) {
                None => Expected::Skip,
                Some(bo) => Expected::Retained(self.bos[bo].need != Need::Purged),
            },
            Op::Signal { fence } if self.fences[usize::from(*fence)].is_none() => Expected::Skip,
            Op::Signal { .. } => Expected::Ok,
            Op::Bind { changes, .. } if !self.makes_sense(changes) => Expected::Skip,
            // Which of them comes first would be nobody's promise.
            Op::Bind {
                queue,
                changes,
                after,
                after_job,
            } if self.submit_waits() && self.would_wait(*queue, changes, *after, *after_job) => {
                Expected::Skip
            }
            Op::Bind { changes, .. } => {
                let unneeded = changes.iter().any(|change| {
                    matches!(change, Change::Map { bo, .. }
                        if there(bo).is_some_and(|bo| self.bos[bo].need != Need::Needed))
                });
                if unneeded {
                    Expected::Errno(Errno::EBUSY)
                } else {
                    Expected::Ok
                }
            }
            Op::Refused { changes, mistake } => {
                // What the mistake is made with.
                let needs_bo = matches!(mistake, Mistake::BeyondBo | Mistake::Offset);
                if !self.makes_sense(changes) || needs_bo && there(&0).is_none() {
                    Expected::Skip
                } else if *mistake == Mistake::NoQueue {
                    Expected::Errno(Errno::ENOENT)
                } else {
                    Expected::Errno(Errno::EINVAL)
                }
            }
            Op::Submit { .. } if self.is_broken() => Expected::Errno(Errno::EBUSY),
            Op::Submit { .. } => Expected::Ok,
        }
    }

    /// Notes which of C's defects an op meets that is refused.
    pub fn meets(&mut self, op: &Op) {
        match op {
            Op::Fork { op } => self.meets(op),
            Op::Submit { .. } => {
                self.defects.insert(5);
            }
            _ => {}
        }
    }

    /// Notes which of C's defects the program's end meets.
    pub fn ends(&mut self, end: End) {
        if end == End::Abrupt && self.is_waiting() {
            self.defects.insert(10);
        }
    }

    /// Notes what an op does that succeeds.
    pub fn done(&mut self, op: &Op) {
        match op {
            Op::New { bo, pages, kind } => {
                self.places[usize::from(*bo)] = Some(self.bos.len());
                self.bos.push(Bo {
                    was_mapped: false,
                    kind: *kind,
                    need: Need::Needed,
                    words: vec![0; usize::from(*pages)],
                });
            }
            Op::Close { bo } => self.places[usize::from(*bo)] = None,
            Op::Madvise { bo, needed } => {
                let Some(bo) = self.places[usize::from(*bo)] else {
                    return;
                };
                let need = &mut self.bos[bo].need;
                if *need != Need::Purged {
                    *need = if *needed {
                        Need::Needed
                    } else {
                        Need::NotNeeded
                    };
                }
            }
            Op::Shrink => self.shrink(),
            Op::Bind {
                queue,
                changes,
                after,
                after_job,
            } => self.bind(*queue, changes, *after, *after_job),
            Op::Fork { op } => self.done(op),
            Op::Submit { writes, after } => match self.held(*after) {
                None => self.write(writes),
                after => {
                    self.jobs.push(Job {
                        queue: None,
                        after,
                        after_job: None,
                        changes: Vec::new(),
                        writes: writes.clone(),
                        maps: BTreeSet::new(),
                        unmaps: BTreeSet::new(),
                        done: false,
                    });
                    self.run();
                }
            },
            Op::Hold { fence } => {
                self.signal(*fence);
                self.fences[usize::from(*fence)] = Some(self.signalled.len());
                self.signalled.push(false);
            }
            Op::Signal { fence } => self.signal(*fence),
            Op::Reopen { queue } => {
                self.queues[usize::from(*queue)] = self.queues_made;
                self.queues_made += 1;
            }
            Op::Info { .. } | Op::Refused { .. } => {}
        }
    }

    /// Whether anything waits.
    pub fn is_waiting(&self) -> bool {
        self.jobs.iter().any(|job| !job.done)
    }

    /// Signals all fences that are still held.
    pub fn signal_all(&mut self) {
        (0..FENCES).for_each(|fence| self.signal(fence));
    }

    fn signal(&mut self, fence: u8) {
        if let Some(fence) = self.fences[usize::from(fence)].take() {
            self.signalled[fence] = true;
            self.run();
        }
    }

    fn would_wait(
        &self,
        queue: u8,
        changes: &[Change],
        after: Option<u8>,
        after_job: Option<u8>,
    ) -> bool {
        let mut model = self.clone();
        model.bind(queue, changes, after, after_job);
        !model.jobs[self.jobs.len()].done
    }

    fn write(&mut self, writes: &[(u8, u32)]) {
        for (at, value) in writes {
            if let Cell::Page { bo, page } = self.tables[usize::from(*at)] {
                let bo = &mut self.bos[bo];
                if bo.kind != Kind::ReadOnly {
                    bo.words[page] = *value;
                }
            }
        }
    }

    /// The fence at a place.
    fn held(&self, place: Option<u8>) -> Option<usize> {
        self.fences[usize::from(place?)]
    }

    fn bind(&mut self, queue: u8, changes: &[Change], after: Option<u8>, after_job: Option<u8>) {
        let mut job = Job {
            queue: Some(self.queues[usize::from(queue)]),
            after: self.held(after),
            after_job: after_job
                .map(usize::from)
                .filter(|job| *job < self.jobs.len()),
            changes: Vec::new(),
            writes: Vec::new(),
            maps: BTreeSet::new(),
            unmaps: BTreeSet::new(),
            done: false,
        };
        for change in changes {
            let (at, cells) = match *change {
                Change::Map {
                    bo,
                    first,
                    at,
                    count,
                    ..
                } => {
                    let bo = self.places[usize::from(bo)].expect("looked at before");
                    job.maps.insert(bo);
                    self.bos[bo].was_mapped = true;
                    let cells = stretch(first, count)
                        .map(|page| Cell::Page { bo, page })
                        .collect();
                    (at, cells)
                }
                Change::Null { at, count } => (at, vec![Cell::Null; count.into()]),
                Change::Unmap { at, count } => (at, vec![Cell::Empty; count.into()]),
            };
            for (page, cell) in (usize::from(at)..).zip(&cells) {
                if let Cell::Page { bo, .. } = self.tree[page] {
                    job.unmaps.insert(bo);
                }
                self.tree[page] = *cell;
            }
            job.changes.push((at, cells));
        }
        let crossing =
            |earlier: &&Job| !earlier.done && earlier.queue != job.queue && earlier.overlaps(&job);
        if self.jobs.iter().any(|earlier| crossing(&earlier)) {
            self.defects.insert(16);
        }
        self.jobs.push(job);
        self.run();
    }

    /// Runs the jobs that nothing holds back.
    fn run(&mut self) {
        for n in 0..self.jobs.len() {
            let (earlier, later) = self.jobs.split_at_mut(n);
            let job = &mut later[0];
            let held = job.after.is_some_and(|fence| !self.signalled[fence])
                || job.after_job.is_some_and(|other| !earlier[other].done)
                || earlier
                    .iter()
                    .any(|other| !other.done && (other.queue == job.queue || other.overlaps(job)))
                || job.queue.is_none() && earlier.iter().any(|other| !other.done);
            if job.done || held {
                continue;
            }
            job.done = true;
            let job = self.jobs[n].clone();
            for (at, cells) in &job.changes {
                for (page, cell) in (usize::from(*at)..).zip(cells) {
                    self.tables[page] = *cell;
                }
            }
            self.write(&job.writes);
        }
    }

    fn shrink(&mut self) {
        let mut gone = BTreeSet::new();
        for (n, bo) in self.bos.iter().enumerate() {
            if bo.need != Need::NotNeeded {
                continue;
            }
            let waiting = || self.jobs.iter().filter(|job| !job.done);
            // A private BO shares the reservation of its VM, which every job of the VM uses.
            let busy = waiting().any(|job| {
                bo.kind == Kind::Private || job.maps.contains(&n) || job.unmaps.contains(&n)
            });
            if waiting().any(|job| job.unmaps.contains(&n)) {
                self.defects.insert(3);
            }
            // C's jobs have their fence in that reservation only if they map private BOs.
            let maps_private = |job: &Job| {
                let mut maps = job.maps.iter();
                maps.any(|&bo| self.bos[bo].kind == Kind::Private)
            };
            if bo.kind == Kind::Private && busy && !waiting().any(maps_private) {
                self.defects.insert(31);
            }
            if !busy {
                gone.insert(n);
            }
        }
        for bo in &gone {
            self.bos[*bo].need = Need::Purged;
        }
        for cell in &mut self.tables {
            if matches!(cell, Cell::Page { bo, .. } if gone.contains(bo)) {
                *cell = Cell::Empty;
            }
        }
    }

    /// What the window and the BOs look like, as text.
    pub fn view(&self) -> String {
        let readable = !self.is_broken();
        let mut text = String::new();
        for cell in self.tables {
            let _ = match cell {
                Cell::Empty => write!(text, ". "),
                Cell::Page { bo, .. } if !readable => {
                    write!(text, "{} ", mode(self.bos[bo].kind == Kind::ReadOnly))
                }
                Cell::Null if !readable => write!(text, "{} ", mode(false)),
                Cell::Null => write!(text, "{} ", seen(false, 0, 0)),
                Cell::Page { bo, page } => {
                    let of = &self.bos[bo];
                    let tag = programs::pattern(bo as u32 + 1, page);
                    let text_of = seen(of.kind == Kind::ReadOnly, tag, of.words[page]);
                    write!(text, "{text_of} ")
                }
            };
        }
        for place in 0..BOS {
            let Some(bo) = self.places[usize::from(place)].filter(|_| self.is_readable(place))
            else {
                continue;
            };
            let _ = write!(text, "| ");
            for (page, word) in self.bos[bo].words.iter().enumerate() {
                let _ = write!(
                    text,
                    "{} ",
                    seen(false, programs::pattern(bo as u32 + 1, page), *word)
                );
            }
        }
        text
    }
}

/// How a mapped page appears whose contents can't be looked at.
pub fn mode(read_only: bool) -> &'static str {
    if read_only {
        "r"
    } else {
        "w"
    }
}

/// How a page appears: its first two dwords.
pub fn seen(read_only: bool, tag: u32, word: u32) -> String {
    let mode = if read_only { "r" } else { "" };
    if tag == 0 {
        return format!("{mode}null{}", if word == 0 { "" } else { "?" });
    }
    let (bo, page) = ((tag >> 20) & 0x7ff, tag & 0xf_ffff);
    if word == 0 {
        format!("{mode}{bo}.{page}")
    } else {
        format!("{mode}{bo}.{page}={word:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;

    fn map(bo: u8, at: u8, count: u8) -> Change {
        Change::Map {
            bo,
            first: 0,
            at,
            count,
            dump: false,
        }
    }

    fn bind(queue: u8, changes: Vec<Change>, after: Option<u8>) -> Op {
        Op::Bind {
            queue,
            changes,
            after,
            after_job: None,
        }
    }

    fn play(ops: &[Op]) -> Model {
        let mut model = Model::default();
        for op in ops {
            match model.expect(op) {
                Expected::Skip => {}
                Expected::Errno(_) => model.meets(op),
                Expected::Ok | Expected::Retained(_) => model.done(op),
            }
        }
        model
    }

    const NEW: Op = Op::New {
        bo: 0,
        pages: 4,
        kind: Kind::Plain,
    };
    const NOT_NEEDED: Op = Op::Madvise {
        bo: 0,
        needed: false,
    };
    const NEEDED: Op = Op::Madvise {
        bo: 0,
        needed: true,
    };

    #[test]
    fn a_held_bind_waits_and_so_do_those_behind_it() {
        let mut ops = vec![
            NEW,
            Op::Hold { fence: 0 },
            bind(0, vec![map(0, 0, 2)], Some(0)),
            bind(0, vec![], None),
            bind(1, vec![map(0, 8, 2)], None),
            bind(1, vec![Change::Unmap { at: 1, count: 1 }], None),
        ];
        let model = play(&ops);
        assert_eq!(
            model.jobs().collect::<Vec<_>>(),
            [false, false, true, false]
        );
        assert_eq!(model.mapped(), 0x300);
        assert!(model.defects.contains(&16));
        ops.push(Op::Signal { fence: 0 });
        let model = play(&ops);
        assert!(model.jobs().all(|done| done));
        assert_eq!(model.mapped(), 0x301);
    }

    #[test]
    fn waiting_unmaps_keep_the_pages() {
        let waiting = [
            NEW,
            bind(0, vec![map(0, 0, 4)], None),
            Op::Hold { fence: 0 },
            bind(0, vec![Change::Unmap { at: 0, count: 4 }], Some(0)),
            NOT_NEEDED,
            Op::Shrink,
        ];
        let model = play(&waiting);
        assert_eq!(model.expect(&NEEDED), Expected::Retained(true));
        assert!(model.defects.contains(&3));
        let [.., shrink] = waiting.clone();
        let after = [waiting.as_slice(), &[Op::Signal { fence: 0 }, shrink]].concat();
        assert_eq!(play(&after).expect(&NEEDED), Expected::Retained(false));
    }

    #[test]
    fn jobs_keep_the_private_pages_of_their_vm() {
        let ops = [
            Op::New {
                bo: 0,
                pages: 4,
                kind: Kind::Private,
            },
            Op::Hold { fence: 0 },
            bind(0, vec![Change::Unmap { at: 9, count: 4 }], Some(0)),
            NOT_NEEDED,
            Op::Shrink,
        ];
        let model = play(&ops);
        assert_eq!(model.expect(&NEEDED), Expected::Retained(true));
        assert!(model.defects.contains(&31));
    }

    #[test]
    fn purged_and_mapped_is_broken() {
        let model = play(&[
            NEW,
            bind(0, vec![map(0, 0, 4)], None),
            NOT_NEEDED,
            Op::Shrink,
        ]);
        assert!(model.is_broken());
        assert_eq!(model.mapped(), 0);
    }

    /// The generator's programs reach what they are meant to reach.
    #[test]
    fn programs_are_worth_running() {
        let (mut waited, mut mapped, mut excepted) = (0, 0, 0);
        const COUNT: u64 = 5000;
        for seed in 0..COUNT {
            let model = play(&Program::new(seed).ops);
            waited += u64::from(model.jobs().any(|done| !done));
            mapped += u64::from(model.mapped() != 0);
            excepted += u64::from(!model.defects.is_empty());
        }
        assert!(waited > COUNT / 20, "{waited} of {COUNT} wait at the end");
        assert!(mapped > COUNT / 2, "{mapped} of {COUNT} map something");
        assert!(excepted < COUNT / 4, "{excepted} of {COUNT} meet a defect");
    }
}
