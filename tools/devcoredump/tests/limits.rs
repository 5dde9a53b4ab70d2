// SPDX-License-Identifier: GPL-2.0-only
//! What the tool may take: time for a large dump, memory for a hostile one. Nothing else runs in
//! this process, so what its children have used is the tool's.

mod common;

use common::{
    tool,
    DUMP, //
};
use msm_devcoredump::ascii85;
use nix::sys::resource::{
    getrusage,
    UsageWho, //
};
use std::fs::{
    self,
    File, //
};
use std::io::{
    BufWriter,
    Write, //
};
use std::path::Path;
use std::process::{
    Command,
    Stdio, //
};
use std::time::Duration;
use tempfile::TempDir;

/// Of a dump that is to be explained in [`QUICK`].
const LARGE: usize = 10 << 20;
const QUICK: Duration = Duration::from_millis(100);
/// Of hostile input, for which [`MEMORY`] has to do.
const HOSTILE: u64 = 100 << 20;
const MEMORY: u64 = 64 << 20;

/// Processor time of all children that have ended.
fn spent() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| Duration::from_secs(t.tv_sec() as u64) + Duration::from_micros(t.tv_usec() as u64))
        .sum()
}

/// The most that any child that has ended had in memory, in bytes.
fn held() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    usage.max_rss() as u64 * 1024
}

/// A dump as they come from devices: contents of BOs, a log, registers.
fn large() -> String {
    let mut seed = 1u32;
    let words: Vec<u32> = (0..64 << 10)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Command streams and descriptors are full of zeros.
            if seed >> 30 == 0 {
                0
            } else {
                seed
            }
        })
        .collect();
    let mut data = String::new();
    ascii85::encode(&words, &mut data);
    let (head, _) = DUMP.split_once("registers:").unwrap();
    let mut text = head.to_owned();
    for n in 0..40_000 {
        text += &format!(
            "  - iova: {:#018x}\n    size: 4096\n    flags: 0x20000\n    name: buffer {n}\n",
            0x2_0000_0000u64 + 8192 * n
        );
        if n % 2000 == 0 {
            text += "    data: !!ascii85 |\n     ";
            text += &data;
            text.push('\n');
        }
    }
    text += "registers:\n";
    while text.len() < LARGE {
        text += "  - { offset: 0x0840, value: 0x00800001 }\n";
    }
    text
}

/// The same without a page fault: what is in the buffers matters then.
fn hang(dump: &str) -> String {
    let (head, rest) = dump.split_once("fault-info:\n").unwrap();
    let (_, rest) = rest.split_once("vm-log:\n").unwrap();
    format!("{head}vm-log:\n{rest}")
}

/// A kernel's log: half of it a flood of page faults, half of it other devices'.
fn log() -> String {
    let mut text = String::new();
    let mut n = 0u64;
    while text.len() < LARGE {
        n += 1;
        let us = n * 1013;
        text += &format!("[{:5}.{:06}] ", us / 1_000_000, us % 1_000_000);
        let address = 0x1_0000_0000u64 + ((n * 0x9e37_79b9) & 0x3fff_f000);
        text += &match n % 8 {
            0 | 2 | 4 | 6 => format!(
                "*** gpu fault: ttbr0=000000018bbd9000 iova={address:016x} dir=READ \
                 type=TRANSLATION source=CCU (0,0,0,{n})\n"
            ),
            1 => format!("usb 1-1.2: new high-speed USB device number {n} using xhci_hcd\n"),
            3 => format!("platform 3d6a000.gmu: Adding to iommu group {n}\n"),
            5 => "[drm] Initialized msm 1.13.0 for ae01000.display-controller\n".into(),
            _ => format!("audit: type=1400 audit(1700000000.{n}:33): operation=\"load\"\n"),
        };
    }
    text
}

