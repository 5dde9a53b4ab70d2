// SPDX-License-Identifier: GPL-2.0-only

//! Known defects of the C memory manager that no other program provokes. README.md says which one
//! provokes which.

use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Process, Test};
use nix::unistd::{geteuid, seteuid, Uid};
use programs::{check_unpinned, pattern, Census, Gpu, Tolerance, PATIENCE};
use std::{
    fs,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{memory, Errno, Pm4, PAGE};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// SUBMIT after a mapped BO was purged: refused, and the process can still end.
fn defect_05_submit_after_purge(_: &mut Test) -> Outcome {
    Process::start(|| {
        let gpu = Gpu::new()?;
        let bo = gpu.bo(1, 64 * PAGE)?;
        gpu.map(&bo, gpu.iova(0))?;
        check_unpinned(&bo).context("idle")?;
        ensure_errno!(
            gpu.start(&Pm4::new().nop(1), |s| s),
            Errno::EBUSY,
            "SUBMIT with a purged BO mapped"
        );
        Ok(())
    })?
    .succeeds(Process::LONG)
}

/// While this lives, nobody without privileges can open a file, and this process has none.
struct NoFiles {
    limit: String,
    user: Uid,
}

const FILE_MAX: &str = "/proc/sys/fs/file-max";

impl NoFiles {
    fn new() -> harness::Result<Self> {
        let limit = fs::read_to_string(FILE_MAX)?;
        fs::write(FILE_MAX, "0").context(FILE_MAX)?;
        let user = geteuid();
        seteuid(Uid::from_raw(65534)).context("seteuid")?;
        Ok(Self { limit, user })
    }
}

impl Drop for NoFiles {
    fn drop(&mut self) {
        seteuid(self.user).expect("seteuid");
        fs::write(FILE_MAX, &self.limit).expect(FILE_MAX);
    }
}

/// A MAP whose out-fence can't be made has not happened.
fn defect_06_map_without_out_fence(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    let map = gpu.bind().map(&bo, 0, gpu.iova(0), 4 * PAGE);
    for _ in 0..3 {
        let refused = {
            let _no_files = NoFiles::new()?;
            map.send()
        };
        ensure!(refused.is_err(), "the out-fence was made all the same");
        ensure_eq!(gpu.peek(&[gpu.iova(0)])?, [0], "after a MAP that failed");
    }
    map.send_and_wait().context("MAP again")?;
    ensure_eq!(
        gpu.peek(&[gpu.iova(0), gpu.iova(3 * PAGE)])?,
        [pattern(1, 0), pattern(1, 3 * 1024)],
        "after the MAP"
    );
    tolerance.check()
}

/// An UNMAP whose out-fence can't be made has not happened, and can be asked for again.
fn defect_07_unmap_without_out_fence(_: &mut Test) -> Outcome {
    let tolerance = Tolerance::new()?;
    let gpu = Gpu::new()?;
    let before = Census::now()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let unmap = gpu.bind().unmap(gpu.iova(0), 4 * PAGE);
    for _ in 0..3 {
        let refused = {
            let _no_files = NoFiles::new()?;
            unmap.send()
        };
        ensure!(refused.is_err(), "the out-fence was made all the same");
        ensure_eq!(
            gpu.peek(&[gpu.iova(0)])?,
            [pattern(1, 0)],
            "after an UNMAP that failed"
        );
    }
    unmap.send_and_wait().context("UNMAP again")?;
    ensure_eq!(gpu.peek(&[gpu.iova(0)])?, [0], "after the UNMAP");
    drop(bo);
    before.restored()?;
    tolerance.check()
}

/// How many page tables below the top one a range takes, were none there.
fn tables(range: u64) -> u64 {
    [39, 30, 21]
        .iter()
        .map(|shift| range.div_ceil(1 << shift))
        .sum()
}

/// Overlapping ops whose table counts add up to 2^32 and a little: refused, or done.
fn defect_17_table_count_wraps(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let first = gpu.iova(0).next_multiple_of(1 << 39);
    let large = 255 << 39;
    // The last op makes the sum of 2^32 and less than an L0 table's worth.
    let wanted = (1u64 << 32) - 63 * tables(large);
    let (mut low, mut high) = (0, 511 << 18);
    while low < high {
        let middle = (low + high) / 2;
        if tables(middle << 21) < wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut bind = gpu.bind();
    for _ in 0..63 {
        bind = bind.map_null(first, large);
    }
    bind = bind.map_null(first, low << 21);
    let sum = 63 * tables(large) + tables(low << 21);
    ensure!((1 << 32..(1 << 32) + 64).contains(&sum), "{sum:#x} tables");
    // Refused, or done with tables that are shared.
    match bind.send() {
        Err(e) => ensure_eq!(e, Errno::ENOMEM, "{sum:#x} tables at once"),
        Ok(job) => {
            job.wait(PATIENCE).context("MAP_NULL")?;
            ensure_eq!(job.status()?, Some(Ok(())), "its fence");
        }
    }
    gpu.bind()
        .send_and_wait()
        .context("a bind without ops afterwards")?;
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, first)?;
    ensure_eq!(gpu.read(first, 1)?, [pattern(1, 0)], "a MAP afterwards");
    Ok(())
}

/// Page tables that map nothing any more are given back.
fn defect_19_empty_tables_are_freed(_: &mut Test) -> Outcome {
    const MAPS: u64 = 8_000;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    let map_and_unmap = |first: u64| -> Outcome {
        for batch in 0..MAPS / 500 {
            let mut bind = gpu.bind();
            for n in batch * 500..(batch + 1) * 500 {
                bind = bind.map(&bo, 0, gpu.iova(first + (n << 21)), PAGE);
            }
            bind.send_and_wait().context("500 MAPs")?;
        }
        gpu.unmap(gpu.iova(first), MAPS << 21)
    };
    // What the kernel keeps of anything freed (KASAN's quarantine, per-CPU lists) is full after the
    // first time.
    map_and_unmap(0)?;
    // The kernel gives them back a little later, behind the fence.
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(500));
        memory::drop_caches()?;
        let free = memory::free()?;
        if free < before + MIB {
            break;
        }
        before = free;
    }
    map_and_unmap(MAPS << 21)?;
    programs::eventually("all but 16 MiB of memory to come back", || {
        memory::drop_caches()?;
        Ok(before.saturating_sub(memory::free()?) < 16 * MIB)
    })
}

/// A large residency buffer doesn't hold up the next bind.
fn defect_20_large_null_mapping(_: &mut Test) -> Outcome {
    let mut times = Vec::new();
    // Somebody else may have the processors for a while.
    for _ in 0..3 {
        let gpu = Gpu::new()?;
        let bo = gpu.bo(1, PAGE)?;
        let begin = Instant::now();
        gpu.bind()
            .map_null(gpu.iova(0), 64 * GIB)
            .send_only()
            .context("MAP_NULL of 64 GiB")?;
        gpu.bind()
            .map(&bo, 0, gpu.iova(1 << 40), PAGE)
            .send()?
            .wait(Duration::from_secs(100))
            .context("the MAP behind it")?;
        let took = begin.elapsed();
        if took < Duration::from_secs(5) {
            return Ok(());
        }
        times.push(took);
    }
    harness::bail!("the next bind was done after {times:?}")
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        defect_06_map_without_out_fence,
        defect_07_unmap_without_out_fence,
        defect_17_table_count_wraps,
        defect_19_empty_tables_are_freed,
        defect_20_large_null_mapping,
        defect_05_submit_after_purge,
    ])
}
