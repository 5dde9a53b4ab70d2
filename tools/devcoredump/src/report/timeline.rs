// SPDX-License-Identifier: GPL-2.0-only
//! The VM log as a timeline around the fault: a bar for each op from when it was asked for to when
//! the page tables followed, and a line for when the submit was sent. What is near the fault
//! matters most, so distances from it are logarithmic.

use crate::map::picture::text;
use crate::verdict::{
    duration,
    range,
    submitted, //
};
use crate::vm_log::{
    Applied,
    Entry,
    VmLog, //
};
use svg::node::element::{
    Group,
    Line,
    Rectangle,
    Title, //
};
use svg::Document;

const WIDTH: f64 = 920.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const LANE: f64 = 34.0;
const BOTTOM: f64 = 30.0;
/// The fault's place: most of a log is before it.
const FAULT: f64 = 0.82;
/// Below this, distances are linear, in ns.
const NEAR: f64 = 1000.0;
/// The latest entries are drawn, if there are more.
const MOST: usize = 4096;

const LANES: [&str; 3] = ["at the address", "maps elsewhere", "unmaps elsewhere"];

fn lane(entry: &Entry, address: Option<u64>) -> usize {
    match () {
        _ if address.is_some_and(|address| entry.covers(address)) => 0,
        _ if entry.op.removes() => 2,
        _ => 1,
    }
}

/// Which colour an op has.
fn class(entry: &Entry) -> &'static str {
    match entry.op {
        _ if entry.applied == Applied::NotYet => "pending",
        op if op.maps() => "mapped",
        op if op.removes() => "removed",
        _ => "other",
    }
}

/// From times to places.
struct Scale {
    fault: u64,
    /// The logarithms of the longest distances before and after the fault.
    before: f64,
    after: f64,
}

fn distance(ns: u64) -> f64 {
    (1.0 + ns as f64 / NEAR).log10()
}

/// To hundredths: logarithms differ in their last digits from one machine to another.
fn rounded(place: f64) -> f64 {
    (100.0 * place).round() / 100.0
}

impl Scale {
    fn new(fault: u64, times: impl Iterator<Item = u64>) -> Scale {
        let mut scale = Scale {
            fault,
            before: 1.0,
            after: 1.0,
        };
        for time in times {
            match time <= fault {
                true => scale.before = scale.before.max(distance(fault - time)),
                false => scale.after = scale.after.max(distance(time - fault)),
            }
        }
        scale
    }

    fn at(&self, time: u64) -> f64 {
        let inside = WIDTH - LEFT - RIGHT;
        let middle = LEFT + FAULT * inside;
        let at = match time <= self.fault {
            true => middle - FAULT * inside * distance(self.fault - time) / self.before,
            false => middle + (1.0 - FAULT) * inside * distance(time - self.fault) / self.after,
        };
        rounded(at)
    }
}

fn rule(x: f64, height: f64, class: &str) -> Line {
    Line::new()
        .set("class", class)
        .set("x1", x)
        .set("x2", x)
        .set("y1", TOP - 6.0)
        .set("y2", height - BOTTOM + 6.0)
}

/// The picture; `None` when the log has no times. `address` is that of the fault, if it is one.
pub fn picture(log: &VmLog, address: Option<u64>) -> Option<Document> {
    let fault = log.fault_time()?;
    let first = log.entries.len().saturating_sub(MOST);
    let entries = &log.entries[first..];
    let times = |entry: &Entry| {
        let asked = entry.asked?;
        let applied = match entry.applied {
            Applied::At(at) => at,
            Applied::Yes => asked,
            Applied::NotYet => log.header.as_ref().and_then(|h| h.now).unwrap_or(asked),
        };
        Some((asked, applied.max(asked)))
    };
    let all = entries.iter().filter_map(times);
    let sent = log.submit.as_ref().map(|submit| submit.sent);
    let scale = Scale::new(fault, all.flat_map(|(from, to)| [from, to]).chain(sent));
    let height = TOP + LANE * LANES.len() as f64 + BOTTOM;
    let mut body = Group::new().set("class", "time");
    for (n, name) in LANES.iter().enumerate() {
        body = body.add(text(8.0, TOP + LANE * n as f64 + 20.0, "dim", name));
    }
    let mut ns = 1000u64;
    while distance(ns) <= scale.before {
        let x = scale.at(fault.saturating_sub(ns));
        if fault >= ns {
            body = body.add(rule(x, height, "axis"));
            let label = format!("-{}", duration(ns).replace(".0 ", " "));
            let label = label.replace(".000 ", " ");
            body = body.add(text(x - 20.0, height - 8.0, "dim", &label));
        }
        // Times that a dump claims may be centuries apart.
        let Some(next) = ns.checked_mul(100) else {
            break;
        };
        ns = next;
    }
    for entry in entries {
        let Some((from, to)) = times(entry) else {
            continue;
        };
        let (left, right) = (scale.at(from), scale.at(to));
        let name = entry.name.as_deref().unwrap_or("");
        let what = format!("{} {} {name}", entry.op, range(&entry.range()));
        body = body.add(
            Rectangle::new()
                .set("class", class(entry))
                .set("x", left)
                .set("y", TOP + LANE * lane(entry, address) as f64 + 4.0)
                .set("width", rounded(right - left).max(3.0))
                .set("height", LANE - 10.0)
                .add(Title::new(what)),
        );
    }
    if let Some(submit) = &log.submit {
        let x = scale.at(submit.sent);
        let title = Title::new(submitted(log, submit));
        body = body
            .add(rule(x, height, "submit").add(title))
            // To the left, clear of the fault's.
            .add(text(x - 4.0, TOP - 12.0, "submit", "submit").set("text-anchor", "end"));
    }
    let x = scale.at(fault);
    // Without a fault it is when the log was copied.
    let moment = address.map_or("dump", |_| "fault");
    Some(
        Document::new()
            .set("viewBox", (0, 0, WIDTH, height))
            .add(
                Rectangle::new()
                    .set("class", "page")
                    .set("width", WIDTH)
                    .set("height", height),
            )
            .add(body)
            .add(rule(x, height, "fault"))
            .add(text(x - 18.0, TOP - 12.0, "fault", moment)),
    )
}
