// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests: a toy driver on the faux bus, whose objects have shmem behind them, with the
//! shrinker as its own.

use kernel::prelude::*;

#[kunit_tests(gpuvm_rs_shrinker)]
mod cases {
    use core::{
        cell::Cell,
        ptr::NonNull,
        sync::atomic::{
            AtomicBool,
            AtomicU64,
            Ordering, //
        },
    };

    use kernel::{
        page::PAGE_SIZE,
        prelude::*,
        str::CStr,
        sync::aref::ARef,
        types::Opaque, //
    };

    use crate::{
        bindings,
        gpuvm_rs::{
            exec::Exec,
            fence::Fence,
            gem::{
                GemObject,
                ObjLocked, //
            },
            lru::{
                Lru,
                LruLocked, //
            },
            shrinker::{
                as_reclaim,
                stages::{
                    Fate,
                    Freed,
                    LastUse,
                    Request, //
                },
                Driver,
                Registration,
                Shrinker,
                PATIENCE_MS,
                SHRINK_STOP, //
            },
            trylock::AllLocked,
            va::GpuVaAlloc,
            vm::{
                self,
                GpuVm,
                VaRange,
                VmBo,
                VmLocked, //
            },
        },
    };

    /// What the toy driver has: its LRUs, and what a test wants of it.
    #[pin_data]
    struct ToyState {
        #[pin]
        unneeded: Lru,
        #[pin]
        needed: Lru,
        #[pin]
        alive: Opaque<bindings::atomic_t>,
        room: AtomicU64,
        now: AtomicU64,
        by_tag: AtomicBool,
        evict_fails: AtomicBool,
    }

    /// The driver. The state outlives the shrinker.
    struct Toy(*const ToyState);

    // SAFETY: The state is atomic or locked.
    unsafe impl Send for Toy {}
    // SAFETY: As above.
    unsafe impl Sync for Toy {}

    impl Toy {
        fn state(&self) -> &ToyState {
            // SAFETY: Outlives the shrinker, see `Device`.
            unsafe { &*self.0 }
        }
    }

    fn raw(obj: &ObjLocked<'_>) -> *mut bindings::gpuvm_rs_toy {
        obj.as_raw().cast()
    }

    impl Driver for Toy {
        fn lru(&self, fate: Fate) -> &Lru {
            match fate {
                Fate::Purge => &self.state().unneeded,
                Fate::Swap => &self.state().needed,
            }
        }

        fn swap_room(&self) -> u64 {
            self.state().room.load(Ordering::Relaxed)
        }

        fn fate(&self, obj: &ObjLocked<'_>, _lru: &LruLocked<'_>) -> Option<Fate> {
            // SAFETY: Alive and locked.
            let toy = unsafe { &*raw(obj) };
            (!toy.pages.is_null()).then_some(if toy.needed { Fate::Swap } else { Fate::Purge })
        }

        fn last_use(&self, obj: &ObjLocked<'_>) -> LastUse {
            // SAFETY: Alive and locked.
            let is_backed = unsafe { !(*raw(obj)).pages.is_null() };
            if is_backed && self.state().by_tag.load(Ordering::Relaxed) {
                LastUse(word(obj, 0).get() >> 32)
            } else {
                LastUse::default()
            }
        }

        fn now(&self) -> LastUse {
            LastUse(self.state().now.load(Ordering::Relaxed))
        }

        fn evict(&self, obj: &AllLocked<'_>, _fate: Fate) -> Result {
            if self.state().evict_fails.load(Ordering::Relaxed) {
                return Err(EIO);
            }
            // SAFETY: Alive, locked, and with pages.
            unsafe { bindings::gpuvm_rs_toy_put_pages(obj.as_raw()) };
            Ok(())
        }
    }

    /// VMs, for objects that are mapped.
    struct ToyVm;

    // SAFETY: `free()` gives back the box of `Device::vm()`.
    unsafe impl vm::Driver for ToyVm {
        type Va = ();
        type Step = ();
        type Unreachable = ();
        type Validation = ();

        fn validate(
            _vm: &VmLocked<'_, Self>,
            _obj: &ObjLocked<'_>,
            _vm_bo: &VmBo<'_, Self>,
            _how: &(),
        ) -> Result {
            Ok(())
        }

        unsafe fn free(vm: NonNull<GpuVm<Self>>) {
            // SAFETY: From `Device::vm()`; the last reference is gone.
            drop(unsafe { KBox::from_raw(vm.as_ptr()) });
        }
    }

