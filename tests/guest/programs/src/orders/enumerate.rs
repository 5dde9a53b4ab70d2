// SPDX-License-Identifier: GPL-2.0-only

//! All sequences, each once.
//!
//! Each is a walk through the [`Model`]: in every state, every event that can happen does, and each
//! event happens at most once. Left out is
//!
//! - what comes behind a request that is refused, as that has changed nothing;
//! - a sequence in which two neighbours don't matter to each other and are the wrong way round: the
//!   one with these two swapped does the same ([`independent`]);
//! - long sequences with events that take long ([`longest`]).
//!
//! A sequence that is the beginning of another is there as well: what isn't over at its end is then
//! ended in the order of [`TAIL`].

use super::{
    event::{Event, Kind, Sequence},
    model::{Answer, Model},
};
use harness::Rng;

/// Events in a sequence, at most.
const LONGEST: usize = 6;

/// What happens at the end of each sequence, as far as it can.
pub const TAIL: [Event; 5] = [
    Event::Signal,
    Event::Go,
    Event::End,
    Event::OtherEnds,
    Event::CloseFile,
];

/// The most events in a sequence with that event; one less with private BOs.
fn longest(event: Event, private: bool) -> usize {
    let most = match event {
        // Each takes seconds, as the GPU's state is captured.
        Event::Fault => 4,
        Event::Hang | Event::Kill | Event::Purge | Event::Evict => 5,
        // Its page tables change when they would if the fence signalled next.
        Event::BindNow => 5,
        _ => LONGEST,
    };
    most - usize::from(private)
}

/// The order that independent neighbours are in.
fn rank(event: Event) -> usize {
    use Event::*;
    [
        CloseHandle,
        Queue,
        Bind,
        BindNow,
        Other,
        Run,
        OtherEnds,
        Purge,
        Evict,
        BringBack,
        End,
        Go,
        Signal,
        Fault,
        Hang,
        CloseFile,
        Kill,
    ]
    .iter()
    .position(|known| *known == event)
    .unwrap_or(usize::MAX)
}

/// Whether it doesn't matter which of two neighbours comes first.
fn independent(one: Event, other: Event) -> bool {
    use Event::*;
    let pair = |a: Event, b: &[Event]| {
        (one == a && b.contains(&other)) || (other == a && b.contains(&one))
    };
    // Neither SUBMIT nor the GPU looks at handles.
    pair(CloseHandle, &[Run, Queue, Fault, Hang, OtherEnds])
        // It waits, on a queue of its own, whatever the ring does.
        || pair(Queue, &[Run, End, Other, OtherEnds])
        // Another VM.
        || pair(Other, &[Bind, BindNow, Signal])
        || pair(OtherEnds, &[Bind, BindNow, Signal])
}

fn walk(model: &Model, sequence: &mut Sequence, most: usize, found: &mut Vec<Sequence>) {
    for event in Event::ALL {
        let most = most.min(longest(event, sequence.private));
        let last = sequence.events.last().copied();
        let swapped = last.is_some_and(|last| independent(last, event) && rank(last) > rank(event));
        if sequence.events.len() >= most || sequence.has(event) || swapped || !model.can(event) {
            continue;
        }
        let mut next = model.clone();
        let refused = next.apply(event).is_some();
        if matches!(event, Event::Purge | Event::Evict) && model.shrinkable() == Answer::Yes {
            next.shrink();
        }
        sequence.events.push(event);
        if sequence.has(Event::Bind) || sequence.has(Event::BindNow) {
            found.push(sequence.clone());
        }
        if !refused {
            walk(&next, sequence, most, found);
        }
        sequence.events.pop();
    }
}

/// All sequences.
pub fn all() -> Vec<Sequence> {
    let mut found = Vec::new();
    for private in [false, true] {
        for kind in Kind::ALL {
            let mut sequence = Sequence {
                kind,
                private,
                events: Vec::new(),
            };
            walk(
                &Model::new(kind, private),
                &mut sequence,
                LONGEST,
                &mut found,
            );
        }
    }
    found
}

/// What has gone wrong once, and comes up in a share once in some thousand sequences.
const FOUND: [&str; 4] = [
    // A cancelled MAP's BO was evicted, and what was mapped there before lost its entries.
    "map-over:run,bind,close-file,signal,evict",
    "map-over:run,bind,kill,signal,evict",
    "map-part:run,bind,close-file,signal,evict",
    "map-part:run,bind,kill,signal,evict",
];

/// [`FOUND`], and then all others shuffled, so that the beginning is a fair share: for each
/// sequence with a fault some with a hang, with a kill, and so on.
pub fn share(seed: u64) -> Vec<Sequence> {
    // How many of a class come in a row before the next class's turn.
    const CLASSES: [(Option<Event>, usize); 6] = [
        (Some(Event::Fault), 1),
        (Some(Event::Hang), 12),
        (Some(Event::Kill), 20),
        (Some(Event::Evict), 25),
        (Some(Event::Purge), 40),
        (None, 100),
    ];
    let mut rng = Rng::with_seed(seed);
    let mut left = all();
    rng.shuffle(&mut left);
    let found = |sequence: &Sequence| FOUND.contains(&sequence.to_string().as_str());
    let (mut shared, mut left): (Vec<_>, Vec<_>) = left.into_iter().partition(found);
    let mut classes: Vec<std::vec::IntoIter<Sequence>> = Vec::new();
    for (event, _) in CLASSES {
        let is = |sequence: &Sequence| event.is_none_or(|event| sequence.has(event));
        let (class, rest) = left.into_iter().partition(is);
        let class: Vec<Sequence> = class;
        classes.push(class.into_iter());
        left = rest;
    }
    loop {
        let before = shared.len();
        for (class, (_, count)) in classes.iter_mut().zip(CLASSES) {
            shared.extend(class.take(count));
        }
        if shared.len() == before {
            return shared;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_sequence_is_there_once_and_can_be_read_back() {
        let all = all();
        let names: HashSet<String> = all.iter().map(Sequence::to_string).collect();
        assert_eq!(names.len(), all.len());
        for sequence in &all {
            assert_eq!(sequence.to_string().parse::<Sequence>().unwrap(), *sequence);
        }
        assert!(all.len() > 20_000, "{}", all.len());
    }

    #[test]
    fn what_was_missed_once_is_there() {
        let all = all();
        for name in [
            "unmap:run,bind,close-file,signal",
            "map-over:bind,run,close-file,signal",
            "map-over:bind,hang,signal,close-handle",
            "map-over:queue,bind,fault,signal",
            "unmap:run,bind,close-file,signal,evict",
            "map-over:run,bind-now,close-handle,end",
        ] {
            let sequence: Sequence = name.parse().unwrap();
            assert!(all.contains(&sequence), "{name}");
        }
    }

    #[test]
    fn a_share_is_a_permutation() {
        let (mut some, all) = (share(1), all());
        assert_eq!(some.len(), all.len());
        assert_ne!(some, all);
        assert!(FOUND
            .iter()
            .all(|name| some[..FOUND.len()].iter().any(|s| s.to_string() == *name)));
        some.truncate(500);
        for event in Event::ALL {
            assert!(some.iter().any(|sequence| sequence.has(event)), "{event}");
        }
    }
}
