// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's log around a fault, from `/dev/kmsg`: what a dump doesn't have, and what is gone
//! from the kernel's buffer when somebody looks at the dump.

use msm_devcoredump::clean;
use msm_devcoredump::dump::Time;
use rustix::fs::OFlags;
use rustix::time::{
    clock_gettime,
    ClockId, //
};
use std::fmt::Write;
use std::fs::OpenOptions;
use std::io::{
    self,
    BufRead,
    BufReader,
    Read, //
};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{
    Duration,
    SystemTime, //
};

/// How much before the fault is kept.
const BEFORE: Duration = Duration::from_secs(60);
/// How long the kept text may be. The beginning is kept: what went wrong first is there.
pub const LONGEST: usize = 256 << 10;
/// Records are shorter. The kernel gives one a read.
const RECORD: usize = 16 << 10;

/// When `time` was, in microseconds of the kernel's log.
fn logged_at(time: Option<Time>) -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    let ago = time.map_or(Duration::ZERO, |time| {
        let at = Duration::from_secs(time.sec).checked_add(Duration::from_nanos(time.nsec.into()));
        at.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(at))
            .and_then(|at| SystemTime::now().duration_since(at).ok())
            .unwrap_or_default()
    });
    now.saturating_sub(ago).as_micros() as u64
}

/// The kernel's log from shortly before `time` on, as `dmesg` prints it.
pub fn around(path: &Path, time: Option<Time>) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)?;
    let from = logged_at(time).saturating_sub(BEFORE.as_micros() as u64);
    read(file, from)
}

/// The records of `from` microseconds and later.
fn read(file: impl Read, from: u64) -> io::Result<String> {
    let mut file = BufReader::with_capacity(RECORD, file);
    let mut out = String::new();
    let mut line = Vec::new();
    let mut left_out = 0u64;
    loop {
        line.clear();
        match (&mut file).take(RECORD as u64).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            // The kernel has overwritten what was next; what it has comes then.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => continue,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // That was all.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
        let Some((at, text)) = record(&line) else {
            continue;
        };
        if at < from {
            continue;
        }
        if out.len() + text.len() + 32 > LONGEST - 64 {
            left_out += 1;
            continue;
        }
        let _ = writeln!(out, "[{:5}.{:06}] {text}", at / 1_000_000, at % 1_000_000);
    }
    if left_out > 0 {
        let _ = writeln!(out, "# {left_out} more lines, left out");
    }
    Ok(out)
}

/// `4,1234,12345678,-;text`: the time and the text. Lines that begin with a blank belong to the
/// record before, and say which device it was about.
fn record(line: &[u8]) -> Option<(u64, String)> {
    let line = String::from_utf8_lossy(line);
    let (head, text) = line.split_once(';')?;
    let at = head.split(',').nth(2)?.parse().ok()?;
    head.starts_with(|c: char| c.is_ascii_digit())
        .then(|| (at, clean::whole(text.trim_end()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a record a read, as the kernel does.
    struct Records(Vec<io::Result<&'static str>>);

    impl Read for Records {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let text = self.0.remove(0)?;
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }

    #[test]
    fn records_become_lines_from_a_time_on() {
        let records = Records(vec![
            Ok("6,1,1000000,-;too early\n"),
            Err(io::ErrorKind::BrokenPipe.into()),
            Ok("4,9,2000001,-;*** gpu fault\n SUBSYSTEM=platform\n DEVICE=+platform:1.gpu\n"),
            Ok("4,10,3000000,c;a\u{1b}b\n"),
        ]);
        let text = read(records, 2_000_000).unwrap();
        assert_eq!(
            text,
            "[    2.000001] *** gpu fault\n[    3.000000] a\\u{1b}b\n"
        );
    }

    #[test]
    fn the_wall_clock_is_converted() {
        let us = |ago: u64| {
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            logged_at(Some(Time {
                sec: now.as_secs() - ago,
                nsec: now.subsec_nanos(),
            }))
        };
        let (before, ago, after) = (logged_at(None), us(1), logged_at(None));
        // The two clocks aren't read at the same moment.
        let slack = 500_000;
        let expected = before - 1_000_000 - slack..after - 1_000_000 + slack;
        assert!(expected.contains(&ago), "{ago} {expected:?}");
        // A clock that was wrong at the time of the fault.
        let future = Time {
            sec: u64::MAX,
            nsec: u32::MAX,
        };
        assert!(logged_at(Some(future)) >= after);
        assert_eq!(logged_at(Some(Time { sec: 0, nsec: 0 })), 0);
    }

    #[test]
    fn a_flood_is_cut() {
        let mut flood = String::new();
        for n in 0..20_000 {
            flood += &format!("4,{n},{n},-;*** gpu fault: iova={n:016x}\n");
        }
        let text = read(flood.as_bytes(), 0).unwrap();
        assert!(text.len() <= LONGEST);
        assert!(text.starts_with("[    0.000000] *** gpu fault"));
        assert!(text.ends_with("more lines, left out\n"), "{}", text.len());
    }
}
