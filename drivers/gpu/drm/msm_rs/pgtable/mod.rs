// SPDX-License-Identifier: GPL-2.0-only

//! The page tables of a per-process VM: what TTBR0 points to.
//!
//! The tables are our own and not io-pgtable's, for what a fence path needs: nothing is allocated
//! while a job runs, a run of pages is written without a walk per page, NULL (PRR) mappings of any
//! size cost next to nothing, empty tables are given back, and removal is separate from
//! invalidation, so that a job needs one.
//!
//! This folder only computes; it follows the rules of `pure`. Memory, allocation, locks and the
//! SMMU are behind the traits of [`memory`].
//!
//! # Locks
//!
//! Everything here runs under the lock of the VM's page tables, which whoever has the [`Memory`]
//! holds. Nothing here sleeps or allocates, so the lock may be taken on the fence path.
//!
//! # Layout
//!
//! - [`geometry`]: levels, reaches, indices.
//! - [`pte`]: the descriptors' bits.
//! - [`memory`]: the traits, and what is counted per table.
//! - [`footprint`]: which tables a job may need.
//! - here: [`PageTables`], which changes them.
//!
//! # Life of a job's tables
//!
//! 1. *Plan.* [`Footprint::new`] takes the job's operations; no lock is needed.
//! 2. *Reserve.* [`PageTables::reserve`] links every table of the footprint that doesn't exist, and
//!    pins all of them. If the pool has too few it changes nothing and says how many are missing:
//!    the caller unlocks, allocates, and tries again. An empty table translates nothing, just as no
//!    table does, and a copy of a shared NULL table translates what the shared one does, so linking
//!    early isn't seen by the GPU. Where a block is, no table can be linked like that: see
//!    [Blocks](#blocks).
//! 3. *Run.* [`map`](PageTables::map), [`map_null`](PageTables::map_null),
//!    [`unmap`](PageTables::unmap) in any order. No table is needed any more, so nothing can run
//!    out.
//! 4. *Release*, also of a job that was cancelled: [`PageTables::release`] unpins. Tables that are
//!    empty then are unlinked.
//! 5. An invalidation, if the [`Gather`] was called since the last one; then the tables gathered
//!    are freed, and the fence signals. A job that maps over something unmaps that first, for all
//!    its operations, and invalidates before it maps: see below.
//!
//! So the number of tables is exact by construction: what is reserved is what is linked. A table
//! that exists and is pinned can't vanish, whatever jobs run in between and in whatever order, and
//! a table that an earlier job reserved is there already when a later one is planned. A mapping
//! made at once (a kernel-managed VM, a BO that comes back after eviction) takes the same five
//! steps in one go.
//!
//! # Invariants
//!
//! - A table of level 3 holds page descriptors, one of another level table descriptors of the next
//!   level; one of level 2 block descriptors as well, each in place of a table of level 3.
//! - So there is no block where a table of level 3 is reserved.
//! - `live` is the number of entries that aren't zero.
//! - A table other than the root is *in use*: it has a live entry or a pin. (Otherwise it is
//!   unlinked at once.)
//! - A pinned table's parent is pinned, at least as often. So a table that isn't pinned has no
//!   pinned table below it.
//! - A shared NULL table is never written after [`NullTables::new`], counted, pinned or gathered.
//!
//! # Blocks
//!
//! [`map`](PageTables::map) writes a block wherever 2 MiB of memory, aligned like their address,
//! are mapped and no table is: [`Touch::Blocks`](footprint::Touch) is reserved for them. A table
//! that somebody else has reserved there is filled.
//!
//! A block goes whole, as a page does. What touches a part of it needs a table there, and to put
//! that in place of the block needs an invalidation in between: the GPU would fault, or its TLB
//! hold two sizes for one address. So [`reserve`](PageTables::reserve) refuses, and the caller
//! calls [`split`](PageTables::split) while the GPU uses nothing of the VM. From then on there is a
//! table that translates the same, and is reserved like any other. Jobs never meet a block that
//! they change in part.
//!
//! # NULL mappings
//!
//! Every entry of a NULL mapping points to the PRR page, of which reads give zero and writes
//! vanish. One shared table of level 3 has all its 512 entries so; one of level 2 has all of them
//! point to that; one of level 1 to that one. A NULL mapping links these wherever it covers a whole
//! table's reach: an entry per GiB or, with four levels, per 512 GiB. Tables that are linked there
//! and aren't pinned are dropped whole; pinned ones stay and are filled, since a job may rely on
//! them.
//!
//! # Break before make
//!
//! The Arm ARM (DDI 0487, "Using break-before-make when updating translation table entries")
//! demands it wherever several agents use the tables, as the clients of a GPU do, and a valid entry
//! gives way to a valid one with another memory type, cacheability or shareability, another output
//! address if either of the two can be written, or another size. Otherwise a TLB may hold both, and
//! what it then makes of them may be neither: not even the page that an access reaches is certain.
//! FEAT_BBM's levels are about the size alone. The SMMU (IHI 0062) has the tables' rules by
//! reference and no way to say that it is more tolerant. arm64's `pgattr_change_is_safe()` reads
//! the list in the same way; io-pgtable refuses to map over a live entry.
//!
//! - *A page descriptor*: [`map`](PageTables::map) and [`map_null`](PageTables::map_null) replace
//!   nothing but invalid entries; where something else is live they say [`Error::Live`]. Whoever
//!   wants it replaced unmaps, invalidates, and maps. So it is with a table descriptor that gives
//!   way to a shared table.
//! - *A shared table replaced by its copy*: the descriptor changes from one valid table to another
//!   in one 64-bit store. None of what the list names changes for any address: each translates to
//!   the same page with the same attributes and size, whichever of the two tables a walk goes
//!   through. To break here would take NULL mappings away, for a moment, that nobody has asked to
//!   change, under submits that use them. The shared table is never freed. Once the copy is
//!   changed, a walk cache may still lead to the shared table: every page in its reach was a live
//!   NULL mapping, so any change there is the removal of a live translation, is reported to the
//!   gather, and is followed by an invalidation (of walk caches too) before anything else is mapped
//!   there.
//! - *A table unlinked*: its contents are left alone until the invalidation, as a walker that
//!   cached the descriptor reads them. Only then is it reused, and only then is another one linked
//!   in its place.
//! - *A table linked*: it is published before the descriptor is written. Walkers don't cache
//!   invalid descriptors, so a new mapping needs no invalidation.

