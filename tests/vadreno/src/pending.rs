// SPDX-License-Identifier: GPL-2.0-only

//! The contexts that the CP is going to load: what is in the ring and hasn't run.

use crate::device::Device;
use crate::gpu;
use crate::pm4::{op, Header};

/// Dwords of the ring, read behind the CP's back: neither the TLB nor a fault comes of it.
struct Ring<'a> {
    device: &'a Device,
    base: u64,
    size: u32,
    /// The page that was read last: iova and physical address.
    page: Option<(u64, u64)>,
}

impl Ring<'_> {
    fn dword(&mut self, at: u32) -> Option<u32> {
        let iova = self.base.wrapping_add(4 * u64::from(at % self.size));
        let page = match self.page {
            Some((known, pa)) if known == iova & !0xfff => pa,
            _ => {
                let probe = self.device.smmu.probe(&self.device.board, 0, iova)?;
                let pa = probe.found.ok()?.pa(iova & !0xfff);
                self.page = Some((iova & !0xfff, pa));
                pa
            }
        };
        let mut bytes = [0; 4];
        let pa = page + (iova & 0xffc);
        self.device.board.memory.read(pa, &mut bytes).ok()?;
        Some(u32::from_le_bytes(bytes))
    }
}

/// Physical addresses of the roots that packets in the ring load. Behind a broken packet, and
/// without an SMMU that translates, there are none.
pub fn roots(device: &Device) -> Vec<u64> {
    let (rptr, wptr) = {
        let control = device.gpu.control();
        (control.rptr, device.gpu.regs.get(gpu::CP_RB_WPTR))
    };
    let mut roots = Vec::new();
    if rptr == wptr {
        return roots;
    }
    let size = gpu::ring_size(device.gpu.regs.get(gpu::CP_RB_CNTL));
    let mut ring = Ring {
        device,
        base: device.gpu.regs.get64(gpu::CP_RB_BASE),
        size,
        page: None,
    };
    let mut at = rptr % size;
    let mut left = wptr.wrapping_sub(rptr) % size;
    while left > 0 {
        let Some(header) = ring.dword(at).and_then(Header::decode) else {
            break;
        };
        let (Header::Write { count, .. } | Header::Op { count, .. }) = header;
        if matches!(header, Header::Op { op, .. } if op == op::SMMU_TABLE_UPDATE) {
            let (low, high) = (ring.dword(at + 1), ring.dword(at + 2));
            if let (Some(low), Some(high)) = (low, high) {
                roots.push(u64::from(low) | (u64::from(high & 0xffff) << 32));
            }
        }
        at = (at + 1 + count) % size;
        left = left.saturating_sub(1 + count);
    }
    roots
}
