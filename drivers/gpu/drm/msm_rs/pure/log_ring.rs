// SPDX-License-Identifier: GPL-2.0-only

//! A ring of log entries that are numbered for ever.
//!
//! An entry is written when a change is asked for and completed when it is applied, perhaps much
//! later. In between its writer holds its number, not a pointer: the ring may have forgotten it.

use core::marker::PhantomData;

/// A ring of `E` in `S`, memory that the caller provides.
pub struct LogRing<E, S> {
    slots: S,
    _entries: PhantomData<E>,
    /// How many entries were ever pushed; the number of the next one.
    next: u64,
}

impl<E, S: AsRef<[E]> + AsMut<[E]>> LogRing<E, S> {
    /// An empty ring. What `slots` holds is never shown. Entries are lost at once if it is empty.
    pub fn new(slots: S) -> Self {
        Self {
            slots,
            _entries: PhantomData,
            next: 0,
        }
    }

    /// How many entries can be kept.
    pub fn capacity(&self) -> usize {
        self.slots.as_ref().len()
    }

    /// How many entries are kept.
    pub fn len(&self) -> usize {
        self.slots
            .as_ref()
            .len()
            .min(usize::try_from(self.next).unwrap_or(usize::MAX))
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries were forgotten.
    pub fn lost(&self) -> u64 {
        self.next - self.len() as u64
    }

    /// The number that the next entry gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn index(&self, number: u64) -> Option<usize> {
        let len = self.slots.as_ref().len() as u64;
        (number < self.next && number >= self.lost())
            .then(|| number.checked_rem(len))
            .flatten()
            .and_then(|i| usize::try_from(i).ok())
    }

    /// Adds an entry, forgetting the oldest if the ring is full. Returns its number.
    pub fn push(&mut self, entry: E) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(slot) = self
            .index(number)
            .and_then(|i| self.slots.as_mut().get_mut(i))
        {
            *slot = entry;
        }
        number
    }

    /// The entry with `number`, unless it was forgotten.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut E> {
        let index = self.index(number)?;
        self.slots.as_mut().get_mut(index)
    }

    /// The kept entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        (self.lost()..self.next)
            .filter_map(|n| self.index(n))
            .filter_map(|i| self.slots.as_ref().get(i))
    }
}
