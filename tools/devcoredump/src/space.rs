// SPDX-License-Identifier: GPL-2.0-only
//! The address space that a VM log describes.

use crate::dump::Dump;
use crate::vm_log::{
    Applied,
    Entry,
    VmLog, //
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint ranges, each with something attached. Later paint covers earlier.
#[derive(Debug, Clone)]
struct Canvas<T> {
    pieces: BTreeMap<u64, (u64, T)>,
}

impl<T: Clone> Canvas<T> {
    fn new() -> Self {
        Canvas {
            pieces: BTreeMap::new(),
        }
    }

    /// Makes `range` blank; what sticks out of it stays.
    fn erase(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some((&start, &(end, ref what))) = self.pieces.range(..range.start).next_back() {
            if end > range.start {
                let what = what.clone();
                self.pieces.insert(start, (range.start, what.clone()));
                if end > range.end {
                    self.pieces.insert(range.end, (end, what));
                }
            }
        }
        while let Some((&start, &(end, _))) = self.pieces.range(range.clone()).next() {
            if let Some((_, what)) = self.pieces.remove(&start) {
                if end > range.end {
                    self.pieces.insert(range.end, (end, what));
                }
            }
        }
    }

    fn paint(&mut self, range: Range<u64>, what: T) {
        self.erase(&range);
        if !range.is_empty() {
            self.pieces.insert(range.start, (range.end, what));
        }
    }

    fn at(&self, addr: u64) -> Option<(Range<u64>, &T)> {
        let (&start, (end, what)) = self.pieces.range(..=addr).next_back()?;
        (addr < *end).then_some((start..*end, what))
    }

    fn iter(&self) -> impl Iterator<Item = (Range<u64>, &T)> {
        self.pieces
            .iter()
            .map(|(&start, (end, what))| (start..*end, what))
    }
}

/// The mappings that were live at some moment. Each knows the log entry that made it.
#[derive(Debug, Clone)]
pub struct Live {
    canvas: Canvas<usize>,
}

/// The entries that had reached the page tables when the GPU faulted, in the order in which they
/// did, as indices into [`VmLog::entries`].
pub fn order(log: &VmLog) -> Vec<usize> {
    let mut order: Vec<usize> = (0..log.entries.len())
        .filter(|&i| log.in_effect(&log.entries[i]) && log.entries[i].err.is_none())
        .collect();
    order.sort_by_key(|&i| match log.entries[i].applied {
        Applied::At(at) => at,
        Applied::Yes | Applied::NotYet => 0,
    });
    order
}

impl Live {
    /// Replays the entries of `order` (see [`order`]).
    pub fn replay(log: &VmLog, order: &[usize]) -> Live {
        let mut live = Live {
            canvas: Canvas::new(),
        };
        for &index in order {
            live.apply(index, &log.entries[index]);
        }
        live
    }

    fn apply(&mut self, index: usize, entry: &Entry) {
        if entry.op.maps() {
            self.canvas.paint(entry.range(), index);
        } else if entry.op.removes() {
            self.canvas.erase(&entry.range());
        }
    }

    /// The mapping at `addr`: its range, and the entry that made it.
    pub fn at(&self, addr: u64) -> Option<(Range<u64>, usize)> {
        self.canvas.at(addr).map(|(range, &entry)| (range, entry))
    }

    /// All mappings, by address.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, usize)> + '_ {
        self.canvas.iter().map(|(range, &entry)| (range, entry))
    }
}

/// The entry whose mapping `removal` (an entry's index) took `addr` away from, when other parts of
/// that mapping stayed.
pub fn partially_removed(log: &VmLog, order: &[usize], removal: usize, addr: u64) -> Option<usize> {
    let position = order.iter().position(|&i| i == removal)?;
    let before = Live::replay(log, &order[..position]);
    let (_, made_by) = before.at(addr)?;
    let mut after = before;
    after.apply(removal, &log.entries[removal]);
    let stays = after.iter().any(|(_, entry)| entry == made_by);
    stays.then_some(made_by)
}

/// What is known of a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The dump lists a BO there, and the log says nothing of it.
    Listed,
    /// The log says that it was mapped.
    Mapped,
    /// It was mapped to nothing (MAP_NULL).
    Null,
    /// It was mapped once, and no longer.
    Removed,
    /// It was asked for, and not mapped yet.
    Pending,
}

/// A range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Which addresses.
    pub range: Range<u64>,
    /// What is known of them.
    pub state: State,
    /// The log entry that says so.
    pub entry: Option<usize>,
    /// The BO that the dump lists there.
    pub bo: Option<usize>,
}

