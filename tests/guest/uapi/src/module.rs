// SPDX-License-Identifier: GPL-2.0-only

//! Kernel modules and their parameters.

use crate::{Errno, Result};
use nix::kmod::{delete_module, DeleteModuleFlags};
use std::{
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
    process::Command,
};

/// Loads a module with its dependencies, unless it is loaded.
///
/// # Errors
/// `ENOENT`: `modprobe` can't find or load it.
pub fn load(name: &str, parameters: &[&str]) -> Result<()> {
    match Command::new("modprobe").arg(name).args(parameters).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Errno::ENOENT),
    }
}

/// Reads a parameter of a loaded module.
pub fn parameter(module: &str, name: &str) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path(module, name))?
        .trim()
        .to_owned())
}

/// Sets a parameter of a loaded module.
pub fn set_parameter(module: &str, name: &str, value: &str) -> std::io::Result<()> {
    std::fs::write(path(module, name), value)
}

fn path(module: &str, name: &str) -> std::path::PathBuf {
    Path::new("/sys/module")
        .join(module)
        .join("parameters")
        .join(name)
}

/// Whether a loaded module was built outside the kernel's tree (taint O).
pub fn is_out_of_tree(module: &str) -> std::io::Result<bool> {
    Ok(std::fs::read_to_string(Path::new("/sys/module").join(module).join("taint"))?.contains('O'))
}

/// Has the guest's glue module ask for more kernel addresses than there are.
pub fn exhaust_kernel_addresses() -> std::io::Result<()> {
    set_parameter("vadreno_glue", "exhaust_kernel_addresses", "1")
}

/// Has the guest's glue module attach to a dma-buf, map it for DMA and for the kernel, and count up
/// its first dword.
pub fn use_dma_buf(dma_buf: BorrowedFd<'_>) -> Result<()> {
    let fd = dma_buf.as_raw_fd().to_string();
    set_parameter("vadreno_glue", "use_dma_buf", &fd)
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(Errno::EIO as i32)))
}

/// The physical address of a page that the guest's glue module has, until [`free_spare_page`].
pub fn spare_page() -> std::io::Result<u64> {
    parameter("vadreno_glue", "spare_page")?
        .parse()
        .map_err(std::io::Error::other)
}

/// Has the guest's glue module give that page back.
pub fn free_spare_page() -> std::io::Result<()> {
    set_parameter("vadreno_glue", "spare_page", "0")
}

/// While this lives, SUBMITs may have relocations, as with GPUs before Adreno 6xx.
#[derive(Debug)]
pub struct Relocations(());

impl Relocations {
    /// Has the guest's glue module allow them.
    pub fn allow() -> std::io::Result<Self> {
        set_parameter("vadreno_glue", "allow_relocs", "1")?;
        Ok(Self(()))
    }
}

impl Drop for Relocations {
    fn drop(&mut self) {
        // It could be set before.
        let _ = set_parameter("vadreno_glue", "allow_relocs", "0");
    }
}

/// How many users keep a module from being unloaded.
pub fn users(module: &str) -> std::io::Result<u32> {
    let count = std::fs::read_to_string(Path::new("/sys/module").join(module).join("refcnt"))?;
    count.trim().parse().map_err(std::io::Error::other)
}

/// Unloads a module that nobody uses.
///
/// # Errors
/// `EWOULDBLOCK`: somebody does.
pub fn unload(module: &str) -> Result<()> {
    let name = std::ffi::CString::new(module).map_err(|_| Errno::EINVAL)?;
    delete_module(&name, DeleteModuleFlags::O_NONBLOCK)
}
