// SPDX-License-Identifier: GPL-2.0-only

//! The VM log in the crash dump: every op is there, in order, until the ring forgets the oldest.

use harness::{ensure, ensure_eq, Context, Outcome, Test};
use programs::{fault, hang, Gpu};
use std::process::ExitCode;
use uapi::{
    devcoredump::{section, vm_log},
    module, Pm4, PAGE,
};

/// Op, queue, start, end.
type Entry = (String, i64, u64, u64);

/// Faults, and returns the log.
fn log_after(gpu: &Gpu) -> harness::Result<Vec<Entry>> {
    let dump = dump_after(gpu)?;
    Ok(vm_log(&dump)
        .into_iter()
        .map(|e| (e.op, e.queue, e.start, e.end))
        .collect())
}

fn dump_after(gpu: &Gpu) -> harness::Result<String> {
    let address = gpu.iova(0x50_0000_0000);
    fault::provoke(
        gpu,
        &Pm4::new().mem_to_mem(gpu.result_iova(0), address).barrier(),
    )
}

/// A context that has done `count` ops of its own, one job each, and what the log should have on
/// them. A new context has two ops of its own in it, the mappings of its tools.
fn worked(shift: u32, count: u64) -> harness::Result<(Gpu, Vec<Entry>)> {
    fault::set_vm_log(shift)?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, PAGE)?;
    let queue = i64::from(gpu.binds.id());
    let mut expected = Vec::new();
    for n in 0..count {
        // Maps and unmaps of the same page in turn, so that the range also tells which one it is.
        let iova = gpu.iova((n / 2) * 2 * PAGE);
        let op = if n % 2 == 0 {
            gpu.bind().map(&bo, 0, iova, PAGE).send_and_wait()?;
            "map"
        } else {
            gpu.bind().unmap(iova, PAGE).send_and_wait()?;
            "unmap"
        };
        expected.push((op.to_owned(), queue, iova, iova + PAGE));
    }
    Ok((gpu, expected))
}

/// With room for all of them, all are there.
fn defect_12_before_the_ring_wraps(_: &mut Test) -> Outcome {
    for count in [1, 5] {
        let (gpu, expected) = worked(8, count)?;
        let log = log_after(&gpu)?;
        ensure_eq!(
            log.len() as u64,
            2 + count,
            "entries for the tools and {count} ops"
        );
        ensure_eq!(log[2..], expected[..], "the entries for {count} ops");
    }
    Ok(())
}

/// Exactly as many ops as the ring has entries.
fn just_full(_: &mut Test) -> Outcome {
    let (gpu, expected) = worked(3, 6)?;
    let log = log_after(&gpu)?;
    ensure_eq!(log.len(), 8, "entries of a ring of 8");
    ensure_eq!(log[2..], expected[..], "its newest six");
    Ok(())
}

/// After the ring has wrapped, the newest are there.
fn after_the_ring_wraps(_: &mut Test) -> Outcome {
    for count in [7, 30] {
        let (gpu, expected) = worked(3, count)?;
        let log = log_after(&gpu)?;
        ensure_eq!(log.len(), 8, "entries of a ring of 8");
        let own = expected.len().min(8);
        ensure_eq!(
            log[8 - own..],
            expected[expected.len() - own..],
            "the newest of {count} ops"
        );
    }
    Ok(())
}

/// `vm_log_shift` 0: there is no log.
fn switched_off(_: &mut Test) -> Outcome {
    let (gpu, _) = worked(0, 3)?;
    let dump = dump_after(&gpu)?;
    ensure!(
        section(&dump, "vm-log").is_none(),
        "a log though vm_log_shift is 0"
    );
    Ok(())
}

/// A shift beyond 8 counts as 8.
fn at_most_256(_: &mut Test) -> Outcome {
    let (gpu, expected) = worked(20, 300)?;
    let log = log_after(&gpu)?;
    ensure_eq!(log.len(), 256, "entries");
    ensure_eq!(log[..], expected[44..], "the newest 256 of 300 ops");
    Ok(())
}

/// A job of many ops, and one that splits: an entry for each change, in order.
fn defect_12_one_job_many_ops(_: &mut Test) -> Outcome {
    fault::set_vm_log(8)?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 8 * PAGE)?;
    let queue = i64::from(gpu.binds.id());
    let at = |page: u64| gpu.iova(page * PAGE);
    gpu.bind()
        .map(&bo, 0, at(0), 8 * PAGE)
        .map(&bo, 0, at(100), 8 * PAGE)
        .unmap(at(2), 2 * PAGE)
        .unmap(at(6), 96 * PAGE)
        .send_and_wait()
        .context("four ops")?;
    let log = log_after(&gpu)?;
    let entry = |op: &str, a, b| (op.to_owned(), queue, at(a), at(b));
    ensure_eq!(
        log[2..],
        [
            entry("map", 0, 8),
            entry("map", 100, 108),
            entry("unmap", 2, 4),
            entry("unmap", 6, 8),
            entry("unmap", 100, 102),
        ],
        "the entries for four ops"
    );
    Ok(())
}