    struct Device {
        shrinker: Option<Pin<KBox<Shrinker<Toy>>>>,
        state: Pin<KBox<ToyState>>,
        drm: *mut bindings::drm_device,
        faux: *mut bindings::faux_device,
    }

    /// Pages of each object.
    const PAGES: u64 = 16;

    impl Device {
        fn new() -> Result<Self> {
            let mut faux = core::ptr::null_mut();
            // SAFETY: Has no preconditions.
            let drm = unsafe { bindings::gpuvm_rs_faux_new(&mut faux) };
            if drm.is_null() {
                return Err(ENOMEM);
            }
            let state = KBox::pin_init(
                pin_init!(ToyState {
                    unneeded <- Lru::init(),
                    needed <- Lru::init(),
                    alive <- Opaque::ffi_init(|slot: *mut bindings::atomic_t| {
                        // SAFETY: Ours to initialise.
                        unsafe { slot.write_bytes(0, 1) }
                    }),
                    room: AtomicU64::new(u64::MAX),
                    now: AtomicU64::new(0),
                    by_tag: AtomicBool::new(false),
                    evict_fails: AtomicBool::new(false),
                }),
                GFP_KERNEL,
            )?;
            let driver = Toy(&raw const *state);
            // SAFETY: `drop()` ends the shrinker before the device.
            let shrinker = KBox::pin_init(unsafe { Shrinker::new(drm, driver) }, GFP_KERNEL)?;
            Ok(Self {
                shrinker: Some(shrinker),
                state,
                drm,
                faux,
            })
        }

        fn shrinker(&self) -> &Shrinker<Toy> {
            self.shrinker.as_ref().unwrap()
        }

        fn alive(&self) -> i32 {
            // SAFETY: Initialised.
            unsafe { bindings::atomic_read(self.state.alive.get()) }
        }

        /// An object without pages, on no LRU.
        fn empty(&self) -> Result<ARef<GemObject>> {
            let size = PAGES as usize * PAGE_SIZE;
            let alive = self.state.alive.get();
            // SAFETY: The device and the counter are alive.
            let obj = unsafe { bindings::gpuvm_rs_toy_new(self.drm, size, alive) };
            let obj = NonNull::new(obj.cast()).ok_or(ENOMEM)?;
            // SAFETY: The call returns a reference or NULL.
            Ok(unsafe { ARef::from_raw(obj) })
        }

        /// An object whose pages start with `tag` and their number.
        fn object(&self, tag: u64, fate: Fate) -> Result<ARef<GemObject>> {
            let obj = self.empty()?;
            self.restore(&obj)?;
            let locked = obj.try_lock().ok_or(EBUSY)?;
            for page in 0..PAGES {
                word(&locked, page).set(tag << 32 | page);
            }
            // SAFETY: Alive and locked.
            unsafe { (*raw(&locked)).needed = fate == Fate::Swap };
            self.shrinker()
                .driver()
                .lru(fate)
                .move_tail(&obj, &obj.lock_lru());
            drop(locked);
            Ok(obj)
        }

        /// Gets the pages (back).
        fn restore(&self, obj: &GemObject) -> Result {
            let locked = obj.try_lock().ok_or(EBUSY)?;
            // SAFETY: Alive and locked.
            crate::gpuvm_rs::to_result(unsafe { bindings::gpuvm_rs_toy_get_pages(locked.as_raw()) })
        }

        fn scan(&self, request: &Request) -> Freed {
            as_reclaim(|| self.shrinker().scan(request))
        }

        fn reclaim(&self, pages: u64) -> u64 {
            as_reclaim(|| self.shrinker().reclaim(&Request { pages, ..IDLE }))
        }

