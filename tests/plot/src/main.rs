// SPDX-License-Identifier: GPL-2.0-only

//! `bench-plot FILE.svg` draws what `make bench` has measured, from its rows as JSON on standard
//! input: for each scenario the cost against the size, both logarithmic, of the stock module and of
//! ours.

use anyhow::{Context, Result};
use plotters::{coord::Shift, prelude::*};
use serde::Deserialize;
use std::{fs, io};

/// The picture's columns, and the size of a panel in pixels.
const COLUMNS: usize = 2;
const PANEL: (u32, u32) = (620, 330);

const MODULES: [(&str, RGBColor); 2] = [
    ("stock", RGBColor(214, 96, 30)),
    ("ours", RGBColor(24, 104, 168)),
];

/// One row of the bench's table.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    scenario: String,
    title: String,
    size: u32,
    of: String,
    unit: String,
    stock: f64,
    ours: f64,
}

impl Row {
    fn cost(&self, module: usize) -> f64 {
        [self.stock, self.ours][module]
    }
}

/// The rows of a scenario belong together, in their order.
fn scenarios(rows: &[Row]) -> Vec<&[Row]> {
    rows.chunk_by(|a, b| a.scenario == b.scenario)
        .filter(|rows| rows.len() > 1)
        .collect()
}

/// A number as the axes show it.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e3 => format!("{}k", v / 1e3),
        v => format!("{v}"),
    }
}

fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, rows: &[Row]) -> Result<()> {
    let [first, .., last] = rows else {
        return Ok(());
    };
    let costs = || rows.iter().flat_map(|row| [row.stock, row.ours]);
    let (least, greatest) = (
        costs().fold(f64::INFINITY, f64::min),
        costs().fold(0.0, f64::max),
    );
    // Whole decades.
    let low = 10f64.powf(least.max(0.1).log10().floor());
    let high = 10f64.powf(greatest.log10().ceil()).max(10.0 * low);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(24)
        .caption(&first.title, ("sans-serif", 15))
        .x_label_area_size(34)
        .y_label_area_size(58)
        .build_cartesian_2d(
            (f64::from(first.size)..f64::from(last.size)).log_scale(),
            (low..high).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc(&first.of)
        .y_desc(format!("instructions per {}", first.unit))
        .x_label_formatter(&|size| short(*size))
        .y_label_formatter(&|cost| short(*cost))
        .draw()?;
    for (module, (name, colour)) in MODULES.into_iter().enumerate() {
        let points = || {
            rows.iter()
                .map(move |row| (f64::from(row.size), row.cost(module).max(low)))
        };
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points().map(|at| Circle::new(at, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

/// The picture of all scenarios that have more than one size.
fn picture(rows: &[Row]) -> Result<String> {
    let scenarios = scenarios(rows);
    let lines = scenarios.len().div_ceil(COLUMNS).max(1);
    let size = (PANEL.0 * COLUMNS as u32, PANEL.1 * lines as u32);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        for (place, rows) in area.split_evenly((lines, COLUMNS)).iter().zip(scenarios) {
            panel(place, rows)?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn main() -> Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .context("usage: bench-plot FILE.svg < ROWS.json")?;
    let rows: Vec<Row> = serde_json::from_reader(io::stdin().lock()).context("the rows")?;
    fs::write(&path, picture(&rows)?).with_context(|| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scenario: &str, size: u32) -> Row {
        Row {
            scenario: scenario.into(),
            title: format!("all about {scenario}"),
            size,
            of: "MiB".into(),
            unit: "page".into(),
            stock: 500.0 * f64::from(size),
            ours: 50.0,
        }
    }

    #[test]
    fn one_panel_for_each_scenario_that_scales() {
        let rows = [
            row("a", 1),
            row("a", 1000),
            row("b", 7),
            row("c", 1),
            row("c", 2),
        ];
        let svg = picture(&rows).unwrap();
        assert!(svg.contains("all about a") && svg.contains("all about c"));
        assert!(!svg.contains("all about b"), "one point is no curve");
        // Two points for each of two modules in two panels.
        assert_eq!(svg.matches("<circle").count(), 8);
    }

    #[test]
    fn nothing_to_draw() {
        assert!(picture(&[]).unwrap().contains("<svg"));
    }
}
