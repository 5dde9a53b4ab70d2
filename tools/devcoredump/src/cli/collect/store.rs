// SPDX-License-Identifier: GPL-2.0-only
//! The directory of saved dumps. Each is three files: the text, compressed, what is known of it as
//! JSON, and the kernel's log around it, if it can be read.
//!
//! A dump appears under its name when all of it is on the disk; what a collector that died left
//! behind is removed by the next one. Only one collector at a time uses a directory.

use super::kernel::{
    is_gone,
    Data, //
};
use super::kmsg;
use super::Error;
use msm_devcoredump::contents::Contents;
use msm_devcoredump::dump::{
    Dump,
    Kind,
    Time, //
};
use msm_devcoredump::parse::Parser;
use msm_devcoredump::verdict::{
    judge,
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use rustix::fs::{
    flock,
    FlockOperation, //
};
use serde::Serialize;
use std::collections::VecDeque;
use std::fs::{
    self,
    DirBuilder,
    File,
    OpenOptions, //
};
use std::io::{
    self,
    Read,
    Write, //
};
use std::os::unix::fs::{
    DirBuilderExt,
    OpenOptionsExt, //
};
use std::path::{
    Path,
    PathBuf, //
};
use std::time::{
    Duration,
    SystemTime, //
};
use zstd::stream::write::Encoder;

/// The least that a limit may be.
pub const LEAST: u64 = 1 << 20;
/// What the end of a dump may still need after the last look at the limits: what the compressor
/// holds back (two blocks of 128 KiB at most) and the metadata.
const RESERVE: u64 = 384 << 10;
/// How much text is read for each byte that a dump may have compressed. Dumps shrink to a tenth or
/// so; without this one that repeats itself could go on for ever.
const MAX_RATIO: u64 = 64;
const LEVEL: i32 = 6;
const PARTIAL: &str = ".partial-";
const DUMP: &str = ".zst";
const ABOUT: &str = ".json";
const LOG: &str = ".log";
/// What stands beside a dump's text, and is nothing without it.
const BESIDE: [&str; 2] = [ABOUT, LOG];
/// All that one dump consists of.
const PARTS: [&str; 3] = [DUMP, ABOUT, LOG];

/// Bounds, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the directory.
    pub total: u64,
    /// Of one dump, compressed.
    pub dump: u64,
}

/// What is known of a saved dump: the content of its JSON file.
#[derive(Debug, Serialize)]
pub struct Saved {
    /// Name of the compressed text.
    pub file: String,
    /// When it was saved.
    pub saved: String,
    /// The kernel's name for the dump.
    pub devcoredump: String,
    /// The device that failed.
    pub device: Option<String>,
    /// Length of the text that was saved.
    pub bytes: u64,
    /// Its length compressed.
    pub compressed: u64,
    /// It was longer: it was cut at a limit, or the kernel freed it while it was read.
    pub cut: bool,
    /// Why the text ends before the dump's end.
    pub cut_by: Option<Cut>,
    /// Name of the kernel's log around it.
    pub log: Option<String>,
    /// Why there is none.
    pub log_error: Option<String>,
    pub kernel: Option<Box<str>>,
    pub time: Option<Time>,
    pub comm: Option<Box<str>>,
    pub cmdline: Option<Box<str>>,
    pub revision: Option<String>,
    pub iova: Option<String>,
    pub verdict: Verdict,
    pub sure: Sure,
    pub whose: Whose,
    pub happened: String,
}

/// Why a dump is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// A limit.
    Limit,
    /// The kernel freed it: it keeps a dump for five minutes, or until somebody else frees it.
    Freed,
}

/// What a file takes on the disk, about.
fn space(length: u64) -> u64 {
    length.next_multiple_of(4096)
}

pub struct Store {
    path: PathBuf,
    /// Where the kernel's log is read.
    kernel_log: PathBuf,
    limits: Limits,
    /// Holds the lock.
    directory: File,
    /// Names without extension and the space taken, oldest first.
    dumps: VecDeque<(String, u64)>,
}