pub mod error;
pub mod footprint;
pub mod geometry;
pub mod memory;
mod null;
mod pieces;
pub mod pte;

pub use error::{Error, Refused};
use footprint::{Footprint, ReachBuf};
use geometry::{
    entry_shift, index, spans, table_shift, Geometry, Span, BLOCK, BLOCK_SIZE, ENTRIES, LEAF,
    PAGE_SHIFT, PAGE_SIZE,
};
use memory::{Counts, Entries, Gather, Memory, Pool, Table, Unlinked};
pub use null::NullTables;
use pieces::{Piece, Pieces};
use pte::Prot;

use crate::gpuvm_rs::range::VaRange;

/// From how many entries on it is worth finding out whether a table is empty, and from how many of
/// one run to store them together.
const LONG: usize = 16;

/// What an entry above the last level leads to.
#[derive(Clone, Copy)]
enum Child {
    Absent,
    /// The shared NULL table.
    Shared,
    /// A table of this VM's own.
    Own(Table),
    /// Memory, in place of a table of the last level.
    Block,
}

/// Tables that a footprint needs and which aren't there.
#[derive(Clone, Copy, Default)]
struct Missing {
    /// All of them.
    tables: u64,
    /// Those in whose place there are blocks.
    blocks: u64,
}

/// A change of consecutive entries of one table, synced and counted once.
struct Run {
    table: Table,
    /// The first index written and the one after the last, if any were.
    dirty: Option<(usize, usize)>,
    added: u16,
    removed: u16,
}

impl Run {
    const fn new(table: Table) -> Self {
        Self {
            table,
            dirty: None,
            added: 0,
            removed: 0,
        }
    }

    /// Stores `entry` in place of `old` at `at`.
    #[inline]
    fn set<E: Entries>(&mut self, view: &E, at: usize, old: u64, entry: u64) {
        view.set(at, entry);
        self.added = self.added.wrapping_add(u16::from(old == 0));
        self.removed = self.removed.wrapping_add(u16::from(entry == 0));
        let first = self.dirty.map_or(at, |(first, _)| first);
        self.dirty = Some((first, at.wrapping_add(1)));
    }

    /// Syncs and counts; returns the counts.
    #[inline]
    fn finish<M: Memory>(self, mem: &M) -> Counts {
        self.finish_with(mem, false)
    }

