// SPDX-License-Identifier: GPL-2.0-only

//! What the page tables need of their surroundings: where tables are kept, where new ones come
//! from, and where removed ones go.

/// The output address or next table: bits 47 to 12.
pub(super) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// A page table: the physical address of a 4 KiB page that holds 512 entries.
///
/// Nothing makes one of a number: it comes out of a [`Pool`], or is read from a descriptor that
/// [`super::PageTables`] has written.
///
/// # Invariants
///
/// The address is a multiple of 4 KiB below 2^48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(u64);

impl Table {
    /// The table at a physical address; `None` when no table can be there.
    const fn at(address: u64) -> Option<Self> {
        if address & !ADDRESS == 0 {
            // INVARIANT: `ADDRESS` has just the bits of such an address.
            Some(Self(address))
        } else {
            None
        }
    }

    /// The table that a table descriptor points to.
    pub(super) const fn of_descriptor(descriptor: u64) -> Self {
        // INVARIANT: `ADDRESS` has just the bits of such an address.
        Self(descriptor & ADDRESS)
    }

    /// The physical address.
    #[inline]
    pub const fn address(self) -> u64 {
        self.0
    }
}

/// A table that isn't linked any more, on its way to whoever frees it.
///
/// Only [`super::PageTables`] makes them: one for each table that it unlinks, and forgets, and at
/// the end one for the root.
#[derive(Debug)]
pub struct Unlinked(Table);

impl Unlinked {
    /// For a table that was linked until now, and isn't named any more.
    pub(super) const fn new(table: Table) -> Self {
        Self(table)
    }

    /// Which it is.
    pub const fn table(&self) -> Table {
        self.0
    }
}

/// What is kept about a table beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many of its entries aren't zero: 0 to 512.
    pub live: u16,
    /// How many footprints hold it ([`super::PageTables::reserve`]). A count that reached
    /// `u32::MAX` stays there, and the table with it until teardown.
    pub pins: u32,
    /// Whether it was linked for a reservation, and nothing has been mapped by it since. Of a table
    /// that others are below it is right once those are unlinked.
    pub spare: bool,
}

impl Counts {
    /// Whether nothing needs the table.
    #[inline]
    pub const fn unused(&self) -> bool {
        self.live == 0 && self.pins == 0
    }
}

/// The 512 entries of one table, while the lock is held.
pub trait Entries {
    /// The entry at `index`, below 512.
    fn get(&self, index: usize) -> u64;

    /// Changes the entry at `index`, below 512, in one 64-bit store that can't be torn. A walker
    /// may not see it before [`Memory::sync`].
    fn set(&self, index: usize, entry: u64);

    /// Sets `count` entries from `first` on, which are in the table: the first to `entry`, each
    /// next one to `step` more. As [`Self::set`] does.
    fn fill(&self, first: usize, count: usize, entry: u64, step: u64);
}

/// The memory that tables live in.
///
/// Whoever has one holds the lock of the VM's page tables, or its tables aren't anybody else's yet;
/// that is why nothing here takes `&mut self`. Only tables that [`super::PageTables`] was given are
/// ever named.
pub trait Memory {
    /// Where its tables come from.
    type Pool: Pool;

    /// See [`Memory::entries`].
    type Entries<'a>: Entries
    where
        Self: 'a;

    /// A table's entries.
    fn entries(&self, table: Table) -> Self::Entries<'_>;

    /// Makes `count` entries from `first` on visible to the walkers, before anything that is stored
    /// later is. For a coherent walker a write barrier, otherwise a clean to the point of
    /// coherency. Called once per run of entries.
    fn sync(&self, table: Table, first: usize, count: usize);

    /// Makes a whole table visible to the walkers, before anything that is stored later is: called
    /// once for each table, when its contents are as they shall be and before a descriptor or TTBR0
    /// leads to it. For a coherent walker a write barrier, otherwise a clean of the table.
    fn publish(&self, table: Table);

    /// What was last set; `Counts::default()` for a table fresh from the pool.
    fn counts(&self, table: Table) -> Counts;

    /// Keeps `counts` for the table.
    fn set_counts(&self, table: Table, counts: Counts);
}

/// Tables that were allocated before the lock was taken.
///
/// The memory of the tables believes what a pool says of its pages, so both have one keeper.
pub trait Pool {
    /// How many are left.
    fn available(&self) -> u64;

    /// Takes a page for a table: the physical address of 4 KiB that are zero, nobody else's, and
    /// stay until somebody is told that the table isn't used any more. Its counts are the default.
    fn take_page(&mut self) -> Option<u64>;

    /// Takes a table. The walkers may still see what was in its memory before:
    /// [`Memory::publish`].
    fn take(&mut self) -> Option<Table> {
        self.take_page().and_then(Table::at)
    }
}

/// What has to be done after the tables were changed and before the job's fence signals.
///
/// If either function was called, the TLB, walk caches included, must be invalidated (not while the
/// GPU is suspended: its resume does so).
pub trait Gather {
    /// `table` isn't linked any more, but walkers may still read it: its contents must stay until
    /// the invalidation, then it is the caller's.
    fn table(&mut self, table: Unlinked);

    /// A translation that the TLB may hold was removed. The pages behind it may not be freed, and
    /// nothing else may be mapped in its place, before the invalidation.
    fn removed_live(&mut self);
}
