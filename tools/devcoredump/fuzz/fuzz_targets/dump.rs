// SPDX-License-Identifier: GPL-2.0-only
//! All that the library does with a dump. It mustn't panic, and these hold:
//!
//! - how a stream is cut into reads makes no difference;
//! - a VM log entry printed again is the same entry, and so is the submit;
//! - rows of a map follow each other without gaps.

#![no_main]

mod trickle;

use libfuzzer_sys::fuzz_target;
use msm_devcoredump::{
    contents::Contents,
    dump::Dump,
    map::Map,
    parse::{CheckData, Parser, SkipData},
    space::regions,
    verdict::judge,
    vm_log::{Entry, Op, Submit},
};
use std::io::Read;
use trickle::Trickle;

fn read(from: impl Read) -> Vec<Dump> {
    let mut parser = Parser::new(from);
    let mut dumps = Vec::new();
    while let Some(dump) = parser
        .next_dump(&mut CheckData)
        .expect("memory doesn't fail")
    {
        dumps.push(dump);
    }
    dumps
}

fn look(dump: &Dump, contents: &Contents) {
    let finding = judge(dump, contents);
    serde_json::to_string(&(dump, &finding, regions(dump))).expect("it is JSON");
    let log = dump.vm_log.iter().flat_map(|log| &log.entries);
    for entry in log.clone().filter(|entry| entry.op != Op::Other) {
        let again = Entry::parse(entry.line, &entry.to_string()).expect("it was an entry");
        assert_eq!(*entry, again);
    }
    if let Some(submit) = dump.vm_log.as_ref().and_then(|log| log.submit.as_ref()) {
        let again = Submit::parse(submit.line, &submit.to_string()).expect("it was a submit");
        assert_eq!(again.as_ref(), Some(submit));
    }
    let centres = log.map(|entry| entry.start).take(4);
    let fault = dump.fault.as_ref().and_then(|fault| fault.address());
    for centre in centres.chain(fault).chain([0, u64::MAX]) {
        for reach in [0, 3] {
            let map = Map::around(dump, centre, reach);
            let gap = |pair: &[msm_devcoredump::map::Row]| pair[0].range.end != pair[1].range.start;
            assert!(!map.rows.windows(2).any(gap), "{map:?}");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let dumps = read(bytes);
    assert_eq!(dumps, read(Trickle(bytes)));
    dumps
        .iter()
        .for_each(|dump| look(dump, &Contents::default()));
    let mut parser = Parser::new(bytes);
    while let Ok(Some(dump)) = parser.next_dump(&mut SkipData) {
        look(&dump, &Contents::default());
    }
    // With the command streams.
    let mut parser = Parser::new(bytes);
    let mut contents = Contents::default();
    while let Ok(Some(dump)) = parser.next_dump(&mut contents) {
        look(&dump, &contents);
    }
});
