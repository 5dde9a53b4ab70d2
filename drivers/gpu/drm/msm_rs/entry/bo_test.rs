// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests: what happens to two BOs and two VMs, in every order, against a model. The VMs' page
//! tables only count.

use kernel::prelude::*;

#[kunit_tests(msm_rs_bo)]
mod cases {
    use kernel::{
        prelude::*,
        sync::aref::ARef, //
    };

    use crate::{
        bo::{
            pin,
            vmap, //
        },
        entry::test_device::{
            export,
            release,
            Client,
            Device,
            SIZE, //
        },
        ffi::{
            bindings,
            bo::{
                Bo,
                Lru,
                Madv, //
            },
            effort::Effort,
        },
        gpuvm_rs::{
            shrinker::stages::Fate,
            trylock::AllLocked, //
        },
        mapping::managed,
        shrinker, //
    };

    /// What happens to a BO.
    #[derive(Clone, Copy, Debug)]
    enum Op {
        /// Userspace says what it needs.
        Madvise(Madv),
        /// It is mapped in a VM, and not pinned: as by a submit that has ended.
        Map(usize),
        /// Its address in a VM is given up.
        Unmap(usize),
        /// The context of a VM gives its handle up; the next time it gets one.
        Handle(usize),
        /// The kernel maps it; the next time it is done with that.
        Vmap,
        /// Somebody else's device attaches itself; the next time it detaches.
        Attach,
        /// It is exported; the next time the dma-buf goes.
        Export,
        /// Memory is short.
        Reclaim,
        /// Kernel addresses are.
        Vunmap,
    }

    const OPS: [Op; 13] = [
        Op::Madvise(Madv::DontNeed),
        Op::Madvise(Madv::WillNeed),
        Op::Map(0),
        Op::Unmap(0),
        Op::Handle(0),
        Op::Vmap,
        Op::Attach,
        Op::Export,
        Op::Reclaim,
        Op::Vunmap,
        Op::Map(1),
        Op::Unmap(1),
        Op::Handle(1),
    ];

    /// Those without the second VM.
    const IN_ONE_VM: usize = 10;

    /// A BO, and what should be true of it.
    struct Subject {
        bo: ARef<Bo>,
        madv: Madv,
        backed: bool,
        /// By VM: whether its context has a handle, and whether it has an address there, and page
        /// table entries.
        handle: [bool; 2],
        placed: [bool; 2],
        mapped: [bool; 2],
        vmapped: bool,
        attached: bool,
        dma_buf: Option<*mut bindings::dma_buf>,
        /// Whether the kernel has a mapping, in use or not.
        vaddr: bool,
        /// Whether [`MARK`] was written.
        marked: bool,
    }

    const MARK: u64 = 0x6d61_726b_6d61_726b;

    impl Subject {
        fn new(device: &Device, clients: &[Client; 2]) -> Self {
            let bo = device.bo();
            clients.iter().for_each(|client| client.open(&bo));
            Self {
                bo,
                handle: [true; 2],
                madv: Madv::WillNeed,
                backed: false,
                placed: [false; 2],
                mapped: [false; 2],
                vmapped: false,
                attached: false,
                dma_buf: None,
                vaddr: false,
                marked: false,
            }
        }

        fn lru(&self) -> Lru {
            if !self.backed {
                Lru::Unbacked
            } else if self.vmapped || self.attached {
                Lru::Pinned
            } else if self.madv == Madv::WillNeed {
                Lru::WillNeed
            } else {
                Lru::DontNeed
            }
        }

        /// Pages are needed: whether they come.
        fn needs_pages(&mut self) -> Result {
            if self.madv != Madv::WillNeed {
                return Err(EBUSY);
            }
            self.backed = true;
            Ok(())
        }

