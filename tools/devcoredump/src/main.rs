// SPDX-License-Identifier: GPL-2.0-only
//! The command-line tool. What it does is in [`cli`], what it knows is in the library.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
