// SPDX-License-Identifier: GPL-2.0-only

//! Relocations: addresses that the kernel writes into commands.

use crate::{table::TableTarget, BAD_ADDRESSES, RAN};
use harness::{ensure, ensure_eq, ensure_errno, Context, Outcome, Test};
use programs::{pattern, Legacy, PATIENCE};
use uapi::{
    abi::{
        drm_msm_gem_submit_reloc,
        MSM_SUBMIT_BO_READ as READ,
        MSM_SUBMIT_BO_WRITE as WRITE, //
    },
    module,
    vgem::Buffer,
    Bo, Errno, Pm4, Submit, PAGE,
};

impl TableTarget {
    /// Sends a request whose commands have those relocations: they aren't written.
    fn refuses_relocs(
        &self,
        errno: Errno,
        what: &str,
        relocs: &[drm_msm_gem_submit_reloc],
    ) -> Outcome {
        let read = || -> harness::Result<Vec<u32>> {
            let map = self.gpu.cmds.map()?;
            Ok((0..map.len()).map(|i| map.read(i)).collect())
        };
        let commands = read()?;
        self.refuses(errno, what, |s| {
            s.cmds[0].nr_relocs = relocs.len() as u32;
            s.cmds[0].iova = relocs.as_ptr() as u64;
        })?;
        ensure!(read()? == commands, "the commands' BO after {what}");
        Ok(())
    }
}

/// Only GPUs up to Adreno 5xx have userspace that needs them.
pub(crate) fn relocations_are_refused(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    t.refuses_relocs(Errno::EINVAL, "a relocation", &[reloc(0, 1)])
}

/// A relocation of the dword at `at` (in dwords) in the commands' BO: it gets the low half of the
/// address of the table's BO `index`.
fn reloc(at: u32, index: u32) -> drm_msm_gem_submit_reloc {
    drm_msm_gem_submit_reloc {
        submit_offset: 4 * at,
        reloc_idx: index,
        ..Default::default()
    }
}

/// … the high half.
fn high(at: u32, index: u32) -> drm_msm_gem_submit_reloc {
    drm_msm_gem_submit_reloc {
        shift: -32,
        ..reloc(at, index)
    }
}

fn with_offset(reloc: drm_msm_gem_submit_reloc, reloc_offset: u64) -> drm_msm_gem_submit_reloc {
    drm_msm_gem_submit_reloc {
        reloc_offset,
        ..reloc
    }
}

/// Commands get the addresses of the BOs that they are about, wherever these are.
pub(crate) fn relocations(_: &mut Test) -> Outcome {
    let gpu = Legacy::new()?;
    let bos = [gpu.bo(1, PAGE)?, gpu.bo(2, PAGE)?];
    // An address with a high half.
    bos[1].set_iova(gpu.device.va_range()?.start + (5 << 32))?;
    let _allowed = module::Relocations::allow().context("the glue module")?;
    // Addresses are the dwords 1 and 2 of each packet.
    let first = Pm4::new().mem_write(0, &[RAN]);
    let second = Pm4::new().mem_write(0, &[RAN + 1]).barrier();
    let (at, size) = (first.dwords().len() as u32, first.size());
    for round in 0..3u64 {
        let map = gpu.cmds.map()?;
        for (i, dword) in [first.dwords(), second.dwords()]
            .concat()
            .iter()
            .enumerate()
        {
            map.write(i, *dword);
        }
        let offset = 16 + 64 * round;
        let relocs = [
            // Of the same command stream, in order.
            [
                with_offset(reloc(1, 1), offset),
                with_offset(high(2, 1), offset),
            ],
            [
                with_offset(reloc(at + 1, 2), offset),
                with_offset(high(at + 2, 2), offset),
            ],
        ];
        let mut submit = Submit::new(&gpu.queue)
            .bo(&gpu.cmds, READ)
            .bo(&bos[0], WRITE)
            .bo(&bos[1], WRITE)
            .cmd_in(0, 0, size)
            .cmd_in(0, size, second.size());
        for (cmd, relocs) in submit.cmds.iter_mut().zip(&relocs) {
            cmd.nr_relocs = relocs.len() as u32;
            cmd.iova = relocs.as_ptr() as u64;
        }
        submit.send().context("SUBMIT")?.wait(PATIENCE)?;
        for (n, (bo, at)) in bos.iter().zip([1, at as usize + 1]).enumerate() {
            let iova = bo.iova()? + offset;
            ensure_eq!(
                (map.read(at), map.read(at + 1)),
                (iova as u32, (iova >> 32) as u32),
                "the address in stream {n}"
            );
            ensure_eq!(
                bo.map()?.read(offset as usize / 4),
                RAN + n as u32,
                "what stream {n} wrote"
            );
        }
    }
    Ok(())
}

