// SPDX-License-Identifier: GPL-2.0-only

//! The state of a VM_BIND VM, beside its address space: the jobs that may not have run yet.

use kernel::{
    alloc::KVVec,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex,
        MutexGuard, //
    },
};

use super::job::{
    Done,
    Outcome,
    Slot,
    Work, //
};
use crate::{
    address_space::LoggedTables,
    ffi::vm::Bind,
    gpuvm_rs::{
        fence::Fence,
        range::VaRange,
        small_vec::SmallVec,
        vm::VmLocked, //
    },
    pure::ranges, //
};

/// What Rust keeps of a VM_BIND VM.
#[pin_data]
pub(crate) struct BindState {
    /// The jobs that may not have run yet, in the order in which the ioctls changed the VMA tree.
    #[pin]
    pub(crate) pending: Mutex<PendingJobs>,
}

impl BindState {
    /// The state of a new VM.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pending <- new_mutex!(
                PendingJobs {
                    jobs: KVVec::new(),
                    prune_at: 0,
                    seqno: 0,
                    stuck: None,
                },
                "msm_rs::pending"
            ),
        })
    }
}

/// The iovas that a job changes. Sorted when that is first needed.
pub(crate) struct Ranges {
    /// One per op; sorted and disjoint if `sorted`.
    list: SmallVec<VaRange, 1>,
    sorted: bool,
    /// What holds all of them; `None` if there are none.
    hull: Option<VaRange>,
}

impl Ranges {
    /// The iovas of some ops.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(ops: impl ExactSizeIterator<Item = VaRange>) -> Result<Self> {
        let flags = GFP_KERNEL | __GFP_NOWARN;
        let mut list = SmallVec::with_capacity(ops.len(), flags)?;
        let mut hull: Option<VaRange> = None;
        for range in ops {
            list.push(range, flags)?;
            hull = Some(hull.map_or(range, |hull| hull.join(&range)));
        }
        Ok(Self {
            list,
            sorted: false,
            hull,
        })
    }

    /// Whether the two have an iova in common.
    pub(crate) fn overlap(&mut self, other: &mut Self) -> bool {
        match (self.hull, other.hull) {
            (Some(mine), Some(others)) if mine.overlaps(&others) => {
                ranges::overlap(self.sort(), other.sort())
            }
            _ => false,
        }
    }

    /// The same iovas as a set, see [`ranges`].
    pub(crate) fn sort(&mut self) -> &[VaRange] {
        if !self.sorted {
            let len = ranges::sort_merge(&mut self.list).len();
            self.list.truncate(len);
            self.sorted = true;
        }
        &self.list
    }
}

/// See [`BindState::pending`].
pub(crate) struct PendingJobs {
    /// Some of them may have run.
    pub(crate) jobs: KVVec<PendingJob>,
    /// How many there are when it is time to look which have.
    prune_at: usize,
    /// How many requests there ever were: the newest one's sequence number.
    pub(crate) seqno: u32,
    /// The work of a request that was run in the ioctl, if it couldn't remove all that it should
    /// have (a bug): kept until the page tables go. It has made the VM unusable, so that no other
    /// request comes.
    pub(super) stuck: Option<Work>,
}

/// Fewer pending jobs than this are looked at each time.
const PRUNE_MIN: usize = 16;

/// A job that may not have run yet.
pub(crate) struct PendingJob {
    /// The fence's, here for who reads the list.
    pub(crate) timeline: u64,
    /// Signalled when it has run.
    pub(crate) fence: ARef<Fence>,
    /// The iovas that it changes.
    pub(crate) ranges: Ranges,
    /// Whether it waits for more than a worker, or did when it was asked for. See
    /// [`crate::address_space::throttle`].
    pub(crate) waits: bool,
    /// Its work.
    pub(crate) slot: Arc<Slot>,
}

impl PendingJob {
    /// Whether it has run, or never will.
    pub(crate) fn has_ended(&self) -> bool {
        self.fence.is_signaled()
    }
}

impl PendingJobs {
    /// Forgets the jobs that have run, if they may be half of the list. A job that was cancelled,
    /// or in vain, is kept, with its work.
    pub(crate) fn prune(&mut self) {
        if self.jobs.len() >= self.prune_at {
            self.jobs
                .retain(|job| !job.has_ended() || !job.slot.is_over());
            self.prune_at = PRUNE_MIN.max(2 * self.jobs.len());
        }
    }
}

/// Does the work of a request at once, in the ioctl. All jobs that it comes after have ended.
///
/// `vm` is locked since that was found out, and so are the BOs that are mapped or removed: no
/// other request gets in between, and reclaim, which needs these locks, finds them either as they
/// were before or as they are after it. `page_tables` are the VM's.
///
/// Returns what there is to drop, with no lock held.
pub(crate) fn run_now(
    vm: &VmLocked<'_, Bind>,
    work: Work,
    page_tables: MutexGuard<'_, LoggedTables>,
) -> Option<Done> {
    match work.run(vm, page_tables) {
        Outcome::Done(done) => Some(done),
        Outcome::Stuck(work) => {
            // There is room for one.
            vm.set_unusable();
            vm.state().pending.lock().stuck = Some(work);
            None
        }
    }
}
