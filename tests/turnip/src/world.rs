// SPDX-License-Identifier: GPL-2.0-only

//! Sparse buffers and their memory, beside a model of what every byte must be.
//!
//! Steps are queued one behind the other with a timeline semaphore; the program doesn't wait
//! between them, so their order is up to the driver and the kernel.

use crate::vk::{Bind, Buffer, Command, Commands, Gpu, Memory, Piece, Range, Semaphore, Visible};
use anyhow::{bail, ensure, Result};
use fastrand::Rng;
use std::collections::HashSet;

/// A page of a block of memory.
pub type Page = (usize, usize);

/// Memory, and what is in it.
struct Block {
    memory: Memory,
    /// Maps all of it, for as long as it lives.
    view: Buffer,
    bytes: Vec<u8>,
}

/// A buffer, and where its pages lead.
struct Sparse {
    buffer: Buffer,
    residency: bool,
    table: Vec<Option<Page>>,
}

/// A command of a step. Buffers are numbers, offsets and sizes are bytes.
#[derive(Clone, Debug)]
pub enum Act {
    /// Fill with one word.
    Fill {
        buffer: usize,
        offset: usize,
        size: usize,
        word: u32,
    },
    /// Write these bytes.
    Update {
        buffer: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// Copy from a buffer, or from [`World::source`].
    Copy {
        to: (usize, usize),
        from: (Option<usize>, usize),
        size: usize,
    },
}

/// See the module.
pub struct World {
    gpu: Gpu,
    /// Bytes of a page.
    pub page: usize,
    blocks: Vec<Block>,
    buffers: Vec<Sparse>,
    /// Random bytes to copy from.
    source: (Visible, Vec<u8>),
    chain: Semaphore,
    /// The last point of the chain that something will signal.
    last: u64,
    recorded: Vec<Commands>,
}

/// Bytes of the source.
const SOURCE: usize = 256 << 10;

impl World {
    /// Without buffers or memory. Nothing of what is queued runs before [`release`](Self::release).
    pub fn held(gpu: &Gpu, rng: &mut Rng) -> Result<Self> {
        let visible = gpu.visible_buffer(SOURCE as u64)?;
        let mut bytes = vec![0; SOURCE];
        rng.fill(&mut bytes);
        visible.write(&bytes)?;
        let page = gpu.sparse_buffer(1, true)?.granule() as usize;
        ensure!(page % 4096 == 0, "pages of {page} bytes");
        Ok(Self {
            gpu: gpu.clone(),
            page,
            blocks: Vec::new(),
            buffers: Vec::new(),
            source: (visible, bytes),
            chain: gpu.timeline()?,
            last: 1,
            recorded: Vec::new(),
        })
    }

    /// As [`held`](Self::held), with steps that run as soon as they are queued.
    pub fn new(gpu: &Gpu, rng: &mut Rng) -> Result<Self> {
        let world = Self::held(gpu, rng)?;
        world.release()?;
        Ok(world)
    }

    /// Lets what is queued run.
    pub fn release(&self) -> Result<()> {
        self.chain.signal(1)
    }

    /// Adds a buffer with nothing bound to it; its number.
    pub fn add_buffer(&mut self, pages: usize, residency: bool) -> Result<usize> {
        let size = (pages * self.page) as u64;
        let buffer = self.gpu.sparse_buffer(size, residency)?;
        ensure!(
            buffer.granule() as usize == self.page,
            "pages of another size"
        );
        self.buffers.push(Sparse {
            buffer,
            residency,
            table: vec![None; pages],
        });
        Ok(self.buffers.len() - 1)
    }

    /// Adds memory, filled with a word; its number.
    pub fn add_memory(&mut self, pages: usize, word: u32) -> Result<usize> {
        let block = self.block(pages, word)?;
        self.blocks.push(block);
        Ok(self.blocks.len() - 1)
    }

    fn block(&mut self, pages: usize, word: u32) -> Result<Block> {
        let size = (pages * self.page) as u64;
        let view = self.gpu.sparse_buffer(size, false)?;
        let memory = self.gpu.memory_for(&view, size)?;
        let wait = [self.chain.at(self.last)];
        let signal = [self.chain.at(self.last + 1)];
        let bind = Bind {
            buffer: &view,
            pieces: vec![Piece {
                offset: 0,
                size,
                memory: Some((&memory, 0)),
            }],
        };
        self.gpu.bind(&[bind], &wait, &signal, None)?;
        self.last += 1;
        let fill = Command::Fill(
            Range {
                buffer: &view,
                offset: 0,
                size,
            },
            word,
        );
        let recorded = self.gpu.commands(&[fill])?;
        self.queue(recorded)?;
        let bytes = word.to_le_bytes().repeat(size as usize / 4);
        Ok(Block {
            memory,
            view,
            bytes,
        })
    }

