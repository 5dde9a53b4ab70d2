// SPDX-License-Identifier: GPL-2.0-only

//! Programs: lists of ops on one open file, made from a seed.
//!
//! Any list of ops is a program: an op that makes no sense where it stands (a BO that isn't there)
//! is skipped, by the model and by the driver's user alike. So a program that fails can be
//! shortened by leaving out ops.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Pages in the part of the VM that programs map. In its middle it crosses a border of 1 GiB, and
/// so of every page table.
pub const PAGES: u8 = 48;
/// Places for BO handles.
pub const BOS: u8 = 4;
/// Queues for VM_BIND.
pub const QUEUES: u8 = 2;
/// Places for fences that are held back.
pub const FENCES: u8 = 2;
/// The largest BO, in pages.
const LARGEST: u8 = 16;

/// A program and the seed that it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The seed; only a name once the program has been shortened.
    pub seed: u64,
    /// What it does.
    pub ops: Vec<Op>,
    /// How it ends.
    pub end: End,
}

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Held fences are signalled, and everything is looked at. Then handles and queues are closed,
    /// and the file.
    Tidy,
    /// … but the file is closed without the handles and queues.
    Untidy,
    /// The file is closed with jobs waiting; the held fences are signalled later.
    Abrupt,
}

/// What kind of BO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Write-combined, writable for the GPU.
    Plain,
    /// Cached.
    Cached,
    /// Read-only for the GPU.
    ReadOnly,
    /// Belongs to this VM alone.
    Private,
}

/// One op of a VM_BIND request. Pages are counted from the start of the window or of the BO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// MAP.
    Map {
        /// Which BO.
        bo: u8,
        /// First page of the BO.
        first: u8,
        /// First page of the window.
        at: u8,
        /// How many pages.
        count: u8,
        /// With the flag DUMP.
        dump: bool,
    },
    /// MAP_NULL.
    Null {
        /// First page of the window.
        at: u8,
        /// How many pages.
        count: u8,
    },
    /// UNMAP.
    Unmap {
        /// First page of the window.
        at: u8,
        /// How many pages.
        count: u8,
    },
}

/// What is wrong with a request that has to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mistake {
    /// An op that doesn't exist.
    Op,
    /// A flag that doesn't exist.
    Flag,
    /// A flag of the request that doesn't exist.
    RequestFlag,
    /// An iova that isn't a multiple of the page size.
    Iova,
    /// A range that isn't.
    Range,
    /// An offset that isn't.
    Offset,
    /// More than there is of the BO.
    BeyondBo,
    /// A range outside of the VM.
    BeyondVm,
    /// A queue that doesn't exist.
    NoQueue,
    /// A queue that isn't for VM_BIND.
    GpuQueue,
    /// A handle with an UNMAP.
    UnmapHandle,
}

impl Mistake {
    const ALL: [Self; 11] = [
        Self::Op,
        Self::Flag,
        Self::RequestFlag,
        Self::Iova,
        Self::Range,
        Self::Offset,
        Self::BeyondBo,
        Self::BeyondVm,
        Self::NoQueue,
        Self::GpuQueue,
        Self::UnmapHandle,
    ];
}

/// A step of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// GEM_NEW into a place; closes what is there.
    New {
        /// The place.
        bo: u8,
        /// Its size.
        pages: u8,
        /// Its kind.
        kind: Kind,
    },
    /// GEM_CLOSE.
    Close {
        /// Which BO.
        bo: u8,
    },
    /// GEM_MADVISE.
    Madvise {
        /// Which BO.
        bo: u8,
        /// WILLNEED or DONTNEED.
        needed: bool,
    },
    /// Lets the shrinker take what isn't needed.
    Shrink,
    /// VM_BIND.
    Bind {
        /// Which queue.
        queue: u8,
        /// Its ops; none: a fence alone.
        changes: Vec<Change>,
        /// The held fence that it waits for.
        after: Option<u8>,
        /// The job that it waits for as well, through a syncobj; counted from the program's first.
        after_job: Option<u8>,
    },
    /// VM_BIND that has to be refused. The mistake is in an op after these.
    Refused {
        /// The ops before.
        changes: Vec<Change>,
        /// What is wrong.
        mistake: Mistake,
    },
    /// A submit that writes to pages.
    Submit {
        /// Page of the window, and what is written there.
        writes: Vec<(u8, u32)>,
        /// The held fence that it waits for. If it doesn't, its end is waited for.
        after: Option<u8>,
    },
    /// What a child process does with the file that it has inherited.
    Fork {
        /// `Bind`, `Submit`, `Madvise` or `Close`.
        op: Box<Op>,
    },
    /// Makes a fence that is held back.
    Hold {
        /// The place.
        fence: u8,
    },
    /// Signals it.
    Signal {
        /// The place.
        fence: u8,
    },
    /// Closes a VM_BIND queue, and makes another.
    Reopen {
        /// Which queue.
        queue: u8,
    },
    /// Reads the handle's name, flags and metadata back after setting them.
    Info {
        /// Which BO.
        bo: u8,
    },
}

/// Places in the window that programs like: few, so that mappings meet.
fn stretch(rng: &mut Rng, longest: u8) -> (u8, u8) {
    let count = match rng.u8(..8) {
        0 => longest,
        1..4 => 1,
        _ => rng.u8(1..=longest),
    };
    let at = match rng.u8(..4) {
        0 => rng.u8(..=PAGES - count),
        // around the middle
        1 => (PAGES / 2).saturating_sub(rng.u8(..=count)),
        _ => rng.u8(..=(PAGES - count) / 4) * 4,
    };
    (at.min(PAGES - count), count)
}

