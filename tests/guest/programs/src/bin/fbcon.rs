// SPDX-License-Identifier: GPL-2.0-only

//! The console on the display: what is written to it is shown, and is so again after another
//! picture and reclaim.

use harness::{ensure_eq, Context, Outcome, Process, Test};
use programs::{
    console::Console,
    eventually, pattern,
    screen::{Panel, Screen},
};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    process::ExitCode,
    thread::sleep,
};
use uapi::{debugfs, swap::Swap, Mapping};

/// Every character that is written is where it should be, in its colour.
fn text_is_shown(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let mut console = Console::open()?;
    for tag in 0..4 {
        console.write(tag)?;
        console.is_shown(&panel, tag, "what was written")?;
    }
    panel.done()
}

/// So are pixels, be they written to the file or to its mapping.
fn pixels_are_shown(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let mut console = Console::open()?;
    console.write(1)?;
    let file = frame_buffer()?;
    let (width, height) = console.pixels();
    let bytes = 4 * u64::from(width) * u64::from(height);
    let map = Mapping::of_file(&file, bytes).context("mmap")?;
    for tag in 1..=4 {
        if tag % 2 == 0 {
            map.fill(|index| pattern(tag, index));
        } else {
            let pixels: Vec<u8> = (0..bytes as usize / 4)
                .flat_map(|index| pattern(tag, index).to_le_bytes())
                .collect();
            file.write_all_at(&pixels, 0).context("writing pixels")?;
        }
        panel.frames()?;
        for index in (0..width * height).step_by(width as usize / 2 + 7) {
            let at = (index % width, index / width);
            let wanted = pattern(tag, index as usize) & 0xff_ffff;
            ensure_eq!(panel.colour(at), wanted, "the pixel at {at:?}");
        }
    }
    console.write(2)?;
    console.is_shown(&panel, 2, "text over the pixels")?;
    panel.done()
}

fn frame_buffer() -> harness::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.open("/dev/fb0").context("/dev/fb0")
}

/// Something else is shown; when it isn't any more the console is back, with what was written
/// meanwhile.
fn back_after_the_last_file(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let mut console = Console::open()?;
    console.write(1)?;
    for tag in 2..5 {
        let screens = [Screen::showing(tag)?, Screen::open()?];
        console.write(tag)?;
        screens[0].shows(tag, "while the console is written to")?;
        drop(screens);
        console.is_shown(&panel, tag, "what was written meanwhile")?;
    }
    panel.done()
}

/// … or the process is killed that showed it.
fn back_after_a_kill(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let mut console = Console::open()?;
    for tag in 1..4 {
        console.write(tag)?;
        console.is_shown(&panel, tag, "before")?;
        let child = Process::start(|| {
            let _screen = Screen::showing(tag)?;
            sleep(Process::LONG);
            Ok(())
        })?;
        eventually("something else", || {
            panel.frames()?;
            Ok(panel.colour((0, 0)) == pattern(tag, 0) & 0xff_ffff)
        })?;
        child.kill(Process::LONG)?;
        console.is_shown(&panel, tag, "afterwards")?;
    }
    panel.done()
}

/// Reclaim takes nothing of the console, whether it is shown or not.
fn reclaim(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let mut console = Console::open()?;
    let _swap = Swap::new(64 << 20).context("swap")?;
    console.write(1)?;
    debugfs::shrink_all(1 << 20)?;
    console.is_shown(&panel, 1, "after reclaim")?;
    let screen = Screen::showing(2)?;
    debugfs::shrink_all(1 << 20)?;
    screen.shows(2, "after reclaim")?;
    console.write(3)?;
    debugfs::shrink_all(1 << 20)?;
    drop(screen);
    console.is_shown(&panel, 3, "after reclaim while it was hidden")?;
    panel.done()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        text_is_shown,
        pixels_are_shown,
        back_after_the_last_file,
        back_after_a_kill,
        reclaim,
    ])
}
