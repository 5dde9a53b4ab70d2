// SPDX-License-Identifier: GPL-2.0-only

//! KUnit test: there is a limit to how many closed VMs there may be.

use kernel::prelude::*;

#[kunit_tests(msm_rs_closed)]
mod cases {
    use kernel::{
        alloc::KVVec,
        prelude::*, //
    };

    use crate::{
        entry::test_device::Device,
        ffi::closed::{
            Closed,
            MAX, //
        },
    };

    #[test]
    fn room_for_one_more() -> Result {
        let device = Device::new();
        {
            let mut vms = KVVec::with_capacity(MAX, GFP_KERNEL)?;
            for _ in 0..MAX {
                Closed::room()?;
                let vm = device.new_bind_vm(0x10_0000..0x20_0000, false);
                vm.closed().set();
                // Once is enough.
                vm.closed().set();
                vms.push(vm, GFP_KERNEL)?;
            }
            assert_eq!(Closed::room(), Err(ENOMEM));
            drop(vms.pop());
            assert_eq!(Closed::room(), Ok(()));
            // One that isn't closed doesn't count.
            let open = device.new_bind_vm(0x10_0000..0x20_0000, false);
            assert_eq!(Closed::room(), Ok(()));
            drop(open);
        }
        assert_eq!(device.free(), 0);
        Ok(())
    }
}
