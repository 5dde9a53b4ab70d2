// SPDX-License-Identifier: GPL-2.0-only

//! The commands of a submit, and their relocations.

use kernel::prelude::*;

use crate::{
    ffi::{
        bo::Vmap,
        submit::{
            Entry,
            Request,
            Submit, //
        },
        vm::AnyVm,
    },
    gpuvm_rs::{
        exec::Locked,
        small_vec::SmallVec,
        vm::VaRange, //
    },
    pure::submit::{
        Cmd,
        Place,
        Reloc, //
    },
};

/// No submit may have more relocations: they are kernel memory until they are written.
const MAX_RELOCS: usize = 1 << 18;

/// A command stream.
struct Command {
    cmd: Cmd,
    relocs: Relocs,
}

/// Nobody has sent any for years.
type Relocs = SmallVec<Reloc, 0>;

/// The command streams of a submit.
pub(super) struct Commands {
    commands: SmallVec<Command, 2>,
}

impl Commands {
    /// Reads and checks the commands and their relocations.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `ENOMEM`, `EINVAL`.
    pub(super) fn parse(req: &Request<'_>, table: &[Entry]) -> Result<Self> {
        let nr = req.nr_cmds();
        let vm = req.any_vm();
        let mut commands = SmallVec::with_capacity(nr as usize, GFP_KERNEL | __GFP_NOWARN)?;
        let mut relocs_left = MAX_RELOCS;
        for i in 0..nr {
            let cmd = Cmd::parse(&req.cmd(i)?, matches!(vm, AnyVm::Bind(_)))
                .map_err(|why| req.invalid(fmt!("cmd {i}: invalid {why:x?}")))?;
            let mut relocs = Relocs::new();
            match (cmd.place, vm) {
                (Place::Iova(iova), AnyVm::Bind(vm)) => {
                    // Beyond the VM are the kernel's own mappings.
                    let range = VaRange::new(iova, cmd.size.into());
                    if cmd.size != 0 && !range.is_some_and(|range| vm.range_valid(range)) {
                        return Err(req.invalid(fmt!("cmd {i}: {iova:x} isn't in the VM")));
                    }
                }
                (
                    Place::Table {
                        index,
                        offset,
                        nr_relocs,
                        relocs: address,
                    },
                    _,
                ) => {
                    let entry = table
                        .get(index as usize)
                        .ok_or_else(|| req.invalid(fmt!("cmd {i}: no BO {index}")))?;
                    let bo_size = entry.bo().gem().size();
                    if !cmd.fits(offset, bo_size) {
                        return Err(req.invalid(fmt!(
                            "cmd {i}: {:x} bytes from {offset:x} don't fit {bo_size:x}",
                            cmd.size
                        )));
                    }
                    if nr_relocs != 0 {
                        relocs_left = relocs_left.checked_sub(nr_relocs as usize).ok_or(ENOMEM)?;
                        relocs = parse_relocs(req, address, nr_relocs, bo_size)?;
                    }
                }
                // Not what `Cmd::parse()` returns.
                (Place::Iova(_), AnyVm::Managed(_)) => return Err(EINVAL),
            }
            commands.push(Command { cmd, relocs }, GFP_KERNEL)?;
        }
        Ok(Self { commands })
    }

    /// Maps the BOs whose commands have relocations, so that writing these can't fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENODEV` for an imported BO.
    pub(super) fn map_relocated<'t>(
        &'t self,
        table: &'t [Entry],
        locked: &'t Locked<'_>,
    ) -> Result<Relocated<'t>> {
        let relocated = || self.commands.iter().filter(|c| !c.relocs.is_empty());
        let mut maps = SmallVec::with_capacity(relocated().count(), GFP_KERNEL)?;
        for command in relocated() {
            let Place::Table { index, .. } = command.cmd.place else {
                continue;
            };
            let bo = table.get(index as usize).ok_or(EINVAL)?.bo();
            let obj = locked.obj(bo.gem()).ok_or(EDEADLK)?;
            maps.push((bo.vmap(obj)?, &*command.relocs), GFP_KERNEL)?;
        }
        Ok(Relocated(maps))
    }

    /// Writes the commands into `submit`, of which the BOs are placed.
    pub(super) fn fill(&self, submit: &mut Submit) {
        for command in self.commands.iter() {
            let cmd = &command.cmd;
            let (iova, index, offset) = match cmd.place {
                Place::Iova(iova) => (iova, 0, 0),
                Place::Table { index, offset, .. } => {
                    let base = iova_of(submit.table(), index);
                    (base.wrapping_add(offset.into()), index, offset)
                }
            };
            submit.add_cmd(cmd, iova, index, offset);
        }
    }
}

/// Where BO `index` is, which is there: the index was checked.
fn iova_of(table: &[Entry], index: u32) -> u64 {
    table.get(index as usize).map_or(0, Entry::iova)
}

/// The BOs whose commands have relocations, mapped into the kernel.
pub(super) struct Relocated<'t>(SmallVec<(Vmap<'t>, &'t [Reloc]), 0>);

impl Relocated<'_> {
    /// Writes the addresses of the table's BOs, which are placed, to where the relocations say.
    pub(super) fn write(&self, table: &[Entry]) {
        for (map, relocs) in self.0.iter() {
            for reloc in relocs.iter() {
                map.write(reloc.dword, reloc.value(iova_of(table, reloc.index)));
            }
        }
    }
}

/// Reads and checks `nr` relocations at `address` in userspace, of commands in a BO of `bo_size` bytes.
fn parse_relocs(req: &Request<'_>, address: u64, nr: u32, bo_size: u64) -> Result<Relocs> {
    if !req.allows_relocs() {
        return Err(req.invalid(fmt!("relocs not allowed")));
    }
    let mut relocs = Relocs::with_capacity(nr as usize, GFP_KERNEL | __GFP_NOWARN)?;
    let mut last = 0;
    for i in 0..nr {
        let reloc = Reloc::parse(&req.reloc(address, i)?, last, bo_size, req.nr_bos())
            .map_err(|why| req.invalid(fmt!("reloc {i}: invalid {why:x?}")))?;
        last = reloc.dword;
        relocs.push(reloc, GFP_KERNEL)?;
    }
    Ok(relocs)
}
