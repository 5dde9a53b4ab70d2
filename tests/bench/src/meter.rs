// SPDX-License-Identifier: GPL-2.0-only

//! Reading the clock and the SMMU's counters around what is measured.

use harness::{bail, Context, Result};
use nix::time::{clock_gettime, ClockId};
use programs::PATIENCE;
use std::{
    fs,
    os::fd::{FromRawFd, OwnedFd},
};
use uapi::{abi, vadreno::Translation, vadreno::Vadreno, Device, SyncFile, VmBind};
use vadreno_ctl::counter;

/// Keeps other work away from the processor while this process runs: the scheduler's workers get it when we wait.
pub fn undisturbed() -> Result<()> {
    fs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1").context("sched_rt_runtime_us")?;
    let param = libc::sched_param { sched_priority: 50 };
    // SAFETY: passes a valid pointer.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// Now, in instructions.
pub fn now() -> u64 {
    let t = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every kernel has it");
    t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64
}

/// What something has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Instructions until the ioctl returned.
    pub ioctl: u64,
    /// Instructions until its fence signalled.
    pub fence: u64,
    /// TLB invalidations.
    pub tlbi: u64,
}

/// The counters, with the GPU kept awake: asleep it needs no invalidation.
pub struct Meter(Vadreno);

impl Meter {
    /// Opens the virtual Adreno.
    pub fn new() -> Result<Self> {
        Ok(Self(Vadreno::open().context("the virtual Adreno")?))
    }

    /// TLB invalidations so far.
    pub fn tlbi(&self) -> u64 {
        [counter::TLBI_ALL, counter::TLBI_ASID, counter::TLBI_VA]
            .iter()
            .map(|&at| self.0.read(at))
            .sum()
    }

    /// The physical address that `iova` leads to in the context that ran last.
    pub fn physical(&self, iova: u64) -> Result<u64> {
        match self.0.translate(iova).context("translation")? {
            Translation::Mapped(address) => Ok(address),
            other => bail!("{iova:x} leads to {other:?}"),
        }
    }

    /// Sends a bind request and waits for it.
    pub fn bind(&self, device: &Device, bind: &VmBind<'_>) -> Result<Cost> {
        let mut request = bind.request();
        request.flags |= abi::MSM_VM_BIND_FENCE_FD_OUT;
        let before = self.tlbi();
        let begin = now();
        device.vm_bind_raw(&mut request).context("VM_BIND")?;
        let ioctl = now() - begin;
        // SAFETY: the kernel just installed this descriptor for us.
        let fence = SyncFile::from(unsafe { OwnedFd::from_raw_fd(request.fence_fd) });
        fence.wait(10 * PATIENCE).context("the bind's fence")?;
        let fence = now() - begin;
        Ok(Cost {
            ioctl,
            fence,
            tlbi: self.tlbi() - before,
        })
    }

    /// Measures something that has no fence.
    pub fn call<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(Cost, T)> {
        let before = self.tlbi();
        let begin = now();
        let result = work()?;
        let took = now() - begin;
        let cost = Cost {
            ioctl: took,
            fence: took,
            tlbi: self.tlbi() - before,
        };
        Ok((cost, result))
    }
}

/// The middle one of each figure: a job that found the processor idle has waited in real time, too.
pub fn median(samples: &[Cost]) -> Cost {
    let middle = |of: fn(&Cost) -> u64| {
        let mut all: Vec<u64> = samples.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    Cost {
        ioctl: middle(|c| c.ioctl),
        fence: middle(|c| c.fence),
        tlbi: middle(|c| c.tlbi),
    }
}

/// Prints one figure.
pub fn figure(scenario: &str, size: u64, what: &str, value: f64) {
    println!("=\t{scenario}\t{size}\t{what}\t{value:.2}");
}

/// Prints a cost, divided by `units`; invalidations as a whole.
pub fn report(scenario: &str, size: u64, units: u64, cost: Cost) {
    let per = |value: u64| value as f64 / units as f64;
    figure(scenario, size, "ioctl", per(cost.ioctl));
    figure(scenario, size, "fence", per(cost.fence));
    figure(scenario, size, "tlbi", cost.tlbi as f64);
}
