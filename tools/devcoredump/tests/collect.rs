// SPDX-License-Identifier: GPL-2.0-only
//! `collect`, on a directory that looks like the kernel's.

mod common;

use common::{
    tool,
    DUMP, //
};
use std::fs;
use std::os::unix::fs::{
    symlink,
    PermissionsExt, //
};
use std::path::{
    Path,
    PathBuf, //
};
use std::process::{
    Child,
    Command,
    Output,
    Stdio, //
};
use std::time::{
    Duration,
    Instant, //
};
use tempfile::TempDir;

/// The kernel's directory and ours.
struct Place {
    top: TempDir,
}

impl Place {
    fn new() -> Place {
        let top = TempDir::new().unwrap();
        fs::create_dir(top.path().join("class")).unwrap();
        Place { top }
    }

    fn class(&self) -> PathBuf {
        self.top.path().join("class")
    }

    fn kept(&self) -> PathBuf {
        self.top.path().join("kept")
    }

    /// The kernel makes a dump.
    fn offer(&self, number: u32, text: &[u8]) -> PathBuf {
        let ready = self.top.path().join("new");
        fs::create_dir(&ready).unwrap();
        fs::write(ready.join("data"), text).unwrap();
        symlink("../../../5900000.gpu", ready.join("failing_device")).unwrap();
        let device = self.class().join(format!("devcd{number}"));
        fs::rename(ready, &device).unwrap();
        device.join("data")
    }

    /// The kernel has freed a dump.
    fn forget(&self, number: u32) {
        fs::remove_dir_all(self.class().join(format!("devcd{number}"))).unwrap();
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = tool();
        command
            .arg("collect")
            .arg("--class")
            .arg(self.class())
            .arg("--directory")
            .arg(self.kept())
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn once(&self, more: &[&str]) -> Output {
        self.command(&["--once"]).args(more).output().unwrap()
    }

    /// What was kept, by extension, in the order of names.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.kept())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == extension))
            .collect();
        files.sort();
        files
    }

    fn size(&self) -> u64 {
        fs::read_dir(self.kept())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    }
}

/// Freeing the kernel's copy means writing to it.
fn freed(data: &Path) -> bool {
    fs::read(data).unwrap().starts_with(b"0\n")
}

fn unpacked(path: &Path) -> Vec<u8> {
    zstd::decode_all(fs::File::open(path).unwrap()).unwrap()
}

fn status(output: &Output, code: i32) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
}

fn about(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A dump of `second` with `words` words in it that don't compress.
fn large(second: u64, words: usize) -> String {
    let mut seed = second.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words: Vec<u32> = (0..words)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 16) as u32
        })
        .collect();
    let mut data = String::new();
    msm_devcoredump::ascii85::encode(&words, &mut data);
    DUMP.replace("1700000000", &second.to_string())
        .replace("z!!!!\"", &data)
}

#[test]
fn a_dump_is_saved_described_and_freed() {
    let place = Place::new();
    let data = place.offer(3, DUMP.as_bytes());
    let output = place.once(&[]);
    status(&output, 0);
    assert!(freed(&data));

    let dumps = place.files("zst");
    assert_eq!(dumps.len(), 1);
    assert_eq!(
        dumps[0].file_name().unwrap(),
        "2023-11-14T22-13-20.000000001Z_used-after-unmap_test.zst"
    );
    assert_eq!(unpacked(&dumps[0]), DUMP.as_bytes());
    let about = about(&place.files("json")[0]);
    assert_eq!(about["verdict"], "used_after_unmap");
    assert_eq!(about["device"], "5900000.gpu");
    assert_eq!(about["devcoredump"], "devcd3");
    assert_eq!(about["bytes"], DUMP.len());
    assert_eq!(about["compressed"], fs::metadata(&dumps[0]).unwrap().len());
    assert_eq!(about["cut"], false);
    assert_eq!(about["iova"], "0x100005030");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        stdout,
        format!("{}: used after unmap (certain)\n", dumps[0].display())
    );

    // What applications gave to the GPU is nobody else's business.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.kept()), 0o700);
    assert_eq!(mode(&dumps[0]), 0o600);
    assert_eq!(mode(&place.files("json")[0]), 0o600);

    // The tool reads what it saved.
    let explained = tool().arg("explain").arg(&dumps[0]).output().unwrap();
    status(&explained, 0);
}

#[test]
fn dumps_of_other_drivers_stay() {
    let place = Place::new();
    let other = DUMP.replace("module: msm", "module: ath11k");
    let data = place.offer(1, other.as_bytes());
    let data_of_none = place.offer(2, b"");
    status(&place.once(&[]), 1);
    assert_eq!(fs::read(data).unwrap(), other.as_bytes());
    assert_eq!(fs::read(data_of_none).unwrap(), b"");
    assert_eq!(place.size(), 0);
}

