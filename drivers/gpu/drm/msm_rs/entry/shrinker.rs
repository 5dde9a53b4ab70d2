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
        from_result,
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
    // SAFETY: NULL or from `msm_gem_shrinker_init()`.
    unsafe { (*private).shrinker.cast::<Owned>().as_ref() }.map(Registration::shrinker)
}

/// # Safety
///
/// Called when the device is made, before it is used.
#[no_mangle]
unsafe extern "C" fn msm_gem_shrinker_init(dev: *mut bindings::drm_device) -> c_int {
    let init = || -> Result {
        // SAFETY: Alive; C has set up the LRUs. The shrinker goes before the device does. The
        // notifier is on no list.
        unsafe {
            let private = NonNull::new(ffi::private(dev)).ok_or(EINVAL)?;
            // INVARIANT: The device is alive for as long as its shrinker.
            let registration = Registration::new(c"drm-msm_gem", dev, Lrus::new(private))?;
            let registration = KBox::new(registration, GFP_KERNEL)?;
            let private = private.as_ptr();
            (*private).shrinker = KBox::into_raw(registration).cast();
            (*private).vmap_notifier.notifier_call = Some(addresses_are_short);
            // A chain takes any notifier.
            bindings::register_vmap_purge_notifier(&raw mut (*private).vmap_notifier);
        }
        Ok(())
    };
    from_result(init())
}

/// # Safety
///
/// Called when the device goes. It may never have had a shrinker.
#[no_mangle]
unsafe extern "C" fn msm_gem_shrinker_cleanup(dev: *mut bindings::drm_device) {
    // SAFETY: Alive. Both calls wait for those who use the shrinker.
    unsafe {
        let private = ffi::private(dev);
        let registration = (*private).shrinker;
        if !registration.is_null() {
            bindings::unregister_vmap_purge_notifier(&raw mut (*private).vmap_notifier);
            (*private).shrinker = core::ptr::null_mut();
            drop(KBox::from_raw(registration.cast::<Owned>()));
        }
    }
}

/// # Safety
///
/// Called for debugfs' `shrink` file; the device is alive.
#[no_mangle]
unsafe extern "C" fn msm_gem_shrinker_shrink(
    dev: *mut bindings::drm_device,
    nr_to_scan: c_ulong,
) -> c_ulong {
    // SAFETY: debugfs goes before the shrinker does.
    let shrinker = unsafe { shrinker(ffi::private(dev)) };
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
    // SAFETY: In the device's private data; unregistered before the shrinker goes. C passes an
    // unsigned long.
    unsafe {
        let private = kernel::container_of!(notifier, bindings::msm_drm_private, vmap_notifier);
        if let Some(shrinker) = shrinker(private) {
            *given.cast::<c_ulong>() += shrinker::purge_vmaps(shrinker) as c_ulong;
        }
    }
    // NOTIFY_DONE
    0
}
