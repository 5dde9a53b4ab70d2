// SPDX-License-Identifier: GPL-2.0-only

//! Tracepoints: the driver's, and others.

use nix::mount::{mount, MsFlags};
use std::{fs, io, path::Path};

const ROOT: &str = "/sys/kernel/tracing";

fn mounted() -> io::Result<()> {
    if !Path::new(ROOT).join("trace").exists() {
        mount(
            Some("tracefs"),
            ROOT,
            Some("tracefs"),
            MsFlags::empty(),
            None::<&str>,
        )?;
    }
    Ok(())
}

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
        mounted()?;
        let this = Self { group, name };
        fs::write(format!("{ROOT}/trace"), "")?;
        this.switch("1")?;
        Ok(this)
    }

    /// Whether the driver has a tracepoint of that name.
    pub fn exists(name: &str) -> io::Result<bool> {
        mounted()?;
        Ok(Path::new(ROOT)
            .join("events/drm_msm_gpu")
            .join(name)
            .exists())
    }

    /// As [`Self::of`], of those events of which `filter` is true, in the kernel's words.
    pub fn of_those(group: &'static str, name: &'static str, filter: &str) -> io::Result<Self> {
        let this = Self::of(group, name)?;
        this.filter(filter)?;
        fs::write(format!("{ROOT}/trace"), "")?;
        Ok(this)
    }

    fn filter(&self, filter: &str) -> io::Result<()> {
        let file = format!("{ROOT}/events/{}/{}/filter", self.group, self.name);
        fs::write(file, filter)
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
        let text = recorded()?;
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
        let _ = self.filter("0");
    }
}

/// Several tracepoints, recording while this lives: what they tell comes in the order in which it
/// happened. Nobody else may use the trace buffer meanwhile.
#[derive(Debug)]
pub struct Trace(Vec<Tracepoint>);

impl Trace {
    /// Empties the trace buffer and records these events, of (group, name).
    pub fn new(points: &[(&'static str, &'static str)]) -> io::Result<Self> {
        let points = points.iter();
        let points = points.map(|&(group, name)| Tracepoint::of(group, name));
        Ok(Self(points.collect::<io::Result<_>>()?))
    }

    /// What was recorded, which is forgotten. What happens meanwhile may be lost.
    pub fn take(&self) -> io::Result<Vec<Event>> {
        let events = self.events()?;
        forget()?;
        Ok(events)
    }

    /// What was recorded.
    pub fn events(&self) -> io::Result<Vec<Event>> {
        Ok(recorded()?
            .lines()
            .filter_map(|line| {
                self.0.iter().find_map(|point| {
                    let (_, text) = line.split_once(&format!(" {}: ", point.name))?;
                    Some(Event {
                        name: point.name,
                        text: text.to_owned(),
                    })
                })
            })
            .collect())
    }
}

/// What is in the trace buffer.
fn recorded() -> io::Result<String> {
    fs::read_to_string(format!("{ROOT}/trace"))
}

/// Empties the trace buffer. Nothing is recorded but what is switched on.
pub fn forget() -> io::Result<()> {
    mounted()?;
    fs::write(format!("{ROOT}/trace"), "")
}

/// How many events are in the trace buffer, of whatever kind.
pub fn count() -> io::Result<usize> {
    let text = recorded()?;
    Ok(text.lines().filter(|line| !line.starts_with('#')).count())
}

/// An event: its name, and `key=value` of each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The tracepoint's.
    pub name: &'static str,
    /// All that it says.
    pub text: String,
}

impl Event {
    /// What it says of `key`, up to the first space or comma in it.
    pub fn get(&self, key: &str) -> io::Result<&str> {
        self.text
            .split([' ', ','])
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .ok_or_else(|| io::Error::other(format!("no {key} in {self:?}")))
    }

    /// As [`Self::get`], as a number.
    pub fn number(&self, key: &str) -> io::Result<u64> {
        let text = self.get(key)?;
        let number = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        number.map_err(|e| io::Error::other(format!("{key} in {self:?}: {e}")))
    }
}
