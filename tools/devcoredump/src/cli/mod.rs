// SPDX-License-Identifier: GPL-2.0-only
//! Commands. Each returns whether it found what it was asked for; that and errors make the exit
//! status: 0 found, 1 not found (or a malformed dump, or a difference), 2 trouble. A reader that
//! goes away is no trouble.

mod bos;
mod check;
mod collect;
mod diff;
mod explain;
mod extract;
mod generate;
mod json;
mod log;
mod map;
mod output;
mod report;
mod style;

use clap::{
    Args,
    CommandFactory,
    Parser,
    Subcommand, //
};
use msm_devcoredump::clean;
use msm_devcoredump::dump::Dump;
use msm_devcoredump::input::{
    self,
    Text, //
};
use msm_devcoredump::parse::{
    self,
    BlockSink,
    SkipData, //
};
use std::fmt;
use std::fs;
use std::io::{
    self,
    IsTerminal,
    Read,
    Write, //
};
use std::path::{
    Path,
    PathBuf, //
};
use std::process::ExitCode;

const EXIT_STATUS: &str =
    "Exit status: 0 when what was asked for was found, 1 when it wasn't (or the dump is malformed, \
     or two dumps differ), 2 for trouble.";

/// Says why an Adreno GPU faulted or hung, from drm/msm's devcoredump or the kernel's log.
///
/// Reads files and stdin, plain, gzip or Zstandard. Without a command, `explain` is meant.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100,
    after_help = EXIT_STATUS
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    explain: explain::Arguments,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t)]
    color: style::Color,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say why the GPU faulted or hung, and what speaks for it.
    ///
    /// Of several dumps, or of a directory such as the collector's, each is seen in the light of
    /// the others: what comes shortly after another one is probably its consequence.
    Explain(explain::Arguments),
    /// Draw the address space around the fault.
    Map(map::Arguments),
    /// Write a page to look at: verdict, map, VM log, BOs, commands, registers.
    ///
    /// It is one HTML file that needs nothing else, runs no script and loads nothing.
    Report(report::Arguments),
    /// List the VM log.
    Log(log::Arguments),
    /// List the BOs.
    Bos(bos::Arguments),
    /// Write the bytes of a BO, a ring or another data block.
    Extract(extract::Arguments),
    /// Say whether a dump is well-formed.
    Check(check::Arguments),
    /// Print all that is known as JSON, one object per document.
    Json(json::Arguments),
    /// Compare two dumps.
    Diff(diff::Arguments),
    /// Save dumps as the kernel makes them, and free its copies.
    ///
    /// Each is named by its verdict. The kernel's log from a minute before the fault on is kept
    /// with it. It runs as msm-devcoredump.service, which udev starts at the first dump.
    Collect(collect::Arguments),
    /// Print a completion script.
    #[command(hide = true)]
    Completions(generate::CompletionArguments),
    /// Write the manual pages into a directory.
    #[command(hide = true)]
    Man(generate::ManArguments),
}

/// The dump a command reads.
#[derive(Debug, Clone, Args)]
struct Source {
    /// The dump; `-` is stdin.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Nobody has named it: it is in a directory.
    #[arg(skip)]
    found: bool,
}

/// The dumps a command reads.
#[derive(Debug, Clone, Args)]
struct Sources {
    /// The dumps; `-` is stdin, of a directory all that are in it.
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
}

impl Sources {
    /// The dumps, those of a directory by name: that of the collector's begin with the time.
    fn expand(&self) -> Result<Vec<Source>, Error> {
        let mut out = Vec::new();
        for file in &self.files {
            if !file.is_dir() {
                out.push(Source::named(file));
                continue;
            }
            let at = || Error::at(file.display());
            let mut inside = Vec::new();
            for entry in fs::read_dir(file).map_err(at())? {
                let path = entry.map_err(at())?.path();
                let hidden = path
                    .file_name()
                    .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                // What the collector knows of its dumps stands beside them.
                let extension = |wanted| path.extension().is_some_and(|e| e == wanted);
                let about =
                    extension("json") || (extension("log") && path.with_extension("zst").exists());
                if path.is_file() && !hidden && !about {
                    inside.push(Source {
                        file: path,
                        found: true,
                    });
                }
            }
            if inside.is_empty() {
                return Err(Error::Other(format!("{}: no dumps in it", file.display())));
            }
            inside.sort_by(|a, b| a.file.cmp(&b.file));
            out.append(&mut inside);
        }
        Ok(out)
    }
}

/// Trouble.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{path}: {source}")]
    Open { path: String, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}: empty")]
    Empty(String),
    #[error("{0}")]
    Other(String),
}

impl Error {
    fn at(path: impl fmt::Display) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_string();
        move |source| Error::Open { path, source }
    }

    fn is_broken_pipe(&self) -> bool {
        match self {
            Error::Open { source, .. } => source.kind() == io::ErrorKind::BrokenPipe,
            Error::Io(e) => e.kind() == io::ErrorKind::BrokenPipe,
            Error::Empty(_) | Error::Other(_) => false,
        }
    }
}

/// Says what the trouble is. Names of files may be from outside as well.
fn complain(e: &Error) {
    let what = clean::whole(&e.to_string());
    anstream::eprintln!("{}msm-devcoredump:{} {what}", style::BAD, style::RESET);
}

impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Error::Io(e.into())
    }
}

/// Whether a command found what it was asked for.
type Found = Result<bool, Error>;

