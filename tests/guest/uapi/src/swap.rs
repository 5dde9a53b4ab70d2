// SPDX-License-Identifier: GPL-2.0-only

//! Swap in compressed memory, or on a disk, and what the kernel says of memory shortage.

use crate::module;
use std::{fs, io, path::Path, process::Command, thread::sleep, time::Duration};

const DEVICE: &str = "/dev/zram0";
const SYSFS: &str = "/sys/block/zram0";
/// What `tests/vm --slow-disk` makes.
const DISK: &str = "/dev/vda";

/// While this lives, there is swap on a zram device, or a disk.
#[derive(Debug)]
pub struct Swap(&'static str);

impl Swap {
    /// Swap for `bytes` of content, which take memory only when they are there, and less than they
    /// are.
    ///
    /// # Errors
    /// What went wrong; there is no swap then.
    pub fn new(bytes: u64) -> io::Result<Self> {
        if !Path::new(SYSFS).exists() {
            module::load("zram", &[])?;
        }
        fs::write(format!("{SYSFS}/reset"), "1")?;
        fs::write(format!("{SYSFS}/disksize"), bytes.to_string())?;
        Self::on(DEVICE)
    }

    /// Swap on all of the guest's disk, of which nothing else is used.
    ///
    /// # Errors
    /// What went wrong, or that there is no disk; there is no swap then.
    pub fn on_disk() -> io::Result<Self> {
        if !Path::new(DISK).exists() {
            module::load("virtio_blk", &[])?;
        }
        // The driver finds it in its own time.
        for _ in 0..600 {
            if Path::new(DISK).exists() {
                break;
            }
            sleep(Duration::from_millis(100));
        }
        Self::on(DISK)
    }

    fn on(device: &'static str) -> io::Result<Self> {
        run("mkswap", device)?;
        run("swapon", device)?;
        Ok(Self(device))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // Content that still belongs to somebody has to fit into memory; memory of processes that
        // have just ended may take a moment to be free, or a minute on a slow machine.
        let mut last = String::new();
        for _ in 0..600 {
            match run("swapoff", self.0) {
                Ok(()) => {
                    if self.0 == DEVICE {
                        let _ = fs::write(format!("{SYSFS}/reset"), "1");
                    }
                    return;
                }
                Err(e) => last = e.to_string(),
            }
            sleep(Duration::from_millis(100));
        }
        // The next swap on the device fails, and wouldn't say why.
        eprintln!("{} stays in use as swap: {last}", self.0);
    }
}

/// Runs busybox's command of that name on a device.
fn run(command: &str, device: &str) -> io::Result<()> {
    let output = Command::new(command).arg(device).output()?;
    if output.status.success() {
        Ok(())
    } else {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io::Error::other(format!("{command}: {why}")))
    }
}

/// A counter of `/proc/vmstat` ("pswpout", "oom_kill").
pub fn vmstat(key: &str) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/vmstat")?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {key} in /proc/vmstat")))
}
