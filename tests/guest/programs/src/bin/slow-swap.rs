// SPDX-License-Identifier: GPL-2.0-only

//! BOs that come back from a swap device that takes its time (`tests/vm --slow-disk`): who waits
//! for that can be killed, and who doesn't need it isn't held up.

use harness::{bail, ensure, Context, Ended, Outcome, Process, Test};
use nix::{
    sys::signal::Signal,
    unistd::{pause, pipe, read, write},
};
use programs::{Census, Gpu};
use std::{
    env, fs,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};
use uapi::{
    debugfs, memory,
    swap::{vmstat, Swap},
    Bo, Pm4, PAGE,
};

const MIB: u64 = 1 << 20;
const BO: u64 = 16 * MIB;

/// What is swapped out: it takes much longer to read than anything here waits.
fn size() -> u64 {
    env::var("MIB").map_or(64, |mib| mib.parse().expect("MIB=NUMBER")) * MIB
}

/// How much longer than another process somebody may live on who is killed while he swaps in.
const SOON: Duration = Duration::from_millis(100);

/// Whether a process has begun to end, with whatever it was doing: PF_EXITING of its flags.
fn is_ending(process: &mut Process) -> harness::Result<bool> {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", process.pid())) else {
        return Ok(true);
    };
    // The name may have spaces and brackets.
    let (_, fields) = stat.rsplit_once(')').context("stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let flags: u64 = fields.get(6).context("flags")?.parse()?;
    Ok(flags & 4 != 0 || matches!(fields[0], "Z" | "X"))
}

/// Kills a process, and says how long it went on with what it was doing.
fn kill(mut process: Process) -> harness::Result<Duration> {
    ensure!(!is_ending(&mut process)?, "a process has ended by itself");
    let start = Instant::now();
    process.signal(Signal::SIGKILL)?;
    while !is_ending(&mut process)? {
        ensure!(
            start.elapsed() < Process::LONG,
            "it can't be killed, {}",
            process.state()
        );
        sleep(Duration::from_millis(1));
    }
    let took = start.elapsed();
    let ended = process.end(Process::LONG)?;
    ensure!(
        ended == Ended::By(Signal::SIGKILL),
        "a process that was killed: {ended:?}"
    );
    Ok(took)
}

/// How a process gets its BOs back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Submit,
    Bind,
    Cpu,
}

/// A process whose BOs are in swap, and which wants them back once it is told to.
struct Victim {
    process: Process,
    go: std::os::fd::OwnedFd,
}

impl Victim {
    fn new(group: &memory::Group, by: By) -> harness::Result<Self> {
        let ((order, go), (ready, tell)) = (pipe()?, pipe()?);
        let process = Process::start(|| {
            let gpu = Gpu::new()?;
            // Their pages alone are the group's.
            let bos = group.run(|| -> harness::Result<Vec<Bo>> {
                (0..size() / BO)
                    .map(|n| {
                        let bo = Bo::new(&gpu.device, BO)?;
                        let map = bo.map()?;
                        (0..BO / PAGE)
                            .for_each(|page| map.write(page as usize * 1024, 1 + page as u32));
                        if by != By::Bind {
                            gpu.map(&bo, gpu.iova(n * BO))?;
                        }
                        Ok(bo)
                    })
                    .collect()
            })??;
            write(&tell, &[1])?;
            read(&order, &mut [0])?;
            match by {
                By::Submit => gpu.run(&Pm4::new().nop(4).barrier())?,
                By::Bind => {
                    for (n, bo) in bos.iter().enumerate() {
                        gpu.map(bo, gpu.iova(n as u64 * BO))?;
                    }
                }
                By::Cpu => {
                    for bo in &bos {
                        bo.map()?.read(0);
                    }
                }
            }
            println!("# {by:?}: all of it came back");
            loop {
                pause();
            }
        })?;
        read(&ready, &mut [0])?;
        // Out of the BOs, and then out of memory.
        let end = Instant::now() + Process::LONG;
        while group.swapped()? < size() * 9 / 10 {
            ensure!(Instant::now() < end, "{} bytes in swap", group.swapped()?);
            debugfs::shrink(1 << 20)?;
            // EAGAIN: there is less.
            let _ = group.reclaim(size());
        }
        Ok(Self { process, go })
    }

