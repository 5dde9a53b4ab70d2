// SPDX-License-Identifier: GPL-2.0-only

//! What the driver should make of the events: what can happen next, what is answered, which fences
//! have signalled, what is mapped, and which BOs are there. No kernel is needed for it.
//!
//! - The VMA tree changes when a request returns, the page tables when its job has run, which is
//!   when its fence has signalled. A closed file's job changes nothing.
//! - The GPU has one ring. What begins to wait at its head keeps everything behind it back.
//! - A fault or a hang makes the VM unusable: requests get EPIPE, what was sent earlier doesn't run
//!   any more. The bind still takes away what it replaces, and puts nothing there.
//! - What the page tables lead to is there, and has its pages. Once the file is closed, and the GPU
//!   has ended what it had begun for it, they lead nowhere.
//! - The shrinker takes no BO that has an unsignalled fence.

mod expected;

use super::event::{Event, Kind};
use uapi::Errno;

/// Pages that are looked at, from the first BO's address on.
pub const WINDOW: usize = 8;
/// Pages of the first BO.
pub const FIRST: usize = 2;
/// Pages of the second BO.
pub const SECOND: usize = 3;
/// Where in the window nothing is mapped to begin with.
const NEW: usize = 4;

/// What is at a page of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    #[default]
    Empty,
    /// MAP_NULL.
    Null,
    /// The first BO, which is mapped to begin with.
    First,
    /// The second BO, which the bind maps.
    Second,
}

/// Who sent a SUBMIT, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submit {
    /// [`Event::Run`].
    Run,
    /// [`Event::Queue`].
    Queue,
    /// [`Event::Other`].
    Other,
    /// [`Event::BringBack`].
    Back,
}

impl Submit {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Run, Self::Queue, Self::Other, Self::Back];
}

/// An answer that depends on what nobody sees from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It must not be.
    No,
    /// Either will do.
    Maybe,
    /// It must be.
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unsent,
    /// Waits for its fence.
    Waits,
    /// In the ring.
    Begun,
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Work {
    stage: Stage,
    /// It was let go.
    released: bool,
    /// Its fence is one of the first BO's, and of the second's.
    holds_first: bool,
    holds_second: bool,
    /// Whether its commands are run.
    runs: Answer,
    /// What [`Submit::Back`] reads: the first BO's content.
    reads_first: bool,
}

/// What has become of the bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// It wasn't sent.
    Unsent,
    /// It waits for its fence.
    Waits,
    /// Its file was closed before that.
    Cancelled,
    /// … and its fence has signalled since.
    Over,
    /// It has run.
    Ran,
}

/// The file, and so the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Open.
    Open,
    /// Closed by its process.
    Closed,
    /// Its process was killed.
    Killed,
}

/// The first BO's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// In memory.
    Resident,
    /// In swap.
    Swapped,
    /// Gone.
    Purged,
}

/// The state of everything.
#[derive(Clone, Debug)]
pub struct Model {
    kind: Kind,
    private: bool,
    file: File,
    usable: bool,
    handles: bool,
    bind: Bind,
    works: [Work; Submit::ALL.len()],
    ring: Vec<Submit>,
    tree: [Cell; WINDOW],
    tables: [Cell; WINDOW],
    other_maps: bool,
    other_evicted: bool,
    pages: Pages,
    needed: bool,
    shrunk: bool,
}

impl Model {
    /// The first BO is mapped, nothing was sent.
    pub fn new(kind: Kind, private: bool) -> Self {
        let mut tree = [Cell::Empty; WINDOW];
        tree[..FIRST].fill(Cell::First);
        let work = Work {
            stage: Stage::Unsent,
            released: false,
            holds_first: false,
            holds_second: false,
            runs: Answer::No,
            reads_first: false,
        };
        Self {
            kind,
            private,
            file: File::Open,
            usable: true,
            handles: true,
            bind: Bind::Unsent,
            works: [work; Submit::ALL.len()],
            ring: Vec::new(),
            tree,
            tables: tree,
            other_maps: false,
            other_evicted: false,
            pages: Pages::Resident,
            needed: true,
            shrunk: false,
        }
    }

