// SPDX-License-Identifier: GPL-2.0-only

//! The bind jobs as the scheduler knows them.

use kernel::workqueue;

use super::wq;
use crate::{
    bind::job::BindJob,
    gpuvm_rs::sched::{
        Backend,
        Finished, //
    },
};

/// The jobs of VM_BIND VMs.
pub(crate) struct Jobs;

// SAFETY: A job holds a reference to its VM, in which the scheduler is, and until it ran or was cancelled its work holds
// one to the queue, in which the entity is.
unsafe impl Backend for Jobs {
    type Job = BindJob;

    fn run(job: &mut BindJob) {
        job.run();
    }

    fn abandon(job: &mut BindJob) {
        job.abandon();
    }

    fn finished() -> &'static Finished<Self> {
        static FINISHED: Finished<Jobs> = Finished::new();
        &FINISHED
    }

    fn reaper() -> &'static workqueue::Queue {
        wq::reaper()
    }
}
