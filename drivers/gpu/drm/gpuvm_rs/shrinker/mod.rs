// SPDX-License-Identifier: GPL-2.0-only

//! A shrinker for the objects of a GEM driver.
//!
//! A driver keeps its objects in two LRUs, one for each [`Fate`], and says what an object's fate is
//! from what it holds, and how to take its pages away ([`Driver`]). What is here does the rest:
//!
//! - Counting takes no lock.
//! - A scan goes from cheap to expensive: idle objects whose content nobody needs, idle ones that
//!   can be swapped out, then the same again, waiting for those that are in use.
//! - It waits at most [`PATIENCE_MS`] in all, and holds no lock while it does.
//! - It only ever tries to lock objects and VMs: the task that runs out of memory may hold any of
//!   them.
//! - What reclaim didn't ask for isn't swapped out ([`stages::Surplus`]): objects go whole, so that
//!   a few pages asked for by each of several tasks would otherwise become as many objects.
//! - Dropping the last reference to an object is left to a work item ([`super::graveyard`]).
//!
//! `Documentation/shrinker.rst` says how to write a driver's part.

pub mod stages;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;

use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicU64,
        Ordering, //
    },
};

use kernel::{
    ffi::c_ulong,
    page::PAGE_SHIFT,
    prelude::*,
    str::CStr,
    sync::aref::ARef, //
};

use self::stages::{
    Fate,
    Freed,
    Horizon,
    LastUse,
    Request,
    Stage,
    Surplus,
    STAGES, //
};
use super::{
    fence::Fence,
    gem::{
        GemObject,
        ObjLocked, //
    },
    graveyard::Graveyard,
    lru::{
        Lru,
        LruLocked, //
    },
    trylock::AllLocked,
    walk::Walk,
};
use crate::bindings;

/// How long one scan waits for objects that are in use, in ms.
pub const PATIENCE_MS: u32 = 40;

/// The driver's part.
pub trait Driver: Sized + Send + Sync + 'static {
    /// The LRU of the objects with that fate that aren't pinned.
    fn lru(&self, fate: Fate) -> &Lru;

    /// How many pages can be swapped out now; 0 to have nothing swapped out.
    fn swap_room(&self) -> u64;

    /// What may be done with `obj`'s pages, from what it holds: `None` if there are none, or they
    /// are pinned.
    ///
    /// Called before anything is done, since much may have changed from when the object was found
    /// in its LRU.
    fn fate(&self, obj: &ObjLocked<'_>, lru: &LruLocked<'_>) -> Option<Fate>;

    /// The fence of somebody who uses `obj` that isn't signalled, if there is any. It is called
    /// with the VMs that map it locked, too, before the pages are taken.
    ///
    /// Without work whose fence is elsewhere, all fences are in the object's own resv.
    fn busy(&self, obj: &ObjLocked<'_>) -> Option<ARef<Fence>> {
        obj.busy()
    }

    /// When `obj` was used last, or a VM that maps it. What was used earlier is swapped out first.
    /// By default that is what comes earlier in the LRU.
    ///
    /// It is asked before [`Self::fate`], so that no lock is held for it but the object's: there
    /// may be no pages.
    fn last_use(&self, _obj: &ObjLocked<'_>) -> LastUse {
        LastUse::default()
    }

    /// The time by which [`Self::last_use`] goes.
    fn now(&self) -> LastUse {
        LastUse::default()
    }

    /// Takes `obj`'s pages away: first whatever reaches them (page tables of every VM, CPU
    /// mappings), then the pages, and their content if the fate is to be purged. The object is
    /// idle, and [`Self::fate`] has just returned `fate`.
    ///
    /// The object goes to another LRU, or stays: it isn't visited again by the same scan.
    ///
    /// # Errors
    ///
    /// The object still has all of its content.
    fn evict(&self, obj: &AllLocked<'_>, fate: Fate) -> Result;

    /// A scan has ended that had been asked for `asked` pages.
    fn scanned(&self, _asked: u64, _freed: &Freed) {}
}

