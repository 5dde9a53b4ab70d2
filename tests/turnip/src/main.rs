// SPDX-License-Identifier: GPL-2.0-only

//! A Vulkan client: sparse buffers through Mesa's turnip, every byte read back.
//!
//! Runs in the tree that `scripts/setup turnip` makes. It uses transfer commands alone, which the
//! virtual Adreno can carry out.

mod vk;
mod world;

use harness::{bail, cases, ensure, ensure_eq, Context, Outcome, Result, Test};
use std::{
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};
use uapi::{
    devcoredump::{self, Devcoredump},
    vadreno::Vadreno,
    vadreno_ctl::counter,
};
use vk::{is_lost, Bind, Command as GpuCommand, Gpu, Piece, Range, PATIENCE};
use world::{Act, World};

fn main() -> ExitCode {
    harness::main(cases![
        facts,
        vulkaninfo,
        scattered,
        rebound,
        aliased,
        unbound,
        held_back,
        binary_semaphores,
        recycled,
        stress,
        three_processes,
        device_lost,
        vkmark,
    ])
}

/// What the driver offers with this kernel: without VM_BIND there are no sparse buffers.
fn facts(_: &mut Test) -> Outcome {
    let facts = Gpu::open()?.facts();
    ensure!(
        facts.name.starts_with("Turnip Adreno"),
        "this is {}",
        facts.name
    );
    ensure_eq!(facts.vendor, 0x5143, "vendor");
    ensure_eq!(facts.sparse, [true; 3], "binding, residency, aliases");
    ensure!(facts.strict, "what isn't bound may not read 0");
    ensure!(
        facts.sparse_address_space > 1 << 32,
        "{:#x} bytes for sparse resources",
        facts.sparse_address_space
    );
    ensure!(facts.families.0 != facts.families.1, "one queue does all");
    Ok(())
}

fn vulkaninfo(_: &mut Test) -> Outcome {
    let output = Command::new("vulkaninfo").output().context("vulkaninfo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", output.status);
    for (field, wanted) in [
        ("deviceName", "Turnip Adreno (TM) 702"),
        ("driverName", "turnip Mesa driver"),
        ("deviceType", "PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU"),
        ("sparseBinding", "true"),
        ("sparseResidencyBuffer", "true"),
        ("sparseResidencyAliased", "true"),
        ("residencyNonResidentStrict", "true"),
        ("timelineSemaphore", "true"),
    ] {
        let found = text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == field).then(|| value.trim())
        });
        ensure_eq!(found, Some(wanted), "{field}");
    }
    ensure!(text.contains("QUEUE_SPARSE_BINDING_BIT"), "no queue binds");
    Ok(())
}

/// Pages bound in any order, from several blocks.
fn scattered(test: &mut Test) -> Outcome {
    let gpu = Gpu::open()?;
    let mut world = World::new(&gpu, &mut test.rng)?;
    let blocks = [
        world.add_memory(40, 0x1111_1111)?,
        world.add_memory(40, 0x2222_2222)?,
    ];
    let buffer = world.add_buffer(64, true)?;
    let mut pieces: Vec<_> = (0..64)
        .map(|i| (buffer, i, Some((blocks[i % 2], (7 * i) % 40))))
        .collect();
    // Seven times the number and two blocks: each page of memory at most twice. None twice, please.
    let mut used = std::collections::HashSet::new();
    for (i, piece) in pieces.iter_mut().enumerate() {
        while !used.insert(piece.2) {
            piece.2 = Some((blocks[i % 2], test.rng.usize(..40)));
        }
    }
    test.rng.shuffle(&mut pieces);
    world.bind(&pieces)?;
    world.check()?;
    let size = world.size(buffer);
    world.run(&[Act::Fill {
        buffer,
        offset: 0,
        size,
        word: 0xa5a5_0001,
    }])?;
    world.check()?;
    let updates: Vec<_> = (0..64)
        .map(|page| Act::Update {
            buffer,
            offset: page * world.page + 4 * page,
            bytes: vec![page as u8 + 1; 64],
        })
        .collect();
    world.run(&updates)?;
    world.run(&[Act::Copy {
        to: (buffer, size / 2),
        from: (Some(buffer), 12),
        size: size / 2 - 100,
    }])?;
    world.run(&[Act::Copy {
        to: (buffer, 4097),
        from: (None, 3),
        size: 10_001,
    }])?;
    world.check()
}

