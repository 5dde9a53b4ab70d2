// SPDX-License-Identifier: GPL-2.0-only

//! CPUs that read a BO while the shrinker takes its pages.

use crate::{check, shrink, PAGES, SIZE, SWAP};
use harness::{ensure, ensure_eq, Context, Ended, Outcome, Process, Test};
use nix::sys::signal::Signal;
use programs::{eventually, pattern, Gpu};
use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    swap::Swap,
    Bo, Errno, Mapping,
};

/// Calls `f` while two threads call `access` in turn on each page of a mapping of their own.
fn while_accessed(
    bo: &Bo,
    access: impl Fn(&Mapping, usize) -> Outcome + Sync,
    f: impl FnOnce() -> Outcome,
) -> Outcome {
    let (done, running) = (AtomicBool::new(false), AtomicU32::new(0));
    let reader = |step: usize| -> Outcome {
        let map = bo.map()?;
        running.fetch_add(1, Ordering::Relaxed);
        let mut page = 0;
        while !done.load(Ordering::Relaxed) {
            access(&map, page * 1024 + step)?;
            page = (page + step) % PAGES as usize;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let readers = [1, 7].map(|step| scope.spawn(move || reader(step)));
        let result = eventually("two threads to begin", || {
            Ok(running.load(Ordering::Relaxed) == 2 || readers.iter().any(|r| r.is_finished()))
        })
        .and_then(|()| f());
        done.store(true, Ordering::Relaxed);
        let ends = readers.map(|reader| reader.join().expect("a thread"));
        result.and(ends.into_iter().collect())
    })
}

/// CPUs that read a BO while it is swapped out, again and again, see what is in it and nothing
/// else.
pub fn cpu_access_races_with_swapping_out(_: &mut Test) -> Outcome {
    let _swap = Swap::new(SWAP).context("swap")?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, SIZE)?;
    gpu.map(&bo, gpu.iova(0))?;
    let (mut taken, mut round) = (0, 0);
    while_accessed(
        &bo,
        |map, at| {
            ensure_eq!(map.read(at), pattern(1, at), "dword {at}");
            Ok(())
        },
        || {
            // The readers, which bring it back, may not have been run in between. What a check has
            // brought back doesn't count.
            while taken <= 10 || round < 60 {
                ensure!(
                    round < 2000,
                    "swapped out {taken} times while the CPUs read"
                );
                taken += u32::from(shrink()? >= PAGES && round % 8 != 1);
                if round % 8 == 0 {
                    check(&gpu, gpu.iova(0), 1, &format!("in round {round}"))?;
                }
                round += 1;
            }
            Ok(())
        },
    )
}

/// An access of this process that the kernel doesn't allow.
fn sigbus(map: &Mapping) -> Outcome {
    let ended = Process::start(|| {
        map.read(0);
        Ok(())
    })?
    .end(Process::LONG)?;
    ensure_eq!(ended, Ended::By(Signal::SIGBUS), "the process");
    Ok(())
}

/// CPUs that read a BO while it is purged see what is in it, or nothing: never what belongs to
/// somebody else by then. They are refused from when it isn't needed, and not before.
pub fn cpu_access_races_with_purge(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    for round in 0..6 {
        let bo = gpu.bo(round + 1, SIZE)?;
        let unneeded = AtomicBool::new(false);
        while_accessed(
            &bo,
            |map, at| {
                match map.try_read(at) {
                    Ok(found) => ensure_eq!(found, pattern(round + 1, at), "dword {at}"),
                    Err(Errno::EFAULT) => {
                        ensure!(
                            unneeded.load(Ordering::SeqCst),
                            "EFAULT in a BO that is needed"
                        )
                    }
                    Err(e) => harness::bail!("dword {at}: {e}"),
                }
                Ok(())
            },
            || {
                unneeded.store(true, Ordering::SeqCst);
                bo.madvise(MSM_MADV_DONTNEED)?;
                eventually("the BO to be purged", || {
                    shrink()?;
                    // Of what isn't needed this asks, and changes nothing.
                    Ok(!bo.madvise(MSM_MADV_DONTNEED)?)
                })?;
                // Whoever gets its pages now writes something else into them.
                let _others = [gpu.bo(1001, SIZE)?, gpu.bo(1002, SIZE)?];
                thread::sleep(Duration::from_millis(2));
                ensure!(!bo.madvise(MSM_MADV_WILLNEED)?, "not purged");
                Ok(())
            },
        )
        .with_context(|| format!("round {round}"))?;
        let map = bo.map()?;
        for page in 0..PAGES as usize {
            harness::ensure_errno!(
                map.try_read(page * 1024),
                Errno::EFAULT,
                "page {page} after the purge"
            );
        }
        if round == 0 {
            sigbus(&map)?;
        }
    }
    Ok(())
}
