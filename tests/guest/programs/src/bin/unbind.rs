// SPDX-License-Identifier: GPL-2.0-only

//! The display is unbound from its driver while it shows something, and bound again.
//!
//! Where the GPU is a component of the display's DRM device it goes along. No file is open then:
//! the driver has nothing for those that are.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{
    console::Console,
    eventually,
    screen::{Panel, Screen},
    works, Census,
};
use std::{fs, path::Path, process::ExitCode};
use uapi::vadreno_ctl::display as registers;

const DRIVER: &str = "/sys/bus/platform/drivers/mdp4";

/// The display's device.
struct Device(String);

impl Device {
    fn find() -> harness::Result<Self> {
        fs::read_dir(DRIVER)
            .context(DRIVER)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| name.ends_with(".mdp"))
            .map(Self)
            .context("a display")
    }

    fn tell(&self, file: &str) -> Outcome {
        fs::write(Path::new(DRIVER).join(file), &self.0).context(file.to_owned())
    }

    fn unbind(&self, panel: &Panel) -> Outcome {
        self.tell("unbind")?;
        ensure_eq!(
            panel.vadreno.read(registers::STATE),
            registers::OFF,
            "the panel"
        );
        ensure_eq!(panel.vadreno.read(registers::BASE), 0, "what is shown");
        ensure!(
            !Path::new("/dev/fb0").exists(),
            "the console is still there"
        );
        Ok(())
    }
}

/// The console is on, as it is when nobody uses the display.
fn defect_51_console_on(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let device = Device::find()?;
    let gpu_stays = fs::read_to_string("/sys/module/msm/parameters/separate_gpu_kms")
        .is_ok_and(|separate| separate.trim() == "Y");
    for tag in 1..4 {
        let mut console = Console::open()?;
        console.write(tag)?;
        console.is_shown(&panel, tag, "before")?;
        drop(console);
        device.unbind(&panel)?;
        if gpu_stays {
            works(tag).context("the GPU without the display")?;
        }
        device.tell("bind")?;
        works(tag).context("the GPU")?;
    }
    let mut console = Console::open()?;
    console.write(4)?;
    console.is_shown(&panel, 4, "bound again")?;
    panel.done()
}

/// So it is after something else, whose BOs leave nothing behind either.
fn defect_51_after_a_picture(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let device = Device::find()?;
    for round in 0..3 {
        let screen = Screen::open()?;
        let census = Census::new()?;
        let buffers = screen.three_dumb()?;
        screen.show(&buffers[0].1)?;
        for (_, framebuffer) in buffers.iter().cycle().skip(1).take(7) {
            screen.flip(framebuffer)?;
        }
        screen.shows(2, "before")?;
        drop(buffers);
        census.restored().context(format!("round {round}"))?;
        drop(screen);
        eventually("the console", || {
            Ok(panel.vadreno.read(registers::BASE) != 0)
        })?;
        device.unbind(&panel)?;
        device.tell("bind")?;
    }
    panel.done()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        defect_51_console_on,
        defect_51_after_a_picture,
    ])
}