impl Region {
    /// The name of what is or was there.
    pub fn name<'a>(&self, dump: &'a Dump) -> Option<&'a str> {
        let logged = self
            .entry
            .zip(dump.vm_log.as_ref())
            .and_then(|(i, log)| log.entries.get(i)?.name.as_deref());
        logged.or_else(|| self.bo.and_then(|i| dump.bos.get(i)?.name.as_deref()))
    }
}

/// All that a dump says of its address space, by address.
pub fn regions(dump: &Dump) -> Vec<Region> {
    let mut listed = Canvas::new();
    for (index, bo) in dump.bos.iter().enumerate() {
        listed.paint(bo.range(), index);
    }
    let mut canvas = Canvas::new();
    for (range, _) in listed.iter() {
        canvas.paint(range, (State::Listed, None));
    }
    if let Some(log) = &dump.vm_log {
        for index in order(log) {
            let entry = &log.entries[index];
            let state = if entry.op.removes() {
                State::Removed
            } else if !entry.op.maps() {
                continue;
            } else if entry.is_null() {
                State::Null
            } else {
                State::Mapped
            };
            canvas.paint(entry.range(), (state, Some(index)));
        }
        for (index, entry) in log.entries.iter().enumerate() {
            if entry.op.maps() && !log.in_effect(entry) {
                canvas.paint(entry.range(), (State::Pending, Some(index)));
            }
        }
    }
    let mut out: Vec<Region> = Vec::new();
    for (range, &(state, entry)) in canvas.iter() {
        let bo = listed.at(range.start).map(|(_, &bo)| bo);
        match out.last_mut() {
            Some(last)
                if last.range.end == range.start
                    && last.state == state
                    && last.bo == bo
                    && state == State::Removed
                    && same_removal(dump, last.entry, entry) =>
            {
                last.range.end = range.end
            }
            _ => out.push(Region {
                range,
                state,
                entry,
                bo,
            }),
        }
    }
    out
}

/// Two neighbours went the same way: one UNMAP over several VMAs is several entries.
fn same_removal(dump: &Dump, a: Option<usize>, b: Option<usize>) -> bool {
    let get = |i: usize| dump.vm_log.as_ref()?.entries.get(i);
    match (a.and_then(get), b.and_then(get)) {
        (Some(a), Some(b)) => {
            a.op == b.op && a.queue == b.queue && a.job == b.job && a.name == b.name
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm_log::Op;

    fn log(lines: &[&str]) -> VmLog {
        VmLog {
            entries: lines
                .iter()
                .map(|line| Entry::parse(1, line).unwrap())
                .collect(),
            ..VmLog::default()
        }
    }

    #[test]
    fn holes_leave_both_ends() {
        let log = log(&[
            "- map:1: 0x1000-0x9000",
            "- unmap:1: 0x3000-0x4000",
            "- map:1: 0x8000-0xa000",
        ]);
        let order = order(&log);
        let live = Live::replay(&log, &order);
        let all: Vec<_> = live.iter().collect();
        assert_eq!(
            all,
            [
                (0x1000..0x3000, 0),
                (0x4000..0x8000, 0),
                (0x8000..0xa000, 2)
            ]
        );
        assert_eq!(live.at(0x3000), None);
        assert_eq!(partially_removed(&log, &order, 1, 0x3fff), Some(0));
    }

    #[test]
    fn a_whole_unmap_is_not_partial() {
        let log = log(&[
            "- map:1: 0x1000-0x2000",
            "- map:1: 0x2000-0x3000",
            "- unmap:1: 0x1000-0x2000",
        ]);
        assert_eq!(partially_removed(&log, &order(&log), 2, 0x1000), None);
    }

    #[test]
    fn what_was_not_applied_is_not_replayed() {
        let log = log(&[
            "- map:1: 0x1000-0x2000 asked=1 applied=9",
            "- unmap:1: 0x1000-0x2000 asked=2 applied=5",
            "- map:1: 0x2000-0x3000 asked=3 applied=-",
            "- map:1: 0x3000-0x4000 asked=3 applied=4 err=-12",
        ]);
        assert_eq!(order(&log), [1, 0]);
        let dump = Dump {
            vm_log: Some(log),
            ..Dump::default()
        };
        let states: Vec<_> = regions(&dump).iter().map(|r| r.state).collect();
        assert_eq!(states, [State::Mapped, State::Pending]);
        assert!(Op::Map.maps());
    }
}
