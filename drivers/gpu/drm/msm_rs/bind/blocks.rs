// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is mapped in blocks instead of pages.
//!
//! How a BO's memory lies is known when the BO has its pages, and is locked. But the page tables,
//! far fewer for blocks, are reserved before anything is locked. So each BO is looked at before, by
//! itself; and if its pages have gone since and come back elsewhere, its tables are reserved for
//! pages, which always suffices.

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
    gpuvm_rs::vm::GpuVm,
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

/// How the memory lies that one op maps, which has blocks.
struct Layout {
    /// Which op, by its index.
    op: usize,
    /// What the op does to the page tables.
    touches: KVVec<Touch>,
}

/// How the memory lies that the ops of a request map: of those that have blocks, in the ops' order.
/// That of others may lie anyhow.
pub(super) struct Layouts(KVVec<Layout>);

impl Layouts {
    /// Looks how it lies, where it may be in blocks. Those BOs get their pages.
    ///
    /// # Errors
    ///
    /// As [`backing::with_pages`], `EINTR`; `EPIPE` if the VM is unusable.
    pub(super) fn look(vm: &GpuVm<Bind>, ops: &[BindOp]) -> Result<Self> {
        let mut layouts = KVVec::new();
        for (at, op) in ops.iter().enumerate() {
            if op.range.len() < BLOCK_SIZE || !op.may_have_blocks() {
                continue;
            }
            not_killed()?;
            if vm.is_unusable() {
                return Err(EPIPE);
            }
            let Some(bo) = &op.bo else {
                continue;
            };
            let touches = backing::with_pages(bo, |locked| op.touches_of(&locked.pages()?))?;
            if let Some(touches) = touches {
                layouts.push(Layout { op: at, touches }, GFP_KERNEL | __GFP_NOWARN)?;
            }
        }
        Ok(Self(layouts))
    }

    /// Whether there are no blocks.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `ops` do to the page tables.
    pub(super) fn touches<'a>(&'a self, ops: &'a [BindOp]) -> impl Iterator<Item = Touch> + 'a {
        let mut layouts = self.0.iter().peekable();
        ops.iter().enumerate().flat_map(move |(at, op)| {
            let layout = layouts.next_if(|layout| layout.op == at);
            let alike = layout.is_none().then(|| op.touch());
            let several = layout.map_or(&[][..], |layout| &layout.touches);
            Iterator::chain(alike.into_iter(), several.iter().copied())
        })
    }

    /// Whether the memory still lies as it was found. The BOs are locked and have their pages. What
    /// doesn't may lie anyhow from now on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR`.
    pub(super) fn are_right(&mut self, ops: &[BindOp]) -> Result<bool> {
        let mut right = KVVec::with_capacity(self.0.len(), GFP_KERNEL | __GFP_NOWARN)?;
        let found = self.0.len();
        for layout in self.0.drain_all() {
            not_killed()?;
            let op = ops.get(layout.op);
            let now = match op.and_then(|op| Some((op, op.pages.as_ref()?))) {
                Some((op, pages)) => op.touches_of(pages)?,
                None => None,
            };
            if now.as_deref() == Some(&layout.touches[..]) {
                right.push(layout, GFP_KERNEL | __GFP_NOWARN)?;
            }
        }
        self.0 = right;
        Ok(self.0.len() == found)
    }
}

impl BindOp {
    /// What the op does to the page tables, however its memory lies.
    pub(super) fn touch(&self) -> Touch {
        match self.op.kind {
            Kind::Map { .. } => Touch::Pages(self.range),
            Kind::MapNull | Kind::Unmap => Touch::Edges(self.range),
        }
    }

    /// Whether it maps what may lie in blocks. Where the BO's file has a large page, that is
    /// aligned in the file as it is in memory.
    fn may_have_blocks(&self) -> bool {
        let Kind::Map { offset, .. } = self.op.kind else {
            return false;
        };
        (self.range.addr() ^ offset) & (BLOCK_SIZE - 1) == 0
            && self.range.align_in(entry_shift(BLOCK)).is_some()
    }

    /// What the op does when the BO's pages are these, if there is a block among them.
    fn touches_of(&self, pages: &Pages) -> Result<Option<KVVec<Touch>>> {
        let Kind::Map { offset, .. } = self.op.kind else {
            return Ok(None);
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
        Ok(has_blocks.then_some(touches))
    }
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
