// SPDX-License-Identifier: GPL-2.0-only
//! Colours. They are written always and taken out again where stdout is no terminal.

use anstyle::{
    AnsiColor,
    Reset,
    Style, //
};
use clap::ValueEnum;
use msm_devcoredump::verdict::Sure;

pub const BOLD: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const WARN: Style = AnsiColor::Yellow.on_default();
pub const COOL: Style = AnsiColor::Cyan.on_default();
pub const RESET: Reset = Reset;

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Color {
    /// On terminals.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Makes it so for the rest of the run.
    pub fn apply(self) {
        match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// The style of a verdict.
pub fn sure(sure: Sure) -> Style {
    match sure {
        Sure::Certain => BAD,
        Sure::Likely => WARN,
        Sure::Possible => COOL,
    }
}
