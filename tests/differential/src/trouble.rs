// SPDX-License-Identifier: GPL-2.0-only

//! What may come in between an ioctl and its end: a signal, an allocation that fails.

use fastrand::Rng;
use harness::{Context, Result};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use uapi::{fault_injection, Errno};

/// What a program's ioctls are troubled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing: every answer is known beforehand.
    None,
    /// Signals, at moments that differ from run to run.
    Signals,
    /// One allocation of an ioctl fails; the seed says of which, and which.
    Failslab,
    /// The GPU is asleep when an ioctl comes.
    Sleep,
}

/// The trouble that a program has, ioctl by ioctl.
#[derive(Debug)]
pub struct Source {
    kind: Trouble,
    rng: Rng,
}

extern "C" fn nothing(_: i32) {}

/// One SIGALRM after so many µs; 0: none any more.
fn alarm(delay: libc::suseconds_t) {
    let value = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: delay,
        },
    };
    // SAFETY: the value is valid for the call.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &value, std::ptr::null_mut()) };
}

impl Source {
    /// For the program of a seed.
    pub fn new(kind: Trouble, seed: u64) -> Result<Self> {
        match kind {
            Trouble::None | Trouble::Sleep => {}
            Trouble::Signals => {
                let action = SigAction::new(
                    SigHandler::Handler(nothing),
                    SaFlags::empty(),
                    SigSet::empty(),
                );
                // SAFETY: the handler does nothing.
                unsafe { sigaction(Signal::SIGALRM, &action) }.context("sigaction")?;
            }
            Trouble::Failslab => fault_injection::set_up().context("failslab")?,
        }
        Ok(Self {
            kind,
            rng: Rng::with_seed(!seed),
        })
    }

    /// Makes a call, perhaps with trouble.
    pub fn call<T>(&mut self, call: impl FnOnce() -> uapi::Result<T>) -> uapi::Result<T> {
        match self.kind {
            Trouble::None => call(),
            Trouble::Signals => {
                alarm(self.rng.i64(1..400) as libc::suseconds_t);
                let answer = call();
                alarm(0);
                answer
            }
            Trouble::Failslab if self.rng.bool() => {
                match fault_injection::failing_nth(self.rng.u32(1..24), call) {
                    Ok((answer, _)) => answer,
                    Err(_) => Err(Errno::EIO),
                }
            }
            Trouble::Failslab => call(),
            Trouble::Sleep => {
                // The GPU goes to sleep after 66 ms of idleness.
                if self.rng.u8(..3) == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(self.rng.u64(60..120)));
                }
                call()
            }
        }
    }

    /// Whether an error is this trouble's, and nothing has happened.
    pub fn explains(&self, errno: Errno) -> bool {
        match self.kind {
            Trouble::None | Trouble::Sleep => false,
            Trouble::Signals => errno == Errno::EINTR,
            // GEM_NEW's ENOSPC is drm_vma_manager's answer.
            Trouble::Failslab => matches!(errno, Errno::ENOMEM | Errno::ENOSPC),
        }
    }
}