/// Explaining a large dump or log takes no longer than [`QUICK`].
fn speed(place: &TempDir, what: &str, text: &str, status: i32) {
    let file = place.path().join("large");
    fs::write(&file, text).unwrap();
    let mut best = Duration::MAX;
    // Processor time grows with what else the processor does: a quiet moment is waited for.
    for _ in 0..300 {
        let before = spent();
        let ended = tool()
            .arg("explain")
            .arg(&file)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(ended.code(), Some(status));
        best = best.min(spent() - before);
        if best <= QUICK {
            break;
        }
    }
    println!("10 MiB of {what} explained in {best:?}");
    assert!(best <= QUICK, "{best:?}");
}

/// What a hostile file is made of: repeated until it is [`HOSTILE`] bytes long, with a number that
/// counts up for `#`.
fn hostile() -> Vec<(&'static str, String, String)> {
    let long = "x".repeat(8000);
    // Becomes three times as long.
    let control = "\u{1}".repeat(8000);
    let head = DUMP.split_once("registers:").unwrap().0.to_owned();
    let log = DUMP.split_once("rbbm-status").unwrap().0.to_owned();
    let entry =
        "  - map:1: 0x#00000-0x#00fff asked=1 applied=2 job=# pid=1 handle=1 off=0x0 flags=0x1";
    vec![
        ("one line", String::new(), long.clone()),
        ("sections", head.clone(), format!("#{control}:\n")),
        ("malformed lines", head.clone(), format!("# {long}\n")),
        (
            "fields",
            format!("{head}fault-info:\n"),
            format!("  - {long}=#\n"),
        ),
        (
            "BOs",
            head.clone(),
            format!("  - iova: 0x#000\n    size: 4096\n    name: #{control}\n"),
        ),
        (
            "small BOs",
            head.clone(),
            "  - iova: 0x#0000\n    size: 4096\n    name: b\n".into(),
        ),
        ("log", log.clone(), format!("{entry} name=\"{control}\"\n")),
        ("small log", log, format!("{entry}\n")),
        (
            "registers",
            format!("{head}registers:\n"),
            "  - { offset: 0x1, value: 0x2 }\n".into(),
        ),
        (
            "rings",
            format!("{head}ringbuffer:\n"),
            "  - id: #\n    iova: 0x#\n".into(),
        ),
        (
            "blocks",
            format!("{head}{control}:\n"),
            format!("  - {control}: {control}\n    data: !!ascii85 |\n     zzzz\n"),
        ),
        (
            "one block",
            format!("{head}    data: !!ascii85 |\n     "),
            "zzzzzzzz".repeat(1000),
        ),
        (
            "contents of a hang",
            hang(&head),
            format!(
                "  - iova: 0x#0000\n    size: 8388608\n    data: !!ascii85 |\n     {}\n",
                "z".repeat(8000)
            ),
        ),
        (
            "documents",
            String::new(),
            format!("---\ncmdline: {control}\n"),
        ),
        ("dumps", String::new(), DUMP.to_owned()),
        (
            "log of faults",
            String::new(),
            "[#.0] *** gpu fault: ttbr0=# iova=#00000000 dir=READ type=# source=# \
                (0,0,0,1)\n"
                .into(),
        ),
        (
            "log of faults that go on",
            String::new(),
            format!("*** gpu fault: ttbr0=# iova=#\n{long}\n"),
        ),
        (
            "log of SMMUs",
            String::new(),
            format!("{control}#.iommu: Unhandled context fault: fsr=0x2, iova=0x#, fsynr=0x#\n"),
        ),
        (
            "log of tasks and firmware",
            String::new(),
            format!(
                "offending task: #{control}\nfailed to load a#{control}.fw\nLinux version \
                    #{control}\n"
            ),
        ),
        (
            "log of one line",
            String::new(),
            format!("*** gpu fault: offending task: CP GMU callbacks suppressed #{control}"),
        ),
    ]
}

/// Writes it, until nobody listens any more.
fn write(mut to: impl Write, head: &str, body: &str) {
    let parts: Vec<&str> = body.split('#').collect();
    let mut written = head.len() as u64;
    let mut number = 0u64;
    if to.write_all(head.as_bytes()).is_err() {
        return;
    }
    while written < HOSTILE {
        number += 1;
        let digits = format!("{number:x}");
        for (n, part) in parts.iter().enumerate() {
            let digits = if n > 0 { digits.as_str() } else { "" };
            let sent = to
                .write_all(digits.as_bytes())
                .and_then(|()| to.write_all(part.as_bytes()));
            if sent.is_err() {
                return;
            }
            written += (digits.len() + part.len()) as u64;
        }
    }
}

