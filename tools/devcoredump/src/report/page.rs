// SPDX-License-Identifier: GPL-2.0-only
//! The page's parts. Whatever a dump says goes through maud's or the svg crate's escaping.

use super::{
    commands::{
        streams,
        Stream, //
    },
    timeline, //
};
use crate::contents::Contents;
use crate::cp::layout::Layout;
use crate::dump::{
    Absent,
    Dump, //
};
use crate::klog::KernelLog;
use crate::map::{
    picture,
    Map, //
};
use crate::pm4::Generation;
use crate::verdict::{
    log_subject,
    relative,
    size,
    subject,
    submitted,
    waited,
    Finding,
    Sure,
    MORE, //
};
use crate::vm_log::{
    flags,
    Applied,
    Entry,
    Submit,
    VmLog, //
};
use maud::{
    html,
    Markup,
    PreEscaped,
    DOCTYPE, //
};

const STYLE: &str = include_str!("style.css");
/// Nothing is loaded and no script runs, even if a string got through unescaped.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
/// How many mappings the map shows on each side, nearest view first.
const REACH: [(usize, &str); 3] = [(4, "near"), (16, "around"), (128, "far")];
/// How many rows a table has at most.
const ROWS: usize = 1000;
/// How many entries of the VM log before and after the fault are listed.
const ENTRIES: usize = 60;

fn frame(name: &str, finding: &Finding, subject: &str, rest: &Markup, parts: &[Part]) -> Markup {
    let sure = match finding.sure {
        Sure::Certain => "certain",
        Sure::Likely => "likely",
        Sure::Possible => "possible",
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (finding.verdict) " – " (name) }
                style { (PreEscaped(STYLE)) }
                // Else a browser asks the server for an icon.
                link rel="icon" href="data:,";
            }
            body {
                header {
                    h1 class=(sure) {
                        (finding.verdict) " "
                        @if let Some(sure) = finding.sureness() { span.sure { "(" (sure) ")" } }
                    }
                    dl {
                        dt { "What" } dd { (finding.happened) }
                        dt { "Where" } dd { (subject) }
                        dt { "Whose" } dd { (finding.whose) }
                        dt { "Next" } dd { (finding.next) }
                        @if !finding.otherwise.is_empty() {
                            dt { "Or" }
                            dd { @for text in &finding.otherwise { div { (text) } } }
                        }
                        (rest)
                        dt { "From" } dd { (name) }
                    }
                }
                @if parts.len() > 1 {
                    nav {
                        @for part in parts { a href={ "#" (part.id) } { (part.title) } }
                    }
                }
                main {
                    @for part in parts {
                        section id=(part.id) { h2 { (part.title) } (part.content) }
                    }
                }
            }
        }
    }
}

/// A section of the page.
struct Part {
    id: &'static str,
    title: &'static str,
    content: Markup,
}

fn evidence(finding: &Finding) -> Option<Markup> {
    (!finding.evidence.is_empty()).then(|| {
        html! {
            div.wide { table {
                tr { th.n { "line" } th { "what it says" } }
                @for evidence in &finding.evidence {
                    tr {
                        td.n { @if let Some(line) = evidence.line { (line) } }
                        td { pre { (evidence.text) } }
                    }
                }
            } }
        }
    })
}

/// The page of a kernel log.
pub fn log(name: &str, log: &KernelLog, finding: &Finding) -> Markup {
    let parts = [
        ("evidence", "Evidence", evidence(finding)),
        ("more", "To know more", Some(html! { pre { (MORE) } })),
    ];
    frame(name, finding, &log_subject(log), &html! {}, &filled(parts))
}