/// The sizes of BOs as the generator believes them to be.
type Sizes = [Option<u8>; BOS as usize];

fn change(rng: &mut Rng, sizes: &Sizes) -> Change {
    let bo = rng.u8(..BOS);
    match (rng.u8(..10), sizes[usize::from(bo)]) {
        (0..6, Some(pages)) => {
            let (at, count) = stretch(rng, pages);
            Change::Map {
                bo,
                first: rng.u8(..=pages - count),
                at,
                count,
                dump: rng.u8(..8) == 0,
            }
        }
        (6, _) => {
            let (at, count) = stretch(rng, PAGES);
            Change::Null { at, count }
        }
        _ => {
            let (at, count) = stretch(rng, LARGEST);
            Change::Unmap { at, count }
        }
    }
}

fn changes(rng: &mut Rng, sizes: &Sizes, most: usize) -> Vec<Change> {
    let count = rng.usize(1..=most);
    (0..count).map(|_| change(rng, sizes)).collect()
}

fn new_bo(rng: &mut Rng, sizes: &mut Sizes, bo: u8) -> Op {
    let pages = rng.u8(1..=LARGEST);
    sizes[usize::from(bo)] = Some(pages);
    let kind = match rng.u8(..10) {
        0 => Kind::ReadOnly,
        1 | 2 => Kind::Private,
        3 => Kind::Cached,
        _ => Kind::Plain,
    };
    Op::New { bo, pages, kind }
}

impl Program {
    /// The program of a seed, always the same.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let mut sizes = Sizes::default();
        let mut held = [false; FENCES as usize];
        let mut ops = vec![new_bo(rng, &mut sizes, 0)];
        if rng.bool() {
            ops.push(new_bo(rng, &mut sizes, 1));
        }
        // Most have one queue and one fence: those of several queues are mostly beyond the C
        // driver.
        let queues = if rng.u8(..4) == 0 { QUEUES } else { 1 };
        for _ in 0..rng.usize(4..16) {
            let bo = rng.u8(..BOS);
            let fence = rng.u8(..FENCES);
            let op = match rng.u8(..100) {
                0..8 => new_bo(rng, &mut sizes, bo),
                8..12 => {
                    sizes[usize::from(bo)] = None;
                    Op::Close { bo }
                }
                12..18 => Op::Madvise {
                    bo,
                    needed: rng.u8(..3) == 0,
                },
                18..22 => {
                    // The shrinker alone seldom finds anything.
                    ops.push(Op::Madvise {
                        bo: rng.u8(..2),
                        needed: false,
                    });
                    Op::Shrink
                }
                22..26 => Op::Refused {
                    changes: if rng.bool() {
                        changes(rng, &sizes, 2)
                    } else {
                        Vec::new()
                    },
                    mistake: *rng.choice(&Mistake::ALL).expect("there are some"),
                },
                26..38 => Op::Submit {
                    writes: (0..rng.usize(1..6))
                        .map(|_| (stretch(rng, 1).0, rng.u32(1..)))
                        .collect(),
                    after: (held[usize::from(fence)] && rng.bool()).then_some(fence),
                },
                38..46 => {
                    held[usize::from(fence)] = true;
                    Op::Hold { fence }
                }
                46..52 => {
                    held[usize::from(fence)] = false;
                    Op::Signal { fence }
                }
                52..54 => Op::Reopen {
                    queue: rng.u8(..queues),
                },
                54..56 => Op::Info { bo },
                _ => Op::Bind {
                    queue: rng.u8(..queues),
                    changes: if rng.u8(..16) == 0 {
                        Vec::new()
                    } else {
                        changes(rng, &sizes, 4)
                    },
                    after: (held[usize::from(fence)] && rng.bool()).then_some(fence),
                    after_job: (rng.u8(..8) == 0).then(|| rng.u8(..6)),
                },
            };
            let by_child = matches!(
                op,
                Op::Bind { .. }
                    | Op::Submit { after: None, .. }
                    | Op::Madvise { .. }
                    | Op::Close { .. }
            );
            ops.push(if by_child && rng.u8(..64) == 0 {
                Op::Fork { op: Box::new(op) }
            } else {
                op
            });
        }
        Self {
            seed,
            ops,
            end: match rng.u8(..16) {
                0 => End::Abrupt,
                1..9 => End::Tidy,
                _ => End::Untidy,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_program() {
        for seed in 0..1000 {
            assert_eq!(Program::new(seed), Program::new(seed));
        }
        assert_ne!(Program::new(1).ops, Program::new(2).ops);
    }

    #[test]
    fn survives_json() {
        for seed in 0..100 {
            let program = Program::new(seed);
            let text = serde_json::to_string(&program).expect("JSON");
            assert_eq!(
                serde_json::from_str::<Program>(&text).expect("JSON"),
                program
            );
        }
    }

    #[test]
    fn stays_inside() {
        for seed in 0..5000 {
            for op in Program::new(seed).ops {
                let op = match op {
                    Op::Fork { op } => *op,
                    op => op,
                };
                let (Op::Bind { changes, .. } | Op::Refused { changes, .. }) = op else {
                    continue;
                };
                for change in changes {
                    let (Change::Map { at, count, .. }
                    | Change::Null { at, count }
                    | Change::Unmap { at, count }) = change;
                    assert!(count > 0 && at + count <= PAGES, "{seed}: {change:?}");
                }
            }
        }
    }
}
