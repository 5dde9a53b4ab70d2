// SPDX-License-Identifier: GPL-2.0-only

//! What debugfs shows of BOs. Programs parse it: the words are C's.

use kernel::prelude::*;

use crate::ffi::{
    bo::{
        Bo,
        Madv, //
    },
    mappings,
    seq::{
        Seq,
        Stats, //
    },
};

/// Describes a BO and counts it, unless it is locked: whoever reads a list never waits for a BO.
pub(crate) fn describe(bo: &Bo, out: &Seq, stats: &mut Stats) {
    let Some(bo) = bo.try_lock() else {
        return;
    };
    let size = bo.gem().size();
    let active = bo.is_pinned() || mappings::busy(&bo).is_some();
    stats.all.add(size);
    if active {
        stats.active.add(size);
    }
    if bo.is_backed() {
        stats.resident.add(size);
    }
    let madv = match bo.madv() {
        Madv::WillNeed => c"",
        Madv::DontNeed => {
            stats.purgeable.add(size);
            c" purgeable"
        }
        Madv::Purged => {
            stats.purged.add(size);
            c" purged"
        }
    };
    out.bo(&bo, active, madv);
    if bo.obj().is_mapped() {
        out.print(fmt!("      vmas:"));
        out.vmas(&bo);
        out.print(fmt!("\n"));
    }
    out.fences(&bo);
}

/// What stands above a list.
pub(crate) fn header(out: &Seq) {
    out.print(fmt!(
        "   flags       id ref  offset   kaddr            size     madv      name\n"
    ));
}

/// What stands below a list.
pub(crate) fn summary(out: &Seq, stats: &Stats) {
    let lines = [
        ("Total:", &stats.all),
        ("Active:", &stats.active),
        ("Resident:", &stats.resident),
        ("Purgeable:", &stats.purgeable),
        ("Purged:", &stats.purged),
    ];
    for (title, sum) in lines {
        out.print(fmt!(
            "{title:<10} {:4} objects, {:9} bytes\n",
            sum.count(),
            sum.bytes()
        ));
    }
}