/// The page of a dump.
pub fn dump(name: &str, dump: &Dump, contents: &Contents, finding: &Finding) -> Markup {
    let rest = html! {
        @if let Some(cmdline) = &dump.cmdline { dt { "Command" } dd { (cmdline) } }
        @if let Some(cut) = dump.cut {
            dt { "Cut" } dd { "the dump ends too early, " (cut) }
        }
        @if !dump.problems.is_empty() {
            dt { "Malformed" }
            dd { (dump.problems.len()) " lines; the first: " (dump.problems[0]) }
        }
    };
    let streams = streams(dump, contents);
    let parts = [
        ("evidence", "Evidence", evidence(finding)),
        ("map", "Address space", map(dump, &streams)),
        ("log", "VM log", vm_log(dump, finding)),
        ("commands", "Commands", commands(&streams)),
        ("rings", "Rings", rings(dump)),
        ("bos", "BOs", bos(dump)),
        ("registers", "Registers", registers(dump)),
    ];
    frame(name, finding, &subject(dump), &rest, &filled(parts))
}

fn filled<const N: usize>(parts: [(&'static str, &'static str, Option<Markup>); N]) -> Vec<Part> {
    let part = |(id, title, content): (_, _, Option<Markup>)| {
        content.map(|content| Part { id, title, content })
    };
    parts.into_iter().filter_map(part).collect()
}

/// Around the fault, or else around where the CP was.
fn map(dump: &Dump, streams: &[Stream]) -> Option<Markup> {
    let cp = || streams.last().map(|stream| stream.position.address());
    let centre = dump.fault.as_ref().and_then(|f| f.address()).or_else(cp)?;
    let pictures = REACH.map(|(reach, _)| {
        let map = Map::around(dump, centre, reach);
        picture::picture(dump, &map, None).to_string()
    });
    Some(html! {
        div.map {
            fieldset {
                @for (n, (_, words)) in REACH.iter().enumerate() {
                    label {
                        input type="radio" name="reach" class={ "reach-" (n) } checked[n == 0];
                        " " (words)
                    }
                }
            }
            fieldset {
                @for (n, zoom) in ["1×", "1.5×", "2.5×"].iter().enumerate() {
                    label {
                        input type="radio" name="zoom" class={ "zoom-" (n) } checked[n == 0];
                        " " (zoom)
                    }
                }
            }
            @for (n, picture) in pictures.iter().enumerate() {
                div class={ "wide map-" (n) } { (PreEscaped(picture)) }
            }
        }
    })
}