/// The same pages bound to other memory between submissions, without waiting.
fn rebound(test: &mut Test) -> Outcome {
    let gpu = Gpu::open()?;
    let mut world = World::new(&gpu, &mut test.rng)?;
    let block = world.add_memory(64, 0)?;
    let buffer = world.add_buffer(8, true)?;
    let size = world.size(buffer);
    for round in 0..24 {
        let pieces: Vec<_> = (0..8)
            .map(|i| (buffer, i, Some((block, (8 * round + 3 * i) % 64))))
            .collect();
        world.bind(&pieces)?;
        world.run(&[Act::Fill {
            buffer,
            offset: 0,
            size,
            word: 0x0b00_0000 + round as u32,
        }])?;
    }
    world.check()
}

/// Memory that two buffers share, and that one buffer has twice.
fn aliased(test: &mut Test) -> Outcome {
    let gpu = Gpu::open()?;
    let mut world = World::new(&gpu, &mut test.rng)?;
    let block = world.add_memory(16, 0x3333_3333)?;
    let (one, two) = (world.add_buffer(16, true)?, world.add_buffer(16, true)?);
    let pieces: Vec<_> = (0..16)
        .flat_map(|i| {
            [
                (one, i, Some((block, i))),
                // the other way round, the first half twice
                (two, i, Some((block, 7 - i % 8))),
            ]
        })
        .collect();
    world.bind(&pieces)?;
    world.check()?;
    let page = world.page;
    world.run(&[
        Act::Fill {
            buffer: one,
            offset: 2 * page,
            size: page,
            word: 0x1234_5678,
        },
        Act::Update {
            buffer: two,
            offset: 4 * page + 16,
            bytes: (0..=255).collect(),
        },
        Act::Copy {
            to: (one, 12 * page),
            from: (Some(two), 4 * page),
            size: 2 * page,
        },
        Act::Copy {
            to: (two, 8 * page + 5),
            from: (None, 77),
            size: 3 * page,
        },
    ])?;
    world.check()
}

/// Writes to what isn't bound go nowhere, reads give 0, and memory keeps what it had.
fn unbound(test: &mut Test) -> Outcome {
    let gpu = Gpu::open()?;
    let mut world = World::new(&gpu, &mut test.rng)?;
    let block = world.add_memory(32, 0x4444_4444)?;
    let buffer = world.add_buffer(32, true)?;
    let size = world.size(buffer);
    let fill = |word| Act::Fill {
        buffer,
        offset: 0,
        size,
        word,
    };
    world.run(&[fill(1)])?;
    world.check()?;
    let all: Vec<_> = (0..32).map(|i| (buffer, i, Some((block, i)))).collect();
    world.bind(&all)?;
    world.run(&[fill(2)])?;
    let odd: Vec<_> = (0..16).map(|i| (buffer, 2 * i + 1, None)).collect();
    world.bind(&odd)?;
    world.run(&[fill(3)])?;
    world.check()?;
    world.bind(&all)?;
    world.check()
}

/// Everything is queued before anything may run.
fn held_back(test: &mut Test) -> Outcome {
    let gpu = Gpu::open()?;
    let mut world = World::held(&gpu, &mut test.rng)?;
    world.add_memory(32, 0x5555_5555)?;
    world.add_buffer(24, true)?;
    for _ in 0..10 {
        let pieces = world.random_bind(&mut test.rng);
        world.bind(&pieces)?;
        let act = world.random_act(&mut test.rng);
        world.run(&[act])?;
    }
    ensure!(!world.settled()?, "it has run before its time");
    world.release()?;
    world.check()
}

