// SPDX-License-Identifier: GPL-2.0-only

//! SUBMIT: what is accepted is exactly what is well-formed, whatever the bytes.

use proptest::prelude::*;
use pure::pure::submit::{
    BoFlags, Cmd, Place, RawCmd, RawReloc, Reloc, BO_NO_IMPLICIT, BO_READ, BO_WRITE,
};

/// Numbers around the places where rules change.
fn edgy() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (0u32..64, 0u32..32).prop_map(|(n, shift)| n.wrapping_shl(shift)),
        (0u32..16).prop_map(|n| n * 4),
        (0u32..16).prop_map(|n| u32::MAX - n),
        Just(0),
    ]
}

fn edgy64() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        edgy().prop_map(u64::from),
        (0u64..64).prop_map(|n| u64::MAX - n),
    ]
}

fn raw_cmd() -> impl Strategy<Value = RawCmd> {
    let mostly_zero = || prop_oneof![3 => Just(0u32), 1 => edgy()];
    (
        0u32..5,
        mostly_zero(),
        mostly_zero(),
        edgy(),
        mostly_zero(),
        edgy64(),
    )
        .prop_map(|(kind, index, offset, size, nr_relocs, address)| RawCmd {
            kind,
            index,
            offset,
            size,
            nr_relocs,
            address,
        })
}

fn raw_reloc() -> impl Strategy<Value = RawReloc> {
    (
        edgy(),
        edgy(),
        prop_oneof![-70i32..70, any::<i32>()],
        0u32..8,
        edgy64(),
    )
        .prop_map(|(submit_offset, or, shift, index, offset)| RawReloc {
            submit_offset,
            or,
            shift,
            index,
            offset,
        })
}

/// The rules, written down once more in wide arithmetic.
fn cmd_well_formed(raw: &RawCmd, vm_bind: bool) -> bool {
    let common = (1..=3).contains(&raw.kind) && raw.size % 4 == 0;
    let placed = if vm_bind {
        raw.index == 0
            && raw.offset == 0
            && raw.nr_relocs == 0
            && raw.address % 4 == 0
            && u128::from(raw.address) + u128::from(raw.size) <= u128::from(u64::MAX)
    } else {
        raw.size != 0 && raw.offset % 4 == 0
    };
    common && placed
}

proptest! {
    #[test]
    fn commands(raw in raw_cmd(), vm_bind: bool) {
        let parsed = Cmd::parse(&raw, vm_bind);
        prop_assert_eq!(parsed.is_ok(), cmd_well_formed(&raw, vm_bind));
        if let Ok(cmd) = parsed {
            prop_assert_eq!((cmd.kind, cmd.size), (raw.kind, raw.size));
            let place = if vm_bind {
                Place::Iova(raw.address)
            } else {
                Place::Table {
                    index: raw.index,
                    offset: raw.offset,
                    nr_relocs: raw.nr_relocs,
                    relocs: raw.address,
                }
            };
            prop_assert_eq!(cmd.place, place);
        }
    }

    #[test]
    fn commands_lie_in_their_bo(raw in raw_cmd(), offset in edgy(), bo_size in edgy64()) {
        if let Ok(cmd) = Cmd::parse(&raw, false) {
            let end = u128::from(offset) + u128::from(cmd.size);
            prop_assert_eq!(cmd.fits(offset, bo_size), end <= u128::from(bo_size));
        }
    }

    #[test]
    fn bo_flags(flags in prop_oneof![0u32..32, any::<u32>()]) {
        let well_formed = flags < 16 && flags & 3 != 0;
        prop_assert_eq!(BoFlags::new(flags).map(BoFlags::bits), well_formed.then_some(flags));
        if let Some(parsed) = BoFlags::new(flags) {
            prop_assert_eq!(parsed.writes(), flags & BO_WRITE != 0);
            prop_assert_eq!(parsed.implicit_sync(), flags & BO_NO_IMPLICIT == 0);
            prop_assert!(parsed.writes() || flags & BO_READ != 0);
        }
    }

    #[test]
    fn relocations(raw in raw_reloc(), after in edgy(), pages in 0u64..16, nr_bos in 0u32..8) {
        let bo_size = pages * 4096;
        let parsed = Reloc::parse(&raw, after, bo_size, nr_bos);
        let well_formed = raw.submit_offset % 4 == 0
            && u128::from(raw.submit_offset) + 4 <= u128::from(bo_size)
            && raw.submit_offset / 4 >= after
            && (-63..=63).contains(&raw.shift)
            && raw.index < nr_bos;
        prop_assert_eq!(parsed.is_ok(), well_formed);
        if let Ok(reloc) = parsed {
            prop_assert!(u64::from(reloc.dword) < bo_size / 4);
            prop_assert_eq!(reloc.index, raw.index);
        }
    }

    #[test]
    fn relocated_values(raw in raw_reloc(), iova in edgy64()) {
        let Ok(reloc) = Reloc::parse(&RawReloc { submit_offset: 0, ..raw }, 0, 4096, 8) else {
            return Ok(());
        };
        let address = u128::from(iova.wrapping_add(raw.offset));
        let shifted = if raw.shift < 0 { address >> -raw.shift } else { address << raw.shift };
        prop_assert_eq!(reloc.value(iova), shifted as u32 | raw.or);
    }
}