/// The entries around the fault, those that concern its address first of all.
fn around(log: &VmLog, address: Option<u64>, finding: &Finding) -> Vec<usize> {
    let matters = |n: usize, entry: &Entry| {
        finding.entry == Some(n) || address.is_some_and(|address| entry.covers(address))
    };
    let all = log.entries.iter().enumerate();
    let mut chosen: Vec<usize> = all
        .clone()
        .filter(|&(n, entry)| matters(n, entry))
        .map(|(n, _)| n)
        .rev()
        .take(ROWS)
        .collect();
    let fault = log.fault_time().unwrap_or(u64::MAX);
    let later = |&(_, entry): &(usize, &Entry)| entry.asked.is_some_and(|asked| asked > fault);
    let before = all.clone().filter(|entry| !later(entry)).rev();
    chosen.extend(before.map(|(n, _)| n).take(ENTRIES));
    chosen.extend(all.filter(later).map(|(n, _)| n).take(ENTRIES));
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// The submit in the table of entries.
fn submit_row(log: &VmLog, submit: &Submit) -> Markup {
    html! {
        tr {
            td { "submit" }
            td.n { (relative(log, submit.sent)) }
            td {}
            td { "fence " (submit.fence) }
            td {}
            td.n { (submit.queue) }
            td {}
            td { (waited(submit)) }
        }
    }
}

fn vm_log(dump: &Dump, finding: &Finding) -> Option<Markup> {
    let log = dump.vm_log.as_ref().filter(|log| !log.entries.is_empty())?;
    let address = dump.fault.as_ref().and_then(|fault| fault.address());
    let chosen = around(log, address, finding);
    let asked = |entry: &Entry| entry.asked.map_or(String::new(), |at| relative(log, at));
    let applied = |entry: &Entry| match entry.applied {
        Applied::Yes => String::new(),
        Applied::NotYet => "not yet".into(),
        Applied::At(at) => relative(log, at),
    };
    let submit = log.submit.as_ref();
    // It stands where it was sent.
    let place = submit.map(|submit| {
        let later = |&n: &usize| log.entries[n].asked.is_some_and(|at| at > submit.sent);
        (
            chosen.iter().position(later).unwrap_or(chosen.len()),
            submit,
        )
    });
    let row_at = |n: usize| {
        let here = place.filter(|&(at, _)| at == n);
        here.map(|(_, submit)| submit_row(log, submit))
    };
    Some(html! {
        @match timeline::picture(log, address) {
            Some(picture) => {
                div.wide { (PreEscaped(picture.to_string())) }
                p.dim {
                    "A bar lasts from when an op was asked for to when the page tables followed; "
                    "distances from the " (if address.is_some() { "fault" } else { "dump" })
                    " are logarithmic. "
                    @for (class, words) in [("mapped", "map"), ("warn", "unmap"),
                                            ("pending", "not applied")] {
                        span.swatch style={ "background: var(--" (class) ")" } {} (words) " "
                    }
                }
            }
            None => p.dim { "This kernel's log has no times; the order is that of the ops." }
        }
        @if let Some(submit) = submit { p { "The " (submitted(log, submit)) "." } }
        details open {
            summary { (chosen.len()) " of " (log.entries.len()) " entries" }
            div.wide { table {
                tr {
                    th { "op" } th.n { "asked" } th.n { "applied" } th { "range" } th.n { "size" }
                    th.n { "queue" } th.n { "job" } th { "BO" }
                }
                @for (at, &n) in chosen.iter().enumerate() {
                    @if let Some(row) = row_at(at) { (row) }
                    @let entry = &log.entries[n];
                    @let covers = address.is_some_and(|address| entry.covers(address));
                    tr class=[(covers || finding.entry == Some(n)).then_some("here")] {
                        td { (entry.op) }
                        td.n { (asked(entry)) }
                        td.n { (applied(entry)) }
                        td { (format!("{:#x}–{:#x}", entry.start, entry.end)) }
                        td.n { (size(entry.end - entry.start)) }
                        td.n { (entry.queue) }
                        td.n { @if let Some(job) = entry.job { (job) } }
                        td {
                            @match (&entry.name, entry.handle) {
                                (Some(name), _) => { "“" (name) "”" }
                                (None, Some(handle)) => { "handle " (handle) }
                                (None, None) => {}
                            }
                            @for (bit, word) in flags::NAMED {
                                @if entry.flags & bit != 0 { " " span.dim { (word) } }
                            }
                            @if let Some(err) = entry.err { " failed with " (err) }
                        }
                    }
                }
                @if let Some(row) = row_at(chosen.len()) { (row) }
            } }
        }
    })
}

fn commands(streams: &[Stream]) -> Option<Markup> {
    (!streams.is_empty()).then(|| html! { @for stream in streams { (one(stream)) } })
}

fn one(stream: &Stream) -> Markup {
    html! {
        p {
            (stream.position.describe())
            @if let Some(bo) = &stream.bo { ", in BO “" (bo) "”" }
            @if stream.lines.is_empty() {
                span.dim { ": the dump doesn't have its bytes, or not where it begins" }
            }
        }
        @if !stream.lines.is_empty() {
            div.wide { table {
                tr { th.n { "dword" } th { "packet" } th { "dwords" } }
                @for line in &stream.lines {
                    tr class=[line.here.then_some("at")] {
                        td.n { (line.at) } td { (line.what) } td { (line.words) }
                    }
                }
            } }
        }
    }
}

fn rings(dump: &Dump) -> Option<Markup> {
    (!dump.rings.is_empty()).then(|| {
        html! {
            div.wide { table {
                tr {
                    th.n { "ring" } th { "address" } th.n { "fence done" } th.n { "fence queued" }
                    th.n { "rptr" } th.n { "wptr" } th.n { "size" }
                }
                @for ring in &dump.rings {
                    tr {
                        td.n { (ring.id) } td { (format!("{:#x}", ring.iova)) }
                        td.n { (ring.retired_fence) } td.n { (ring.last_fence) }
                        td.n { (ring.rptr) } td.n { (ring.wptr) } td.n { (size(ring.size)) }
                    }
                }
            } }
        }
    })
}

fn bos(dump: &Dump) -> Option<Markup> {
    let address = dump.fault.as_ref().and_then(|fault| fault.address());
    let mut bos: Vec<_> = dump.bos.iter().collect();
    bos.sort_by_key(|bo| bo.iova);
    // The nearest ones, if there are too many.
    let near = address.map_or(0, |address| bos.partition_point(|bo| bo.iova < address));
    let first = near
        .saturating_sub(ROWS / 2)
        .min(bos.len().saturating_sub(ROWS));
    let shown: Vec<_> = bos.iter().skip(first).take(ROWS).collect();
    (!bos.is_empty()).then(|| {
        html! {
            details open[shown.len() <= 40] {
                summary { (shown.len()) " of " (bos.len()) " BOs" }
                div.wide { table {
                    tr {
                        th { "range" } th.n { "size" } th { "flags" } th { "content" }
                        th { "name" }
                    }
                    @for bo in shown {
                        @let here = address.is_some_and(|at| bo.range().contains(&at));
                        tr class=[here.then_some("here")] {
                            td { (format!("{:#x}–{:#x}", bo.iova, bo.range().end)) }
                            td.n { (size(bo.size)) }
                            td { @if let Some(flags) = bo.flags { (format!("{flags:#x}")) } }
                            td {
                                @match &bo.absent {
                                    Some(Absent::At(at)) => (format!("at {at:#x}")),
                                    Some(Absent::Omitted(why)) => { "left out: " (why) }
                                    None => @if bo.block.is_some() { "yes" }
                                }
                            }
                            td { @if let Some(name) = &bo.name { (name) } }
                        }
                    }
                } }
            }
        }
    })
}

/// The names of the registers that the verdict rests on.
fn names(layout: &Layout) -> Vec<(u32, &'static str)> {
    let mut names = vec![
        (layout.status, "RBBM_STATUS"),
        (layout.ring_base, "CP_RB_BASE"),
        (layout.ring_read, "CP_RB_RPTR"),
        (layout.errors.0, "CP_INTERRUPT_STATUS"),
        (layout.hw_fault, "CP_HW_FAULT"),
        (layout.protect, "CP_PROTECT_STATUS"),
    ];
    if let Some(status3) = layout.status3 {
        names.push((status3, "RBBM_STATUS3"));
    }
    let levels = [
        ("CP_IB1_BASE", "CP_IB1_REM_SIZE"),
        ("CP_IB2_BASE", "CP_IB2_REM_SIZE"),
    ];
    for (buffer, (base, rest)) in layout.buffers.iter().zip(levels) {
        names.extend([(buffer.base, base), (buffer.rest, rest)]);
    }
    names
}

fn registers(dump: &Dump) -> Option<Markup> {
    let layout = dump.revision.as_ref().and_then(Generation::of);
    let names = layout.map_or(Vec::new(), |generation| names(Layout::of(generation)));
    let name = |offset: u32| {
        let name = names.iter().find(|&&(register, _)| 4 * register == offset);
        name.map_or("", |&(_, name)| name)
    };
    let known = dump
        .registers
        .iter()
        .filter(|register| !name(register.offset).is_empty());
    let table = |registers: &mut dyn Iterator<Item = &crate::dump::Register>| {
        html! {
            div.wide { table {
                tr { th { "offset" } th { "value" } th { "name" } }
                @for register in registers {
                    tr {
                        td { (format!("{:#07x}", register.offset)) }
                        td { (format!("{:#010x}", register.value)) }
                        td { (name(register.offset)) }
                    }
                }
            } }
        }
    };
    let all = dump.registers.len();
    (all > 0 || !dump.gmu_registers.is_empty()).then(|| {
        html! {
            @if known.clone().next().is_some() { (table(&mut known.clone())) }
            @if all > 0 {
                details {
                    summary { (all.min(16 * ROWS)) " of " (all) " registers, by byte offset" }
                    (table(&mut dump.registers.iter().take(16 * ROWS)))
                }
            }
            @if !dump.gmu_registers.is_empty() {
                details {
                    summary { (dump.gmu_registers.len()) " registers of the GMU" }
                    (table(&mut dump.gmu_registers.iter().take(16 * ROWS)))
                }
            }
        }
    })
}
