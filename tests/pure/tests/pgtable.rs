// SPDX-License-Identifier: GPL-2.0-only

//! Page tables against a map of what is mapped where.
//!
//! Jobs of random operations are reserved, and run or cancelled in their order, as many as like
//! pending at a time. After each step a walker that sees only what was synced must find what the
//! map says; every table must be linked exactly once, counted right, and in use; and what was
//! removed must have been reported. At each store, a table that is linked must be one that walkers
//! already see as it is, and an entry may not take the place of another that a TLB may know.

use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};
use pure::{
    gpuvm_rs::range::VaRange,
    pgtable::{
        footprint::{touches, Footprint, Reach, ReachBuf, Touch},
        geometry::{
            entry_shift, index, table_shift, Geometry, BLOCK, BLOCK_SIZE, ENTRIES, LEAF, PAGE_SIZE,
        },
        memory::{Counts, Entries, Gather, Memory, Pool, Table, Unlinked},
        pte::Prot,
        Error, NullTables, PageTables, Refused,
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::{Deref, DerefMut},
    rc::Rc,
};

/// A table in memory.
struct Page {
    entries: Vec<Cell<u64>>,
    /// What the walkers see.
    synced: Vec<Cell<u64>>,
    counts: Cell<Counts>,
}

/// Tables are above this, the memory that is mapped below. So an entry says which of them it leads
/// to.
const TABLES: u64 = 1 << 44;

/// What walkers see of a table until it is published: what was in its memory before.
const BEFORE: u64 = 0xdead_beef_dead_bee0;

/// All tables that are allocated. Naming another one is a panic.
#[derive(Default)]
struct Ram {
    pages: RefCell<BTreeMap<u64, Rc<Page>>>,
    allocated: Cell<u64>,
    /// What was removed since the last invalidation, by its table and index.
    removed: RefCell<BTreeMap<(Table, usize), u64>>,
}

impl Ram {
    /// A page for a table: its address.
    fn alloc(&self) -> u64 {
        // Addresses aren't used again, so that a stale pointer is noticed.
        self.allocated.set(self.allocated.get() + 1);
        let page = TABLES | (self.allocated.get() << 12);
        let table = Page {
            entries: vec![Cell::new(0); ENTRIES],
            synced: vec![Cell::new(BEFORE); ENTRIES],
            counts: Cell::default(),
        };
        self.pages.borrow_mut().insert(page, Rc::new(table));
        page
    }

    fn free(&self, page: u64) -> bool {
        self.pages.borrow_mut().remove(&page).is_some()
    }

    fn page(&self, table: Table) -> Rc<Page> {
        let pages = self.pages.borrow();
        Rc::clone(pages.get(&table.address()).expect("an allocated table"))
    }

    /// The TLB forgets.
    fn invalidate(&self) {
        self.removed.borrow_mut().clear();
    }

    /// An entry of `table` changes: break before make.
    fn changes(&self, table: Table, index: usize, old: u64, entry: u64) {
        let mut removed = self.removed.borrow_mut();
        let [old, entry] = [old, entry].map(|entry| if entry & 1 == 0 { 0 } else { entry });
        let known = match old {
            0 => removed.get(&(table, index)).copied().unwrap_or(0),
            old => old,
        };
        if entry == 0 && old != 0 {
            removed.insert((table, index), old);
        }
        let is_table = |entry: u64| entry & ADDRESS >= TABLES;
        let page = |entry: u64| self.page(table_at(entry & ADDRESS));
        let alike =
            || is_table(known) && is_table(entry) && page(known).entries == page(entry).entries;
        assert!(
            entry == 0 || known == 0 || known == entry || alike(),
            "an entry takes the place of one that a TLB may know"
        );
    }

    /// From now on a walker may enter the table that `entry` leads to, if that is one.
    fn linked(&self, entry: u64) {
        if entry & 1 == 0 || entry & ADDRESS < TABLES {
            return;
        }
        let page = self.page(table_at(entry & ADDRESS));
        assert!(
            page.synced == page.entries,
            "a table is linked that walkers don't see as it is"
        );
    }
}

/// An entry's address.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

struct View<'a> {
    page: Rc<Page>,
    table: Table,
    ram: &'a Ram,
}

