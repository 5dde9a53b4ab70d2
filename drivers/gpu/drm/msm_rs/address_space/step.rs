// SPDX-License-Identifier: GPL-2.0-only

//! A step of a job: one change of page tables.

use super::log::LogOp;
use crate::{
    ffi::pages::Pages,
    gpuvm_rs::vm::VaRange, //
};

/// A page-table step.
pub(crate) struct Step {
    pub(crate) range: VaRange,
    /// Whether something was mapped there, by an earlier job or by this one.
    pub(crate) removes: bool,
    pub(crate) kind: StepKind,
}

/// What a step does.
pub(crate) enum StepKind {
    /// Write entries: for a BO's pages from `offset`, or for the PRR page.
    Map {
        /// The BO's; `None` for a NULL mapping.
        pages: Option<Pages>,
        /// Bytes into the BO.
        offset: u64,
    },
    /// Remove entries.
    Unmap,
}

impl StepKind {
    /// Why the step removes what was mapped.
    pub(crate) fn removes_for(&self) -> LogOp {
        match self {
            Self::Map { .. } => LogOp::Replace,
            Self::Unmap => LogOp::Unmap,
        }
    }
}
