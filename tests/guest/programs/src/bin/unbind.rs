// SPDX-License-Identifier: GPL-2.0-only

//! The display is unbound from its driver while it shows something, and bound again.
//!
//! Where the GPU is a component of the display's DRM device it goes along. No file is open then:
//! the driver has nothing for those that are.

use harness::{ensure, Context, Outcome, Process, Test};
use programs::{
    console::Console,
    eventually,
    screen::{Panel, Screen},
    works, Census, Gpu, PATIENCE,
};
use std::{fs, path::Path, process::ExitCode, thread::sleep, time::Duration};
use uapi::{devcoredump::Devcoredump, vadreno_ctl::display as registers, HeldFence, Pm4};

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
        // It goes off with a vsync, for which the driver waits no longer than 100 ms.
        eventually("the panel to go off", || {
            Ok(panel.vadreno.read(registers::STATE) == registers::OFF)
        })?;
        eventually("nothing to be shown", || {
            Ok(panel.vadreno.read(registers::BASE) == 0)
        })?;
        ensure!(
            !Path::new("/dev/fb0").exists(),
            "the console is still there"
        );
        Ok(())
    }
}

/// Whether the GPU is a DRM device of its own.
fn gpu_stays() -> bool {
    fs::read_to_string("/sys/module/msm/parameters/separate_gpu_kms")
        .is_ok_and(|separate| separate.trim() == "Y")
}

/// The console is on, as it is when nobody uses the display.
fn defect_51_console_on(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let device = Device::find()?;
    let gpu_stays = gpu_stays();
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

/// A crash dump that nobody has read yet goes with the GPU, which it is read through.
fn defect_55_with_a_crash_dump(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let device = Device::find()?;
    for round in 1..3 {
        let gpu = Gpu::new()?;
        let submitted = gpu
            .start(
                &Pm4::new().mem_to_mem(gpu.result_iova(0), gpu.iova(0)),
                |s| s,
            )
            .context("SUBMIT that faults")?;
        let dump = Devcoredump::wait(PATIENCE).context("devcoredump")?;
        submitted.wait(PATIENCE).context("recovery")?;
        drop(gpu);
        device.unbind(&panel)?;
        // What is open stays, and has an end.
        let _ = dump.read();
        if !gpu_stays() {
            ensure!(Devcoredump::present()?.is_none(), "the dump is still there");
        } else if let Some(dump) = Devcoredump::present()? {
            dump.free().context("freeing the dump")?;
        }
        device.tell("bind")?;
        sleep(Duration::from_millis(600));
        works(round)?;
    }
    panel.done()
}

/// A SUBMIT of a file that was closed waits for a fence: the GPU goes when it has ended.
fn defect_29_while_a_submit_waits(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let device = Device::find()?;
    for round in 1..4 {
        let held = HeldFence::new().context("a held fence")?;
        let gpu = Gpu::new()?;
        gpu.start(&Pm4::new().nop(1), |submit| submit.after(held.file()))
            .context("SUBMIT that waits")?;
        drop(gpu);
        let mut unbinds = Process::start(|| device.tell("unbind"))?;
        // Where the GPU stays it ends at once.
        unbinds.waits(PATIENCE)?;
        held.signal().context("the fence was held")?;
        unbinds.succeeds(PATIENCE)?;
        device.tell("bind")?;
        works(round)?;
    }
    panel.done()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        defect_51_console_on,
        defect_51_after_a_picture,
        defect_55_with_a_crash_dump,
        defect_29_while_a_submit_waits,
    ])
}
