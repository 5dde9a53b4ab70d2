// SPDX-License-Identifier: GPL-2.0-only

//! What the system has left.

use memmap2::{Advice, MmapMut};
use nix::mount::{mount, MsFlags};
use std::{fs, io, path::PathBuf, process};

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

/// Bytes in shmem files: the pages of BOs that aren't swapped out, and tmpfs.
pub fn shmem() -> io::Result<u64> {
    meminfo("Shmem")
}

/// Has the kernel add up what each processor has counted for itself, for [`meminfo`] and the like
/// to be exact.
pub fn settle_counters() -> io::Result<()> {
    fs::read("/proc/sys/vm/stat_refresh").map(drop)
}

/// Gives back what the kernel only caches, so that two readings of [`free`] can be compared.
pub fn drop_caches() -> io::Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// Memory that nobody else can have while this lives, and that isn't swapped out.
#[derive(Debug)]
pub struct Hoard {
    _map: MmapMut,
}

impl Hoard {
    /// Takes all but about `bytes` of what is available; nothing if there isn't more.
    pub fn leaving(bytes: u64) -> io::Result<Option<Self>> {
        let len = meminfo("MemAvailable")?.saturating_sub(bytes);
        if len == 0 {
            return Ok(None);
        }
        Self::of(len).map(Some)
    }

    /// Takes `bytes`, for which others have to give theirs back if so much isn't free.
    pub fn of(bytes: u64) -> io::Result<Self> {
        let map = MmapMut::map_anon(bytes as usize)?;
        map.advise(Advice::DontFork)?;
        map.lock()?;
        Ok(Self { _map: map })
    }
}

const CGROUPS: &str = "/sys/fs/cgroup";

/// A memory cgroup: what is allocated in it can be reclaimed alone.
#[derive(Debug)]
pub struct Group(PathBuf);

/// The group of all that is in no other one.
fn root() -> io::Result<PathBuf> {
    let root = PathBuf::from(CGROUPS);
    if !root.join("cgroup.procs").exists() {
        let none = None::<&str>;
        mount(none, &root, Some("cgroup2"), MsFlags::empty(), none)?;
    }
    Ok(root)
}

/// Has the kernel reclaim `bytes`, whosever they are.
///
/// # Errors
/// `EAGAIN` if it was less.
pub fn reclaim(bytes: u64) -> io::Result<()> {
    fs::write(root()?.join("memory.reclaim"), bytes.to_string())
}

impl Group {
    /// A group of that name, without processes.
    pub fn new(name: &str) -> io::Result<Self> {
        let root = root()?;
        fs::write(root.join("cgroup.subtree_control"), "+memory")?;
        let group = Self(root.join(name));
        fs::create_dir(&group.0)?;
        Ok(group)
    }

    /// Runs `f` with this process in the group.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        let pid = process::id().to_string();
        fs::write(self.0.join("cgroup.procs"), &pid)?;
        let result = f();
        fs::write(format!("{CGROUPS}/cgroup.procs"), &pid)?;
        Ok(result)
    }

    /// Bytes that the kernel has allocated for the group's processes.
    pub fn kernel(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.0.join("memory.stat"))?;
        text.lines()
            .find_map(|line| line.strip_prefix("kernel ")?.parse().ok())
            .ok_or_else(|| io::Error::other("no kernel in memory.stat"))
    }

    /// Bytes of the group's that are in swap.
    pub fn swapped(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.0.join("memory.swap.current"))?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Lets the group have so many bytes at most, without what is in swap.
    pub fn limit(&self, bytes: u64) -> io::Result<()> {
        fs::write(self.0.join("memory.max"), bytes.to_string())
    }

    /// How many of the group's processes were killed because of its limit.
    pub fn killed(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.0.join("memory.events"))?;
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
            .ok_or_else(|| io::Error::other("no oom_kill in memory.events"))
    }

    /// Has the kernel reclaim `bytes` of the group's.
    ///
    /// # Errors
    /// `EAGAIN` if it was less.
    pub fn reclaim(&self, bytes: u64) -> io::Result<()> {
        fs::write(self.0.join("memory.reclaim"), bytes.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Memory that is still there is the parent's then.
        let _ = fs::remove_dir(&self.0);
    }
}
