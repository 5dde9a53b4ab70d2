// SPDX-License-Identifier: GPL-2.0-only
//! Real dumps (tests/golden), cut and changed at random: nothing panics, and what a cut leaves is
//! judged as before.

use crate::common::golden_dumps;
use msm_devcoredump::contents::Contents;
use msm_devcoredump::dump::Dump;
use msm_devcoredump::map::Map;
use msm_devcoredump::parse::{
    CheckData,
    Parser, //
};
use msm_devcoredump::space::regions;
use msm_devcoredump::verdict::{
    judge,
    Verdict, //
};
use proptest::prelude::*;
use proptest::sample::{
    select,
    Index, //
};
use std::io::{
    self,
    Read, //
};
use std::sync::OnceLock;

fn originals() -> &'static [Vec<u8>] {
    static ORIGINALS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ORIGINALS.get_or_init(|| {
        let all = golden_dumps().into_iter();
        all.map(|(_, bytes)| bytes).collect()
    })
}

fn read(bytes: impl Read) -> Vec<Dump> {
    let mut parser = Parser::new(bytes);
    let mut dumps = Vec::new();
    while let Some(dump) = parser.next_dump(&mut CheckData).unwrap() {
        dumps.push(dump);
    }
    dumps
}

/// Gives `at_once` bytes at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    at_once: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.at_once.min(self.bytes.len()).min(buffer.len());
        let (now, later) = self.bytes.split_at(n);
        buffer[..n].copy_from_slice(now);
        self.bytes = later;
        Ok(n)
    }
}

fn everything(bytes: &[u8]) {
    for dump in read(bytes) {
        let fault = dump.fault.as_ref().and_then(|fault| fault.address());
        let centre = fault.unwrap_or(0);
        let _ = (
            judge(&dump, &Contents::default()),
            regions(&dump),
            Map::around(&dump, centre, 4),
        );
    }
}

fn dump() -> impl Strategy<Value = &'static Vec<u8>> {
    select(originals().iter().collect::<Vec<_>>())
}

/// Where the line begins that follows the BO list.
fn after_bos(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let bos = text.find("\nbos:\n")? + 6;
    let mut at = bos;
    for line in text[bos..].split_inclusive('\n') {
        if !line.starts_with(' ') {
            return Some(at);
        }
        at += line.len();
    }
    None
}

proptest! {
    #[test]
    fn changed_bytes(
        original in dump(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..64),
    ) {
        let mut bytes = original.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        everything(&bytes);
    }

    #[test]
    fn lines_in_disorder(
        original in dump(),
        moves in prop::collection::vec((any::<Index>(), any::<Index>()), 1..32),
    ) {
        let mut lines: Vec<&[u8]> = original.split_inclusive(|&byte| byte == b'\n').collect();
        for (from, to) in moves {
            let line = lines[from.index(lines.len())];
            let to = to.index(lines.len());
            lines.insert(to, line);
        }
        everything(&lines.concat());
    }

    /// Numbers that no kernel prints.
    #[test]
    fn huge_numbers(original in dump(), which in any::<Index>(), value in select(vec![
        "0", "-1", "18446744073709551615", "18446744073709551616", "9223372036854775808",
        "ffffffffffffffff", "",
    ])) {
        let text = String::from_utf8_lossy(original).into_owned();
        let starts: Vec<usize> = text
            .match_indices(|c: char| c.is_ascii_digit())
            .map(|(at, _)| at)
            .filter(|&at| at > 0 && !text.as_bytes()[at - 1].is_ascii_alphanumeric())
            .collect();
        let start = starts[which.index(starts.len())];
        let end = text[start..]
            .find(|c: char| !c.is_ascii_alphanumeric())
            .map_or(text.len(), |n| start + n);
        everything(format!("{}{value}{}", &text[..start], &text[end..]).as_bytes());
    }

    /// How a stream is cut into reads makes no difference, whatever the lines end with.
    #[test]
    fn pieces(
        original in dump(),
        returns in prop::collection::vec(any::<Index>(), 0..8),
        at_once in 1usize..9,
    ) {
        let mut bytes = original[..original.len().min(20_000)].to_vec();
        for at in returns {
            let at = at.index(bytes.len());
            bytes[at] = b'\r';
        }
        prop_assert_eq!(read(&bytes[..]), read(Pieces { bytes: &bytes, at_once }));
    }

    #[test]
    fn cut_anywhere(original in dump(), cut in any::<Index>()) {
        everything(&original[..cut.index(original.len())]);
    }

    /// What bears on a fault is over with the BO list; a dump that is cut behind it is judged like
    /// the whole. Hangs are judged by registers: without them the cut dump may say less, but nothing
    /// else.
    #[test]
    fn a_cut_behind_the_evidence_changes_nothing(original in dump(), cut in any::<Index>()) {
        let Some(enough) = after_bos(original) else {
            return Ok(());
        };
        let cut = enough + cut.index(original.len() - enough + 1);
        let (whole, part) = (read(&original[..]), read(&original[..cut]));
        let fault = whole[0].fault.is_some();
        let alone = |dump: &Dump| judge(dump, &Contents::default());
        let (whole, part) = (alone(&whole[0]), alone(&part[0]));
        if fault || part.verdict != Verdict::Hang {
            prop_assert_eq!((whole.verdict, whole.sure), (part.verdict, part.sure));
        }
    }
}

/// A carriage return ends a line only at its end.
#[test]
fn carriage_returns_in_data() {
    let text = b"bos:\n  - iova: 0x1000\n    size: 8\n    data: !!ascii85 |\n     z\rz\n";
    let whole = read(&text[..]);
    for at_once in 1..text.len() {
        assert_eq!(
            whole,
            read(Pieces {
                bytes: text,
                at_once
            })
        );
    }
    assert!(!whole[0].problems.is_empty());
}
