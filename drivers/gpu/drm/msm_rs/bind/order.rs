// SPDX-License-Identifier: GPL-2.0-only

//! Which earlier jobs a request comes after, and so when its turn is.

use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

use crate::{
    gpuvm_rs::{
        fence::Fence,
        small_vec::SmallVec, //
    },
    vm::state::{
        PendingJobs,
        Ranges, //
    },
};

/// When a request changes the page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// In the ioctl.
    Now,
    /// In a job, as soon as a worker has time.
    Soon,
    /// In a job that waits for a fence, or comes after one that does.
    Later,
}

/// Says when the turn of a request is that is for the queue with the timeline `mine` and changes
/// `ranges`, as far as earlier jobs go.
///
/// It comes after those on its own queue that haven't ended, and after every job of the VM that
/// changes one of its iovas and hasn't ended. The jobs of a queue run in its order, and end in it,
/// also when they are cancelled. So of each other queue the newest of those jobs is enough to wait
/// for, and of its own none, if there is a job: what is older on that queue has ended by then.
/// `after` is called with the fences of the former: as many as there are other queues at most.
///
/// The list is read once, from its end. The throttle keeps it, and the sum of its ranges, short
/// enough to do that with locks held. What a request may rely on it knows with the VM locked:
/// otherwise others may come before it.
///
/// # Errors
///
/// `ENOMEM`, and those of `after`.
pub(super) fn turn(
    mine: u64,
    pending: &mut PendingJobs,
    ranges: &mut Ranges,
    mut after: impl FnMut(&ARef<Fence>) -> Result,
) -> Result<Turn> {
    let mut turn = Turn::Now;
    // The timelines of the queues that are done with, sorted.
    let mut done = SmallVec::<u64, 4>::new();
    for earlier in pending.jobs.iter_mut().rev() {
        let behind_it = if earlier.waits {
            Turn::Later
        } else {
            Turn::Soon
        };
        if earlier.timeline == mine {
            if turn < behind_it && !earlier.has_ended() {
                turn = behind_it;
            }
            continue;
        }
        let Err(place) = done.binary_search(&earlier.timeline) else {
            continue;
        };
        if earlier.ranges.overlap(ranges) {
            // If this one has ended, so have the older ones of that queue; if one of them waits, so
            // does this one.
            if !earlier.has_ended() {
                turn = turn.max(behind_it);
                after(&earlier.fence)?;
            }
            done.push(earlier.timeline, GFP_KERNEL)?;
            if let Some(behind) = done.get_mut(place..) {
                behind.rotate_right(1);
            }
        }
    }
    Ok(turn)
}
