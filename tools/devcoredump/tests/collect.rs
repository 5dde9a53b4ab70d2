// SPDX-License-Identifier: GPL-2.0-only
//! `collect`, on a directory that looks like the kernel's.

use crate::common::{
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

/// Records of the kernel's log.
const KMSG: &str = "\
6,1,1000000,-;usb 1-1: new high-speed USB device\n\
4,2,2000000,-;platform 3d6a000.gmu: GMU watchdog expired\n SUBSYSTEM=platform\n\
4,3,3000000,-;*** gpu fault: ttbr0=0000000041000000 iova=0000000100005030 dir=READ \
type=TRANSLATION source=CP (0,0,0,1)\n";

/// The kernel's directory and ours.
struct Place {
    top: TempDir,
}

impl Place {
    fn new() -> Place {
        let top = TempDir::new().unwrap();
        fs::create_dir(top.path().join("class")).unwrap();
        fs::write(top.path().join("class/disabled"), "0\n").unwrap();
        fs::write(top.path().join("kmsg"), KMSG).unwrap();
        Place { top }
    }

    fn class(&self) -> PathBuf {
        self.top.path().join("class")
    }

    fn kept(&self) -> PathBuf {
        self.top.path().join("kept")
    }

    /// The kernel's log.
    fn kmsg(&self) -> PathBuf {
        self.top.path().join("kmsg")
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
            .arg("--kernel-log")
            .arg(self.kmsg())
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
    assert_eq!(mode(&place.files("log")[0]), 0o600);

    // The tool reads what it saved.
    let explained = tool().arg("explain").arg(&dumps[0]).output().unwrap();
    status(&explained, 0);
}

#[test]
fn the_kernels_log_is_kept_with_the_dump() {
    let place = Place::new();
    place.offer(1, DUMP.as_bytes());
    status(&place.once(&[]), 0);
    let log = &place.files("log")[0];
    assert_eq!(log.with_extension("zst"), place.files("zst")[0]);
    let text = fs::read_to_string(log).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.starts_with("[    1.000000] usb 1-1"), "{text}");
    assert!(!text.contains("SUBSYSTEM"), "{text}");
    assert_eq!(
        about(&place.files("json")[0])["log"],
        log.file_name().unwrap().to_str().unwrap()
    );
    // The tool reads it, and doesn't take it for another dump of the directory's.
    let explained = tool().arg("explain").arg(log).output().unwrap();
    status(&explained, 0);
    let text = String::from_utf8(explained.stdout).unwrap();
    assert!(text.contains("GPU powered off"), "{text}");
    let all = tool().arg("explain").arg(place.kept()).output().unwrap();
    status(&all, 0);
    let text = String::from_utf8(all.stdout).unwrap();
    assert_eq!(text.matches("Verdict:").count(), 1, "{text}");
}

#[test]
fn a_log_that_may_not_be_read_keeps_no_dump_away() {
    let place = Place::new();
    fs::remove_file(place.kmsg()).unwrap();
    place.offer(1, DUMP.as_bytes());
    let output = place.once(&[]);
    status(&output, 0);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("without the kernel's log"), "{stderr}");
    assert_eq!(place.files("log"), [] as [PathBuf; 0]);
    let about = about(&place.files("json")[0]);
    assert_eq!(about["log"], serde_json::Value::Null);
    assert!(about["log_error"].is_string());
}

#[test]
fn it_says_when_dumps_are_disabled() {
    let place = Place::new();
    fs::write(place.class().join("disabled"), "1\n").unwrap();
    let output = place.once(&[]);
    status(&output, 2);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("until it is booted again"), "{stderr}");
    // A collector that waits says it too, once, and goes on.
    let stderr = place.top.path().join("stderr");
    let mut command = place.command(&["--interval", "20"]);
    command.stderr(fs::File::create(&stderr).unwrap());
    let running = Running(command.spawn().unwrap());
    let data = place.offer(1, DUMP.as_bytes());
    wait_for("dump", || freed(&data));
    drop(running);
    let stderr = fs::read_to_string(&stderr).unwrap();
    assert_eq!(
        stderr.matches("until it is booted again").count(),
        1,
        "{stderr}"
    );
}

/// All that is in the directory, but for whole dumps.
fn left_over(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let stems: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".zst").map(str::to_owned))
        .collect();
    names.retain(|name| !stems.iter().any(|stem| name.starts_with(stem.as_str())));
    names
}

