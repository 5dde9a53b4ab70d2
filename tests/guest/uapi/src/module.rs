// SPDX-License-Identifier: GPL-2.0-only

//! Kernel modules and their parameters.

use crate::{Errno, Result};
use std::{path::Path, process::Command};

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
