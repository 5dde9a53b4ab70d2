// SPDX-License-Identifier: GPL-2.0-only

//! The GPU's files in debugfs.

use nix::mount::{mount, MsFlags};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

const ROOT: &str = "/sys/kernel/debug";

fn mounted() -> io::Result<()> {
    if !PathBuf::from(ROOT).join("dri").exists() {
        mount(
            Some("debugfs"),
            ROOT,
            Some("debugfs"),
            MsFlags::empty(),
            None::<&str>,
        )?;
    }
    Ok(())
}

/// The msm device's directory: the one with a `shrink` file.
fn directory() -> io::Result<PathBuf> {
    mounted()?;
    let mut entries: Vec<_> = fs::read_dir(PathBuf::from(ROOT).join("dri"))?
        .filter_map(|e| Some(e.ok()?.path()))
        .collect();
    entries.sort();
    entries
        .into_iter()
        .find(|path| path.join("shrink").exists())
        .ok_or_else(|| io::Error::other("no msm device in debugfs"))
}

/// Asks the shrinker for `pages`; returns how many it says it freed.
pub fn shrink(pages: u64) -> io::Result<u64> {
    shrink_in(&directory()?, pages)
}

fn shrink_in(directory: &Path, pages: u64) -> io::Result<u64> {
    let file = directory.join("shrink");
    fs::write(&file, pages.to_string())?;
    let text = fs::read_to_string(&file)?;
    match u64::from_str_radix(text.trim().trim_start_matches("0x"), 16) {
        // SHRINK_STOP
        Ok(u64::MAX) => Ok(0),
        freed => freed.map_err(io::Error::other),
    }
}

/// Asks the shrinkers of all msm devices, be it the GPU's alone or the display's as well.
pub fn shrink_all(pages: u64) -> io::Result<u64> {
    mounted()?;
    let mut freed = 0;
    for entry in fs::read_dir(PathBuf::from(ROOT).join("dri"))? {
        let directory = entry?.path();
        if directory.join("shrink").exists() {
            freed += shrink_in(&directory, pages)?;
        }
    }
    Ok(freed)
}

/// How often the kernel looks whether the GPU gets on. By default that is so often that a guest
/// whose processors are wanted elsewhere looks hung.
pub fn set_hangcheck_period(period: Duration) -> io::Result<()> {
    let file = directory()?.join("hangcheck_period_ms");
    fs::write(file, period.as_millis().to_string())
}

/// While this lives, the kernel looks once a minute whether the GPU gets on: for tests that keep it
/// busy on purpose while they do something else, which takes a slow machine longer than a hang is
/// given. It holds from the next submit on.
#[derive(Debug)]
pub struct SlowHangcheck {
    before: Duration,
}

impl SlowHangcheck {
    const PERIOD: Duration = Duration::from_secs(60);

    /// Sets the period, and remembers what it was.
    pub fn new() -> io::Result<Self> {
        let text = fs::read_to_string(directory()?.join("hangcheck_period_ms"))?;
        let before = text.trim().parse().map_err(io::Error::other)?;
        set_hangcheck_period(Self::PERIOD)?;
        Ok(Self {
            before: Duration::from_millis(before),
        })
    }
}

impl Drop for SlowHangcheck {
    fn drop(&mut self) {
        if let Err(e) = set_hangcheck_period(self.before) {
            eprintln!("hangcheck_period_ms: {e}");
        }
    }
}

/// Each submit from now on, with what is to be dumped of what is mapped. One at a time may have it.
pub fn rd() -> io::Result<File> {
    File::open(directory()?.join("rd"))
}

/// The list of all BOs.
pub fn gem() -> io::Result<String> {
    fs::read_to_string(directory()?.join("gem"))
}