/// The number of pages of an object.
fn pages(obj: &GemObject) -> u64 {
    obj.size() >> PAGE_SHIFT
}

/// A device's shrinker.
#[pin_data]
pub struct Shrinker<D: Driver> {
    driver: D,
    surplus: Surplus,
    /// The [`LastUse`] up to which objects were swapped out: most of what is left was used later.
    oldest: AtomicU64,
    #[pin]
    graveyard: Graveyard,
}

impl<D: Driver> Shrinker<D> {
    /// A shrinker that reclaim doesn't know of: for [`Registration`], and for tests.
    ///
    /// # Safety
    ///
    /// `dev` outlives it; all objects in the driver's LRUs are the device's.
    pub unsafe fn new(dev: *mut bindings::drm_device, driver: D) -> impl PinInit<Self> {
        pin_init!(Self {
            driver,
            surplus: Surplus::new(),
            oldest: AtomicU64::new(0),
            // SAFETY: The caller's promise.
            graveyard <- unsafe { Graveyard::new(dev) },
        })
    }

    /// The driver's part.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// A walk along one of the device's LRUs that may drop last references wherever it runs.
    pub fn walk<'a>(&'a self, lru: &'a Lru) -> impl PinInit<Walk<'a>> + 'a {
        Walk::new(lru, &self.graveyard)
    }

    /// How many pages could be freed.
    pub fn count(&self) -> u64 {
        let swappable = self.driver.lru(Fate::Swap).pages();
        self.driver.lru(Fate::Purge).pages() + swappable.min(self.driver.swap_room())
    }

    /// Frees pages for reclaim. Returns how many of those that it asked for it has got, with what
    /// earlier scans had swapped out beyond what they were asked for; 0 if it's no use to ask
    /// again.
    pub fn reclaim(&self, request: &Request) -> u64 {
        let (freed, paid) = self.run(request, Some(&self.surplus));
        let wanted = request.pages - paid;
        let surplus = freed.total().saturating_sub(wanted);
        self.surplus.add(surplus.min(freed.by(Fate::Swap)));
        paid + freed.total().min(wanted)
    }

    /// Frees at least as many pages as are asked for, if there are.
    pub fn scan(&self, request: &Request) -> Freed {
        self.run(request, None).0
    }

    /// Frees pages. Instead of swapping some out, takes as many from `surplus`, and returns how
    /// many those were.
    fn run(&self, request: &Request, surplus: Option<&Surplus>) -> (Freed, u64) {
        let (mut freed, mut paid) = (Freed::default(), 0);
        // SAFETY: Has no preconditions.
        let mut patience = unsafe { bindings::gpuvm_rs_msecs_to_jiffies(PATIENCE_MS) };
        for (index, stage) in STAGES.into_iter().enumerate() {
            if !request.allows(stage) {
                continue;
            }
            let mut wanted = request.pages.saturating_sub(freed.total() + paid);
            if let (Fate::Swap, Some(surplus)) = (stage.fate, surplus) {
                let now = surplus.pay(wanted);
                paid += now;
                wanted -= now;
            }
            if wanted == 0 {
                break;
            }
            let pages = if stage.fate == Fate::Swap && !stage.waits {
                self.scan_by_age(stage, wanted, surplus.is_some())
            } else {
                self.scan_stage(stage, wanted, &mut patience, &mut Horizon::none())
            };
            if let Some(slot) = freed.0.get_mut(index) {
                *slot = pages;
            }
            if surplus.is_some() && stage.fate == Fate::Swap && pages > 0 {
                // Reclaim asks again. What is in use waits until nothing that is idle is left.
                break;
            }
        }
        // Purged pages are free now. Those that were swapped out count when reclaim, which has them
        // on its lists again, gets rid of them.
        let purged = freed.by(Fate::Purge) as usize;
        // SAFETY: Adds to a counter of the current task, if it has one.
        unsafe { bindings::mm_account_reclaimed_pages(purged) };
        if freed.total() > 0 {
            self.driver.scanned(request.pages, &freed);
        }
        (freed, paid)
    }

    /// As [`Self::scan_stage`], for a stage that doesn't wait: what was used longest ago goes
    /// first. With `less_will_do`, what was used lately stays if there was anything else: reclaim
    /// asks again.
    fn scan_by_age(&self, stage: Stage, wanted: u64, less_will_do: bool) -> u64 {
        let mut freed = 0;
        let mut patience = 0;
        let mut horizon = Horizon::new(LastUse(self.oldest.load(Ordering::Relaxed)));
        loop {
            freed += self.scan_stage(stage, wanted - freed, &mut patience, &mut horizon);
            if freed >= wanted {
                break;
            }
            let Some(next) = horizon.next(self.driver.now()) else {
                break;
            };
            match next.limit() {
                // Time only goes on: what another scan has stored is as true.
                Some(limit) => self.oldest.fetch_max(limit.0, Ordering::Relaxed),
                None if less_will_do && freed > 0 => break,
                None => 0,
            };
            horizon = next;
        }
        freed
    }

    /// Frees at least `wanted` pages, if there are in `horizon`; returns how many. A stage that
    /// waits uses up `patience`, in jiffies.
    fn scan_stage(
        &self,
        stage: Stage,
        wanted: u64,
        patience: &mut usize,
        horizon: &mut Horizon,
    ) -> u64 {
        let mut room = match stage.fate {
            Fate::Purge => u64::MAX,
            Fate::Swap => self.driver.swap_room(),
        };
        let mut freed = 0;
        pin_init::stack_pin_init!(let walk = self.walk(self.driver.lru(stage.fate)));
        while freed < wanted && room > 0 {
            let Some(obj) = walk.as_mut().next() else {
                break;
            };
            if stage.waits && !self.wait_idle(&obj, patience) {
                break;
            }
            if pages(&obj) <= room && self.evict(&obj, stage.fate, horizon) {
                freed += pages(&obj);
                room -= pages(&obj);
            }
        }
        freed
    }

    /// Waits until nobody uses `obj`, for `patience` jiffies at most, and uses them up. No lock is
    /// held meanwhile. Returns whether it came to that.
    fn wait_idle(&self, obj: &GemObject, patience: &mut usize) -> bool {
        loop {
            let Some(locked) = obj.try_lock() else {
                // Its own fences are to be seen without the lock.
                let left = obj.wait_idle_timeout(*patience);
                *patience = left.min(*patience);
                return left > 0;
            };
            let Some(fence) = self.driver.busy(&locked) else {
                return true;
            };
            drop(locked);
            *patience = fence.wait_timeout(*patience);
            if *patience == 0 {
                return false;
            }
        }
    }

    /// Evicts `obj` if that is its fate, it is idle, and nobody has one of the locks; and if
    /// `horizon` doesn't leave it.
    fn evict(&self, obj: &GemObject, fate: Fate, horizon: &mut Horizon) -> bool {
        let Some(obj) = obj.try_lock() else {
            return false;
        };
        // Before others have to wait for the locks of its VMs.
        if self.driver.busy(&obj).is_some() {
            return false;
        }
        let used = self.driver.last_use(&obj);
        {
            let lru = obj.lock_lru();
            if self.driver.fate(&obj, &lru) != Some(fate) {
                return false;
            }
            if horizon.leaves(used) {
                // Other scans are to see it: else they would take younger ones.
                self.driver.lru(fate).move_tail(&obj, &lru);
                return false;
            }
        }
        AllLocked::try_lock(&obj).is_some_and(|obj| {
            // From here on nobody can begin to use the object: whoever does attaches a fence, under
            // the object's lock or that of a VM which maps it.
            self.driver.busy(&obj).is_none() && self.driver.evict(&obj, fate).is_ok()
        })
    }
}

