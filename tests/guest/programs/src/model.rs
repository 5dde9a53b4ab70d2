// SPDX-License-Identifier: GPL-2.0-only

//! What a VM should look like: a row of pages, each with what the GPU should find there.

use crate::{Gpu, Tolerance};
use harness::{ensure_eq, Outcome};
use uapi::PAGE;

/// The expected contents of a window of pages. 0 is a page that isn't mapped.
#[derive(Clone, Debug)]
pub struct Model {
    first: u64,
    pages: Vec<u32>,
}

impl Model {
    /// `count` unmapped pages from `first` on.
    pub fn new(first: u64, count: usize) -> Self {
        Self {
            first,
            pages: vec![0; count],
        }
    }

    /// The iova of a page.
    pub fn iova(&self, page: usize) -> u64 {
        self.first + page as u64 * PAGE
    }

    /// Expects pages `first…` of the BO `tag` at `at`.
    pub fn map(&mut self, tag: u32, first: usize, at: usize, count: usize) {
        for page in 0..count {
            self.pages[at + page] = crate::pattern(tag, (first + page) * 1024);
        }
    }

    /// Expects nothing at `at`.
    pub fn unmap(&mut self, at: usize, count: usize) {
        self.pages[at..at + count].fill(0);
    }

    /// Looks at each page through the GPU.
    pub fn check(&self, gpu: &Gpu, tolerance: &Tolerance, when: &str) -> Outcome {
        let iovas: Vec<u64> = (0..self.pages.len()).map(|page| self.iova(page)).collect();
        ensure_eq!(gpu.peek(&iovas)?, self.pages, "{when}");
        tolerance.check()
    }
}
