// SPDX-License-Identifier: GPL-2.0-only
//! All that the library does with a kernel log. It mustn't panic, and these hold:
//!
//! - how a stream is cut into reads makes no difference;
//! - each fault is counted once, and ranges of addresses lie apart;
//! - what is printed of it doesn't steer a terminal, and is short.

#![no_main]

mod trickle;

use libfuzzer_sys::fuzz_target;
use msm_devcoredump::{
    klog::{is_log, Faults, KernelLog},
    verdict::judge_log,
};
use trickle::Trickle;

fn counted(faults: &Faults) {
    let ranges: Vec<_> = faults.ranges().collect();
    let inside: u64 = ranges.iter().map(|(_, count)| count).sum();
    assert_eq!(inside + faults.elsewhere, faults.span.count);
    let by: u64 = faults.sources.iter().map(|(_, count)| count).sum();
    assert_eq!(by + faults.other_sources, faults.span.count);
    assert!(ranges.iter().all(|(range, _)| range.start <= range.end));
    let apart = |pair: &[(std::ops::Range<u64>, u64)]| pair[0].0.end < pair[1].0.start;
    assert!(ranges.windows(2).all(apart), "{ranges:?}");
}

fuzz_target!(|bytes: &[u8]| {
    is_log(bytes);
    let log = KernelLog::read(bytes).expect("memory doesn't fail");
    assert_eq!(log, KernelLog::read(Trickle(bytes)).expect("nor here"));
    counted(&log.faults);
    counted(&log.plain);
    log.smmus.values().for_each(counted);
    serde_json::to_string(&log).expect("it is JSON");
    let finding = judge_log(&log);
    assert!(finding.evidence.len() < 2000, "{finding:?}");
    let texts = [&finding.happened, &finding.next];
    let texts = texts.into_iter().chain(&finding.otherwise);
    for text in texts.chain(finding.evidence.iter().map(|e| &e.text)) {
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.len() < 2000, "{text}");
    }
});
