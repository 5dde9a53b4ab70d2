// SPDX-License-Identifier: GPL-2.0-only

//! A BO of which each dword of each page is known.

use crate::Gpu;
use harness::{ensure_eq, Context, Outcome};
use uapi::{Bo, Mapping, Pm4, PAGE};

/// How many versions there are, and pages of a BO.
const VERSIONS: u32 = 1 << 21;
const PAGES: u64 = 512;

/// What is in a page: its first dword, and all others. Never 0, and different for each page of each
/// version.
fn first(version: u32, page: u64) -> u32 {
    0x8000_0000 | (version << 9) | page as u32
}

fn others(version: u32) -> u32 {
    0x4000_0000 | version
}

/// Gives out versions, each once.
#[derive(Debug)]
pub struct Versions(u32);

impl Versions {
    /// From a random one on.
    pub fn new(rng: &mut harness::Rng) -> Self {
        Self(rng.u32(..VERSIONS / 2))
    }

    /// One that nobody has had.
    pub fn fresh(&mut self) -> u32 {
        self.0 = (self.0 + 1) % VERSIONS;
        self.0
    }
}

/// A BO, where it is mapped, and which version is in it.
#[derive(Debug)]
pub struct Known {
    /// The BO.
    pub bo: Bo,
    /// Where it is mapped.
    pub iova: u64,
    /// What is in it.
    pub version: u32,
}

impl Known {
    /// A BO of 512 pages at most, mapped, with that version in it.
    pub fn new(gpu: &Gpu, iova: u64, size: u64, version: u32) -> harness::Result<Self> {
        let bo = Bo::new(&gpu.device, size).context("GEM_NEW")?;
        gpu.map(&bo, iova)?;
        let known = Self { bo, iova, version };
        known.fill(gpu)?;
        Ok(known)
    }

    /// Writes the version: two pages by the CPU, the others by the GPU from the second, as an
    /// emulated processor is slow.
    pub fn fill(&self, gpu: &Gpu) -> Outcome {
        assert!(self.pages() <= PAGES);
        let map = self.bo.map()?;
        for at in 0..1024 {
            map.write(at, others(self.version));
            map.write(1024 + at, others(self.version));
        }
        let mut commands = Pm4::new();
        let mut done = 2 * PAGE;
        while done < self.bo.size() {
            let len = done.min(self.bo.size() - done);
            commands = commands
                .memcpy(self.iova + done, self.iova, (len / 4) as u32)
                .barrier();
            done += len;
        }
        for page in 0..self.pages() {
            commands = commands.mem_write(self.iova + page * PAGE, &[first(self.version, page)]);
        }
        gpu.run(&commands.barrier())
    }

    fn pages(&self) -> u64 {
        self.bo.size() / PAGE
    }

    /// Commands that copy another BO of the same size over this.
    pub fn copy_from(&self, commands: Pm4, from: &Self) -> Pm4 {
        let dwords = self.bo.size() / 4;
        commands
            .memcpy(self.iova, from.iova, dwords as u32)
            .barrier()
    }

    /// Looks at every dword through the CPU.
    pub fn check_by_cpu(&self) -> Outcome {
        self.check_mapping(&self.bo.map()?)
    }

    /// Looks at every dword of a mapping of it.
    pub fn check_mapping(&self, map: &Mapping) -> Outcome {
        for index in 0..map.len() {
            let expected = match index % 1024 {
                0 => first(self.version, index as u64 / 1024),
                _ => others(self.version),
            };
            ensure_eq!(
                map.read(index),
                expected,
                "dword {index} of version {:#x} by the CPU",
                self.version
            );
        }
        Ok(())
    }

    /// Looks at two dwords of each page through the GPU.
    pub fn check_by_gpu(&self, gpu: &Gpu) -> Outcome {
        let pages = || (0..self.pages()).map(|page| self.iova + page * PAGE);
        let iovas: Vec<u64> = pages().chain(pages().map(|iova| iova + PAGE - 4)).collect();
        let expected = (0..self.pages())
            .map(|page| first(self.version, page))
            .chain((0..self.pages()).map(|_| others(self.version)));
        for (index, (found, expected)) in gpu.peek(&iovas)?.into_iter().zip(expected).enumerate() {
            ensure_eq!(
                found,
                expected,
                "dword at {:#x} of version {:#x} by the GPU",
                iovas[index],
                self.version
            );
        }
        Ok(())
    }
}
