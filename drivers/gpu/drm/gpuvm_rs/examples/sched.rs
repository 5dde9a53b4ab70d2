// SPDX-License-Identifier: GPL-2.0-only

use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    workqueue::{
        self,
        Queue, //
    },
};

use super::counter::Counter;
use crate::gpuvm_rs::{
    fence::Fence,
    sched::{
        Backend,
        Finished,
        PendingJob, //
    },
};

/// The jobs of a [`Counter`], which is a scheduler, an entity, and a number.
pub(super) struct Counting;

// SAFETY: A job has a reference to the scheduler and the entity, to its end.
unsafe impl Backend for Counting {
    type Job = Arc<Counter>;

    fn run(job: &mut Arc<Counter>) {
        job.count_one();
    }

    fn abandon(_job: &mut Arc<Counter>) {}

    fn finished() -> &'static Finished<Self> {
        static FINISHED: Finished<Counting> = Finished::new();
        &FINISHED
    }

    // Not that of the scheduler, which dropping the last job ends.
    fn reaper() -> &'static Queue {
        workqueue::system()
    }
}

/// Counts once `after` has signalled; what is returned signals then.
pub(super) fn count_after(counter: &Arc<Counter>, after: ARef<Fence>) -> Result<ARef<Fence>> {
    // SAFETY: The counter's entity and scheduler are initialised, for this kind of job, which keeps
    // both.
    let job = unsafe { PendingJob::<Counting>::new(counter.entity(), 0, counter.clone()) };
    let mut job = job?;
    job.add_dependency(after)?;

    // Nothing below can fail: others may wait for a fence of an armed job.
    let armed = job.arm();
    let fence = armed.finished();
    armed.push();
    Ok(fence)
}
