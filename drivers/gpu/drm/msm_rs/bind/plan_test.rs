// SPDX-License-Identifier: GPL-2.0-only

//! KUnit test: random jobs are planned on a VM, and the VM is compared with a model.
//!
//! The model is an array that says for each page what is mapped there, and whether a VMA begins.
//! What ops do to it:
//!
//! - UNMAP cuts the VMAs that lie across an end of its range, and removes what is mapped in the
//!   range. What is left of a VMA that is cut are new VMAs, which go on with its BO, offset, handle
//!   and flags, evicted if it was.
//! - MAP and MAP_NULL do the same; then the range is one new VMA.
//! - But a MAP of exactly what a VMA of exactly that range maps already leaves that VMA, with its
//!   handle, and sets its dump flag to the op's. The page tables don't change. There is no such
//!   thing for MAP_NULL.
//! - Nothing is merged: neighbours stay two VMAs, whatever they map.
//!
//! Jobs are committed, dropped after some of their ops, or fail in the middle of an op. The last is
//! had by leaving a BO unlocked, which [`Transaction`] refuses to touch. A job that isn't committed
//! must leave the same VMAs, at the same addresses in memory.

use kernel::prelude::*;

#[kunit_tests(msm_rs_plan)]
mod cases {
    use core::{
        num::NonZeroU32,
        ops::Range, //
    };

    use kernel::{
        alloc::KVec,
        fmt,
        prelude::*,
        sync::aref::ARef, //
    };

    use crate::{
        address_space::{
            log::{
                LogEntry,
                LogOp,
                DUMP,
                NULL,
                PARTIAL, //
            },
            step::{
                Step,
                StepKind, //
            },
            tables::Unreachable, //
        },
        bind::{
            lock,
            op::BindOp,
            plan::Plan, //
        },
        bo::backing,
        entry::test_device::{
            self,
            Device, //
        },
        ffi::{
            bo::Bo,
            effort::Effort,
            vm::{
                Bind,
                Closing, //
            },
        },
        gpuvm_rs::{
            exec::Exec,
            gem::GemObject,
            range::VaRange,
            txn::{
                Committed,
                Transaction, //
            },
            vm::{
                GpuVm,
                VmLocked, //
            },
        },
        mapping::info::FLAG_DUMP,
        pure::ops::{
            Kind,
            Op,
            PAGE_SIZE, //
        },
        vm::{
            close,
            state::Ranges, //
        },
    };

    /// Pages of the VM, and of each BO. So few that everything collides.
    const PAGES: usize = 64;
    /// Where the VM begins.
    const START: u64 = 0x10_0000;
    const END: u64 = START + PAGES as u64 * PAGE_SIZE;
    /// The last is private to the VM.
    const BOS: usize = 4;
    const PRIVATE: usize = BOS - 1;
    /// Jobs of a seed. It begins and ends with an empty VM.
    const JOBS: u32 = 25;
    const MAX_OPS: usize = 6;
    /// Jobs that may not have run yet.
    const PENDING: usize = 4;
    const QUEUE: i32 = 7;

