// SPDX-License-Identifier: GPL-2.0-only

//! The commands of a submit, and their relocations.

use kernel::prelude::*;

use crate::{
    bo::vmap::{
        self,
        Vmap, //
    },
    ffi::{
        caller::Caller,
        submit::{
            Entry,
            Submit, //
        },
        user_array::UserArray,
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
        RawCmd,
        RawReloc,
        Reloc, //
    },
};

/// No submit may have more relocations: they are kernel memory until they are written.
const MAX_RELOCS: usize = 1 << 18;

/// Nobody has sent any for years.
type List<T> = SmallVec<T, 0>;

/// The relocations of a submit: by command stream, that is, by the BO of the table that it is in.
pub(super) struct Relocations(List<(u32, List<Reloc>)>);

/// Reads and checks the commands of `submit`, and their relocations. Its BOs have been looked up.
///
/// # Errors
///
/// `EFAULT`, `ENOMEM`, `EINVAL`.
pub(super) fn parse(
    caller: &Caller<'_>,
    cmds: &UserArray<RawCmd>,
    submit: &mut Submit,
) -> Result<Relocations> {
    let vm = caller.any_vm();
    let mut relocations = List::new();
    let mut relocs_left = MAX_RELOCS;
    for i in 0..cmds.len() {
        let cmd = Cmd::parse(&cmds.get(i)?, matches!(vm, AnyVm::Bind(_)))
            .map_err(|why| caller.invalid(fmt!("cmd {i}: invalid {why:x?}")))?;
        match (cmd.place, vm) {
            (Place::Iova(iova), AnyVm::Bind(vm)) => {
                // Beyond the VM are the kernel's own mappings.
                let range = VaRange::new(iova, cmd.size.into());
                if cmd.size != 0 && !range.is_some_and(|range| vm.range_valid(range)) {
                    return Err(caller.invalid(fmt!("cmd {i}: {iova:x} isn't in the VM")));
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
                let entry = submit
                    .table()
                    .get(index as usize)
                    .ok_or_else(|| caller.invalid(fmt!("cmd {i}: no BO {index}")))?;
                let bo_size = entry.bo().gem().size();
                if !cmd.fits(offset, bo_size) {
                    return Err(caller.invalid(fmt!(
                        "cmd {i}: {:x} bytes from {offset:x} don't fit {bo_size:x}",
                        cmd.size
                    )));
                }
                if nr_relocs != 0 {
                    relocs_left = relocs_left.checked_sub(nr_relocs as usize).ok_or(ENOMEM)?;
                    let relocs = UserArray::new(address, nr_relocs);
                    let nr_bos = submit.table().len() as u32;
                    let relocs = parse_relocs(caller, &relocs, bo_size, nr_bos)?;
                    relocations.push((index, relocs), GFP_KERNEL | __GFP_NOWARN)?;
                }
            }
            // Not what `Cmd::parse()` returns.
            (Place::Iova(_), AnyVm::Managed(_)) => return Err(EINVAL),
        }
        submit.add_cmd(&cmd)?;
    }
    Ok(Relocations(relocations))
}

impl Relocations {
    /// Maps the BOs whose commands have relocations, so that writing these can't fail.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENODEV` for an imported BO.
    pub(super) fn map<'t>(
        &'t self,
        table: &'t [Entry],
        locked: &'t Locked<'_>,
    ) -> Result<Relocated<'t>> {
        let mut maps = List::with_capacity(self.0.len(), GFP_KERNEL | __GFP_NOWARN)?;
        for (index, relocs) in self.0.iter() {
            let bo = table.get(*index as usize).ok_or(EINVAL)?.bo();
            let obj = locked.obj(bo.gem()).ok_or(EDEADLK)?;
            maps.push((vmap::map(bo, obj)?, &**relocs), GFP_KERNEL)?;
        }
        Ok(Relocated(maps))
    }
}

/// The BOs whose commands have relocations, mapped into the kernel.
pub(super) struct Relocated<'t>(List<(Vmap<'t>, &'t [Reloc])>);

impl Relocated<'_> {
    /// Writes the addresses of the table's BOs, which are placed, to where the relocations say.
    pub(super) fn write(&self, table: &[Entry]) {
        for (map, relocs) in self.0.iter() {
            for reloc in relocs.iter() {
                // It is there: the index was checked.
                let iova = table.get(reloc.index as usize).map_or(0, Entry::iova);
                map.write(reloc.dword, reloc.value(iova));
            }
        }
    }
}

/// Reads and checks relocations of commands in a BO of `bo_size` bytes, one of `nr_bos`.
fn parse_relocs(
    caller: &Caller<'_>,
    array: &UserArray<RawReloc>,
    bo_size: u64,
    nr_bos: u32,
) -> Result<List<Reloc>> {
    if !caller.allows_relocs() {
        return Err(caller.invalid(fmt!("relocs not allowed")));
    }
    let mut relocs = List::with_capacity(array.len() as usize, GFP_KERNEL | __GFP_NOWARN)?;
    let mut last = 0;
    for i in 0..array.len() {
        let reloc = Reloc::parse(&array.get(i)?, last, bo_size, nr_bos)
            .map_err(|why| caller.invalid(fmt!("reloc {i}: invalid {why:x?}")))?;
        last = reloc.dword;
        relocs.push(reloc, GFP_KERNEL)?;
    }
    Ok(relocs)
}
