// SPDX-License-Identifier: GPL-2.0-only
//! Completions and manual pages, from the definitions that also parse the command line.

use super::{
    definition,
    Error,
    Found, //
};
use clap::Args;
use clap_complete::Shell;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// Which shell.
#[derive(Debug, Args)]
pub struct CompletionArguments {
    shell: Shell,
}

/// Where to.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// The directory; it must exist.
    directory: PathBuf,
}

/// Prints a completion script.
pub fn completions(arguments: &CompletionArguments, out: &mut dyn Write) -> Found {
    let mut script = Vec::new();
    let mut command = definition();
    clap_complete::generate(
        arguments.shell,
        &mut command,
        "msm-devcoredump",
        &mut script,
    );
    out.write_all(&script)?;
    Ok(true)
}

/// Writes a page for the tool and one for each command.
pub fn man(arguments: &ManArguments) -> Found {
    let directory = &arguments.directory;
    if !fs::metadata(directory).is_ok_and(|m| m.is_dir()) {
        let what = format!("{}: not a directory", directory.display());
        return Err(Error::Other(what));
    }
    clap_mangen::generate_to(definition(), directory).map_err(Error::at(directory.display()))?;
    Ok(true)
}
