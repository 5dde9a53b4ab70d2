// SPDX-License-Identifier: GPL-2.0-only
//! Real dumps (tests/golden) that end too early, as those do that a collector saved on a full disk
//! or a person pasted. What is missing may make a verdict less sure, but not another one.

use crate::common::{
    golden_dumps,
    read,
    DUMP, //
};
use msm_devcoredump::verdict::{
    Finding,
    Verdict, //
};

/// Name and text of each golden dump.
fn originals() -> Vec<(String, String)> {
    let all = golden_dumps().into_iter();
    all.map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap()))
        .collect()
}

fn finding(text: &str) -> Finding {
    read(text).1
}

/// Where a dump is cut: behind each line and in the midst of it, up to the list of registers, of
/// which there are many alike. Data lines are long, and cut in several places.
fn cuts(text: &str) -> Vec<usize> {
    let end = text.find("\nregisters:\n").unwrap() + 12;
    let mut at = 0;
    let mut cuts = Vec::new();
    for line in text[..end].split_inclusive('\n') {
        cuts.extend([1, 2, 3].map(|n| at + line.len() * n / 4));
        at += line.len();
        cuts.push(at);
    }
    // Before that line it isn't known whose dump it is.
    cuts.retain(|&cut| text.is_char_boundary(cut) && text[..cut].contains("module: msm\n"));
    cuts
}

#[test]
fn a_part_says_nothing_else_than_the_whole() {
    for (name, text) in originals() {
        let whole = finding(&text);
        let fault = text.contains("\nfault-info:\n");
        for cut in cuts(&text) {
            let part = finding(&text[..cut]);
            let what = || format!("{name}, {cut} bytes: {part:#?}");
            let same = part.verdict == whole.verdict;
            let silent = match part.verdict {
                Verdict::Undetermined => true,
                // What tells why it hung comes last.
                Verdict::Hang => !fault && text[..cut].contains("\nrbbm-status:"),
                _ => false,
            };
            assert!(same || silent, "{}", what());
            // What is missing makes nothing surer.
            assert!(!same || part.sure as u8 >= whole.sure as u8, "{}", what());
            assert!(!part.next.is_empty(), "{}", what());
        }
    }
}

/// The access alone says enough of these.
#[test]
fn a_part_says_what_it_can() {
    let all = originals();
    for (name, verdict) in [
        ("rust/external", Verdict::External),
        ("rust/privileged", Verdict::Privileged),
        ("stock/used_after_unmap", Verdict::Undetermined),
    ] {
        let (_, text) = all.iter().find(|(n, _)| n == name).unwrap();
        let within = text.find("\n  - source=").unwrap();
        assert_eq!(finding(&text[..within]).verdict, Verdict::Undetermined);
        let part = finding(&text[..text.find("\nvm-log:").unwrap() + 1]);
        assert_eq!(part.verdict, verdict, "{part:#?}");
        let happened = match verdict {
            Verdict::Undetermined => {
                assert!(part.otherwise[0].contains("as far as the dump goes"));
                "the dump ends before"
            }
            _ => "The GPU's",
        };
        assert!(part.happened.contains(happened), "{part:#?}");
    }
}

#[test]
fn where_it_ends_is_said_in_words() {
    for (end, place) in [
        ("urce=CP\n", "in the middle of a line"),
        ("!!!\"\n", "in a block of data"),
        (
            "  - map:3: 0x0000000100010000",
            "in the VM log, which has fewer entries than it announces",
        ),
    ] {
        let (text, _) = DUMP.split_once(end).unwrap();
        let (dump, finding) = read(text);
        let problem = dump.problems.last().unwrap();
        assert_eq!(&*problem.what, &format!("cut {place}"));
        let words = format!("the dump is cut {place}; what follows is missing");
        let mut evidence = finding.evidence.iter();
        assert!(evidence.any(|e| e.text == words), "{finding:#?}");
    }
}

/// Half a number is another number, half a name another name.
#[test]
fn a_line_that_is_cut_says_nothing() {
    let upto = |text: &str| {
        let (before, _) = DUMP.split_once(text).unwrap();
        read(&format!("{before}{text}")).0
    };
    assert_eq!(upto("  - iova=0000000100").fault.unwrap().iova, None);
    assert_eq!(upto("\ncomm: te").comm, None);
    let vm_log = upto("name=\"below\"").vm_log.unwrap();
    assert!(vm_log.header.is_some() && vm_log.entries.is_empty());
    let bos = upto("    size: 16").bos;
    assert_eq!((bos.len(), bos[0].size), (1, 0));
}
