// SPDX-License-Identifier: GPL-2.0-only

//! The display, by the ioctls from before atomic modesetting.

use crate::{abi, device::open_node, Bo, Device, Errno, Result};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::{os::fd::BorrowedFd, time::Duration};

/// An open file of the display's driver, and the panel.
#[derive(Debug)]
pub struct Display {
    device: Device,
    crtc: u32,
    connector: u32,
    mode: abi::drm_mode_modeinfo,
}

/// A framebuffer; removed when dropped.
#[derive(Debug)]
pub struct Framebuffer {
    device: Device,
    id: u32,
}

impl Display {
    /// Opens the display, whether it shares its DRM device with the GPU or not, and finds the first
    /// connector that something is connected to.
    ///
    /// # Errors
    /// `ENODEV`: there is no display, or nothing is connected.
    pub fn open() -> Result<Self> {
        let file = open_node("card", "msm-kms").or_else(|_| open_node("card", "msm"))?;
        let device = Device::from_file(file);
        let (mut crtcs, mut connectors) = ([0u32; 8], [0u32; 8]);
        let mut resources = abi::drm_mode_card_res {
            crtc_id_ptr: crtcs.as_mut_ptr() as u64,
            connector_id_ptr: connectors.as_mut_ptr() as u64,
            count_crtcs: crtcs.len() as u32,
            count_connectors: connectors.len() as u32,
            ..Default::default()
        };
        // SAFETY: the arrays outlive the call and are as long as their counts say.
        unsafe { abi::ioctl::mode_getresources(device.raw_fd(), &mut resources) }
            .map_err(|_| Errno::ENODEV)?;
        let count = (resources.count_connectors as usize).min(connectors.len());
        connectors[..count]
            .iter()
            .find_map(|&connector| {
                Some(Self {
                    mode: mode(&device, connector)?,
                    device: device.clone(),
                    crtc: crtcs[0],
                    connector,
                })
            })
            .ok_or(Errno::ENODEV)
    }

    /// The file.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Width and height of the panel.
    pub fn size(&self) -> (u32, u32) {
        (self.mode.hdisplay.into(), self.mode.vdisplay.into())
    }

    /// A framebuffer of the panel's size: XRGB8888, rows without a gap.
    pub fn framebuffer(&self, bo: &Bo) -> Result<Framebuffer> {
        let (width, height) = self.size();
        let mut arg = abi::drm_mode_fb_cmd {
            width,
            height,
            pitch: 4 * width,
            bpp: 32,
            depth: 24,
            handle: bo.handle(),
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::mode_addfb(self.device.raw_fd(), &mut arg) }?;
        Ok(Framebuffer {
            device: self.device.clone(),
            id: arg.fb_id,
        })
    }

