// SPDX-License-Identifier: GPL-2.0-only
//! Numbers, BOs, log entries and whole dumps in words.

use super::ends;
use crate::dump::{
    Bo,
    Dump,
    Fault, //
};
use crate::klog::KernelLog;
use crate::vm_log::{
    Applied,
    Entry,
    Submit,
    VmLog, //
};
use std::ops::Range;

/// `1234567` ns as `1.235 ms`.
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.3} s", ns as f64 / 1e9),
    }
}

/// `8192` as `8 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024 && value % 1024 == 0 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    if value >= 10 * 1024 && unit == 0 {
        return format!("{bytes:#x} bytes");
    }
    format!("{value} {}", UNITS[unit])
}

/// `0x100000000–0x100004000`
pub fn range(range: &Range<u64>) -> String {
    format!("{:#x}–{:#x}", range.start, range.end)
}

/// Where a fault was, as printed.
pub fn place(fault: &Fault) -> String {
    match fault.iova {
        Some(iova) => format!("{iova:#x}"),
        None => "an unknown address".into(),
    }
}

pub(super) fn describe(bo: &Bo) -> String {
    match &bo.name {
        Some(name) => format!("BO \"{name}\" ({})", size(bo.size)),
        None => format!("a BO of {}", size(bo.size)),
    }
}

pub(super) fn name_of(entry: &Entry) -> String {
    match (&entry.name, entry.handle) {
        (Some(name), _) => format!(" of BO \"{name}\""),
        (None, Some(handle)) => format!(" of the BO with handle {handle}"),
        (None, None) => String::new(),
    }
}

/// By whom an op was asked for.
pub(super) fn by(entry: &Entry) -> String {
    let mut out = match entry.queue {
        0 => String::new(),
        queue => format!(" by queue {queue}"),
    };
    if let Some(job) = entry.job {
        out += &format!(", job {job}");
    }
    out
}

/// One log line for people.
pub(super) fn logged(log: &VmLog, entry: &Entry) -> String {
    let mut out = format!(
        "{} {}{}{}",
        entry.op,
        range(&entry.range()),
        name_of(entry),
        by(entry)
    );
    if let (Some(fault), Some(asked)) = (log.fault_time(), entry.asked) {
        out += &format!(", asked {} of the fault", ahead(asked, fault));
        match entry.applied {
            Applied::At(at) => out += &format!(", applied {}", ahead(at, fault)),
            Applied::NotYet => out += ", not applied",
            Applied::Yes => {}
        }
    }
    if let Some(err) = entry.err {
        out += &format!(", failed with {err}");
    }
    out
}

pub(super) fn ahead(at: u64, fault: u64) -> String {
    if at <= fault {
        format!("{} ahead", duration(fault - at))
    } else {
        format!("{} behind", duration(at - fault))
    }
}

/// A time as its distance from the fault, `-1.2 ms` ahead of it; as it is, where that isn't known.
pub fn relative(log: &VmLog, at: u64) -> String {
    match log.fault_time() {
        Some(fault) if at <= fault => format!("-{}", duration(fault - at)),
        Some(fault) => format!("+{}", duration(at - fault)),
        None => at.to_string(),
    }
}

/// `1 fence`, `2 fences`
pub(super) fn fences(n: u64) -> String {
    match n {
        0 => "no fence".into(),
        1 => "1 fence".into(),
        n => format!("{n} fences"),
    }
}

/// What the submit waited for, and didn't.
pub fn waited(submit: &Submit) -> String {
    let mut out = format!("waited for {}", fences(submit.waits));
    if submit.ignored > 0 {
        let s = if submit.ignored == 1 { "" } else { "s" };
        out += &format!(
            "; {} in-syncobj{s} ignored, for want of MSM_SUBMIT_SYNCOBJ_IN",
            submit.ignored
        );
    }
    out
}

/// The submit that is blamed, in words.
pub fn submitted(log: &VmLog, submit: &Submit) -> String {
    let moment = match log.header.as_ref().and_then(|h| h.fault) {
        Some(_) => "fault",
        None => "dump",
    };
    let sent = log.fault_time().map_or(String::new(), |fault| {
        format!(" sent {} of the {moment},", ahead(submit.sent, fault))
    });
    format!(
        "submit with fence {} of queue {},{sent} {}",
        submit.fence,
        submit.queue,
        waited(submit)
    )
}

/// Who faulted, where and how.
pub fn subject(dump: &Dump) -> String {
    let mut parts = Vec::new();
    match &dump.fault {
        Some(fault) => {
            let mut text = match fault.direction {
                Some(direction) => format!("page fault, {direction} of {}", place(fault)),
                None => format!("page fault at {}", place(fault)),
            };
            if let Some(source) = &fault.source {
                text += &format!(" by {source}");
            }
            parts.push(text);
        }
        None if ends::goes_on(dump) => parts.push("no page fault".into()),
        // Nothing is known of one.
        None => {}
    }
    if let Some(comm) = &dump.comm {
        parts.push(format!("task {comm}"));
    }
    if let Some(revision) = &dump.revision {
        parts.push(revision.to_string());
    }
    if let Some(kernel) = &dump.kernel {
        parts.push(format!("Linux {kernel}"));
    }
    if parts.is_empty() {
        return "the dump doesn't say".into();
    }
    parts.join("; ")
}

/// Of what a kernel log is.
pub fn log_subject(log: &KernelLog) -> String {
    let mut parts = vec![format!("kernel log of {} lines", log.lines)];
    if let Some(revision) = &log.revision {
        parts.push(format!("GPU {revision}"));
    }
    if let Some(kernel) = &log.kernel {
        parts.push(format!("Linux {kernel}"));
    }
    parts.join("; ")
}
