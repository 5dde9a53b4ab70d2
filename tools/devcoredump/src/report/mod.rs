// SPDX-License-Identifier: GPL-2.0-only
//! A page to look at. It is one file, which needs no network and runs no script: what a dump says
//! can do nothing there but be read.

mod commands;
mod page;
mod timeline;

use crate::clean;
use crate::contents::Contents;
use crate::input::Text;
use crate::verdict::{
    judge,
    judge_log,
    Verdict, //
};
use std::io;

/// The page of a dump's document, or of a log.
pub struct Report {
    /// The page.
    pub html: String,
    /// What it says.
    pub verdict: Verdict,
}

/// The reports of a file, one for each document; of a log there is one.
pub struct Reports {
    name: String,
    text: Option<Text>,
}

impl Reports {
    /// `name` is what people know the file by.
    pub fn new(name: &str, text: Text) -> Reports {
        Reports {
            name: clean::whole(name).into(),
            text: Some(text),
        }
    }

    /// The next one. Fails when the file can't be read on.
    pub fn next_report(&mut self) -> io::Result<Option<Report>> {
        let Some(text) = &mut self.text else {
            return Ok(None);
        };
        let (page, verdict) = match text {
            Text::Log(log) => {
                let finding = judge_log(log);
                let page = page::log(&self.name, log, &finding);
                self.text = None;
                (page, finding.verdict)
            }
            Text::Dump(parser) => {
                let mut contents = Contents::of_faults_too();
                let Some(dump) = parser.next_dump(&mut contents)? else {
                    return Ok(None);
                };
                let finding = judge(&dump, &contents);
                let page = page::dump(&self.name, &dump, &contents, &finding);
                (page, finding.verdict)
            }
        };
        let html = page.into_string();
        Ok(Some(Report { html, verdict }))
    }
}
