// SPDX-License-Identifier: GPL-2.0-only

//! Holes punched into mappings, and what is left of them, page by page.

use harness::{ensure_eq, Context, Outcome, Test};
use programs::{pattern, Gpu, Tolerance};
use std::process::ExitCode;
use uapi::{Bo, PAGE};

const PAGES: usize = 32;

/// A window of pages, and what the GPU should find at the start of each.
struct Window {
    gpu: Gpu,
    model: [u32; PAGES],
    tolerance: Tolerance,
}

impl Window {
    fn new() -> harness::Result<Self> {
        Ok(Self {
            tolerance: Tolerance::new()?,
            gpu: Gpu::new()?,
            model: [0; PAGES],
        })
    }

    fn iova(&self, page: usize) -> u64 {
        // Across a 2 MiB boundary, so that two last-level tables take part.
        self.gpu.iova(0x20_0000 - 16 * PAGE + page as u64 * PAGE)
    }

    fn map(&mut self, bo: &Bo, tag: u32, first: usize, at: usize, count: usize) -> Outcome {
        self.gpu
            .bind()
            .map(bo, first as u64 * PAGE, self.iova(at), count as u64 * PAGE)
            .send_and_wait()
            .with_context(|| format!("MAP of {count} pages at {at}"))?;
        for page in 0..count {
            self.model[at + page] = pattern(tag, (first + page) * 1024);
        }
        self.check("after MAP")
    }

    fn unmap(&mut self, at: usize, count: usize) -> Outcome {
        self.gpu
            .unmap(self.iova(at), count as u64 * PAGE)
            .with_context(|| format!("{count} pages at {at}"))?;
        self.model[at..at + count].fill(0);
        self.check("after UNMAP")
    }

    fn check(&self, when: &str) -> Outcome {
        let iovas: Vec<u64> = (0..PAGES).map(|page| self.iova(page)).collect();
        ensure_eq!(self.gpu.peek(&iovas)?, self.model.to_vec(), "{when}");
        self.tolerance.check()
    }
}

fn hole_in_the_middle(_: &mut Test) -> Outcome {
    let mut window = Window::new()?;
    let bo = window.gpu.bo(1, PAGES as u64 * PAGE)?;
    window.map(&bo, 1, 0, 0, PAGES)?;
    window.unmap(10, 3)
}

fn hole_at_each_end(_: &mut Test) -> Outcome {
    let mut window = Window::new()?;
    let bo = window.gpu.bo(1, PAGES as u64 * PAGE)?;
    window.map(&bo, 1, 4, 2, 20)?;
    window.unmap(2, 1)?;
    window.unmap(21, 1)?;
    window.unmap(0, 4)?;
    window.unmap(19, 9)
}

/// One UNMAP over several mappings, the outer two cut in part.
fn across_mappings(_: &mut Test) -> Outcome {
    let mut window = Window::new()?;
    let (a, b) = (window.gpu.bo(1, 16 * PAGE)?, window.gpu.bo(2, 16 * PAGE)?);
    window.map(&a, 1, 3, 1, 8)?;
    window.map(&b, 2, 0, 9, 6)?;
    window.map(&a, 1, 0, 17, 4)?;
    window.map(&b, 2, 8, 21, 8)?;
    window.unmap(5, 20)
}

/// A hole, then something else in it, from another offset.
fn hole_refilled(_: &mut Test) -> Outcome {
    let mut window = Window::new()?;
    let (a, b) = (window.gpu.bo(1, 32 * PAGE)?, window.gpu.bo(2, 8 * PAGE)?);
    window.map(&a, 1, 0, 0, 32)?;
    window.unmap(12, 8)?;
    window.map(&b, 2, 3, 14, 4)?;
    window.map(&a, 1, 31, 12, 1)?;
    window.unmap(0, 32)
}

/// Every second page goes: the pieces are single pages, and each still leads to its own.
fn comb(_: &mut Test) -> Outcome {
    let mut window = Window::new()?;
    let bo = window.gpu.bo(1, PAGES as u64 * PAGE)?;
    window.map(&bo, 1, 0, 0, PAGES)?;
    for page in (1..PAGES).step_by(2) {
        window.unmap(page, 1)?;
    }
    Ok(())
}

/// Pieces still write to the BO, at the right place.
fn pieces_are_written(_: &mut Test) -> Outcome {
    let mut window = Window::new()?;
    let bo = window.gpu.bo(1, PAGES as u64 * PAGE)?;
    window.map(&bo, 1, 0, 0, PAGES)?;
    window.unmap(7, 5)?;
    for page in [0, 6, 12, PAGES - 1] {
        window
            .gpu
            .write(window.iova(page) + 0x40, &[0x4000 + page as u32])?;
        ensure_eq!(
            bo.map()?.read(page * 1024 + 0x10),
            0x4000 + page as u32,
            "page {page} of the BO"
        );
    }
    Ok(())
}

/// Random maps and unmaps, checked page by page against a model.
fn random(test: &mut Test) -> Outcome {
    let mut window = Window::new()?;
    let bos: Vec<Bo> = (1..5)
        .map(|tag| window.gpu.bo(tag, PAGES as u64 * PAGE))
        .collect::<harness::Result<_>>()?;
    for _ in 0..150 {
        let count = test.rng.usize(1..=12);
        let at = test.rng.usize(0..=PAGES - count);
        if test.rng.u8(..3) == 0 {
            window.unmap(at, count)?;
        } else {
            let tag = test.rng.usize(..bos.len());
            let first = test.rng.usize(0..=PAGES - count);
            window.map(&bos[tag], tag as u32 + 1, first, at, count)?;
        }
    }
    window.unmap(0, PAGES)
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        hole_in_the_middle,
        hole_at_each_end,
        across_mappings,
        hole_refilled,
        comb,
        pieces_are_written,
        random,
    ])
}
