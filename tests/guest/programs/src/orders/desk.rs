// SPDX-License-Identifier: GPL-2.0-only

//! A BO that all contexts share: the commands, and the words by which they are told to go on and
//! say what they have done.
//!
//! It isn't the BO of the context that is looked at, so that what happens to that one can be
//! followed after its end.

use super::event::Kind;
use super::model::{Cell, Model, Submit, WINDOW};
use super::PATIENCE;
use crate::pattern;
use harness::{ensure, Context, Outcome, Result};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{Bo, Device, Mapping, Pm4, PAGE};

/// Pages of the desk. No sum of other BOs that come and go is as large.
pub const PAGES: u64 = 16;
/// Where commands begin, and the bytes for each of them.
const COMMANDS: u64 = PAGE;
const SLOT: u64 = 512;
/// Where the window begins, behind the desk's address; and an address at which nothing ever is.
const WINDOW_AT: u64 = 1 << 30;
const HOLE: u64 = 1 << 31;
/// The dword of the first BO that nobody writes but to begin with.
const CONTENT: u64 = 8;

/// A word of the desk's.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// Set by the context's first SUBMIT.
    Works,
    /// A SUBMIT that waits has begun …
    Begun(Submit),
    /// … goes on when this is set …
    Go(Submit),
    /// … and sets this behind all that it has to do.
    Done(Submit),
    /// What [`Submit::Back`] has read.
    Read,
    /// The SUBMIT that is sent to hang the GPU has begun.
    Stuck,
    /// Never set.
    Never,
    /// What nobody looks at.
    Scratch,
}

impl Word {
    fn index(self) -> usize {
        match self {
            Self::Works => 0,
            Self::Read => 1,
            Self::Stuck => 2,
            Self::Never => 3,
            Self::Scratch => 4,
            Self::Begun(submit) => 16 + submit as usize,
            Self::Go(submit) => 32 + submit as usize,
            Self::Done(submit) => 48 + submit as usize,
        }
    }
}

/// Commands on the desk.
#[derive(Clone, Copy, Debug)]
pub enum Commands {
    /// Those of a submit.
    Of(Submit),
    /// What [`Submit::Run`] does when it is let go.
    RunOn,
    /// The first that a context sends: it gives the first BO its content.
    Begin,
    /// Never end.
    Hang,
    /// Fault.
    Fault,
    /// Do nothing.
    Nothing,
}

impl Commands {
    fn slot(self) -> u64 {
        match self {
            Self::Of(submit) => submit as u64,
            Self::RunOn => 4,
            Self::Begin => 5,
            Self::Hang => 6,
            Self::Fault => 7,
            Self::Nothing => 8,
        }
    }
}

/// Where things are in a context, which is the same in all.
#[derive(Clone, Copy, Debug)]
pub struct Places(u64);

impl Places {
    /// The places in contexts whose addresses begin there.
    pub fn new(base: u64) -> Self {
        Self(base)
    }

    /// The desk.
    pub fn desk(self) -> u64 {
        self.0
    }

    /// A page of the window.
    pub fn window(self, page: usize) -> u64 {
        self.0 + WINDOW_AT + page as u64 * PAGE
    }

    /// The page of the window that an address is in.
    pub fn page(self, iova: u64) -> Option<usize> {
        let page = iova.checked_sub(self.window(0))? / PAGE;
        (page < WINDOW as u64).then_some(page as usize)
    }

    /// Commands: address and bytes.
    pub fn commands(self, commands: Commands) -> (u64, u32) {
        (self.0 + COMMANDS + commands.slot() * SLOT, SLOT as u32)
    }

    fn word(self, word: Word) -> u64 {
        self.0 + 4 * word.index() as u64
    }

    fn set(self, commands: Pm4, word: Word) -> Pm4 {
        commands.barrier().mem_write(self.word(word), &[1])
    }

    fn waiting(self, submit: Submit) -> Pm4 {
        self.set(Pm4::new(), Word::Begun(submit))
            .wait_mem_eq(self.word(Word::Go(submit)), 1, !0)
    }

    fn faulting(self) -> Pm4 {
        Pm4::new()
            .mem_to_mem(self.word(Word::Scratch), self.0 + HOLE)
            .barrier()
    }

