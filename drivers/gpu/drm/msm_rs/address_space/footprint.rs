// SPDX-License-Identifier: GPL-2.0-only

//! The page tables that a job may need.

use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::prelude::*;

use crate::{
    ffi::pages::Pages,
    gpuvm_rs::{
        range::VaRange,
        small_vec::SmallVec, //
    },
    pgtable::{
        footprint::{
            self,
            Footprint,
            FootprintError,
            Reach,
            ReachBuf,
            Touch, //
        },
        geometry::{
            Geometry,
            BLOCK_SIZE, //
        },
    },
};

/// A list of reaches that grows with GFP_KERNEL. One op has two at most.
#[derive(Default)]
pub(crate) struct Reaches(SmallVec<Reach, 2>);

impl Deref for Reaches {
    type Target = [Reach];

    fn deref(&self) -> &[Reach] {
        &self.0
    }
}

impl DerefMut for Reaches {
    fn deref_mut(&mut self) -> &mut [Reach] {
        &mut self.0
    }
}

impl ReachBuf for Reaches {
    type Error = Error;

    fn push(&mut self, reach: Reach) -> Result {
        self.0.push(reach, GFP_KERNEL | __GFP_NOWARN)
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// The tables that a job may need.
pub(crate) type JobFootprint = Footprint<Reaches>;

/// Makes the footprint of a job with these operations.
///
/// # Errors
///
/// `EINVAL` for a range that isn't one of pages of the address space, `ENOMEM`.
pub(crate) fn footprint(
    geometry: &Geometry,
    ops: impl Iterator<Item = Touch>,
) -> Result<JobFootprint> {
    Footprint::new(geometry, Reaches::default(), ops).map_err(|e| match e {
        FootprintError::Range => EINVAL,
        FootprintError::Buf(e) => e,
    })
}

/// What a mapping of `at` to the pages of a BO does to the tables, from byte `offset`. Memory in
/// small pieces isn't looked at piece by piece.
///
/// # Errors
///
/// `EINVAL` for pages that the BO doesn't have.
pub(crate) fn touches(
    at: VaRange,
    pages: &Pages,
    offset: u64,
) -> Result<impl Iterator<Item = Touch> + '_> {
    let aligned = (at.addr() ^ offset) & (BLOCK_SIZE - 1) == 0;
    let blocks = aligned && pages.may_have_blocks(offset, at.len())?;
    let several = if blocks {
        Some(footprint::touches(at, pages.runs(offset, at.len())?))
    } else {
        None
    };
    let alike = (!blocks).then_some(Touch::Pages(at));
    Ok(Iterator::chain(
        alike.into_iter(),
        several.into_iter().flatten(),
    ))
}
