// SPDX-License-Identifier: GPL-2.0-only

//! What the tracepoints say: a bind, each change of page tables, what reclaim takes, in the order
//! in which it happens.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{check_unpinned, eventually, Gpu, Legacy, Waiting};
use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
    process::ExitCode,
};
use uapi::{
    abi::{
        MSM_BO_GPU_READONLY, MSM_BO_WC, MSM_SUBMIT_BO_READ, MSM_VM_BIND_FENCE_FD_IN,
        MSM_VM_BIND_FENCE_FD_OUT,
    },
    debugfs, module,
    swap::Swap,
    tracepoint::{self, Event},
    vadreno::Vadreno,
    Bo, Device, Pm4, Syncobj, Trace, Tracepoint, PAGE,
};

const GROUP: &str = "drm_msm_gpu";
const BIND: (&str, &str) = (GROUP, "msm_vm_bind");
const MAP: (&str, &str) = (GROUP, "msm_vm_map");
const UNMAP: (&str, &str) = (GROUP, "msm_vm_unmap");
const EVICT: (&str, &str) = (GROUP, "msm_gem_evict");
const PURGE: (&str, &str) = (GROUP, "msm_gem_purge");
const CLEANUP: (&str, &str) = (GROUP, "msm_mmu_prealloc_cleanup");

/// Ours alone has these. With the kernel's own msm.ko there is nothing to look at.
fn trace(points: &[(&'static str, &'static str)]) -> harness::Result<Option<Trace>> {
    if !module::is_out_of_tree("msm")? {
        for (_, name) in points.iter().filter(|(group, _)| *group == GROUP) {
            ensure!(!Tracepoint::exists(name)?, "the stock module has {name}");
        }
        return Ok(None);
    }
    Ok(Some(Trace::new(points).context("tracing")?))
}

fn client_id(device: &Device) -> harness::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", device.as_fd().as_raw_fd()))?;
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("drm-client-id:"));
    Ok(id.context("no drm-client-id")?.trim().parse()?)
}

/// The page tables of a context, as the GPU has them.
fn ttbr0(gpu: &Gpu) -> harness::Result<u64> {
    // Open, it keeps the GPU awake, which would forget them otherwise.
    let vadreno = Vadreno::open().context("the virtual Adreno")?;
    gpu.run(&Pm4::new().nop(1).barrier())?;
    Ok(vadreno.current().0 & ((1 << 48) - 1))
}

/// A context's events alone, each as a line without what isn't the same each time: which page
/// tables, and which BO but that it is one.
fn told(events: &[Event], ttbr0: u64) -> harness::Result<Vec<String>> {
    let mut lines = Vec::new();
    for event in events {
        if event.number("ttbr0")? != ttbr0 {
            continue;
        }
        let words = event.text.split(' ').filter(|word| {
            !["ttbr0=", "client=", "bo=", "job="]
                .iter()
                .any(|key| word.starts_with(key))
        });
        let words: Vec<_> = words.collect();
        lines.push(format!("{}: {}", event.name, words.join(" ")));
    }
    Ok(lines)
}

fn mapped(at: u64, len: u64, why: &str, offset: u64, prot: &str, name: &str) -> String {
    let end = at + len;
    format!("msm_vm_map: iova={at:#x}-{end:#x} why={why} off={offset:#x} prot={prot} name={name}")
}

fn unmapped(at: u64, len: u64, why: &str) -> String {
    let end = at + len;
    format!("msm_vm_unmap: iova={at:#x}-{end:#x} why={why}")
}

