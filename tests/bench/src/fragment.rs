// SPDX-License-Identifier: GPL-2.0-only

//! Memory as it is after days of use: no free page has a free neighbour.

use harness::{ensure, Context, Result};
use nix::{
    fcntl::{fcntl, FcntlArg},
    sys::resource::{setrlimit, Resource},
    unistd::{pipe, write},
};
use programs::Gpu;
use std::{fs, os::fd::OwnedFd};
use uapi::{memory, Bo, Pm4, PAGE};

use crate::meter::Meter;

/// What a pipe holds: the most that it may without further ado.
const PIPE: u64 = 1 << 20;

/// Which files in shmem may have large pages.
const LARGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// While this lives, `bytes` of free memory are single pages, and new BOs are made of these.
///
/// A page of a full pipe is as unmovable as a BO's, so that it comes from, and goes back to, where
/// BOs get theirs.
pub struct Fragmented {
    _held: Vec<[OwnedFd; 2]>,
}

impl Fragmented {
    /// Fills two sets of pipes in turns, a page each, and empties one set. What is left of memory
    /// in large pieces would be given out in large pages, which is forbidden.
    pub fn new(bytes: u64) -> Result<Self> {
        fs::write(LARGE_PAGES, "deny").context(LARGE_PAGES)?;
        memory::drop_caches()?;
        let (free, wanted) = (memory::free()?, 2 * bytes + (64 << 20));
        ensure!(free > wanted, "{free} bytes are free, {wanted} are needed");
        let pipes = bytes.div_ceil(PIPE);
        let files = 4 * pipes + 64;
        setrlimit(Resource::RLIMIT_NOFILE, files, files).context("RLIMIT_NOFILE")?;
        let (mut held, mut emptied) = (Vec::new(), Vec::new());
        for _ in 0..pipes {
            let pipes = [full_size_pipe()?, full_size_pipe()?];
            for _ in 0..PIPE / PAGE {
                for [_, writer] in &pipes {
                    write(writer, &[0; PAGE as usize]).context("filling a pipe")?;
                }
            }
            let [keep, empty] = pipes;
            held.push(keep);
            emptied.push(empty);
        }
        drop(emptied);
        Ok(Self { _held: held })
    }
}

/// An empty pipe: its reading and its writing end.
fn full_size_pipe() -> Result<[OwnedFd; 2]> {
    let (reader, writer) = pipe().context("a pipe")?;
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE as i32)).context("a pipe's size")?;
    Ok([reader, writer])
}

/// Of how many physically contiguous runs a BO's pages are. Maps it for a moment.
pub fn runs(gpu: &Gpu, meter: &Meter, bo: &Bo) -> Result<u64> {
    let iova = gpu.iova(1 << 35);
    gpu.map(bo, iova)?;
    // The device translates for the context that ran last.
    gpu.run(&Pm4::new().barrier())?;
    let runs = meter.runs(iova, bo.size())?;
    gpu.unmap(iova, bo.size())?;
    Ok(runs)
}
