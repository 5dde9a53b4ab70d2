// SPDX-License-Identifier: GPL-2.0-only

//! A child says that it has got so far, and how long that has taken it.
//!
//! The child measures: its parent may not have a processor when it is told.

use crate::Outcome;
use anyhow::{ensure, Context, Result};
use nix::{
    poll::{poll, PollFd, PollFlags, PollTimeout},
    unistd::{pipe, read, write},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// The child's end.
#[derive(Debug)]
pub struct Teller(OwnedFd);

/// The parent's end.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// Both ends. The child's has to be moved into it: a parent that keeps it doesn't notice when the
/// child ends.
pub fn telling() -> Result<(Teller, Listener)> {
    let (told, tell) = pipe().context("pipe")?;
    Ok((Teller(tell), Listener(told)))
}

impl Teller {
    /// Says that what was to be done is done, and took so long.
    pub fn tell(&self, took: Duration) -> Outcome {
        write(&self.0, &(took.as_micros() as u64).to_ne_bytes()).context("telling the parent")?;
        Ok(())
    }
}

impl Listener {
    /// Waits until the child says that it has got on. Returns how long it has taken.
    ///
    /// # Errors
    /// It ends instead, or takes more than `limit`.
    pub fn hear(&self, limit: Duration) -> Result<Duration> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let heard = poll(&mut fds, PollTimeout::try_from(limit)?).context("poll")?;
        ensure!(heard == 1, "the process doesn't get on in {limit:?}");
        let mut micros = [0; 8];
        let len = read(&self.0, &mut micros).context("hearing the child")?;
        ensure!(len == micros.len(), "the process has ended");
        Ok(Duration::from_micros(u64::from_ne_bytes(micros)))
    }
}
