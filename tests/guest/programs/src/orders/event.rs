// SPDX-License-Identifier: GPL-2.0-only

//! What can happen, and how a sequence of it is written.

use super::model::Submit;
use harness::{bail, Context, Error};
use std::{fmt, str::FromStr};

/// What the bind asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UNMAP of the whole BO.
    Unmap,
    /// UNMAP of its first page.
    UnmapPart,
    /// MAP of another BO over it.
    MapOver,
    /// MAP of another BO over its first page.
    MapPart,
    /// MAP_NULL over it.
    NullOver,
    /// MAP of another BO where nothing is mapped.
    MapNew,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Unmap,
        Self::UnmapPart,
        Self::MapOver,
        Self::MapPart,
        Self::NullOver,
        Self::MapNew,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Unmap => "unmap",
            Self::UnmapPart => "unmap-part",
            Self::MapOver => "map-over",
            Self::MapPart => "map-part",
            Self::NullOver => "null-over",
            Self::MapNew => "map-new",
        }
    }

    /// Whether it maps the second BO.
    pub fn maps(self) -> bool {
        matches!(self, Self::MapOver | Self::MapPart | Self::MapNew)
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The bind is sent. It waits for a fence.
    Bind,
    /// Or else, it is sent and waits for nothing.
    BindNow,
    /// That fence signals.
    Signal,
    /// A SUBMIT is sent that begins, waits, and then writes to the range.
    Run,
    /// … it is let go.
    End,
    /// A SUBMIT is sent that writes to the range, and waits for another fence.
    Queue,
    /// … that one signals.
    Go,
    /// Another context maps the BO as well, and sends a SUBMIT that begins, waits, and then writes
    /// to it.
    Other,
    /// … it is let go, and the other context unmaps the BO.
    OtherEnds,
    /// The context makes the GPU fault: the SUBMIT that runs does, or else one that is sent for
    /// that.
    Fault,
    /// The context hangs the GPU: the SUBMIT that runs does, or else one that is sent for that.
    Hang,
    /// The handles of both BOs are closed.
    CloseHandle,
    /// The file is closed.
    CloseFile,
    /// The process that has the file open is killed.
    Kill,
    /// The BO isn't needed any more, and the shrinker looks for such.
    Purge,
    /// The shrinker looks for BOs that can be swapped out.
    Evict,
    /// The BO is needed again, and a SUBMIT brings it back.
    BringBack,
}

impl Event {
    /// All of them, so that an event that needs another one comes behind it.
    pub const ALL: [Self; 17] = [
        Self::Bind,
        Self::BindNow,
        Self::Signal,
        Self::Run,
        Self::End,
        Self::Queue,
        Self::Go,
        Self::Other,
        Self::OtherEnds,
        Self::Fault,
        Self::Hang,
        Self::CloseHandle,
        Self::CloseFile,
        Self::Kill,
        Self::Purge,
        Self::Evict,
        Self::BringBack,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::BindNow => "bind-now",
            Self::Signal => "signal",
            Self::Run => "run",
            Self::End => "end",
            Self::Queue => "queue",
            Self::Go => "go",
            Self::Other => "other",
            Self::OtherEnds => "other-ends",
            Self::Fault => "fault",
            Self::Hang => "hang",
            Self::CloseHandle => "close-handle",
            Self::CloseFile => "close-file",
            Self::Kill => "kill",
            Self::Purge => "purge",
            Self::Evict => "evict",
            Self::BringBack => "bring-back",
        }
    }
}

impl Event {
    /// The SUBMIT that it puts into the ring.
    pub fn submit(self) -> Option<Submit> {
        match self {
            Self::Run => Some(Submit::Run),
            Self::Go => Some(Submit::Queue),
            Self::Other => Some(Submit::Other),
            Self::BringBack => Some(Submit::Back),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Events in their order. Written as `map-over:run,bind,close-file,signal`, or
/// `private-map-over:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// What the bind is.
    pub kind: Kind,
    /// Whether the BOs belong to the VM alone (`MSM_BO_NO_SHARE`).
    pub private: bool,
    /// What happens.
    pub events: Vec<Event>,
}

impl Sequence {
    /// Whether something happens in it.
    pub fn has(&self, event: Event) -> bool {
        self.events.contains(&event)
    }
}

const PRIVATE: &str = "private-";

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let private = if self.private { PRIVATE } else { "" };
        write!(f, "{private}{}", self.kind.name())?;
        for (n, event) in self.events.iter().enumerate() {
            write!(f, "{}{event}", if n == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

impl FromStr for Sequence {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let (kind, events) = name.split_once(':').context("KIND:EVENT,EVENT,…")?;
        let private = kind.strip_prefix(PRIVATE);
        let kind = private.unwrap_or(kind);
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
        let event = |name: &str| {
            let known = Event::ALL.into_iter().find(|known| known.name() == name);
            match known {
                Some(event) => Ok(event),
                None => bail!("there is no event {name}"),
            }
        };
        Ok(Self {
            kind: kind.context("there is no such kind of bind")?,
            private: private.is_some(),
            events: events.split(',').map(event).collect::<Result<_, _>>()?,
        })
    }
}
