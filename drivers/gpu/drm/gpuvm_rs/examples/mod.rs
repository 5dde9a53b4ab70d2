// SPDX-License-Identifier: GPL-2.0-only

//! The examples in the documentation, which are compiled and run as KUnit tests.
//!
//! What a file here has is shown in that of the same name one folder up. The tests below call it,
//! and look at what comes of it.

mod counter;
mod exec;
mod fence;
mod gem;
mod idle;
mod pair;
mod range;
mod sched;
mod small_vec;
mod txn;
mod va;
mod vm;

use kernel::prelude::*;

#[kunit_tests(gpuvm_rs_examples)]
mod cases {
    use core::ptr::null_mut;

    use kernel::{
        prelude::*,
        sync::{
            aref::ARef,
            Arc,
            Completion, //
        },
        time::{
            delay::fsleep,
            Delta, //
        },
    };

    use super::{
        counter::Counter,
        *, //
    };
    use crate::{
        bindings,
        gpuvm_rs::{
            fence::Fence,
            test_device::{
                TestVm,
                PAGE,
                START, //
            },
            vm::VaRange,
        },
    };

    fn pages(first: u64, nr: u64) -> VaRange {
        VaRange::new(START + first * PAGE, nr * PAGE).unwrap()
    }

    /// A fence that is signalled.
    fn stub() -> ARef<Fence> {
        // SAFETY: Has no preconditions.
        let fence = unsafe { bindings::dma_fence_get_stub() };
        // SAFETY: The call returns a reference.
        unsafe { Fence::from_owned(fence) }.unwrap()
    }

    #[test]
    fn exec_fence_gem() -> Result {
        let vm = TestVm::new()?;
        exec::attach(vm.vm(), &[vm.extobj(), vm.private()], &stub())?;
        assert_eq!(fence::wait_for(vm.extobj()), 0);
        assert_eq!(gem::disposable(vm.extobj()), Some(vm.extobj().size()));
        Ok(())
    }

    #[test]
    fn txn_vm_pair_va() -> Result {
        let vm = TestVm::new()?;
        let whole = pages(0, 16);
        let first = txn::map(vm.vm(), vm.extobj(), pages(0, 8))?;
        drop(first.retire(()));
        let second = txn::map(vm.vm(), vm.private(), pages(4, 8))?;
        assert!(second.steps().eq([&(START + 4 * PAGE, 8 * PAGE)]));
        drop(second.retire(()));
        assert_eq!(vm::mapped(vm.vm(), whole)?, 12 * PAGE);
        assert_eq!(vm::mapped(vm.vm(), pages(10, 10))?, 2 * PAGE);
        assert!(pair::maps(vm.vm(), vm.extobj()));
        assert!(gem::disposable(vm.extobj()).is_none());
        let removed = vm.locked(|locked| {
            let vm = locked.vm(vm.vm()).ok_or(EDEADLK)?;
            va::clear(&vm, locked)
        })??;
        drop(removed);
        assert!(!pair::maps(vm.vm(), vm.extobj()));
        assert_eq!(vm::mapped(vm.vm(), whole)?, 0);
        Ok(())
    }

    #[test]
    fn range_and_small_vec() -> Result {
        let [before, after] = range::around(pages(0, 8), pages(2, 6));
        assert_eq!(before, Some(pages(0, 2)));
        assert_eq!(after, None);
        assert_eq!(small_vec::squares(3)?[..], [0, 1, 4]);
        assert_eq!(small_vec::squares(6)?.iter().sum::<u64>(), 55);
        Ok(())
    }

    #[test]
    fn idle() -> Result {
        let vm = TestVm::new()?;
        let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        super::idle::tell(vm.extobj().into(), done.clone())?;
        done.wait_for_completion();
        Ok(())
    }

    #[test]
    fn sched() -> Result {
        let mut faux = null_mut();
        // SAFETY: Has no preconditions.
        let drm = unsafe { bindings::gpuvm_rs_faux_new(&mut faux) };
        assert!(!drm.is_null());
        // SAFETY: Just made.
        let dev = unsafe { (*drm).dev };
        // SAFETY: The device goes when there is no counter any more.
        let counter = unsafe { Counter::new::<super::sched::Counting>(dev) }?;
        let first = super::sched::count_after(&counter, stub())?;
        let second = super::sched::count_after(&counter, first)?;
        second.wait();
        assert_eq!(counter.count(), 2);
        drop(counter);
        for _ in 0..10_000 {
            if Counter::none_left() {
                break;
            }
            fsleep(Delta::from_millis(1));
        }
        assert!(Counter::none_left());
        // SAFETY: Nothing refers to it, which is what is checked.
        let others = unsafe { bindings::gpuvm_rs_faux_free(faux, drm) };
        assert_eq!(others, 0);
        Ok(())
    }
}