/// Shifted in both directions, with bits added; the same dword twice; dwords that aren't the
/// commands' own; many.
pub(crate) fn relocated_values(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    let _allowed = module::Relocations::allow().context("the glue module")?;
    let iova = t.bo.iova()?;
    let shifted = |at, shift, or| drm_msm_gem_submit_reloc {
        shift,
        or,
        ..with_offset(reloc(at, 1), 0x123)
    };
    let last = (t.gpu.cmds.size() / 4) as u32 - 1;
    let mut relocs = vec![
        shifted(100, 0, 0),
        shifted(101, -8, 0x8000_0000),
        shifted(102, 4, 3),
        shifted(103, -63, 0x55),
        shifted(104, 31, 0x66),
        shifted(105, 0, 0),
        // The last one counts.
        shifted(105, -12, 0),
    ];
    relocs.extend((0..5000).map(|n| with_offset(reloc(1000 + n, 1), n.into())));
    relocs.push(reloc(last, 0));
    let mut submit = t.submit();
    submit.cmds[0].nr_relocs = relocs.len() as u32;
    submit.cmds[0].iova = relocs.as_ptr() as u64;
    submit.send().context("SUBMIT")?.wait(PATIENCE)?;
    ensure_eq!(t.bo.map()?.read(0), RAN, "the commands");
    let map = t.gpu.cmds.map()?;
    let address = iova + 0x123;
    for (at, value) in [
        (100, address as u32),
        (101, (address >> 8) as u32 | 0x8000_0000),
        (102, (address << 4) as u32 | 3),
        (103, 0x55),
        (104, (address << 31) as u32 | 0x66),
        (105, (address >> 12) as u32),
        (106, 0),
        (last as usize, t.gpu.cmds.iova()? as u32),
    ] {
        ensure_eq!(map.read(at), value, "dword {at}");
    }
    for n in 0..5000 {
        ensure_eq!(
            map.read(1000 + n),
            iova as u32 + n as u32,
            "the {n}th of many"
        );
    }
    Ok(())
}

/// What can't be written is refused, and nothing has been.
pub(crate) fn relocation_fields(_: &mut Test) -> Outcome {
    let t = TableTarget::new()?;
    let _allowed = module::Relocations::allow().context("the glue module")?;
    let end = (t.gpu.cmds.size() / 4) as u32;
    let bytes = |submit_offset| drm_msm_gem_submit_reloc {
        submit_offset,
        ..reloc(0, 1)
    };
    for (what, bad) in [
        ("behind the BO", vec![reloc(end, 1)]),
        ("far behind the BO", vec![bytes(0xffff_fffc)]),
        ("offset 1", vec![bytes(1)]),
        ("offset 2", vec![bytes(2)]),
        ("offset -1", vec![bytes(!0)]),
        ("no such BO", vec![reloc(0, 2)]),
        ("BO 4294967295", vec![reloc(0, u32::MAX)]),
    ] {
        t.refuses_relocs(Errno::EINVAL, what, &bad)?;
        // C writes what comes before a bad one.
        if module::is_out_of_tree("msm")? {
            let after = [vec![reloc(0, 1)], bad].concat();
            t.refuses_relocs(Errno::EINVAL, &format!("{what}, after a good one"), &after)?;
        }
    }
    if module::is_out_of_tree("msm")? {
        t.refuses_relocs(
            Errno::EINVAL,
            "one before the one before",
            &[reloc(9, 1), reloc(8, 1)],
        )?;
        // C shifts by any number of bits.
        for shift in [64, -64, i32::MAX, i32::MIN] {
            let bad = drm_msm_gem_submit_reloc {
                shift,
                ..reloc(0, 1)
            };
            t.refuses_relocs(Errno::EINVAL, &format!("shift {shift}"), &[bad])?;
        }
    }
    for address in BAD_ADDRESSES {
        t.refuses(
            Errno::EFAULT,
            &format!("relocations at {address:#x}"),
            |s| {
                s.cmds[0].nr_relocs = 1;
                s.cmds[0].iova = address;
            },
        )?;
    }
    let one = reloc(0, 1);
    t.refuses(Errno::ENOMEM, "4294967295 relocations", |s| {
        s.cmds[0].nr_relocs = u32::MAX;
        s.cmds[0].iova = &raw const one as u64;
    })?;
    ensure_eq!(
        t.gpu.cmds.map()?.read(0),
        Pm4::new().mem_write(0, &[0]).dwords()[0],
        "the commands"
    );
    // Nothing has kept it mapped, or pinned.
    programs::check_unpinned(&t.gpu.cmds)
}

/// Somebody else's buffer can't be written to by the kernel.
pub(crate) fn relocations_in_a_foreign_buffer(_: &mut Test) -> Outcome {
    let gpu = Legacy::with_vm()?;
    let _allowed = module::Relocations::allow().context("the glue module")?;
    let buffer = Buffer::new(PAGE).context("vgem")?;
    buffer.fill(PAGE, |i| pattern(3, i))?;
    let foreign = Bo::import(&gpu.device, buffer.dma_buf_fd(), PAGE).context("import")?;
    let one = reloc(0, 0);
    let mut submit = Submit::new(&gpu.queue).bo(&foreign, READ).cmd_in(0, 0, 16);
    submit.cmds[0].nr_relocs = 1;
    submit.cmds[0].iova = &raw const one as u64;
    ensure_errno!(
        submit.send().map(drop),
        Errno::ENODEV,
        "relocations in a foreign buffer"
    );
    ensure_eq!(foreign.map()?.read(0), pattern(3, 0), "its content");
    Ok(())
}
