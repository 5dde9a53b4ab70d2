// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests: VMs and objects without a device, split and merge steps, transactions.

use kernel::prelude::*;

#[kunit_tests(gpuvm_rs)]
mod cases {
    use core::{
        sync::atomic::Ordering, //
    };

    use kernel::{alloc::KVec, prelude::*};

    use crate::gpuvm_rs::{
        exec::{
            Exec,
            Slots, //
        },
        fence::Fence,
        gem::GemObject,
        sm::{
            OpMap,
            OpRemap,
            OpUnmap,
            Steps, //
        },
        test_device::{
            TestDriver,
            TestVa,
            TestVm,
            PAGE,
            SIZE,
            START,
            VMAS, //
        },
        trylock::AllLocked,
        txn::{
            Committed,
            Transaction, //
        },
        vm::{
            MapRequest,
            VaRange, //
        },
    };

    impl TestVm {
        /// Applies `ops` and commits, or undoes them when `undo` says so.
        fn apply(&self, ops: &[Op], undo: bool) -> Result<Option<Committed<TestDriver>>> {
            self.locked(|locked| {
                let vm = locked.vm(self.vm()).ok_or(EDEADLK)?;
                let mut steps = TestSteps {
                    txn: Transaction::new(&vm, locked, 0)?,
                    fail: undo,
                    left: ops.len(),
                };
                for op in ops {
                    let result = match *op {
                        Op::Map(start, pages, obj, offset) => vm.sm_map(
                            &MapRequest {
                                range: range(start, pages),
                                obj: Some(match obj {
                                    Obj::Private => self.private(),
                                    Obj::Extobj => self.extobj(),
                                }),
                                offset: offset * PAGE,
                            },
                            &mut steps,
                        ),
                        Op::Unmap(start, pages) => vm.sm_unmap(range(start, pages), &mut steps),
                    };
                    steps.left -= 1;
                    if undo && result.is_err() {
                        return Ok(None);
                    }
                    result?;
                }
                if undo {
                    return Ok(None);
                }
                Ok(Some(steps.txn.commit()))
            })?
        }

        /// Applies `ops`. There are no page tables that could lead to what they remove.
        fn change(&self, ops: &[Op]) -> Result {
            let steps = self.apply(ops, false)?.ok_or(EINVAL)?;
            drop(steps.retire(()));
            Ok(())
        }

        /// What is mapped: first page, pages, whether the extobj, offset in pages.
        fn tree(&self) -> Result<KVec<(u64, u64, bool, u64)>> {
            self.locked(|locked| {
                let vm = locked.vm(self.vm()).ok_or(EDEADLK)?;
                let mut tree = KVec::new();
                let mut result = Ok(());
                vm.for_each_va(|va| {
                    let entry = (
                        (va.range().addr() - START) / PAGE,
                        va.range().len() / PAGE,
                        va.obj().map(GemObject::as_raw) == Some(self.extobj().as_raw()),
                        va.offset() / PAGE,
                    );
                    if let Err(e) = tree.push(entry, GFP_KERNEL) {
                        result = Err(e.into());
                    }
                });
                result.map(|()| tree)
            })?
        }
    }

    #[derive(Clone, Copy)]
    enum Obj {
        Private,
        Extobj,
    }

    #[derive(Clone, Copy)]
    enum Op {
        /// First page, pages, what, offset in pages.
        Map(u64, u64, Obj, u64),
        /// First page, pages.
        Unmap(u64, u64),
    }

    fn range(start: u64, pages: u64) -> VaRange {
        VaRange::new(START + start * PAGE, pages * PAGE).unwrap()
    }