/// MAP, MAP_NULL, UNMAP, MAP over something, the same MAP again: in one request each, and in one.
fn changes(_: &mut Test) -> Outcome {
    let Some(trace) = trace(&[BIND, MAP, UNMAP])? else {
        return Ok(());
    };
    let gpu = Gpu::new()?;
    let ttbr0 = ttbr0(&gpu)?;
    let bo = gpu.bo(1, 8 * PAGE)?;
    bo.set_name("a texture").context("SET_NAME")?;
    let other = Bo::with_flags(&gpu.device, 4 * PAGE, MSM_BO_WC | MSM_BO_GPU_READONLY)?;
    let at = |page: u64| gpu.iova(page * PAGE);
    let queue = gpu.binds.id();
    let request = |ops: u64| {
        format!(
            "msm_vm_bind: queue={queue} flags={MSM_VM_BIND_FENCE_FD_OUT:#x} ops={ops} fence=0:0"
        )
    };
    trace.take()?;
    gpu.bind()
        .map(&bo, PAGE, at(0), 4 * PAGE)
        .send_and_wait()
        .context("MAP")?;
    let events = trace.take()?;
    ensure_eq!(
        told(&events, ttbr0)?,
        [
            request(1),
            mapped(at(0), 4 * PAGE, "map", PAGE, "read|write", "a texture")
        ],
        "MAP"
    );
    ensure_eq!(
        events[0].number("client")?,
        client_id(&gpu.device)?,
        "whose bind"
    );
    let job = events[0].number("job")?;
    ensure_eq!(events[1].number("job")?, job, "the job of the change");

    // Nothing changes but flags.
    gpu.bind()
        .map(&bo, PAGE, at(0), 4 * PAGE)
        .send_and_wait()
        .context("the same MAP")?;
    let events = trace.take()?;
    ensure_eq!(told(&events, ttbr0)?, [request(1)], "the same again");
    ensure_eq!(events[0].number("job")?, job + 1, "the next job");

    gpu.bind()
        .map(&other, 0, at(1), 2 * PAGE)
        .send_and_wait()
        .context("MAP over it")?;
    ensure_eq!(
        told(&trace.take()?, ttbr0)?,
        [
            request(1),
            unmapped(at(1), 2 * PAGE, "replace"),
            mapped(at(1), 2 * PAGE, "map", 0, "read", "")
        ],
        "MAP over a part of it"
    );
    gpu.bind()
        .map_null(at(16), PAGE)
        .send_and_wait()
        .context("MAP_NULL")?;
    ensure_eq!(
        told(&trace.take()?, ttbr0)?,
        [
            request(1),
            mapped(at(16), PAGE, "map_null", 0, "read|write", "")
        ],
        "MAP_NULL"
    );
    // What goes, goes first; an UNMAP of nothing changes nothing.
    gpu.bind()
        .map(&bo, 0, at(32), PAGE)
        .unmap(at(0), 3 * PAGE)
        .unmap(at(64), PAGE)
        .send_and_wait()
        .context("three ops")?;
    ensure_eq!(
        told(&trace.take()?, ttbr0)?,
        [
            request(3),
            unmapped(at(0), 3 * PAGE, "unmap"),
            mapped(at(32), PAGE, "map", 0, "read|write", "a texture")
        ],
        "three ops"
    );
    // In one request one op covers another one.
    gpu.bind()
        .map(&bo, 0, at(48), PAGE)
        .map(&other, 0, at(48), PAGE)
        .send_and_wait()
        .context("MAP twice")?;
    let events = told(&trace.take()?, ttbr0)?;
    ensure_eq!(events.len(), 4, "two MAPs of a page: {events:#?}");
    ensure_eq!(
        events[1..],
        [
            mapped(at(48), PAGE, "map", 0, "read|write", "a texture"),
            unmapped(at(48), PAGE, "replace"),
            mapped(at(48), PAGE, "map", 0, "read", "")
        ],
        "two MAPs of a page"
    );
    Ok(())
}