    /// Has it begin, and waits until it has read so many pages.
    fn begins(&self, pages: u64) -> Outcome {
        let before = vmstat("pswpin")?;
        write(&self.go, &[1])?;
        let end = Instant::now() + Duration::from_secs(60);
        while vmstat("pswpin")? < before + pages {
            ensure!(
                Instant::now() < end,
                "it doesn't swap in, {}",
                self.process.state()
            );
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// How many SUBMITs a context gets done in that time, and the longest of them.
fn submits(gpu: &Gpu, time: Duration) -> harness::Result<(u32, Duration)> {
    let start = Instant::now();
    let (mut count, mut longest) = (0, Duration::ZERO);
    while start.elapsed() < time {
        let one = Instant::now();
        gpu.run(&Pm4::new().nop(4).barrier())?;
        longest = longest.max(one.elapsed());
        count += 1;
    }
    Ok((count, longest))
}

/// Kills who brings BOs back by `by`. Meanwhile another process goes on. Says what was slow, if
/// anything was.
fn kill_one(by: By, name: &str) -> harness::Result<Option<String>> {
    const TIME: Duration = Duration::from_millis(1500);
    let census = Census::new()?;
    let group = memory::Group::new(name).context("cgroup")?;
    let victim = Victim::new(&group, by)?;
    let mut controls = Vec::new();
    for _ in 0..3 {
        controls.push(kill(Process::start(|| loop {
            pause();
        })?)?);
    }
    let control = controls.into_iter().max().unwrap_or_default();
    let gpu = Gpu::new()?;
    gpu.run(&Pm4::new().nop(4).barrier())?;
    let alone = submits(&gpu, TIME)?;
    let before = vmstat("pswpin")?;
    victim.begins(64)?;
    let beside = submits(&gpu, TIME)?;
    let read = vmstat("pswpin")? - before;
    let took = kill(victim.process)?;
    println!(
        "# {by:?} of {} MiB, {} pages read: killed in {took:.1?}, somebody who sleeps in {control:.1?}; \
         SUBMITs of another process in {TIME:?}: {} before, {:.1?} the longest; {} beside it, {:.1?} the longest",
        size() / MIB,
        read,
        alone.0,
        alone.1,
        beside.0,
        beside.1
    );
    drop(gpu);
    census.restored()?;
    Ok(if read * PAGE >= size() / 2 {
        Some(format!("{read} pages came back: the disk is too fast"))
    } else if took > control + SOON {
        Some(format!(
            "killed in {took:?}, somebody who sleeps in {control:?}"
        ))
    } else if beside.0 * 4 < alone.0 {
        Some(format!(
            "{} SUBMITs of another process, {} before",
            beside.0, alone.0
        ))
    } else {
        None
    })
}

/// One of a few that are killed ends soon, and holds nobody up. What else this machine has to do
/// may make some of them slow; who can't be killed, or keeps the GPU, makes all of them so.
fn killed_by(by: By) -> Outcome {
    const TIMES: u32 = 5;
    let _swap = Swap::on_disk().context("swap on a disk: tests/vm --slow-disk=320:200")?;
    let mut slow = Vec::new();
    for n in 0..TIMES {
        match kill_one(by, &format!("slow-swap-{n}"))? {
            None => return Ok(()),
            Some(why) => slow.push(why),
        }
    }
    bail!("each of {TIMES}: {}", slow.join("; "))
}

fn killed_in_a_submit(_: &mut Test) -> Outcome {
    killed_by(By::Submit)
}

fn killed_in_a_bind(_: &mut Test) -> Outcome {
    killed_by(By::Bind)
}

fn killed_in_a_cpu_access(_: &mut Test) -> Outcome {
    killed_by(By::Cpu)
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        killed_in_a_submit,
        killed_in_a_bind,
        killed_in_a_cpu_access,
    ])
}