impl Entries for View<'_> {
    fn get(&self, index: usize) -> u64 {
        self.page.entries.get(index).expect("512 entries").get()
    }

    fn set(&self, index: usize, entry: u64) {
        self.ram.linked(entry);
        self.ram.changes(self.table, index, self.get(index), entry);
        let place = self.page.entries.get(index);
        place.expect("512 entries").set(entry);
    }

    fn fill(&self, first: usize, count: usize, entry: u64, step: u64) {
        for at in 0..count {
            self.set(first + at, entry + at as u64 * step);
        }
    }
}

impl Memory for Ram {
    type Pool = Spare;
    type Entries<'a> = View<'a>;

    fn entries(&self, table: Table) -> View<'_> {
        View {
            page: self.page(table),
            table,
            ram: self,
        }
    }

    fn sync(&self, table: Table, first: usize, count: usize) {
        let page = self.page(table);
        for (seen, entry) in page
            .synced
            .iter()
            .zip(&page.entries)
            .skip(first)
            .take(count)
        {
            seen.set(entry.get());
        }
    }

    fn publish(&self, table: Table) {
        self.sync(table, 0, ENTRIES);
    }

    fn counts(&self, table: Table) -> Counts {
        self.page(table).counts.get()
    }

    fn set_counts(&self, table: Table, counts: Counts) {
        self.page(table).counts.set(counts);
    }
}

/// Tables allocated in advance.
struct Spare(Vec<u64>);

impl Pool for Spare {
    fn available(&self) -> u64 {
        self.0.len() as u64
    }

    fn take_page(&mut self) -> Option<u64> {
        self.0.pop()
    }
}

/// The table at an address.
fn table_at(address: u64) -> Table {
    Spare(vec![address]).take().expect("an address of 48 bits")
}

/// What was reported.
#[derive(Default)]
struct Report {
    tables: Vec<Table>,
    removed_live: bool,
    /// Since the last invalidation.
    pending: bool,
    invalidations: u32,
}

impl Report {
    fn invalidate(&mut self, ram: &Ram) {
        if std::mem::take(&mut self.pending) {
            self.invalidations += 1;
            ram.invalidate();
        }
    }
}

impl Gather for Report {
    fn table(&mut self, table: Unlinked) {
        self.tables.push(table.table());
        self.pending = true;
    }

    fn removed_live(&mut self) {
        self.removed_live = true;
        self.pending = true;
    }
}

#[derive(Debug, Default)]
struct Reaches(Vec<Reach>);

impl Deref for Reaches {
    type Target = [Reach];

    fn deref(&self) -> &[Reach] {
        &self.0
    }
}

impl DerefMut for Reaches {
    fn deref_mut(&mut self) -> &mut [Reach] {
        &mut self.0
    }
}

impl ReachBuf for Reaches {
    type Error = ();

    fn push(&mut self, reach: Reach) -> Result<(), ()> {
        self.0.push(reach);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// What a job does.
#[derive(Clone, Debug)]
enum Op {
    /// To memory from a physical address on, in chunks of so many pages that lie a page apart, or a
    /// block if they are as long as some.
    Map(VaRange, u64, u64, Prot),
    Null(VaRange),
    Unmap(VaRange),
}

impl Op {
    fn range(&self) -> VaRange {
        match self {
            Self::Map(range, ..) | Self::Null(range) | Self::Unmap(range) => *range,
        }
    }

    /// What it touches. To take more tables than a mapping needs is all right.
    fn touches(&self, blocks: bool) -> Vec<Touch> {
        match self {
            Self::Map(range, ..) if blocks => touches(*range, self.chunks().into_iter()).collect(),
            Self::Map(range, ..) => vec![Touch::Pages(*range)],
            Self::Null(range) | Self::Unmap(range) => vec![Touch::Edges(*range)],
        }
    }

    /// The physical memory of a MAP, as (address, bytes).
    fn chunks(&self) -> Vec<(u64, u64)> {
        let Self::Map(range, at, pages, _) = self else {
            return Vec::new();
        };
        let len = pages * PAGE_SIZE;
        let count = range.len().div_ceil(len);
        let apart = match pages % 512 {
            0 => BLOCK_SIZE,
            _ => PAGE_SIZE,
        };
        (0..count).map(|n| (at + n * (len + apart), len)).collect()
    }
}

/// What is mapped at a piece of the address space.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Memory(u64, Prot),
    Null,
}

/// The map: by first address, the end and what is there.
#[derive(Clone, Default)]
struct Map(BTreeMap<u64, (u64, What)>);

impl Map {
    fn overlapping(&self, range: &VaRange) -> Vec<(u64, u64, What)> {
        let before = self.0.range(..range.end());
        let met = before.filter(|(_, (end, _))| *end > range.addr());
        met.map(|(start, (end, what))| (*start, *end, *what))
            .collect()
    }