    /// Frees a block, which nothing may be bound to, and puts new memory in its place.
    pub fn replace_memory(&mut self, block: usize, word: u32) -> Result<()> {
        let bound = self
            .buffers
            .iter()
            .flat_map(|buffer| buffer.table.iter().flatten())
            .any(|page| page.0 == block);
        ensure!(!bound, "the block is bound");
        self.settle()?;
        let pages = self.pages(block);
        // The new one first would get other pages.
        let old = self.blocks.remove(block);
        drop(old);
        let new = self.block(pages, word)?;
        self.blocks.insert(block, new);
        Ok(())
    }

    /// Pages of a block.
    pub fn pages(&self, block: usize) -> usize {
        self.blocks[block].bytes.len() / self.page
    }

    /// Bytes of a buffer.
    pub fn size(&self, buffer: usize) -> usize {
        self.buffers[buffer].table.len() * self.page
    }

    /// Queues binding pages of buffers, each by an op of its own.
    pub fn bind(&mut self, pieces: &[(usize, usize, Option<Page>)]) -> Result<()> {
        let page = self.page as u64;
        let binds: Vec<Bind<'_>> = self
            .buffers
            .iter()
            .enumerate()
            .map(|(i, sparse)| Bind {
                buffer: &sparse.buffer,
                pieces: pieces
                    .iter()
                    .filter(|piece| piece.0 == i)
                    .map(|(_, at, to)| Piece {
                        offset: *at as u64 * page,
                        size: page,
                        memory: to.map(|(block, n)| (&self.blocks[block].memory, n as u64 * page)),
                    })
                    .collect(),
            })
            .filter(|bind| !bind.pieces.is_empty())
            .collect();
        let wait = [self.chain.at(self.last)];
        let signal = [self.chain.at(self.last + 1)];
        self.gpu.bind(&binds, &wait, &signal, None)?;
        drop(binds);
        self.last += 1;
        for (buffer, at, to) in pieces {
            self.buffers[*buffer].table[*at] = *to;
        }
        Ok(())
    }

    fn queue(&mut self, recorded: Commands) -> Result<()> {
        let wait = [self.chain.at(self.last)];
        let signal = [self.chain.at(self.last + 1)];
        self.gpu.submit(Some(&recorded), &wait, &signal, None)?;
        self.recorded.push(recorded);
        self.last += 1;
        Ok(())
    }

    /// Queues commands, as one submission.
    pub fn run(&mut self, acts: &[Act]) -> Result<()> {
        let range = |buffer: usize, offset: usize, size: usize| Range {
            buffer: &self.buffers[buffer].buffer,
            offset: offset as u64,
            size: size as u64,
        };
        let commands: Vec<Command<'_>> = acts
            .iter()
            .map(|act| match act {
                Act::Fill {
                    buffer,
                    offset,
                    size,
                    word,
                } => Command::Fill(range(*buffer, *offset, *size), *word),
                Act::Update {
                    buffer,
                    offset,
                    bytes,
                } => Command::Update(range(*buffer, *offset, bytes.len()), bytes.clone()),
                Act::Copy { to, from, size } => {
                    let source = match from.0 {
                        Some(buffer) => &self.buffers[buffer].buffer,
                        None => &self.source.0.buffer,
                    };
                    Command::Copy(range(to.0, to.1, *size), source, from.1 as u64)
                }
            })
            .collect();
        let recorded = self.gpu.commands(&commands)?;
        self.queue(recorded)?;
        acts.iter().for_each(|act| self.predict(act));
        Ok(())
    }

    fn predict(&mut self, act: &Act) {
        match act {
            Act::Fill {
                buffer,
                offset,
                size,
                word,
            } => self.store(*buffer, *offset, &word.to_le_bytes().repeat(size / 4)),
            Act::Update {
                buffer,
                offset,
                bytes,
            } => self.store(*buffer, *offset, bytes),
            Act::Copy { to, from, size } => {
                let bytes = match from.0 {
                    Some(buffer) => self.load(buffer, from.1, *size),
                    None => self.source.1[from.1..][..*size].to_vec(),
                };
                self.store(to.0, to.1, &bytes);
            }
        }
    }