/// Where a BO of the kernel's, of that name, is in the GPU's address space. BOs that somebody has
/// locked are missing.
pub fn gem_iova(name: &str) -> io::Result<Option<u64>> {
    let text = gem()?;
    let mut lines = text.lines();
    // The line behind the BO's is "vmas: [gpu: vm=POINTER, IOVA, …]".
    let named = |line: &str| line.split_whitespace().next_back() == Some(name);
    let vmas = lines.find(|line| named(line)).and_then(|_| lines.next());
    let iova = vmas.and_then(|vmas| vmas.split(", ").nth(1));
    iova.map(|iova| u64::from_str_radix(iova, 16).map_err(io::Error::other))
        .transpose()
}

/// The VMAs of all open files' VMs; `None` if there is no such file.
pub fn gpuvas() -> io::Result<Option<String>> {
    let path = directory()?.join("gpuvas");
    path.exists().then(|| fs::read_to_string(path)).transpose()
}

/// How many BOs there are, and their bytes. BOs that somebody has locked are missing.
pub fn gem_total() -> io::Result<(u64, u64)> {
    gem_sum("Total:")
}

/// As [`gem_total`], by the most of several looks: what is locked for a moment is hardly missing in
/// all of them.
pub fn most_gem_total() -> io::Result<(u64, u64)> {
    most(gem_total)
}

/// How many BOs have pages, and their bytes. BOs that somebody has locked are missing.
pub fn gem_resident() -> io::Result<(u64, u64)> {
    gem_sum("Resident:")
}

/// As [`gem_resident`], by the most of several looks.
pub fn most_gem_resident() -> io::Result<(u64, u64)> {
    most(gem_resident)
}

fn most(look: impl Fn() -> io::Result<(u64, u64)>) -> io::Result<(u64, u64)> {
    let mut most = look()?;
    for _ in 1..5 {
        sleep(Duration::from_millis(5));
        most = most.max(look()?);
    }
    Ok(most)
}

/// How many BOs are mapped for the kernel. BOs that somebody has locked are missing.
pub fn gem_kernel_mappings() -> io::Result<usize> {
    // "   FLAGS: A NAME (REFS) OFFSET KADDR SIZE …", with spaces in front of short names and
    // counts.
    let mapped = |line: &str| {
        let mut words = line.split_once(')')?.1.split_whitespace();
        words.nth(1).map(|kaddr| kaddr.contains(|c| c != '0'))
    };
    let text = gem()?;
    Ok(text
        .lines()
        .filter(|line| line.contains(": A ") || line.contains(": I "))
        .filter(|line| mapped(line) == Some(true))
        .count())
}

/// The list of all BOs, for looking at it often.
#[derive(Debug)]
pub struct GemList {
    file: File,
    text: Vec<u8>,
}

impl GemList {
    /// Opens it.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            file: File::open(directory()?.join("gem"))?,
            text: vec![0; 64 << 10],
        })
    }

    /// The bytes of all BOs, and of those that have pages. BOs that somebody has locked may be
    /// missing.
    pub fn bytes(&mut self) -> io::Result<(u64, u64)> {
        let mut len = 0;
        loop {
            let read = self.file.read_at(&mut self.text[len..], len as u64)?;
            len += read;
            if read == 0 || len == self.text.len() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&self.text[..len]);
        Ok((sum(&text, "Total:")?.1, sum(&text, "Resident:")?.1))
    }
}

/// How long the SMMU won't stall on a fault, after the last one.
pub fn stall_reenable_time() -> io::Result<Duration> {
    let text = fs::read_to_string(directory()?.join("stall_reenable_time_us"))?;
    let time = text.trim().parse().map_err(io::Error::other)?;
    Ok(Duration::from_micros(time))
}

fn gem_sum(title: &str) -> io::Result<(u64, u64)> {
    sum(&gem()?, title)
}

fn sum(text: &str, title: &str) -> io::Result<(u64, u64)> {
    let line = text
        .lines()
        // Behind the indentation of a BO that was locked, and so left out.
        .find(|line| line.trim_start().starts_with(title))
        .unwrap_or_default();
    let mut numbers = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(objects), Some(bytes)) => Ok((objects, bytes)),
        _ => Err(io::Error::other(format!("no total in {text:?}"))),
    }
}
