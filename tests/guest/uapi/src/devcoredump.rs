// SPDX-License-Identifier: GPL-2.0-only

//! The GPU's crash dumps as the kernel hands them out (`/sys/class/devcoredump`).

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

/// A crash dump that waits to be read. The kernel keeps one at a time, for five minutes or until it
/// is freed.
#[derive(Debug)]
pub struct Devcoredump {
    directory: PathBuf,
}

/// An entry of a dump's VM log: an op on a range of the VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmLogEntry {
    /// What was done: "map", "unmap", "close", "purge", "evict".
    pub op: String,
    /// The submitqueue that asked for it, 0 for the kernel itself.
    pub queue: i64,
    /// The first address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
}

impl Devcoredump {
    /// The dump that is there now.
    pub fn present() -> io::Result<Option<Self>> {
        let entries = match fs::read_dir("/sys/class/devcoredump") {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .map(|directory| Self { directory })
            .find(|dump| dump.data().exists()))
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Waits for a dump.
    pub fn wait(timeout: Duration) -> io::Result<Self> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(dump) = Self::present()? {
                return Ok(dump);
            }
            if Instant::now() > end {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no devcoredump appeared",
                ));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// The whole text.
    pub fn read(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.data())?).into_owned())
    }

    /// The beginning of the text. For this, too, the kernel goes through the whole dump; reading
    /// all of the text takes it many times.
    pub fn head(&self) -> io::Result<String> {
        let mut head = [0; 4096];
        let len = fs::File::open(self.data())?.read(&mut head)?;
        Ok(String::from_utf8_lossy(&head[..len]).into_owned())
    }

    /// Lets the kernel forget the dump, and waits until the driver has: it can take another one
    /// then.
    ///
    /// The dump's own files go first. The link from the GPU to the dump goes behind the driver's
    /// callback (`devcd_dev_release()`), for which a busy machine takes its time. A kernel that was
    /// short of memory may have made no link.
    pub fn free(self) -> io::Result<()> {
        let name = self.directory.file_name();
        let device = self.directory.join("failing_device");
        let leads_here = |device: &Path| {
            fs::read_link(device.join("devcoredump")).is_ok_and(|target| target.file_name() == name)
        };
        // It comes a moment after the file that this dump was found by.
        let _ = until(Duration::from_secs(10), "no link", || leads_here(&device));
        let device = device.canonicalize().ok();
        fs::write(self.data(), "1")?;
        until(Duration::from_secs(60), "the devcoredump stays", || {
            !self.data().exists() && !device.as_deref().is_some_and(leads_here)
        })
    }
}

fn until(timeout: Duration, otherwise: &str, done: impl Fn() -> bool) -> io::Result<()> {
    let end = Instant::now() + timeout;
    while !done() {
        if Instant::now() > end {
            return Err(io::Error::new(io::ErrorKind::TimedOut, otherwise));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// When the dump was taken, since 1970, from a dump's text.
pub fn taken(text: &str) -> Option<Duration> {
    let seconds = text.lines().find_map(|line| line.strip_prefix("time: "))?;
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

/// The lines of a top-level section of a dump's text, without its heading.
pub fn section<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines();
    lines.find(|line| line.strip_suffix(':') == Some(name))?;
    Some(
        lines
            .take_while(|line| line.starts_with([' ', '-']))
            .collect(),
    )
}

/// A mapping in a dump's list of BOs.
#[derive(Debug, Default)]
pub struct ListedBo<'a> {
    /// The first address.
    pub iova: u64,
    /// The bytes.
    pub size: u64,
    /// The content, encoded.
    pub data: Option<&'a str>,
    /// The address at which that content is listed.
    pub data_at: Option<u64>,
    /// Why there is no content.
    pub omitted: Option<&'a str>,
}

/// The list of BOs in a dump's text; `None` if there is none, or it isn't of that form.
pub fn bos(text: &str) -> Option<Vec<ListedBo<'_>>> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut bos: Vec<ListedBo<'_>> = Vec::new();
    let mut encoded = false;
    for line in section(text, "bos")? {
        let line = line.trim_start();
        if let Some(iova) = line.strip_prefix("- iova: 0x") {
            bos.push(ListedBo {
                iova: hex(iova)?,
                ..Default::default()
            });
            continue;
        }
        let bo = bos.last_mut()?;
        if encoded {
            bo.data = Some(line);
        } else if let Some(size) = line.strip_prefix("size: ") {
            bo.size = size.parse().ok()?;
        } else if let Some(at) = line.strip_prefix("data-at: 0x") {
            bo.data_at = Some(hex(at)?);
        } else if let Some(why) = line.strip_prefix("data-omitted: ") {
            bo.omitted = Some(why);
        }
        encoded = line.starts_with("data: !!ascii85");
    }
    Some(bos)
}

/// A field of the section `fault-info` ("iova", "dir", "type").
pub fn fault_info<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    section(text, "fault-info")?.into_iter().find_map(|line| {
        line.trim_start_matches([' ', '-'])
            .strip_prefix(field)?
            .strip_prefix('=')
    })
}

/// The address that faulted.
pub fn fault_iova(text: &str) -> Option<u64> {
    u64::from_str_radix(fault_info(text, "iova")?, 16).ok()
}

/// The VM log, oldest entry first.
pub fn vm_log(text: &str) -> Vec<VmLogEntry> {
    section(text, "vm-log")
        .unwrap_or_default()
        .into_iter()
        .filter_map(parse_log_line)
        .collect()
}

/// `  - unmap:2: 0x0000000100000000-0x0000000100001000`, with more behind it where the driver says
/// more.
fn parse_log_line(line: &str) -> Option<VmLogEntry> {
    let (head, range) = line.trim_start_matches([' ', '-']).split_once(": ")?;
    let (op, queue) = head.rsplit_once(':')?;
    let (start, end) = range.split_whitespace().next()?.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    Some(VmLogEntry {
        op: op.to_owned(),
        queue: queue.parse().ok()?,
        start: hex(start)?,
        end: hex(end)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "---
kernel: 7.3
fault-info:
  - ttbr0=0000000041234000
  - iova=0000000100042000
  - dir=READ
  - type=TRANSLATION
vm-log:
  - map:2: 0x0000000100000000-0x0000000100001000
  - unmap:2: 0x0000000100000000-0x0000000100001000 seq 5
rbbm-status: 0x00000000
";

    #[test]
    fn fields_and_log_are_found() {
        assert_eq!(fault_iova(DUMP), Some(0x1_0004_2000));
        assert_eq!(fault_info(DUMP, "dir"), Some("READ"));
        let log = vm_log(DUMP);
        assert_eq!(log.len(), 2);
        assert_eq!(
            log[1],
            VmLogEntry {
                op: "unmap".into(),
                queue: 2,
                start: 0x1_0000_0000,
                end: 0x1_0000_1000
            }
        );
    }
}
