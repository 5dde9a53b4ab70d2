// SPDX-License-Identifier: GPL-2.0-only

//! Failing the n-th allocation of one system call (`/proc/self/fail-nth`).
//!
//! Needs a kernel with `CONFIG_FAULT_INJECTION`, `CONFIG_FAILSLAB` and `CONFIG_FAIL_PAGE_ALLOC`. The count goes over both. Facts from
//! `Documentation/fault-injection/fault-injection.rst`.

use nix::mount::{mount, MsFlags};
use std::{fs, io, path::Path};

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

/// Runs `call` with its `n`-th allocation (from 1) failing. Also returns whether there were that many.
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
