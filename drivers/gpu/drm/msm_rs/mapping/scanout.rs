// SPDX-License-Identifier: GPL-2.0-only

//! BOs that the display shows.
//!
//! Mapping a framebuffer costs more than flipping to it, so its VMA in the display's VM outlives
//! the unpin. It stays while anybody could ask for it again (a *user*: a handle, a dma-buf, a
//! framebuffer that is prepared) or it is pinned, and goes when neither is left. Whoever takes the
//! last of either away looks at both under the locks of VM and BO, under which pins come: a pin
//! that comes meanwhile finds the VMA, or makes a new one.
//!
//! The display may go before its BOs do. Its VM lives on for as long as there are VMAs in it, and
//! it is by its VMA alone that a BO leads to it: the device's pointer may be stale.
//!
//! The VMA refers to the BO, so that a BO without users whose VMA stayed would never be freed.

use super::managed;
use crate::{
    ffi::{
        bo::{
            Bo,
            BoLocked, //
        },
        vm::Managed, //
    },
    gpuvm_rs::vm::VmLocked, //
};

/// One more user. No lock is needed: there is one already, or the caller can wait for the VMA.
pub(crate) fn hold(bo: &Bo) {
    bo.add_scanout_user();
}

/// One user less.
pub(crate) fn release(bo: &Bo) {
    if bo.remove_scanout_user() == 0 {
        if let Some(vm) = bo.kms_vm() {
            bo.with_vm(&vm, close_if_unused);
        }
    }
}

/// Whether `vm` is the display's.
pub(crate) fn is_kms(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>) -> bool {
    bo.is_kms_vm(vm)
}

/// The BO was pinned in `vm`.
pub(crate) fn pinned(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>) {
    if is_kms(vm, bo) {
        bo.set_scanout_pins(bo.scanout_pins().saturating_add(1));
    }
}

/// The BO was unpinned in `vm`, which is the display's.
pub(crate) fn unpinned(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>) {
    bo.set_scanout_pins(bo.scanout_pins().saturating_sub(1));
    close_if_unused(vm, bo);
}

/// The VMA goes if nothing keeps it.
fn close_if_unused(vm: &VmLocked<'_, Managed>, bo: &BoLocked<'_>) {
    if bo.scanout_users() <= 0 && bo.scanout_pins() == 0 {
        managed::close(vm, bo);
    }
}
