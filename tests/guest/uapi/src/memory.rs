// SPDX-License-Identifier: GPL-2.0-only

//! What the system has left.

use std::{fs, io};

/// A line of `/proc/meminfo` in bytes ("MemAvailable", "SUnreclaim").
pub fn meminfo(key: &str) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name == key).then(|| {
                value
                    .trim()
                    .trim_end_matches(" kB")
                    .parse::<u64>()
                    .ok()
                    .map(|kib| kib * 1024)
            })?
        })
        .ok_or_else(|| io::Error::other(format!("no {key} in /proc/meminfo")))
}

/// Bytes that nobody uses. Page tables that a job has reserved are missing from it.
pub fn free() -> io::Result<u64> {
    meminfo("MemFree")
}

/// Gives back what the kernel only caches, so that two readings of [`free`] can be compared.
pub fn drop_caches() -> io::Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "3")
}
