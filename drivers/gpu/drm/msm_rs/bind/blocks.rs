// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is mapped in blocks instead of pages.
//!
//! How a BO's memory lies is known when the BO has its pages, and is locked. But the page tables,
//! far fewer for blocks, are reserved before anything is locked. So each BO is looked at before, by
//! itself; and if its pages have gone since and come back elsewhere, its tables are reserved for
//! pages, which always suffices.

use core::ops::Deref;

use kernel::{
    alloc::KVVec,
    prelude::*, //
};

use super::op::BindOp;
use crate::{
    address_space::{
        footprint,
        idle::GpuIdle,
        reservation::Blocks, //
    },
    bo::backing,
    ffi::{
        not_killed,
        pages::Pages,
        vm::Bind, //
    },
    gpuvm_rs::{
        range::VaRange,
        vm::GpuVm, //
    },
    pgtable::{
        footprint::Touch,
        geometry::{
            entry_shift,
            BLOCK,
            BLOCK_SIZE, //
        },
    },
    pure::ops::Kind,
};

/// What an op does to the page tables.
pub(super) enum Touches {
    /// The same everywhere: of a MAP, whose memory may lie anyhow, as of all others.
    Alike(Touch),
    /// A MAP that has blocks.
    Blocks(KVVec<Touch>),
}

impl Touches {
    /// What an op does as far as is known without a look at its memory.
    pub(super) fn new(kind: &Kind, range: VaRange) -> Self {
        Self::Alike(match kind {
            Kind::Map { .. } => Touch::Pages(range),
            Kind::MapNull | Kind::Unmap => Touch::Edges(range),
        })
    }
}

impl Deref for Touches {
    type Target = [Touch];

    #[inline]
    fn deref(&self) -> &[Touch] {
        match self {
            Self::Alike(touch) => core::slice::from_ref(touch),
            Self::Blocks(touches) => touches,
        }
    }
}

impl BindOp {
    /// Whether it maps what may lie in blocks. Where the BO's file has a large page, that is
    /// aligned in the file as it is in memory.
    fn may_have_blocks(&self) -> bool {
        let Kind::Map { offset, .. } = self.op.kind else {
            return false;
        };
        (self.range.addr() ^ offset) & (BLOCK_SIZE - 1) == 0
            && self.range.align_in(entry_shift(BLOCK)).is_some()
    }

    /// What the op does when the BO's pages are these.
    fn touches_of(&self, pages: &Pages) -> Result<Touches> {
        let unknown = Touches::new(&self.op.kind, self.range);
        let Kind::Map { offset, .. } = self.op.kind else {
            return Ok(unknown);
        };
        let mut touches = KVVec::new();
        let mut has_blocks = false;
        for touch in footprint::touches(self.range, pages, offset)? {
            has_blocks |= matches!(touch, Touch::Blocks(_));
            let joins = match (touches.last_mut(), &touch) {
                (Some(Touch::Pages(last)), Touch::Pages(next))
                | (Some(Touch::Blocks(last)), Touch::Blocks(next)) => last.absorb(next),
                _ => false,
            };
            if !joins {
                touches.push(touch, GFP_KERNEL | __GFP_NOWARN)?;
            }
        }
        Ok(if has_blocks {
            Touches::Blocks(touches)
        } else {
            unknown
        })
    }
}

/// Looks how the memory lies that `ops` map, where it may be in blocks. Those BOs get their pages.
///
/// # Errors
///
/// As [`backing::with_pages`], `EINTR`; `EPIPE` if the VM is unusable.
pub(super) fn look(vm: &GpuVm<Bind>, ops: &mut [BindOp]) -> Result {
    for op in ops.iter_mut().filter(|op| op.may_have_blocks()) {
        not_killed()?;
        if vm.is_unusable() {
            return Err(EPIPE);
        }
        if let Some(bo) = &op.bo {
            op.touches = backing::with_pages(bo, |locked| op.touches_of(&locked.pages()?))?;
        }
    }
    Ok(())
}

/// Whether the memory lies as it was found, of BOs that are locked and have their pages. If not,
/// the ops say from now on that it may lie anyhow.
///
/// # Errors
///
/// `ENOMEM`, `EINTR`.
pub(super) fn are_as_found(ops: &mut [BindOp]) -> Result<bool> {
    let mut as_found = true;
    for op in ops {
        let (Touches::Blocks(found), Some(pages)) = (&op.touches, &op.pages) else {
            continue;
        };
        not_killed()?;
        if found[..] != op.touches_of(pages)?[..] {
            op.touches = Touches::new(&op.op.kind, op.range);
            as_found = false;
        }
    }
    Ok(as_found)
}

/// Splits blocks that are in the way, and waits until the GPU doesn't use the VM for that.
///
/// # Errors
///
/// As [`GpuIdle::wait`] and [`Blocks::split`]; `EPIPE` if the VM is unusable. Nothing has changed
/// then that the GPU could tell.
#[cold]
pub(super) fn split(vm: &GpuVm<Bind>, blocks: &Blocks) -> Result {
    if vm.is_unusable() {
        return Err(EPIPE);
    }
    blocks.split(&GpuIdle::wait(vm)?)
}