impl Store {
    /// Opens the directory, or makes it: dumps hold what applications gave to the GPU, so only the
    /// owner may look.
    pub fn open(path: &Path, kernel_log: &Path, limits: Limits) -> Result<Store, Error> {
        let at = || Error::at(path.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(at())?;
        let directory = File::open(path).map_err(at())?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => {
                Error::Other(format!("{}: another collector uses it", path.display()))
            }
            e => at()(e.into()),
        })?;
        let mut store = Store {
            path: path.to_owned(),
            kernel_log: kernel_log.to_owned(),
            limits,
            directory,
            dumps: VecDeque::new(),
        };
        store.tidy().map_err(at())?;
        Ok(store)
    }

    /// Takes stock. Removes what isn't whole; files that have no name of ours are left alone.
    fn tidy(&mut self) -> io::Result<()> {
        let mut dumps = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if is_partial(&name) {
                fs::remove_file(entry.path())?;
                continue;
            }
            let stem = |extension: &&str| name.strip_suffix(*extension);
            let Some(stem) = PARTS.iter().find_map(stem).filter(|stem| is_stem(stem)) else {
                continue;
            };
            if name.ends_with(DUMP) {
                dumps.push(stem.to_owned());
            } else if self.is_free(stem) {
                fs::remove_file(entry.path())?;
            }
        }
        // Names begin with the time.
        dumps.sort();
        for stem in dumps {
            let length = |extension| {
                let path = self.path.join(stem.clone() + extension);
                fs::metadata(path).map_or(0, |m| space(m.len()))
            };
            let taken = PARTS.map(length).iter().sum();
            self.dumps.push_back((stem, taken));
        }
        self.make_room(0)?;
        Ok(())
    }

    fn used(&self) -> u64 {
        self.dumps.iter().map(|(_, taken)| taken).sum()
    }

    /// Removes the oldest dumps until `wanted` more bytes fit. Whether they do.
    fn make_room(&mut self, wanted: u64) -> io::Result<bool> {
        while self.used().saturating_add(wanted) > self.limits.total {
            let Some((stem, _)) = self.dumps.front() else {
                return Ok(false);
            };
            for extension in PARTS {
                match fs::remove_file(self.path.join(stem.clone() + extension)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            self.dumps.pop_front();
        }
        Ok(true)
    }

    /// Makes a file, in place of one that was left; nothing is followed that somebody else put
    /// there.
    fn create(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    /// Saves a dump. When this returns, it is on the disk.
    pub fn save(
        &mut self,
        data: Data,
        devcoredump: &str,
        device: Option<String>,
    ) -> Result<Saved, Error> {
        let partial = format!("{PARTIAL}{devcoredump}");
        let saved = self.try_save(data, &partial, devcoredump, device);
        if saved.is_err() {
            let _ = fs::remove_file(self.path.join(&partial));
            self.forget_beside(&partial);
        }
        saved.map_err(|e| match &e {
            Error::Open { source, .. } if is_full(source) => Error::Other(format!(
                "{e}. It is tried again while the kernel keeps the dump: five minutes"
            )),
            _ => e,
        })
    }

    fn try_save(
        &mut self,
        data: Data,
        partial: &str,
        devcoredump: &str,
        device: Option<String>,
    ) -> Result<Saved, Error> {
        let display = self.path.display().to_string();
        let at = || Error::at(&display);
        let file = Counted {
            file: self.create(partial).map_err(at())?,
            written: 0,
        };
        let mut encoder = Encoder::new(file, LEVEL).map_err(at())?;
        encoder.include_checksum(true).map_err(at())?;
        let copy = Copy {
            from: data.into_read(),
            to: encoder,
            store: &mut *self,
            bytes: 0,
            cut: None,
        };
        let mut parser = Parser::new(copy);
        let mut contents = Contents::default();
        let mut dump: Option<(Dump, Finding)> = None;
        while let Some(next) = parser.next_dump(&mut contents).map_err(at())? {
            if dump
                .as_ref()
                .is_none_or(|(dump, _)| dump.kind == Kind::Unknown)
            {
                let finding = judge(&next, &contents);
                dump = Some((next, finding));
            }
        }
        let Copy { to, bytes, cut, .. } = parser.into_inner();
        let file = to.finish().map_err(at())?;
        file.file.sync_all().map_err(at())?;

        let (dump, finding) = dump.unwrap_or_else(|| {
            let dump = Dump::default();
            let finding = judge(&dump, &contents);
            (dump, finding)
        });
        let mut stem = stem(&dump, finding.verdict);
        // The kernel's time tells dumps apart: one of the same name was saved before and not freed.
        // Without a time that isn't known.
        if dump.time.is_none() {
            let names = (1u64..).map(|n| format!("{stem}_{n}"));
            if let Some(free) = names.into_iter().find(|name| self.is_free(name)) {
                stem = free;
            }
        }
        let log = kmsg::around(&self.kernel_log, dump.time);
        let address = dump.fault.as_ref().and_then(|fault| fault.address());
        let saved = Saved {
            log: log.is_ok().then(|| stem.clone() + LOG),
            log_error: log.as_ref().err().map(|e| e.to_string()),
            file: stem.clone() + DUMP,
            saved: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            devcoredump: devcoredump.to_owned(),
            device,
            bytes,
            compressed: file.written,
            cut: cut.is_some(),
            cut_by: cut,
            time: dump.time,
            revision: dump.revision.map(|revision| revision.to_string()),
            iova: address.map(|address| format!("{address:#x}")),
            kernel: dump.kernel,
            comm: dump.comm,
            cmdline: dump.cmdline,
            verdict: finding.verdict,
            sure: finding.sure,
            whose: finding.whose,
            happened: finding.happened,
        };
        if let Err(e) = self.publish(partial, &stem, &saved, log.ok()) {
            // Without the text these are nothing.
            if self.is_free(&stem) {
                self.forget_beside(&stem);
            }
            return Err(at()(e));
        }
        Ok(saved)
    }

    fn is_free(&self, stem: &str) -> bool {
        !self.path.join(stem.to_owned() + DUMP).exists()
    }

    /// Removes what stands beside a text that isn't there, as far as there is anything.
    fn forget_beside(&self, stem: &str) {
        for extension in BESIDE {
            let _ = fs::remove_file(self.path.join(stem.to_owned() + extension));
        }
    }

    /// Gives a dump its name. The text comes last: without it there is no dump.
    fn publish(
        &mut self,
        partial: &str,
        stem: &str,
        saved: &Saved,
        log: Option<String>,
    ) -> io::Result<()> {
        let mut about = serde_json::to_vec_pretty(saved)?;
        about.push(b'\n');
        let log = log.as_deref().map(str::as_bytes);
        let taken = space(saved.compressed)
            + space(about.len() as u64)
            + space(log.map_or(0, <[u8]>::len) as u64);
        self.dumps.retain(|(other, _)| other != stem);
        self.make_room(taken)?;
        for (extension, content) in [(ABOUT, Some(&*about)), (LOG, log)] {
            let Some(content) = content else {
                continue;
            };
            let mut file = self.create(&(partial.to_owned() + extension))?;
            file.write_all(content)?;
            file.sync_all()?;
        }
        for extension in BESIDE {
            let from = self.path.join(partial.to_owned() + extension);
            let to = self.path.join(stem.to_owned() + extension);
            match fs::rename(from, &to) {
                // One of the same name may be left from a dump that was saved before.
                Err(e) if e.kind() == io::ErrorKind::NotFound && log.is_none() => {
                    let _ = fs::remove_file(to);
                }
                renamed => renamed?,
            }
        }
        fs::rename(
            self.path.join(partial),
            self.path.join(stem.to_owned() + DUMP),
        )?;
        self.directory.sync_all()?;
        let at = self.dumps.partition_point(|(other, _)| &**other < stem);
        self.dumps.insert(at, (stem.to_owned(), taken));
        Ok(())
    }
}

/// The disk, or what the collector may use of it, is full.
fn is_full(e: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::NOSPC, Errno::DQUOT, Errno::FBIG]
        .iter()
        .any(|full| e.raw_os_error() == Some(full.raw_os_error()))
}

/// Whether a name is one that [`stem`] makes: it begins with the time.
fn is_stem(name: &str) -> bool {
    const TIME: &str = "0000-00-00T00-00-00.000000000Z";
    let fits = |(c, like): (u8, u8)| c == like || like == b'0' && c.is_ascii_digit();
    name.split_once('_').is_some_and(|(time, _)| {
        time.len() == TIME.len() && time.bytes().zip(TIME.bytes()).all(fits)
    })
}

/// Whether a name is that of something that wasn't finished.
fn is_partial(name: &str) -> bool {
    name.strip_prefix(PARTIAL)
        .is_some_and(|dump| dump.starts_with("devcd"))
}

/// The name of a dump: when, what, who.
fn stem(dump: &Dump, verdict: Verdict) -> String {
    /// The year 10000, which the calendar doesn't have.
    const END: u64 = 253_402_300_800;
    let time = dump
        .time
        .filter(|time| time.sec < END)
        .map_or_else(SystemTime::now, |time| {
            SystemTime::UNIX_EPOCH + Duration::new(time.sec, time.nsec)
        });
    let plain = |text: &str| -> String {
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '.';
        text.chars()
            .map(|c| if fit(c) { c } else { '-' })
            .take(48)
            .collect()
    };
    let time = humantime::format_rfc3339_nanos(time).to_string();
    let mut stem = format!("{}_{}", plain(&time), plain(verdict.words()));
    if let Some(comm) = &dump.comm {
        stem = format!("{stem}_{}", plain(comm));
    }
    stem
}

/// A file that knows how much has been written to it.
struct Counted {
    file: File,
    written: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Compresses what is read through it, up to the limits; there the text ends.
struct Copy<'a, R> {
    from: R,
    to: Encoder<'static, Counted>,
    store: &'a mut Store,
    bytes: u64,
    cut: Option<Cut>,
}

impl<R: Read> Read for Copy<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cut.is_some() {
            return Ok(0);
        }
        let limits = self.store.limits;
        let length = buffer.len().min(64 << 10);
        let n = match self.from.read(&mut buffer[..length]) {
            // What came before it is better than nothing.
            Err(e) if is_gone(&e) => {
                self.cut = Some(Cut::Freed);
                0
            }
            n => n?,
        };
        if n == 0 {
            return Ok(0);
        }
        let end = self.to.get_ref().written + RESERVE;
        if end > limits.dump
            || self.bytes / MAX_RATIO > limits.dump
            || !self.store.make_room(end + kmsg::LONGEST as u64)?
        {
            self.cut = Some(Cut::Limit);
            return Ok(0);
        }
        self.to.write_all(&buffer[..n])?;
        self.bytes += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    /// The kernel's file, until the device goes away.
    struct Freed(io::Cursor<Vec<u8>>);

    impl Read for Freed {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(Errno::NODEV.into()),
                n => Ok(n),
            }
        }
    }

    #[test]
    fn what_was_read_of_a_dump_that_is_freed_is_kept() {
        let place = tempfile::TempDir::new().unwrap();
        let limits = Limits {
            total: LEAST,
            dump: LEAST,
        };
        let nowhere = place.path().join("kmsg");
        let mut store = Store::open(place.path(), &nowhere, limits).unwrap();
        let text = "---\nkernel: 7.3.4\nmodule: msm\ntime: 1700000000.000000001\ncomm: app\n\
                    fault-info:\n  - ttbr0=0000000041000000\n  - iova=0000000000000040\n  \
                    - dir=READ\n  - type=TRANSLATION\n  - source=CP\n";
        let text = text.to_owned() + &"x: y\n".repeat(10_000);
        let data = Data::new(Box::new(Freed(io::Cursor::new(text.clone().into()))));
        let saved = store.save(data.unwrap().unwrap(), "devcd1", None).unwrap();
        assert_eq!(saved.cut_by, Some(Cut::Freed));
        assert_eq!(saved.bytes, text.len() as u64);
        assert!(saved.log_error.is_some());
        let kept = File::open(place.path().join(&saved.file)).unwrap();
        assert_eq!(zstd::decode_all(kept).unwrap(), text.as_bytes());
        let mut names: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let stem = saved.file.trim_end_matches(DUMP);
        assert_eq!(names, [stem.to_owned() + ABOUT, stem.to_owned() + DUMP]);
    }

    #[test]
    fn what_others_keep_there_stays() {
        let place = tempfile::TempDir::new().unwrap();
        let file = |name: &str| place.path().join(name);
        let time = "2023-11-14T22-13-20.000000001Z";
        let ours = [format!("{time}_hang.json"), ".partial-devcd7.json".into()];
        let others = [
            "package.json",
            "build.log",
            "backup.zst",
            ".partial-download",
            "2023-11-14_notes.log",
        ];
        for name in ours.iter().map(String::as_str).chain(others) {
            fs::write(file(name), "text").unwrap();
        }
        std::os::unix::fs::symlink(file("build.log"), file(".partial-devcd1")).unwrap();
        let limits = Limits {
            total: LEAST,
            dump: LEAST,
        };
        let mut store = Store::open(place.path(), &file("kmsg"), limits).unwrap();
        assert!(ours.iter().all(|name| !file(name).exists()));
        assert!(store.dumps.is_empty());
        std::os::unix::fs::symlink(file("build.log"), file(".partial-devcd1")).unwrap();
        let text: &[u8] = b"---\nkernel: 7.3.4\nmodule: msm\n";
        let data = Data::new(Box::new(io::Cursor::new(text)));
        let saved = store.save(data.unwrap().unwrap(), "devcd1", None).unwrap();
        assert!(is_stem(saved.file.trim_end_matches(DUMP)));
        for name in others {
            assert_eq!(fs::read(file(name)).unwrap(), b"text", "{name}");
        }
    }
}
