// SPDX-License-Identifier: GPL-2.0-only
//! One hand-made dump for each verdict, in the form that the kernel prints, and what the library
//! makes of it; and that no input, whole or cut anywhere, makes it panic.

use crate::common::{
    make::{
        Make,
        HOLE,
        OURS,
        PAGE, //
    },
    run,
    stdout, //
};
use msm_devcoredump::contents::Contents;
use msm_devcoredump::parse::{
    CheckData,
    Parser, //
};
use msm_devcoredump::space;
use msm_devcoredump::verdict::{
    judge,
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use proptest::prelude::*;

/// A log of ours with one more field for each line.
fn ours(lines: &str) -> String {
    format!("{OURS}{lines}")
}

#[test]
fn used_after_unmap_on_both_kernels() {
    let stock = "  - map:3: 0x0000000100000000-0x0000000100004000\n  - unmap:3: \
        0x0000000100000000-0x0000000100004000\n  \
                 - map:3: 0x0000000300000000-0x0000000300004000\n";
    let log = Some(stock);
    Make {
        log,
        ..Make::default()
    }
    .is(Verdict::UsedAfterUnmap, Sure::Certain);
    let rich = ours(
        "  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 job=1\n  \
         - unmap:3: 0x0000000100000000-0x0000000100004000 asked=3 applied=4 job=2 name=\"a b\"\n",
    );
    let log = Some(rich.as_str());
    let make = Make {
        log,
        ..Make::default()
    };
    make.is(Verdict::UsedAfterUnmap, Sure::Certain);
    assert_eq!(judge(&make.dump(), &Contents::default()).entry, Some(1));
}

#[test]
fn the_unmap_that_a_stock_log_lacks() {
    let log = Some(
        "  - map:3: 0x0000000200000000-0x0000000200004000\n  - map:3: \
            0x0000000100000000-0x0000000100004000\n  \
         - map:3: 0x0000000300000000-0x0000000300004000\n",
    );
    Make {
        log,
        ..Make::default()
    }
    .is(Verdict::UsedAfterUnmap, Sure::Likely);
    // A BO that no entry has mapped: the op that is missing is its.
    let bos = &[(0x2_0000_0000, 0x4000, 0), (0x4_0000_0000, 0x4000, 0)];
    Make {
        log,
        bos,
        ..Make::default()
    }
    .is(Verdict::NullMappingLost, Sure::Likely);
}

#[test]
fn partially_unmapped() {
    let log = Some(
        "  - map:3: 0x0000000100000000-0x0000000100004000\n  - unmap:3: \
            0x0000000100002000-0x0000000100003000\n  \
         - map:3: 0x0000000300000000-0x0000000300004000\n",
    );
    Make {
        log,
        ..Make::default()
    }
    .is(Verdict::PartiallyUnmapped, Sure::Certain);
}

#[test]
fn bound_too_late() {
    for applied in ["-", "6000"] {
        let log = ours(&format!(
            "  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied={applied} job=1\n"
        ));
        let log = Some(log.as_str());
        Make {
            log,
            ..Make::default()
        }
        .is(Verdict::BoundTooLate, Sure::Certain);
    }
    // C's log says nothing of an op that waits, but the VMA is there already.
    let log = Some("  - map:3: 0x0000000300000000-0x0000000300004000\n");
    let bos = &[(0x1_0000_0000, 0x4000, 0)];
    Make {
        log,
        bos,
        ..Make::default()
    }
    .is(Verdict::BoundTooLate, Sure::Likely);
}

/// What a log with times tells of the submit, and what it doesn't.
#[test]
fn bound_too_late_says_what_the_submit_lacks() {
    let judged = |op: &str, asked: u32, applied: &str| {
        let log = ours(&format!(
            "  - {op}:3: 0x0000000100000000-0x0000000100004000 asked={asked} applied={applied}\n"
        ));
        let log = Some(log.as_str());
        let make = Make {
            log,
            ..Make::default()
        };
        make.is(Verdict::BoundTooLate, Sure::Certain);
        judge(&make.dump(), &Contents::default())
    };
    let names_the_flag = |finding: &Finding| finding.next.contains("MSM_SUBMIT_SYNCOBJ_IN");
    for (applied, end) in [
        (
            "-",
            "earlier and had not run yet: the submit didn't wait for it.",
        ),
        (
            "6000",
            "earlier and ran 1.0 µs later: the submit didn't wait for it.",
        ),
    ] {
        let finding = judged("map", 3000, applied);
        let happened = &finding.happened;
        assert!(happened.contains("asked for 2.0 µs earlier"), "{happened}");
        assert!(happened.ends_with(end), "{happened}");
        assert_eq!(finding.whose, Whose::Application);
        assert!(names_the_flag(&finding), "{finding:?}");
        assert!(unsettled(&finding), "{finding:?}");
    }
    // No flag would have helped: the submit can't have waited for what wasn't asked for yet.
    let finding = judged("map", 5500, "6000");
    let happened = &finding.happened;
    let end = "asked for 500 ns later and ran 1.0 µs later: the submit was sent before the bind.";
    assert!(happened.ends_with(end), "{happened}");
    assert!(!names_the_flag(&finding), "{finding:?}");
    assert!(!unsettled(&finding), "{finding:?}");
    // What the kernel does for a SUBMIT isn't the application's to wait for.
    let finding = judged("restore", 3000, "-");
    assert_eq!(finding.whose, Whose::Kernel);
    assert!(!names_the_flag(&finding), "{finding:?}");
    assert!(!unsettled(&finding), "{finding:?}");
}

/// The line of a submit that was sent, had so many fences to wait for, and so many in-syncobjs that
/// the kernel didn't read.
fn submit(sent: u64, waits: u64, ignored: u64) -> String {
    format!("  # submit queue=3 fence=77 sent={sent} waits={waits} ignored={ignored}\n")
}

/// `trace-cmd` would tell more than the dump does.
fn unsettled(finding: &Finding) -> bool {
    let mut evidence = finding.evidence.iter();
    evidence.any(|evidence| evidence.text.contains("drm_sched_job_add_dep"))
}

/// The line about the submit settles what the log's times leave open: all is in the sentence.
#[test]
fn bound_too_late_says_what_the_submit_did() {
    let judged = |op: &str, applied: &str, submit: &str| {
        let log = ours(&format!(
            "{submit}  - {op}:3: 0x0000000100000000-0x0000000100004000 asked=3000 \
                applied={applied} job=1\n"
        ));
        let log = Some(log.as_str());
        let make = Make {
            log,
            ..Make::default()
        };
        make.is(Verdict::BoundTooLate, Sure::Certain);
        judge(&make.dump(), &Contents::default())
    };
    // When sent (the fault is at 5000), with what; how the sentence ends, what to do, and the
    // evidence.
    let cases = [
        (
            submit(2999, 0, 0),
            ": the submit was sent before the bind.",
            "Bind first",
            "sent 2.0 µs ahead of the fault, waited for no fence",
        ),
        // It can't have waited, whatever it had.
        (
            submit(2000, 1, 2),
            ": the submit was sent before the bind.",
            "Bind first",
            "waited for 1 fence; 2 in-syncobjs ignored, for want of MSM_SUBMIT_SYNCOBJ_IN",
        ),
        (
            submit(4000, 0, 1),
            ": this submit was sent 1.0 µs after the bind and didn't wait for it; its SUBMIT \
                ignored its in-syncobjs (1 of them: flags without MSM_SUBMIT_SYNCOBJ_IN).",
            "Set MSM_SUBMIT_SYNCOBJ_IN",
            "sent 1.0 µs ahead of the fault, waited for no fence; 1 in-syncobj ignored",
        ),
        (
            submit(4000, 3, 2),
            ": this submit was sent 1.0 µs after the bind and didn't wait for it; its SUBMIT \
                ignored its in-syncobjs (2 of them: flags without MSM_SUBMIT_SYNCOBJ_IN).",
            "Set MSM_SUBMIT_SYNCOBJ_IN",
            "waited for 3 fences; 2 in-syncobjs ignored",
        ),
        (
            submit(4000, 0, 0),
            ": this submit was sent 1.0 µs after the bind and waited for nothing.",
            "give it the bind's out-syncobj",
            "waited for no fence",
        ),
        (
            submit(4000, 1, 0),
            ": this submit was sent 1.0 µs after the bind and waited for 1 fence, which isn't \
                this bind's.",
            "give it the bind's out-syncobj",
            "waited for 1 fence",
        ),
        (
            submit(5000, 4, 0),
            ": this submit was sent 2.0 µs after the bind and waited for 4 fences, none of them \
                this bind's.",
            "give it the bind's out-syncobj",
            "sent 0 ns ahead of the fault, waited for 4 fences",
        ),
    ];
    for (line, end, next, evidence) in &cases {
        for applied in ["-", "6000"] {
            let finding = judged("map", applied, line);
            assert!(finding.happened.ends_with(end), "{line}{finding:#?}");
            assert_eq!(finding.whose, Whose::Application, "{line}");
            assert!(finding.next.contains(next), "{line}{finding:#?}");
            assert!(!unsettled(&finding), "{line}{finding:#?}");
            let mut all = finding.evidence.iter();
            let said = all.find(|said| said.text.contains("submit with fence 77 of queue 3"));
            let said = said.unwrap();
            assert!(said.text.contains(evidence), "{said:?}");
            assert!(said.line.is_some());
        }
        // What the kernel does for a SUBMIT isn't the application's to wait for.
        let finding = judged("restore", "-", line);
        assert_eq!(finding.whose, Whose::Kernel);
        assert!(!finding.happened.contains("submit"), "{finding:#?}");
    }
    // Without the line, and with that of a submit that isn't the one that faulted.
    for line in ["", "  # submitted queue=3\n", submit(5001, 0, 1).as_str()] {
        let finding = judged("map", "-", line);
        let end = ": the submit didn't wait for it.";
        assert!(finding.happened.ends_with(end), "{line}{finding:#?}");
        assert!(unsettled(&finding), "{line}{finding:#?}");
        let mut evidence = finding.evidence.iter();
        let other = evidence.any(|e| e.text.ends_with("so it isn't the one that faulted"));
        assert_eq!(other, line.contains("5001"), "{finding:#?}");
    }
}

/// A bind that was there when the kernel noticed: what the submit did makes it no surer.
#[test]
fn just_too_late_says_what_the_submit_did() {
    const ASKED: u64 = 4_998_000_000;
    const APPLIED: u64 = 4_999_000_000;
    let judged = |submit: &str, verdict| {
        let log = format!(
            "  # format=1 now=9000000000 fault=5000000000 entries=1 lost=0\n{submit}  \
             - map:3: 0x0000000100000000-0x0000000100004000 asked={ASKED} applied={APPLIED}\n"
        );
        let make = Make {
            log: Some(&log),
            ptes: [HOLE[0], HOLE[1], HOLE[2], PAGE],
            ..Make::default()
        };
        make.is(verdict, Sure::Likely);
        judge(&make.dump(), &Contents::default())
    };
    let after = "this submit was sent 500.0 µs after the bind and";
    for (sent, waits, ignored, end, or) in [
        (
            ASKED - 1,
            2,
            0,
            "the submit was sent before the bind.".to_string(),
            "if the access came after it",
        ),
        (
            ASKED + 500_000,
            0,
            1,
            format!(
                "{after} didn't wait for it; its SUBMIT ignored its in-syncobjs (1 of them: flags \
                    without MSM_SUBMIT_SYNCOBJ_IN)."
            ),
            "if the access came after it",
        ),
        (
            ASKED + 500_000,
            0,
            0,
            format!("{after} waited for nothing."),
            "if the access came after it",
        ),
        (
            ASKED + 500_000,
            2,
            0,
            format!("{after} waited for 2 fences, none of them this bind's, it seems."),
            "if the submit did wait",
        ),
    ] {
        let line = submit(sent, waits, ignored);
        let finding = judged(&line, Verdict::BoundTooLate);
        let happened = &finding.happened;
        assert!(happened.ends_with(&format!(": {end}")), "{happened}");
        assert!(finding.otherwise[0].contains(or), "{finding:#?}");
        assert!(!unsettled(&finding), "{finding:#?}");
    }
    let finding = judged("", Verdict::BoundTooLate);
    assert!(unsettled(&finding), "{finding:#?}");
    assert!(finding.otherwise[0].contains("if the submit did wait"));
    // When it was sent the tables had the mapping: it can't be too late for this submit.
    let finding = judged(&submit(APPLIED, 0, 1), Verdict::StaleTranslation);
    let end = "had mapped it for 1.0 ms, since before the submit was sent.";
    assert!(finding.happened.ends_with(end), "{finding:#?}");
    assert!(finding.otherwise[0].starts_with("bound too late, if an earlier submit"));
}

#[test]
fn bind_failed() {
    let log = ours("  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 err=-12\n");
    let log = Some(log.as_str());
    Make {
        log,
        ..Make::default()
    }
    .is(Verdict::BindFailed, Sure::Certain);
}

#[test]
fn mapping_lost() {
    let log = ours("  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2\n");
    let log = Some(log.as_str());
    Make {
        log,
        ..Make::default()
    }
    .is(Verdict::MappingLost, Sure::Certain);
    let log = ours("  - map_null:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2\n");
    let log = Some(log.as_str());
    Make {
        log,
        ..Make::default()
    }
    .is(Verdict::NullMappingLost, Sure::Certain);
}

#[test]
fn mapped_but_faulted() {
    let ptes = [HOLE[0], HOLE[1], HOLE[2], PAGE];
    let is = |applied: u64, kind, verdict| {
        let log = format!(
            "  # format=1 now=9000000000 fault=5000000000 lost=0\n  \
             - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied={applied}\n"
        );
        let log = Some(log.as_str());
        Make {
            log,
            ptes,
            kind,
            ..Make::default()
        }
        .is(verdict, Sure::Likely);
    };
    is(2, "TRANSLATION", Verdict::StaleTranslation);
    // The access came before, but the kernel noticed later.
    is(4_999_000_000, "TRANSLATION", Verdict::BoundTooLate);
    // Something was mapped when it faulted.
    is(4_999_000_000, "PERMISSION", Verdict::StaleTranslation);
}

#[test]
fn addresses_that_nothing_is_at() {
    let empty = ours("");
    let log = Some(empty.as_str());
    let at = |iova| Make {
        iova,
        log,
        ..Make::default()
    };
    at(0x1_0000_2040).is(Verdict::NeverMapped, Sure::Certain);
    at(0x40).is(Verdict::NullPointer, Sure::Likely);
    at(0x2_0000_4010).is(Verdict::OutsideBo, Sure::Likely);
    at(0x1_ffff_fff0).is(Verdict::OutsideBo, Sure::Likely);
    at(0xffff_0000_0000_1000).is(Verdict::Privileged, Sure::Likely);
}

#[test]
fn permissions() {
    let ptes = |flags: u64| [HOLE[0], HOLE[1], HOLE[2], PAGE ^ flags];
    let (dir, kind) = ("WRITE", "PERMISSION");
    Make {
        dir,
        kind,
        ptes: ptes(0x80),
        ..Make::default()
    }
    .is(Verdict::ReadOnly, Sure::Certain);
    Make {
        dir,
        kind,
        ptes: ptes(0x40),
        ..Make::default()
    }
    .is(Verdict::Privileged, Sure::Certain);
    Make {
        dir,
        kind,
        ptes: ptes(0),
        ..Make::default()
    }
    .is(Verdict::StaleTranslation, Sure::Likely);
}

/// The BO's own flags and the log's tell whether it was asked for what the tables say.
#[test]
fn permissions_are_those_that_were_asked_for() {
    const READ_ONLY: u32 = 0x2;
    const PRIVILEGED: u32 = 0x2000_0000;
    let nothing = ours("");
    let judged = |dir, pte: u64, flags: Option<u32>, log: &str| {
        let make = Make {
            dir,
            kind: "PERMISSION",
            ptes: [HOLE[0], HOLE[1], HOLE[2], pte],
            bos: &[(0x1_0000_0000, 0x4000, flags.unwrap_or(0x77))],
            log: Some(log),
            ..Make::default()
        };
        // Older kernels print no flags.
        let old = match flags {
            Some(_) => "",
            None => "    flags: 0x77\n",
        };
        judged(&make.text().replace(old, ""))
    };
    let (certain, likely) = (Sure::Certain, Sure::Likely);
    let (kernel, application) = (Whose::Kernel, Whose::Application);
    let (ro, private) = (Verdict::ReadOnly, Verdict::Privileged);
    let stale = Verdict::StaleTranslation;
    for (dir, pte, flags, expected) in [
        // As asked for, or it isn't known.
        (
            "WRITE",
            PAGE | 0x80,
            Some(READ_ONLY),
            (ro, certain, application),
        ),
        ("WRITE", PAGE | 0x80, None, (ro, certain, application)),
        (
            "READ",
            PAGE ^ 0x40,
            Some(PRIVILEGED),
            (private, certain, application),
        ),
        ("READ", PAGE ^ 0x40, None, (private, certain, application)),
        // Nobody has asked for it.
        ("WRITE", PAGE | 0x80, Some(0x20000), (ro, likely, kernel)),
        (
            "READ",
            PAGE ^ 0x40,
            Some(READ_ONLY),
            (private, likely, kernel),
        ),
        // The tables have changed, or there are none.
        ("WRITE", PAGE, Some(READ_ONLY), (ro, likely, application)),
        ("WRITE", 0, Some(READ_ONLY), (ro, likely, application)),
        (
            "READ",
            PAGE,
            Some(PRIVILEGED),
            (private, likely, application),
        ),
        ("READ", 0, Some(PRIVILEGED), (private, likely, application)),
        ("WRITE", PAGE, Some(0x20000), (stale, likely, kernel)),
        ("WRITE", PAGE, None, (stale, likely, kernel)),
        // A read isn't refused for that.
        ("READ", PAGE, Some(READ_ONLY), (stale, likely, kernel)),
        (
            "READ",
            PAGE | 0x80,
            Some(READ_ONLY),
            (stale, likely, kernel),
        ),
    ] {
        let finding = judged(dir, pte, flags, &nothing);
        let is = (finding.verdict, finding.sure, finding.whose);
        assert_eq!(is, expected, "{dir} {pte:#x} {flags:?}: {finding:#?}");
    }
    let finding = judged("WRITE", PAGE | 0x80, Some(0x20000), &nothing);
    let said = |what: &str| finding.evidence.iter().any(|e| e.text.ends_with(what));
    assert!(said("0x100000000–0x100004000, writable"), "{finding:#?}");

    // What the log says counts where the list says nothing, or something else.
    let map = |flags: u32| {
        ours(&format!(
            "  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 flags={flags:#x}\n"
        ))
    };
    for (dir, pte, flags, log, expected) in [
        ("WRITE", PAGE | 0x80, None, 0x4, (ro, certain, application)),
        ("WRITE", PAGE | 0x80, None, 0x0, (ro, likely, kernel)),
        (
            "WRITE",
            PAGE | 0x80,
            Some(0),
            0x4,
            (ro, certain, application),
        ),
        ("WRITE", PAGE, None, 0x4, (ro, likely, application)),
        (
            "READ",
            PAGE ^ 0x40,
            None,
            0x8,
            (private, certain, application),
        ),
        ("READ", PAGE ^ 0x40, None, 0x4, (private, likely, kernel)),
    ] {
        let finding = judged(dir, pte, flags, &map(log));
        let is = (finding.verdict, finding.sure, finding.whose);
        assert_eq!(
            is, expected,
            "{dir} {pte:#x} {flags:?} {log:#x}: {finding:#?}"
        );
    }
    // C's log has no flags.
    let stock = "  - map:3: 0x0000000100000000-0x0000000100004000\n";
    let finding = judged("WRITE", PAGE | 0x80, None, stock);
    assert_eq!((finding.sure, finding.whose), (certain, application));
    // Nor does `bos` make up what isn't there.
    let old = Make::default().text().replace("    flags: 0x0\n", "");
    let listed = stdout(&["bos"], &old, 0);
    assert!(listed.contains(" 16 KiB          -  "), "{listed}");
    assert!(stdout(&["json"], &old, 0).contains("\"flags\":null"));
}

#[test]
fn contexts_and_the_rest() {
    let ttbr0 = "0000000042000000";
    Make {
        ttbr0,
        ..Make::default()
    }
    .is(Verdict::WrongContext, Sure::Certain);
    let ttbr0 = "0000000000000000";
    Make {
        ttbr0,
        ..Make::default()
    }
    .is(Verdict::NoSubmit, Sure::Likely);
    Make {
        kind: "EXTERNAL",
        ..Make::default()
    }
    .is(Verdict::External, Sure::Likely);
    let hang = "---\nkernel: 7.3.4\nmodule: msm\nrevision: 0 (7.2.0.0)\nrbbm-status: 0x0\n";
    let dump = Parser::new(hang.as_bytes())
        .next_dump(&mut CheckData)
        .unwrap()
        .unwrap();
    assert_eq!(judge(&dump, &Contents::default()).verdict, Verdict::Hang);
}

fn everything(bytes: &[u8]) {
    let mut parser = Parser::new(bytes);
    while let Some(dump) = parser.next_dump(&mut CheckData).unwrap() {
        judge(&dump, &Contents::default());
        space::regions(&dump);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        everything(&bytes);
    }

    #[test]
    fn no_cut_or_changed_dump_panics(
        cut in 0usize..2048,
        changes in proptest::collection::vec((0usize..2048, any::<u8>()), 0..16),
    ) {
        let log = ours("  # submit queue=3 fence=7 sent=2 waits=1 ignored=0\n  \
                        - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 \
            name=\"x\"\n  \
                        - unmap:3: 0x0000000100001000-0x0000000100003000 asked=3 applied=4\n");
        let mut bytes = Make { log: Some(&log), ..Make::default() }.text().into_bytes();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        everything(&bytes);
    }
}

/// What is made of a text in which something can't be read.
fn judged(text: &str) -> Finding {
    let dump = Parser::new(text.as_bytes()).next_dump(&mut CheckData);
    judge(&dump.unwrap().unwrap(), &Contents::default())
}

/// An op that can't be read, or a part of whose line is lost, may be the one that explains the fault.
#[test]
fn an_unreadable_op_leaves_nothing_certain() {
    let map = "  - map:3: 0x0000000100000000-0x0000000100004000 asked=10 applied=20 job=1\n";
    let unmap = "  - unmap:3: 0x0000000100000000-0x0000000100004000 asked=30 applied=40 job=2\n";
    let log = |entries: &str| {
        let header = "  # format=1 now=9000 fault=5000 entries=2 lost=0\n";
        let log = format!("{header}{entries}");
        let make = Make {
            log: Some(&log),
            ..Make::default()
        };
        judged(&make.text())
    };
    let whole = log(&format!("{map}{unmap}"));
    assert_eq!(
        (whole.verdict, whole.sure),
        (Verdict::UsedAfterUnmap, Sure::Certain)
    );
    for bad in [
        unmap.replace("applied=40", "applied=4O"),
        unmap.replace(" applied=40", "\napplied=40"),
        String::new(),
    ] {
        let finding = log(&format!("{map}{bad}"));
        assert_ne!(finding.sure, Sure::Certain, "{bad:?}: {finding:#?}");
    }
    // A waiting one whose line was wrapped isn't one that was applied.
    let waits = map.replace(" applied=20", "\napplied=-");
    let finding = log(&waits);
    assert_ne!(finding.sure, Sure::Certain, "{finding:#?}");
}

/// Page tables of which nothing is known aren't empty ones.
#[test]
fn unreadable_tables_leave_nothing_certain() {
    let log = ours("  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 job=1\n");
    let make = Make {
        log: Some(&log),
        ptes: [0; 4],
        ..Make::default()
    };
    let text = make.text();
    assert_eq!(judged(&text).sure, Sure::Certain);
    let (before, after) = text.split_once("  - ptes: ").unwrap();
    let (ptes, after) = after.split_once('\n').unwrap();
    let wrapped = ptes.replacen(' ', "\n    ", 3).replacen("\n    ", " ", 2);
    for line in ["".to_owned(), format!("  - ptes: {wrapped}\n")] {
        let finding = judged(&format!("{before}{line}{after}"));
        assert_ne!(finding.sure, Sure::Certain, "{finding:#?}");
    }
}

/// What was asked for after the fault doesn't make a mapping late that was there before.
#[test]
fn mapped_before_and_again_after_the_fault() {
    let log = ours(
        "  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 job=1\n  \
         - replace:3: 0x0000000100000000-0x0000000100004000 asked=6000 applied=6100 job=2\n  \
         - map:3: 0x0000000100000000-0x0000000100004000 asked=6000 applied=6100 job=2\n",
    );
    let make = Make {
        log: Some(&log),
        ..Make::default()
    };
    let finding = judge(&make.dump(), &Contents::default());
    assert_ne!(finding.verdict, Verdict::BoundTooLate, "{finding:#?}");
}

/// What a dump doesn't say of a fault isn't 0.
#[test]
fn what_is_not_known_of_a_fault_is_not_zero() {
    let make = Make {
        iova: 0x40,
        ..Make::default()
    };
    let text = make.text();
    assert_eq!(judged(&text).verdict, Verdict::NullPointer);
    let (iova, zero) = ("  - iova=0000000000000040\n", "  - iova=0000000000000000\n");
    assert_eq!(
        judged(&text.replace(iova, zero)).verdict,
        Verdict::NullPointer
    );
    for line in ["", "  - iova=\n", "  - iova=0000000x00000040\n"] {
        let text = text.replace(iova, line);
        let finding = judged(&text);
        assert_eq!(finding.verdict, Verdict::Undetermined, "{line}{finding:#?}");
        assert!(finding
            .happened
            .contains("doesn't say at which address the GPU's read"));
        // Nothing is said of what is there, or isn't.
        let about = |what: &str| finding.evidence.iter().any(|e| e.text.starts_with(what));
        assert!(
            about("tables: no entry at level 3") && !about("BO list"),
            "{finding:#?}"
        );
        let explained = stdout(&["explain"], &text, 1);
        assert!(
            explained.contains("page fault, read of an unknown address by CP"),
            "{explained}"
        );
        let json: serde_json::Value = serde_json::from_str(&stdout(&["json"], &text, 0)).unwrap();
        assert!(json["dump"]["fault"]["iova"].is_null());
        let map = run(&["map"], &text);
        assert_eq!(map.status.code(), Some(2));
        let stderr = String::from_utf8(map.stderr).unwrap();
        assert!(
            stderr.contains("doesn't say where the page fault was"),
            "{stderr}"
        );
        stdout(&["report", "-", "--html", "-"], &text, 1);
        // What needs no address is said without.
        let text = text.replace("type=TRANSLATION", "type=EXTERNAL");
        let finding = judged(&text);
        assert_eq!(finding.verdict, Verdict::External);
        let happened = "The GPU's read at an unknown address was refused by the memory system.";
        assert_eq!(finding.happened, happened);
    }
    // Tables that aren't known are neither none nor another context's.
    let ours = "0000000041000000\n";
    for key in ["ttbr0=", "ttbr0: "] {
        let line = format!("  - {key}{ours}");
        assert!(text.contains(&line));
        for other in [String::new(), format!("  - {key}x{ours}")] {
            let finding = judged(&text.replace(&line, &other));
            assert_eq!(finding.verdict, Verdict::NullPointer, "{other}{finding:#?}");
        }
    }
}