    /// The pieces of a range that are in one page each: where it leads, the offset in that page,
    /// bytes.
    fn pieces(
        &self,
        buffer: usize,
        offset: usize,
        size: usize,
    ) -> Vec<(Option<Page>, usize, usize)> {
        let (mut at, end) = (offset, offset + size);
        let mut pieces = Vec::new();
        while at < end {
            let n = (self.page - at % self.page).min(end - at);
            pieces.push((
                self.buffers[buffer].table[at / self.page],
                at % self.page,
                n,
            ));
            at += n;
        }
        pieces
    }

    fn load(&self, buffer: usize, offset: usize, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size);
        for (page, at, n) in self.pieces(buffer, offset, size) {
            match page {
                Some((block, page)) => {
                    bytes.extend(&self.blocks[block].bytes[page * self.page + at..][..n]);
                }
                None => bytes.resize(bytes.len() + n, 0),
            }
        }
        bytes
    }

    fn store(&mut self, buffer: usize, offset: usize, mut bytes: &[u8]) {
        for (page, at, n) in self.pieces(buffer, offset, bytes.len()) {
            let (now, later) = bytes.split_at(n);
            if let Some((block, page)) = page {
                let start = page * self.page + at;
                self.blocks[block].bytes[start..start + n].copy_from_slice(now);
            }
            bytes = later;
        }
    }

    /// The memory that a range leads to; `None` when some of it appears twice.
    fn reach(&self, buffer: usize, offset: usize, size: usize) -> Option<HashSet<Page>> {
        let mut reach = HashSet::new();
        self.pieces(buffer, offset, size)
            .iter()
            .filter_map(|piece| piece.0)
            .all(|page| reach.insert(page))
            .then_some(reach)
    }

    /// A random command whose result Vulkan defines.
    pub fn random_act(&self, rng: &mut Rng) -> Act {
        loop {
            let buffer = rng.usize(..self.buffers.len());
            let len = self.size(buffer);
            // Mostly within a few pages, at times nearly everything.
            let most = if rng.u8(..8) == 0 { len } else { 5 * self.page };
            let size = rng.usize(1..=most.min(len) / 4) * 4;
            let offset = rng.usize(..=(len - size) / 4) * 4;
            match rng.u8(..4) {
                0 => {
                    return Act::Fill {
                        buffer,
                        offset,
                        size,
                        word: rng.u32(..),
                    }
                }
                1 if size <= 8192 && self.reach(buffer, offset, size).is_some() => {
                    let mut bytes = vec![0; size];
                    rng.fill(&mut bytes);
                    return Act::Update {
                        buffer,
                        offset,
                        bytes,
                    };
                }
                2 => {
                    // Copies may start and end at any byte.
                    let size = (size - rng.usize(..4)).min(SOURCE);
                    if self.reach(buffer, offset, size).is_some() {
                        return Act::Copy {
                            to: (buffer, offset),
                            from: (None, rng.usize(..=SOURCE - size)),
                            size,
                        };
                    }
                }
                3 => {
                    let source = rng.usize(..self.buffers.len());
                    let size = (size - rng.usize(..4)).min(self.size(source));
                    let from = rng.usize(..=self.size(source) - size);
                    let apart = buffer != source || from + size <= offset || offset + size <= from;
                    let read = self.pieces(source, from, size);
                    let disjoint = self.reach(buffer, offset, size).is_some_and(|written| {
                        read.iter()
                            .filter_map(|piece| piece.0)
                            .all(|page| !written.contains(&page))
                    });
                    if apart && disjoint {
                        return Act::Copy {
                            to: (buffer, offset),
                            from: (Some(source), from),
                            size,
                        };
                    }
                }
                _ => {}
            }
        }
    }

