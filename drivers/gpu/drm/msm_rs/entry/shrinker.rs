// SPDX-License-Identifier: GPL-2.0-only

//! Who asks for BOs' memory: reclaim, debugfs, and whoever is short of kernel addresses.

use core::ptr::NonNull;

use kernel::{
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
};

use crate::{
    ffi::{
        self,
        bindings,
        lrus::Lrus, //
    },
    gpuvm_rs::{
        container_of, from_result,
        shrinker::{
            Registration,
            SHRINK_STOP, //
        },
    },
    shrinker::{
        self,
        Shrinker, //
    },
};

/// The shrinker of a device. `priv->shrinker` is C's field, in which nothing else is kept: not C's
/// shrinker, but this.
type Owned = Registration<Lrus>;

/// # Safety
///
/// `private` is alive and nobody takes the shrinker away meanwhile.
unsafe fn shrinker<'a>(private: *mut bindings::msm_drm_private) -> Option<&'a Shrinker> {
    // SAFETY: Alive, by the caller's promise.
    let owned = unsafe { (*private).shrinker };
    // SAFETY: NULL or from `msm_gem_shrinker_init()`. It stays, by the caller's promise.
    unsafe { owned.cast::<Owned>().as_ref() }.map(Registration::shrinker)
}

/// # Safety
///
/// Called when the device is made, before it is used.
#[no_mangle]
unsafe extern "C" fn msm_gem_shrinker_init(dev: *mut bindings::drm_device) -> c_int {
    let init = || -> Result {
        // SAFETY: Alive, by the caller's promise.
        let private = NonNull::new(unsafe { ffi::private(dev) }).ok_or(EINVAL)?;
        // SAFETY: C has set up the LRUs. They go with the device, before which the shrinker does.
        let lrus = unsafe { Lrus::new(private) };
        // SAFETY: The shrinker goes before the device does, whose objects are in the LRUs.
        let registration = unsafe { Registration::new(c"drm-msm_gem", dev, lrus) }?;
        let registration = KBox::into_raw(KBox::new(registration, GFP_KERNEL)?);
        let private = private.as_ptr();
        // SAFETY: Alive; nobody else looks at it before the device is used.
        unsafe { (*private).shrinker = registration.cast() };
        // SAFETY: As above.
        let notifier = unsafe { &mut (*private).vmap_notifier };
        notifier.notifier_call = Some(addresses_are_short);
        // A chain takes any notifier.
        // SAFETY: On no list. `msm_gem_shrinker_cleanup()` takes it off before it goes.
        unsafe { bindings::register_vmap_purge_notifier(notifier) };
        Ok(())
    };
    from_result(init())
}

/// # Safety
///
/// Called when the device goes. It may never have had a shrinker.
#[no_mangle]
unsafe extern "C" fn msm_gem_shrinker_cleanup(dev: *mut bindings::drm_device) {
    // SAFETY: Alive, by the caller's promise.
    let private = unsafe { ffi::private(dev) };
    // SAFETY: As above.
    let registration = unsafe { (*private).shrinker };
    if registration.is_null() {
        return;
    }
    // SAFETY: As above.
    let notifier = unsafe { &raw mut (*private).vmap_notifier };
    // SAFETY: Registered with the shrinker. Waits for those who use it.
    unsafe { bindings::unregister_vmap_purge_notifier(notifier) };
    // SAFETY: As above; nobody else looks at it any more.
    unsafe { (*private).shrinker = core::ptr::null_mut() };
    // SAFETY: From `msm_gem_shrinker_init()`. Dropping it waits for those who use it.
    drop(unsafe { KBox::from_raw(registration.cast::<Owned>()) });
}

/// # Safety
///
/// Called for debugfs' `shrink` file; the device is alive.
#[no_mangle]
unsafe extern "C" fn msm_gem_shrinker_shrink(
    dev: *mut bindings::drm_device,
    nr_to_scan: c_ulong,
) -> c_ulong {
    // SAFETY: Alive, by the caller's promise.
    let private = unsafe { ffi::private(dev) };
    // SAFETY: debugfs goes before the shrinker does.
    let shrinker = unsafe { shrinker(private) };
    match shrinker.map_or(0, |s| shrinker::on_request(s, nr_to_scan as u64)) {
        0 => SHRINK_STOP,
        pages => pages as c_ulong,
    }
}

/// The notifier for when kernel addresses are short. Counts what it gave back into `given`.
///
/// # Safety
///
/// Called for a notifier that `msm_gem_shrinker_init()` has registered.
unsafe extern "C" fn addresses_are_short(
    notifier: *mut bindings::notifier_block,
    _event: c_ulong,
    given: *mut c_void,
) -> c_int {
    let private = container_of!(notifier, bindings::msm_drm_private, vmap_notifier);
    // SAFETY: The notifier is in the device's private data, by the caller's promise, and is
    // unregistered before the shrinker goes.
    if let Some(shrinker) = unsafe { shrinker(private) } {
        let purged = shrinker::purge_vmaps(shrinker) as c_ulong;
        // SAFETY: C passes an unsigned long.
        unsafe { *given.cast::<c_ulong>() += purged };
    }
    // NOTIFY_DONE
    0
}
