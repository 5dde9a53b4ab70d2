// SPDX-License-Identifier: GPL-2.0-only

//! KUnit test: reclaim comes while somebody changes page tables.

use kernel::prelude::*;

#[kunit_tests(msm_rs_bind_reclaim)]
mod cases {
    use core::num::NonZeroU32;

    use kernel::{
        prelude::*,
        sync::aref::ARef, //
    };

    use crate::{
        address_space::tables::Unreachable,
        bind::{
            get_pages,
            lock,
            op::BindOp,
            plan::Plan, //
        },
        entry::test_device::{
            new_fence,
            signal,
            Device, //
        },
        ffi::{
            bo::Bo,
            effort::Effort,
            mappings,
            vm::{
                Bind,
                Closing, //
            },
        },
        gpuvm_rs::{
            exec::Exec,
            range::VaRange,
            shrinker::{
                as_reclaim,
                stages::Fate, //
            },
            trylock::AllLocked,
            txn::Committed,
            vm::GpuVm, //
        },
        pure::ops::{
            Kind,
            Op,
            PAGE_SIZE, //
        },
        shrinker,
        vm::close, //
    };

    const START: u64 = 0x10_0000;
    const SIZE: u64 = 4 * PAGE_SIZE;

    /// Maps the BO at START, as far as VMAs are concerned.
    fn map(vm: &GpuVm<Bind>, bo: &ARef<Bo>) -> Result<Committed<Bind>> {
        map_at(vm, bo, START)
    }

    fn map_at(vm: &GpuVm<Bind>, bo: &ARef<Bo>, iova: u64) -> Result<Committed<Bind>> {
        let kind = Kind::Map {
            handle: NonZeroU32::MIN,
            offset: 0,
            dump: false,
        };
        change(vm, kind, iova, SIZE, Some(bo.clone()))
    }

    /// Changes VMAs, and leaves page tables as they are.
    fn change(
        vm: &GpuVm<Bind>,
        kind: Kind,
        iova: u64,
        range: u64,
        bo: Option<ARef<Bo>>,
    ) -> Result<Committed<Bind>> {
        let at = VaRange::new(iova, range).ok_or(EINVAL)?;
        let mut ops = [BindOp::new(Op { kind, iova, range }, at, bo)];
        pin_init::stack_pin_init!(let exec = Exec::interruptible(2));
        let locked = exec.lock_all(|attempt| lock(attempt, vm, &ops, &[ops[0].range]))?;
        let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;
        get_pages(&locked, &mut ops, &Effort::few_locks())?;
        let plan = Plan::of_ops(&mut ops, &vm_locked, &locked, 1, 1)?;
        Ok(plan.commit(vm).0)
    }

    /// How many of the VM's VMAs have their entries, as far as VMAs say.
    fn mapped(vm: &GpuVm<Bind>) -> Result<usize> {
        pin_init::stack_pin_init!(let exec = Exec::interruptible(2));
        let locked = exec.lock_all(|attempt| {
            let vm = attempt.lock_vm(vm)?;
            attempt.lock_extobjs(&vm)
        })?;
        let vm = locked.vm(vm).ok_or(EDEADLK)?;
        let mut nr = 0;
        vm.for_each_va(|va| nr += usize::from(va.data().mapped().get(&vm)));
        Ok(nr)
    }

    /// What the shrinker does with the BO.
    fn evict(bo: &Bo) -> Result {
        as_reclaim(|| {
            let obj = bo.gem().try_lock().ok_or(EDEADLK)?;
            let all = AllLocked::try_lock(&obj).ok_or(EDEADLK)?;
            shrinker::evict(&all, Fate::Swap)
        })
    }

    /// Reclaim doesn't wait for who has the page tables of one of the BO's VMs, and takes nothing
    /// away from the others.
    #[test]
    fn somebody_has_the_page_tables() -> Result {
        let device = Device::new();
        {
            let new_vm = || device.new_bind_vm(START..START + SIZE, false);
            let vms = [new_vm(), new_vm()];
            let bo = device.sized_bo(SIZE as usize, None);
            let jobs = [map(&vms[0], &bo)?, map(&vms[1], &bo)?];
            for busy in &vms {
                {
                    let _page_tables = busy.space().page_tables.lock();
                    assert_eq!(evict(&bo), Err(EBUSY));
                }
                assert!(bo.lock().is_backed());
                for vm in &vms {
                    assert_eq!(mapped(vm)?, 1);
                }
            }
            evict(&bo)?;
            assert!(!bo.lock().is_backed());
            for vm in &vms {
                assert_eq!(mapped(vm)?, 0);
                close::close(&Closing::without_file(vm));
            }
            drop(jobs);
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }

    /// Between its file's end and that of what the GPU has begun, a VM's page tables may lead to
    /// something else than its VMA tree says. Reclaim leaves them alone.
    #[test]
    fn a_closing_vm() -> Result {
        let device = Device::new();
        {
            let new_vm = || device.new_bind_vm(START..START + SIZE, false);
            let (vm, others) = (new_vm(), [new_vm(), new_vm()]);
            let bo = device.sized_bo(SIZE as usize, None);
            let jobs = [map(&others[0], &bo)?, map(&vm, &bo)?, map(&others[1], &bo)?];
            let closing = Closing::without_file(&vm);
            close::cancel(&closing);
            assert_eq!(evict(&bo), Err(EBUSY));
            assert!(bo.lock().is_backed());
            for vm in [&others[0], &vm, &others[1]] {
                assert_eq!(mapped(vm)?, 1);
            }
            close::close(&closing);
            evict(&bo)?;
            assert!(!bo.lock().is_backed());
            for vm in &others {
                assert_eq!(mapped(vm)?, 0);
                close::close(&Closing::without_file(vm));
            }
            drop(jobs);
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }

    /// A SUBMIT's fence is on the VM's resv alone. BOs that aren't private to the VM are in use for
    /// as long, if they are mapped there.
    #[test]
    fn a_submit_uses_all_that_is_mapped() -> Result {
        let device = Device::new();
        {
            let new_vm = || device.new_bind_vm(START..START + SIZE, false);
            let (vm, other) = (new_vm(), new_vm());
            let shared = device.sized_bo(SIZE as usize, None);
            let private = device.sized_bo(SIZE as usize, Some(&vm));
            let busy = || mappings::busy(&shared.lock()).is_some();
            let jobs = [map(&other, &shared)?];
            let fence = new_fence(&private);
            assert!(!busy());
            let more = map(&vm, &shared)?;
            assert!(busy());
            assert!(shared.gem().busy().is_none());
            signal(&fence);
            assert!(!busy());
            for vm in [&vm, &other] {
                close::close(&Closing::without_file(vm));
            }
            drop((jobs, more));
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }

    /// A job takes two VMAs of a BO away. Page tables lead to its pages from the second alone.
    #[test]
    fn the_first_was_evicted() -> Result {
        let device = Device::new();
        {
            let vm = device.new_bind_vm(START..START + 2 * SIZE, false);
            let bo = device.sized_bo(SIZE as usize, None);
            let first = map(&vm, &bo)?;
            evict(&bo)?;
            let second = map_at(&vm, &bo, START + SIZE)?;
            assert_eq!(mapped(&vm)?, 1);
            let both = change(&vm, Kind::Unmap, START, 2 * SIZE, None)?;
            assert!(bo.lock().is_pinned());
            drop(both.retire(Unreachable::without_tables()));
            assert!(!bo.lock().is_pinned());
            close::close(&Closing::without_file(&vm));
            drop((first, second));
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }
}