    fn clear(&mut self, range: &VaRange) {
        for (start, end, what) in self.overlapping(range) {
            self.0.remove(&start);
            if start < range.addr() {
                self.0.insert(start, (range.addr(), what));
            }
            if end > range.end() {
                let rest = match what {
                    What::Memory(at, prot) => What::Memory(at + (range.end() - start), prot),
                    What::Null => What::Null,
                };
                self.0.insert(range.end(), (end, rest));
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        let range = op.range();
        self.clear(&range);
        match op {
            Op::Unmap(_) => {}
            Op::Null(_) => {
                self.0.insert(range.addr(), (range.end(), What::Null));
            }
            Op::Map(.., prot) => {
                let mut at = range.addr();
                for (phys, len) in op.chunks() {
                    let end = range.end().min(at + len);
                    self.0.insert(at, (end, What::Memory(phys, *prot)));
                    at = end;
                }
            }
        }
    }

    /// The page descriptor for `iova`.
    fn entry(&self, iova: u64, prr: Table) -> u64 {
        match self.0.range(..=iova).next_back() {
            Some((start, (end, what))) if iova < *end => match what {
                What::Memory(at, prot) => prot.page(at + (iova - start)),
                What::Null => Prot {
                    write: true,
                    ..Prot::default()
                }
                .page(prr.address()),
            },
            _ => 0,
        }
    }
}

struct Job {
    ops: Vec<Op>,
    footprint: Footprint<Reaches>,
}

struct Machine {
    ram: Ram,
    tables: PageTables,
    shared: [Table; 3],
    prr: Table,
    map: Map,
    /// The tables by which something is mapped, or was.
    used: BTreeSet<Table>,
    pending: VecDeque<Job>,
    /// A job unmaps whatever it changes before it maps.
    first_unmap: bool,
}

impl Machine {
    fn new(ias: u32, first_unmap: bool) -> Self {
        let ram = Ram::default();
        let [root, a, b, c] = [(); 4].map(|()| table_at(ram.alloc()));
        ram.publish(root);
        // Not a table, and nobody looks into it.
        let prr = table_at(1 << 40);
        let null = NullTables::new(&ram, [a, b, c], prr);
        let geometry = Geometry::new(ias, 48).expect("a geometry");
        Self {
            tables: PageTables::new(geometry, root, Some(null)),
            shared: [a, b, c],
            prr,
            map: Map::default(),
            used: BTreeSet::new(),
            pending: VecDeque::new(),
            first_unmap,
            ram,
        }
    }

    fn submit(&mut self, ops: Vec<Op>, blocks: bool) -> TestCaseResult {
        let touches = ops.iter().flat_map(|op| op.touches(blocks));
        let touches = touches.collect::<Vec<_>>();
        let geometry = self.tables.geometry();
        let footprint = Footprint::new(geometry, Reaches::default(), touches.into_iter())
            .map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        if self.tables.need(&self.ram, &footprint) > 0 {
            let nothing = &mut Spare(Vec::new());
            let refused = self.tables.reserve(&self.ram, nothing, &footprint);
            self.check()?;
            if refused == Err(Refused::Blocks) {
                let nothing = &mut Spare(Vec::new());
                let blocks = self.tables.split(&self.ram, nothing, &footprint, || {});
                self.split(&footprint, blocks)?;
            }
        }
        let need = self.tables.need(&self.ram, &footprint);
        if need > 0 {
            let spare = (1..need).map(|_| self.ram.alloc()).collect::<Vec<_>>();
            let refused = self
                .tables
                .reserve(&self.ram, &mut Spare(spare.clone()), &footprint);
            prop_assert_eq!(
                refused,
                Err(Refused::Shortage(1)),
                "one table less than needed"
            );
            spare.into_iter().for_each(|page| {
                self.ram.free(page);
            });
            self.check()?;
        }
        let mut spare = Spare((0..need).map(|_| self.ram.alloc()).collect());
        let reserved = self.tables.reserve(&self.ram, &mut spare, &footprint);
        prop_assert!(reserved.is_ok(), "what is needed was not enough");
        prop_assert_eq!(spare.available(), 0, "more than was needed");
        self.note_used(self.tables.root(), self.tables.geometry().start_level());
        self.pending.push_back(Job { ops, footprint });
        self.check()
    }

    /// Splits the blocks where the footprint needs tables, while the GPU uses nothing.
    fn split(&mut self, footprint: &Footprint<Reaches>, blocks: u64) -> TestCaseResult {
        let mut spare = Spare((1..blocks).map(|_| self.ram.alloc()).collect());
        let some = u32::from(blocks > 1);
        let split = |spare: &mut Spare| {
            let invalidated = Cell::new(0);
            let invalidate = || {
                self.ram.invalidate();
                invalidated.set(invalidated.get() + 1);
            };
            let result = self.tables.split(&self.ram, spare, footprint, invalidate);
            (result, invalidated.get())
        };
        prop_assert_eq!(split(&mut spare), (1, some), "a table less than blocks");
        self.check()?;
        spare.0.push(self.ram.alloc());
        prop_assert_eq!(split(&mut spare), (0, 1));
        prop_assert_eq!(spare.available(), 0, "a table for each block");
        prop_assert_eq!(split(&mut spare), (0, 0), "no block is left");
        self.check()
    }

    fn end(&mut self, run: bool) -> TestCaseResult {
        let Some(job) = self.pending.pop_front() else {
            return Ok(());
        };
        let mut report = Report::default();
        let (mut changed, mut met) = (false, false);
        // All that goes, before the first that comes.
        for op in job.ops.iter().filter(|_| run && self.first_unmap) {
            let result = self.tables.unmap(&self.ram, op.range(), &mut report);
            prop_assert_eq!(result, Ok(()), "unmap for {:?}", op);
        }
        for op in job.ops.iter().filter(|_| run) {
            let before = self.map.clone();
            let result = match op {
                Op::Unmap(range) => self.tables.unmap(&self.ram, *range, &mut report),
                _ => self.map_op(op, &mut report),
            };
            prop_assert_eq!(result, Ok(()), "{:?}", op);
            self.note_used(self.tables.root(), self.tables.geometry().start_level());
            self.map.apply(op);
            for (start, end, _) in before.overlapping(&op.range()) {
                met = true;
                let first = start.max(op.range().addr());
                let last = end.min(op.range().end()) - PAGE_SIZE;
                changed |= [first, last]
                    .iter()
                    .any(|&at| before.entry(at, self.prr) != self.map.entry(at, self.prr));
            }
        }
        let apart = |n: usize, op: &Op| {
            let mut others = job.ops.iter().take(n);
            !others.any(|other| other.range().overlaps(&op.range()))
        };
        if self.first_unmap && job.ops.iter().enumerate().all(|(n, op)| apart(n, op)) {
            prop_assert!(report.invalidations <= 1, "one does for all operations");
        }
        let before = report.tables.len();
        let in_vain = self.tables.release(&self.ram, &job.footprint, &mut report);
        let released = report.tables.iter().skip(before);
        prop_assert_eq!(
            in_vain as usize,
            released.filter(|&table| !self.used.contains(table)).count(),
            "tables that nothing was ever mapped by"
        );
        report.invalidate(&self.ram);
        prop_assert!(
            self.ram.removed.borrow().is_empty(),
            "a removal isn't reported"
        );
        prop_assert!(
            !changed || report.invalidations > 0,
            "a change isn't reported"
        );
        prop_assert!(met || !report.removed_live, "nothing was there to remove");
        for table in report.tables {
            self.used.remove(&table);
            prop_assert!(self.ram.free(table.address()), "given back twice");
        }
        self.check()
    }

    /// Notes which of `table`, of that level, and those below it something is mapped by. Returns
    /// whether anything is.
    fn note_used(&mut self, table: Table, level: u32) -> bool {
        let entries: Vec<_> = self.ram.page(table).entries.iter().map(Cell::get).collect();
        let mut used = false;
        for entry in entries.into_iter().filter(|&entry| entry != 0) {
            let child = table_at(entry & ADDRESS);
            let below = level < LEAF && entry & 3 == 3 && !self.shared.contains(&child);
            used |= !below || self.note_used(child, level + 1);
        }
        if used {
            self.used.insert(table);
        }
        used
    }

    /// A MAP or MAP_NULL, as a job does it: what is in its way is unmapped, and never is anything
    /// mapped before the TLB has forgotten what was unmapped.
    fn map_op(&self, op: &Op, report: &mut Report) -> Result<(), Error> {
        let write = || match op {
            Op::Map(range, _, _, prot) => self.tables.map(&self.ram, *range, op.chunks(), *prot),
            _ => self.tables.map_null(&self.ram, op.range()),
        };
        report.invalidate(&self.ram);
        match write() {
            Err(Error::Live) => {}
            result => return result,
        }
        self.tables.unmap(&self.ram, op.range(), report)?;
        report.invalidate(&self.ram);
        write()
    }

    /// Compares tables and map.
    fn check(&self) -> TestCaseResult {
        for iova in self.probes() {
            let want = self.map.entry(iova, self.prr);
            prop_assert_eq!(self.translate(iova), want, "at {:x}", iova);
            let found = self.tables.walk(&self.ram, iova);
            let last = match found {
                [.., block, 0] if block & 3 == 1 => page_in(block, iova),
                [.., leaf] => leaf,
            };
            prop_assert_eq!(last, want, "walk() at {:x}", iova);
        }
        let mut seen = BTreeSet::from([self.tables.root()]);
        seen.extend(self.shared);
        self.check_table(
            self.tables.root(),
            self.tables.geometry().start_level(),
            0,
            &mut seen,
        )?;
        let allocated = self.ram.pages.borrow().len();
        prop_assert_eq!(seen.len(), allocated, "tables that nothing links");
        Ok(())
    }

    /// Checks one table, of the addresses from `base` on, and those below it.
    fn check_table(
        &self,
        table: Table,
        level: u32,
        base: u64,
        seen: &mut BTreeSet<Table>,
    ) -> TestCaseResult {
        let page = self.ram.page(table);
        let mut live = 0u16;
        for (entry, at) in page.entries.iter().map(Cell::get).zip(0u64..) {
            live += u16::from(entry != 0);
            if entry == 0 || level == LEAF {
                continue;
            }
            if entry & 3 == 1 {
                prop_assert_eq!(level, BLOCK, "a block's level");
                continue;
            }
            let child = table_at(entry & ADDRESS);
            if !self.shared.contains(&child) {
                prop_assert!(seen.insert(child), "linked twice");
                self.check_table(child, level + 1, base + (at << entry_shift(level)), seen)?;
            }
        }
        let counts = page.counts.get();
        prop_assert_eq!(
            counts.live,
            live,
            "live entries of a table of level {}",
            level
        );
        if table != self.tables.root() {
            let reach = VaRange::new(base, 1 << table_shift(level)).expect("a reach");
            let holds = |job: &&Job| {
                let mut reaches = job.footprint.reaches().iter();
                reaches.any(|r| r.level >= level && r.range.overlaps(&reach))
            };
            let pins = self.pending.iter().filter(holds).count();
            prop_assert_eq!(
                counts.pins as usize,
                pins,
                "pins of a table of level {}",
                level
            );
            prop_assert!(!counts.unused(), "an empty table of level {} stays", level);
        }
        Ok(())
    }

    /// What the GPU's walker finds.
    fn translate(&self, iova: u64) -> u64 {
        let mut table = self.tables.root();
        for level in self.tables.geometry().start_level()..=LEAF {
            let page = self.ram.page(table);
            let entry = page.synced.get(index(iova, level)).map_or(0, Cell::get);
            if entry & 1 == 0 || level == LEAF {
                return entry;
            }
            if entry & 3 == 1 {
                return page_in(entry, iova);
            }
            table = table_at(entry & ADDRESS);
        }
        0
    }

    /// Addresses on both sides of every border, and in the middle.
    fn probes(&self) -> BTreeSet<u64> {
        let ops = self.pending.iter().flat_map(|job| &job.ops).map(Op::range);
        let pieces = self.map.0.iter();
        let pieces = pieces.filter_map(|(start, (end, _))| VaRange::between(*start, *end));
        let end = self.tables.geometry().end();
        pieces
            .chain(ops)
            .flat_map(|r| {
                let middle = (r.addr() + r.len() / 2) & !(PAGE_SIZE - 1);
                let table = r.last() & !((1 << 21) - 1);
                [r.addr(), middle, table, r.end()]
            })
            .flat_map(|at| [at.wrapping_sub(PAGE_SIZE), at])
            .filter(|&at| at < end)
            .collect()
    }
}

/// The descriptor that translates `iova` as this block does.
fn page_in(block: u64, iova: u64) -> u64 {
    (block | 2) + (iova & (BLOCK_SIZE - 1) & !(PAGE_SIZE - 1))
}

/// Pages of the address space: near the borders of tables, from one page to many tables.
fn range(end: u64, most_pages: u64) -> impl Strategy<Value = VaRange> {
    let base = prop_oneof![
        4 => Just(1u64 << 21),
        2 => Just(1u64 << 30),
        1 => Just(0u64),
        1 => Just(end / 2),
        1 => Just(end - (2 << 30)),
    ];
    let pages = prop_oneof![
        3 => 1u64..8,
        2 => (1u64..4, 0u64..3).prop_map(|(n, more)| n * 512 + more),
        1 => (1u64..4, 0u64..2).prop_map(|(n, more)| (n << 18) + more),
        1 => (1u64..3, 0u64..2).prop_map(|(n, more)| (n << 27) - more),
    ];
    (base, 0u64..1030, pages).prop_filter_map("outside", move |(base, at, pages)| {
        let start = (base + at * PAGE_SIZE).saturating_sub(3 * PAGE_SIZE);
        let pages = pages.min(most_pages).min((end - start) / PAGE_SIZE);
        VaRange::new(start, pages * PAGE_SIZE)
    })
}

fn op(end: u64) -> impl Strategy<Value = Op> {
    let prot = any::<[bool; 3]>().prop_map(|[write, privileged, cached]| Prot {
        write,
        privileged,
        cached,
    });
    prop_oneof![
        (range(end, 1100), 1u64..1 << 24, 1u64..700, prot.clone())
            .prop_map(|(range, at, pages, prot)| Op::Map(range, at << 12, pages, prot)),
        // What can be mapped in blocks, as far as the range has whole ones.
        (range(end, 3000), 1u64..1 << 15, 1u64..4, 0u64..2, prot).prop_map(
            |(range, at, blocks, less, prot)| {
                let within = range.addr() & (BLOCK_SIZE - 1);
                let pages = blocks * 512 + 512 * (1 - less) - 7 * less;
                Op::Map(range, (at << 21) + within, pages, prot)
            }
        ),
        range(end, u64::MAX).prop_map(Op::Null),
        range(end, u64::MAX).prop_map(Op::Unmap),
    ]
}

#[derive(Clone, Debug)]
enum Event {
    /// With tables for blocks, or for all pages.
    Submit(Vec<Op>, bool),
    /// The oldest job ends: it is run, or cancelled.
    End(bool),
}

/// An address space's size in bits, and what happens to it.
fn story() -> impl Strategy<Value = (u32, Vec<Event>)> {
    prop_oneof![Just(36u32), Just(39), Just(48)].prop_flat_map(|ias| {
        let event = prop_oneof![
            3 => (vec(op(1 << ias), 1..4), prop_oneof![3 => Just(true), 1 => Just(false)])
                .prop_map(|(ops, blocks)| Event::Submit(ops, blocks)),
            3 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Event::End),
        ];
        (Just(ias), vec(event, 1..10))
    })
}

proptest! {
    #[test]
    fn tables_translate_what_is_mapped((ias, events) in story(), first_unmap: bool) {
        let mut machine = Machine::new(ias, first_unmap);
        for event in events {
            match event {
                Event::Submit(ops, blocks) => machine.submit(ops, blocks)?,
                Event::End(run) => machine.end(run)?,
            }
        }
        while !machine.pending.is_empty() {
            machine.end(true)?;
        }
        // In the end nothing but the root and the shared tables is left.
        let everything = VaRange::between(0, 1 << ias).expect("not empty");
        machine.submit(vec![Op::Unmap(everything)], true)?;
        machine.end(true)?;
        prop_assert_eq!(machine.ram.pages.borrow().len(), 4);
    }
}
