// SPDX-License-Identifier: GPL-2.0-only

//! Negative controls of `scanout`: something isn't there that is shown, or goes then. The device
//! and the watch must say so.

use harness::{Context, Outcome, Test};
use programs::screen::Screen;
use std::process::ExitCode;
use uapi::{kms::Framebuffer, module, Bo, PAGE};

/// Shows a dumb BO, until that is dropped.
fn showing() -> harness::Result<(Screen, (Bo, Framebuffer))> {
    let screen = Screen::open()?;
    let shown = screen.dumb(1)?;
    screen.show(&shown.1)?;
    Ok((screen, shown))
}

/// A kernel that loses the mapping of what is shown.
fn mapping_goes(_: &mut Test) -> Outcome {
    let (screen, _shown) = showing()?;
    screen.shows(1, "before")?;
    let lost = screen.vadreno.lose_shown(5 * PAGE)?;
    screen.frames()?;
    // Who unmaps it expects to find it.
    drop(lost);
    screen.done()
}

/// A page goes while it is shown: the guest is ended, and no other way is a pass.
fn page_goes(_: &mut Test) -> Outcome {
    let (screen, _shown) = showing()?;
    let page = module::spare_page().context("spare page")?;
    let diverted = screen.vadreno.divert_shown(5 * PAGE, page)?;
    screen.frames()?;
    module::free_spare_page().context("freeing the page")?;
    drop(diverted);
    screen.done()
}

/// … and when it isn't any more, there is nothing to say.
fn page_goes_after_its_entry(_: &mut Test) -> Outcome {
    let (screen, _shown) = showing()?;
    let page = module::spare_page().context("spare page")?;
    let diverted = screen.vadreno.divert_shown(5 * PAGE, page)?;
    screen.frames()?;
    drop(diverted);
    module::free_spare_page().context("freeing the page")?;
    screen.shows(1, "afterwards")?;
    screen.done()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        page_goes_after_its_entry,
        mapping_goes,
        page_goes,
    ])
}
