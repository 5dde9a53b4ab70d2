// SPDX-License-Identifier: GPL-2.0-only
//! The neighbourhood of an address: what is and was mapped around it, and the holes between.

#[cfg(feature = "report")]
pub mod picture;
pub mod words;

use crate::dump::Dump;
use crate::space::{
    regions,
    Region, //
};
use std::ops::Range;

/// The end of what TTBR0 translates, where user mappings are; TTBR1's half follows it.
const LOWER_END: u64 = 1 << 48;
/// The end of both halves.
const END: u64 = 1 << 49;

/// A range of addresses, and what is there. `None`: nothing that the dump knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which addresses; never empty.
    pub range: Range<u64>,
    /// What is there.
    pub region: Option<Region>,
}

/// Rows that follow each other without gaps, by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The address it was made around.
    pub centre: u64,
    /// The rows; one of them holds the centre, unless it is beyond the address space.
    pub rows: Vec<Row>,
    /// How many regions below the first row were left out.
    pub below: usize,
    /// How many regions above the last row were left out.
    pub above: usize,
}

impl Map {
    /// The `reach` regions on each side of `centre`, what holds it, and the holes between them.
    pub fn around(dump: &Dump, centre: u64, reach: usize) -> Map {
        let all: Vec<Region> = regions(dump)
            .into_iter()
            .filter(|region| !region.range.is_empty())
            .collect();
        let at = all.partition_point(|region| region.range.end <= centre);
        let hit = all.get(at).is_some_and(|r| r.range.contains(&centre));
        let first = at.saturating_sub(reach);
        let last = at
            .saturating_add(usize::from(hit))
            .saturating_add(reach)
            .min(all.len());

        let mut rows: Vec<Row> = Vec::new();
        let mut reached = match first {
            0 => 0,
            // With no region in sight, the hole that the centre is in still begins somewhere.
            _ if first == last => all[first - 1].range.end,
            _ => all[first].range.start,
        };
        let hole = |rows: &mut Vec<Row>, range: Range<u64>| {
            if !range.is_empty() {
                rows.push(Row {
                    range,
                    region: None,
                });
            }
        };
        for region in &all[first..last] {
            hole(&mut rows, reached..region.range.start);
            reached = region.range.end;
            rows.push(Row {
                range: region.range.clone(),
                region: Some(region.clone()),
            });
        }
        match all.get(last) {
            None => {
                let end = if reached.max(centre) < LOWER_END {
                    LOWER_END
                } else {
                    END
                };
                hole(&mut rows, reached..end);
            }
            Some(next) if first == last => hole(&mut rows, reached..next.range.start),
            Some(_) => {}
        }
        Map {
            centre,
            rows,
            below: first,
            above: all.len() - last,
        }
    }

    /// The row that holds the centre.
    pub fn hit(&self) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.range.contains(&self.centre))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::Bo;
    use crate::space::State;

    fn dump(bos: &[(u64, u64)]) -> Dump {
        Dump {
            bos: bos
                .iter()
                .map(|&(iova, size)| Bo {
                    iova,
                    size,
                    ..Bo::default()
                })
                .collect(),
            ..Dump::default()
        }
    }

    fn ranges(map: &Map) -> Vec<(u64, u64, bool)> {
        map.rows
            .iter()
            .map(|row| (row.range.start, row.range.end, row.region.is_some()))
            .collect()
    }

    #[test]
    fn rows_have_no_gaps_between_them() {
        let dump = dump(&[(0x1000, 0x1000), (0x4000, 0x2000), (0x6000, 0x1000)]);
        let map = Map::around(&dump, 0x4800, 8);
        assert_eq!(
            ranges(&map),
            [
                (0, 0x1000, false),
                (0x1000, 0x2000, true),
                (0x2000, 0x4000, false),
                (0x4000, 0x6000, true),
                (0x6000, 0x7000, true),
                (0x7000, LOWER_END, false),
            ]
        );
        assert_eq!(map.hit().unwrap().range, 0x4000..0x6000);
        let state = map.hit().unwrap().region.as_ref().unwrap().state;
        assert_eq!(state, State::Listed);
    }

    #[test]
    fn what_is_far_is_counted() {
        let bos: Vec<_> = (1..=9).map(|i| (i * 0x10000, 0x1000)).collect();
        let dump = dump(&bos);
        let map = Map::around(&dump, 0x50800, 1);
        assert_eq!((map.below, map.above), (3, 3));
        assert_eq!(map.rows.first().unwrap().range.start, 0x40000);
        assert_eq!(map.rows.last().unwrap().range.end, 0x61000);
        let hole = Map::around(&dump, 0x58000, 0);
        assert_eq!(ranges(&hole), [(0x51000, 0x60000, false)]);
        assert_eq!((hole.below, hole.above), (5, 4));
    }

    #[test]
    fn the_edges_of_the_address_space() {
        let empty = dump(&[]);
        assert_eq!(
            ranges(&Map::around(&empty, 0x40, 3)),
            [(0, LOWER_END, false)]
        );
        let upper = Map::around(&empty, LOWER_END + 1, 3);
        assert_eq!(ranges(&upper), [(0, END, false)]);
        // A range that a dump may claim, and an address that no dump may.
        let wild = dump(&[(u64::MAX - 0x1000, u64::MAX), (0x1000, 0)]);
        for centre in [0, END, u64::MAX - 1, u64::MAX] {
            let map = Map::around(&wild, centre, usize::MAX);
            assert!(map
                .rows
                .windows(2)
                .all(|w| w[0].range.end == w[1].range.start));
        }
        assert_eq!(Map::around(&wild, u64::MAX, 1).hit(), None);
    }
}