/// A refused request is no event, and nor is what nobody listens to.
fn nothing_else(_: &mut Test) -> Outcome {
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    if let Some(trace) = trace(&[BIND, MAP, UNMAP, EVICT, PURGE])? {
        ensure!(
            gpu.bind().map(&bo, PAGE, gpu.iova(0), PAGE).send().is_err(),
            "a MAP of what the BO hasn't got"
        );
        ensure_eq!(trace.take()?, [], "events of a refused request");
    }
    tracepoint::forget()?;
    gpu.map(&bo, gpu.iova(0))?;
    gpu.unmap(gpu.iova(0), PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    check_unpinned(&bo).context("an idle BO")?;
    drop(gpu);
    ensure_eq!(tracepoint::count()?, 0, "events with nothing switched on");
    Ok(())
}

/// A bind that waits changes nothing until it runs. Its fence is the scheduler's.
fn waiting(_: &mut Test) -> Outcome {
    let scheduler = |name| ("gpu_scheduler", name);
    let Some(trace) = trace(&[
        BIND,
        MAP,
        UNMAP,
        scheduler("drm_sched_job_queue"),
        scheduler("drm_sched_job_run"),
        scheduler("drm_sched_job_done"),
    ])?
    else {
        return Ok(());
    };
    let gpu = Gpu::new()?;
    let ttbr0 = ttbr0(&gpu)?;
    let bo = gpu.bo(1, 2 * PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    trace.take()?;
    let waiting = Waiting::send(
        gpu.bind()
            .map(&bo, PAGE, gpu.iova(0), PAGE)
            .unmap(gpu.iova(PAGE), PAGE),
    )?;
    let events = trace.take()?;
    let bind = events
        .iter()
        .find(|event| event.name == BIND.1)
        .context("no event for the bind")?;
    let fence = bind.get("fence")?.to_owned();
    let job = bind.number("job")?;
    ensure!(fence != "0:0", "a bind that waits has no fence");
    ensure_eq!(
        bind.number("flags")?,
        u64::from(MSM_VM_BIND_FENCE_FD_IN | MSM_VM_BIND_FENCE_FD_OUT),
        "flags"
    );
    ensure_eq!(bind.number("ops")?, 2, "ops");
    let of_job = |events: &[Event]| -> Vec<(&'static str, String)> {
        let ours = events.iter().filter(|event| {
            event.number("ttbr0").is_ok_and(|at| at == ttbr0)
                || event.get("fence").is_ok_and(|of| of == fence)
        });
        ours.map(|event| (event.name, event.get("why").unwrap_or("").to_owned()))
            .collect()
    };
    let event = |name, why: &str| (name, why.to_owned());
    ensure_eq!(
        of_job(&events),
        [event(BIND.1, ""), event("drm_sched_job_queue", "")],
        "while it waits"
    );
    waiting.run()?;
    let mut events = Vec::new();
    eventually("the scheduler to say that the job is done", || {
        events = trace.events()?;
        Ok(events.iter().any(|event| {
            event.name == "drm_sched_job_done" && event.get("fence").is_ok_and(|of| of == fence)
        }))
    })?;
    ensure_eq!(
        of_job(&events),
        [
            event("drm_sched_job_run", ""),
            event(UNMAP.1, "replace"),
            event(UNMAP.1, "unmap"),
            event(MAP.1, "map"),
            event("drm_sched_job_done", "")
        ],
        "when it runs"
    );
    for event in events.iter().filter(|event| event.get("job").is_ok()) {
        if event.number("ttbr0").is_ok_and(|at| at == ttbr0) {
            ensure_eq!(event.number("job")?, job, "the job of {event:?}");
        }
    }
    Ok(())
}

/// With a syncobj the event says the same, without the flag for a descriptor.
fn with_a_syncobj(_: &mut Test) -> Outcome {
    let Some(trace) = trace(&[BIND])? else {
        return Ok(());
    };
    let gpu = Gpu::new()?;
    let syncobj = Syncobj::new(&gpu.device)?;
    trace.take()?;
    gpu.bind()
        .unmap(gpu.iova(0), PAGE)
        .signal(&syncobj, 0)
        .send_only()?;
    let events = trace.take()?;
    ensure_eq!(events.len(), 1, "{events:?}");
    ensure_eq!(events[0].number("flags")?, 0, "flags");
    ensure_eq!(events[0].get("fence")?, "0:0", "fence");
    Ok(())
}

/// The shrinker purges, swaps out, and a SUBMIT brings back.
fn reclaim(_: &mut Test) -> Outcome {
    const SIZE: u64 = 16 * PAGE;
    let Some(trace) = trace(&[MAP, UNMAP, EVICT, PURGE])? else {
        return Ok(());
    };
    let _swap = Swap::new(64 << 20).context("swap")?;
    let gpu = Gpu::new()?;
    let ttbr0 = ttbr0(&gpu)?;
    let (purged, evicted) = (gpu.bo(1, SIZE)?, gpu.bo(2, SIZE)?);
    purged.set_name("purged").context("SET_NAME")?;
    evicted.set_name("evicted").context("SET_NAME")?;
    trace.take()?;
    let (a, b, c) = (gpu.iova(0), gpu.iova(1 << 30), gpu.iova(2 << 30));
    gpu.map(&purged, a)?;
    gpu.map(&purged, b)?;
    gpu.map(&evicted, c)?;
    let bo_of = |events: &[Event], name: &str| -> harness::Result<String> {
        let event = events
            .iter()
            .find(|event| event.get("name").is_ok_and(|of| of == name));
        let event = event.with_context(|| format!("nothing of {name} in {events:#?}"))?;
        Ok(event.get("bo")?.to_owned())
    };
    let maps = trace.take()?;
    let (bo_purged, bo_evicted) = (bo_of(&maps, "purged")?, bo_of(&maps, "evicted")?);
    ensure!(bo_purged != bo_evicted, "two BOs are the same");

    check_unpinned(&purged).context("an idle BO")?;
    // Whatever else is idle goes, too.
    let events = trace.take()?;
    let of = |events: &[Event], bo: &str, iovas: &[u64]| -> Vec<String> {
        let starts: Vec<_> = iovas
            .iter()
            .map(|iova| format!("iova={iova:#x}-"))
            .collect();
        let ours = events.iter().filter(|event| {
            event.get("bo").is_ok_and(|of| of == bo)
                || (event.number("ttbr0").is_ok_and(|at| at == ttbr0)
                    && starts.iter().any(|start| event.text.contains(start)))
        });
        let lines = ours.map(|event| {
            let words = event
                .text
                .split(' ')
                .filter(|word| !word.starts_with("ttbr0=") && !word.starts_with("bo="));
            format!("{}: {}", event.name, words.collect::<Vec<_>>().join(" "))
        });
        lines.collect()
    };
    let gone = |at: u64, why: &str| format!("{} job=0", unmapped(at, SIZE, why));
    let mut unmaps = of(&events, &bo_purged, &[a, b]);
    ensure_eq!(
        unmaps.pop(),
        Some(format!(
            "msm_gem_purge: size={SIZE} freed={} pg name=purged",
            SIZE / PAGE
        )),
        "when its mappings are gone"
    );
    // A BO's mappings have no order.
    unmaps.sort();
    ensure_eq!(unmaps, [gone(a, "purge"), gone(b, "purge")], "a purged BO");
    // It may have gone before.
    let mut more = Vec::new();
    eventually("the other BO to be swapped out", || {
        debugfs::shrink(1 << 20)?;
        more = events.clone();
        more.extend(trace.events()?);
        Ok(more
            .iter()
            .any(|event| event.name == EVICT.1 && event.get("bo").is_ok_and(|bo| bo == bo_evicted)))
    })?;
    ensure_eq!(
        of(&more, &bo_evicted, &[c]),
        [
            gone(c, "evict"),
            format!(
                "msm_gem_evict: size={SIZE} freed={} pg name=evicted",
                SIZE / PAGE
            )
        ],
        "a BO that was swapped out"
    );
    trace.take()?;
    // No SUBMIT may use what was purged.
    gpu.unmap(a, SIZE)?;
    gpu.unmap(b, SIZE)?;
    ensure_eq!(
        of(&trace.take()?, &bo_purged, &[a, b]),
        [] as [String; 0],
        "an UNMAP of what is purged"
    );
    gpu.run(&Pm4::new().nop(1).barrier())?;
    let back = mapped(c, SIZE, "restore", 0, "read|write", "evicted");
    ensure_eq!(
        of(&trace.take()?, &bo_evicted, &[c]),
        [back.replace("why=restore", "why=restore job=0")],
        "a BO that a SUBMIT has brought back"
    );
    Ok(())
}

/// A file that is closed takes all mappings with it, a handle those of a kernel-managed VM.
fn close(_: &mut Test) -> Outcome {
    let Some(trace) = trace(&[BIND, MAP, UNMAP])? else {
        return Ok(());
    };
    let gpu = Gpu::new()?;
    let ttbr0 = ttbr0(&gpu)?;
    let bo = gpu.bo(1, PAGE)?;
    gpu.map(&bo, gpu.iova(0))?;
    trace.take()?;
    drop((bo, gpu));
    let mut events = Vec::new();
    eventually("the mappings to go", || {
        events = told(&trace.events()?, ttbr0)?;
        Ok(!events.is_empty())
    })?;
    ensure_eq!(events, [unmapped(0, 1 << 48, "close")], "a closed file");

    trace.take()?;
    let gpu = Legacy::with_vm()?;
    let bo = gpu.bo(1, PAGE)?;
    bo.set_name("a BO").context("SET_NAME")?;
    trace.take()?;
    gpu.run(&Pm4::new().nop(1).barrier(), &[(&bo, MSM_SUBMIT_BO_READ)])?;
    let iova = bo.iova().context("GET_IOVA")?;
    drop(bo);
    let events = trace.take()?;
    let place = format!("iova={iova:#x}-{:#x}", iova + PAGE);
    let ours: Vec<_> = events
        .iter()
        .filter(|event| event.text.contains(&place))
        .map(|event| {
            Ok((
                event.name,
                event.get("why")?,
                event.number("job")?,
                event.number("ttbr0")?,
            ))
        })
        .collect::<harness::Result<_>>()?;
    let root = ours.first().context("no event")?.3;
    ensure!(root != 0, "ttbr0 is 0");
    ensure_eq!(
        ours,
        [(MAP.1, "map", 0, root), (UNMAP.1, "close", 0, root)],
        "a BO in a kernel-managed VM"
    );
    Ok(())
}

/// How many page tables were allocated for jobs, and how many of them have come into use.
fn allocated_and_used(trace: &Trace) -> harness::Result<(u64, u64)> {
    let (mut allocated, mut unused) = (0, 0);
    for event in trace.events()? {
        allocated += event.number("count")?;
        unused += event.number("remaining")?;
    }
    Ok((allocated, allocated - unused))
}

/// The driver's own tracepoint for page tables that are allocated in advance: what is left of them
/// when a job is over wasn't needed.
fn tables(_: &mut Test) -> Outcome {
    const GIB: u64 = 1 << 30;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    let trace = Trace::new(&[CLEANUP]).context("tracing")?;
    // Stock frees a job, and tells it, behind its fence.
    let exact = module::is_out_of_tree("msm")?;
    let check = |what: &str, want_allocated: u64, want_used: u64| -> Outcome {
        let (mut allocated, mut used) = (0, 0);
        if exact {
            (allocated, used) = allocated_and_used(&trace)?;
            ensure_eq!(allocated, want_allocated, "tables allocated for {what}");
        } else if want_used > 0 {
            eventually(what, || {
                (allocated, used) = allocated_and_used(&trace)?;
                Ok(used >= want_used)
            })?;
            ensure!(allocated >= used, "{used} of {allocated} tables");
        }
        trace.take()?;
        ensure_eq!(used, want_used, "tables that {what} has taken into use");
        Ok(())
    };
    gpu.map(&bo, gpu.iova(0))?;
    check("the first MAP in a GiB", 2, 2)?;
    gpu.map(&bo, gpu.iova(PAGE))?;
    check("a MAP beside it", 0, 0)?;
    gpu.map(&bo, gpu.iova(2 << 20))?;
    check("a MAP in the next 2 MiB", 1, 1)?;
    gpu.bind()
        .map(&bo, 0, gpu.iova(GIB), PAGE)
        .map(&bo, 0, gpu.iova(GIB + (2 << 20)), PAGE)
        .unmap(gpu.iova(2 << 20), PAGE)
        .send_and_wait()
        .context("two MAPs and an UNMAP")?;
    // What the UNMAP has emptied goes, but wasn't reserved in vain.
    check("two MAPs and an UNMAP", 3, 3)?;
    gpu.unmap(gpu.iova(8 * GIB), PAGE)?;
    if exact {
        check("an UNMAP of nothing", 2, 0)?;
    }
    let waiting = Waiting::send(gpu.bind().map(&bo, 0, gpu.iova(16 * GIB), PAGE))?;
    check("a bind that waits", 0, 0)?;
    waiting.run()?;
    check("the bind that has waited", 2, 2)?;
    if exact {
        // Nothing was mapped by what was reserved for it.
        let waiting = Waiting::send(gpu.bind().map(&bo, 0, gpu.iova(32 * GIB), PAGE))?;
        drop((bo, gpu));
        waiting.let_go()?;
        let mut told = (0, 0);
        eventually("the cancelled bind's tables", || {
            told = allocated_and_used(&trace)?;
            Ok(told.0 > 0)
        })?;
        ensure_eq!(
            told,
            (2, 0),
            "tables of a bind that was cancelled, and used"
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        changes,
        nothing_else,
        waiting,
        with_a_syncobj,
        reclaim,
        close,
        tables,
    ])
}
