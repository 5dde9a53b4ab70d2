// SPDX-License-Identifier: GPL-2.0-only
//! Who isn't to blame: the task that a dump names when the GPU was off, when the access was the
//! kernel's, or when another dump came just before.

use crate::common::{
    make::{
        Make,
        TABLE, //
    },
    tool, //
};
use msm_devcoredump::contents::Contents;
use msm_devcoredump::verdict::{
    judge,
    Sure,
    Verdict,
    Whose, //
};
use std::fs;
use std::process::Output;
use tempfile::TempDir;

const NO_TABLES: &str = "0000000000000000";

#[test]
fn registers_that_could_not_be_read_blame_nobody() {
    for nobody in [0xdeaf_bead, 0xffff_ffff] {
        let registers = [(0x840, nobody), (0x844, nobody), (0x24a0, nobody)];
        for iova in [0, 0x2_0000_4010, 0x9_0000_0000] {
            let off = Make {
                iova,
                status: nobody,
                registers: &registers,
                ..Make::default()
            };
            off.is(Verdict::Unreadable, Sure::Certain);
            let finding = judge(&off.dump(), &Contents::default());
            assert_eq!(finding.whose, Whose::Unclear);
            // What the address would have said is not lost.
            assert!(finding.otherwise[0].contains("at its word"), "{finding:?}");
        }
        // Kernels that leave out what wasn't read.
        Make {
            status: nobody,
            registers: &[],
            ..Make::default()
        }
        .is(Verdict::Unreadable, Sure::Certain);
        // The power went while they were read.
        Make {
            status: nobody,
            ..Make::default()
        }
        .is(Verdict::Unreadable, Sure::Likely);
        let all: Vec<_> = (0..64).map(|n| (4 * n, nobody)).collect();
        Make {
            registers: &all,
            ..Make::default()
        }
        .is(Verdict::Unreadable, Sure::Likely);
    }
    // A register may hold anything.
    Make {
        iova: 0x40,
        registers: &[(0x840, 0xdeaf_bead), (0x844, 1)],
        ..Make::default()
    }
    .is(Verdict::NullPointer, Sure::Likely);
}

#[test]
fn without_tables_or_task_it_is_the_kernels() {
    let kernels = |make: Make| {
        make.is(Verdict::KernelsOwn, Sure::Likely);
        assert_eq!(
            judge(&make.dump(), &Contents::default()).whose,
            Whose::Kernel
        );
    };
    for iova in [0x1000, 0x1_0000_2040, 0x0001_0000_0000_c000] {
        for (comm, ttbr0) in [(None, NO_TABLES), (Some("test"), TABLE)] {
            kernels(Make {
                iova,
                comm,
                ttbr0,
                used: NO_TABLES,
                ..Make::default()
            });
        }
    }
    let ring = Make {
        iova: 0x0001_0000_0000_1040,
        comm: None,
        ..Make::default()
    };
    assert!(judge(&ring.dump(), &Contents::default())
        .happened
        .contains("ring 0"));
    kernels(ring);
    // With a task it is the task's commands that went astray.
    Make {
        iova: 0x0001_0000_0000_1040,
        ..Make::default()
    }
    .is(Verdict::Privileged, Sure::Likely);
    // A dump that doesn't say which tables were used doesn't say that there were none.
    let text = Make::default().text();
    let silent = text.replace(&format!("  - ttbr0={TABLE}\n"), "");
    assert_ne!(silent, text);
    let dump = msm_devcoredump::parse::Parser::new(silent.as_bytes())
        .next_dump(&mut msm_devcoredump::parse::SkipData)
        .unwrap()
        .unwrap();
    assert_eq!(
        judge(&dump, &Contents::default()).verdict,
        Verdict::NeverMapped
    );
}

