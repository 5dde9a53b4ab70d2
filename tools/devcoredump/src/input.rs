// SPDX-License-Identifier: GPL-2.0-only
//! Where a dump or a log comes from: a file or stdin, plain, gzip or Zstandard. What it is is told
//! by its first bytes, not its name.

use crate::klog::{
    self,
    KernelLog, //
};
use crate::parse::Parser;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{
    self,
    Cursor,
    Read, //
};
use std::path::Path;

/// The largest Zstandard window that is accepted, as a power of two: 8 MiB, what `zstd -19` asks
/// for. A file may ask for gigabytes.
const MAX_WINDOW_LOG: u32 = 23;

/// How much text is read: endless input ends there, as does a small file that grows. The kernel
/// makes a dump anew for each piece of it that is read, so that nobody waits for one of this length.
const MAX_TEXT: u64 = 1 << 30;

/// Opens `path`, or stdin when it is `-`.
pub fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if path == Path::new("-") {
        decompress(io::stdin().lock())
    } else {
        decompress(File::open(path)?)
    }
}

/// Gives an error where `left` bytes are exceeded.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| {
            let what = "more than 1 GiB of text, which no dump and no kernel log is";
            io::Error::new(io::ErrorKind::FileTooLarge, what)
        })?;
        Ok(read)
    }
}

/// Wraps `inner` in the decompressor that its first bytes ask for, if any. More than 1 GiB is an
/// error, which comes when so much has been read.
pub fn decompress<R: Read + 'static>(mut inner: R) -> io::Result<Box<dyn Read>> {
    let mut magic = [0; 4];
    let mut have = 0;
    while have < magic.len() {
        match inner.read(&mut magic[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let whole = Cursor::new(magic).take(have as u64).chain(inner);
    let text: Box<dyn Read> = match magic {
        [0x1f, 0x8b, ..] if have >= 2 => Box::new(MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] if have == 4 => {
            let mut decoder = zstd::stream::read::Decoder::new(whole)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(decoder)
        }
        _ => Box::new(whole),
    };
    Ok(Box::new(Bounded {
        inner: text,
        left: MAX_TEXT,
    }))
}

/// What a text turned out to be.
pub enum Text {
    /// A devcoredump, about to be read.
    Dump(Parser<Box<dyn Read>>),
    /// A kernel's log, read to its end.
    Log(Box<KernelLog>),
}

impl Text {
    /// `inner` is plain; [`open`] and [`decompress`] make it so.
    pub fn new(mut inner: Box<dyn Read>) -> io::Result<Text> {
        const HEAD: u64 = 4096;
        let mut head = Vec::new();
        inner.by_ref().take(HEAD).read_to_end(&mut head)?;
        let is_log = klog::is_log(&head);
        let whole = Cursor::new(head).chain(inner);
        Ok(match is_log {
            true => Text::Log(Box::new(KernelLog::read(whole)?)),
            false => Text::Dump(Parser::new(Box::new(whole))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        decompress(Cursor::new(bytes))
            .unwrap()
            .read_to_end(&mut out)
            .unwrap();
        out
    }

    #[test]
    fn formats_are_told_by_content() {
        let text = b"---\nkernel: 7.3.4\n";
        assert_eq!(read(text.to_vec()), text);
        assert_eq!(read(b"-".to_vec()), b"-");
        assert_eq!(read(Vec::new()), b"");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        gz.write_all(text).unwrap();
        assert_eq!(read(gz.finish().unwrap()), text);
        assert_eq!(read(zstd::encode_all(&text[..], 3).unwrap()), text);
    }
}