    /// Numbers that follow from a seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (self.0 >> 33) as usize % n
        }

        fn one_in(&mut self, n: usize) -> bool {
            self.below(n) == 0
        }
    }

    /// An op, counted in pages.
    #[derive(Clone, Debug)]
    struct Change {
        at: Range<usize>,
        kind: Kind,
    }

    /// A BO has more than one handle.
    fn bo_of(handle: NonZeroU32) -> usize {
        (handle.get() as usize - 1) % BOS
    }

    impl Change {
        /// One that has to do with what `model` maps, more often than not.
        fn random(random: &mut Random, model: &Model) -> Self {
            let at = Self::random_range(random, model);
            let kind = match random.below(8) {
                0 | 1 => Kind::Unmap,
                2 => Kind::MapNull,
                _ => Self::random_map(random, model, &at),
            };
            Self { at, kind }
        }

        fn random_range(random: &mut Random, model: &Model) -> Range<usize> {
            let mut vma = || model.vma(random.below(PAGES));
            let (one, other) = (vma(), vma());
            let (start, end) = match (one, random.below(8)) {
                // The same again.
                (Some(vma), 0 | 1) => (vma.start, vma.end),
                // Behind it.
                (Some(vma), 2) => (vma.end, vma.end + 1 + random.below(8)),
                // A page more or less on either side.
                (Some(vma), 3) => (
                    (vma.start + random.below(3)).saturating_sub(1),
                    (vma.end + random.below(3)).saturating_sub(1),
                ),
                // Both, and what is between them.
                (Some(vma), 4) => {
                    let other = other.unwrap_or(vma.clone());
                    (vma.start.min(other.start), vma.end.max(other.end))
                }
                (_, how) => {
                    let start = random.below(PAGES);
                    let longest = if how == 5 { PAGES } else { 12 };
                    (start, start + 1 + random.below(longest))
                }
            };
            let start = start.min(PAGES - 1);
            start..end.clamp(start + 1, PAGES)
        }

        fn random_map(random: &mut Random, model: &Model, at: &Range<usize>) -> Kind {
            let page = |at: usize| model.pages.get(at).copied().flatten().and_then(|p| p.bo);
            let wanted = match random.below(4) {
                // What is there.
                0 | 1 => page(at.start),
                // What would go on with what is before it.
                2 => page(at.start.wrapping_sub(1)).map(|(bo, first)| (bo, first + 1)),
                _ => None,
            };
            let (bo, first) = wanted
                .filter(|(_, first)| first + at.len() <= PAGES)
                .unwrap_or_else(|| (random.below(BOS), random.below(PAGES + 1 - at.len())));
            let handle = bo + 1 + BOS * random.below(2);
            Kind::Map {
                handle: NonZeroU32::new(handle as u32).unwrap(),
                offset: first as u64 * PAGE_SIZE,
                dump: random.one_in(2),
            }
        }

        /// What it maps at the `i`-th of its pages, if it does.
        fn page(&self, i: usize) -> Option<Page> {
            let (bo, handle, dump) = match self.kind {
                Kind::Unmap => return None,
                Kind::MapNull => (None, 0, false),
                Kind::Map {
                    handle,
                    offset,
                    dump,
                } => {
                    let first = (offset / PAGE_SIZE) as usize;
                    (Some((bo_of(handle), first + i)), handle.get(), dump)
                }
            };
            Some(Page {
                bo,
                handle,
                dump,
                mapped: true,
                begins: i == 0,
                va: None,
            })
        }

        /// What the planner gets.
        fn op(&self, bos: &[ARef<Bo>; BOS]) -> Result<BindOp> {
            let range = range(&self.at)?;
            let op = Op {
                iova: range.addr(),
                range: range.len(),
                kind: self.kind,
            };
            let bo = match self.kind {
                Kind::Map { handle, .. } => Some(bos[bo_of(handle)].clone()),
                _ => None,
            };
            Ok(BindOp::new(op, range, bo))
        }
    }

    fn range(pages: &Range<usize>) -> Result<VaRange> {
        let start = START + pages.start as u64 * PAGE_SIZE;
        VaRange::new(start, pages.len() as u64 * PAGE_SIZE).ok_or(EINVAL)
    }

    /// Pages from the VM's beginning, of a range in it.
    fn pages(range: VaRange) -> Range<usize> {
        let page = |iova: u64| (iova.wrapping_sub(START) / PAGE_SIZE) as usize;
        page(range.addr())..page(range.end())
    }

    /// What is mapped at a page.
    #[derive(Clone, Copy)]
    struct Page {
        /// A BO and which of its pages; `None` for a NULL mapping.
        bo: Option<(usize, usize)>,
        handle: u32,
        dump: bool,
        /// Whether the page tables have it. Not if it was evicted.
        mapped: bool,
        /// Whether a VMA begins here.
        begins: bool,
        /// Where the VMA is in memory, if it was there at the end of a job.
        va: Option<usize>,
    }

    /// A VMA. `bo` and its page are those of the first page.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Vma {
        at: Range<usize>,
        bo: Option<(usize, usize)>,
        handle: u32,
        dump: bool,
        mapped: bool,
    }

    /// What the log says of a change, but for time and names.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Logged {
        op: LogOp,
        at: Range<usize>,
        /// Of the BO; 0 for a NULL mapping.
        first: usize,
        handle: u32,
        flags: u8,
        queue: i32,
        job: u32,
        applied: bool,
    }

    impl Logged {
        fn new(op: LogOp, at: Range<usize>, page: &Page, flags: u8, job: u32) -> Self {
            let dump = if page.dump { DUMP } else { 0 };
            let null = if page.bo.is_none() { NULL } else { 0 };
            Self {
                op,
                at,
                first: page.bo.map_or(0, |(_, first)| first),
                handle: page.handle,
                flags: flags | dump | null,
                queue: QUEUE,
                job,
                applied: false,
            }
        }

        fn of(entry: &LogEntry) -> Result<Self> {
            let (start, end) = entry.range;
            let null = entry.flags & NULL != 0;
            Ok(Self {
                op: entry.op,
                at: pages(VaRange::new(start, end.wrapping_sub(start)).ok_or(EINVAL)?),
                first: if null {
                    0
                } else {
                    (entry.offset / PAGE_SIZE) as usize
                },
                handle: entry.handle,
                flags: entry.flags,
                queue: entry.queue,
                job: entry.job,
                applied: entry.applied != 0 || entry.err != 0,
            })
        }
    }

    /// What an op did.
    enum Effect {
        /// There was nothing.
        Nothing,
        /// No more than a flag of a VMA changed.
        Kept,
        /// The page tables change.
        Tables,
    }

    struct Model {
        /// [`PAGES`] of them, as many as the stack has no room for.
        pages: KVec<Option<Page>>,
    }

    impl Model {
        /// Nothing is mapped.
        fn new() -> Result<Self> {
            Ok(Self {
                pages: KVec::from_elem(None, PAGES, GFP_KERNEL)?,
            })
        }

        fn another(&self) -> Result<Self> {
            let mut pages = KVec::with_capacity(PAGES, GFP_KERNEL)?;
            pages.extend_from_slice(&self.pages, GFP_KERNEL)?;
            Ok(Self { pages })
        }

        /// Whether a VMA or a gap begins at `at`, or the VM ends.
        fn is_border(&self, at: usize) -> bool {
            at >= PAGES || self.pages[at].is_none_or(|page| page.begins)
        }

        /// The pages of the VMA at a page.
        fn vma(&self, at: usize) -> Option<Range<usize>> {
            self.pages[at]?;
            let start = (0..=at).rfind(|&at| self.is_border(at))?;
            let end = (at + 1..=PAGES).find(|&at| self.is_border(at))?;
            Some(start..end)
        }

        /// Those that lie in a range or partly so, by address.
        fn vmas(&self, within: Range<usize>) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
            let mut next = within.start;
            core::iter::from_fn(move || {
                let at = (next..within.end).find(|&at| self.pages[at].is_some())?;
                let vma = self.vma(at)?;
                next = vma.end;
                Some((vma.clone(), self.pages[vma.start]?))
            })
        }

        /// Makes the VMA across `at`, if there is one, two new ones.
        fn cut(&mut self, at: usize) {
            if self.is_border(at) {
                return;
            }
            for page in self.vma(at).into_iter().flatten() {
                let page = self.pages[page].as_mut().unwrap();
                page.va = None;
            }
            self.pages[at].as_mut().unwrap().begins = true;
        }

        /// Whether `change` finds just what it is to map.
        fn keeps(&self, change: &Change) -> bool {
            let Some(page) = change.page(0).filter(|page| page.bo.is_some()) else {
                return false;
            };
            self.vma(change.at.start) == Some(change.at.clone())
                && self.pages[change.at.start].is_some_and(|there| there.bo == page.bo)
        }

        /// Whether `change` needs the lock of a BO.
        fn touches(&self, change: &Change, bo: usize) -> bool {
            let mine = |page: &Page| page.bo.is_some_and(|(b, _)| b == bo);
            !self.keeps(change)
                && (change.page(0).as_ref().is_some_and(mine)
                    || self.vmas(change.at.clone()).any(|(_, page)| mine(&page)))
        }

        /// Makes the change, and says what the log has of it.
        fn apply(&mut self, change: &Change, job: u32, log: &mut KVec<Logged>) -> Result<Effect> {
            let Range { start, end } = change.at;
            let new = change.page(0);
            if self.keeps(change) {
                let new = new.ok_or(EINVAL)?;
                log.push(
                    Logged::new(LogOp::Keep, start..end, &new, 0, job),
                    GFP_KERNEL,
                )?;
                for page in self.pages[start..end].iter_mut().flatten() {
                    page.dump = new.dump;
                }
                return Ok(Effect::Kept);
            }
            let mut effect = Effect::Nothing;
            let gone = if new.is_none() {
                LogOp::Unmap
            } else {
                LogOp::Replace
            };
            for (vma, mut page) in self.vmas(start..end) {
                let part = vma.start.max(start)..vma.end.min(end);
                let partial = if part == vma { 0 } else { PARTIAL };
                page.bo = self.pages[part.start].and_then(|page| page.bo);
                log.push(Logged::new(gone, part, &page, partial, job), GFP_KERNEL)?;
                effect = Effect::Tables;
            }
            self.cut(start);
            self.cut(end);
            for (i, page) in self.pages[start..end].iter_mut().enumerate() {
                *page = change.page(i);
            }
            if let Some(new) = new {
                let op = match change.kind {
                    Kind::MapNull => LogOp::MapNull,
                    _ => LogOp::Map,
                };
                log.push(Logged::new(op, start..end, &new, 0, job), GFP_KERNEL)?;
                effect = Effect::Tables;
            }
            Ok(effect)
        }

        /// Compares it with the VM's VMAs, and takes note of where they are.
        fn compare(&mut self, tree: &[(Vma, usize)]) -> Result {
            let mut found = tree.iter();
            let mut next = 0;
            while let Some((at, page)) = {
                let vma = self.vmas(next..PAGES).next();
                vma
            } {
                next = at.end;
                let vma = Vma {
                    at: at.clone(),
                    bo: page.bo,
                    handle: page.handle,
                    dump: page.dump,
                    mapped: page.mapped,
                };
                let Some((there, va)) = found.next() else {
                    return Err(wrong(fmt!("{vma:?} isn't there")));
                };
                if *there != vma {
                    return Err(wrong(fmt!("{there:?} should be {vma:?}")));
                }
                if page.va.is_some_and(|was| was != *va) {
                    return Err(wrong(fmt!("{vma:?} isn't the one that it was")));
                }
                for page in self.pages[at].iter_mut().flatten() {
                    page.va = Some(*va);
                }
            }
            match found.next() {
                None => Ok(()),
                Some((there, _)) => Err(wrong(fmt!("{there:?} should not be there"))),
            }
        }
    }

    fn wrong(what: fmt::Arguments<'_>) -> Error {
        pr_err!("{}\n", what);
        EINVAL
    }

    /// What the page tables say of a page.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Entry {
        Invalid,
        Null,
        Bo(usize, usize),
    }

    /// What happened, to be printed when something is wrong.
    #[allow(dead_code, reason = "printing reads it")]
    #[derive(Debug)]
    enum Event {
        Op(Change),
        Committed,
        Dropped,
        /// The last op failed, since the BO wasn't locked.
        Failed(usize),
        Evicted(usize),
        Restored(usize),
    }

    #[derive(Default, Debug)]
    struct Counts {
        jobs: u32,
        ops: u32,
        kept: u32,
        without_effect: u32,
        dropped: u32,
        failed: u32,
        evictions: u32,
    }

    struct World {
        vm: ARef<GpuVm<Bind>>,
        bos: [ARef<Bo>; BOS],
        logging: bool,
        model: Model,
        /// What the steps of all jobs have made of the page tables.
        table: KVec<Entry>,
        pending: KVec<Committed<Bind>>,
        events: KVec<Event>,
        counts: Counts,
    }

    /// What came of a job: the planner's answer, and the steps with the numbers of their log
    /// entries, if it was committed.
    type Outcome = (Result, Option<(Committed<Bind>, Range<u64>)>);

    impl World {
        fn new(device: &Device, logging: bool) -> Result<Self> {
            let vm = device.new_bind_vm(START..END, logging);
            let bo = |i| {
                let private_to = (i == PRIVATE).then_some(&*vm);
                device.sized_bo(PAGES * PAGE_SIZE as usize, private_to)
            };
            Ok(Self {
                bos: core::array::from_fn(bo),
                vm,
                logging,
                model: Model::new()?,
                table: KVec::from_elem(Entry::Invalid, PAGES, GFP_KERNEL)?,
                pending: KVec::with_capacity(PENDING, GFP_KERNEL)?,
                events: KVec::new(),
                counts: Counts::default(),
            })
        }

        /// All VMAs, and where they are.
        fn tree(&self, vm: &VmLocked<'_, Bind>, tree: &mut KVec<(Vma, usize)>) -> Result {
            let mut result = Ok(());
            vm.for_each_va(|va| {
                let is_it = |obj: &GemObject| {
                    let it = |bo: &ARef<Bo>| bo.gem().as_raw() == obj.as_raw();
                    // No BO of ours would be number BOS.
                    let bo = self.bos.iter().position(it).unwrap_or(BOS);
                    (bo, (va.offset() / PAGE_SIZE) as usize)
                };
                let vma = Vma {
                    at: pages(va.range()),
                    bo: va.obj().map(is_it),
                    handle: va.data().handle(),
                    dump: va.flags() & FLAG_DUMP != 0,
                    mapped: va.data().mapped().get(vm),
                };
                if tree.push((vma, va.as_raw() as usize), GFP_KERNEL).is_err() {
                    result = Err(ENOMEM);
                }
            });
            result
        }

        /// Plans `ops`, as the ioctl does, and reads the tree when that is over.
        fn plan(
            &self,
            ops: &mut [BindOp],
            unlocked: Option<usize>,
            commit: bool,
            after: &Model,
            tree: &mut KVec<(Vma, usize)>,
        ) -> Result<Outcome> {
            let mut ranges = Ranges::new(ops.iter().map(|op| op.range))?;
            pin_init::stack_pin_init!(let exec = Exec::interruptible(ops.len() + 1));
            let locked = exec.lock_all(|attempt| {
                let Some(unlocked) = unlocked else {
                    return lock(attempt, &self.vm, ops, ranges.sort());
                };
                attempt.lock_vm(&self.vm)?;
                let mut others = self.bos.iter().enumerate();
                others.try_for_each(|(i, bo)| match i == unlocked {
                    true => Ok(()),
                    false => attempt.lock(bo.gem()),
                })
            })?;
            let vm = locked.vm(&self.vm).ok_or(EDEADLK)?;
            for op in ops.iter_mut() {
                if let Some(bo) = &op.bo {
                    op.pages = match locked.obj(bo.gem()) {
                        Some(obj) => Some(backing::pages(bo, &obj, &Effort::few_locks())?),
                        None => None,
                    };
                }
            }
            let txn = Transaction::new(&vm, &locked, 2 * ops.len())?;
            let mut plan = Plan::new(txn, QUEUE, self.counts.jobs);
            let result = ops.iter_mut().try_for_each(|op| plan.apply(op));
            let done = if commit && result.is_ok() {
                Some(plan.commit(&self.vm))
            } else {
                drop(plan);
                None
            };
            self.tree(&vm, tree)?;
            let model = if done.is_some() { after } else { &self.model };
            for (i, bo) in self.bos.iter().enumerate() {
                let its = |page: &Page| page.bo.is_some_and(|(bo, _)| bo == i);
                let mapped = model.pages.iter().flatten().any(its);
                if locked
                    .obj(bo.gem())
                    .is_some_and(|obj| obj.is_mapped() != mapped)
                {
                    return Err(wrong(fmt!("BO {i} should be mapped: {mapped}")));
                }
            }
            Ok((result, done))
        }

        /// Runs the steps of a job.
        fn run<'s>(&mut self, steps: impl Iterator<Item = &'s Step>) -> Result<u32> {
            let mut nr = 0;
            for step in steps {
                nr += 1;
                let at = pages(step.range);
                let entries = self.table.get_mut(at).ok_or(EINVAL)?;
                for (i, entry) in entries.iter_mut().enumerate() {
                    *entry = match &step.kind {
                        StepKind::Unmap => Entry::Invalid,
                        StepKind::Map { pages: None, .. } => Entry::Null,
                        StepKind::Map {
                            pages: Some(pages),
                            offset,
                        } => {
                            let it = |bo: &ARef<Bo>| core::ptr::eq(&**bo, pages.bo());
                            let bo = self.bos.iter().position(it).ok_or(EINVAL)?;
                            Entry::Bo(bo, (offset / PAGE_SIZE) as usize + i)
                        }
                    };
                }
            }
            Ok(nr)
        }

        /// Compares the page tables with the model.
        fn compare_table(&self) -> Result {
            for (i, (entry, page)) in self.table.iter().zip(self.model.pages.iter()).enumerate() {
                let expected = match page {
                    Some(page) if page.mapped => page
                        .bo
                        .map_or(Entry::Null, |(bo, page)| Entry::Bo(bo, page)),
                    _ => Entry::Invalid,
                };
                if *entry != expected {
                    return Err(wrong(fmt!("page {i}: {entry:?} should be {expected:?}")));
                }
            }
            Ok(())
        }

        /// Compares log entries with those that there should be.
        fn compare_log(&self, numbers: Range<u64>, expected: &[Logged]) -> Result {
            let mut pt = self.vm.space().page_tables.lock();
            let nr = (numbers.end - numbers.start) as usize;
            if nr != expected.len() || pt.log.next() != numbers.end {
                return Err(wrong(fmt!("{nr} log entries, not {}", expected.len())));
            }
            for (number, expected) in numbers.zip(expected) {
                let entry = pt.log.entry(number).ok_or(EINVAL)?;
                let entry = Logged::of(entry)?;
                if entry != *expected {
                    return Err(wrong(fmt!("{entry:?} should be {expected:?}")));
                }
            }
            Ok(())
        }

        /// A job: of `ops`, or of random ones.
        fn job(&mut self, random: &mut Random, change: Option<Change>) -> Result {
            self.counts.jobs += 1;
            let last = change.is_some();
            let nr = if last { 1 } else { 1 + random.below(MAX_OPS) };
            let how = if last { 7 } else { random.below(8) };
            let commit = how >= 2;
            let unlocked = (how == 2).then(|| random.below(PRIVATE));

            let mut after = self.model.another()?;
            let mut ops = KVec::with_capacity(nr, GFP_KERNEL)?;
            let mut log = KVec::new();
            let mut steps = 0;
            let mut expected = Ok(());
            for _ in 0..nr {
                let change = match &change {
                    Some(change) => change.clone(),
                    None => Change::random(random, &after),
                };
                self.events.push(Event::Op(change.clone()), GFP_KERNEL)?;
                ops.push(change.op(&self.bos)?, GFP_KERNEL)?;
                self.counts.ops += 1;
                if unlocked.is_some_and(|bo| after.touches(&change, bo)) {
                    expected = Err(EDEADLK);
                    break;
                }
                match after.apply(&change, self.counts.jobs, &mut log)? {
                    Effect::Nothing => self.counts.without_effect += 1,
                    Effect::Kept => self.counts.kept += 1,
                    Effect::Tables => steps += 1,
                }
            }
            if !self.logging {
                log.clear();
            }
            let event = match (expected, unlocked) {
                (Err(_), Some(bo)) => Event::Failed(bo),
                _ if commit => Event::Committed,
                _ => Event::Dropped,
            };
            match event {
                Event::Failed(_) => self.counts.failed += 1,
                Event::Dropped => self.counts.dropped += 1,
                _ => {}
            }
            self.events.push(event, GFP_KERNEL)?;

            let logged = self.vm.space().page_tables.lock().log.next();
            let mut tree = KVec::with_capacity(PAGES, GFP_KERNEL)?;
            let (result, done) = self.plan(&mut ops, unlocked, commit, &after, &mut tree)?;
            if result != expected {
                return Err(wrong(fmt!("{result:?} should be {expected:?}")));
            }
            match done {
                Some((done, numbers)) => {
                    self.model = after;
                    let nr = self.run(done.steps())?;
                    if self.pending.len() == PENDING {
                        let done = self.pending.remove(random.below(PENDING))?;
                        drop(done.retire(Unreachable::without_tables()));
                    }
                    self.pending.push(done, GFP_KERNEL)?;
                    if nr != steps {
                        return Err(wrong(fmt!("{nr} steps, not {steps}")));
                    }
                    if self.logging {
                        self.compare_log(numbers, &log)?;
                    } else if !numbers.is_empty() {
                        return Err(wrong(fmt!("log entries without a log")));
                    }
                }
                None => self.compare_log(logged..logged, &[])?,
            }
            self.model.compare(&tree)?;
            self.compare_table()
        }

        /// A BO's mappings are evicted, or come back.
        fn evict(&mut self, bo: usize, back: bool) -> Result {
            self.counts.evictions += 1;
            let event = if back {
                Event::Restored(bo)
            } else {
                Event::Evicted(bo)
            };
            self.events.push(event, GFP_KERNEL)?;
            let gem = self.bos[bo].gem().as_raw();
            pin_init::stack_pin_init!(let exec = Exec::interruptible(1));
            let locked = exec.lock_all(|attempt| attempt.lock_vm(&self.vm).map(drop))?;
            let vm = locked.vm(&self.vm).ok_or(EDEADLK)?;
            vm.for_each_va(|va| {
                if va.obj().map(GemObject::as_raw) == Some(gem) {
                    va.data().mapped().set(back, &vm);
                }
            });
            for (page, entry) in self.model.pages.iter_mut().zip(self.table.iter_mut()) {
                if let Some(page) = page {
                    if let Some((its, number)) = page.bo.filter(|(its, _)| *its == bo) {
                        page.mapped = back;
                        *entry = match back {
                            true => Entry::Bo(its, number),
                            false => Entry::Invalid,
                        };
                    }
                }
            }
            Ok(())
        }

        /// All that a seed says, from an empty VM to an empty VM.
        fn walk(&mut self, seed: u32) -> Result {
            let mut random = Random(u64::from(seed));
            let references = |this: &Self| {
                let bos = this.bos.each_ref().map(|bo| test_device::refs(bo));
                (bos, test_device::vm_refs(&this.vm))
            };
            let before = references(self);
            for _ in 0..JOBS {
                if random.one_in(8) {
                    self.evict(random.below(BOS), random.one_in(2))?;
                }
                self.job(&mut random, None)?;
            }
            let everything = Change {
                at: 0..PAGES,
                kind: Kind::Unmap,
            };
            self.job(&mut random, Some(everything))?;
            while let Some(done) = self.pending.pop() {
                drop(done.retire(Unreachable::without_tables()));
            }
            let after = references(self);
            if after != before {
                return Err(wrong(fmt!("references: {after:?} should be {before:?}")));
            }
            Ok(())
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            // Something is left if something went wrong.
            while let Some(done) = self.pending.pop() {
                drop(done.retire(Unreachable::without_tables()));
            }
            close::close(&Closing::without_file(&self.vm));
        }
    }

    /// Walks from `seed` on, until there were enough ops.
    fn walks(device: &Device, ops: u32, seed: u32) -> Result {
        let mut worlds = [World::new(device, true)?, World::new(device, false)?];
        let mut seeds = seed..;
        while worlds.iter().map(|world| world.counts.ops).sum::<u32>() < ops {
            let seed = seeds.next().ok_or(EINVAL)?;
            let world = &mut worlds[usize::from(seed % 4 == 0)];
            world.events.clear();
            world.walk(seed).inspect_err(|_| {
                pr_err!("plan_seed={seed} plan_ops=1:\n");
                for event in world.events.iter() {
                    pr_err!("  {:?}\n", event);
                }
            })?;
        }
        let [counts, without_log] = worlds.each_ref().map(|world| &world.counts);
        pr_info!("plan_seed={seed}: {counts:?}, without log {without_log:?}\n");
        let all = [
            counts.kept,
            counts.without_effect,
            counts.dropped,
            counts.failed,
            counts.evictions,
        ];
        if ops >= 2000 && all.contains(&0) {
            return Err(wrong(fmt!("something never happened")));
        }
        Ok(())
    }

    #[test]
    fn random_jobs() -> Result {
        let device = Device::new();
        let (ops, seed) = test_device::plan_ops();
        let result = walks(&device, ops, seed);
        assert_eq!(device.free(), 0);
        result
    }
}