    /// Random pages to bind to random memory, or to nothing where that is allowed.
    pub fn random_bind(&self, rng: &mut Rng) -> Vec<(usize, usize, Option<Page>)> {
        let mut pieces: Vec<(usize, usize, Option<Page>)> = Vec::new();
        for _ in 0..rng.usize(1..6) {
            let buffer = rng.usize(..self.buffers.len());
            let pages = self.buffers[buffer].table.len();
            let count = rng.usize(1..=12.min(pages));
            let first = rng.usize(..=pages - count);
            let block = rng.usize(..self.blocks.len());
            let count = count.min(self.pages(block));
            let start = rng.usize(..=self.pages(block) - count);
            let unbind = self.buffers[buffer].residency && rng.u8(..3) == 0;
            let backwards = rng.bool();
            for i in 0..count {
                let at = if backwards { count - 1 - i } else { i };
                // Each page once: the order of binds in one call is undefined.
                pieces.retain(|piece| (piece.0, piece.1) != (buffer, first + at));
                pieces.push((buffer, first + at, (!unbind).then_some((block, start + i))));
            }
        }
        pieces
    }

    /// Unbinds, or binds elsewhere, all that leads to a block.
    pub fn leave(&mut self, block: usize) -> Result<()> {
        let other = (block + 1) % self.blocks.len();
        let mut pieces = Vec::new();
        for (i, sparse) in self.buffers.iter().enumerate() {
            for (at, page) in sparse.table.iter().enumerate() {
                if page.is_some_and(|page| page.0 == block) {
                    pieces.push((i, at, (!sparse.residency).then_some((other, 0))));
                }
            }
        }
        if pieces.is_empty() {
            return Ok(());
        }
        self.bind(&pieces)
    }

    /// Waits until all steps have run.
    pub fn settle(&mut self) -> Result<()> {
        self.chain.wait(self.last)?;
        self.recorded.clear();
        Ok(())
    }

    /// Whether all steps have run.
    pub fn settled(&self) -> Result<bool> {
        Ok(self.chain.value()? == self.last)
    }

    /// Compares every byte of all buffers and of all memory with the model.
    pub fn check(&mut self) -> Result<()> {
        let sizes = (0..self.buffers.len()).map(|i| self.size(i));
        let sizes: Vec<usize> = sizes
            .chain(self.blocks.iter().map(|block| block.bytes.len()))
            .collect();
        let total: usize = sizes.iter().sum();
        let seen = self.gpu.visible_buffer(total as u64)?;
        seen.write(&vec![0xee; total])?;
        let sources = self
            .buffers
            .iter()
            .map(|sparse| &sparse.buffer)
            .chain(self.blocks.iter().map(|block| &block.view));
        let mut at = 0;
        let copies: Vec<Command<'_>> = sources
            .zip(&sizes)
            .map(|(source, size)| {
                let range = Range {
                    buffer: &seen.buffer,
                    offset: at,
                    size: *size as u64,
                };
                at += *size as u64;
                Command::Copy(range, source, 0)
            })
            .collect();
        let recorded = self.gpu.commands(&copies)?;
        self.queue(recorded)?;
        self.settle()?;
        let bytes = seen.read()?;
        let mut rest = &bytes[..];
        for (i, size) in sizes.iter().enumerate() {
            let (found, after) = rest.split_at(*size);
            rest = after;
            match i.checked_sub(self.buffers.len()) {
                None => compare(
                    &format!("buffer {i}"),
                    &self.load(i, 0, *size),
                    found,
                    |at| match self.buffers[i].table[at / self.page] {
                        Some((block, page)) => format!("bound to page {page} of block {block}"),
                        None => "not bound".into(),
                    },
                )?,
                Some(n) => compare(&format!("block {n}"), &self.blocks[n].bytes, found, |_| {
                    "seen by all of its pages".into()
                })?,
            }
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What was never released would never end.
        if self.chain.value().is_ok_and(|value| value == 0) {
            let _ = self.release();
        }
        let _ = self.gpu.wait_idle();
    }
}

fn compare(what: &str, wanted: &[u8], found: &[u8], place: impl Fn(usize) -> String) -> Result<()> {
    let wrong = wanted.iter().zip(found).filter(|(a, b)| a != b).count();
    let Some(at) = wanted.iter().zip(found).position(|(a, b)| a != b) else {
        return Ok(());
    };
    let word = |bytes: &[u8]| {
        let start = at & !3;
        bytes[start..(start + 4).min(bytes.len())]
            .iter()
            .rev()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    bail!(
        "{what} at {at:#x} ({}): {} instead of {}; {wrong} bytes of {} are wrong",
        place(at),
        word(found),
        word(wanted),
        wanted.len()
    )
}
