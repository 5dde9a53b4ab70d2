// SPDX-License-Identifier: GPL-2.0-only

//! Command streams for the command processor (CP).
//!
//! Facts from `adreno_pm4.xml` of Linux 7.3 (`drivers/gpu/drm/msm/registers`): type 7 packets of
//! a6xx.

const CP_NOP: u32 = 0x10;
const CP_WAIT_MEM_WRITES: u32 = 0x12;
const CP_WAIT_MEM_GTE: u32 = 0x14;
const CP_WAIT_FOR_IDLE: u32 = 0x26;
const CP_WAIT_REG_MEM: u32 = 0x3c;
const CP_MEM_WRITE: u32 = 0x3d;
const CP_INDIRECT_BUFFER: u32 = 0x3f;
const CP_EVENT_WRITE: u32 = 0x46;
const CP_SMMU_TABLE_UPDATE: u32 = 0x53;
const CP_MEM_TO_MEM: u32 = 0x73;
const CP_MEMCPY: u32 = 0x75;

/// `CACHE_FLUSH_TS`, the event that writes a value once everything before it is in memory.
const CACHE_FLUSH_TS: u32 = 4;
/// `CP_WAIT_REG_MEM`: wait until equal, polling memory.
const WAIT_EQ_POLL_MEMORY: u32 = 3 | (1 << 4);
/// `CP_MEM_TO_MEM`: wait for the memory writes before it.
const WAIT_FOR_MEM_WRITES: u32 = 1 << 30;

/// A command stream, built packet by packet.
#[derive(Clone, Debug, Default)]
pub struct Pm4 {
    dwords: Vec<u32>,
}

/// 1 when `value` has an even number of ones: with it the number is odd.
fn odd_parity(value: u32) -> u32 {
    (value.count_ones() + 1) & 1
}

fn lo(iova: u64) -> u32 {
    iova as u32
}

fn hi(iova: u64) -> u32 {
    (iova >> 32) as u32
}

impl Pm4 {
    /// The most dwords that one [`mem_write`](Self::mem_write) can carry: the packet's count has 14
    /// bits.
    pub const MEM_WRITE_MAX: usize = 0x3fff - 2;

    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The stream.
    pub fn dwords(&self) -> &[u32] {
        &self.dwords
    }

    /// Its size in bytes.
    pub fn size(&self) -> u32 {
        self.dwords.len() as u32 * 4
    }

    /// Adds a type 7 packet.
    pub fn packet(mut self, opcode: u32, payload: &[u32]) -> Self {
        let count = payload.len() as u32;
        assert!(count <= 0x3fff, "{count} dwords don't fit into a packet");
        self.dwords.push(
            (7 << 28)
                | count
                | (odd_parity(count) << 15)
                | (opcode << 16)
                | (odd_parity(opcode) << 23),
        );
        self.dwords.extend_from_slice(payload);
        self
    }

    /// Adds a packet of `count` dwords that does nothing.
    pub fn nop(self, count: usize) -> Self {
        self.packet(CP_NOP, &vec![0; count])
    }

    /// Writes `values` to `iova`.
    pub fn mem_write(self, iova: u64, values: &[u32]) -> Self {
        let mut payload = vec![lo(iova), hi(iova)];
        payload.extend_from_slice(values);
        self.packet(CP_MEM_WRITE, &payload)
    }

    /// Copies the dword at `src` to `dst`.
    pub fn mem_to_mem(self, dst: u64, src: u64) -> Self {
        self.packet(
            CP_MEM_TO_MEM,
            &[WAIT_FOR_MEM_WRITES, lo(dst), hi(dst), lo(src), hi(src)],
        )
    }

    /// Copies `count` dwords from `src` to `dst`.
    pub fn memcpy(self, dst: u64, src: u64, count: u32) -> Self {
        self.packet(CP_MEMCPY, &[count, lo(src), hi(src), lo(dst), hi(dst)])
    }

    /// Waits until the dword at `iova` is at least `value`.
    pub fn wait_mem_gte(self, iova: u64, value: u32) -> Self {
        self.packet(CP_WAIT_MEM_GTE, &[0, lo(iova), hi(iova), value])
    }

    /// Waits until the dword at `iova`, masked, equals `value`.
    pub fn wait_mem_eq(self, iova: u64, value: u32, mask: u32) -> Self {
        self.packet(
            CP_WAIT_REG_MEM,
            &[WAIT_EQ_POLL_MEMORY, lo(iova), hi(iova), value, mask, 16],
        )
    }

    /// Writes `value` to `iova` once everything before is in memory.
    pub fn event_write_ts(self, iova: u64, value: u32) -> Self {
        self.packet(CP_EVENT_WRITE, &[CACHE_FLUSH_TS, lo(iova), hi(iova), value])
    }

    /// Runs `count` dwords of commands at `iova` and comes back.
    pub fn indirect_buffer(self, iova: u64, count: u32) -> Self {
        self.packet(CP_INDIRECT_BUFFER, &[lo(iova), hi(iova), count])
    }

    /// Loads page tables and their ASID. Real firmware lets only the kernel's ring do that, the
    /// virtual Adreno everybody.
    pub fn smmu_table_update(self, ttbr0: u64, asid: u16) -> Self {
        let ttbr0 = ttbr0 | (u64::from(asid) << 48);
        self.packet(CP_SMMU_TABLE_UPDATE, &[lo(ttbr0), hi(ttbr0), 0, 0])
    }

    /// Writes the registers from `reg` on (a type 4 packet). Real firmware protects the CP's own.
    pub fn reg_write(mut self, reg: u32, values: &[u32]) -> Self {
        let count = values.len() as u32;
        assert!(
            count < 0x80 && reg < 1 << 18,
            "{count} registers at {reg:#x}"
        );
        self.dwords.push(
            (4 << 28) | count | (odd_parity(count) << 7) | (reg << 8) | (odd_parity(reg) << 27),
        );
        self.dwords.extend_from_slice(values);
        self
    }

    /// Waits until all memory writes so far have landed and the GPU is idle.
    pub fn barrier(self) -> Self {
        self.packet(CP_WAIT_MEM_WRITES, &[])
            .packet(CP_WAIT_FOR_IDLE, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers worked out by hand from the bit layout.
    #[test]
    fn header_carries_count_opcode_and_both_parities() {
        assert_eq!(Pm4::new().packet(CP_NOP, &[0]).dwords(), &[0x7010_0001, 0]);
        assert_eq!(
            Pm4::new().packet(CP_WAIT_FOR_IDLE, &[]).dwords(),
            &[0x7026_8000]
        );
        assert_eq!(
            Pm4::new().mem_write(0x1_0000_2000, &[7]).dwords(),
            &[0x703d_8003, 0x2000, 1, 7]
        );
    }
}