        /// A VM that maps `obj`, which isn't private to it.
        fn vm(&self, obj: &GemObject) -> Result<ARef<GpuVm<ToyVm>>> {
            const START: u64 = 0x10000;
            let memory = KBox::<GpuVm<ToyVm>>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
            // SAFETY: The device is alive.
            let private = unsafe { bindings::drm_gpuvm_resv_object_alloc(self.drm) };
            if private.is_null() {
                return Err(ENOMEM);
            }
            let vm: *mut bindings::drm_gpuvm = KBox::into_raw(memory).cast();
            // SAFETY: Zeroed memory for a GPUVM, a device, an object, and callbacks of the same
            // kind. The VM takes its own reference to the object.
            unsafe {
                bindings::drm_gpuvm_init(
                    vm,
                    c"toy".as_char_ptr().cast(),
                    0,
                    self.drm,
                    private,
                    START,
                    1 << 20,
                    0,
                    0,
                    &GpuVm::<ToyVm>::OPS,
                )
            };
            // SAFETY: The reference that was made by allocating it.
            unsafe { bindings::drm_gem_object_put(private) };
            let vm = NonNull::new(vm.cast::<GpuVm<ToyVm>>()).ok_or(ENOMEM)?;
            // SAFETY: It begins with one reference, which is ours.
            let vm = unsafe { ARef::from_raw(vm) };
            pin_init::stack_pin_init!(let exec = Exec::interruptible(2));
            let locked = exec.lock_all(|a| {
                a.lock_vm(&vm)?;
                a.lock(obj)
            })?;
            let vm_locked = locked.vm(&vm).ok_or(EDEADLK)?;
            let obj_locked = locked.obj(obj).ok_or(EDEADLK)?;
            let vm_bo = VmBo::obtain(&vm_locked, &obj_locked)?;
            let range = VaRange::new(START, obj.size()).ok_or(EINVAL)?;
            GpuVaAlloc::new(())?.insert(&vm_locked, range, Some(&vm_bo), 0, 0)?;
            Ok(vm.clone())
        }
    }

    impl Drop for Device {
        fn drop(&mut self) {
            self.shrinker = None;
            assert_eq!(self.alive(), 0);
            // SAFETY: Nothing refers to the device any more, which is what is checked.
            let others = unsafe { bindings::gpuvm_rs_faux_free(self.faux, self.drm) };
            assert_eq!(others, 0);
        }
    }

    /// The first word of a page.
    fn word<'a>(obj: &'a ObjLocked<'_>, page: u64) -> &'a Cell<u64> {
        // SAFETY: Locked, with pages.
        let word = unsafe { bindings::gpuvm_rs_toy_word(obj.as_raw(), page) };
        // SAFETY: As above; nobody else writes them.
        unsafe { &*word.cast() }
    }

    fn is_resident(obj: &GemObject) -> bool {
        let locked = obj.try_lock().unwrap();
        // SAFETY: Alive and locked.
        unsafe { !(*raw(&locked)).pages.is_null() }
    }

    fn content(obj: &GemObject, tag: u64) -> bool {
        let locked = obj.try_lock().unwrap();
        (0..PAGES).all(|page| word(&locked, page).get() == tag << 32 | page)
    }

    /// Attaches a fence.
    fn busy(obj: &GemObject) -> Result<ARef<Fence>> {
        let locked = obj.try_lock().ok_or(EBUSY)?;
        // SAFETY: Locked; the fence is signalled before the object goes.
        let fence = unsafe { bindings::gpuvm_rs_test_fence_new(locked.as_raw()) };
        // SAFETY: The call returns a reference or NULL.
        unsafe { Fence::from_owned(fence) }.ok_or(ENOMEM)
    }

    fn signal_in(fence: &Fence, ms: u32) {
        // SAFETY: From `busy()`.
        unsafe { bindings::gpuvm_rs_test_fence_signal_in(fence.as_raw(), ms) };
    }

    const IDLE: Request = Request {
        pages: 1,
        may_swap: true,
        may_wait: false,
    };

    const WAIT: Request = Request {
        may_wait: true,
        ..IDLE
    };

    #[test]
    fn unneeded_objects_go_first() -> Result {
        let dev = Device::new()?;
        let (needed, unneeded) = (dev.object(1, Fate::Swap)?, dev.object(2, Fate::Purge)?);
        assert_eq!(dev.shrinker().count(), 2 * PAGES);
        assert_eq!(dev.scan(&IDLE), Freed([PAGES, 0, 0, 0]));
        assert!(is_resident(&needed) && !is_resident(&unneeded));
        assert_eq!(dev.scan(&IDLE), Freed([0, PAGES, 0, 0]));
        assert!(!is_resident(&needed));
        assert_eq!(dev.scan(&IDLE), Freed::default());
        Ok(())
    }

    #[test]
    fn oldest_first_and_no_more_than_asked_for() -> Result {
        let dev = Device::new()?;
        let objs = [
            dev.object(1, Fate::Swap)?,
            dev.object(2, Fate::Swap)?,
            dev.object(3, Fate::Swap)?,
        ];
        let pages = PAGES + 1;
        assert_eq!(dev.scan(&Request { pages, ..IDLE }).total(), 2 * PAGES);
        assert!(objs
            .iter()
            .map(|obj| is_resident(obj))
            .eq([false, false, true]));
        Ok(())
    }