#[test]
fn the_same_dump_is_kept_once_and_dumps_without_time_all() {
    let place = Place::new();
    place.offer(1, DUMP.as_bytes());
    place.offer(2, DUMP.as_bytes());
    let timeless = DUMP.replace("time: 1700000000.000000001\n", "");
    place.offer(3, timeless.as_bytes());
    place.offer(4, timeless.as_bytes());
    status(&place.once(&[]), 0);
    assert_eq!(place.files("zst").len(), 3);
    assert_eq!(place.files("json").len(), 3);
}

#[test]
fn old_dumps_make_room() {
    let place = Place::new();
    let limits = ["--max-total", "2MiB", "--max-dump", "2MiB"];
    for second in 1..=5u32 {
        let text = large(1_700_000_000 + u64::from(second), 150_000);
        place.offer(second, text.as_bytes());
        status(&place.once(&limits), 0);
        place.forget(second);
        assert!(place.size() <= 2 << 20, "{}", place.size());
    }
    // 150000 words are 600 kB: two of them fit, and what a third may need while it is written.
    let names: Vec<_> = place.files("zst");
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[1].to_str().unwrap().contains("22-13-25"), "{names:?}");
    assert_eq!(place.files("json").len(), 2);
    // A smaller limit holds for what is there already.
    status(&place.once(&["--max-total", "1MiB"]), 1);
    assert_eq!(place.files("zst").len(), 1);
}

#[test]
fn a_large_dump_is_cut() {
    let place = Place::new();
    let text = large(1_700_000_000, 1_000_000);
    let data = place.offer(1, text.as_bytes());
    status(&place.once(&["--max-dump", "1MiB"]), 0);
    assert!(freed(&data));
    let dump = &place.files("zst")[0];
    let length = fs::metadata(dump).unwrap().len();
    assert!((600_000..=1 << 20).contains(&length), "{length}");
    let kept = unpacked(dump);
    assert!(text.as_bytes().starts_with(&kept));
    let about = about(&place.files("json")[0]);
    assert_eq!(about["cut"], true);
    assert_eq!(about["bytes"], kept.len());
    // The part that tells the verdict comes first.
    assert_eq!(about["verdict"], "used_after_unmap");

    // One that shrinks to nothing is cut as well.
    let place = Place::new();
    let zeros = DUMP.replace("z!!!!\"", &"z".repeat(80 << 20));
    place.offer(1, zeros.as_bytes());
    status(&place.once(&["--max-dump", "1MiB"]), 0);
    let kept = unpacked(&place.files("zst")[0]).len();
    assert!((64 << 20..65 << 20).contains(&kept), "{kept}");
}

#[test]
fn what_a_dead_collector_left_is_removed() {
    let place = Place::new();
    fs::create_dir(place.kept()).unwrap();
    for name in [".partial-devcd7", ".partial-devcd7.json", "orphan.json"] {
        fs::write(place.kept().join(name), "x").unwrap();
    }
    fs::write(place.kept().join("README"), "mine").unwrap();
    status(&place.once(&[]), 1);
    let left: Vec<_> = fs::read_dir(place.kept())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["README"]);
}

/// A collector that runs until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "no {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_waits_for_dumps_and_only_one_does() {
    let place = Place::new();
    let running = Running(place.command(&["--interval", "50"]).spawn().unwrap());
    wait_for("directory", || place.kept().exists());
    let first = place.offer(1, large(1_700_000_000, 10).as_bytes());
    wait_for("first dump", || freed(&first));
    let output = place.once(&[]);
    status(&output, 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("another collector"));
    let second = place.offer(2, large(1_700_000_001, 10).as_bytes());
    wait_for("second dump", || freed(&second));
    assert_eq!(place.files("zst").len(), 2);
    drop(running);
}

#[test]
fn trouble_leaves_the_kernels_copy() {
    let place = Place::new();
    let output = tool()
        .args([
            "collect",
            "--once",
            "--class",
            "/nonexistent",
            "--directory",
        ])
        .arg(place.kept())
        .output()
        .unwrap();
    status(&output, 2);
    // A name that can't be written: the partial file's is taken by a directory.
    let data = place.offer(1, DUMP.as_bytes());
    fs::create_dir_all(place.kept()).unwrap();
    // The tidying of the start removes files only.
    fs::create_dir(place.kept().join(".partial-devcd1")).unwrap();
    let output = place.once(&[]);
    status(&output, 2);
    assert_eq!(fs::read(data).unwrap(), DUMP.as_bytes());
    let output = place.once(&["--max-total", "1KiB"]);
    status(&output, 2);
}

#[test]
fn the_unit_file_starts_what_there_is() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/msm-devcoredump.service");
    let unit = fs::read_to_string(unit).unwrap();
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/msm-devcoredump "))
        .unwrap();
    let place = Place::new();
    let data = place.offer(1, DUMP.as_bytes());
    let output = tool()
        .args(start.split(' '))
        .args(["--once", "--class"])
        .arg(place.class())
        .arg("--directory")
        .arg(place.kept())
        .output()
        .unwrap();
    status(&output, 0);
    assert!(freed(&data));
}
