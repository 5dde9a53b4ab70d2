// SPDX-License-Identifier: GPL-2.0-only
//! Dumps without a page fault.

use super::{
    Evidence,
    Finding,
    Sure,
    Verdict,
    Whose, //
};
use crate::dump::{
    Dump,
    Kind, //
};

pub(super) fn judge(dump: &Dump) -> Finding {
    match dump.kind {
        Kind::Gpu => {}
        Kind::Display => {
            let what = "A display controller's register snapshot: there is no GPU fault in it.";
            return Finding::new(Verdict::NotGpu, Sure::Certain, Whose::Unclear, what)
                .next("Look at the msm display driver's errors in the kernel log.");
        }
        Kind::Unknown => {
            let what =
                "This isn't a dump that drm/msm writes for a GPU, or its beginning is missing.";
            return Finding::new(Verdict::NotGpu, Sure::Likely, Whose::Unclear, what)
                .next("Look at which module made it.");
        }
    }
    let mut stuck = None;
    let mut evidence = Vec::new();
    for ring in &dump.rings {
        let behind = (ring.last_fence as u32).wrapping_sub(ring.retired_fence as u32);
        if behind != 0 {
            stuck.get_or_insert(ring.id);
        }
        evidence.push(Evidence {
            line: None,
            text: format!(
                "ring {}: fence {} of {} done, rptr {} of wptr {}",
                ring.id, ring.retired_fence, ring.last_fence, ring.rptr, ring.wptr
            ),
        });
    }
    let happened = match stuck {
        Some(id) => format!(
            "The GPU made no progress on ring {id}; the SMMU reported no page fault for it."
        ),
        None => "The GPU was taken for hung; the SMMU reported no page fault.".into(),
    };
    let mut finding = Finding::new(Verdict::Hang, Sure::Certain, Whose::Unclear, happened)
        .next("Decode the commands around rptr with Mesa's crashdec.");
    if let Some(status) = dump.rbbm_status {
        evidence.push(Evidence {
            line: None,
            text: format!("rbbm-status {status:#010x}"),
        });
    }
    finding.evidence = evidence;
    finding
}
