// SPDX-License-Identifier: GPL-2.0-only
//! The command line: exit status, colours, readers that go away, input in all its forms,
//! completions and manual pages.

use crate::common::{
    golden_files,
    run,
    stdout,
    tool,
    with_submit,
    DUMP, //
};
use nix::pty::openpty;
use std::fs::{
    self,
    File, //
};
use std::io::{
    Read,
    Write, //
};
use std::os::unix::fs::{
    symlink,
    PermissionsExt, //
};
use std::path::Path;
use std::process::{
    Command,
    Stdio, //
};
use tempfile::TempDir;

/// Not msm's.
const FOREIGN: &str = "---\nkernel: 7.3.4\nmodule: ath11k\n";
const ESCAPE: char = '\u{1b}';

fn commands() -> Vec<String> {
    let help = stdout(&["--help"], "", 0);
    let list = help.split("Commands:\n").nth(1).unwrap();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn found_is_0_not_found_is_1() {
    let hole = ["-a", "0x900000000"];
    for (arguments, input, status) in [
        (&["explain"][..], DUMP, 0),
        (&[], DUMP, 0),
        (&["-q"], DUMP, 0),
        (&["explain"], FOREIGN, 1),
        (&["check"], DUMP, 0),
        (&["check", "-q"], "---\nkernel: 7.3.4\nmodule: msm\n", 1),
        (&["log"], DUMP, 0),
        (&["log", hole[0], hole[1]], DUMP, 1),
        (&["log", "--queue", "3", "--op", "unmap"], DUMP, 0),
        (&["log", "--queue", "4"], DUMP, 1),
        (&["log", "--fault"], DUMP, 0),
        (&["log", "--pending"], DUMP, 0),
        (&["log"], FOREIGN, 1),
        (&["bos"], DUMP, 0),
        (&["bos", "--data"], DUMP, 1),
        (&["json"], DUMP, 0),
        (&["json"], FOREIGN, 1),
        (&["map"], DUMP, 0),
        (&["extract", "--ring", "0"], DUMP, 0),
        (&["extract", "--ring", "1"], DUMP, 1),
        (&["extract", "--list"], DUMP, 0),
        (&["extract", "--list"], FOREIGN, 1),
    ] {
        let output = run(arguments, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(stderr, "", "{arguments:?}");
    }
}

#[test]
fn trouble_is_2() {
    for (arguments, input) in [
        (&["explain", "/nonexistent"][..], ""),
        (&["explain", "/sys"], ""),
        (&["explain"], ""),
        (&["nothing-like-that"], ""),
        (&["explain", "--color", "mauve"], DUMP),
        (&["log", "-a", "0x2000-0x1000"], DUMP),
        (&["log", "--op", "maps"], DUMP),
        (&["extract"], DUMP),
        (
            &["extract", "--ring", "0", "--output", "/nonexistent/file"],
            DUMP,
        ),
        (&["diff", "/nonexistent", "/nonexistent"], ""),
        (&["collect", "--max-total", "many"], ""),
        (&["man", "/nonexistent"], ""),
    ] {
        let output = run(arguments, input);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn what_needs_a_dump_says_so_of_a_log_and_of_nothing() {
    let log =
        "[ 1.0] *** gpu fault: ttbr0=1 iova=2 dir=READ type=TRANSLATION source=CP (0,0,0,0)\n";
    for arguments in [
        &["map"][..],
        &["log"],
        &["bos"],
        &["check"],
        &["json"],
        &["extract", "--list"],
    ] {
        for (input, said) in [(log, "no devcoredump"), ("", "empty")] {
            let output = run(arguments, input);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(stderr.contains(&format!("stdin: {said}")), "{stderr}");
        }
    }
}

/// A part that ends before it speaks of page faults doesn't say that there was none, and has no
/// commands.
#[test]
fn of_a_beginning_not_more_is_said_than_is_known() {
    let (head, _) = DUMP.split_once("fault-info:").unwrap();
    let text = stdout(&["explain"], head, 1);
    assert!(text.starts_with("Verdict:  undetermined\n"), "{text}");
    assert!(text.contains("Where:    task test;"), "{text}");
    assert!(!text.contains("crashdec"), "{text}");
}

#[test]
fn a_compressed_file_that_is_cut_is_trouble() {
    let place = TempDir::new().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(DUMP.as_bytes()).unwrap();
    let zst = zstd::encode_all(DUMP.as_bytes(), 3).unwrap();
    for bytes in [gz.finish().unwrap(), zst] {
        let file = place.path().join("dump");
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let output = tool().arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(file.to_str().unwrap()), "{stderr}");
    }
}

#[test]
fn diff_tells_what_differs() {
    let place = TempDir::new().unwrap();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    fs::write(&a, DUMP).unwrap();
    fs::write(&b, DUMP.replace("name: below", "name: beneath")).unwrap();
    let diff = |b| {
        let output = tool().arg("diff").arg(&a).arg(b).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    assert_eq!(diff(&a), (Some(0), String::new()));
    let (status, text) = diff(&b);
    assert_eq!(status, Some(1));
    assert!(text.contains("below") && text.contains("beneath"), "{text}");
}

#[test]
fn bos_says_where_content_is_that_is_not_there() {
    let listed = "    flags: 0x20000\n    name: below\n";
    let at = DUMP.replace(
        listed,
        &format!("{listed}    data-at: 0x0000000100002000\n"),
    );
    let omitted = DUMP.replace(listed, &format!("{listed}    data-omitted: no memory\n"));
    assert!(stdout(&["bos"], &at, 0).contains("below content at 0x0000000100002000"));
    assert!(stdout(&["bos"], &omitted, 0).contains("below content left out: no memory"));
    assert_eq!(stdout(&["check"], &at, 0), stdout(&["check"], DUMP, 0));
}

#[test]
fn a_list_that_was_left_out_is_not_an_empty_one() {
    let (before, rest) = DUMP.split_once("bos:\n").unwrap();
    let after = rest.lines().skip_while(|line| line.starts_with(' '));
    let after: String = after.flat_map(|line| [line, "\n"]).collect();
    let omitted = format!("{before}bos-omitted: the VM is locked by somebody else\n{after}");
    let bos = stdout(&["bos"], &omitted, 1);
    assert!(
        bos.contains("left out: the VM is locked by somebody else"),
        "{bos}"
    );
    let explained = stdout(&["explain"], &omitted, 0);
    assert!(
        explained.contains("no BO list: the VM is locked"),
        "{explained}"
    );
    let twice = omitted.replace("bos-omitted", "bos-omitted: no memory\nbos-omitted");
    assert!(stdout(&["check"], &twice, 1).contains("bos-omitted"));
}

#[test]
fn the_submit_is_shown_and_checked() {
    let dump = with_submit();
    let ops = |arguments: &[&str]| {
        let log = stdout(arguments, &dump, 0);
        let words = log
            .lines()
            .skip(1)
            .filter_map(|line| line.split(' ').next());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    // Where it was sent, whatever else is listed.
    assert_eq!(ops(&["log"]), ["map", "map", "unmap", "submit", "map"]);
    assert_eq!(ops(&["log", "--op", "unmap"]), ["unmap", "submit"]);
    assert_eq!(ops(&["log", "--pending"]), ["submit", "map"]);
    let log = stdout(&["log"], &dump, 0);
    let row = log.lines().find(|line| line.starts_with("submit")).unwrap();
    for words in [
        "    3  fence 77 ",
        " -793.5 µs ",
        "waited for 2 fences; 1 in-syncobj ignored, for want of MSM_SUBMIT_SYNCOBJ_IN",
    ] {
        assert!(row.contains(words), "{row}");
    }
    // Entries alone are listed in the kernel's form, and found.
    let raw = ["log", "--raw"];
    assert_eq!(stdout(&raw, &dump, 0), stdout(&raw, DUMP, 0));
    assert_eq!(stdout(&["log", "--queue", "4"], &dump, 1), "");

    let json: serde_json::Value = serde_json::from_str(&stdout(&["json"], &dump, 0)).unwrap();
    let submit = &json["dump"]["vm_log"]["submit"];
    let line = dump
        .lines()
        .position(|line| line.contains("# submit"))
        .unwrap()
        + 1;
    let expected = serde_json::json!({
        "line": line, "queue": 3, "fence": 77, "sent": 6500, "waits": 2, "ignored": 1,
    });
    assert_eq!(*submit, expected);
    let json: serde_json::Value = serde_json::from_str(&stdout(&["json"], DUMP, 0)).unwrap();
    assert!(json["dump"]["vm_log"]["submit"].is_null());

    let checked = stdout(&["check"], &dump, 0);
    let summary = "4 log entries, submit with fence 77 of queue 3\n";
    assert!(checked.contains(summary), "{checked}");
    for (old, new, problem) in [
        ("sent=6500", "sent=-1", "vm-log sent: isn't a number"),
        (
            "waits=2",
            "waits=99999999999999999999",
            "vm-log waits: isn't a number",
        ),
        (" ignored=1", "", "vm-log ignored: is missing"),
    ] {
        let text = dump.replace(old, new);
        let checked = stdout(&["check"], &text, 1);
        assert!(
            checked.contains(&format!("line {line}: {problem}\n")),
            "{checked}"
        );
        // The rest is judged as if it weren't there.
        assert_eq!(
            stdout(&["explain", "-q"], &text, 0),
            stdout(&["explain", "-q"], DUMP, 0)
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_trouble() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("many");
    fs::write(&file, DUMP.repeat(3000)).unwrap();
    for command in ["explain", "json", "log", "bos", "map", "check"] {
        let mut child = tool()
            .arg(command)
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdout.take().unwrap();
        pipe.read_exact(&mut [0]).unwrap();
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{command}: {stderr}");
        assert_eq!(stderr, "", "{command}");
    }
    // It is something else when there is no room.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = tool().arg("log").arg(&file).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// What the tool writes to a terminal.
fn on_terminal(arguments: &[&str]) -> String {
    let place = TempDir::new().unwrap();
    let file = place.path().join("dump");
    fs::write(&file, DUMP).unwrap();
    let pty = openpty(None, None).unwrap();
    let mut child = tool()
        .args(arguments)
        .arg(&file)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdout(pty.slave)
        .spawn()
        .unwrap();
    let mut master = File::from(pty.master);
    let mut seen = Vec::new();
    // A terminal whose other end is closed gives an error, not an end.
    let _ = master.read_to_end(&mut seen);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    String::from_utf8(seen).unwrap()
}

#[test]
fn colours_only_on_terminals() {
    for command in ["explain", "log", "bos", "map", "check"] {
        assert!(!stdout(&[command], DUMP, 0).contains(ESCAPE), "{command}");
        let always = [command, "--color", "always"];
        assert!(stdout(&always, DUMP, 0).contains(ESCAPE), "{command}");
        assert!(on_terminal(&[command]).contains(ESCAPE), "{command}");
        let never = [command, "--color", "never"];
        assert!(!on_terminal(&never).contains(ESCAPE), "{command}");
    }
    assert!(!on_terminal(&["json"]).contains(ESCAPE));
}

#[test]
fn text_of_the_dump_does_not_steer_the_terminal() {
    let dump = DUMP
        .replace("comm: test", "comm: \u{1b}[31mtest\u{7}")
        .replace("name: below", "name: \u{1b}]0;title\u{7}");
    for command in ["explain", "log", "bos", "map", "check", "json"] {
        let text = stdout(&[command], &dump, 0);
        assert!(!text.contains([ESCAPE, '\u{7}']), "{command}: {text}");
    }
}

/// What changes the order of the text around it, or isn't seen, is written out.
#[test]
fn text_from_outside_is_seen_as_what_it_is() {
    const UNSEEN: [char; 3] = ['\u{202e}', '\u{2066}', '\u{200b}'];
    let name: String = UNSEEN.iter().collect();
    let dump = DUMP
        .replace("comm: test", &format!("comm: test{name}"))
        .replace("cmdline: ./test", &format!("cmdline: ./test{name}"))
        .replace("source=CP", &format!("source=CP{name}"))
        .replace("name: below", &format!("name: below{name}"))
        .replace("a <b> & c", &name);
    let written = name.escape_debug().to_string();
    for (arguments, count) in [
        (&["explain"][..], 5),
        (&["log"], 2),
        (&["bos"], 1),
        (&["map"], 1),
        (&["map", "--svg"], 1),
        (&["report", "-", "--html", "-"], 8),
        (&["check"], 0),
    ] {
        let text = stdout(arguments, &dump, 0);
        assert!(!text.contains(UNSEEN), "{arguments:?}: {text}");
        assert!(text.matches(&written).count() >= count, "{arguments:?}");
    }
    let json = stdout(&["json"], &dump, 0);
    assert!(!json.contains(UNSEEN), "{json}");
    let log = format!("[ 1.0] msm 1.gpu: offending task: {name} (x)\n[ 2.0] hangcheck recover!\n");
    let text = stdout(&["explain"], &log, 0);
    assert!(text.contains(&written) && !text.contains(UNSEEN), "{text}");

    // Names of files too: a directory may be somebody else's archive.
    let place = TempDir::new().unwrap();
    let (escape, bell) = (ESCAPE, '\u{7}');
    let contents = [
        ("dump", DUMP.as_bytes()),
        ("other", b"to do\n"),
        ("cut", &[0x1f, 0x8b, 8]),
    ];
    for (file, content) in contents {
        let file = format!("{file}{escape}]0;title{bell}{name}");
        fs::write(place.path().join(file), content).unwrap();
    }
    let output = tool().arg("explain").arg(place.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let file = place
        .path()
        .join(format!("dump{escape}]0;title{bell}{name}"));
    let mut report = tool();
    report.arg("report").arg(&file).args(["--html", "-"]);
    let page = report.output().unwrap().stdout;
    for (text, count) in [(output.stdout, 2), (output.stderr, 1), (page, 2)] {
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(UNSEEN), "{text}");
        assert!(!text.contains([escape, bell]), "{text}");
        assert!(text.matches(&written).count() >= count, "{text}");
    }
}

/// What a file holds is replaced by all that was asked for, or stays.
#[test]
fn a_file_is_replaced_as_a_whole() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    let (file, link) = (at("file"), at("link"));
    symlink(&file, &link).unwrap();
    let link = link.to_str().unwrap();
    fs::write(&file, "before").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let malformed = DUMP.replace("z!!!!\"", "z!!!!\"~~~~~");
    let ring = ["extract", "--ring", "0", "--output"];
    let (html, map) = (["report", "--html"], ["map", "--output"]);
    for (arguments, input, status) in [
        (&["extract", "--ring", "1", "--output"][..], DUMP, 1),
        (&ring, malformed.as_str(), 2),
        (&ring, "", 1),
        (&html, "", 2),
        (&map, "", 2),
    ] {
        let output = run(&[arguments, &[link]].concat(), input);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert_eq!(fs::read(&file).unwrap(), b"before", "{arguments:?}");
        let new = at("new");
        run(&[arguments, &[new.to_str().unwrap()]].concat(), input);
        assert!(!new.exists(), "{arguments:?}");
    }
    for arguments in [&ring[..], &html, &map] {
        assert_eq!(stdout(&[arguments, &[link]].concat(), DUMP, 0), "");
        assert_ne!(fs::read(&file).unwrap(), b"before", "{arguments:?}");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{arguments:?}");
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
        fs::write(&file, "before").unwrap();
        // Where there is no room.
        let output = run(&[arguments, &["/dev/full"]].concat(), DUMP);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    // Nothing else is left.
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

/// A shell does with the commands that are printed what they are meant to do, whatever files and
/// devices are called.
#[test]
fn commands_to_copy_are_quoted() {
    let hang = golden_files("rust")
        .into_iter()
        .find(|dump| dump.ends_with("hang.zst"));
    let hang = fs::read(hang.unwrap()).unwrap();
    let place = TempDir::new().unwrap();
    let command = |name: &str| {
        fs::write(place.path().join(name), &hang).unwrap();
        let mut tool = tool();
        let output = tool
            .current_dir(place.path())
            .args(["explain", "--", name])
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let (_, command) = text.split_once("The commands in full: ").unwrap();
        command.trim_end().to_owned()
    };
    assert_eq!(command("hang.zst"), "zstd -dc hang.zst | crashdec -m");
    for name in [
        "a b",
        "it's",
        "\"$(touch gone)\"",
        "`touch gone`; touch gone & touch gone",
        "'; touch gone; '",
        "*",
        "~",
        "!!",
        "#größer",
        "back\\slash",
    ] {
        let script = command(name).replacen("crashdec -m -f", "printf %s", 1);
        let mut shell = Command::new("sh");
        let said = shell
            .current_dir(place.path())
            .args(["-c", &script])
            .output();
        assert_eq!(
            String::from_utf8(said.unwrap().stdout).unwrap(),
            name,
            "{script}"
        );
        assert!(!place.path().join("gone").exists(), "{script}");
    }
    assert_eq!(command("-f"), "crashdec -m -f ./-f");
    assert_eq!(command("a\nb\u{202e}.gz"), "zcat DUMP | crashdec -m");

    let log = "arm-smmu $(reboot).iommu: Unhandled context fault: fsr=0x402, iova=0x1, fsynr=0x1\n";
    let text = stdout(&["explain", "-q"], log, 1);
    assert!(
        text.contains("ls /sys/class/iommu/*'$(reboot).iommu'*/devices\n"),
        "{text}"
    );
}

/// What else is in a directory is one line; what is named is answered.
#[test]
fn of_a_directory_only_dumps_and_logs_are_explained() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    let explain = |files: &[&Path]| tool().arg("explain").args(files).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    for (name, content) in [
        ("empty", ""),
        ("foreign", FOREIGN),
        ("noise", "\0\u{1}\n"),
        ("notes", "to do\n"),
    ] {
        fs::write(at(name), content).unwrap();
    }
    let none = explain(&[place.path()]);
    assert_eq!((none.status.code(), none.stderr), (Some(1), Vec::new()));
    let line = "4 files are neither an msm GPU's dump nor a kernel log that speaks of one: empty, \
                foreign, noise and 1 more\n";
    assert_eq!(text(none.stdout), line);

    fs::write(at("dump"), DUMP).unwrap();
    let some = explain(&[place.path()]);
    assert_eq!(some.status.code(), Some(0));
    let some = text(some.stdout);
    assert_eq!(some.matches("Verdict:").count(), 1, "{some}");
    assert!(some.ends_with(line), "{some}");
    let named = explain(&[&at("dump"), &at("notes")]);
    assert_eq!(text(named.stdout).matches("Verdict:").count(), 2);
}

#[test]
fn input_is_plain_or_compressed_and_may_hold_several_documents() {
    let expected = stdout(&["explain"], DUMP, 0);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(DUMP.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let zst = zstd::encode_all(DUMP.as_bytes(), 3).unwrap();
    let place = TempDir::new().unwrap();
    // The name says nothing.
    for (name, bytes) in [
        ("a.txt", &gz),
        ("b", &zst),
        ("c.gz", &DUMP.as_bytes().to_vec()),
    ] {
        let file = place.path().join(name);
        fs::write(&file, bytes).unwrap();
        let output = tool().arg(&file).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            expected,
            "{name}"
        );
        let output = tool()
            .args(["explain", "-"])
            .stdin(File::open(&file).unwrap())
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            expected,
            "{name}"
        );
    }
    // Two members of a gzip file are one stream.
    let twice = stdout(&["json"], &DUMP.repeat(2), 0);
    let file = place.path().join("twice");
    fs::write(&file, [gz.as_slice(), &gz].concat()).unwrap();
    let output = tool().arg("json").arg(&file).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), twice);
    let documents: Vec<serde_json::Value> = twice
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[1]["finding"]["verdict"], "used_after_unmap");
    assert_eq!(documents[1]["dump"]["index"], 1);
}

#[test]
fn five_lines_then_the_evidence() {
    let quiet = stdout(&["explain", "--quiet"], DUMP, 0);
    assert_eq!(quiet.lines().count(), 5, "{quiet}");
    let all = stdout(&["explain"], DUMP, 0);
    assert!(all.starts_with(&quiet));
    assert!(all.contains("\nEvidence:\n"), "{all}");
}

#[test]
fn a_log_is_summed_up_and_the_commands_for_more_are_named() {
    let mut log = String::from("[    0.0] Linux version 6.12.3 (x@y)\n");
    for n in 0..500 {
        log += &format!(
            "[  {n}.5] *** gpu fault: ttbr0=0000000041000000 iova={:016x} dir=READ \
             type=TRANSLATION source=CCU (0,0,0,1)\n",
            0x1_0000_0000u64 + 4096 * n
        );
    }
    log +=
        "[  501.0] msm_dpu 1.mdp: [drm:recover_worker] *ERROR* 6.3.0.1: offending task: game (g)\n";
    let text = stdout(&["explain"], &log, 1);
    for wanted in [
        "kernel log of 502 lines; Linux 6.12.3",
        "500 page faults from 0.500000 s to 499.500000 s",
        "500 of them at 0x100000000–0x1001f3000",
        "500 by CCU: read, no translation",
        "500 with page tables at 0x41000000",
        "blamed once: game",
        "\n  # Log what is mapped",
        "tee /sys/module/msm/parameters/vm_log_shift",
        "systemctl enable --now msm-devcoredump",
        "/sys/class/devcoredump/devcd*/data",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // As many lines as a screen has, however long the log is.
    assert!(text.lines().count() < 40, "{text}");
    let quiet = stdout(&["explain", "-q"], &log, 1);
    assert_eq!(quiet.lines().count(), 5, "{quiet}");
}

#[test]
fn completions_know_every_command() {
    let commands = commands();
    assert!(commands.contains(&"collect".into()), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell], "", 0);
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
        assert!(script.contains("max-total"), "{shell}");
    }
}

#[test]
fn there_is_a_page_for_every_command() {
    let place = TempDir::new().unwrap();
    let output = tool().arg("man").arg(place.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let read = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
    let main = read("msm-devcoredump.1");
    assert!(main.contains("Exit status"), "{main}");
    for command in commands().iter().filter(|command| *command != "help") {
        let page = read(&format!("msm-devcoredump-{command}.1"));
        assert!(page.contains(".TH"), "{command}");
        assert!(
            main.contains(&format!("msm\\-devcoredump\\-{command}(1)")),
            "{command}"
        );
    }
    assert!(read("msm-devcoredump-collect.1").contains("max\\-total"));
}