        fn do_op(&mut self, clients: &[Client; 2], op: Op) {
            let bo = self.bo.clone();
            match op {
                Op::Madvise(madv) => {
                    let retained = self.madv != Madv::Purged;
                    assert_eq!(pin::madvise(&bo.lock(), madv), retained);
                    if retained {
                        self.madv = madv;
                    }
                }
                Op::Map(vm) => {
                    let result = bo.with_vm(clients[vm].vm(), |vm, bo| {
                        managed::place(bo, vm, bo.obj(), &Effort::few_locks()).map(|_| ())
                    });
                    if !self.placed[vm] && !self.handle[vm] {
                        assert_eq!(result, Err(EINVAL));
                        return;
                    }
                    self.placed[vm] = true;
                    let expected = self.needs_pages();
                    self.mapped[vm] |= expected.is_ok();
                    assert_eq!(result, expected);
                }
                Op::Unmap(vm) => {
                    bo.with_vm(clients[vm].vm(), managed::close);
                    self.placed[vm] = false;
                    self.mapped[vm] = false;
                }
                Op::Handle(vm) => {
                    if self.handle[vm] {
                        clients[vm].close(&bo);
                        self.placed[vm] = false;
                        self.mapped[vm] = false;
                    } else {
                        clients[vm].open(&bo);
                    }
                    self.handle[vm] = !self.handle[vm];
                }
                Op::Vmap if self.vmapped => {
                    vmap::put(&bo.lock());
                    self.vmapped = false;
                }
                Op::Vmap => {
                    let vaddr = vmap::get(&bo.lock(), Madv::WillNeed);
                    let expected = self.needs_pages();
                    assert_eq!(vaddr.map(|_| ()), expected);
                    if let Ok(vaddr) = vaddr {
                        self.vmapped = true;
                        self.vaddr = true;
                        let word = vaddr.cast::<u64>().as_ptr();
                        if self.marked {
                            // SAFETY: Mapped until `vmap::put()`.
                            assert_eq!(unsafe { word.read_volatile() }, MARK);
                        }
                        // SAFETY: As above.
                        unsafe { word.write_volatile(MARK) };
                        self.marked = true;
                    }
                }
                Op::Attach => {
                    let lock = bo.lock();
                    let obj = lock.obj().as_raw();
                    if self.attached {
                        // SAFETY: Locked, and pinned below.
                        unsafe { bindings::msm_gem_prime_unpin(obj) };
                        self.attached = false;
                    } else {
                        // SAFETY: Locked.
                        let ret = unsafe { bindings::msm_gem_prime_pin(obj) };
                        let result = kernel::error::to_result(ret);
                        let expected = self.needs_pages();
                        self.attached = expected.is_ok();
                        assert_eq!(result, expected);
                    }
                }
                Op::Export => match self.dma_buf.take() {
                    Some(dma_buf) => release(dma_buf),
                    None => self.dma_buf = Some(export(&bo)),
                },
                Op::Reclaim => {
                    let expected = match self.lru() {
                        Lru::WillNeed => Some(Fate::Swap),
                        Lru::DontNeed => Some(Fate::Purge),
                        Lru::Pinned | Lru::Unbacked => None,
                    };
                    assert_eq!(reclaim(&bo), expected);
                    if let Some(fate) = expected {
                        self.backed = false;
                        self.mapped = [false; 2];
                        self.vaddr = false;
                        if fate == Fate::Purge {
                            self.madv = Madv::Purged;
                            self.marked = false;
                        }
                    }
                }
                Op::Vunmap => {
                    let unused = self.vaddr && !self.vmapped;
                    assert_eq!(shrinker::vunmap(bo.lock().obj()), unused);
                    self.vaddr &= !unused;
                }
            }
        }

        fn check(&self) {
            let lock = self.bo.lock();
            assert_eq!(lock.madv(), self.madv);
            assert_eq!(lock.is_backed(), self.backed);
            let pins = i32::from(self.vmapped) + i32::from(self.attached);
            assert_eq!(lock.with_lru(|lru| lru.pin_count()), pins);
            assert_eq!(lock.vmap_count(), u8::from(self.vmapped));
            assert_eq!(lock.vaddr().is_some(), self.vaddr);
            let handles = self.handle.iter().filter(|&&there| there).count() as i32;
            let users = handles + i32::from(self.dma_buf.is_some());
            assert_eq!(lock.scanout_users(), users);
            assert_eq!(lock.obj().is_mapped(), self.placed != [false; 2]);
            // Page tables reach pages that are there only.
            assert!(self.backed || self.mapped == [false; 2]);
        }

        /// Undoes everything that can be undone: no pages, no address, no pin.
        fn undo(&mut self, clients: &[Client; 2]) {
            for (there, op) in [
                (self.vmapped, Op::Vmap),
                (self.attached, Op::Attach),
                (self.dma_buf.is_some(), Op::Export),
                (self.placed[0], Op::Unmap(0)),
                (self.placed[1], Op::Unmap(1)),
                (!self.handle[0], Op::Handle(0)),
                (!self.handle[1], Op::Handle(1)),
                (self.madv == Madv::DontNeed, Op::Madvise(Madv::WillNeed)),
            ] {
                if there {
                    self.do_op(clients, op);
                }
            }
            self.do_op(clients, Op::Reclaim);
            self.check();
        }

        /// Nobody has a handle any more, after [`Self::undo`].
        fn end(mut self, clients: &[Client; 2]) {
            self.do_op(clients, Op::Handle(0));
            self.do_op(clients, Op::Handle(1));
        }
    }

    /// What the shrinker does with one BO.
    fn reclaim(bo: &Bo) -> Option<Fate> {
        let obj = bo.gem().try_lock()?;
        let fate = shrinker::fate(&obj, &obj.lock_lru())?;
        shrinker::evict(&AllLocked::try_lock(&obj)?, fate).ok()?;
        Some(fate)
    }

    struct Pair {
        device: Device,
        clients: [Client; 2],
        bos: [Subject; 2],
    }

