// SPDX-License-Identifier: GPL-2.0-only

//! Addresses of large pages, and what the GPU should find there.

use harness::{ensure_eq, Context, Outcome, Result};
use programs::{pattern, Gpu, Tolerance};
use uapi::{memory, module, vadreno::Vadreno, Bo, Pm4, PAGE};

/// The bytes of a block, and the pages.
pub const BLOCK: u64 = 2 << 20;
pub const PAGES: u64 = BLOCK / PAGE;
/// The level of the page-table entry of a block, and of a page.
pub const BLOCK_LEVEL: u64 = 2;
pub const PAGE_LEVEL: u64 = 3;

/// Some blocks' worth of addresses, and what the GPU should find at the start of each page.
pub struct Window {
    pub gpu: Gpu,
    pub model: Vec<u32>,
    tolerance: Tolerance,
    /// The kernel's own module maps pages one by one.
    pub has_blocks: bool,
}

impl Window {
    /// Nothing is mapped there yet.
    pub fn new(blocks: u64) -> Result<Self> {
        memory::drop_caches().context("drop_caches")?;
        Ok(Self {
            tolerance: Tolerance::new()?,
            gpu: Gpu::new()?,
            model: vec![0; (blocks * BLOCK / PAGE) as usize],
            has_blocks: module::is_out_of_tree("msm").context("the module")?,
        })
    }

    /// The address of a page.
    pub fn iova(&self, page: u64) -> u64 {
        self.gpu.iova(page * PAGE)
    }

    /// Maps `count` pages of `bo` from `first` on at `at`.
    pub fn map(&mut self, bo: &Bo, tag: u32, first: u64, at: u64, count: u64) -> Outcome {
        self.gpu
            .bind()
            .map(bo, first * PAGE, self.iova(at), count * PAGE)
            .send_and_wait()
            .with_context(|| format!("MAP of {count} pages at {at}"))?;
        for page in 0..count {
            self.model[(at + page) as usize] = pattern(tag, ((first + page) * 1024) as usize);
        }
        Ok(())
    }

    /// Unmaps `count` pages from `at` on.
    pub fn unmap(&mut self, at: u64, count: u64) -> Outcome {
        self.gpu
            .unmap(self.iova(at), count * PAGE)
            .with_context(|| format!("{count} pages at {at}"))?;
        self.model[at as usize..(at + count) as usize].fill(0);
        Ok(())
    }

    /// The GPU finds at these pages what it should.
    pub fn check_at(&self, pages: &[u64]) -> Outcome {
        let iovas: Vec<u64> = pages.iter().map(|page| self.iova(*page)).collect();
        let model: Vec<u32> = pages.iter().map(|at| self.model[*at as usize]).collect();
        ensure_eq!(self.gpu.peek(&iovas)?, model, "pages {pages:?}");
        self.tolerance.check()
    }

    /// At all of them.
    pub fn check(&self) -> Outcome {
        let pages: Vec<u64> = (0..self.model.len() as u64).collect();
        pages.chunks(1024).try_for_each(|some| self.check_at(some))
    }

    /// The levels of the entries that translate the pages from `at` on, one in each block.
    pub fn levels(&self, at: u64, blocks: u64) -> Result<Vec<u64>> {
        let vadreno = Vadreno::open().context("virtual Adreno")?;
        self.gpu.run(&Pm4::new().barrier())?;
        (0..blocks)
            .map(|n| Ok(vadreno.walk_level(self.iova(at + n * BLOCK / PAGE))?))
            .collect()
    }

    /// Blocks are mapped from page `at` on, if this module makes any.
    pub fn are_blocks(&self, at: u64, blocks: u64) -> Outcome {
        if self.has_blocks {
            ensure_eq!(
                self.levels(at, blocks)?,
                vec![BLOCK_LEVEL; blocks as usize],
                "levels from page {at} on"
            );
        }
        Ok(())
    }
}
