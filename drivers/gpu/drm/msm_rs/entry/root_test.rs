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

    /// The GPU can load the root of a context that has ended: TTBR0 has it, and so does the record
    /// of a ring that was preempted. So TTBR0 is set up once, and what belongs to it stays until
    /// the GPU goes, also when there is no VM.
    #[test]
    fn roots_outlive_all_vms() {
        let device = Device::new();
        for _ in 0..2 {
            let vm = device.new_bind_vm(0x1000..0x10_0000, false);
            close::close(&Closing::without_file(&vm));
            drop(vm);
            assert_eq!(device.smmu_calls(), 1);
        }
        device.take_gpu_away();
        assert_eq!(device.smmu_calls(), 2);
        assert_eq!(device.free(), 0);
    }
}