/// A shrinker that reclaim calls. Dropping it waits until no scan is running.
pub struct Registration<D: Driver> {
    raw: NonNull<bindings::shrinker>,
    shrinker: Pin<KBox<Shrinker<D>>>,
}

impl<D: Driver> Registration<D> {
    /// Registers a shrinker under a name that is shown in debugfs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `dev` outlives it; all objects in the driver's LRUs are the device's.
    pub unsafe fn new(
        name: &'static CStr,
        dev: *mut bindings::drm_device,
        driver: D,
    ) -> Result<Self> {
        // SAFETY: The caller's promise.
        let shrinker = KBox::pin_init(unsafe { Shrinker::new(dev, driver) }, GFP_KERNEL)?;
        // SAFETY: The format takes one string.
        let raw =
            unsafe { bindings::shrinker_alloc(0, c"%s".as_char_ptr().cast(), name.as_char_ptr()) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        let this = Self { raw, shrinker };
        // SAFETY: Just allocated, and ours alone until it is registered.
        let c = unsafe { &mut *raw.as_ptr() };
        c.count_objects = Some(Self::count);
        c.scan_objects = Some(Self::scan);
        c.private_data = core::ptr::from_ref(&*this.shrinker).cast_mut().cast();
        // SAFETY: Filled in. The state stays where it is until `drop()` has freed the shrinker.
        unsafe { bindings::shrinker_register(raw.as_ptr()) };
        Ok(this)
    }

    /// The shrinker.
    pub fn shrinker(&self) -> &Shrinker<D> {
        &self.shrinker
    }

    /// The state of C's shrinker.
    ///
    /// # Safety
    ///
    /// It is of driver `D`, and stays registered for `'a`.
    unsafe fn of<'a>(shrinker: *mut bindings::shrinker) -> &'a Shrinker<D> {
        // SAFETY: Registered, by the caller's promise.
        let state = unsafe { (*shrinker).private_data };
        // SAFETY: `new()` has put it there. It lives until the shrinker was freed.
        unsafe { &*state.cast() }
    }

    /// # Safety
    ///
    /// Called by reclaim for a shrinker of driver `D` that is registered.
    unsafe extern "C" fn count(
        shrinker: *mut bindings::shrinker,
        _sc: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: The caller's promise; freeing a shrinker waits for this.
        unsafe { Self::of(shrinker) }.count() as c_ulong
    }

    /// # Safety
    ///
    /// As [`Self::count`], where it may sleep.
    unsafe extern "C" fn scan(
        shrinker: *mut bindings::shrinker,
        sc: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: The caller's promise; freeing a shrinker waits for this.
        let shrinker = unsafe { Self::of(shrinker) };
        // SAFETY: Reclaim passes valid parameters, which are its own.
        let sc = unsafe { &*sc };
        let request = Request {
            pages: sc.nr_to_scan as u64,
            // SAFETY: Has no preconditions.
            may_swap: unsafe { bindings::gpuvm_rs_gfp_may_swap(sc.gfp_mask) },
            // SAFETY: Looks at the current task.
            may_wait: unsafe { bindings::gpuvm_rs_gfp_may_wait(sc.gfp_mask) },
        };
        match shrinker.reclaim(&request) {
            0 => SHRINK_STOP,
            pages => pages as c_ulong,
        }
    }
}

impl<D: Driver> Drop for Registration<D> {
    fn drop(&mut self) {
        // SAFETY: From `new()`. Waits for scans that are running.
        unsafe { bindings::shrinker_free(self.raw.as_ptr()) };
    }
}

/// `SHRINK_STOP`: nothing can be freed now.
pub const SHRINK_STOP: c_ulong = c_ulong::MAX;

/// Runs `f` as if reclaim did: lockdep knows.
pub fn as_reclaim<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Annotations, which nest.
    unsafe { bindings::gpuvm_rs_reclaim_begin() };
    let result = f();
    // SAFETY: Begun above.
    unsafe { bindings::gpuvm_rs_reclaim_end() };
    result
}
