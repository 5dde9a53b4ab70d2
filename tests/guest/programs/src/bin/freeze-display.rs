// SPDX-License-Identifier: GPL-2.0-only

//! The whole system sleeps while the display shows something, and shows it again afterwards.

use harness::{Outcome, Test};
use programs::{
    asleep::freeze,
    console::Console,
    screen::{Panel, Screen},
};
use std::process::ExitCode;

/// A picture of a file that stays open.
fn picture(_: &mut Test) -> Outcome {
    let screen = Screen::showing(1)?;
    for _ in 0..2 {
        freeze()?;
        screen.shows(1, "awake again")?;
    }
    screen.done()
}

/// The console.
fn console(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let mut console = Console::open()?;
    for tag in 0..2 {
        console.write(tag)?;
        console.is_shown(&panel, tag, "awake")?;
        freeze()?;
        console.is_shown(&panel, tag, "awake again")?;
    }
    panel.done()
}

/// The console, which was hidden in the meantime.
fn console_below_a_picture(_: &mut Test) -> Outcome {
    let panel = Panel::open()?;
    let mut console = Console::open()?;
    console.write(1)?;
    let screen = Screen::showing(2)?;
    freeze()?;
    screen.shows(2, "awake again")?;
    console.write(3)?;
    drop(screen);
    console.is_shown(&panel, 3, "back after sleep")?;
    panel.done()
}

fn main() -> ExitCode {
    harness::main(harness::cases![picture, console, console_below_a_picture])
}
