// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests: per-process page tables whose GPU is taken away.

use kernel::prelude::*;

#[kunit_tests(msm_rs_root)]
mod cases {
    use crate::{
        entry::test_device::Device,
        ffi::vm::Closing,
        vm::close, //
    };

    /// The VM of a cancelled bind job may end when a fence of somebody else signals, long after the
    /// GPU has gone. It doesn't touch the SMMU any more, which the GPU's going has told that its
    /// tables aren't used.
    #[test]
    fn vm_outlives_the_gpu() {
        let device = Device::new();
        assert_eq!(device.smmu_calls(), 0);
        let (one, other) = (
            device.new_bind_vm(0x1000..0x10_0000, false),
            device.new_bind_vm(0x1000..0x10_0000, false),
        );
        // TTBR0 on; then off, by the GPU's going and not again by the last VM's end.
        assert_eq!(device.smmu_calls(), 1);
        for vm in [&one, &other] {
            close::close(&Closing::without_file(vm));
        }
        drop(one);
        assert_eq!(device.smmu_calls(), 1);
        device.take_gpu_away();
        assert_eq!(device.smmu_calls(), 2);
        drop(other);
        assert_eq!(device.smmu_calls(), 2);
        assert_eq!(device.free(), 0);
    }
}
