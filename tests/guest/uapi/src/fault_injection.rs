// SPDX-License-Identifier: GPL-2.0-only

//! Failing the n-th allocation of one system call (`/proc/self/fail-nth`).
//!
//! Needs a kernel with `CONFIG_FAULT_INJECTION`, `CONFIG_FAILSLAB` and `CONFIG_FAIL_PAGE_ALLOC`.
//! The count goes over both. Facts from `Documentation/fault-injection/fault-injection.rst`.

use nix::mount::{mount, MsFlags};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Whether this kernel can do it.
pub fn available() -> bool {
    Path::new("/proc/self/fail-nth").exists()
}

/// Lets allocations that may sleep fail as well, quietly; without this only atomic ones do.
pub fn set_up() -> io::Result<()> {
    let root = Path::new("/sys/kernel/debug");
    if !root.join("failslab").exists() {
        mount(
            Some("debugfs"),
            root,
            Some("debugfs"),
            MsFlags::empty(),
            None::<&str>,
        )?;
    }
    for point in ["failslab", "fail_page_alloc"] {
        let dir = root.join(point);
        if !dir.exists() {
            return Err(io::Error::other(format!("this kernel has no {point}")));
        }
        for (name, value) in [
            ("ignore-gfp-wait", "N"),
            ("ignore-gfp-highmem", "N"),
            ("min-order", "0"),
            ("verbose", "0"),
        ] {
            let file = dir.join(name);
            if file.exists() {
                fs::write(file, value)?;
            }
        }
    }
    Ok(())
}

/// Runs `call` with its `n`-th allocation (from 1) failing. Also returns whether there were that
/// many.
///
/// `call` should be one system call: allocations are counted from here on.
pub fn failing_nth<T>(n: u32, call: impl FnOnce() -> T) -> io::Result<(T, bool)> {
    let path = "/proc/thread-self/fail-nth";
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    use std::os::unix::fs::FileExt;
    file.write_at(n.to_string().as_bytes(), 0)?;
    let result = call();
    // Reading gives what is left to count; 0 means that the fault was injected.
    let mut left = [0u8; 16];
    let len = file.read_at(&mut left, 0)?;
    file.write_at(b"0", 0)?;
    let left: u32 = String::from_utf8_lossy(&left[..len])
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    Ok((result, left == 0))
}

/// A thread of the kernel's, in which allocations can fail as well.
#[derive(Debug)]
pub struct KernelThread(PathBuf);

impl KernelThread {
    /// All threads of a name. (It is cut to 15 characters.)
    pub fn all(wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Self>> {
        let mut threads = Vec::new();
        for process in fs::read_dir("/proc")? {
            let path = process?.path();
            // Processes come and go.
            let Ok(name) = fs::read_to_string(path.join("comm")) else {
                continue;
            };
            if wanted(name.trim_end()) {
                threads.push(Self(path.join("fail-nth")));
            }
        }
        Ok(threads)
    }

    /// Has the thread's `n`-th allocation from now on fail; 0 for none.
    pub fn fail_nth(&self, n: u32) -> io::Result<()> {
        fs::write(&self.0, n.to_string())
    }

    /// How many allocations there are still to come, with the one that fails; 0 if it has failed.
    pub fn left(&self) -> io::Result<u32> {
        fs::read_to_string(&self.0)?
            .trim()
            .parse()
            .map_err(io::Error::other)
    }
}