    /// Does what each step says. With `fail`, the last op's last step fails.
    struct TestSteps<'l> {
        txn: Transaction<'l, TestDriver>,
        fail: bool,
        left: usize,
    }

    impl Steps<TestDriver> for TestSteps<'_> {
        fn map(&mut self, op: OpMap<'_>) -> Result {
            self.txn.insert(&op, TestVa::new(), 0)?;
            let range = op.range()?;
            self.txn.step((range.addr(), range.len()))?;
            if self.fail && self.left == 1 {
                return Err(ENOSPC);
            }
            Ok(())
        }

        fn unmap(&mut self, op: OpUnmap<'_, TestDriver>) -> Result {
            self.txn.remove(op)
        }

        fn remap(&mut self, op: OpRemap<'_, TestDriver>) -> Result {
            let hole = op.hole()?;
            self.txn.step((hole.addr(), hole.len()))?;
            self.txn.split(op, TestVa::new, 0)
        }
    }

    #[test]
    fn ranges_are_checked() {
        assert!(VaRange::new(0, 0).is_none());
        assert!(VaRange::new(u64::MAX, 2).is_none());
        assert_eq!(VaRange::new(1, 2).map(|r| r.end()), Some(3));
    }

    #[test]
    fn lock_tokens_need_the_lock() -> Result {
        let vm = TestVm::new()?;
        pin_init::stack_pin_init!(let exec = Exec::interruptible(0));
        let locked = exec.lock_all(|a| a.lock(vm.extobj()))?;
        assert!(locked.obj(vm.extobj()).is_some());
        assert!(locked.obj(vm.private()).is_none());
        assert!(locked.vm(vm.vm()).is_none());
        Ok(())
    }

    #[test]
    fn private_objects_share_the_lock() -> Result {
        let vm = TestVm::new()?;
        assert!(vm.vm().is_private(vm.private()));
        assert!(!vm.vm().is_private(vm.extobj()));
        pin_init::stack_pin_init!(let exec = Exec::interruptible(0));
        let locked = exec.lock_all(|a| a.lock_vm(vm.vm()).map(|_| ()))?;
        assert!(locked.vm(vm.vm()).is_some());
        assert!(locked.obj(vm.private()).is_some());
        assert!(locked.obj(vm.extobj()).is_none());
        Ok(())
    }

    #[test]
    fn bounds() -> Result {
        let vm = TestVm::new()?;
        assert!(vm.vm().range_valid(range(0, SIZE / PAGE)));
        assert!(!vm.vm().range_valid(range(1, SIZE / PAGE)));
        assert!(vm
            .apply(&[Op::Map(SIZE / PAGE, 1, Obj::Private, 0)], false)
            .is_err());
        assert_eq!(vm.tree()?.len(), 0);
        Ok(())
    }

    #[test]
    fn hole_in_the_middle() -> Result {
        let vm = TestVm::new()?;
        vm.change(&[Op::Map(0, 8, Obj::Extobj, 2), Op::Unmap(3, 2)])?;
        assert_eq!(vm.tree()?[..], [(0, 3, true, 2), (5, 3, true, 7)]);
        Ok(())
    }

    #[test]
    fn map_over_several() -> Result {
        let vm = TestVm::new()?;
        vm.change(&[
            Op::Map(0, 4, Obj::Extobj, 0),
            Op::Map(4, 4, Obj::Private, 0),
            Op::Map(8, 4, Obj::Extobj, 4),
        ])?;
        vm.change(&[Op::Map(2, 8, Obj::Private, 1)])?;
        assert_eq!(
            vm.tree()?[..],
            [(0, 2, true, 0), (2, 8, false, 1), (10, 2, true, 6)]
        );
        Ok(())
    }

    #[test]
    fn failure_undoes_everything() -> Result {
        let vm = TestVm::new()?;
        vm.change(&[
            Op::Map(0, 8, Obj::Extobj, 0),
            Op::Map(16, 8, Obj::Private, 8),
        ])?;
        let before = vm.tree()?;
        let vmas = VMAS.load(Ordering::Relaxed);
        let undone = vm.apply(
            &[
                Op::Unmap(2, 4),
                Op::Map(0, 1, Obj::Private, 0),
                Op::Unmap(0, 32),
                Op::Map(4, 16, Obj::Extobj, 3),
            ],
            true,
        )?;
        assert!(undone.is_none());
        assert_eq!(vm.tree()?[..], before[..]);
        assert_eq!(VMAS.load(Ordering::Relaxed), vmas);
        Ok(())
    }

    #[test]
    fn removed_vmas_live_until_they_are_retired_and_dropped() -> Result {
        let vm = TestVm::new()?;
        vm.change(&[Op::Map(0, 8, Obj::Extobj, 0)])?;
        let vmas = VMAS.load(Ordering::Relaxed);
        let steps = vm.apply(&[Op::Unmap(0, 8)], false)?.ok_or(EINVAL)?;
        assert_eq!(vm.tree()?.len(), 0);
        let retired = steps.retire(());
        assert_eq!(VMAS.load(Ordering::Relaxed), vmas);
        drop(retired);
        assert_eq!(VMAS.load(Ordering::Relaxed), vmas - 1);
        Ok(())
    }

    #[test]
    fn steps_keep_their_order() -> Result {
        let vm = TestVm::new()?;
        let steps = vm
            .apply(
                &[
                    Op::Map(0, 8, Obj::Extobj, 0),
                    Op::Unmap(2, 2),
                    Op::Map(2, 1, Obj::Private, 0),
                ],
                false,
            )?
            .ok_or(EINVAL)?;
        let mut list = KVec::new();
        for &(addr, len) in steps.steps() {
            list.push(((addr - START) / PAGE, len / PAGE), GFP_KERNEL)?;
        }
        assert_eq!(list[..], [(0, 8), (2, 2), (2, 1)]);
        drop(steps.retire(()));
        Ok(())
    }

    /// An object that isn't private to the VM is found when its pages were taken, and locked.
    #[test]
    fn evicted_objects_are_locked_and_no_others() -> Result {
        let vm = TestVm::new()?;
        vm.change(&[
            Op::Map(0, 8, Obj::Extobj, 0),
            Op::Map(8, 8, Obj::Private, 0),
        ])?;
        let locks_extobj = || -> Result<bool> {
            pin_init::stack_pin_init!(let exec = Exec::interruptible(0));
            let locked = exec.lock_all(|a| {
                let vm = a.lock_vm(vm.vm())?;
                a.lock_evicted(&vm)
            })?;
            let found = locked.obj(vm.extobj()).is_some();
            let vm = locked.vm(vm.vm()).ok_or(EDEADLK)?;
            locked.validate(&vm, &())?;
            Ok(found)
        };
        assert!(!locks_extobj()?);
        for _ in 0..2 {
            let obj = vm.extobj().try_lock().ok_or(EBUSY)?;
            AllLocked::try_lock(&obj).ok_or(EBUSY)?.set_evicted();
        }
        assert!(locks_extobj()?);
        // It has its pages again.
        assert!(!locks_extobj()?);
        Ok(())
    }

    #[test]
    fn fences_go_to_every_locked_object() -> Result {
        let vm = TestVm::new()?;
        let fence = Fence::signaled();
        assert!(fence.is_signaled());
        {
            pin_init::stack_pin_init!(let exec = Exec::uninterruptible(0));
            exec.lock_all(|a| {
                a.lock_vm(vm.vm())?;
                a.lock(vm.extobj())
            })?
            .reserve_fences(Slots::One)?
            .attach_bookkeep(&fence);
        }
        for obj in [vm.private(), vm.extobj()] {
            assert!(obj.busy().is_none());
        }
        Ok(())
    }
}
