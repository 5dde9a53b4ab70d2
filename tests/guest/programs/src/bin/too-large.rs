// SPDX-License-Identifier: GPL-2.0-only

//! BOs for which there isn't enough memory: whoever wants their pages is told, and nobody else
//! suffers.

use harness::{
    bail,
    ensure,
    ensure_eq,
    ensure_errno,
    Context,
    Ended,
    Outcome,
    Process,
    Test, //
};
use nix::{sys::signal::Signal, unistd::pause};
use programs::{pattern, Gpu};
use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{memory, swap::vmstat, Bo, Device, Errno, PAGE};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A process that does `what`, and then nothing.
fn bystander(what: impl FnOnce() -> Outcome) -> harness::Result<Process> {
    Process::start(|| {
        what()?;
        loop {
            pause();
        }
    })
}

/// A MAP for which there isn't enough memory is refused, and what it got is free again.
fn refused(gpu: &Gpu, size: u64) -> Outcome {
    let killed = vmstat("oom_kill")?;
    let before = memory::free()?;
    let bo = Bo::new(&gpu.device, size).context("GEM_NEW")?;
    for n in 0..2 {
        ensure_errno!(
            gpu.bind().map(&bo, 0, gpu.iova(0), size).send_and_wait(),
            Errno::ENOMEM,
            "MAP {n} of {} MiB",
            size / MIB
        );
    }
    programs::eventually("the memory to come back", || {
        Ok(memory::free()? + 16 * MIB > before)
    })?;
    ensure_eq!(vmstat("oom_kill")?, killed, "processes killed");
    // The VM is as it was.
    let small = gpu.bo(1, PAGE)?;
    gpu.map(&small, gpu.iova(0))?;
    ensure_eq!(
        gpu.read(gpu.iova(0), 1)?,
        [pattern(1, 0)],
        "a MAP afterwards"
    );
    gpu.unmap(gpu.iova(0), PAGE)
}

/// A BO twice as large as memory.
fn defect_36_larger_than_memory(_: &mut Test) -> Outcome {
    let mut bystander = bystander(|| Ok(()))?;
    let gpu = Gpu::new()?;
    refused(&gpu, 2 * memory::meminfo("MemTotal")?)?;
    ensure_eq!(bystander.status()?, None, "a bystander");
    Ok(())
}

/// Most memory is somebody else's, whom the kernel would kill first.
fn defect_36_larger_than_what_is_free(_: &mut Test) -> Outcome {
    const LEFT: u64 = 96 * MIB;
    let gpu = Gpu::new()?;
    let mut bystander = bystander(|| {
        // Kept until the end.
        std::mem::forget(memory::Hoard::leaving(LEFT).context("memory")?);
        Ok(())
    })?;
    let end = Instant::now() + Duration::from_secs(100);
    while memory::meminfo("MemAvailable")? > LEFT + 16 * MIB {
        ensure_eq!(bystander.status()?, None, "the bystander");
        ensure!(Instant::now() < end, "the bystander takes no memory");
        sleep(Duration::from_millis(20));
    }
    refused(&gpu, 2 * LEFT)?;
    ensure_eq!(bystander.status()?, None, "the bystander");
    Ok(())
}

/// How many records come into the kernel's log while `f` runs.
fn log_records(f: impl FnOnce() -> Outcome) -> harness::Result<usize> {
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")?;
    log.seek(SeekFrom::End(0))?;
    f()?;
    let mut records = 0;
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(_) => records += 1,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(records),
            // Some were overwritten before they were read: at least one.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => records += 1,
            Err(e) => return Err(e.into()),
        }
    }
}

/// A CPU access to a BO that can't have pages: SIGBUS instead of one attempt after the other, and
/// quietly.
fn defect_37_access_to_what_has_no_memory(_: &mut Test) -> Outcome {
    // Who isn't told repeats the access for ever.
    const LIMIT: Duration = Duration::from_secs(30);
    let device = Device::open()?;
    for size in [512 * GIB, 1000 * GIB] {
        let bo = Bo::new(&device, size).context("GEM_NEW")?;
        let map = bo.map().context("mmap")?;
        let access = || -> Outcome {
            let mut child = Process::start(|| {
                map.read(0);
                Ok(())
            })?;
            match child.wait(LIMIT)? {
                Some(Ended::By(Signal::SIGBUS)) => Ok(()),
                Some(ended) => bail!("the process that reads: {ended:?}"),
                None => bail!("no SIGBUS after {LIMIT:?}"),
            }
        };
        let records = log_records(access).with_context(|| format!("{} GiB", size / GIB))?;
        ensure!(
            records < 10,
            "{records} lines in the log for {} GiB",
            size / GIB
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        defect_37_access_to_what_has_no_memory,
        defect_36_larger_than_memory,
        defect_36_larger_than_what_is_free,
    ])
}
