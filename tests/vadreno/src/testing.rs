// SPDX-License-Identifier: GPL-2.0-only

//! What the unit tests share.

use crate::board::Board;
use crate::device::Device;
use crate::mem::Memory;
use crate::smmu::{Client, Origin};
use crate::trace::Trace;
use nix::sys::memfd::{memfd_create, MFdFlags};
use std::fs::File;

/// Where the memory of the devices below starts; they have [`RAM_SIZE`] bytes.
pub const RAM: u64 = 0x4000_0000;
/// Size of that memory.
pub const RAM_SIZE: u64 = 0x40_0000;

/// Attributes of a page: valid, accessed, not global, for unprivileged accesses too.
pub const PAGE: u64 = 0xc43;
/// Attribute: no writes.
pub const READ_ONLY: u64 = 1 << 7;

/// The CP, without privilege.
pub const CP: Origin = Origin {
    client: Client::Cp,
    privileged: false,
};

/// Where the SMMU's registers start in BAR0.
pub const SMMU: u64 = 0xa_0000;
/// Where context bank 0 starts in BAR0.
pub const BANK: u64 = SMMU + 0x8000;

/// Where [`map`] keeps the address of the next free table.
const NEXT_TABLE: u64 = RAM + 0xf_f000;

/// `size` bytes of guest memory at `address`.
pub fn memory(address: u64, size: u64) -> Memory {
    let memory = Memory::default();
    add_memory(&memory, address, size);
    memory
}

/// Adds `size` bytes of memory at `address`.
pub fn add_memory(memory: &Memory, address: u64, size: u64) {
    let file = File::from(memfd_create(c"test", MFdFlags::empty()).unwrap());
    file.set_len(size).unwrap();
    memory.map(file, 0, address, size).unwrap();
}

/// A device whose SMMU does not translate.
pub fn bypass_device() -> Device {
    let device = Device::new(Board::new(Trace::off(), 1));
    add_memory(&device.board.memory, RAM, RAM_SIZE);
    device
}

/// A device whose SMMU translates by an empty table at [`RAM`], with faults and interrupts but no
/// stalls. The upper half has no tables.
pub fn translating_device() -> Device {
    let device = bypass_device();
    for (offset, value) in [
        // Stream 0 goes to context bank 0; other streams are refused.
        (SMMU + 0x800, 1 << 31),
        (SMMU + 0xc00, 0),
        (SMMU, (1 << 10) | (1 << 2)),
        // 48 bits; no TTBR1.
        (BANK + 0x30, 16 | (1 << 23)),
        (BANK + 0x20, RAM as u32),
        (BANK, 0x61),
    ] {
        device.bar0_write(offset, value);
    }
    device
}

/// Maps a page in the table at [`RAM`].
pub fn map(device: &Device, iova: u64, pa: u64, attributes: u64) {
    let mut table = RAM;
    for shift in [39, 30, 21] {
        let at = table + 8 * ((iova >> shift) & 0x1ff);
        if read64(device, at) == 0 {
            // The first page after the root's.
            let new = read64(device, NEXT_TABLE).max(RAM + 0x1000);
            write64(device, NEXT_TABLE, new + 0x1000);
            write64(device, at, new | 3);
        }
        table = read64(device, at) & !0xfff;
    }
    write64(device, table + 8 * ((iova >> 12) & 0x1ff), pa | attributes);
}

/// Reads a word at a physical address.
pub fn read32(device: &Device, pa: u64) -> u32 {
    let mut word = [0; 4];
    device.board.memory.read(pa, &mut word).unwrap();
    u32::from_le_bytes(word)
}

/// Writes a word at a physical address.
pub fn write32(device: &Device, pa: u64, value: u32) {
    device.board.memory.write(pa, &value.to_le_bytes()).unwrap();
}

fn read64(device: &Device, pa: u64) -> u64 {
    u64::from(read32(device, pa)) | (u64::from(read32(device, pa + 4)) << 32)
}

/// Writes a 64-bit word at a physical address.
pub fn write64(device: &Device, pa: u64, value: u64) {
    device.board.memory.write(pa, &value.to_le_bytes()).unwrap();
}
