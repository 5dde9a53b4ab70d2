// SPDX-License-Identifier: GPL-2.0-only

//! What somebody who looks from outside should find: which BOs are there and may be shrunk, which
//! fences have signalled, which commands were run.

use super::{Answer, Bind, Cell, File, Kind, Model, Pages, Stage, Submit};

impl Model {
    /// Whether the shrinker has to take the first BO's pages when it is asked to.
    pub fn shrinkable(&self) -> Answer {
        let bind_holds = self.bind == Bind::Waits && (self.private || self.kind != Kind::MapNew);
        let held = |submit| {
            self.works[submit as usize].holds_first
                && (submit == Submit::Other || self.is_held(Cell::First))
                && self.surely_flies(submit)
        };
        if self.pages != Pages::Resident || bind_holds || self.in_flight().any(held) {
            Answer::No
        } else if self.in_flight().next().is_some()
            || matches!(self.bind, Bind::Waits | Bind::Cancelled)
            || self.first_lives() != Answer::Yes
        {
            Answer::Maybe
        } else {
            Answer::Yes
        }
    }

    /// Whether submits of the context hold a BO that they found mapped. Their fences are with the VM:
    /// once the BO isn't mapped there any more, they hold its pages only if it is the VM's own, or if
    /// the page tables still lead to it, as they do in place of a bind that was cancelled.
    fn is_held(&self, cell: Cell) -> bool {
        self.private || Self::has(&self.tree, cell) || Self::has(&self.tables, cell)
    }

    /// Whether a submit that is in flight keeps its fence unsignalled for certain.
    fn surely_flies(&self, submit: Submit) -> bool {
        let open = self.file == File::Open;
        match self.stage(submit) {
            Stage::Begun => open || submit == Submit::Other || self.head() == Some(submit),
            _ => open,
        }
    }

    /// Whether the shrinker mustn't take the second BO's pages. It may whenever nobody has a fence
    /// in it: a submit that was sent before the bind has none.
    pub fn second_is_held(&self) -> bool {
        (self.bind == Bind::Waits && (self.private || self.kind.maps()))
            || self.in_flight().any(|submit| {
                self.works[submit as usize].holds_second
                    && self.is_held(Cell::Second)
                    && self.surely_flies(submit)
            })
    }

    /// Whether the first BO is there.
    pub fn first_lives(&self) -> Answer {
        self.lives(Cell::First, self.other_maps)
    }

    /// Whether the second BO is there.
    pub fn second_lives(&self) -> Answer {
        let asked_for = matches!(self.bind, Bind::Waits) && self.kind.maps();
        self.lives(Cell::Second, asked_for)
    }

    fn lives(&self, cell: Cell, otherwise: bool) -> Answer {
        let open = self.file == File::Open;
        let known = Self::has(&self.tables, cell) || (open && Self::has(&self.tree, cell));
        if otherwise || (open && self.handles) || (known && (open || self.is_running())) {
            Answer::Yes
        } else if (open && (self.bind == Bind::Waits || self.may_run())) || self.may_be_in_ring() {
            Answer::Maybe
        } else {
            Answer::No
        }
    }

    /// Whether the bind's fence has signalled.
    pub fn bind_signalled(&self) -> Answer {
        match self.bind {
            Bind::Unsent | Bind::Waits => Answer::No,
            Bind::Cancelled => Answer::Maybe,
            Bind::Over | Bind::Ran => Answer::Yes,
        }
    }

    /// Whether a submit's fence has signalled.
    pub fn signalled(&self, submit: Submit) -> Answer {
        match self.stage(submit) {
            Stage::Ended => Answer::Yes,
            Stage::Unsent => Answer::No,
            _ if self.file == File::Open || submit == Submit::Other => Answer::No,
            Stage::Begun if self.head() == Some(submit) => Answer::No,
            _ => Answer::Maybe,
        }
    }

    /// Whether a submit's commands were run, once it has ended.
    pub fn ran(&self, submit: Submit) -> Answer {
        self.works[submit as usize].runs
    }

    /// Whether [`Submit::Back`] has read the first BO's content; otherwise it has read 0.
    pub fn back_read_first(&self) -> bool {
        self.works[Submit::Back as usize].reads_first
    }
}
