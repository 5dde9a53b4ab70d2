// SPDX-License-Identifier: GPL-2.0-only

//! Which earlier jobs a job waits for.

use kernel::prelude::*;

use crate::{
    ffi::jobs::Pending,
    gpuvm_rs::small_vec::SmallVec,
    vm::{
        job::BindJob,
        state::{
            PendingJobs,
            Ranges, //
        },
    },
};

/// Lets `job`, whose fences are on the timeline `mine`, run after every job of the VM that changes
/// one of its `ranges` and may not have run yet.
///
/// The jobs of a queue run in its order, and end in it, also when they are cancelled. So of each
/// other queue the newest of those jobs is enough to wait for, and of the job's own none: what is
/// older on that queue has ended by then. A job has as many dependencies as there are other queues
/// at most.
///
/// The list is read once, from its end. The throttle keeps it, and the sum of its ranges, short
/// enough to do that with locks held.
///
/// Returns whether one of those that it comes after waits for a fence, or comes itself after such a
/// job.
///
/// # Errors
///
/// `ENOMEM`. The job may wait for some of them then.
pub(super) fn after_earlier(
    mine: u64,
    job: &mut Pending<'_, BindJob>,
    pending: &mut PendingJobs,
    ranges: &mut Ranges,
) -> Result<bool> {
    let mut waits = false;
    // The timelines of the queues that are done with, sorted.
    let mut done = SmallVec::<u64, 4>::new();
    for earlier in pending.jobs.iter_mut().rev() {
        if earlier.timeline == mine {
            waits = waits || earlier.still_waits();
            continue;
        }
        let Err(place) = done.binary_search(&earlier.timeline) else {
            continue;
        };
        if earlier.ranges.overlap(ranges) {
            // If one of that queue does that is older, so does this one.
            waits = waits || earlier.still_waits();
            job.add_dependency(earlier.fence.clone())?;
            done.push(earlier.timeline, GFP_KERNEL)?;
            if let Some(behind) = done.get_mut(place..) {
                behind.rotate_right(1);
            }
        }
    }
    Ok(waits)
}