#[test]
fn a_file_that_may_not_grow_is_not_left_and_the_next_dump_is_saved() {
    let place = Place::new();
    let big = place.offer(1, large(1_700_000_000, 300_000).as_bytes());
    let small = place.offer(2, large(1_700_000_001, 10).as_bytes());
    // In blocks of 512 bytes; without the signal the write fails.
    let tool = place.command(&["--once"]);
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "sh"])
        .arg(tool.get_program())
        .args(tool.get_args())
        .output()
        .unwrap();
    status(&output, 2);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("devcd1: "), "{stderr}");
    assert!(stderr.contains("File too large"), "{stderr}");
    assert!(!freed(&big));
    assert!(freed(&small));
    assert_eq!(place.files("zst").len(), 1);
    assert_eq!(left_over(&place.kept()), [] as [String; 0]);
    // Later there is room.
    status(&place.once(&[]), 0);
    assert!(freed(&big));
    assert_eq!(place.files("zst").len(), 2);
}

/// What may be mounted where the tests run: a filesystem of 1 MiB on `place`'s directory, in a
/// namespace of the collector's own.
fn on_a_small_disk(place: &Place, more: &[&str]) -> Option<Command> {
    fs::create_dir_all(place.kept()).unwrap();
    let mount = "mount -t tmpfs -o size=1m,mode=700 none \"$1\" && shift && exec \"$@\"";
    ["--mount", "--user --map-root-user --mount"]
        .iter()
        .find_map(|how| {
            let wrapped = |program: &str, arguments: &mut dyn Iterator<Item = &std::ffi::OsStr>| {
                let mut command = Command::new("unshare");
                command
                    .args(how.split(' '))
                    .args(["sh", "-c", mount, "sh"])
                    .arg(place.kept())
                    .arg(program)
                    .args(arguments);
                command
            };
            let tried = wrapped("true", &mut [].into_iter()).output();
            tried.is_ok_and(|tried| tried.status.success()).then(|| {
                let tool = place.command(more);
                wrapped(tool.get_program().to_str().unwrap(), &mut tool.get_args())
            })
        })
}

#[test]
fn a_full_disk_is_survived() {
    let place = Place::new();
    let Some(mut command) = on_a_small_disk(&place, &["--interval", "20"]) else {
        // What the collector does is tested above, by another limit.
        println!("no filesystem may be mounted here");
        return;
    };
    let stderr = place.top.path().join("stderr");
    command.stderr(fs::File::create(&stderr).unwrap());
    command.stdout(Stdio::piped());
    let running = Running(command.spawn().unwrap());
    let said = || fs::read_to_string(&stderr).unwrap();
    // Seen from there: it has mounted the filesystem when it has opened its directory.
    let root = PathBuf::from(format!("/proc/{}/root", running.0.id()));
    let kept = root.join(place.kept().strip_prefix("/").unwrap());
    let first = place.offer(1, large(1_700_000_000, 10).as_bytes());
    wait_for("first dump", || freed(&first));
    let filler = kept.join("filler");
    fs::write(&filler, vec![0; 600 << 10]).unwrap();
    let big = place.offer(2, large(1_700_000_001, 150_000).as_bytes());
    wait_for("error", || said().contains("No space left on device"));
    let small = place.offer(3, large(1_700_000_002, 10).as_bytes());
    wait_for("dump after it", || freed(&small));
    assert!(!freed(&big));
    // While it is tried again and again, it is said once. A partial file is there at times.
    assert_eq!(
        said().matches("No space left on device").count(),
        1,
        "{}",
        said()
    );
    // One that the kernel has given up is lost; that is said as well.
    place.forget(2);
    wait_for("word of the loss", || said().contains("devcd2: lost"));
    assert_eq!(left_over(&kept), ["filler"]);
    // With room it goes on as before.
    fs::remove_file(&filler).unwrap();
    let big = place.offer(4, large(1_700_000_003, 150_000).as_bytes());
    wait_for("dump after that", || freed(&big));
    assert_eq!(left_over(&kept), [] as [String; 0]);
    drop(running);
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
    for name in [
        ".partial-devcd7",
        ".partial-devcd7.json",
        ".partial-devcd7.log",
        "2023-11-14T22-13-20.000000001Z_hang_app.json",
        "2023-11-14T22-13-20.000000001Z_hang_app.log",
    ] {
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
        .arg("--kernel-log")
        .arg(place.kmsg())
        .output()
        .unwrap();
    status(&output, 0);
    assert!(freed(&data));
}

#[test]
fn the_udev_rule_starts_the_unit() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/60-msm-devcoredump.rules");
    let text = fs::read_to_string(rules).unwrap();
    let rule: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let tokens: Vec<_> = rule.concat().split(", ").map(str::to_owned).collect();
    assert_eq!(
        tokens,
        [
            "ACTION==\"add\"",
            "SUBSYSTEM==\"devcoredump\"",
            "TAG+=\"systemd\"",
            "ENV{SYSTEMD_WANTS}+=\"msm-devcoredump.service\"",
        ]
    );
    // Where udev is there, it has the last word.
    let verify = Command::new("udevadm")
        .args(["verify", "--resolve-names=never", rules])
        .output();
    if let Ok(output) = verify {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let old = stderr.contains("Unknown command verb");
        assert!(output.status.success() || old, "{stderr}");
    }
}
