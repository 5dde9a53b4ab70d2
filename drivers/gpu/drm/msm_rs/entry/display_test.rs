// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests: BOs that a display shows, on a device that is only that much of one (see
//! helpers.c). Framebuffers, handles and dma-bufs do what `msm_fb.c`, the DRM core and dma-buf do,
//! through the functions that those call.

use kernel::prelude::*;

#[kunit_tests(msm_rs_scanout)]
mod cases {
    use core::sync::atomic::{
        AtomicU32,
        Ordering, //
    };

    use kernel::{
        prelude::*,
        sync::aref::ARef,
        workqueue, //
    };

    use crate::{
        bo::vmap,
        entry::test_device::{
            export,
            release,
            Device,
            SIZE, //
        },
        ffi::{
            bindings,
            bo::{
                Bo,
                Madv, //
            },
        },
        mapping::{
            managed::{
                self,
                Window, //
            },
            pin,
            scanout, //
        },
    };

    /// What `msm_framebuffer_prepare()` does.
    fn prepare(device: &Device, bo: &Bo) -> Result<u64> {
        scanout::hold(bo);
        pin::pin(bo, device.vm(), Window::ANY).inspect_err(|_| scanout::release(bo))
    }

    /// What `msm_framebuffer_cleanup()` does.
    fn cleanup(device: &Device, bo: &Bo) {
        pin::unpin(bo, device.vm());
        scanout::release(bo);
    }

    /// What happens to a BO: a handle, a dma-buf, a framebuffer that is shown, a cursor (which the
    /// old MDPs pin without being its user), each there or not. Doing it again undoes it.
    const HANDLE: usize = 0;
    const DMA_BUF: usize = 1;
    const FRAMEBUFFER: usize = 2;
    const CURSOR: usize = 3;