#[test]
fn surfaces_are_missed_by_lines_and_tiles() {
    const SIZE: u64 = 0x5e_0000;
    let bos = &[(0x1_0100_0000, SIZE, 0)];
    let at = |distance: u64, source| Make {
        iova: 0x1_0100_0000 + SIZE + distance,
        source,
        bos,
        ..Make::default()
    };
    for source in ["CCU", "Flag cache", "BR_TP", "BV_LRZ", "UCHE: TP"] {
        at(128 << 10, source).is(Verdict::OutsideBo, Sure::Possible);
        let finding = judge(&at(128 << 10, source).dump(), &Contents::default());
        assert!(finding.happened.contains("128 KiB after"), "{finding:?}");
        assert!(finding.next.contains("noubwc"), "{finding:?}");
        at(2 << 20, source).is(Verdict::NeverMapped, Sure::Possible);
    }
    for source in ["CP", "SP", "BR_VFD", "CCUX", "unknown"] {
        at(128 << 10, source).is(Verdict::NeverMapped, Sure::Possible);
    }
    // Nothing is overrun by more than its size.
    let bos = &[(0x1_0100_0000, 0x1_4000, 0)];
    Make {
        iova: 0x1_0101_4000 + (128 << 10),
        source: "CCU",
        bos,
        ..Make::default()
    }
    .is(Verdict::NeverMapped, Sure::Possible);
}

/// `explain` of these, in this order.
fn explained(files: &[(&str, Make)], arguments: &[&str]) -> (TempDir, Output) {
    let place = TempDir::new().unwrap();
    let mut command = tool();
    command.arg("explain");
    for (name, make) in files {
        fs::write(place.path().join(name), make.text()).unwrap();
    }
    if arguments.is_empty() {
        command.arg(place.path());
    }
    for name in arguments {
        command.arg(place.path().join(name));
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    (place, output)
}

fn verdicts(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("Verdict:"))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// The first has a reason that the log tells, the second comes 1.2 s later, the third a minute.
fn three<'a>() -> [(&'static str, Make<'a>); 3] {
    let at = |time, iova| Make {
        time,
        iova,
        ..Make::default()
    };
    [
        ("a", at("1700000000.0", 0x1_0000_2040)),
        ("b", at("1700000001.2", 0x40)),
        ("c", at("1700000060.0", 0x40)),
    ]
}

#[test]
fn what_follows_a_dump_is_its_consequence() {
    let expected = [
        "never mapped (possible)",
        "consequence of another fault (likely)",
        "NULL pointer (likely)",
    ];
    let (place, output) = explained(&three(), &[]);
    assert_eq!(verdicts(&output), expected);
    let text = String::from_utf8(output.stdout).unwrap();
    let first = place.path().join("a");
    assert!(
        text.contains(&format!("never mapped ({})", first.display())),
        "{text}"
    );
    assert!(text.contains("1.200 s"), "{text}");
    // In whatever order they are given.
    let (_place, output) = explained(&three(), &["c", "b", "a"]);
    assert_eq!(verdicts(&output), [expected[2], expected[1], expected[0]]);
    let (_place, output) = explained(&three(), &["b", "c"]);
    assert_eq!(verdicts(&output), [expected[2], expected[2]]);
    // And in one stream.
    let text: String = three().iter().map(|(_, make)| make.text()).collect();
    let output = crate::common::run(&["explain"], &text);
    assert_eq!(verdicts(&output), expected);
}

#[test]
fn a_fault_that_is_certain_by_itself_is_no_consequence() {
    let log = "  # format=1 now=9000 fault=5000 lost=0\n  \
               - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 job=1\n  \
               - unmap:3: 0x0000000100000000-0x0000000100004000 asked=3 applied=4 job=2\n";
    let mut files = three();
    files[1].1.iova = 0x1_0000_2040;
    files[1].1.log = Some(log);
    let (_place, output) = explained(&files, &[]);
    assert_eq!(verdicts(&output)[1], "used after unmap (certain)");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("  - a consequence of "), "{text}");
    // Another machine's.
    let files = three();
    let kernel = files[0].1.text().replace("kernel: 7.3.4", "kernel: 6.6.0");
    let both = kernel + &files[1].1.text();
    let output = crate::common::run(&["explain"], &both);
    assert_eq!(verdicts(&output)[1], "NULL pointer (likely)");
}

#[test]
fn one_that_cannot_be_read_does_not_hide_the_others() {
    let (place, _) = explained(&three(), &[]);
    let cut = zstd::encode_all(three()[0].1.text().as_bytes(), 3).unwrap();
    fs::write(place.path().join("aa"), &cut[..cut.len() / 2]).unwrap();
    let output = tool().arg(place.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(verdicts(&output).len(), 3);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("/aa: "), "{stderr}");
}

#[test]
fn a_directory_without_dumps_is_trouble() {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("a.json"), "{}").unwrap();
    fs::write(place.path().join(".partial-devcd1"), "x").unwrap();
    let output = tool().arg(place.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("no dumps"), "{stderr}");
}
