// SPDX-License-Identifier: GPL-2.0-only

//! KUnit tests of the pure modules, as the kernel's compiler builds them. `tests/pure` tests them
//! more thoroughly.

use kernel::prelude::*;

#[kunit_tests(msm_rs_pure)]
mod cases {
    use core::num::NonZeroU32;

    use crate::gpuvm_rs::range::VaRange;
    use crate::pure::{
        log_ring::LogRing,
        ops::{
            self,
            Kind,
            Op,
            OpError,
            RawOp, //
        },
        ranges, //
    };

    const MAP: RawOp = RawOp {
        op: ops::OP_MAP,
        handle: 7,
        obj_offset: 0x2000,
        iova: 0x10000,
        range: 0x3000,
        flags: ops::OP_DUMP,
        pad: 0,
    };

    #[test]
    fn ops_that_are_right() {
        let op = Op::parse(&MAP);
        assert_eq!(
            op.map(|op| op.kind),
            Ok(Kind::Map {
                handle: NonZeroU32::new(7).unwrap(),
                offset: 0x2000,
                dump: true,
            })
        );
        let null = RawOp {
            op: ops::OP_MAP_NULL,
            handle: 0,
            obj_offset: 0,
            ..MAP
        };
        assert_eq!(Op::parse(&null).map(|op| op.kind), Ok(Kind::MapNull));
    }

    #[test]
    fn ops_that_are_wrong() {
        let cases = [
            (RawOp { op: 3, ..MAP }, OpError::Op(3)),
            (RawOp { flags: 2, ..MAP }, OpError::Flags(2)),
            (RawOp { pad: 1, ..MAP }, OpError::Pad(1)),
            (RawOp { iova: 1, ..MAP }, OpError::Address(1)),
            (
                RawOp {
                    obj_offset: 0x800,
                    ..MAP
                },
                OpError::Offset(0x800),
            ),
            (RawOp { range: 0, ..MAP }, OpError::Range(0)),
            (
                RawOp {
                    range: 0x123,
                    ..MAP
                },
                OpError::Range(0x123),
            ),
            (RawOp { handle: 0, ..MAP }, OpError::NoHandle),
            (
                RawOp {
                    op: ops::OP_UNMAP,
                    ..MAP
                },
                OpError::Handle(7),
            ),
            (
                RawOp {
                    iova: !0xfff,
                    ..MAP
                },
                OpError::Wraps(!0xfff, 0x3000),
            ),
            (
                RawOp {
                    obj_offset: !0xfff,
                    ..MAP
                },
                OpError::Wraps(!0xfff, 0x3000),
            ),
        ];
        for (raw, why) in cases {
            assert_eq!(Op::parse(&raw), Err(why));
        }
    }

    #[test]
    fn extents() {
        assert!(ops::fits(0, 0x1000, 0x1000));
        assert!(!ops::fits(0x1000, 0x1000, 0x1000));
        assert!(!ops::fits(u64::MAX, 2, u64::MAX));
        assert!(ops::stride_valid(40, 40));
        assert!(ops::stride_valid(48, 40));
        assert!(!ops::stride_valid(44, 40));
        assert!(!ops::stride_valid(32, 40));
    }

    #[test]
    fn ring_keeps_the_newest() {
        let mut ring = LogRing::new([0u32; 4]);
        assert!(ring.is_empty());
        for n in 0..3 {
            assert_eq!(ring.push(n), u64::from(n));
        }
        assert!(ring.iter().copied().eq(0..3));
        for n in 3..10 {
            ring.push(n);
        }
        assert!(ring.iter().copied().eq(6..10));
        assert_eq!(ring.lost(), 6);
        assert!(ring.get_mut(5).is_none());
        assert_eq!(ring.get_mut(6).copied(), Some(6));
        assert!(ring.get_mut(10).is_none());
    }

    #[test]
    fn ring_without_room() {
        let mut ring = LogRing::new([0u32; 0]);
        assert_eq!(ring.push(1), 0);
        assert_eq!(ring.lost(), 1);
        assert!(ring.get_mut(0).is_none());
        assert!(ring.iter().next().is_none());
    }

    #[test]
    fn range_sets() {
        let r = |start, len| VaRange::new(start, len).unwrap();
        let mut set = [r(0x3000, 0x1000), r(0, 0x1000), r(0x1000, 0x1000)];
        let set = ranges::sort_merge(&mut set);
        assert_eq!(*set, [r(0, 0x2000), r(0x3000, 0x1000)]);
        assert!(ranges::overlap(set, &[r(0x1000, 0x800)]));
        assert!(!ranges::overlap(set, &[r(0x2000, 0x1000)]));
        assert_eq!(ranges::count_blocks(set, 12), 3);
        assert_eq!(ranges::count_blocks(set, 21), 1);
    }
}
