// SPDX-License-Identifier: GPL-2.0-only

//! One VM's page tables, and what is reserved, limited and logged for their changes.
//!
//! - [`tables`]: the tables, and in which order they change. [`managed`]: those of VMs that the
//!   kernel manages.
//! - [`step`]: one change. [`footprint`]: which tables it may need.
//! - [`reservation`]: tables that are there before they are needed. [`throttle`]: how many may be.
//! - [`idle`]: when the GPU uses nothing of the VM, as it has to be where a block is split.
//! - [`log`]: what was changed, for crash dumps.

pub(crate) mod footprint;
pub(crate) mod idle;
pub(crate) mod log;
pub(crate) mod managed;
pub(crate) mod reservation;
pub(crate) mod step;
pub(crate) mod tables;
pub(crate) mod throttle;

use core::sync::atomic::{
    AtomicU64,
    Ordering, //
};

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

use crate::{
    ffi::{
        self,
        smmu::Smmu, //
    },
    gpuvm_rs::from_result,
    pgtable::geometry::Geometry, //
};
use idle::SubmitGate;
use log::{
    LogEntry,
    VmLog, //
};
use tables::VmTables;
use throttle::Throttle;

/// The page tables of a VM_BIND VM, and all that their changes need. The VM has it to its end, and
/// so has what is reserved for its jobs, which the VM outlives.
#[pin_data]
pub(crate) struct AddressSpace {
    /// The sizes of the address space.
    pub(crate) geometry: Geometry,
    /// The root of the tables, as TTBR0 has it.
    pub(crate) ttbr0: u64,
    /// How tables are allocated.
    pub(crate) smmu: Smmu,
    /// Whether the log keeps anything.
    pub(crate) has_log: bool,
    /// How many tables may be allocated in advance.
    pub(crate) throttle: Arc<Throttle>,
    /// When a SUBMIT or VM_BIND was sent last, in jiffies. It stands for all that is mapped.
    last_use: AtomicU64,
    /// Whether SUBMITs are let in.
    #[pin]
    pub(crate) submits: SubmitGate,
    /// What jobs change. Taken on the fence-signalling path.
    #[pin]
    pub(crate) page_tables: Mutex<LoggedTables>,
}

impl AddressSpace {
    /// An address space with these tables.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(tables: VmTables, log: VmLog) -> Result<Arc<Self>> {
        let (geometry, ttbr0, smmu) = (tables.geometry(), tables.ttbr0(), tables.smmu());
        let has_log = log.enabled();
        let throttle = Arc::pin_init(Throttle::new(tables.gate()), GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                geometry,
                ttbr0,
                smmu,
                has_log,
                throttle,
                last_use: AtomicU64::new(0),
                submits <- SubmitGate::new(),
                page_tables <- new_mutex!(
                    LoggedTables {
                        tables,
                        log,
                        stage: Stage::InUse,
                    },
                    "msm_rs::page_tables"
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// Says that the VM is used now. One store, whatever is mapped.
    #[inline]
    pub(crate) fn use_now(&self) {
        self.last_use.store(ffi::jiffies(), Ordering::Relaxed);
    }

    /// When that was, in jiffies; 0 if never.
    pub(crate) fn last_use(&self) -> u64 {
        self.last_use.load(Ordering::Relaxed)
    }
}

/// The page tables and what was done to them.
pub(crate) struct LoggedTables {
    pub(crate) tables: VmTables,
    pub(crate) log: VmLog,
    pub(crate) stage: Stage,
}

/// How near a VM is to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its file is open.
    InUse,
    /// Its file was closed, and what the GPU has begun hasn't ended. Jobs that waited were
    /// cancelled: where they would have changed something, the tables lead to what was mapped
    /// before, and not to what the VMA tree says.
    Closing,
    /// There are no tables. Its BOs may be gone, and no job may map them again.
    Closed,
}

impl LoggedTables {
    /// The VM's file is closed, and its jobs are about to be cancelled.
    pub(crate) fn close(&mut self) {
        if self.stage == Stage::InUse {
            self.stage = Stage::Closing;
        }
    }

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