    /// Whatever the LRU's order is, those go first that were used longest ago: here it is their tag
    /// that says when.
    #[test]
    fn unused_longest_first() -> Result {
        let dev = Device::new()?;
        dev.state.by_tag.store(true, Ordering::Relaxed);
        dev.state.now.store(100, Ordering::Relaxed);
        let objs = [
            dev.object(90, Fate::Swap)?,
            dev.object(10, Fate::Swap)?,
            dev.object(80, Fate::Swap)?,
            dev.object(20, Fate::Swap)?,
            dev.object(10, Fate::Swap)?,
            dev.object(99, Fate::Swap)?,
        ];
        let resident = || objs.iter().map(|obj| is_resident(obj));
        assert_eq!(dev.reclaim(1), 1);
        assert!(resident().eq([true, false, true, true, true, true]));
        // 15 of what was asked for are there already.
        assert_eq!(dev.reclaim(15 + 2 * PAGES), 15 + 2 * PAGES);
        assert!(resident().eq([true, false, true, false, false, true]));
        // What was used lately stays: reclaim asks again if it has to.
        assert_eq!(dev.reclaim(3 * PAGES), 2 * PAGES);
        assert!(resident().eq([false, false, false, false, false, true]));
        // All that is asked for, whenever it was used.
        assert_eq!(
            dev.scan(&Request {
                pages: PAGES,
                ..IDLE
            })
            .total(),
            PAGES
        );
        assert!(resident().all(|resident| !resident));
        Ok(())
    }

    #[test]
    fn content_comes_back() -> Result {
        let dev = Device::new()?;
        let obj = dev.object(7, Fate::Swap)?;
        assert_eq!(dev.scan(&IDLE).total(), PAGES);
        assert!(!is_resident(&obj));
        dev.restore(&obj)?;
        assert!(content(&obj, 7));
        Ok(())
    }

    #[test]
    fn purged_content_is_gone() -> Result {
        let dev = Device::new()?;
        let obj = dev.object(7, Fate::Purge)?;
        assert_eq!(dev.scan(&IDLE).total(), PAGES);
        dev.restore(&obj)?;
        let locked = obj.try_lock().ok_or(EBUSY)?;
        assert!((0..PAGES).all(|page| word(&locked, page).get() == 0));
        Ok(())
    }

    #[test]
    fn failed_eviction_loses_nothing() -> Result {
        let dev = Device::new()?;
        let obj = dev.object(7, Fate::Swap)?;
        dev.state.evict_fails.store(true, Ordering::Relaxed);
        assert_eq!(dev.scan(&IDLE).total(), 0);
        assert!(is_resident(&obj) && content(&obj, 7));
        assert_eq!(dev.shrinker().count(), PAGES);
        dev.state.evict_fails.store(false, Ordering::Relaxed);
        assert_eq!(dev.scan(&IDLE).total(), PAGES);
        dev.restore(&obj)?;
        assert!(content(&obj, 7));
        Ok(())
    }

    #[test]
    fn only_what_fits_is_swapped() -> Result {
        let dev = Device::new()?;
        let objs = [dev.object(1, Fate::Swap)?, dev.object(2, Fate::Swap)?];
        dev.state.room.store(0, Ordering::Relaxed);
        assert_eq!(dev.shrinker().count(), 0);
        let all = Request { pages: 100, ..IDLE };
        assert_eq!(dev.scan(&all).total(), 0);
        dev.state.room.store(PAGES + 1, Ordering::Relaxed);
        assert_eq!(dev.shrinker().count(), PAGES + 1);
        assert_eq!(dev.scan(&all).total(), PAGES);
        assert!(objs.iter().map(|obj| is_resident(obj)).eq([false, true]));
        Ok(())
    }

    #[test]
    fn locked_objects_are_left_alone() -> Result {
        let dev = Device::new()?;
        let obj = dev.object(1, Fate::Swap)?;
        let locked = obj.try_lock().ok_or(EBUSY)?;
        assert_eq!(dev.scan(&WAIT).total(), 0);
        drop(locked);
        // It is where it was.
        assert_eq!(dev.shrinker().count(), PAGES);
        assert_eq!(dev.scan(&WAIT).total(), PAGES);
        Ok(())
    }