    /// The same where only tables were linked or unlinked that nothing was mapped by, if `spare`:
    /// then nothing is mapped by this one because of it.
    #[inline]
    fn finish_with<M: Memory>(self, mem: &M, spare: bool) -> Counts {
        let mut counts = mem.counts(self.table);
        if let Some((first, end)) = self.dirty {
            mem.sync(self.table, first, end.wrapping_sub(first));
            counts.live = counts
                .live
                .wrapping_add(self.added)
                .wrapping_sub(self.removed);
            counts.spare &= spare;
            mem.set_counts(self.table, counts);
        }
        counts
    }
}

/// The tables of one VM.
///
/// Holds no table itself: the caller owns the root and the pool's tables, and gets every one of
/// them back through a [`Gather`], the last ones from [`Self::teardown`].
#[derive(Debug)]
pub struct PageTables {
    root: Table,
    geometry: Geometry,
    null: Option<NullTables>,
}

impl PageTables {
    /// Tables with nothing mapped. `root` is all zero, published, with default counts. Without
    /// `null` there are no NULL mappings.
    pub const fn new(geometry: Geometry, root: Table, null: Option<NullTables>) -> Self {
        Self {
            root,
            geometry,
            null,
        }
    }

    /// The root, for TTBR0. Only its first 2^(ias − its entries' shift) entries are used.
    #[allow(dead_code, reason = "`tests/pure` uses it")]
    pub const fn root(&self) -> Table {
        self.root
    }

    /// The sizes of the address space.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// How many tables of the footprint don't exist now.
    ///
    /// Exactly what [`Self::reserve`] would take from a pool. O(1) per table of the footprint.
    #[allow(dead_code, reason = "`tests/pure` uses it")]
    pub fn need<M: Memory, B: ReachBuf>(&self, mem: &M, footprint: &Footprint<B>) -> u64 {
        self.each(mem, footprint, |_| {}).tables
    }

    /// Links all tables of the footprint and pins them until [`Self::release`], which must be
    /// called exactly once with the same footprint. Takes just [`Self::need`] tables from the pool.
    ///
    /// # Errors
    ///
    /// The pool has too few, or there are blocks where the footprint needs tables. Nothing was
    /// changed.
    pub fn reserve<M: Memory, B: ReachBuf>(
        &self,
        mem: &M,
        pool: &mut M::Pool,
        footprint: &Footprint<B>,
    ) -> Result<(), Refused> {
        // Usually all are there.
        let need = self.each(mem, footprint, |table| {
            let mut counts = mem.counts(table);
            counts.pins = counts.pins.saturating_add(1);
            mem.set_counts(table, counts);
        });
        if need.tables == 0 {
            return Ok(());
        }
        let short = need.tables.saturating_sub(pool.available());
        let refused = match (need.blocks, short) {
            (0, 0) => None,
            (0, missing) => Some(Refused::Shortage(missing)),
            _ => Some(Refused::Blocks),
        };
        if let Some(refused) = refused {
            self.each(mem, footprint, |table| {
                unpin(mem, table);
            });
            return Err(refused);
        }
        self.visit(mem, footprint, |parent, level, span| {
            self.link(mem, pool, parent, level, span);
        });
        Ok(())
    }

    /// Replaces blocks that are in the way of `footprint` by tables that translate the same, as
    /// many as the pool has. None of them is reserved. Returns how many blocks are left.
    ///
    /// In between nothing is mapped there: the GPU uses none of what these tables translate.
    /// `invalidate` has its TLB forget all of that. Called once, if there is a block.
    pub fn split<M: Memory, B: ReachBuf>(
        &self,
        mem: &M,
        pool: &mut M::Pool,
        footprint: &Footprint<B>,
        invalidate: impl FnOnce(),
    ) -> u64 {
        let (mut split, mut left) = (0u64, 0u64);
        self.each_entry(mem, footprint, |view, run, at, level| {
            let block = view.get(at);
            let Child::Block = self.child(block, level) else {
                return;
            };
            let Some(table) = pool.take() else {
                left = left.saturating_add(1);
                return;
            };
            split = split.saturating_add(1);
            mem.entries(table)
                .fill(0, ENTRIES, pte::first_page(block), PAGE_SIZE);
            mem.publish(table);
            // CAST: 512.
            let live = ENTRIES as u16;
            let counts = Counts {
                live,
                ..Counts::default()
            };
            mem.set_counts(table, counts);
            run.set(view, at, block, pte::unlinked(table));
        });
        if split == 0 {
            return left;
        }
        invalidate();
        self.each_entry(mem, footprint, |view, run, at, _| {
            let entry = view.get(at);
            if pte::is_unlinked(entry) {
                run.set(view, at, entry, pte::table(Table::of_descriptor(entry)));
            }
        });
        left
    }

