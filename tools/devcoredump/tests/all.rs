// SPDX-License-Identifier: GPL-2.0-only
//! The tests of the tool, in one program: linking a dozen took most of the time. `limits` measures
//! time and memory, and so is one of its own.

mod cli;
mod collect;
mod common;
mod cut;
mod forged;
mod golden;
mod hangs;
mod innocent;
mod klog;
mod map;
mod mutations;
mod report;
mod verdicts;