/// No command needs more than [`MEMORY`], whatever it reads.
fn memory(place: &TempDir) {
    for (name, head, body) in hostile() {
        // What prints most of what it keeps.
        let kept = ["BOs", "small BOs", "log", "small log", "blocks", "sections"].contains(&name);
        let report = ["report", "-", "--html", "/dev/null"];
        let commands: &[&[&str]] = if kept {
            &[&["explain"], &["json"], &report]
        } else {
            &[&["explain"]]
        };
        for command in commands {
            let mut child = tool()
                .args(*command)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let stdin = child.stdin.take().unwrap();
            write(BufWriter::with_capacity(1 << 16, stdin), &head, &body);
            let status = child.wait().unwrap();
            assert!(matches!(status.code(), Some(0 | 1)), "{name}: {status}");
            assert!(
                held() <= MEMORY,
                "{command:?} of {name}: {} KiB",
                held() >> 10
            );
        }
    }
    // Small files that grow.
    let (_, head, body) = hostile().swap_remove(3);
    let zst = place.path().join("zst");
    let mut encoder = zstd::Encoder::new(File::create(&zst).unwrap(), 1).unwrap();
    encoder.window_log(23).unwrap();
    write(&mut encoder, &head, &body);
    encoder.finish().unwrap();
    let gz = place.path().join("gz");
    let mut encoder =
        flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
    write(&mut encoder, &head, &body);
    encoder.finish().unwrap();
    for file in [&zst, &gz] {
        for command in ["explain", "check", "map", "diff"] {
            let mut tool = tool();
            tool.arg(command).arg(file).stdout(Stdio::null());
            if command == "diff" {
                tool.arg(file);
            }
            assert_ne!(tool.status().unwrap().code(), None);
            assert!(
                held() <= MEMORY,
                "{command} of {file:?}: {} KiB",
                held() >> 10
            );
        }
    }
    println!("{} KiB at most", held() >> 10);
}

/// What has no end is trouble, and is said to be.
fn endless(place: &TempDir) {
    let line = |length| {
        let mut line = vec![b'x'; length];
        line[length - 1] = b'\n';
        line
    };
    let data = format!("{DUMP}bos:\n  - data: !!ascii85 |\n     ");
    let fifo = place.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Small, and 2 GiB when it is decompressed.
    let bomb = place.path().join("bomb");
    let mut encoder = zstd::Encoder::new(File::create(&bomb).unwrap(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..2048 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap();
    let ends = |file: &Path, head: &str, body: Option<Vec<u8>>| {
        let mut tool = tool();
        tool.arg("explain").arg(file);
        tool.stdout(Stdio::null()).stderr(Stdio::piped());
        let tool = tool.spawn().unwrap();
        if let Some(body) = body {
            // Until nobody listens any more.
            let mut fifo = File::create(file).unwrap();
            let mut sent = fifo.write_all(head.as_bytes());
            while sent.is_ok() {
                sent = fifo.write_all(&body);
            }
        }
        let output = tool.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{file:?}: {stderr}");
        let said = format!("msm-devcoredump: {}: more than 1 GiB of", file.display());
        assert!(stderr.starts_with(&said), "{stderr}");
        assert!(held() <= MEMORY, "{file:?}: {} KiB", held() >> 10);
    };
    ends(Path::new("/dev/zero"), "", None);
    ends(&bomb, "", None);
    ends(&fifo, "", Some(line(1 << 16)));
    ends(&fifo, DUMP, Some(line(1 << 16)));
    ends(&fifo, &data, Some(vec![b'z'; 1 << 16]));
}

#[test]
fn time_and_memory_are_bounded() {
    let place = TempDir::new().unwrap();
    speed(&place, "a dump", &large(), 0);
    speed(&place, "a hang's dump", &hang(&large()), 0);
    // A log doesn't tell what was mapped.
    speed(&place, "a log", &log(), 1);
    memory(&place);
    endless(&place);
}