    /// Calls `f` for each entry that leads to a table of the footprint, or could, with those beside
    /// it and the level of that table.
    fn each_entry<'m, M: Memory, B: ReachBuf>(
        &self,
        mem: &'m M,
        footprint: &Footprint<B>,
        mut f: impl FnMut(&M::Entries<'m>, &mut Run, usize, u32),
    ) {
        self.visit(mem, footprint, |parent, level, span| {
            let Some(parent) = parent else {
                return;
            };
            let view = mem.entries(parent);
            let mut run = Run::new(parent);
            for at in span.first..span.end {
                f(&view, &mut run, at, level);
            }
            run.finish(mem);
        });
    }

    /// Calls `f` for each table of the footprint that exists, those above before those below.
    /// Returns how many don't.
    #[inline]
    fn each<M: Memory, B: ReachBuf>(
        &self,
        mem: &M,
        footprint: &Footprint<B>,
        mut f: impl FnMut(Table),
    ) -> Missing {
        let mut missing = Missing::default();
        self.visit(mem, footprint, |parent, level, span| {
            let Some(parent) = parent else {
                // CAST: at most 512.
                let all = span.end.saturating_sub(span.first) as u64;
                missing.tables = missing.tables.saturating_add(all);
                return;
            };
            let view = mem.entries(parent);
            for at in span.first..span.end {
                let child = self.child(view.get(at), level);
                if let Child::Own(table) = child {
                    f(table);
                    continue;
                }
                missing.tables = missing.tables.saturating_add(1);
                let block = matches!(child, Child::Block);
                missing.blocks = missing.blocks.saturating_add(u64::from(block));
            }
        });
        missing
    }

    /// Calls `f` once for each table of the footprint, those above before those below: with its
    /// parent, unless that doesn't exist, its level, and its place in its parent. Neighbours of the
    /// last level come together.
    #[inline]
    fn visit<M: Memory, B: ReachBuf>(
        &self,
        mem: &M,
        footprint: &Footprint<B>,
        mut f: impl FnMut(Option<Table>, u32, &Span),
    ) {
        let start = self.geometry.start_level();
        // The tables on the way to `iova`, down to level `depth`, for which `f` was called.
        let mut path = [Some(self.root); LEAF as usize];
        let (mut iova, mut depth) = (0u64, start);
        for reach in footprint.reaches() {
            for span in spans(reach.range, LEAF.wrapping_sub(1)) {
                let other = iova ^ span.iova;
                iova = span.iova;
                while depth > start && other >> table_shift(depth) != 0 {
                    depth = depth.wrapping_sub(1);
                }
                while depth < reach.level.min(LEAF.wrapping_sub(1)) {
                    let parent = path.get(depth as usize).copied().flatten();
                    let at = index(iova, depth);
                    let place = Span {
                        iova,
                        first: at,
                        end: at.wrapping_add(1),
                    };
                    depth = depth.wrapping_add(1);
                    f(parent, depth, &place);
                    let child = parent.map(|parent| self.child(mem.entries(parent).get(at), depth));
                    if let Some(on_path) = path.get_mut(depth as usize) {
                        *on_path = match child {
                            Some(Child::Own(table)) => Some(table),
                            _ => None,
                        };
                    }
                }
                if reach.level != LEAF {
                    break;
                }
                f(path.last().copied().flatten(), LEAF, &span);
            }
        }
    }

