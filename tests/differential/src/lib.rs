// SPDX-License-Identifier: GPL-2.0-only

//! Random programs of ioctls ([`program`]), what they should do ([`model`]), and what they do
//! ([`execute`]).

pub mod execute;
pub mod model;
pub mod program;
pub mod trouble;