    impl Pair {
        fn new() -> Self {
            let device = Device::new();
            let clients = [device.new_client(), device.new_client()];
            let bos = [
                Subject::new(&device, &clients),
                Subject::new(&device, &clients),
            ];
            Self {
                device,
                clients,
                bos,
            }
        }

        fn step(&mut self, bo: usize, op: Op) {
            self.bos[bo].do_op(&self.clients, op);
            self.bos.iter().for_each(Subject::check);
            let bytes = |count: usize| (count * SIZE) as u64;
            let mapped = self.bos.iter().flat_map(|bo| bo.mapped);
            assert_eq!(self.device.mapped(), bytes(mapped.filter(|&m| m).count()));
            let backed = self.bos.iter().filter(|bo| bo.backed).count();
            assert_eq!(self.device.resident(), bytes(backed));
            for lru in [Lru::Unbacked, Lru::Pinned, Lru::WillNeed, Lru::DontNeed] {
                let count = self.bos.iter().filter(|bo| bo.lru() == lru).count();
                assert_eq!(self.device.in_lru(lru), bytes(count));
            }
        }

        /// As at the beginning.
        fn again(&mut self) {
            for bo in &mut self.bos {
                bo.undo(&self.clients);
                if bo.madv == Madv::Purged {
                    let new = Subject::new(&self.device, &self.clients);
                    core::mem::replace(bo, new).end(&self.clients);
                }
            }
        }

        fn end(self) {
            let Self {
                device,
                clients,
                bos,
            } = self;
            bos.into_iter().for_each(|bo| bo.end(&clients));
            drop(clients);
            assert_eq!(device.free(), 0);
        }
    }

    /// Every order of `len` of `ops` happening to the first `bos` BOs.
    fn every_order(bos: usize, ops: &[Op], len: usize) {
        let mut pair = Pair::new();
        let all = bos * ops.len();
        for mut n in 0..all.pow(len as u32) {
            for _ in 0..len {
                pair.step(n % all / ops.len(), ops[n % ops.len()]);
                n /= all;
            }
            pair.again();
        }
        pair.end();
    }

    #[test]
    fn every_order_of_three_in_one_vm() {
        every_order(1, &OPS[..IN_ONE_VM], 3);
    }

    #[test]
    fn every_order_of_two_for_two_bos_in_two_vms() {
        every_order(2, &OPS, 2);
    }

    /// What is done about CPU caches when pages come and go.
    #[test]
    fn caches() {
        let device = Device::new();
        device.watch_dma(true);
        let letters = |text: &str| {
            let mut bytes = [0; 8];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            bytes
        };
        for (flags, come, go) in [
            (bindings::MSM_BO_WC, "m", "u"),
            (bindings::MSM_BO_CACHED, "m", "su"),
            (bindings::MSM_BO_CACHED_COHERENT, "", ""),
        ] {
            let bo = device.bo_with(flags);
            assert_eq!(device.dma_asked(), letters(""));
            // From nowhere, to swap, and from there; thrown away; freed.
            for fate in [Fate::Swap, Fate::Purge] {
                assert!(vmap::get(&bo.lock(), Madv::WillNeed).is_ok());
                vmap::put(&bo.lock());
                assert_eq!(device.dma_asked(), letters(come));
                if fate == Fate::Purge {
                    pin::madvise(&bo.lock(), Madv::DontNeed);
                }
                assert_eq!(reclaim(&bo), Some(fate));
                assert_eq!(device.dma_asked(), letters(go));
            }
            let bo = device.bo_with(flags);
            assert!(vmap::get(&bo.lock(), Madv::WillNeed).is_ok());
            vmap::put(&bo.lock());
            assert_eq!(device.dma_asked(), letters(come));
            drop(bo);
            assert_eq!(device.dma_asked(), letters(go));
        }
        device.watch_dma(false);
        assert_eq!(device.free(), 0);
    }

    /// A dma-buf whose table has pages for a part of it, or for more, can't be imported: pages are
    /// looked up by the BO's size.
    #[test]
    fn tables_of_imports() {
        let device = Device::new();
        let bo = device.bo();
        let dma_buf = export(&bo);
        let pages = (SIZE / 4096) as u32;
        for nr in [1, pages - 1, pages + 1] {
            assert_eq!(device.import(dma_buf, nr), Err(EINVAL));
        }
        assert_eq!(device.import(dma_buf, pages), Ok(()));
        release(dma_buf);
        drop(bo);
        assert_eq!(device.free(), 0);
    }

    /// The same each time.
    #[test]
    fn long_walks() {
        let mut pair = Pair::new();
        let mut random = 1u32;
        for _ in 0..40 {
            for _ in 0..50 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let i = (random >> 16) as usize % (2 * OPS.len());
                pair.step(i / OPS.len(), OPS[i % OPS.len()]);
            }
            pair.again();
        }
        pair.end();
    }
}