    /// Links those tables of `level` that `span` of their parent doesn't lead to, pinned once. The
    /// pool has enough.
    #[cold]
    fn link<M: Memory>(
        &self,
        mem: &M,
        pool: &mut M::Pool,
        parent: Option<Table>,
        level: u32,
        span: &Span,
    ) {
        // It was linked before.
        let Some(parent) = parent else {
            return;
        };
        let view = mem.entries(parent);
        let mut run = Run::new(parent);
        let mut spare = true;
        for at in span.first..span.end {
            let old = view.get(at);
            let child = self.child(old, level);
            if let Child::Own(_) = child {
                continue;
            }
            // `reserve` made sure that there are enough.
            let Some(table) = pool.take() else {
                break;
            };
            let mut counts = Counts {
                live: 0,
                pins: 1,
                spare: true,
            };
            if let (Child::Shared, Some(null)) = (child, &self.null) {
                let from = mem.entries(null.table(level));
                let to = mem.entries(table);
                (0..ENTRIES).for_each(|at| to.set(at, from.get(at)));
                // CAST: 512.
                counts.live = ENTRIES as u16;
                counts.spare = false;
            }
            // A walker that sees the descriptor mustn't find what was in this memory before.
            mem.publish(table);
            mem.set_counts(table, counts);
            spare &= counts.spare;
            run.set(&view, at, old, pte::table(table));
        }
        run.finish_with(mem, spare);
    }

    /// Undoes [`Self::reserve`]: unpins the tables of the footprint, and unlinks those that nothing
    /// uses any more. Returns how many of these nothing was ever mapped by: they were reserved in
    /// vain, by this or by an earlier reservation.
    pub fn release<M: Memory, G: Gather, B: ReachBuf>(
        &self,
        mem: &M,
        footprint: &Footprint<B>,
        gather: &mut G,
    ) -> u64 {
        let mut unused = false;
        self.each(mem, footprint, |table| {
            unused |= unpin(mem, table).unused();
        });
        if unused {
            return self.unlink_unused(mem, footprint, gather);
        }
        0
    }

    /// Unlinks the tables of the footprint that nothing uses. Returns as [`Self::release`].
    #[cold]
    fn unlink_unused<M: Memory, G: Gather, B: ReachBuf>(
        &self,
        mem: &M,
        footprint: &Footprint<B>,
        gather: &mut G,
    ) -> u64 {
        let mut in_vain = 0u64;
        // From the bottom, so that a parent is judged when its children are gone.
        for level in (self.geometry.start_level().wrapping_add(1)..=LEAF).rev() {
            let reaches = footprint.reaches().iter();
            for reach in reaches.filter(|reach| reach.level >= level) {
                for span in spans(reach.range, level.wrapping_sub(1)) {
                    let Some(parent) = self.own_table(mem, span.iova, level.wrapping_sub(1)) else {
                        continue;
                    };
                    let view = mem.entries(parent);
                    let mut run = Run::new(parent);
                    let mut spare = true;
                    for at in span.first..span.end {
                        let old = view.get(at);
                        let Child::Own(table) = self.child(old, level) else {
                            continue;
                        };
                        let counts = mem.counts(table);
                        if counts.unused() {
                            run.set(&view, at, old, 0);
                            gather.table(Unlinked::new(table));
                            spare &= counts.spare;
                            in_vain = in_vain.saturating_add(u64::from(counts.spare));
                        }
                    }
                    if run.removed > 0 {
                        run.finish_with(mem, spare);
                    }
                }
            }
        }
        in_vain
    }

