// SPDX-License-Identifier: GPL-2.0-only
//! One hand-made dump for each verdict, in the form that the kernel prints, and what the library
//! makes of it; and that no input, whole or cut anywhere, makes it panic.

mod common;

use common::make::{
    Make,
    HOLE,
    OURS,
    PAGE, //
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
    let unsettled = |finding: &Finding| {
        let mut evidence = finding.evidence.iter();
        evidence.any(|evidence| evidence.text.contains("drm_sched_job_add_dep"))
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
        let log = ours("  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 \
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