    #[test]
    fn vms_are_locked_too() -> Result {
        let dev = Device::new()?;
        let obj = dev.object(1, Fate::Swap)?;
        let vms = [dev.vm(&obj)?, dev.vm(&obj)?];
        for vm in &vms {
            let locked = vm.resv_obj().try_lock().ok_or(EBUSY)?;
            assert_eq!(dev.scan(&IDLE).total(), 0);
            drop(locked);
        }
        assert_eq!(dev.scan(&IDLE).total(), PAGES);
        for vm in &vms {
            // Unlocked again.
            assert!(vm.resv_obj().try_lock().is_some());
            pin_init::stack_pin_init!(let exec = Exec::uninterruptible(2));
            let locked = exec.lock_all(|a| {
                a.lock_vm(vm)?;
                a.lock(&obj)
            })?;
            let vm_locked = locked.vm(vm).ok_or(EDEADLK)?;
            let va = vm_locked.first().ok_or(EINVAL)?;
            assert!(va.remove(locked.obj(&obj).as_ref()).is_ok());
        }
        Ok(())
    }

    #[test]
    fn busy_objects_are_waited_for() -> Result {
        let dev = Device::new()?;
        // On a busy machine the fence may be signalled before the scan begins, or after it has
        // given up. It is never signalled while a scan that waits holds a lock.
        for _ in 0..50 {
            let obj = dev.object(1, Fate::Swap)?;
            let fence = busy(&obj)?;
            assert_eq!(dev.scan(&IDLE), Freed::default());
            signal_in(&fence, PATIENCE_MS / 4);
            let freed = dev.scan(&WAIT);
            fence.wait();
            if freed == Freed([0, 0, 0, PAGES]) {
                return Ok(());
            }
        }
        Err(ETIME)
    }

    #[test]
    fn waiting_ends() -> Result {
        let dev = Device::new()?;
        const COUNT: usize = 200;
        let mut busy_ones = KVec::new();
        for _ in 0..COUNT {
            let obj = dev.object(1, Fate::Swap)?;
            let fence = busy(&obj)?;
            busy_ones.push((obj, fence), GFP_KERNEL)?;
        }
        // SAFETY: Has no preconditions.
        let now = || unsafe { bindings::ktime_get_ns() };
        let start = now();
        assert_eq!(dev.scan(&WAIT), Freed::default());
        let waited = (now() - start) / 1_000_000;
        // Once, not for each of them: a busy machine may be late, but not by that much.
        assert!(waited >= u64::from(PATIENCE_MS) / 2);
        assert!(waited < u64::from(PATIENCE_MS) * COUNT as u64 / 2);
        let pages = COUNT as u64 * PAGES;
        assert_eq!(dev.shrinker().count(), pages);
        for (_, fence) in &busy_ones {
            signal_in(fence, 0);
            fence.wait();
        }
        assert_eq!(dev.scan(&Request { pages, ..IDLE }).total(), pages);
        Ok(())
    }

    #[test]
    fn surplus_pays_for_later_requests() -> Result {
        let dev = Device::new()?;
        let objs = [
            dev.object(1, Fate::Swap)?,
            dev.object(2, Fate::Swap)?,
            dev.object(3, Fate::Swap)?,
        ];
        let resident = || objs.iter().filter(|obj| is_resident(obj)).count();
        // Pages asked for so far, and what is left of three objects of 16.
        for (pages, left) in [(1, 2), (15, 2), (1, 1), (14, 1), (1, 1), (1, 0), (15, 0)] {
            assert_eq!(dev.reclaim(pages), pages);
            assert_eq!(resident(), left);
        }
        assert_eq!(dev.reclaim(1), 0);
        Ok(())
    }

    #[test]
    fn purging_leaves_no_surplus() -> Result {
        let dev = Device::new()?;
        let objs = [dev.object(1, Fate::Purge)?, dev.object(2, Fate::Purge)?];
        assert_eq!(dev.reclaim(1), 1);
        assert_eq!(dev.reclaim(1), 1);
        assert!(!objs.iter().any(|obj| is_resident(obj)));
        assert_eq!(dev.reclaim(1), 0);
        Ok(())
    }

