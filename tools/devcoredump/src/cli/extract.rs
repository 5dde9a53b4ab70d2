// SPDX-License-Identifier: GPL-2.0-only
//! `extract`: the bytes of a data block.

use super::{
    address,
    output::Output,
    Error,
    Found,
    Source, //
};
use clap::Args;
use msm_devcoredump::dump::{
    Block,
    Dump, //
};
use msm_devcoredump::parse::BlockSink;
use std::io::{
    self,
    BufWriter,
    IsTerminal,
    Write, //
};
use std::path::{
    Path,
    PathBuf, //
};

/// What to extract.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    which: Which,
    /// Document of the file, from 0.
    #[arg(short, long, default_value_t = 0)]
    document: u64,
    /// Where to; stdout when not given. Words are little-endian, as the GPU reads them. A file
    /// that is there is replaced when all bytes have been read, and else stays as it is.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Which block.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// List the blocks.
    #[arg(short, long)]
    list: bool,
    /// The BO that holds this address.
    #[arg(short, long, value_name = "ADDRESS", value_parser = address)]
    bo: Option<u64>,
    /// The ring of this number.
    #[arg(short, long, value_name = "ID")]
    ring: Option<u64>,
    /// The block of this number (see --list).
    #[arg(short = 'n', long, value_name = "NUMBER")]
    block: Option<u64>,
}

struct Extract<'a> {
    which: &'a Which,
    document: u64,
    current: u64,
    out: &'a mut dyn Write,
    found: bool,
}

impl BlockSink for Extract<'_> {
    fn wants(&mut self, dump: &Dump, block: &Block) -> bool {
        let wanted = !self.found
            && self.current == self.document
            && (self.which.block == Some(block.index)
                || (&*block.section == "ringbuffer"
                    && self.which.ring.is_some()
                    && dump.rings.last().map(|ring| ring.id) == self.which.ring)
                || (&*block.section == "bos"
                    && self.which.bo.is_some_and(|addr| {
                        dump.bos.last().is_some_and(|bo| bo.range().contains(&addr))
                    })));
        self.found |= wanted;
        wanted
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }
}

/// Extracts. Found: the block is there.
pub fn run(arguments: &Arguments) -> Found {
    if arguments.which.list {
        return list(arguments);
    }
    let path = arguments.output.as_deref();
    let at = || Error::at(path.unwrap_or(Path::new("stdout")).display());
    let mut file = path.map(Output::new).transpose().map_err(at())?;
    let mut stdout = io::stdout().lock();
    let out: &mut dyn Write = match &mut file {
        Some(file) => file,
        None if stdout.is_terminal() => {
            let what = "won't write binary data to a terminal; use --output";
            return Err(Error::Other(what.into()));
        }
        None => &mut stdout,
    };
    let mut out = BufWriter::new(out);
    let mut extract = Extract {
        which: &arguments.which,
        document: arguments.document,
        current: 0,
        out: &mut out,
        found: false,
    };
    let mut parser = arguments.source.open()?;
    let mut problem = None;
    while let Some(dump) = parser.next_dump(&mut extract)? {
        extract.current += 1;
        if extract.found {
            problem = dump.problems.into_iter().find(|p| &*p.field == "data");
            break;
        }
    }
    let found = extract.found;
    out.flush()?;
    drop(out);
    if let Some(problem) = problem {
        return Err(Error::Other(format!("{}: {problem}", arguments.source)));
    }
    if let Some(file) = file.filter(|_| found) {
        file.finish().map_err(at())?;
    }
    Ok(found)
}

fn list(arguments: &Arguments) -> Found {
    let dump = arguments.source.document(arguments.document)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for block in &dump.blocks {
        writeln!(
            out,
            "{:>6}  line {:<8} {:>10} characters  {}{}{}",
            block.index,
            block.line,
            block.encoded,
            block.section,
            if block.label.is_empty() { "" } else { " " },
            block.label
        )?;
    }
    out.flush()?;
    Ok(!dump.blocks.is_empty())
}
