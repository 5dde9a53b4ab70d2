// SPDX-License-Identifier: GPL-2.0-only

//! A negative control of `scanout`: something isn't there that is shown, and the device must say so.

use harness::{ensure_eq, Context, Outcome, Test};
use programs::screen::Screen;
use std::process::ExitCode;
use uapi::{
    vadreno_ctl::{display as registers, translate},
    PAGE,
};

/// A kernel that loses the mapping of what is shown.
fn lost_mapping(_: &mut Test) -> Outcome {
    let screen = Screen::open()?;
    let (_bo, framebuffer) = screen.dumb(1)?;
    screen.display.show(&framebuffer).context("SETCRTC")?;
    screen.shows(1, "before")?;
    let vadreno = &screen.vadreno;
    vadreno.write(translate::IOVA, vadreno.read(registers::BASE) + 5 * PAGE);
    vadreno.write(translate::TTBR0, vadreno.read(registers::TTBR0));
    vadreno.write(translate::GO, translate::READ);
    ensure_eq!(
        vadreno.read(translate::STATUS),
        translate::OK,
        "translation"
    );
    let pte = vadreno.read(translate::PTE);
    vadreno.write(translate::STORE, 0);
    let frames = screen.frames();
    // Who unmaps it expects to find it.
    vadreno.write(translate::STORE, pte);
    frames?;
    screen.done()
}

fn main() -> ExitCode {
    harness::main(harness::cases![lost_mapping])
}
