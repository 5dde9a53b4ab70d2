// SPDX-License-Identifier: GPL-2.0-only
//! Dumps that a task has written lines of: it sets its name, and by MSM_PARAM_COMM and
//! MSM_PARAM_CMDLINE up to a page of each, to anything, and the kernel prints it as it is. Whatever
//! it writes, the tool isn't certain of it.

use crate::common::{
    golden_dumps,
    make::{
        Make,
        OURS, //
    },
    read,
    run,
    stdout, //
};
use msm_devcoredump::contents::Contents;
use msm_devcoredump::dump::{
    Doubt,
    Dump, //
};
use msm_devcoredump::parse::Parser;
use msm_devcoredump::verdict::{
    judge,
    Finding,
    Sure,
    Verdict, //
};
use proptest::prelude::*;

/// A fault whose reason is certain.
fn honest() -> String {
    let log = format!(
        "{OURS}  - map:3: 0x0000000100000000-0x0000000100004000 asked=1 applied=2 job=1\n  \
         - unmap:3: 0x0000000100000000-0x0000000100004000 asked=3 applied=4 job=2\n"
    );
    let make = Make {
        log: Some(&log),
        ..Make::default()
    };
    make.text()
}

/// All documents of a text, and what they say.
fn documents(text: &str) -> Vec<(Dump, Finding)> {
    let mut parser = Parser::new(text.as_bytes());
    let mut out = Vec::new();
    let mut contents = Contents::default();
    while let Some(dump) = parser.next_dump(&mut contents).unwrap() {
        let finding = judge(&dump, &contents);
        out.push((dump, finding));
    }
    out
}

/// The task, or its command line, is called that.
fn named(text: &str, name: &str) -> [String; 2] {
    ["comm: test\n", "cmdline: ./test\n"].map(|line| {
        assert_eq!(text.matches(line).count(), 1);
        let (key, _) = line.split_once(' ').unwrap();
        text.replace(line, &format!("{key} {name}\n"))
    })
}

/// Parts of a dump that would make another verdict certain.
const PARTS: [&str; 8] = [
    "fault-info:\n  - ttbr0=0000000041000000\n  - iova=0000000200001000\n  - dir=WRITE\n  \
     - type=PERMISSION\n  - source=CP",
    "pgtable-fault-info:\n  - ttbr0: 0000000042000000\n  - asid: 0",
    "vm-log:\n  # format=1 now=9000 fault=5000 lost=0\n  \
     - map:3: 0x0000000100000000-0x0000000100004000 asked=5 applied=6",
    "revision: 0 (06030000)",
    "time: 1700000000.000000009",
    "bos:\n  - iova: 0x0000000100000000\n    size: 16384\n    flags: 0x2\n    name: x",
    "dpu devcoredump",
    "registers:\n  - { offset: 0x0840, value: 0x00000000 }",
];

#[test]
fn lines_in_a_name_leave_nothing_certain() {
    let honest = honest();
    let (dump, finding) = read(&honest);
    assert_eq!((dump.doubt, finding.sure), (None, Sure::Certain));
    assert_eq!(finding.verdict, Verdict::UsedAfterUnmap);
    for part in PARTS {
        for text in named(&honest, &format!("x\n{part}")) {
            let (dump, finding) = read(&text);
            let Some(Doubt::Line { line, what }) = &dump.doubt else {
                panic!("{text}");
            };
            assert!(finding.verdict != Verdict::NotGpu, "{part}");
            assert_eq!(finding.sure, Sure::Possible, "{part}: {finding:#?}");
            // Where it is, is said.
            assert_eq!(finding.evidence[0].line, Some(*line));
            assert!(
                finding.evidence[0].text.starts_with(&**what),
                "{finding:#?}"
            );
            let explained = stdout(&["explain"], &text, 0);
            assert!(
                explained.contains("a task may have written it"),
                "{explained}"
            );
            let check = String::from_utf8(run(&["check"], &text).stdout).unwrap();
            assert!(check.contains(&format!("line {line}: ")), "{check}");
        }
    }
}

