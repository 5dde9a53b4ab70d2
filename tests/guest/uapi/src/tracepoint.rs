// SPDX-License-Identifier: GPL-2.0-only

//! Tracepoints: the driver's, and others.

use nix::mount::{mount, MsFlags};
use std::{fs, io, path::Path};

const ROOT: &str = "/sys/kernel/tracing";

/// A tracepoint, recording while this lives. Nobody else may use the trace buffer meanwhile.
#[derive(Debug)]
pub struct Tracepoint {
    group: &'static str,
    name: &'static str,
}

impl Tracepoint {
    /// Empties the trace buffer and records events `name` of the driver.
    pub fn new(name: &'static str) -> io::Result<Self> {
        Self::of("drm_msm_gpu", name)
    }

    /// Empties the trace buffer and records events `name` of that group.
    pub fn of(group: &'static str, name: &'static str) -> io::Result<Self> {
        if !Path::new(ROOT).join("trace").exists() {
            mount(
                Some("tracefs"),
                ROOT,
                Some("tracefs"),
                MsFlags::empty(),
                None::<&str>,
            )?;
        }
        let this = Self { group, name };
        fs::write(format!("{ROOT}/trace"), "")?;
        this.switch("1")?;
        Ok(this)
    }

    fn switch(&self, value: &str) -> io::Result<()> {
        fs::write(
            format!("{ROOT}/events/{}/{}/enable", self.group, self.name),
            value,
        )
    }

    /// What was recorded: what each event says behind its name.
    pub fn events(&self) -> io::Result<Vec<String>> {
        self.events_of(|_| true)
    }

    /// As [`Self::events`], of what this thread did.
    pub fn events_here(&self) -> io::Result<Vec<String>> {
        let thread = nix::unistd::gettid().to_string();
        // "COMM-TID [CPU] FLAGS TIME"
        self.events_of(|before| {
            let task = before.split_once(" [").map(|(task, _)| task.trim());
            task.and_then(|task| Some(task.rsplit_once('-')?.1)) == Some(&thread)
        })
    }

    /// Those of which `wanted` likes what stands before the name.
    fn events_of(&self, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        let text = fs::read_to_string(format!("{ROOT}/trace"))?;
        let mark = format!(" {}: ", self.name);
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(&mark))
            .filter(|(before, _)| wanted(before))
            .map(|(_, event)| event.to_owned())
            .collect())
    }
}

impl Drop for Tracepoint {
    fn drop(&mut self) {
        let _ = self.switch("0");
    }
}
