// SPDX-License-Identifier: GPL-2.0-only

//! What is shown on the display stays where it is, in every order of what userspace does with it.
//!
//! The virtual display says what it has read, and complains when there was nothing to read; the
//! watch, when a page was freed that it could read.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{eventually, pattern, screen::Screen, Gpu};
use std::process::ExitCode;
use uapi::{
    abi::{MSM_MADV_DONTNEED, MSM_MADV_WILLNEED},
    debugfs,
    swap::Swap,
    vadreno_ctl::{counter, display as registers},
    Bo, Pm4, Tracepoint, PAGE,
};

/// Three dumb BOs, one after the other.
fn three_dumb_buffers(_: &mut Test) -> Outcome {
    let screen = Screen::open()?;
    let buffers = screen.three_dumb()?;
    screen.show(&buffers[0].1)?;
    screen.shows(1, "after SETCRTC")?;
    for round in 1..=60 {
        screen.flip(&buffers[round % 3].1)?;
        if round % 7 == 0 {
            screen.shows((round % 3) as u32 + 1, &format!("after {round} flips"))?;
        }
    }
    screen.done()
}

/// A flip between buffers that were shown before changes no mapping.
fn flips_keep_mappings(_: &mut Test) -> Outcome {
    let screen = Screen::open()?;
    let buffers = screen.three_dumb()?;
    screen.show(&buffers[0].1)?;
    for (_, framebuffer) in buffers.iter().cycle().take(6) {
        screen.flip(framebuffer)?;
    }
    let unmaps = Tracepoint::of("iommu", "unmap").context("tracing")?;
    let before = screen.vadreno.read(counter::TLBI);
    for (_, framebuffer) in buffers.iter().cycle().take(30) {
        screen.flip(framebuffer)?;
    }
    let invalidations = screen.vadreno.read(counter::TLBI) - before;
    ensure_eq!(invalidations, 0, "invalidations in 30 flips");
    ensure_eq!(unmaps.events()?.len(), 0, "unmaps in 30 flips");
    drop(buffers);
    eventually("the buffers to be unmapped", || {
        Ok(unmaps.events()?.len() >= 3 && screen.vadreno.read(counter::TLBI) > before)
    })?;
    screen.done()
}

/// What the GPU has drawn, exported by its file and imported by the display's.
fn drawn_by_the_gpu(_: &mut Test) -> Outcome {
    let screen = Screen::open()?;
    let gpu = Gpu::new()?;
    let bytes = 4 * screen.pixels();
    let source = gpu.bo(9, bytes)?;
    gpu.map(&source, gpu.iova(0))?;
    let mut shown = Vec::new();
    for tag in [9, 10] {
        source.fill(|index| pattern(tag, index))?;
        let target = gpu.bo(1, bytes)?;
        let at = gpu.iova(1 << 24);
        gpu.map(&target, at)?;
        let copy = Pm4::new().memcpy(at, gpu.iova(0), bytes as u32 / 4);
        gpu.run(&copy)?;
        let (bo, framebuffer) = screen.import(&target)?;
        screen.show(&framebuffer)?;
        screen.shows(tag, "the GPU's picture")?;
        // Neither the GPU's mapping nor its handle is needed any more.
        gpu.unmap(at, bytes)?;
        drop(target);
        drop(bo);
        screen.shows(tag, "the GPU's picture, unmapped and closed by it")?;
        shown.push(framebuffer);
    }
    screen.flip(&shown[0])?;
    screen.shows(9, "the GPU's first picture again")?;
    screen.vadreno.write(registers::KEEP, 1);
    screen.done()
}

/// The handle goes before the flip, and the framebuffer while it is shown or just after.
fn closed_early(_: &mut Test) -> Outcome {
    let screen = Screen::open()?;
    let (_bo, base) = screen.dumb(1)?;
    screen.show(&base)?;
    for round in 0..8 {
        let (bo, framebuffer) = screen.dumb(2 + round)?;
        drop(bo);
        screen.flip(&framebuffer)?;
        if round % 2 == 0 {
            screen.shows(2 + round, "without a handle")?;
        }
        screen.flip(&base)?;
        drop(framebuffer);
    }
    let (bo, framebuffer) = screen.dumb(20)?;
    screen.flip(&framebuffer)?;
    drop(bo);
    // The panel stays on, and shows nothing.
    drop(framebuffer);
    eventually("nothing to be shown", || {
        Ok(screen.vadreno.read(registers::BASE) == 0)
    })?;
    screen.show(&base)?;
    screen.shows(1, "on again")?;
    screen.done()
}

/// The file is closed while one of its buffers is shown.
fn file_closed_while_shown(_: &mut Test) -> Outcome {
    for tag in 1..=6 {
        let screen = Screen::open()?;
        let (bo, framebuffer) = screen.dumb(tag)?;
        screen.show(&framebuffer)?;
        screen.shows(tag, "before the file is closed")?;
        bo.leave_open();
        framebuffer.leave();
    }
    Screen::open()?.done()
}

/// The panel goes off and on with a picture.
fn off_and_on(_: &mut Test) -> Outcome {
    let screen = Screen::open()?;
    let (_bo, framebuffer) = screen.dumb(1)?;
    for _ in 0..5 {
        screen.show(&framebuffer)?;
        screen.shows(1, "on")?;
        screen.display.off().context("off")?;
        // It goes off with a vsync, for which the driver waits no longer than 100 ms.
        eventually("the panel to go off", || {
            Ok(screen.vadreno.read(registers::STATE) == registers::OFF)
        })?;
        debugfs::shrink(1 << 20)?;
    }
    screen.done()
}