    fn set(&self, framebuffer: Option<&Framebuffer>) -> Result<()> {
        let mut arg = abi::drm_mode_crtc {
            crtc_id: self.crtc,
            ..Default::default()
        };
        if let Some(framebuffer) = framebuffer {
            arg.set_connectors_ptr = (&raw const self.connector) as u64;
            arg.count_connectors = 1;
            arg.fb_id = framebuffer.id;
            arg.mode_valid = 1;
            arg.mode = self.mode;
        }
        // SAFETY: `connector` outlives the call, and is one.
        unsafe { abi::ioctl::mode_setcrtc(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// Switches the panel on, if it is off, and shows a framebuffer.
    pub fn show(&self, framebuffer: &Framebuffer) -> Result<()> {
        self.set(Some(framebuffer))
    }

    /// Switches the panel off.
    pub fn off(&self) -> Result<()> {
        self.set(None)
    }

    /// Shows the upper left corner of a framebuffer, `size` pixels wide and high, over what else is
    /// shown, at `x` and `y`.
    ///
    /// # Errors
    /// `ENODEV`: there is no plane for that.
    pub fn overlay(&self, framebuffer: &Framebuffer, x: i32, y: i32, size: u32) -> Result<()> {
        let mut planes = [0u32; 8];
        let mut resources = abi::drm_mode_get_plane_res {
            plane_id_ptr: planes.as_mut_ptr() as u64,
            count_planes: planes.len() as u32,
            ..Default::default()
        };
        // SAFETY: `planes` outlives the call and is as long as its count says.
        unsafe { abi::ioctl::mode_getplaneresources(self.device.raw_fd(), &mut resources) }?;
        if resources.count_planes == 0 {
            return Err(Errno::ENODEV);
        }
        let mut arg = abi::drm_mode_set_plane {
            plane_id: planes[0],
            crtc_id: self.crtc,
            fb_id: framebuffer.id,
            crtc_x: x,
            crtc_y: y,
            crtc_w: size,
            crtc_h: size,
            src_h: size << 16,
            src_w: size << 16,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::mode_setplane(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// Shows a BO as the cursor, `size` pixels wide and high in ARGB8888; `None`: no cursor.
    pub fn cursor(&self, bo: Option<&Bo>, size: u32) -> Result<()> {
        self.cursor_ioctl(abi::drm_mode_cursor {
            flags: abi::DRM_MODE_CURSOR_BO,
            width: size,
            height: size,
            handle: bo.map_or(0, Bo::handle),
            ..Default::default()
        })
    }

    /// Moves the cursor.
    pub fn move_cursor(&self, x: i32, y: i32) -> Result<()> {
        self.cursor_ioctl(abi::drm_mode_cursor {
            flags: abi::DRM_MODE_CURSOR_MOVE,
            x,
            y,
            ..Default::default()
        })
    }

    fn cursor_ioctl(&self, arg: abi::drm_mode_cursor) -> Result<()> {
        let mut arg = abi::drm_mode_cursor {
            crtc_id: self.crtc,
            ..arg
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::mode_cursor(self.device.raw_fd(), &mut arg) }?;
        Ok(())
    }

    /// Shows another framebuffer from the next vsync on, and waits until then.
    ///
    /// # Errors
    /// `EBUSY`: what was shown before isn't flipped to yet, be it by SETCRTC. `ETIMEDOUT` after
    /// `patience`.
    pub fn flip(&self, framebuffer: &Framebuffer, patience: Duration) -> Result<()> {
        let mut arg = abi::drm_mode_crtc_page_flip {
            crtc_id: self.crtc,
            fb_id: framebuffer.id,
            flags: abi::DRM_MODE_PAGE_FLIP_EVENT,
            ..Default::default()
        };
        // SAFETY: the argument is valid for the call.
        unsafe { abi::ioctl::mode_page_flip(self.device.raw_fd(), &mut arg) }?;
        // SAFETY: the device is open for as long as this is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(self.device.raw_fd()) };
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout)? == 0 {
            return Err(Errno::ETIMEDOUT);
        }
        let mut event = [0; abi::DRM_EVENT_VBLANK_SIZE];
        nix::unistd::read(fd, &mut event)?;
        Ok(())
    }
}

/// The preferred mode of a connector, if something is connected.
fn mode(device: &Device, connector: u32) -> Option<abi::drm_mode_modeinfo> {
    let mut modes = [abi::drm_mode_modeinfo::default(); 8];
    let mut arg = abi::drm_mode_get_connector {
        connector_id: connector,
        modes_ptr: modes.as_mut_ptr() as u64,
        count_modes: modes.len() as u32,
        ..Default::default()
    };
    // SAFETY: `modes` outlives the call and is as long as its count says.
    unsafe { abi::ioctl::mode_getconnector(device.raw_fd(), &mut arg) }.ok()?;
    (arg.connection == abi::DRM_MODE_CONNECTED && arg.count_modes > 0).then_some(modes[0])
}

impl Framebuffer {
    /// Leaves it to the closing of the file.
    pub fn leave(mut self) {
        // There is no framebuffer 0.
        self.id = 0;
    }
}

impl Drop for Framebuffer {
    fn drop(&mut self) {
        // SAFETY: the argument is valid for the call.
        let _ = unsafe { abi::ioctl::mode_rmfb(self.device.raw_fd(), &mut self.id) };
    }
}