    /// What each of the commands is, for a kind of bind.
    fn stream(self, commands: Commands, kind: Kind) -> Pm4 {
        let range = self.window(Model::change(kind).0);
        let writing = |commands: Pm4, submit: Submit| {
            let at = range + 16 + 4 * submit as u64;
            self.set(commands.mem_write(at, &[1]), Word::Done(submit))
        };
        match commands {
            Commands::Of(Submit::Run) => {
                let (address, size) = self.commands(Commands::RunOn);
                self.waiting(Submit::Run).indirect_buffer(address, size / 4)
            }
            Commands::RunOn => writing(Pm4::new(), Submit::Run),
            Commands::Of(Submit::Queue) => writing(Pm4::new(), Submit::Queue),
            Commands::Of(Submit::Other) => {
                // In its own VM, where the first BO is at the window's beginning.
                let at = self.window(0) + 16 + 4 * Submit::Other as u64;
                self.set(
                    self.waiting(Submit::Other).mem_write(at, &[1]),
                    Word::Done(Submit::Other),
                )
            }
            Commands::Of(Submit::Back) => self.set(
                Pm4::new().mem_to_mem(self.word(Word::Read), self.window(0) + CONTENT),
                Word::Done(Submit::Back),
            ),
            Commands::Begin => self.set(
                Pm4::new().mem_write(self.window(0) + CONTENT, &[content(true)]),
                Word::Works,
            ),
            Commands::Hang => {
                self.set(Pm4::new(), Word::Stuck)
                    .wait_mem_eq(self.word(Word::Never), 1, !0)
            }
            Commands::Fault => self.faulting(),
            Commands::Nothing => Pm4::new().barrier(),
        }
    }
}

/// What [`Submit::Back`] reads, where the first BO is mapped and where it isn't.
pub fn content(of_first: bool) -> u32 {
    if of_first {
        pattern(1, 2)
    } else {
        0
    }
}

/// The desk, as the owner of its BO sees it.
#[derive(Debug)]
pub struct Desk {
    bo: Bo,
    map: Mapping,
    dma_buf: OwnedFd,
    places: Places,
}

impl Desk {
    /// A desk; its owner has yet to map it.
    pub fn new(owner: &Device, places: Places) -> Result<Self> {
        let bo = Bo::new(owner, PAGES * PAGE).context("the desk")?;
        Ok(Self {
            dma_buf: bo.export().context("exporting the desk")?,
            map: bo.map().context("the desk's mmap")?,
            bo,
            places,
        })
    }

    /// The owner's handle.
    pub fn bo(&self) -> &Bo {
        &self.bo
    }

    /// For those who share it.
    pub fn dma_buf(&self) -> BorrowedFd<'_> {
        self.dma_buf.as_fd()
    }

    /// Resets all words, and puts commands down.
    pub fn prepare(&self, kind: Kind) {
        (0..64).for_each(|word| self.map.write(word, 0));
        self.set(Word::Read, !0);
        for submit in Submit::ALL {
            self.put(Commands::Of(submit), kind);
        }
        for commands in [
            Commands::RunOn,
            Commands::Begin,
            Commands::Hang,
            Commands::Fault,
            Commands::Nothing,
        ] {
            self.put(commands, kind);
        }
    }

    fn put(&self, commands: Commands, kind: Kind) {
        self.put_stream(commands, &self.places.stream(commands, kind));
    }

    fn put_stream(&self, commands: Commands, stream: &Pm4) {
        let at = ((COMMANDS + commands.slot() * SLOT) / 4) as usize;
        let rest = (SLOT / 4) as usize - stream.dwords().len();
        // The rest of the slot is one packet that does nothing.
        let stream = stream.clone().nop(rest - 1);
        for (i, dword) in stream.dwords().iter().enumerate() {
            self.map.write(at + i, *dword);
        }
    }

    /// Has [`Submit::Run`] fault when it is let go.
    pub fn let_run_fault(&self) {
        self.put_stream(Commands::RunOn, &self.places.faulting());
    }

    /// Writes a word.
    pub fn set(&self, word: Word, value: u32) {
        self.map.write(word.index(), value);
    }

    /// Reads a word.
    pub fn get(&self, word: Word) -> u32 {
        self.map.read(word.index())
    }

    /// Waits until a word is set.
    pub fn wait(&self, word: Word) -> Outcome {
        let end = Instant::now() + PATIENCE;
        while self.get(word) != 1 {
            ensure!(Instant::now() < end, "the GPU doesn't set {word:?}");
            sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// The window's cells that lead somewhere.
    pub fn mapped(cells: &[Cell; WINDOW]) -> u64 {
        (0..)
            .zip(cells)
            .filter(|(_, cell)| **cell != Cell::Empty)
            .fold(0, |bits, (page, _)| bits | (1 << page))
    }
}