    /// What the bind changes: first page, number of pages, and what is there afterwards.
    pub fn change(kind: Kind) -> (usize, usize, Cell) {
        match kind {
            Kind::Unmap => (0, FIRST, Cell::Empty),
            Kind::UnmapPart => (0, 1, Cell::Empty),
            Kind::MapOver => (0, FIRST, Cell::Second),
            Kind::MapPart => (0, 1, Cell::Second),
            Kind::NullOver => (0, FIRST, Cell::Null),
            Kind::MapNew => (NEW, SECOND, Cell::Second),
        }
    }

    fn work(&mut self, submit: Submit) -> &mut Work {
        &mut self.works[submit as usize]
    }

    fn stage(&self, submit: Submit) -> Stage {
        self.works[submit as usize].stage
    }

    /// Whether a submit was sent.
    pub fn is_sent(&self, submit: Submit) -> bool {
        self.stage(submit) != Stage::Unsent
    }

    /// Whether a submit has ended.
    pub fn has_ended(&self, submit: Submit) -> bool {
        self.stage(submit) == Stage::Ended
    }

    /// The submit at the head of the ring.
    pub fn head(&self) -> Option<Submit> {
        self.ring.first().copied()
    }

    /// What has become of the file.
    pub fn file(&self) -> File {
        self.file
    }

    /// What has become of the bind.
    pub fn bind(&self) -> Bind {
        self.bind
    }

    /// Whether the VM takes requests.
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// Where the first BO's pages should be.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// What the page tables should lead to. `None`: the file is closed, and they may be gone
    /// already.
    pub fn tables(&self) -> Option<[Cell; WINDOW]> {
        (self.file == File::Open || self.is_running()).then_some(self.tables)
    }

    /// Whether the other context should have the first BO in its page tables.
    pub fn other_reaches_first(&self) -> bool {
        self.other_maps && !self.other_evicted
    }

    /// Whether some submit of the context isn't over, so that the GPU may still load its page
    /// tables.
    pub fn may_run(&self) -> bool {
        self.in_flight()
            .any(|submit| !matches!(submit, Submit::Other))
    }