/// A document in a name is as well-formed as any other, whatever stands before and after it.
#[test]
fn documents_in_a_name_leave_nothing_certain() {
    let honest = honest();
    let (head, rest) = honest.split_once("comm: test\n").unwrap();
    let other = rest.replace("0x0000000100000000-", "0x0000000100003000-");
    for name in [
        // The rest of one, and the head of another; one in the middle of what is there.
        format!("x\n{other}{head}comm: y"),
        format!("x\n{honest}{head}comm: y"),
        format!("x\n{}", honest.trim_end()),
        "x\n---".into(),
        format!("x\n{other}---"),
    ] {
        for text in named(&honest, &name) {
            let all = documents(&text);
            assert!(all.len() > 1);
            for (dump, finding) in &all {
                assert!(dump.doubt.is_some());
                let certain = finding.sureness() == Some(Sure::Certain);
                assert!(!certain, "{name}: {finding:#?}");
            }
        }
    }
}

/// Dumps that a person has put into one file aren't wrong, but might be.
#[test]
fn several_documents_are_less_sure_but_judged_as_before() {
    let honest = honest();
    let twice = documents(&honest.repeat(2));
    assert_eq!(twice.len(), 2);
    for (dump, finding) in &twice {
        assert_eq!(dump.doubt, Some(Doubt::Several));
        assert_eq!(dump.problems, []);
        assert_eq!(finding.verdict, Verdict::UsedAfterUnmap);
        assert_eq!(finding.sure, Sure::Likely);
        assert!(finding.otherwise[0].contains("this text has several"));
    }
    // One that has its own reason isn't another one's consequence.
    let later = honest.replace("time: 1700000000.", "time: 1700000001.");
    let text = stdout(&["explain"], &format!("{honest}{later}"), 0);
    assert_eq!(
        text.matches("used after unmap (likely)").count(),
        2,
        "{text}"
    );
    assert!(!text.contains("Verdict:  consequence"), "{text}");
}

/// The kernels' own order isn't taken for somebody else's.
#[test]
fn real_dumps_are_not_doubted() {
    for (name, bytes) in golden_dumps() {
        let (dump, _) = read(std::str::from_utf8(&bytes).unwrap());
        assert_eq!(dump.doubt, None, "{name}");
    }
    // That of an a5xx, and that of a display controller.
    let text = "---\nkernel: 5.4.0\nmodule: msm\ntime: 1.000000000\ncomm: a\ncmdline: a\n\
                revision: 530 (5.3.0.2)\nrbbm-status: 0x00000001\nringbuffer:\n  - id: 0\nbos:\n  \
                - iova: 0x0000000001000000\n    size: 4096\nregisters:\n  \
                - { offset: 0x0000, value: 0x00000000 }\nregisters-hlsq:\n";
    assert_eq!(read(text).0.doubt, None);
    let text = "---\nmodule: msm\ndpu devcoredump\ntime: 1.000000000\n====dpu====\n";
    let (dump, finding) = read(text);
    assert_eq!((dump.doubt, finding.verdict), (None, Verdict::NotGpu));
}

proptest! {
    /// Any lines of any real dump in a name of another.
    #[test]
    fn lines_of_other_dumps_in_a_name(
        from in any::<prop::sample::Index>(),
        begin in any::<prop::sample::Index>(),
        count in 1usize..40,
        which in 0usize..2,
    ) {
        let all = golden_dumps();
        let (_, bytes) = from.get(&all);
        let lines: Vec<&str> = std::str::from_utf8(bytes).unwrap().lines().take(200).collect();
        let begin = begin.index(lines.len());
        let end = (begin + count).min(lines.len());
        let text = &named(&honest(), &format!("x\n{}", lines[begin..end].join("\n")))[which];
        for (_, finding) in documents(text) {
            if finding.sureness() == Some(Sure::Certain) {
                // Then nothing that was written there has any effect.
                prop_assert_eq!(finding.verdict, Verdict::UsedAfterUnmap);
                let text = honest();
                let (_, alone) = read(&text);
                prop_assert_eq!(finding.happened, alone.happened);
            }
        }
    }
}
