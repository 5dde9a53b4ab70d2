// SPDX-License-Identifier: GPL-2.0-only
//! The map as a picture. Addresses grow downwards; heights grow with the logarithm of sizes.

use super::{
    words::{
        extent,
        history,
        mark,
        name,
        offset,
        word, //
    },
    Map,
    Row, //
};
use crate::dump::Dump;
use crate::space::State;
use std::io::{
    self,
    Write, //
};
use svg::node::element::{
    Group,
    Line,
    Polygon,
    Rectangle,
    Style,
    Text,
    Title, //
};
use svg::Document;

/// Picture and column positions, in user units.
const WIDTH: f64 = 920.0;
const BAR: f64 = 190.0;
const BAR_WIDTH: f64 = 150.0;
const LABEL: f64 = BAR + BAR_WIDTH + 22.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 44.0;
/// A row with the fault in it has room for one label more.
const FAULT_HEIGHT: f64 = 76.0;

const LOOK: &str = "text { font: 12px monospace; fill: #1f2328 } .dim { fill: #656d76 } \
.title { font-size: 15px; font-weight: bold } .fault { fill: #cf222e; font-weight: bold } \
rect { stroke: #57606a; stroke-width: 1 } .mapped { fill: #7bc98f } .listed { fill: #8fbfe8 } \
.null { fill: #d8efdd } .removed { fill: #f2cc8f; stroke-dasharray: 4 3 } \
.pending { fill: #cfc0ea; stroke-dasharray: 2 2 } .hole { fill: #f6f8fa; stroke: #d0d7de } \
.page { fill: #ffffff; stroke: none } \
line, polygon { stroke: #cf222e; stroke-width: 2; fill: #cf222e }";

fn class(state: Option<State>) -> &'static str {
    match state {
        None => "hole",
        Some(State::Listed) => "listed",
        Some(State::Mapped) => "mapped",
        Some(State::Null) => "null",
        Some(State::Removed) => "removed",
        Some(State::Pending) => "pending",
    }
}

/// A text of one of the style sheet's classes.
pub(crate) fn text(x: f64, y: f64, class: &str, content: &str) -> Text {
    Text::new(content)
        .set("x", x)
        .set("y", y)
        .set("class", class)
}

fn height(row: &Row, fault: bool) -> f64 {
    let pages = (row.range.end - row.range.start).div_ceil(4096).max(1);
    let grown = match row.region {
        Some(_) => 38.0 + 3.0 * f64::from(pages.ilog2().min(12)),
        None => 26.0,
    };
    if fault {
        grown.max(FAULT_HEIGHT)
    } else {
        grown
    }
}

/// Writes the picture as a file of its own.
pub fn draw(dump: &Dump, map: &Map, out: &mut dyn Write) -> io::Result<()> {
    svg::write(&mut *out, &picture(dump, map, Some(LOOK)))?;
    writeln!(out)
}

/// The picture, with a style sheet of its own or for a page that has one.
pub fn picture(dump: &Dump, map: &Map, look: Option<&str>) -> Document {
    let title = format!("GPU virtual addresses around the {}", mark(dump, map));
    let mut body = Group::new();
    let mut y = TOP;
    if map.below > 0 {
        let more = format!("⋮ {} more below", map.below);
        body = body.add(text(BAR, y - 8.0, "dim", &more));
    }
    for row in &map.rows {
        let here = row.range.contains(&map.centre);
        let height = height(row, here);
        body = body.add(self::row(dump, row, y, height, here));
        if here {
            body = body.add(fault(dump, map, row, y, height));
        }
        y += height;
    }
    if map.hit().is_none() {
        let what = format!("{}: {}", mark(dump, map), offset(map));
        y += 18.0;
        body = body.add(text(BAR, y, "fault", &what));
    }
    if map.above > 0 {
        y += 16.0;
        let more = format!("⋮ {} more above", map.above);
        body = body.add(text(BAR, y, "dim", &more));
    }
    let total = y + BOTTOM;
    let mut document = Document::new()
        .set("viewBox", (0, 0, WIDTH, total))
        .set("width", WIDTH)
        .set("height", total)
        .add(Title::new(&title));
    if let Some(look) = look {
        document = document.add(Style::new(look));
    }
    document
        .add(
            Rectangle::new()
                .set("class", "page")
                .set("width", WIDTH)
                .set("height", total),
        )
        .add(text(16.0, 26.0, "title", &title))
        .add(body)
        .add(legend(total - 16.0))
}

fn row(dump: &Dump, row: &Row, y: f64, height: f64, here: bool) -> Group {
    let region = row.region.as_ref();
    let bytes = extent(&row.range);
    let mut group = Group::new().add(
        Rectangle::new()
            .set("class", class(region.map(|region| region.state)))
            .set("x", BAR)
            .set("y", y)
            .set("width", BAR_WIDTH)
            .set("height", height),
    );
    let Some(region) = region else {
        let class = "dim";
        let hole = format!("hole, {bytes}");
        let at = if here {
            y + 16.0
        } else {
            y + height / 2.0 + 4.0
        };
        return group.add(text(LABEL, at, class, &hole));
    };
    group = group.add(text(
        16.0,
        y + 14.0,
        "dim",
        &format!("{:#018x}", row.range.start),
    ));
    let mut first = format!("{} {bytes}", word(row));
    if let Some(name) = name(dump, region) {
        first += &format!("  {name}");
    }
    group = group.add(text(LABEL, y + 16.0, "", &first));
    if let Some(history) = history(dump, region) {
        group = group.add(text(LABEL, y + 32.0, "dim", &history));
    }
    group
}

/// The line across the bar, at its place in the row as far as the labels leave room.
fn fault(dump: &Dump, map: &Map, row: &Row, y: f64, height: f64) -> Group {
    let length = (row.range.end - row.range.start) as f64;
    let part = (map.centre - row.range.start) as f64 / length;
    let at = y + part * height;
    let label = at.clamp(y + 50.0, y + height - 8.0);
    let (left, right) = (BAR - 6.0, BAR + BAR_WIDTH + 6.0);
    let what = format!("{}, {}", mark(dump, map), offset(map));
    Group::new()
        .add(
            Line::new()
                .set("x1", left)
                .set("x2", right)
                .set("y1", at)
                .set("y2", at),
        )
        .add(Polygon::new().set(
            "points",
            format!(
                "{left},{at} {},{} {},{}",
                left - 9.0,
                at - 5.0,
                left - 9.0,
                at + 5.0
            ),
        ))
        .add(
            Line::new()
                .set("x1", right)
                .set("x2", LABEL - 4.0)
                .set("y1", at)
                .set("y2", label - 4.0),
        )
        .add(text(LABEL, label, "fault", &what))
}

fn legend(y: f64) -> Group {
    let states = [
        ("mapped", "mapped"),
        ("listed", "in the BO list only"),
        ("null", "MAP_NULL"),
        ("removed", "removed"),
        ("pending", "asked for, not mapped yet"),
    ];
    let mut group = Group::new();
    let mut x = 16.0;
    for (class, words) in states {
        group = group
            .add(
                Rectangle::new()
                    .set("class", class)
                    .set("x", x)
                    .set("y", y - 10.0)
                    .set("width", 14.0)
                    .set("height", 12.0),
            )
            .add(text(x + 20.0, y, "dim", words));
        x += 44.0 + 7.3 * words.len() as f64;
    }
    group
}