    fn in_flight(&self) -> impl Iterator<Item = Submit> + '_ {
        let flies = |stage| matches!(stage, Stage::Waits | Stage::Begun);
        Submit::ALL
            .into_iter()
            .filter(move |submit| flies(self.stage(*submit)))
    }

    /// Whether the file is closed, and the GPU still at work for it: what it uses mustn't go, not
    /// even a little later.
    pub fn outlives_its_file(&self) -> bool {
        self.file != File::Open && self.is_running()
    }

    /// Whether the GPU has certainly begun something of the context's.
    fn is_running(&self) -> bool {
        self.head() == Some(Submit::Run)
    }

    /// Whether a submit is in the ring, behind another one.
    pub fn is_behind(&self, submit: Submit) -> bool {
        self.head() != Some(submit)
            && self.ring.contains(&submit)
            && self.works[submit as usize].runs == Answer::Yes
    }

    fn may_be_in_ring(&self) -> bool {
        self.ring.iter().any(|submit| *submit != Submit::Other)
    }

    fn has(cells: &[Cell], cell: Cell) -> bool {
        cells.contains(&cell)
    }

    fn purged_is_mapped(&self) -> bool {
        self.pages == Pages::Purged && Self::has(&self.tree, Cell::First)
    }

    /// Whether an event can happen now.
    pub fn can(&self, event: Event) -> bool {
        let open = self.file == File::Open;
        let unsent = |submit| self.stage(submit) == Stage::Unsent;
        let waits_in_ring = |submit: Submit| {
            self.stage(submit) == Stage::Begun && !self.works[submit as usize].released
        };
        match event {
            Event::Bind | Event::BindNow => {
                open && self.bind == Bind::Unsent && (self.handles || !self.kind.maps())
            }
            Event::Signal => matches!(self.bind, Bind::Waits | Bind::Cancelled),
            Event::Run => open && unsent(Submit::Run),
            Event::End => waits_in_ring(Submit::Run),
            Event::Queue => open && unsent(Submit::Queue),
            Event::Go => self.stage(Submit::Queue) == Stage::Waits,
            Event::Other => {
                open && !self.private && self.handles && self.needed && unsent(Submit::Other)
            }
            Event::OtherEnds => waits_in_ring(Submit::Other),
            Event::Fault | Event::Hang => {
                self.usable
                    && match self.head() {
                        None => open && !self.purged_is_mapped(),
                        Some(head) => head == Submit::Run,
                    }
            }
            Event::CloseHandle => open && self.handles,
            Event::CloseFile | Event::Kill => open,
            Event::Purge => open && self.handles && !self.shrunk,
            Event::Evict => !self.shrunk && self.first_lives() == Answer::Yes,
            Event::BringBack => open && self.shrunk && unsent(Submit::Back),
        }
    }

    /// Why a request is refused.
    fn refusal(&self, is_submit: bool) -> Option<Errno> {
        if !self.usable {
            Some(Errno::EPIPE)
        } else if is_submit && self.purged_is_mapped() {
            Some(Errno::EBUSY)
        } else {
            None
        }
    }

    /// An event happens. Returns the error that it gets; nothing has changed then.
    ///
    /// The shrinker's events are told by [`shrink`](Self::shrink) what came of them.
    pub fn apply(&mut self, event: Event) -> Option<Errno> {
        match event {
            Event::Bind | Event::BindNow => {
                if let Some(errno) = self.refusal(false) {
                    return Some(errno);
                }
                let (at, count, cell) = Self::change(self.kind);
                self.tree[at..at + count].fill(cell);
                self.bind = Bind::Waits;
                if event == Event::BindNow {
                    self.run_bind();
                }
            }
            Event::Signal => {
                if self.bind == Bind::Waits {
                    self.run_bind();
                } else {
                    self.bind = Bind::Over;
                }
            }
            Event::Run => return self.send(Submit::Run, Stage::Begun),
            Event::Queue => return self.send(Submit::Queue, Stage::Waits),
            Event::BringBack => {
                self.needed |= self.handles && self.pages != Pages::Purged;
                return self.send(Submit::Back, Stage::Begun);
            }
            Event::Other => {
                self.pages = Pages::Resident;
                self.other_maps = true;
                self.begin(Submit::Other);
                self.work(Submit::Other).holds_first = true;
            }
            Event::End => self.work(Submit::Run).released = true,
            Event::OtherEnds => self.work(Submit::Other).released = true,
            Event::Go => {
                let runs = self.usable && self.file == File::Open;
                self.begin(Submit::Queue);
                self.work(Submit::Queue).runs = if runs { Answer::Yes } else { Answer::No };
            }
            Event::Fault | Event::Hang => {
                if self.head() == Some(Submit::Run) {
                    self.work(Submit::Run).runs = Answer::No;
                    self.work(Submit::Run).released = true;
                } else {
                    self.restore();
                }
                self.usable = false;
                for submit in [Submit::Queue, Submit::Back] {
                    if self.stage(submit) != Stage::Ended {
                        self.work(submit).runs = Answer::No;
                    }
                }
            }
            Event::CloseHandle => self.handles = false,
            Event::CloseFile => self.close(File::Closed),
            Event::Kill => self.close(File::Killed),
            Event::Purge | Event::Evict => {
                self.shrunk = true;
                self.needed = event == Event::Evict;
            }
        }
        self.advance();
        None
    }

    fn run_bind(&mut self) {
        let (at, count, cell) = Self::change(self.kind);
        let cell = if self.usable { cell } else { Cell::Empty };
        self.tables[at..at + count].fill(cell);
        self.bind = Bind::Ran;
    }

    fn begin(&mut self, submit: Submit) {
        let work = self.work(submit);
        work.stage = Stage::Begun;
        work.runs = Answer::Yes;
        self.ring.push(submit);
    }

    /// A SUBMIT of the context's is sent.
    fn send(&mut self, submit: Submit, stage: Stage) -> Option<Errno> {
        if let Some(errno) = self.refusal(true) {
            return Some(errno);
        }
        self.restore();
        self.work(submit).holds_first = self.private || Self::has(&self.tree, Cell::First);
        self.work(submit).holds_second = self.private || Self::has(&self.tree, Cell::Second);
        if stage == Stage::Begun {
            self.begin(submit);
        } else {
            self.work(submit).stage = stage;
        }
        self.advance();
        None
    }

    /// What was evicted, and is still in the VMA tree, is mapped again.
    fn restore(&mut self) {
        for (table, tree) in self.tables.iter_mut().zip(self.tree) {
            if tree == Cell::First && self.pages != Pages::Purged {
                *table = Cell::First;
                self.pages = Pages::Resident;
            } else if tree == Cell::Second && self.bind == Bind::Ran {
                *table = Cell::Second;
            }
        }
    }

    fn close(&mut self, how: File) {
        self.file = how;
        self.handles = false;
        if self.bind == Bind::Waits {
            self.bind = Bind::Cancelled;
        }
        // Nobody has seen whether what isn't at the ring's head was put into the ring already.
        let first = self.head();
        for submit in [Submit::Run, Submit::Queue, Submit::Back] {
            if self.stage(submit) == Stage::Begun
                && first != Some(submit)
                && self.works[submit as usize].runs == Answer::Yes
            {
                self.work(submit).runs = Answer::Maybe;
            }
        }
    }

    /// The ring goes on for as far as it can.
    fn advance(&mut self) {
        while let Some(head) = self.head() {
            let stays = matches!(head, Submit::Run | Submit::Other);
            if stays && !self.works[head as usize].released {
                break;
            }
            self.ring.remove(0);
            let reads_first = self.tables[0] == Cell::First;
            let work = self.work(head);
            work.stage = Stage::Ended;
            work.reads_first = reads_first;
            if head == Submit::Other {
                self.other_maps = false;
            }
        }
        if self.file != File::Open && !self.may_be_in_ring() {
            self.tables = [Cell::Empty; WINDOW];
        }
    }

    /// The shrinker has taken the second BO's pages.
    pub fn shrink_second(&mut self) {
        for cell in &mut self.tables {
            if *cell == Cell::Second {
                *cell = Cell::Empty;
            }
        }
    }

    /// The shrinker has taken the first BO's pages.
    pub fn shrink(&mut self) {
        self.pages = if self.needed {
            Pages::Swapped
        } else {
            Pages::Purged
        };
        for cell in &mut self.tables {
            if *cell == Cell::First {
                *cell = Cell::Empty;
            }
        }
        self.other_evicted = self.other_maps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(kind: Kind, events: &[Event]) -> Model {
        let mut model = Model::new(kind, false);
        for event in events {
            assert!(model.can(*event), "{event} in {model:?}");
            assert_eq!(model.apply(*event), None);
        }
        model
    }

    /// The file is closed while a submit runs: what the cancelled bind would have unmapped stays
    /// until that has ended.
    #[test]
    fn a_cancelled_bind_unmaps_nothing() {
        use Event::*;
        let mut model = play(Kind::Unmap, &[Run, Bind, CloseFile, Signal]);
        assert_eq!(model.tables().unwrap()[0], Cell::First);
        assert_eq!(model.first_lives(), Answer::Yes);
        assert_eq!(model.shrinkable(), Answer::No);
        assert_eq!(model.apply(End), None);
        assert_eq!(model.first_lives(), Answer::No);
    }

    /// A MAP in an unusable VM takes away what was there, and a submit that was sent before doesn't
    /// run.
    #[test]
    fn an_unusable_vm_only_loses_mappings() {
        use Event::*;
        let mut model = play(Kind::MapOver, &[Queue, Bind, Hang, Signal, CloseHandle]);
        assert_eq!(model.tables().unwrap(), [Cell::Empty; WINDOW]);
        assert_eq!(model.apply(Run), Some(Errno::EPIPE));
        assert_eq!(model.apply(Go), None);
        assert_eq!(model.signalled(Submit::Queue), Answer::Yes);
        assert_eq!(model.ran(Submit::Queue), Answer::No);
    }
}
