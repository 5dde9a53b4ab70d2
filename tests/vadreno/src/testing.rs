// SPDX-License-Identifier: GPL-2.0-only

//! What the unit tests share.

use crate::device::Device;
use crate::mem::Memory;
use crate::trace::Trace;
use nix::sys::memfd::{memfd_create, MFdFlags};
use std::fs::File;

/// `size` bytes of guest memory at `address`.
pub fn memory(address: u64, size: u64) -> Memory {
    let memory = Memory::default();
    map(&memory, address, size);
    memory
}

/// Adds `size` bytes of guest memory at `address`.
pub fn map(memory: &Memory, address: u64, size: u64) {
    let file = File::from(memfd_create(c"test", MFdFlags::empty()).unwrap());
    file.set_len(size).unwrap();
    memory.map(file, 0, address, size).unwrap();
}

/// Where the memory of [`device`] starts.
pub const RAM: u64 = 0x4000_0000;

/// A device with 1 MiB of memory at [`RAM`], whose SMMU is off.
pub fn device() -> Device {
    let device = Device::new(Trace::off(), 1);
    map(&device.board.memory, RAM, 0x10_0000);
    device
}

/// Writes words at a physical address.
pub fn poke(device: &Device, pa: u64, words: &[u32]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    device.board.memory.write(pa, &bytes).unwrap();
}

/// Reads a word at a physical address.
pub fn peek(device: &Device, pa: u64) -> u32 {
    let mut word = [0; 4];
    device.board.memory.read(pa, &mut word).unwrap();
    u32::from_le_bytes(word)
}