    /// Maps `range` to the memory that `pages` gives: (physical address, bytes), in order, whole
    /// pages each; what exceeds the range isn't used. One walk and one sync per 2 MiB. Those that
    /// lie in one piece, and in which no table is, get a block.
    ///
    /// Since the range was unmapped, if ever, the TLB has been invalidated. An entry that is there
    /// already, and the same, is left alone.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn map<M: Memory>(
        &self,
        mem: &M,
        range: VaRange,
        pages: impl IntoIterator<Item = (u64, u64)>,
        prot: Prot,
    ) -> Result<(), Error> {
        self.geometry.check(&range)?;
        let mut pages = pages.into_iter();
        let mut entry = 0u64;
        let mut left = 0usize;
        let mut result = Ok(());
        for span in spans(range, LEAF) {
            let parent = self
                .own_table(mem, span.iova, BLOCK)
                .ok_or(Error::Unreserved)?;
            let above = mem.entries(parent);
            let place = index(span.iova, BLOCK);
            let old = above.get(place);
            let child = self.child(old, LEAF);
            let Child::Own(table) = child else {
                if left == 0 {
                    let (address, count) = self.next_run(&mut pages)?;
                    (entry, left) = (prot.page(address), count);
                }
                let whole = span.end.wrapping_sub(span.first) == ENTRIES && left >= ENTRIES;
                match (child, pte::block_of(entry).filter(|_| whole)) {
                    (Child::Absent, Some(block)) => {
                        let mut run = Run::new(parent);
                        run.set(&above, place, old, block);
                        run.finish(mem);
                    }
                    (Child::Absent, None) => return Err(Error::Unreserved),
                    (_, block) if block == Some(old) => {}
                    _ => return Err(Error::Live),
                }
                entry = entry.wrapping_add(BLOCK_SIZE);
                left = left.wrapping_sub(ENTRIES);
                continue;
            };
            let view = mem.entries(table);
            let mut at = span.first;
            let mut added = 0u16;
            // Most long mappings are made where nothing was.
            let long = span.end.wrapping_sub(span.first) >= LONG;
            let blank = long && mem.counts(table).live == 0;
            'span: while at < span.end {
                if left == 0 {
                    match self.next_run(&mut pages) {
                        Ok((address, count)) => (entry, left) = (prot.page(address), count),
                        Err(error) => {
                            result = Err(error);
                            break;
                        }
                    }
                }
                let end = span.end.min(at.saturating_add(left));
                let count = end.wrapping_sub(at);
                left = left.saturating_sub(count);
                if blank && count >= LONG {
                    view.fill(at, count, entry, PAGE_SIZE);
                    // CAST: at most 512, and so many pages.
                    added = added.wrapping_add(count as u16);
                    entry = entry.wrapping_add(PAGE_SIZE.wrapping_mul(count as u64));
                    at = end;
                }
                while at < end {
                    match view.get(at) {
                        0 => {
                            view.set(at, entry);
                            added = added.wrapping_add(1);
                        }
                        old if old == entry => {}
                        _ => {
                            result = Err(Error::Live);
                            break 'span;
                        }
                    }
                    entry = entry.wrapping_add(PAGE_SIZE);
                    at = at.wrapping_add(1);
                }
            }
            Run {
                table,
                dirty: (at > span.first).then_some((span.first, at)),
                added,
                removed: 0,
            }
            .finish(mem);
            result?;
        }
        Ok(())
    }

    /// The next run of memory that isn't empty, as its address and number of pages.
    // Called twice, and once per page at worst.
    #[inline(always)]
    fn next_run(
        &self,
        pages: &mut impl Iterator<Item = (u64, u64)>,
    ) -> Result<(u64, usize), Error> {
        for (address, len) in pages {
            self.geometry.check_physical(address, len)?;
            if len > 0 {
                // CAST: at most 2^36 on a 64-bit kernel; the host tests run on 64 bits too.
                return Ok((address, (len >> PAGE_SHIFT) as usize));
            }
        }
        Err(Error::Short)
    }

    /// Maps `range` to the PRR page. Costs an entry per table's reach that is covered whole, and
    /// the entries at the ends.
    ///
    /// Since the range was unmapped, if ever, the TLB has been invalidated. NULL mappings that are
    /// there already are left alone.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn map_null<M: Memory>(&self, mem: &M, range: VaRange) -> Result<(), Error> {
        self.geometry.check(&range)?;
        let null = self.null.ok_or(Error::NoNull)?;
        let mut iova = range.addr();
        let mut level = self.geometry.start_level();
        let mut table = self.root;
        while iova < range.end() {
            let entry = match level {
                LEAF => mem.entries(null.table(LEAF)).get(0),
                _ => pte::table(null.table(level.wrapping_add(1))),
            };
            let view = mem.entries(table);
            let mut run = Run::new(table);
            let mut down = None;
            let mut result = Ok(());
            for piece in Pieces::new(iova, range.end(), level) {
                let old = view.get(piece.index);
                if old != entry {
                    let child = match level {
                        LEAF => Child::Absent,
                        _ => self.child(old, level.wrapping_add(1)),
                    };
                    match child {
                        Child::Own(child) if !piece.whole || mem.counts(child).pins > 0 => {
                            down = Some(child);
                            break;
                        }
                        _ if old != 0 => {
                            result = Err(Error::Live);
                            break;
                        }
                        _ if piece.whole => run.set(&view, piece.index, old, entry),
                        _ => {
                            result = Err(Error::Unreserved);
                            break;
                        }
                    }
                }
                iova = piece.end;
            }
            run.finish(mem);
            result?;
            (table, level) = match down {
                Some(child) => (child, level.wrapping_add(1)),
                None => (self.root, self.geometry.start_level()),
            };
        }
        Ok(())
    }

    /// Removes whatever is mapped in `range`. What isn't mapped costs no more than the tables above
    /// it; a table whose whole reach is unmapped is dropped as it is, without a look at its
    /// entries.
    ///
    /// # Errors
    ///
    /// [`Error::Range`]; [`Error::Unreserved`] when a part of a block, or of a shared NULL table's
    /// reach, was to be unmapped.
    pub fn unmap<M: Memory, G: Gather>(
        &self,
        mem: &M,
        range: VaRange,
        gather: &mut G,
    ) -> Result<(), Error> {
        self.geometry.check(&range)?;
        let start = self.geometry.start_level();
        let mut iova = range.addr();
        let mut level = start;
        let mut path = [self.root; LEAF as usize + 1];
        while iova < range.end() {
            let here = iova;
            if level == start && range.end().wrapping_sub(iova) >> entry_shift(LEAF - 1) == 0 {
                // Too little for a whole table: straight to the last level.
                match self.descend(mem, iova, &mut path) {
                    Child::Own(_) => level = LEAF,
                    Child::Shared | Child::Block => return Err(Error::Unreserved),
                    Child::Absent => {}
                }
            }
            let table = path.get(level as usize).copied().unwrap_or(self.root);
            let view = mem.entries(table);
            let piece = Piece::at(iova, range.end(), level);
            if !piece.whole && level != LEAF {
                // Nothing goes here, only further down.
                let below = level.wrapping_add(1);
                match self.child(view.get(piece.index), below) {
                    Child::Own(child) => {
                        if let Some(place) = path.get_mut(below as usize) {
                            *place = child;
                        }
                        level = below;
                    }
                    Child::Shared | Child::Block => return Err(Error::Unreserved),
                    Child::Absent => (iova, level) = (piece.end, start),
                }
                continue;
            }
            let mut run = Run::new(table);
            let mut live = mem.counts(table).live;
            let mut down = None;
            let mut result = Ok(());
            for piece in Pieces::new(iova, range.end(), level) {
                if live == 0 {
                    // Nothing left to find in this table.
                    iova = Pieces::end_of(iova, range.end(), level);
                    break;
                }
                let old = view.get(piece.index);
                if old != 0 {
                    let child = match level {
                        LEAF => Child::Absent,
                        _ => self.child(old, level.wrapping_add(1)),
                    };
                    match child {
                        Child::Own(child) if !piece.whole || mem.counts(child).pins > 0 => {
                            down = Some(child);
                            break;
                        }
                        Child::Shared if !piece.whole => {
                            result = Err(Error::Unreserved);
                            break;
                        }
                        Child::Own(child) => {
                            run.set(&view, piece.index, old, 0);
                            self.gather_tree(mem, child, level.wrapping_add(1), gather);
                        }
                        Child::Block if !piece.whole => {
                            result = Err(Error::Unreserved);
                            break;
                        }
                        // A page, a block, or a shared table.
                        _ => run.set(&view, piece.index, old, 0),
                    }
                    live = live.wrapping_sub(1);
                }
                iova = piece.end;
            }
            if run.removed > 0 {
                gather.removed_live();
            }
            let counts = run.finish(mem);
            if counts.unused() {
                self.prune(mem, &path, level, here, gather);
            }
            result?;
            level = match down {
                Some(child) => {
                    let below = level.wrapping_add(1);
                    if let Some(place) = path.get_mut(below as usize) {
                        *place = child;
                    }
                    below
                }
                None => start,
            };
        }
        Ok(())
    }

    /// The entries that translate `iova`, by level, down to the first that is no table. Zero for
    /// levels that aren't reached, and everywhere beyond the address space: what
    /// `msm_iommu_pagetable_walk` gives.
    pub fn walk<M: Memory>(&self, mem: &M, iova: u64) -> [u64; 4] {
        let mut entries = [0; 4];
        if iova >= self.geometry.end() {
            return entries;
        }
        let mut table = self.root;
        for (level, place) in (0..=LEAF).zip(&mut entries) {
            if level < self.geometry.start_level() {
                continue;
            }
            let entry = mem.entries(table).get(index(iova, level));
            *place = entry;
            if !pte::is_table(entry) {
                break;
            }
            table = Table::of_descriptor(entry);
        }
        entries
    }

    /// Hands over all tables, the root included, whatever is mapped or pinned. The shared NULL
    /// tables aren't among them.
    pub fn teardown<M: Memory, G: Gather>(self, mem: &M, gather: &mut G) {
        self.gather_tree(mem, self.root, self.geometry.start_level(), gather);
    }

    /// What an entry leads to whose table is one of `level`.
    #[inline]
    fn child(&self, entry: u64, level: u32) -> Child {
        if !pte::is_table(entry) {
            return match entry {
                0 => Child::Absent,
                _ => Child::Block,
            };
        }
        let table = Table::of_descriptor(entry);
        match &self.null {
            Some(null) if null.table(level) == table => Child::Shared,
            _ => Child::Own(table),
        }
    }

    /// What the way to `iova` ends in. The VM's own tables on it go to `path`, by level.
    #[inline]
    fn descend<M: Memory>(
        &self,
        mem: &M,
        iova: u64,
        path: &mut [Table; LEAF as usize + 1],
    ) -> Child {
        let mut table = self.root;
        for level in self.geometry.start_level()..LEAF {
            let below = level.wrapping_add(1);
            match self.child(mem.entries(table).get(index(iova, level)), below) {
                Child::Own(child) => table = child,
                end => return end,
            }
            if let Some(place) = path.get_mut(below as usize) {
                *place = table;
            }
        }
        Child::Own(table)
    }

    /// The table of `level` that translates `iova`, if it exists and is not a shared one.
    #[inline]
    fn own_table<M: Memory>(&self, mem: &M, iova: u64, level: u32) -> Option<Table> {
        let mut table = self.root;
        for above in self.geometry.start_level()..level {
            let entry = mem.entries(table).get(index(iova, above));
            match self.child(entry, above.wrapping_add(1)) {
                Child::Own(child) => table = child,
                _ => return None,
            }
        }
        Some(table)
    }

    /// Unlinks the table of `level` on `path` to `iova`, which is unused, and all above it that
    /// become so.
    fn prune<M: Memory, G: Gather>(
        &self,
        mem: &M,
        path: &[Table],
        level: u32,
        iova: u64,
        gather: &mut G,
    ) {
        for parent_level in (self.geometry.start_level()..level).rev() {
            let (Some(&parent), Some(&table)) = (
                path.get(parent_level as usize),
                path.get(parent_level.wrapping_add(1) as usize),
            ) else {
                return;
            };
            let mut run = Run::new(parent);
            // Any entry but zero: it leads to `table`.
            let old = pte::table(table);
            run.set(&mem.entries(parent), index(iova, parent_level), old, 0);
            let counts = run.finish(mem);
            gather.table(Unlinked::new(table));
            if !counts.unused() {
                return;
            }
        }
    }

    /// Hands over `top`, a table of `level` that is unlinked, and all tables below it, each after
    /// those below it. Looks only at tables above the last level, and there no further than their
    /// last live entry.
    fn gather_tree<M: Memory, G: Gather>(&self, mem: &M, top: Table, level: u32, gather: &mut G) {
        /// Where the search is in one table.
        #[derive(Clone, Copy)]
        struct Place {
            table: Table,
            next: usize,
            live: u16,
        }
        let enter = |table, level| Place {
            table,
            next: 0,
            live: match level {
                LEAF => 0,
                _ => mem.counts(table).live,
            },
        };
        let mut path = [enter(top, level); LEAF as usize + 1];
        let mut depth = 0usize;
        while let Some(place) = path.get_mut(depth) {
            // CAST: at most 3.
            let below = level.wrapping_add(depth as u32).wrapping_add(1);
            let view = mem.entries(place.table);
            let mut down = None;
            while down.is_none() && place.live > 0 && place.next < ENTRIES {
                let entry = view.get(place.next);
                place.next = place.next.wrapping_add(1);
                if entry != 0 {
                    place.live = place.live.wrapping_sub(1);
                }
                if let Child::Own(child) = self.child(entry, below) {
                    down = Some(child);
                }
            }
            match down {
                Some(child) => {
                    depth = depth.wrapping_add(1);
                    if let Some(place) = path.get_mut(depth) {
                        *place = enter(child, below);
                    }
                }
                None => {
                    gather.table(Unlinked::new(place.table));
                    match depth.checked_sub(1) {
                        Some(above) => depth = above,
                        None => return,
                    }
                }
            }
        }
    }
}

/// Undoes one pin. Returns the counts.
#[inline]
fn unpin<M: Memory>(mem: &M, table: Table) -> Counts {
    let mut counts = mem.counts(table);
    if counts.pins != u32::MAX {
        counts.pins = counts.pins.saturating_sub(1);
        mem.set_counts(table, counts);
    }
    counts
}
