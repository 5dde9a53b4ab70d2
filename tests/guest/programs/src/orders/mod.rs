// SPDX-License-Identifier: GPL-2.0-only

//! All orders of what can happen around a bind that waits.
//!
//! A context has a BO mapped. A bind of one of six kinds ([`event::Kind`]) is sent, which waits for
//! a fence that is held back. Sixteen events ([`event::Event`]) can happen, one by one: the bind is
//! sent, its fence signals; a SUBMIT begins and is let go; another waits for a fence, which
//! signals; another context that shares the BO uses it; the context faults, or hangs; handles or
//! the file are closed, or the process is killed; the BO is purged, or evicted, and brought back.
//! The program plays every order of up to six of them that makes sense ([`enumerate`]), with BOs
//! that can be shared and with private ones.
//!
//! After each event it waits for what must have happened by then, and looks ([`play`]) whether
//!
//! - the answer is the one that the model ([`model`]) says;
//! - each fence that must have signalled has, with success where that is due, and none that must
//!   not; and none of them has another result than before;
//! - the page tables lead to what the model says, page by page, and the TLB has nothing else;
//! - each BO is there that something leads to, with its pages, and each is gone that nothing can
//!   lead to;
//! - the pages of what is gone, or has been purged or evicted, are out of the GPU's reach: in every
//!   page table that the virtual Adreno has ever loaded, and in the TLB.
//!
//! In the end everything that still waits is let go, in a fixed order, and the file is closed. Then
//! no BO is left, and what was run, and what wasn't, is known from the marks that the SUBMITs have
//! left on the desk ([`desk`]). The next sequence begins with a new context, whose first SUBMIT has
//! to work.
//!
//! A sequence has a name, for instance `map-over:run,bind,close-file,signal`: `orders
//! --only-sequence NAME` plays it alone.

use std::time::Duration;

/// How long anything may take that has to happen. Held fences are held for longer: what takes so
/// long isn't because one of them has expired.
const PATIENCE: Duration = Duration::from_secs(60);

pub mod client;
pub mod desk;
pub mod enumerate;
pub mod event;
pub mod model;
pub mod play;
pub mod testbed;