/// Binary semaphores between the queues, binds that only pass a semaphore on, and fences.
fn binary_semaphores(_: &mut Test) -> Outcome {
    let gpu = Gpu::open()?;
    let buffer = gpu.sparse_buffer(1 << 16, true)?;
    let seen = gpu.visible_buffer(1 << 16)?;
    let blocks = [
        gpu.memory_for(&buffer, 1 << 16)?,
        gpu.memory_for(&buffer, 1 << 16)?,
    ];
    let whole = |buffer| Range {
        buffer,
        offset: 0,
        size: 1 << 16,
    };
    let fills = [
        gpu.commands(&[GpuCommand::Fill(whole(&buffer), 0x600d_0001)])?,
        gpu.commands(&[GpuCommand::Fill(whole(&buffer), 0x600d_0002)])?,
    ];
    let read = gpu.commands(&[GpuCommand::Copy(whole(&seen.buffer), &buffer, 0)])?;
    let semaphores = (0..8)
        .map(|_| gpu.semaphore())
        .collect::<Result<Vec<_>>>()?;
    let at = |i: usize| [semaphores[i].at(0)];
    let bind = |i: usize| {
        [Bind {
            buffer: &buffer,
            pieces: vec![Piece {
                offset: 0,
                size: 1 << 16,
                memory: Some((&blocks[i], 0)),
            }],
        }]
    };
    let (bound, done) = (gpu.fence()?, gpu.fence()?);
    ensure!(!bound.signalled()?, "a fence is signalled from the start");
    gpu.bind(&bind(0), &[], &at(0), Some(&bound))?;
    gpu.submit(Some(&fills[0]), &at(0), &at(1), None)?;
    gpu.bind(&bind(1), &at(1), &at(2), None)?;
    gpu.submit(Some(&fills[1]), &at(2), &at(3), None)?;
    gpu.bind(&[], &at(3), &at(4), None)?;
    gpu.bind(&bind(0), &at(4), &at(5), None)?;
    gpu.submit(None, &at(5), &at(6), None)?;
    gpu.submit(Some(&read), &at(6), &[], Some(&done))?;
    bound.wait()?;
    done.wait()?;
    ensure!(
        bound.signalled()? && done.signalled()?,
        "a fence that was waited for isn't signalled"
    );
    let words = 0x600d_0001u32.to_le_bytes().repeat(1 << 14);
    ensure!(
        seen.read()? == words,
        "the second fill went to the first memory"
    );
    Ok(())
}

/// Freed memory is given to others: what was bound to it mustn't lead there any more.
fn recycled(test: &mut Test) -> Outcome {
    let gpu = Gpu::open()?;
    let mut world = World::new(&gpu, &mut test.rng)?;
    let (kept, freed) = (
        world.add_memory(32, 0x7777_7777)?,
        world.add_memory(32, 0x8888_8888)?,
    );
    let buffer = world.add_buffer(32, true)?;
    let size = world.size(buffer);
    for round in 0..6 {
        let fill = |word| Act::Fill {
            buffer,
            offset: 0,
            size,
            word,
        };
        let to: Vec<_> = (0..32)
            .map(|i| (buffer, i, Some((freed, 31 - i))))
            .collect();
        world.bind(&to)?;
        world.run(&[fill(0x0c00_0000 + round)])?;
        let away: Vec<_> = (0..32)
            .map(|i| (buffer, i, (i % 2 == 0).then_some((kept, i))))
            .collect();
        world.bind(&away)?;
        world.replace_memory(freed, 0x0d00_0000 + round)?;
        world.run(&[fill(0x0e00_0000 + round)])?;
        world.check()?;
    }
    Ok(())
}

/// Random binds and commands.
fn stress(test: &mut Test) -> Outcome {
    let gpu = Gpu::open()?;
    let rng = &mut test.rng;
    let mut world = World::new(&gpu, rng)?;
    for i in 0..3 {
        world.add_memory(32, 0x0101_0101 * (i + 1))?;
    }
    for _ in 0..2 {
        world.add_buffer(48, true)?;
    }
    // Without residency all of it has to be bound.
    let full = world.add_buffer(16, false)?;
    let pieces: Vec<_> = (0..16).map(|i| (full, i, Some((0, i)))).collect();
    world.bind(&pieces)?;
    for round in 0..12 {
        for _ in 0..rng.usize(2..8) {
            if rng.u8(..3) > 0 {
                let pieces = world.random_bind(rng);
                world.bind(&pieces)?;
            }
            let acts: Vec<_> = (0..rng.usize(1..5))
                .map(|_| world.random_act(rng))
                .collect();
            world.run(&acts)?;
        }
        world.check().with_context(|| format!("round {round}"))?;
        if rng.u8(..4) == 0 {
            let block = rng.usize(..3);
            world.leave(block)?;
            world.replace_memory(block, rng.u32(..))?;
        }
    }
    Ok(())
}

