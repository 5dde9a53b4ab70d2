// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests: when a request's turn is, and what is done at once.

use kernel::prelude::*;

#[kunit_tests(msm_rs_bind_now)]
mod cases {
    use core::{
        num::NonZeroU32,
        ops::Range, //
    };

    use kernel::{
        prelude::*,
        sync::{
            aref::ARef,
            Arc, //
        },
    };

    use crate::{
        address_space::{
            reservation::{
                NotReserved,
                Reservation, //
            },
            LoggedTables,
            Stage, //
        },
        bind::{
            get_pages,
            lock,
            op::{
                BindOp,
                Ops, //
            },
            order::{
                self,
                Turn, //
            },
            plan::Plan, //
        },
        entry::test_device::{
            self,
            Device, //
        },
        ffi::{
            bo::Bo,
            effort::Effort,
            vm::{
                Bind,
                Closing, //
            },
        },
        gpuvm_rs::{
            exec::Exec,
            fence::Fence,
            range::VaRange,
            vm::GpuVm, //
        },
        pure::ops::{
            Kind,
            Op,
            PAGE_SIZE, //
        },
        vm::{
            close,
            job::{
                Done,
                Slot,
                Work, //
            },
            state::{
                run_now,
                PendingJob,
                PendingJobs,
                Ranges, //
            },
        },
    };

    const START: u64 = 0x10_0000;
    const PAGES: u64 = 4;
    const SIZE: u64 = PAGES * PAGE_SIZE;
    const END: u64 = 0x20_0000;

    fn new_vm(device: &Device) -> ARef<GpuVm<Bind>> {
        device.new_bind_vm(START..END, true)
    }

    fn range(at: Range<u64>) -> Result<VaRange> {
        VaRange::new(at.start, at.end - at.start).ok_or(EINVAL)
    }

    fn op(at: Range<u64>, kind: Kind, bo: Option<&ARef<Bo>>) -> Result<BindOp> {
        let range = range(at)?;
        let op = Op {
            iova: range.addr(),
            range: range.len(),
            kind,
        };
        Ok(BindOp::new(op, range, bo.cloned()))
    }

    fn map(at: u64, bo: &ARef<Bo>) -> Result<BindOp> {
        let kind = Kind::Map {
            handle: NonZeroU32::MIN,
            offset: 0,
            dump: false,
        };
        op(at..at + SIZE, kind, Some(bo))
    }

    fn unmap(at: Range<u64>) -> Result<BindOp> {
        op(at, Kind::Unmap, None)
    }

    /// Does `ops` at once. `between` is called when nothing can fail any more.
    fn now_with<const N: usize>(
        vm: &GpuVm<Bind>,
        ops: [BindOp; N],
        between: impl FnOnce(&mut LoggedTables),
    ) -> Result<Option<Done>> {
        let mut list = Ops::new();
        for op in ops {
            list.push(op, GFP_KERNEL)?;
        }
        let touches = list.iter().map(BindOp::touch);
        let reservation = Reservation::new(vm.space(), touches, None).map_err(|e| match e {
            NotReserved::Error(e) => e,
            NotReserved::Blocks(_) => EBUSY,
        })?;
        let mut ranges = Ranges::new(list.iter().map(|op| op.range))?;
        pin_init::stack_pin_init!(let exec = Exec::interruptible(0));
        let locked = exec.lock_all(|attempt| lock(attempt, vm, &list, ranges.sort()))?;
        let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;
        get_pages(&locked, &mut list, &Effort::few_locks())?;
        let plan = Plan::of_ops(&mut list, &vm_locked, &locked, 1, 1)?;
        let mut page_tables = vm.space().page_tables.lock();
        let (steps, log_entries) = plan.commit_locked(&mut page_tables);
        between(&mut page_tables);
        let work = Work::new(steps, 1, log_entries, reservation);
        Ok(run_now(&vm_locked, work, page_tables))
    }