    struct Model<'d> {
        device: &'d Device,
        bo: ARef<Bo>,
        there: [bool; 4],
        dma_buf: *mut bindings::dma_buf,
        iova: Option<u64>,
    }

    impl<'d> Model<'d> {
        fn new(device: &'d Device) -> Self {
            Self {
                device,
                bo: device.bo(),
                there: [false; 4],
                dma_buf: core::ptr::null_mut(),
                iova: None,
            }
        }

        fn toggle(&mut self, what: usize) {
            let (device, bo) = (self.device, &*self.bo);
            let unmaps = device.unmaps();
            let new = !self.there[what];
            let mut pinned = None;
            match (what, new) {
                (HANDLE, true) => device.open(bo),
                (HANDLE, false) => device.close(bo),
                (DMA_BUF, true) => self.dma_buf = export(bo),
                (DMA_BUF, false) => release(self.dma_buf),
                (FRAMEBUFFER, true) => pinned = Some(prepare(device, bo).unwrap()),
                (FRAMEBUFFER, false) => cleanup(device, bo),
                (_, true) => pinned = Some(pin::pin(bo, device.vm(), Window::ANY).unwrap()),
                (_, false) => pin::unpin(bo, device.vm()),
            }
            self.there[what] = new;
            if let Some(iova) = pinned {
                // A flip to what is still mapped finds it where it was.
                assert!(self.iova.is_none_or(|old| old == iova));
                self.iova = Some(iova);
            }
            let keep = self.there.contains(&true);
            if !keep && self.iova.take().is_some() {
                assert_eq!(device.unmaps(), unmaps + 1);
            } else {
                assert_eq!(device.unmaps(), unmaps);
            }
            let mapped = if self.iova.is_some() { SIZE as u64 } else { 0 };
            assert_eq!(device.mapped(), mapped);
            let lock = bo.lock();
            assert_eq!(
                lock.scanout_pins(),
                u32::from(self.there[FRAMEBUFFER]) + u32::from(self.there[CURSOR])
            );
            assert_eq!(
                lock.is_pinned(),
                self.there[FRAMEBUFFER] || self.there[CURSOR]
            );
        }

        /// Takes everything away in the order of the list.
        fn end(mut self) {
            for what in [HANDLE, DMA_BUF, FRAMEBUFFER, CURSOR] {
                if self.there[what] {
                    self.toggle(what);
                }
            }
        }
    }

    /// Every order of four things happening, and then everything goes.
    #[test]
    fn references_in_every_order() {
        let device = Device::new();
        for n in 0..4usize.pow(4) {
            let mut model = Model::new(&device);
            for i in 0..4 {
                model.toggle(n >> (2 * i) & 3);
            }
            model.end();
        }
        assert_eq!(device.free(), 0);
    }

    /// Two framebuffers of one BO, and flips between two BOs.
    #[test]
    fn flips_unmap_nothing() {
        let device = Device::new();
        let bos = [device.bo(), device.bo()];
        bos.iter().for_each(|bo| device.open(bo));
        let iovas = [
            prepare(&device, &bos[0]).unwrap(),
            prepare(&device, &bos[1]).unwrap(),
        ];
        for n in 0..20 {
            let (old, new) = (&bos[n % 2], &bos[(n + 1) % 2]);
            cleanup(&device, old);
            assert_eq!(prepare(&device, new), Ok(iovas[(n + 1) % 2]));
            cleanup(&device, new);
            assert_eq!(prepare(&device, old), Ok(iovas[n % 2]));
        }
        assert_eq!(device.unmaps(), 0);
        // Closed while it is shown: it goes with the last framebuffer.
        bos.iter().for_each(|bo| device.close(bo));
        assert_eq!(device.unmaps(), 0);
        bos.iter().for_each(|bo| cleanup(&device, bo));
        assert_eq!(device.unmaps(), 2);
        assert_eq!(device.mapped(), 0);
        drop(bos);
        assert_eq!(device.free(), 0);
    }

    /// A framebuffer that couldn't be prepared leaves nothing, and the next attempt works.
    #[test]
    fn failed_prepare() {
        let device = Device::new();
        let bo = device.bo();
        device.fail();
        assert_eq!(prepare(&device, &bo), Err(ENOMEM));
        assert!(!bo.lock().is_pinned());
        assert!(prepare(&device, &bo).is_ok());
        cleanup(&device, &bo);
        assert_eq!(device.mapped(), 0);
        drop(bo);
        assert_eq!(device.free(), 0);
    }

    /// Handles outlive the display: what they do then doesn't touch its VM, but for BOs that are
    /// mapped in it, and so keep it.
    #[test]
    fn display_goes_first() {
        for mapped in [false, true] {
            let device = Device::new();
            let bos = [device.bo(), device.bo()];
            bos.iter().for_each(|bo| device.open(bo));
            if mapped {
                prepare(&device, &bos[0]).unwrap();
                cleanup(&device, &bos[0]);
            }
            device.unbind_display();
            let client = device.new_client();
            assert!(pin::pin(&bos[1], client.vm(), Window::ANY).is_ok());
            pin::unpin(&bos[1], client.vm());
            let unmaps = device.unmaps();
            bos.iter().for_each(|bo| device.close(bo));
            assert_eq!(device.unmaps(), unmaps + u32::from(mapped));
            assert_eq!(device.mapped(), 0);
            drop((bos, client));
            assert_eq!(device.free(), 0);
        }
    }

    /// A BO that couldn't be pinned has no address that keeps it, unless it had one before: not for
    /// the display's sake, nor for a context's.
    #[test]
    fn failed_pin() {
        let device = Device::new();
        let client = device.new_client();
        for vm in [device.vm(), client.vm()] {
            let bo = device.bo();
            device.fail();
            assert_eq!(pin::pin(&bo, vm, Window::ANY), Err(ENOMEM));
            assert!(!bo.lock().obj().is_mapped());
            assert!(pin::pin(&bo, vm, Window::ANY).is_ok());
            pin::unpin(&bo, vm);
        }
        // An address that belongs to a handle stays.
        let bo = device.bo();
        client.open(&bo);
        let iova = managed::get(&bo, client.vm());
        device.fail();
        assert_eq!(pin::pin(&bo, client.vm(), Window::ANY), Err(ENOMEM));
        assert!(bo.lock().obj().is_mapped());
        assert_eq!(managed::get(&bo, client.vm()), iova);
        client.close(&bo);
        assert!(!bo.lock().obj().is_mapped());
        drop((bo, client));
        assert_eq!(device.free(), 0);
    }

    /// Mapped for the kernel and for the display, in every order.
    #[test]
    fn vmap_and_pins() {
        let device = Device::new();
        for n in 0..24u32 {
            let bo = device.bo();
            let mut left = KVec::new();
            (0..4u32).for_each(|i| left.push(i, GFP_KERNEL).unwrap());
            let mut order = n;
            let (mut vmaps, mut pins) = (0, 0);
            while !left.is_empty() {
                let i = order as usize % left.len();
                order /= left.len() as u32;
                match left.remove(i).unwrap() {
                    0 | 1 => {
                        assert!(vmap::get(&bo.lock(), Madv::WillNeed).is_ok());
                        vmaps += 1;
                    }
                    _ if vmaps > pins => {
                        vmap::put(&bo.lock());
                        pins += 1;
                    }
                    _ => {
                        prepare(&device, &bo).unwrap();
                        cleanup(&device, &bo);
                    }
                }
                assert_eq!(bo.lock().vmap_count(), (vmaps - pins) as u8);
                assert_eq!(bo.lock().is_pinned(), vmaps > pins);
            }
            for _ in pins..vmaps {
                vmap::put(&bo.lock());
            }
            // Unused, but still there.
            assert!(bo.lock().unmap_for_kernel());
            assert!(bo.lock().vaddr().is_none());
        }
        assert_eq!(device.free(), 0);
    }

    /// The last user goes while another one comes: whoever has pinned the BO finds it mapped.
    #[test]
    fn drop_to_zero_races_a_pin() {
        static RUNNING: AtomicU32 = AtomicU32::new(0);
        static LOST: AtomicU32 = AtomicU32::new(0);
        const ROUNDS: u32 = 400;

        fn flip(device: &Device, bo: &Bo) {
            for _ in 0..ROUNDS {
                let pinned = prepare(device, bo);
                if pinned.is_err() || device.mapped() != SIZE as u64 {
                    LOST.fetch_add(1, Ordering::Relaxed);
                }
                if pinned.is_ok() {
                    cleanup(device, bo);
                }
            }
        }

        let device = Device::new();
        let bo = device.bo();
        RUNNING.store(1, Ordering::Relaxed);
        let (other, its) = (device, bo.clone());
        workqueue::system_unbound()
            .try_spawn(GFP_KERNEL, move || {
                flip(&other, &its);
                drop(its);
                RUNNING.store(0, Ordering::Release);
            })
            .unwrap();
        flip(&device, &bo);
        while RUNNING.load(Ordering::Acquire) != 0 {
            kernel::time::delay::fsleep(kernel::time::Delta::from_millis(1));
        }
        assert_eq!(LOST.load(Ordering::Relaxed), 0);
        assert_eq!(device.mapped(), 0);
        drop(bo);
        assert_eq!(device.free(), 0);
    }
}