impl Source {
    fn named(file: &Path) -> Source {
        Source {
            file: file.to_owned(),
            found: false,
        }
    }

    fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    /// The file's name as a shell takes it; `None` where that can't be shown as it is.
    fn quoted(&self) -> Option<String> {
        let name = self.file.to_str().filter(|_| !self.is_stdin())?;
        let name = match name.starts_with('-') {
            true => format!("./{name}"),
            false => name.into(),
        };
        let quoted = shlex::try_quote(&name).ok()?;
        name.chars().all(clean::is_plain).then(|| quoted.into())
    }

    fn open(&self) -> Result<parse::Parser<Box<dyn Read>>, Error> {
        match self.dump_or_log()? {
            Text::Dump(parser) => Ok(parser),
            Text::Log(_) => Err(Error::Other(format!(
                "{self}: no devcoredump; explain and report read kernel logs as well"
            ))),
        }
    }

    fn text(&self) -> Result<Box<dyn Read>, Error> {
        if self.is_stdin() && io::stdin().is_terminal() {
            anstream::eprintln!(
                "msm-devcoredump: paste a dump or a kernel's log, then press Enter and Ctrl-D \
                    (--help says what else there is)"
            );
        }
        input::open(&self.file).map_err(Error::at(self))
    }

    /// What the file is, a dump or a log.
    fn dump_or_log(&self) -> Result<Text, Error> {
        Text::new(self.text()?).map_err(Error::at(self))
    }

    /// Hands each document to `each`; true when it was true for any.
    fn each(
        &self,
        sink: &mut impl BlockSink,
        mut each: impl FnMut(&Dump) -> Found,
    ) -> Result<bool, Error> {
        self.each_with(sink, |dump, _| each(dump))
    }

    /// Hands each document to `each`, with what was kept of its blocks.
    fn each_with<S: BlockSink>(
        &self,
        sink: &mut S,
        each: impl FnMut(&Dump, &S) -> Found,
    ) -> Result<bool, Error> {
        self.each_of(self.open()?, sink, each)
    }

    /// The same of a dump that has been opened.
    fn each_of<S: BlockSink>(
        &self,
        mut parser: parse::Parser<Box<dyn Read>>,
        sink: &mut S,
        mut each: impl FnMut(&Dump, &S) -> Found,
    ) -> Result<bool, Error> {
        let mut found = false;
        let mut documents = 0;
        while let Some(dump) = parser.next_dump(sink).map_err(|e| match e.kind() {
            // The sink writes to stdout.
            io::ErrorKind::BrokenPipe => Error::Io(e),
            _ => Error::at(self)(e),
        })? {
            documents += 1;
            found |= each(&dump, sink)?;
        }
        match documents {
            0 => Err(Error::Empty(self.to_string())),
            _ => Ok(found),
        }
    }

    /// The document of that number.
    fn document(&self, number: u64) -> Result<Dump, Error> {
        self.document_with(number, &mut SkipData)
    }

    fn document_with(&self, number: u64, sink: &mut dyn BlockSink) -> Result<Dump, Error> {
        let mut parser = self.open()?;
        let mut documents = 0;
        while let Some(dump) = parser.next_dump(sink).map_err(Error::at(self))? {
            if dump.index == number {
                return Ok(dump);
            }
            documents += 1;
        }
        if documents == 0 {
            return Err(Error::Empty(self.to_string()));
        }
        Err(Error::Other(format!(
            "{self}: there is no document {number}"
        )))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_stdin() {
            return f.write_str("stdin");
        }
        f.write_str(&clean::whole(&self.file.to_string_lossy()))
    }
}

/// Reads `0x…` or decimal.
fn address(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|e| e.to_string())
}

/// The whole command line.
fn definition() -> clap::Command {
    Cli::command()
}

/// Runs the tool.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.color.apply();
    let stdout: Box<dyn Write> = match &cli.command {
        // It has no colours, and may be long.
        Some(Command::Json(_) | Command::Report(_)) => Box::new(io::stdout().lock()),
        _ => Box::new(anstream::stdout().lock()),
    };
    let mut out = io::BufWriter::new(stdout);
    let found = match &cli.command {
        None => explain::run(&cli.explain, &mut out),
        Some(Command::Explain(arguments)) => explain::run(arguments, &mut out),
        Some(Command::Map(arguments)) => map::run(arguments, &mut out),
        Some(Command::Report(arguments)) => report::run(arguments, &mut out),
        Some(Command::Log(arguments)) => log::run(arguments, &mut out),
        Some(Command::Bos(arguments)) => bos::run(arguments, &mut out),
        Some(Command::Extract(arguments)) => extract::run(arguments),
        Some(Command::Check(arguments)) => check::run(arguments, &mut out),
        Some(Command::Json(arguments)) => json::run(arguments, &mut out),
        Some(Command::Diff(arguments)) => diff::run(arguments, &mut out),
        Some(Command::Collect(arguments)) => collect::run(arguments, &mut out),
        Some(Command::Completions(arguments)) => generate::completions(arguments, &mut out),
        Some(Command::Man(arguments)) => generate::man(arguments),
    };
    let found = found.and_then(|found| {
        out.flush()?;
        Ok(found)
    });
    match found {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) if e.is_broken_pipe() => {
            // What is still buffered has no reader.
            drop(out.into_parts());
            ExitCode::SUCCESS
        }
        Err(e) => {
            complain(&e);
            ExitCode::from(2)
        }
    }
}