    fn now<const N: usize>(vm: &GpuVm<Bind>, ops: [BindOp; N]) -> Result<Option<Done>> {
        now_with(vm, ops, |_| ())
    }

    /// Whether page tables lead somewhere.
    fn is_mapped(vm: &GpuVm<Bind>, iova: u64) -> bool {
        vm.space().page_tables.lock().tables.walk(iova)[3] & 1 != 0
    }

    /// The log entries from `number` on: how many are applied, and how many aren't or have failed.
    fn applied(vm: &GpuVm<Bind>, number: u64) -> (u64, u64) {
        let mut pt = vm.space().page_tables.lock();
        let mut counts = (0, 0);
        for number in number..pt.log.next() {
            match pt.log.entry(number) {
                Some(entry) if entry.applied != 0 && entry.err == 0 => counts.0 += 1,
                _ => counts.1 += 1,
            }
        }
        counts
    }

    /// What is mapped at once is there; what is removed isn't, after one invalidation, and its BO
    /// goes when it is dropped. Nothing is pending, and nothing waits for the shrinker.
    #[test]
    fn done_at_once() -> Result {
        let device = Device::new();
        {
            let vm = new_vm(&device);
            let bos = [(); 2].map(|()| device.sized_bo(SIZE as usize, None));
            let calls = device.smmu_calls();
            drop(now(&vm, [map(START, &bos[0])?])?.ok_or(EINVAL)?);
            for page in 0..PAGES {
                assert!(is_mapped(&vm, START + page * PAGE_SIZE));
            }
            assert_eq!(device.smmu_calls(), calls);
            assert_eq!(applied(&vm, 0), (1, 0));
            assert!(bos[0].gem().busy().is_none());

            // One BO over the other, and a table that becomes empty.
            let [first, second] = bos;
            drop(first);
            assert_eq!(device.resident(), SIZE);
            let removed = now(&vm, [map(START, &second)?])?.ok_or(EINVAL)?;
            assert_eq!(device.smmu_calls(), calls + 1);
            assert_eq!(device.resident(), 2 * SIZE);
            drop(removed);
            assert_eq!(device.resident(), SIZE);
            drop(second);
            let removed = now(&vm, [unmap(START..START + SIZE)?])?.ok_or(EINVAL)?;
            assert!(!is_mapped(&vm, START));
            assert_eq!(device.smmu_calls(), calls + 2);
            assert_eq!(device.resident(), SIZE);
            drop(removed);
            assert_eq!(device.resident(), 0);
            assert_eq!(applied(&vm, 0), (4, 0));
            assert!(vm.state().pending.lock().jobs.is_empty());
            close::close(&Closing::without_file(&vm));
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }

    /// The VM becomes unusable when nothing can fail any more: what goes goes, nothing comes.
    #[test]
    fn unusable_in_between() -> Result {
        let device = Device::new();
        {
            let vm = new_vm(&device);
            let bos = [(); 2].map(|()| device.sized_bo(SIZE as usize, None));
            drop(now(&vm, [map(START, &bos[0])?])?);
            let [first, second] = bos;
            drop(first);
            let ops = [map(START, &second)?];
            let removed = now_with(&vm, ops, |_| vm.set_unusable())?;
            for page in 0..PAGES {
                assert!(!is_mapped(&vm, START + page * PAGE_SIZE));
            }
            drop(removed.ok_or(EINVAL)?);
            drop(second);
            // The VMA tree has the second.
            assert_eq!(device.resident(), SIZE);
            close::close(&Closing::without_file(&vm));
            assert_eq!(device.resident(), 0);
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }

    /// What can't be removed, which takes a bug, stays until the page tables go.
    #[test]
    fn stuck() -> Result {
        let device = Device::new();
        {
            let vm = new_vm(&device);
            let bo = device.sized_bo(SIZE as usize, None);
            drop(now(&vm, [map(START, &bo)?])?);
            drop(bo);
            let ops = [unmap(START..START + SIZE)?];
            let removed = now_with(&vm, ops, |tables| tables.stage = Stage::Closed)?;
            assert!(removed.is_none());
            vm.space().page_tables.lock().stage = Stage::InUse;
            assert!(is_mapped(&vm, START));
            assert_eq!(device.resident(), SIZE);
            close::close(&Closing::without_file(&vm));
            assert_eq!(device.resident(), 0);
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }

    /// The queue of the request, and two others.
    const QUEUES: [u64; 3] = [7, 3, 12];

    fn job(
        queue: usize,
        fence: &ARef<Fence>,
        pages: Range<u64>,
        waits: bool,
    ) -> Result<PendingJob> {
        let at = |page: u64| START + page * PAGE_SIZE;
        let range = range(at(pages.start)..at(pages.end))?;
        Ok(PendingJob {
            timeline: QUEUES[queue],
            fence: fence.clone(),
            ranges: Ranges::new(core::iter::once(range))?,
            waits,
            slot: Arc::pin_init(Slot::new(), GFP_KERNEL)?,
        })
    }

    /// When the turn is of a request for pages 4 to 8, and how many jobs it waits for.
    fn turn(pending: &mut PendingJobs) -> Result<(Turn, usize)> {
        let at = START + 4 * PAGE_SIZE..START + 8 * PAGE_SIZE;
        let mut ranges = Ranges::new(core::iter::once(range(at)?))?;
        let mut fences = 0;
        let turn = order::turn(QUEUES[0], pending, &mut ranges, |fence| {
            fences += 1;
            match fence.is_signaled() {
                true => Err(EINVAL),
                false => Ok(()),
            }
        })?;
        Ok((turn, fences))
    }

    /// A request's turn is now if no unfinished job is before it on its queue, or overlaps it.
    #[test]
    fn turns() -> Result {
        let device = Device::new();
        {
            let vm = new_vm(&device);
            let bo = device.sized_bo(SIZE as usize, None);
            let held = test_device::new_fence(&bo);
            let over = Fence::signaled();
            let cases = [
                (job(0, &held, 20..21, false)?, (Turn::Soon, 0)),
                (job(0, &held, 20..21, true)?, (Turn::Later, 0)),
                (job(0, &held, 4..5, false)?, (Turn::Soon, 0)),
                (job(0, &over, 4..5, true)?, (Turn::Now, 0)),
                (job(1, &held, 20..21, true)?, (Turn::Now, 0)),
                (job(1, &held, 0..4, true)?, (Turn::Now, 0)),
                (job(1, &held, 8..9, true)?, (Turn::Now, 0)),
                (job(1, &held, 7..9, false)?, (Turn::Soon, 1)),
                (job(2, &held, 0..5, true)?, (Turn::Later, 1)),
                (job(2, &over, 4..8, true)?, (Turn::Now, 0)),
            ];
            let mut pending = vm.state().pending.lock();
            assert_eq!(turn(&mut pending)?, (Turn::Now, 0));
            for (job, expected) in cases {
                pending.jobs.push(job, GFP_KERNEL)?;
                assert_eq!(turn(&mut pending)?, expected);
                pending.jobs.clear();
            }
            // Of each other queue the newest that overlaps is enough.
            let jobs = [
                job(1, &held, 4..6, false)?,
                job(2, &held, 4..6, true)?,
                job(1, &held, 5..7, false)?,
                job(2, &held, 20..21, false)?,
                job(1, &held, 20..21, false)?,
            ];
            for job in jobs {
                pending.jobs.push(job, GFP_KERNEL)?;
            }
            assert_eq!(turn(&mut pending)?, (Turn::Later, 2));
            test_device::signal(&held);
            assert_eq!(turn(&mut pending)?, (Turn::Now, 0));
            pending.jobs.clear();
            drop(pending);
            close::close(&Closing::without_file(&vm));
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }
}
