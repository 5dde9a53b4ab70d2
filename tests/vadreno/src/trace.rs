// SPDX-License-Identifier: GPL-2.0-only

//! The trace: a text file with one event per line, `SECONDS.MICROSECONDS event key=value…`, since
//! the device started. See Documentation/testbed.rst.

use std::fmt::Arguments;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Where events go, if anywhere.
#[derive(Debug)]
pub struct Trace {
    start: Instant,
    out: Option<Mutex<BufWriter<File>>>,
}

impl Trace {
    /// A trace that is written to `path`.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Ok(Self {
            start: Instant::now(),
            out: Some(Mutex::new(BufWriter::new(File::create(path)?))),
        })
    }

    /// No trace.
    pub fn off() -> Self {
        Self {
            start: Instant::now(),
            out: None,
        }
    }

    /// Whether events are written: ask before formatting one ([`trace!`](crate::trace!) does).
    pub fn on(&self) -> bool {
        self.out.is_some()
    }

    /// Writes one event. A failing disk loses events, it does not stop the device.
    pub fn event(&self, event: Arguments<'_>) {
        if let Some(out) = &self.out {
            let at = self.start.elapsed();
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(out, "{}.{:06} {event}", at.as_secs(), at.subsec_micros());
        }
    }

    /// Hands buffered events to the file.
    pub fn flush(&self) {
        if let Some(out) = &self.out {
            let _ = out.lock().unwrap_or_else(PoisonError::into_inner).flush();
        }
    }
}

/// Writes an event to a [`Trace`], formatting it only when the trace is on.
#[macro_export]
macro_rules! trace {
    ($trace:expr, $($event:tt)+) => {
        if $trace.on() {
            $trace.event(format_args!($($event)+));
        }
    };
}