/// This program again, with another sub-test.
fn another(name: &str, seed: u64) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .args([
            "--only",
            name,
            "--seed",
            &seed.to_string(),
            "--timeout",
            "600",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .context("another process")
}

/// Its result.
fn result(child: Child, what: &str) -> Outcome {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{what}: {}",
        text.trim().replace('\n', ", ")
    );
    Ok(())
}

fn three_processes(test: &mut Test) -> Outcome {
    let children = (0..3)
        .map(|_| another("stress", test.rng.u64(..1 << 32)))
        .collect::<Result<Vec<_>>>()?;
    children
        .into_iter()
        .enumerate()
        .try_for_each(|(i, child)| result(child, &format!("process {i}")))
}

/// A fault takes the device from the one who caused it, and from nobody else.
fn device_lost(test: &mut Test) -> Outcome {
    if let Some(old) = Devcoredump::present()? {
        old.free()?;
    }
    let bystander = another("stress", test.rng.u64(..1 << 32))?;
    let gpu = Gpu::open()?;
    // Without residency nothing is mapped where nothing is bound.
    let buffer = gpu.sparse_buffer(1 << 16, false)?;
    let range = Range {
        buffer: &buffer,
        offset: 0,
        size: 1 << 16,
    };
    let fill = gpu.commands(&[GpuCommand::Fill(range, 1)])?;
    let fence = gpu.fence()?;
    gpu.submit(Some(&fill), &[], &[], Some(&fence))?;
    match fence.wait() {
        Err(error) if is_lost(&error) => {}
        Err(error) => return Err(error),
        Ok(()) => {
            // The fence tells of the end alone; the next call has to tell.
            let end = std::time::Instant::now() + PATIENCE;
            loop {
                match gpu
                    .submit(None, &[], &[], None)
                    .and_then(|()| gpu.wait_idle())
                {
                    Err(error) if is_lost(&error) => break,
                    Err(error) => return Err(error),
                    Ok(()) if std::time::Instant::now() > end => bail!("the device isn't lost"),
                    Ok(()) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        }
    }
    let dump = Devcoredump::wait(PATIENCE)?;
    let found = devcoredump::fault_iova(&dump.read()?);
    dump.free()?;
    ensure_eq!(found, Some(buffer.address()), "the address that faulted");
    result(bystander, "a process that was running")?;
    result(
        another("scattered", test.rng.u64(..1 << 32))?,
        "the next process",
    )?;
    drop((fill, fence, buffer, gpu));
    // And in this one.
    scattered(test)
}

/// A load with images, pipelines and render passes: the GPU gets jobs, and none goes wrong. What
/// draws would show isn't looked at, as they have no effect on the virtual Adreno.
fn vkmark(_: &mut Test) -> Outcome {
    let vadreno = Vadreno::open().context("virtual Adreno")?;
    let counters = || {
        (
            vadreno.read(counter::JOBS),
            vadreno.read(counter::FAULTS) + vadreno.read(counter::HANGS),
        )
    };
    let scenes = ["clear", "vertex", "texture", "shading", "effect2d"];
    let before = counters();
    let mut command = Command::new("vkmark");
    command.args(["--winsys", "headless", "--size", "64x64"]);
    for scene in scenes {
        command.args(["--benchmark", &format!("{scene}:duration=1")]);
    }
    let output = command.output().context("vkmark")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = || text.trim().replace('\n', "; ");
    ensure!(output.status.success(), "{}: {}", output.status, shown());
    for scene in scenes {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("[{scene}]")))
            .with_context(|| format!("no scene {scene}: {}", shown()))?;
        let frames = line
            .split_once("FPS:")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u32>().ok());
        ensure!(frames.is_some_and(|frames| frames > 0), "{line}");
    }
    let after = counters();
    ensure!(
        after.0 >= before.0 + scenes.len() as u64,
        "{} jobs for {} scenes",
        after.0 - before.0,
        scenes.len()
    );
    ensure_eq!(after.1, before.1, "faults and hangs");
    Ok(())
}
