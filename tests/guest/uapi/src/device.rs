// SPDX-License-Identifier: GPL-2.0-only

//! An open render node.

use crate::{abi, Errno, Result};
use std::{
    fs::{File, OpenOptions},
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// An open file of the msm driver: one context, with one VM of its own.
///
/// Clones share the file; it closes when the last of them and of the objects made from it are gone.
#[derive(Clone, Debug)]
pub struct Device {
    file: Arc<OwnedFd>,
}

/// Where nodes were found last. To look for one opens those of other drivers, which do much for
/// that.
static FOUND: Mutex<Vec<(String, String, PathBuf)>> = Mutex::new(Vec::new());

/// Opens the first DRM node of `prefix` ("renderD", "card") whose driver is called `driver`.
pub(crate) fn open_node(prefix: &str, driver: &str) -> Result<File> {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |(p, d, _): &&(String, String, PathBuf)| p == prefix && d == driver;
    if let Some((_, _, path)) = found.iter().find(is_it) {
        if let Ok(file) = open_if(path, driver) {
            return Ok(file);
        }
    }
    let (path, file) = find_node(prefix, driver)?;
    found.retain(|known| !is_it(&known));
    found.push((prefix.into(), driver.into(), path));
    Ok(file)
}

fn open_if(path: &Path, driver: &str) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|_| Errno::ENODEV)?;
    if driver_name(&file)? == driver {
        Ok(file)
    } else {
        Err(Errno::ENODEV)
    }
}

fn find_node(prefix: &str, driver: &str) -> Result<(PathBuf, File)> {
    let mut nodes: Vec<PathBuf> = std::fs::read_dir("/dev/dri")
        .map_err(|_| Errno::ENODEV)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .collect();
    nodes.sort();
    nodes
        .into_iter()
        .find_map(|path| Some((path.clone(), open_if(&path, driver).ok()?)))
        .ok_or(Errno::ENODEV)
}

fn driver_name(file: &File) -> Result<String> {
    let mut name = [0u8; 64];
    let mut arg = abi::drm_version {
        name_len: name.len() as u64,
        name: name.as_mut_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: `name` outlives the call and is as long as `name_len` says.
    unsafe { abi::ioctl::version(file.as_raw_fd(), &mut arg) }?;
    let len = (arg.name_len as usize).min(name.len());
    Ok(String::from_utf8_lossy(&name[..len]).into_owned())
}

impl Device {
    /// Opens the GPU with a VM that the kernel manages (`MSM_INFO_GET_IOVA`, BO tables).
    ///
    /// # Errors
    /// `ENODEV`: no render node of the driver `msm`.
    pub fn open() -> Result<Self> {
        Ok(Self {
            file: Arc::new(open_node("renderD", "msm")?.into()),
        })
    }

    /// An open file of the driver.
    pub(crate) fn from_file(file: File) -> Self {
        Self {
            file: Arc::new(file.into()),
        }
    }

    /// Opens the GPU with a VM that userspace manages through `VM_BIND`.
    pub fn open_vm_bind() -> Result<Self> {
        let device = Self::open()?;
        device.set_param(abi::MSM_PARAM_EN_VM_BIND, 1)?;
        Ok(device)
    }

    /// `DRM_MSM_GET_PARAM` of a parameter that has a value (not a buffer).
    pub fn param(&self, param: u32) -> Result<u64> {
        let mut arg = abi::drm_msm_param {
            pipe: abi::MSM_PIPE_3D0,
            param,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::msm_get_param(self.raw_fd(), &mut arg) }?;
        Ok(arg.value)
    }

    /// `DRM_MSM_SET_PARAM` of a parameter that has a value.
    pub fn set_param(&self, param: u32, value: u64) -> Result<()> {
        let arg = abi::drm_msm_param {
            pipe: abi::MSM_PIPE_3D0,
            param,
            value,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::msm_set_param(self.raw_fd(), &arg) }?;
        Ok(())
    }

    /// The iovas that the context's VM spans. Creates the VM when there is none yet.
    pub fn va_range(&self) -> Result<Range<u64>> {
        let start = self.param(abi::MSM_PARAM_VA_START)?;
        Ok(start..start + self.param(abi::MSM_PARAM_VA_SIZE)?)
    }

    /// Sends a `VM_BIND` request as it is, and returns its output in place.
    pub fn vm_bind_raw(&self, request: &mut abi::drm_msm_vm_bind) -> Result<()> {
        // SAFETY: the request is valid for the call; pointers inside it are the kernel's to check,
        // and it only reads them.
        unsafe { abi::ioctl::msm_vm_bind(self.raw_fd(), request) }?;
        Ok(())
    }

    /// Sends a `GEM_SUBMIT` request as it is, and returns its output in place.
    pub fn submit_raw(&self, request: &mut abi::drm_msm_gem_submit) -> Result<()> {
        // SAFETY: as above.
        unsafe { abi::ioctl::msm_gem_submit(self.raw_fd(), request) }?;
        Ok(())
    }

    /// `DRM_IOCTL_GEM_CLOSE` of a handle.
    pub fn close_handle(&self, handle: u32) -> Result<()> {
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::gem_close(self.raw_fd(), &abi::drm_gem_close { handle, pad: 0 }) }?;
        Ok(())
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