/// Reclaim doesn't take what is shown, be it said to be needed or not.
fn reclaim_while_shown(_: &mut Test) -> Outcome {
    let screen = Screen::open()?;
    let gpu = Gpu::new()?;
    let (_bo, base) = screen.dumb(1)?;
    let source = gpu.bo(5, 4 * screen.pixels())?;
    let (imported, framebuffer) = screen.import(&source)?;
    screen.show(&framebuffer)?;
    source.madvise(MSM_MADV_DONTNEED).context("DONTNEED")?;
    for _ in 0..3 {
        debugfs::shrink(1 << 20)?;
        screen.shows(5, "not needed, but shown")?;
    }
    ensure!(source.madvise(MSM_MADV_WILLNEED)?, "purged while shown");
    screen.flip(&base)?;
    debugfs::shrink(1 << 20)?;
    screen.flip(&framebuffer)?;
    screen.shows(5, "after reclaim")?;
    drop(imported);
    screen.done()
}

/// The pages that an event of the shrinker says were evicted. What the shrinker returns doesn't say
/// it with the C memory manager, when nothing else is left.
fn evicted(event: &str) -> u64 {
    let fields = event.split([' ', ',']);
    fields
        .filter_map(|field| field.strip_prefix("evicted="))
        .filter_map(|pages| pages.parse::<u64>().ok())
        .sum()
}

/// What isn't shown any more can be swapped out, and shown again.
fn swapped_out_between_flips(_: &mut Test) -> Outcome {
    let screen = Screen::open()?;
    let _swap = Swap::new(64 << 20).context("swap")?;
    let buffers = screen.three_dumb()?;
    screen.show(&buffers[0].1)?;
    for round in 1..=9 {
        screen.flip(&buffers[round % 3].1)?;
        // The one that was shown before is unpinned a moment after the flip.
        let shrinks = Tracepoint::new("msm_gem_shrink").context("tracing")?;
        eventually("a buffer to be evicted", || {
            debugfs::shrink_all(1 << 20)?;
            let pages: u64 = shrinks.events()?.iter().map(|event| evicted(event)).sum();
            Ok(pages >= 4 * screen.pixels() / PAGE)
        })?;
        screen.shows(round as u32 % 3 + 1, "after reclaim")?;
    }
    screen.done()
}

/// A second plane, whose framebuffer goes while it is shown.
fn second_plane(_: &mut Test) -> Outcome {
    const SIZE: u32 = 64;
    let screen = Screen::open()?;
    let (_bo, base) = screen.dumb(1)?;
    screen.show(&base)?;
    for tag in 2..6 {
        let (bo, above) = screen.dumb(tag)?;
        drop(bo);
        for (x, y) in [(100, 50), (500, 400), (0, 0)] {
            let place = (x as i32, y as i32);
            screen
                .display
                .overlay(&above, place.0, place.1, SIZE)
                .context("SETPLANE")?;
            screen.frames()?;
            let last = (x + SIZE - 1, y + SIZE - 1);
            let beside = (x + SIZE, y + SIZE - 1);
            screen.shows_at((x, y), tag, (0, 0), "the plane's first pixel")?;
            screen.shows_at(last, tag, (SIZE - 1, SIZE - 1), "its last one")?;
            screen.shows_at(beside, 1, beside, "the one beside it")?;
        }
        drop(above);
        screen.shows(1, "without the plane")?;
    }
    screen.done()
}

/// Cursors that are set, moved and taken away; their BOs are closed at once.
fn defect_52_cursor(_: &mut Test) -> Outcome {
    const SIZE: u32 = 64;
    let screen = Screen::open()?;
    let (_bo, base) = screen.dumb(1)?;
    screen.show(&base)?;
    for tag in 2..=8 {
        let bo = Bo::dumb(screen.display.device(), SIZE, SIZE).context("a dumb BO")?;
        bo.map_dumb()
            .context("mmap")?
            .fill(|index| 0xff00_0000 | pattern(tag, index));
        screen.display.cursor(Some(&bo), SIZE).context("CURSOR")?;
        drop(bo);
        let (x, y) = (40 * tag, 30 * tag);
        screen
            .display
            .move_cursor(x as i32, y as i32)
            .context("CURSOR")?;
        let wanted = |at: u32| pattern(tag, at as usize) & 0xff_ffff;
        for at in [0, SIZE - 1] {
            eventually("the cursor", || {
                screen.frames()?;
                Ok(screen.colour((x + at, y + at)) == wanted(at * (SIZE + 1)))
            })?;
        }
        let beside = (x + SIZE, y);
        screen.shows_at(beside, 1, beside, "beside the cursor")?;
        if tag % 2 == 0 {
            screen.display.cursor(None, SIZE).context("CURSOR")?;
            // The driver takes it away when it is told of a vsync, be that some frames later.
            eventually("the cursor to go", || {
                screen.frames()?;
                let shown = screen.shows_at((x, y), 1, (x, y), "without a cursor");
                Ok(shown.is_ok())
            })?;
        }
    }
    screen.done()
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        three_dumb_buffers,
        flips_keep_mappings,
        drawn_by_the_gpu,
        closed_early,
        file_closed_while_shown,
        off_and_on,
        reclaim_while_shown,
        swapped_out_between_flips,
        second_plane,
        defect_52_cursor,
    ])
}
