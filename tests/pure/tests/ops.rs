// SPDX-License-Identifier: GPL-2.0-only

//! VM_BIND ops: what is accepted is exactly what is well-formed, whatever the bytes.

use proptest::prelude::*;
use pure::pure::ops::{
    fits, stride_valid, Kind, Op, RawOp, OP_DUMP, OP_MAP, OP_MAP_NULL, OP_UNMAP,
};

/// Numbers around the places where rules change.
fn edgy() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u64..64, 0u32..64).prop_map(|(n, shift)| n << shift),
        (0u64..16).prop_map(|n| n << 12),
        (0u64..16).prop_map(|n| u64::MAX - (n << 12)),
        Just(0),
    ]
}

fn raw_op() -> impl Strategy<Value = RawOp> {
    (
        0u32..4,
        prop_oneof![Just(0u32), any::<u32>()],
        edgy(),
        edgy(),
        edgy(),
        0u32..4,
        prop_oneof![9 => Just(0u32), 1 => any::<u32>()],
    )
        .prop_map(|(op, handle, obj_offset, iova, range, flags, pad)| RawOp {
            op,
            handle,
            obj_offset,
            iova,
            range,
            flags,
            pad,
        })
}

/// The rules, written down once more in wide arithmetic.
fn well_formed(op: &RawOp) -> bool {
    let wide = |a: u64, b: u64| u128::from(a) + u128::from(b) <= u128::from(u64::MAX);
    let aligned = (op.iova | op.obj_offset | op.range) & 0xfff == 0;
    let named = match op.op {
        OP_MAP => op.handle != 0,
        OP_UNMAP | OP_MAP_NULL => op.handle == 0 && op.obj_offset == 0,
        _ => false,
    };
    op.flags & !OP_DUMP == 0
        && op.pad == 0
        && aligned
        && op.range != 0
        && named
        && wide(op.iova, op.range)
        && wide(op.obj_offset, op.range)
}

proptest! {
    #[test]
    fn accepts_what_is_well_formed(raw in raw_op()) {
        prop_assert_eq!(Op::parse(&raw).is_ok(), well_formed(&raw));
    }

    #[test]
    fn loses_nothing(raw in raw_op()) {
        if let Ok(op) = Op::parse(&raw) {
            prop_assert_eq!((op.iova, op.range), (raw.iova, raw.range));
            match op.kind {
                Kind::Unmap => prop_assert_eq!(raw.op, OP_UNMAP),
                Kind::MapNull => prop_assert_eq!(raw.op, OP_MAP_NULL),
                Kind::Map { handle, offset, dump } => {
                    prop_assert_eq!(raw.op, OP_MAP);
                    prop_assert_eq!(handle.get(), raw.handle);
                    prop_assert_eq!(offset, raw.obj_offset);
                    prop_assert_eq!(dump, raw.flags & OP_DUMP != 0);
                }
            }
        }
    }

    #[test]
    fn extents_dont_wrap(offset in edgy(), range in edgy(), size in edgy()) {
        let end = u128::from(offset) + u128::from(range);
        prop_assert_eq!(fits(offset, range, size), end <= u128::from(size));
    }

    #[test]
    fn strides(stride: u32) {
        prop_assert_eq!(stride_valid(stride, 40), stride >= 40 && stride % 8 == 0);
    }
}

/// Ops of `range` bytes: MAP, MAP_NULL and UNMAP.
fn three(range: u64) -> [Op; 3] {
    [(OP_MAP, 1), (OP_MAP_NULL, 0), (OP_UNMAP, 0)].map(|(op, handle)| {
        Op::parse(&RawOp {
            op,
            handle,
            obj_offset: 0,
            iova: 0,
            range,
            flags: 0,
            pad: 0,
        })
        .expect("an op that is right")
    })
}

#[test]
fn entries_of_large_ops() {
    const GIB: u64 = 1 << 30;
    let [map, null, unmap] = three(64 * GIB);
    assert_eq!(map.entries(0), 1 << 24);
    // Next to nothing, unless tables are in the way.
    assert!(null.entries(0) <= 4096 && unmap.entries(0) <= 256);
    assert!(null.entries(1024) <= 4096 + 1024 * 512);
    assert_eq!(null.entries(u64::MAX), 1 << 24);
}

proptest! {
    #[test]
    fn entries_are_no_more_than_pages(pages in 1..1u64 << 50, reserved: u64) {
        let [map, null, unmap] = three(pages << 12);
        prop_assert_eq!(map.entries(reserved), pages);
        prop_assert!((1..=pages).contains(&null.entries(reserved)));
        prop_assert!((1..=pages).contains(&unmap.entries(reserved)));
    }
}
