// SPDX-License-Identifier: GPL-2.0-only

//! VMs that VM_BIND manages: their state, and their end.

use kernel::{
    alloc::KVVec,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
};

use super::job::Slot;
use crate::{
    address_space::{
        log::{
            LogEntry,
            LogOp,
            VmLog, //
        },
        tables::VmTables,
        throttle::Throttle, //
    },
    ffi::{
        self,
        bo::Bo,
        module,
        smmu::Smmu,
        vm::Bind, //
    },
    gpuvm_rs::{
        exec::Exec,
        fence::Fence,
        from_result,
        range::VaRange,
        small_vec::SmallVec,
        va::GpuVaList,
        vm::GpuVm, //
    },
    mapping::vm_bind,
    pgtable::geometry::Geometry,
    pure::ranges, //
};

/// What Rust keeps of a VM_BIND VM.
#[pin_data]
pub(crate) struct BindState {
    /// The sizes of the address space.
    pub(crate) geometry: Geometry,
    /// How tables are allocated.
    pub(crate) smmu: Smmu,
    /// Whether the log keeps anything.
    pub(crate) has_log: bool,
    /// How many tables may be allocated in advance.
    #[pin]
    pub(crate) throttle: Throttle,
    /// The jobs that may not have run yet, in the order in which the ioctls changed the VMA tree.
    #[pin]
    pub(crate) pending: Mutex<PendingJobs>,
    /// What jobs change. Taken on the fence-signalling path.
    #[pin]
    pub(crate) page_tables: Mutex<PageTables>,
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
    /// How many jobs there ever were: the newest one's sequence number.
    pub(crate) seqno: u32,
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
    /// Whether it waits for more than a worker, or did when it was asked for. See [`crate::address_space::throttle`].
    pub(crate) waits: bool,
    /// Its work.
    pub(crate) slot: Arc<Slot>,
}

/// The page tables and what was done to them.
pub(crate) struct PageTables {
    pub(crate) tables: VmTables,
    pub(crate) log: VmLog,
    /// The VM was closed: its BOs may be gone, and no job may map them again.
    pub(crate) closed: bool,
}

impl BindState {
    /// The state of a new VM.
    pub(crate) fn new(tables: VmTables, log: VmLog) -> impl PinInit<Self> {
        let (geometry, smmu) = (tables.geometry(), tables.smmu());
        let has_log = log.enabled();
        let gate = tables.gate();
        pin_init!(Self {
            geometry,
            smmu,
            has_log,
            throttle <- Throttle::new(gate),
            pending <- new_mutex!(
                PendingJobs {
                    jobs: KVVec::new(),
                    prune_at: 0,
                    seqno: 0,
                },
                "msm_rs::pending"
            ),
            page_tables <- new_mutex!(
                PageTables {
                    tables,
                    log,
                    closed: false,
                },
                "msm_rs::page_tables"
            ),
        })
    }
}

impl PendingJob {
    /// Whether it waits for more than a worker, as far as anybody knows.
    pub(crate) fn still_waits(&self) -> bool {
        self.waits && !self.fence.is_signaled()
    }
}

impl PendingJobs {
    /// Forgets the jobs that have run, if they may be half of the list. A job that was cancelled, or in vain, is kept, with its work.
    pub(crate) fn prune(&mut self) {
        if self.jobs.len() >= self.prune_at {
            self.jobs
                .retain(|job| !job.fence.is_signaled() || !job.slot.is_over());
            self.prune_at = PRUNE_MIN.max(2 * self.jobs.len());
        }
    }
}

impl PageTables {
    /// Writes a log entry for a change that no job makes, and which has been made.
    pub(crate) fn log_now(&mut self, entry: impl FnOnce() -> LogEntry, result: Result) {
        if !self.log.enabled() {
            return;
        }
        let mut entry = entry();
        entry.applied = ffi::now_ns();
        entry.err = from_result(result);
        self.log.push(entry);
    }
}

/// The file is being closed: jobs that wait for a fence never run.
///
/// What they would have changed stays as it is until the page tables go ([`take_down`]), since the GPU may still use it.
pub(crate) fn cancel(vm: &GpuVm<Bind>) {
    // No requests come any more, so that the list stays as it is. Killing waits for the job that is running, so neither
    // the list's lock nor the slot's is held.
    let queue_of = |index: usize| {
        let guard = vm.state().pending.lock();
        let pending: &PendingJobs = &guard;
        pending.jobs.get(index).map(|job| job.slot.cancel())
    };
    for queue in (0..).map_while(queue_of).flatten() {
        queue.kill();
    }
}

/// The file is closed: all mappings go, once the GPU is done with them.
///
/// If it isn't, that happens on the reaper: whoever closes the file waits for nothing.
pub(crate) fn close(vm: &GpuVm<Bind>) {
    cancel(vm);
    if matches!(vm.gpu_busy(false), Ok(None)) {
        return take_down(vm);
    }
    let later = {
        let vm = ARef::from(vm);
        move || {
            wait_for_gpu(&vm);
            take_down(&vm);
        }
    };
    if module::reaper().try_spawn(GFP_KERNEL, later).is_err() {
        wait_for_gpu(vm);
        take_down(vm);
    }
}

/// Waits until the GPU has ended what it has begun. It ends all of it: what hangs is stopped.
fn wait_for_gpu(vm: &GpuVm<Bind>) {
    while let Ok(Some(fence)) = vm.gpu_busy(true) {
        fence.wait();
    }
}

/// Removes all mappings, which the GPU doesn't use any more.
fn take_down(vm: &GpuVm<Bind>) {
    // First the page tables, then what they reach.
    let torn_down = {
        let mut pt = vm.state().page_tables.lock();
        pt.closed = true;
        pt.tables.teardown()
    };
    drop(remove_vmas(vm));

    let cancelled = core::mem::replace(&mut vm.state().pending.lock().jobs, KVVec::new());
    for job in cancelled.iter() {
        drop(job.slot.torn_down(&torn_down));
    }
}

/// Takes all VMAs out of a VM whose page tables are gone. They are to be dropped with no lock held: freeing an imported
/// BO takes its exporter's.
fn remove_vmas(vm: &GpuVm<Bind>) -> GpuVaList<Bind> {
    loop {
        match try_remove_vmas(vm) {
            Ok(removed) => return removed,
            // The list of locks takes some memory. Nobody can be told that there is none, and reclaim may find some.
            Err(_) => fsleep(Delta::from_millis(10)),
        }
    }
}

fn try_remove_vmas(vm: &GpuVm<Bind>) -> Result<GpuVaList<Bind>> {
    let mut removed = GpuVaList::new();
    pin_init::stack_pin_init!(let exec = Exec::uninterruptible(0));
    let locked = exec.lock_all(|a| {
        let vm = a.lock_vm(vm)?;
        a.lock_extobjs(&vm)
    })?;
    let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;
    while let Some(cursor) = vm_locked.first() {
        if cursor.va().data().mapped().get(&vm_locked) {
            let described = vm_bind::Described::new(cursor.va());
            vm.state()
                .page_tables
                .lock()
                .log_now(|| described.log_entry(LogOp::Close), Ok(()));
        }
        let obj = Bo::of_va(cursor.va()).map(ARef::from);
        let obj_locked = obj.as_ref().and_then(|bo| locked.obj(bo.gem()));
        match cursor.remove(obj_locked.as_ref()) {
            Ok(va) => removed.push(va),
            // All objects are locked, so that this doesn't happen.
            Err(_) => break,
        }
    }
    Ok(removed)
}