/// The value of ` key=` in a line.
fn field<'a>(line: &'a str, key: &str) -> harness::Result<&'a str> {
    let key = format!(" {key}=");
    let at = line
        .find(&key)
        .with_context(|| format!("no{key} in {line:?}"))?;
    let value = &line[at + key.len()..];
    Ok(value.split_once(' ').map_or(value, |(value, _)| value))
}

fn number(line: &str, key: &str) -> harness::Result<u64> {
    let value = field(line, key)?;
    value.parse().with_context(|| format!("{key} in {line:?}"))
}

/// What readers of the C driver's dumps rely on (Documentation/devcoredump.rst), and what ours has
/// beside.
fn form_of_the_lines(_: &mut Test) -> Outcome {
    fault::set_vm_log(8)?;
    let gpu = Gpu::new()?;
    let bo = gpu.bo(1, 4 * PAGE)?;
    let name = "a \"name\" of thirty-one letters.";
    bo.set_name(name).context("SET_NAME")?;
    gpu.bind()
        .map(&bo, PAGE, gpu.iova(0), 2 * PAGE)
        .send_and_wait()?;
    gpu.bind()
        .map_null(gpu.iova(16 * PAGE), PAGE)
        .send_and_wait()?;
    gpu.unmap(gpu.iova(0), PAGE)?;
    let dump = dump_after(&gpu)?;
    let lines = section(&dump, "vm-log").context("no vm-log")?;
    for line in &lines {
        ensure!(line.starts_with("  "), "not of the section: {line:?}");
        ensure!(line.len() < 256, "{} bytes: {line:?}", line.len());
        ensure!(
            !line.contains("fault-info") && !line.contains("- iova="),
            "{line:?}"
        );
    }
    let entries: Vec<_> = lines
        .iter()
        .filter(|line| !line.starts_with("  #"))
        .collect();
    for line in &entries {
        let body = line
            .strip_prefix("  - ")
            .with_context(|| format!("{line:?}"))?;
        let mut words = body.split(' ');
        let op = words.next().unwrap_or("");
        let range = words.next().unwrap_or("");
        let plain = op.ends_with(':') && op.matches(':').count() == 2;
        ensure!(
            plain && range.len() == 2 * 18 + 1,
            "not as C prints it: {line:?}"
        );
    }
    if !module::is_out_of_tree("msm")? {
        return Ok(());
    }
    let header = lines.first().context("no line")?;
    ensure!(
        header.starts_with("  # format=1 "),
        "the header is {header:?}"
    );
    ensure_eq!(number(header, "entries")?, entries.len() as u64, "entries");
    ensure_eq!(number(header, "lost")?, 0, "lost");
    let fault = number(header, "fault")?;
    ensure!(fault <= number(header, "now")?, "{header:?}");
    let mut asked_before = 0;
    for line in &entries {
        let (asked, applied) = (number(line, "asked")?, number(line, "applied")?);
        ensure!(
            asked_before <= asked && asked <= applied && applied <= fault,
            "{line:?} of {header:?}"
        );
        asked_before = asked;
        ensure_eq!(
            number(line, "pid")?,
            u64::from(std::process::id()),
            "pid in {line:?}"
        );
    }
    let jobs = entries.iter().map(|line| number(line, "job"));
    let jobs = jobs.collect::<harness::Result<Vec<_>>>()?;
    ensure_eq!(jobs, [1, 1, 2, 3, 4], "the jobs");
    ensure!(
        entries[2].contains(&format!(
            " handle={} off=0x1000 flags=0x0 name=\"a ?name? of thirty-one letters.\"",
            bo.handle()
        )),
        "the MAP is {:?}",
        entries[2]
    );
    ensure!(
        entries[3].contains(" flags=0x10"),
        "the MAP_NULL is {:?}",
        entries[3]
    );
    ensure!(
        entries[4].contains(" off=0x1000 flags=0x2 "),
        "the UNMAP of a part is {:?}",
        entries[4]
    );
    Ok(())
}

/// A dump of a hang has no time of a fault.
fn no_fault_in_a_hang(_: &mut Test) -> Outcome {
    let (gpu, _) = worked(8, 2)?;
    let dump = fault::provoke(&gpu, &hang::commands(&gpu, 1))?;
    if !module::is_out_of_tree("msm")? {
        return Ok(());
    }
    let lines = section(&dump, "vm-log").context("no vm-log")?;
    let header = lines.first().context("no line")?;
    ensure!(
        field(header, "fault").is_err() && field(header, "now").is_ok(),
        "{header:?}"
    );
    let submit = lines.get(1).context("no second line")?;
    ensure!(submit.starts_with("  # submit "), "{submit:?}");
    ensure!(
        number(submit, "sent")? <= number(header, "now")?,
        "{submit:?} of {header:?}"
    );
    Ok(())
}

fn main() -> ExitCode {
    harness::main(harness::cases![
        just_full,
        after_the_ring_wraps,
        switched_off,
        at_most_256,
        form_of_the_lines,
        no_fault_in_a_hang,
        defect_12_before_the_ring_wraps,
        defect_12_one_job_many_ops,
    ])
}
