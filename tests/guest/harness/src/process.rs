// SPDX-License-Identifier: GPL-2.0-only

//! A process of the test's own, which doesn't outlive it.

use crate::{
    ensure_eq,
    telling::{telling, Listener, Teller},
    Outcome,
};
use anyhow::{ensure, Context, Result};
use nix::{
    sys::{
        prctl,
        signal::{kill, Signal},
        wait::{waitpid, WaitPidFlag, WaitStatus},
    },
    unistd::{fork, getpid, getppid, ForkResult, Pid},
};
use std::{
    fs,
    panic::{catch_unwind, AssertUnwindSafe},
    thread::sleep,
    time::{Duration, Instant},
};

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    With(i32),
    /// Killed by this signal.
    By(Signal),
}

/// A child of this process. It is killed and reaped when dropped, and killed with the thread that
/// started it, should that not get so far.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    /// Once it was reaped: from then on its number may be another's.
    ended: Option<Ended>,
}

impl Process {
    /// Longer than any sub-test is given: whoever waits so long leaves the limit to the harness.
    pub const LONG: Duration = Duration::from_secs(600);

    /// How long a process that is killed by being dropped may take to be gone.
    const LAST: Duration = Duration::from_secs(10);

    /// Runs `work` in a new process. What it leaves open is the kernel's to close. The exit status
    /// is 0, or 1 if it fails; then it says why.
    ///
    /// # Errors
    /// As of [`Process::fork`].
    pub fn start(work: impl FnOnce() -> Outcome) -> Result<Self> {
        Self::fork(|| {
            let result = work();
            if let Err(e) = &result {
                println!("# {e:#}");
            }
            result.is_err() as i32
        })
    }

    /// As [`Process::start`], of a process that says how far it has got.
    pub fn start_telling(work: impl FnOnce(&Teller) -> Outcome) -> Result<(Self, Listener)> {
        let (teller, listener) = telling()?;
        let child = Self::start(move || work(&teller))?;
        Ok((child, listener))
    }

    /// As [`Process::start`], with the exit status that `work` returns. A panic makes it 101.
    ///
    /// # Errors
    /// This process has other threads (of which the new one would have nothing but the locks that
    /// they hold), or there can't be another process.
    pub fn fork(work: impl FnOnce() -> i32) -> Result<Self> {
        let parent = getpid();
        alone()?;
        // SAFETY: this process has one thread, so nobody else holds a lock.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => Ok(Self {
                pid: child,
                ended: None,
            }),
            ForkResult::Child => {
                let status = catch_unwind(AssertUnwindSafe(|| {
                    prctl::set_pdeathsig(Signal::SIGKILL).expect("PR_SET_PDEATHSIG");
                    // The parent may have been killed before.
                    if getppid() == parent {
                        work()
                    } else {
                        1
                    }
                }));
                // SAFETY: ends the process, without unwinding what is the parent's.
                unsafe { libc::_exit(status.unwrap_or(101)) }
            }
        }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// How it has ended, if it has.
    pub fn status(&mut self) -> Result<Option<Ended>> {
        if self.ended.is_none() {
            self.ended = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)).context("waitpid")? {
                WaitStatus::Exited(_, status) => Some(Ended::With(status)),
                WaitStatus::Signaled(_, signal, _) => Some(Ended::By(signal)),
                _ => None,
            };
        }
        Ok(self.ended)
    }

    /// Waits for its end, but not longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Ended>> {
        let end = Instant::now() + limit;
        while self.status()?.is_none() && Instant::now() < end {
            sleep(Duration::from_millis(2));
        }
        Ok(self.ended)
    }

    /// How it ends, which it has to do within `limit`.
    pub fn end(&mut self, limit: Duration) -> Result<Ended> {
        self.wait(limit)?.with_context(|| {
            format!(
                "the process is still there after {limit:?}, {}",
                self.state()
            )
        })
    }

    /// Waits until it does nothing, as [`falls_asleep`] says, interruptibly or not, for half a
    /// second. Says no if it has ended instead.
    pub fn waits(&mut self, limit: Duration) -> Result<bool> {
        Ok(self.status()?.is_none() && falls_asleep(self.pid, "SD", 10, limit)?)
    }

    /// It succeeds, within `limit`.
    pub fn succeeds(mut self, limit: Duration) -> Outcome {
        ensure_eq!(self.end(limit)?, Ended::With(0), "the process");
        Ok(())
    }

    /// Kills it. It must not have ended by itself, and be gone within `limit`.
    pub fn kill(mut self, limit: Duration) -> Outcome {
        self.signal(Signal::SIGKILL)?;
        let ended = self.end(limit).context("killed")?;
        ensure_eq!(
            ended,
            Ended::By(Signal::SIGKILL),
            "a process that was killed"
        );
        Ok(())
    }

    /// Sends it a signal, unless it was seen to have ended.
    pub fn signal(&self, signal: Signal) -> Outcome {
        if self.ended.is_none() {
            kill(self.pid, signal).context("kill")?;
        }
        Ok(())
    }

    /// Its state as `/proc` has it ("state D (disk sleep)").
    pub fn state(&self) -> String {
        format!("state {}", state(self.pid).as_deref().unwrap_or("unknown"))
    }
}

/// The state of a process or thread as `/proc` has it ("D (disk sleep)"), if it is there.
fn state(task: Pid) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let state = |line: &str| Some(line.strip_prefix("State:")?.trim().into());
    status.lines().find_map(state)
}

/// Waits until a process or thread does nothing: until it is in one of `states` ("S": asleep, "D":
/// uninterruptibly) each of `looks` times, 50 ms apart. That isn't a matter of how fast the machine
/// is: who has no processor yet isn't asleep. Says no if it has ended instead.
///
/// # Errors
/// Neither is so within `limit`.
pub fn falls_asleep(task: Pid, states: &str, looks: u32, limit: Duration) -> Result<bool> {
    let end = Instant::now() + limit;
    let mut asleep = 0;
    while asleep < looks {
        sleep(Duration::from_millis(50));
        // A zombie has ended, too.
        let Some(state) = state(task).filter(|state| !state.starts_with(['Z', 'X'])) else {
            return Ok(false);
        };
        ensure!(Instant::now() < end, "it doesn't wait, state {state}");
        let sleeps = state.starts_with(|c| states.contains(c));
        asleep = if sleeps { asleep + 1 } else { 0 };
    }
    Ok(true)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal(Signal::SIGKILL);
        if !matches!(self.wait(Self::LAST), Ok(Some(_))) {
            eprintln!("process {} can't be killed, {}", self.pid, self.state());
        }
    }
}

/// Waits until this process has one thread: one that was joined may not be quite gone.
fn alone() -> Outcome {
    const THREADS: &str = "/proc/self/task";
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let threads = fs::read_dir(THREADS).context(THREADS)?.count();
        if threads == 1 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "a process of {threads} threads forks");
        sleep(Duration::from_millis(1));
    }
}