    /// It pays for what would be swapped out, not for what nobody needs.
    #[test]
    fn surplus_keeps_nothing_from_being_purged() -> Result {
        let dev = Device::new()?;
        let swapped = dev.object(1, Fate::Swap)?;
        assert_eq!(dev.reclaim(1), 1);
        assert!(!is_resident(&swapped));
        let unneeded = [dev.object(2, Fate::Purge)?, dev.object(3, Fate::Purge)?];
        let needed = dev.object(4, Fate::Swap)?;
        assert_eq!(dev.reclaim(1), 1);
        assert!(!is_resident(&unneeded[0]));
        // More than one has: both fates.
        assert_eq!(dev.reclaim(PAGES + PAGES - 1), PAGES + PAGES - 1);
        assert!(!is_resident(&unneeded[1]));
        assert!(is_resident(&needed));
        assert_eq!(dev.reclaim(1), 1);
        assert!(!is_resident(&needed));
        Ok(())
    }

    #[test]
    fn last_reference_is_left_to_the_graveyard() -> Result {
        let mut dev = Device::new()?;
        let obj = dev.object(1, Fate::Swap)?;
        {
            let shrinker = dev.shrinker();
            pin_init::stack_pin_init!(let walk = shrinker.walk(&dev.state.needed));
            let visited = walk.as_mut().next().ok_or(ENOENT)?;
            assert_eq!(dev.alive(), 1);
            drop(obj);
            assert_eq!(dev.alive(), 1);
            as_reclaim(|| drop(visited));
            assert!(walk.as_mut().next().is_none());
        }
        // Ending the shrinker waits for the work.
        dev.shrinker = None;
        assert_eq!(dev.alive(), 0);
        Ok(())
    }

    #[test]
    fn walks_end_and_put_back() -> Result {
        let dev = Device::new()?;
        let objs = [dev.object(1, Fate::Swap)?, dev.object(2, Fate::Swap)?];
        let lru = &dev.state.needed;
        {
            pin_init::stack_pin_init!(let walk = dev.shrinker().walk(lru));
            let mut visits = 0;
            while let Some(obj) = walk.as_mut().next() {
                visits += 1;
                // Used meanwhile: at the end again.
                lru.move_tail(&obj, &obj.lock_lru());
            }
            assert_eq!(visits, 2);
        }
        assert_eq!(lru.pages(), 2 * PAGES);
        {
            pin_init::stack_pin_init!(let walk = dev.shrinker().walk(lru));
            assert!(walk.as_mut().next().is_some());
            assert_eq!(lru.pages(), PAGES);
        }
        assert_eq!(lru.pages(), 2 * PAGES);
        drop(objs);
        assert_eq!(lru.pages(), 0);
        Ok(())
    }

    /// What reclaim calls.
    fn shrink(raw: *mut bindings::shrinker, gfp: u32, pages: usize) -> usize {
        let sc = Opaque::<bindings::shrink_control>::zeroed();
        {
            // SAFETY: Ours alone.
            let sc = unsafe { &mut *sc.get() };
            sc.gfp_mask = gfp;
            sc.nr_to_scan = pages;
        }
        // SAFETY: A registered shrinker of ours.
        let scan = unsafe { (*raw).scan_objects }.unwrap();
        // SAFETY: As above.
        as_reclaim(|| unsafe { scan(raw, sc.get()) })
    }

    #[test]
    fn registered() -> Result {
        const NAME: &CStr = c"gpuvm_rs_test";
        let dev = Device::new()?;
        let obj = dev.object(1, Fate::Swap)?;
        let driver = Toy(&raw const *dev.state);
        // SAFETY: Dropped before the device.
        let registration = unsafe { Registration::new(NAME, dev.drm, driver)? };
        let raw = registration.raw.as_ptr();
        let sc = Opaque::<bindings::shrink_control>::zeroed();
        // SAFETY: A registered shrinker of ours.
        let count = unsafe { (*raw).count_objects }.unwrap();
        // SAFETY: As above.
        let count = unsafe { count(raw, sc.get()) };
        assert_eq!(count, PAGES as usize);
        // Without I/O nothing can be swapped out.
        assert_eq!(shrink(raw, bindings::GPUVM_RS_GFP_NOIO, 1), SHRINK_STOP);
        assert!(is_resident(&obj));
        assert_eq!(shrink(raw, bindings::GPUVM_RS_GFP_KERNEL, 1), 1);
        assert!(!is_resident(&obj));
        assert_eq!(
            shrink(raw, bindings::GPUVM_RS_GFP_KERNEL, 100),
            PAGES as usize - 1
        );
        assert_eq!(shrink(raw, bindings::GPUVM_RS_GFP_KERNEL, 100), SHRINK_STOP);
        Ok(())
    }
}
