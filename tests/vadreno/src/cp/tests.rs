// SPDX-License-Identifier: GPL-2.0-only

use super::*;
use crate::testing::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::thread;
use vadreno_ctl as ctl;

const RING: u64 = RAM + 0x20_0000;
const DATA: u64 = RAM + 0x30_0000;

fn pkt7(op: u8, payload: &[u32]) -> Vec<u32> {
    let count = payload.len() as u32;
    let mut packet = vec![Header::Op { op, count }.encode()];
    packet.extend(payload);
    packet
}

fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

/// Writes dwords to memory.
fn put(device: &Device, pa: u64, dwords: &[u32]) {
    for (i, dword) in dwords.iter().enumerate() {
        write32(device, pa + 4 * i as u64, *dword);
    }
}

/// Starts the SQE with a ring of 4 KiB at [`RING`] and puts `dwords` into it.
fn fill_ring(device: &Device, dwords: &[u32]) {
    put(device, RING, dwords);
    device.reg_write(gpu::CP_RB_BASE, low(RING));
    device.reg_write(gpu::CP_RB_CNTL, 9);
    device.reg_write(0x38, u32::MAX);
    device.reg_write(0x808, 1);
    device.reg_write(gpu::CP_RB_WPTR, dwords.len() as u32);
}

/// Runs `dwords` as the ring's content, on this thread.
fn run_dwords(device: &Device, dwords: &[u32]) -> Result<(), Stop> {
    fill_ring(device, dwords);
    Cp::new(device).run_ring(0, dwords.len() as u32)
}

fn count(device: &Device, counter: usize) -> u64 {
    device.board.counters.get(counter).unwrap()
}

/// Waits for the CP's thread.
fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "nothing happens");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A device whose CP runs in its thread. (The thread stays; the test process ends it.)
fn threaded(device: Device) -> Arc<Device> {
    let device = Arc::new(device);
    thread::spawn({
        let device = device.clone();
        move || run(&device)
    });
    device
}

#[test]
fn memory_packets() {
    let device = bypass_device();
    let mut ring = pkt7(op::MEM_WRITE, &[low(DATA), 0, 5, 7]);
    ring.extend(pkt7(
        op::MEM_TO_MEM,
        &[2, low(DATA) + 8, 0, low(DATA) + 4, 0, low(DATA), 0],
    ));
    ring.extend(pkt7(op::MEMCPY, &[3, low(DATA), 0, low(DATA) + 0xff8, 0]));
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!(read32(&device, DATA + 8), 2);
    for (i, value) in [5, 7, 2].into_iter().enumerate() {
        assert_eq!(read32(&device, DATA + 0xff8 + 4 * i as u64), value);
    }
    assert_eq!(device.reg_read(0x806), ring.len() as u32);
}

#[test]
fn register_packets() {
    let device = bypass_device();
    let mut ring = vec![
        Header::Write {
            reg: 0x883,
            count: 2,
        }
        .encode(),
        11,
        22,
    ];
    ring.extend(pkt7(op::REG_TO_MEM, &[0x883 | (2 << 18), low(DATA), 0]));
    ring.extend(pkt7(op::MEM_TO_REG, &[0x885, low(DATA) + 4, 0]));
    ring.extend(pkt7(op::CONTEXT_REG_BUNCH, &[0x886, 33, 0x887, 44]));
    ring.extend(pkt7(op::REG_RMW, &[0x886 | (8 << 24), 0xff, 1]));
    ring.extend(pkt7(op::REG_WRITE, &[0, 0x888, 55]));
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!(read32(&device, DATA), 11);
    assert_eq!(read32(&device, DATA + 4), 22);
    for (reg, value) in [
        (0x885, 22),
        (0x886, (33 << 8) | 1),
        (0x887, 44),
        (0x888, 55),
    ] {
        assert_eq!(device.reg_read(reg), value, "{reg:#x}");
    }
}

#[test]
fn conditions() {
    let device = bypass_device();
    let write = |value| pkt7(op::MEM_WRITE, &[low(DATA), 0, value]);
    // Flag at DATA + 0x100, time at DATA + 0x104.
    let cond = |time| {
        let mut packets = pkt7(
            op::COND_EXEC,
            &[low(DATA) + 0x100, 0, low(DATA) + 0x104, 0, time, 4],
        );
        packets.extend(write(2));
        packets
    };
    for (flag, time, expected) in [(0, 9, 1), (1, 9, 2), (1, 4, 1)] {
        put(&device, DATA + 0x100, &[flag, 5]);
        let mut ring = write(1);
        ring.extend(cond(time));
        assert_eq!(run_dwords(&device, &ring), Ok(()));
        assert_eq!(read32(&device, DATA), expected, "flag {flag} time {time}");
    }
    // The predicate: bit 3 of a register.
    for (value, expected) in [(8, 2), (7, 1)] {
        let mut ring = vec![
            Header::Write {
                reg: 0x883,
                count: 1,
            }
            .encode(),
            value,
        ];
        ring.extend(write(1));
        ring.extend(pkt7(op::REG_TEST, &[0x883 | (3 << 20)]));
        ring.extend(pkt7(op::COND_REG_EXEC, &[1 << 28, 4]));
        ring.extend(write(2));
        assert_eq!(run_dwords(&device, &ring), Ok(()));
        assert_eq!(read32(&device, DATA), expected);
    }
}

#[test]
fn indirect_buffers_nest_and_show_progress() {
    let device = bypass_device();
    let (ib1, ib2) = (DATA + 0x1000, DATA + 0x2000);
    put(&device, ib2, &pkt7(op::MEM_WRITE, &[low(DATA), 0, 77]));
    let mut content = pkt7(op::INDIRECT_BUFFER, &[low(ib2), 0, 4]);
    content.extend(pkt7(op::NOP, &[]));
    put(&device, ib1, &content);
    let ring = pkt7(op::INDIRECT_BUFFER, &[low(ib1), 0, content.len() as u32]);
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!(read32(&device, DATA), 77);
    assert_eq!(device.gpu.regs.get64(0x928), ib1);
    assert_eq!(device.gpu.regs.get64(0x92b), ib2);
    assert_eq!(device.reg_read(0x92a), 0);

    // An IB that calls itself.
    put(&device, ib1, &pkt7(op::INDIRECT_BUFFER, &[low(ib1), 0, 4]));
    assert_eq!(run_dwords(&device, &ring), Err(Stop::Hang(Hang::TooDeep)));
}

#[test]
fn ring_wraps() {
    let device = bypass_device();
    let packet = pkt7(op::MEM_WRITE, &[low(DATA), 0, 123]);
    // 1024 dwords: the packet starts two before the end.
    put(&device, RING + 4 * 1022, &packet[..2]);
    put(&device, RING, &packet[2..]);
    device.reg_write(gpu::CP_RB_BASE, low(RING));
    device.reg_write(gpu::CP_RB_CNTL, 9);
    device.reg_write(gpu::CP_RB_RPTR_ADDR, low(DATA) + 0x40);
    assert_eq!(Cp::new(&device).run_ring(1022, 2), Ok(()));
    assert_eq!(read32(&device, DATA), 123);
    assert_eq!(read32(&device, DATA + 0x40), 2);
}

#[test]
fn job_ends_with_fence_and_interrupt() {
    let device = bypass_device();
    let ring = pkt7(op::EVENT_WRITE, &[4 | (1 << 31), low(DATA), 0, 42]);
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!(read32(&device, DATA), 42);
    assert_eq!(device.reg_read(0x201), 1 << int::CACHE_FLUSH_TS);
    assert_eq!(count(&device, ctl::counter::JOBS), 1);
    assert_eq!(count(&device, ctl::counter::IRQS), 1);
    device.reg_write(0x37, u32::MAX);
    assert_eq!(device.reg_read(0x201), 0);
    assert_eq!(count(&device, ctl::counter::IRQS), 1);
}

#[test]
fn bad_packets_hang_until_reset() {
    let device = threaded(bypass_device());
    fill_ring(&device, &[0xdead_beef]);
    until(|| device.gpu.control().activity == Activity::Hung);
    assert_eq!(device.reg_read(0x909), 0xdead_beef);
    assert_eq!(device.reg_read(0x201), 1 << int::CP_HW_ERROR);
    assert_eq!(device.reg_read(0x210), 1 << 23);
    device.reg_write(0x43, 1);
    assert_eq!(device.reg_read(0x210), 0);
    fill_ring(&device, &pkt7(op::MEM_WRITE, &[low(DATA), 0, 9]));
    until(|| read32(&device, DATA) == 9);
    until(|| device.reg_read(0x210) == 0);
}

#[test]
fn waits_end_by_memory_or_by_reset() {
    let device = threaded(bypass_device());
    let mut ring = pkt7(op::WAIT_REG_MEM, &[0x13, low(DATA), 0, 5, 0xff, 16]);
    ring.extend(pkt7(op::WAIT_MEM_GTE, &[0, low(DATA) + 4, 0, 6]));
    ring.extend(pkt7(op::MEM_WRITE, &[low(DATA) + 8, 0, 1]));
    fill_ring(&device, &ring);
    until(|| device.reg_read(0x210) == 1 << 23);
    put(&device, DATA, &[0xf05, 7]);
    until(|| read32(&device, DATA + 8) == 1);

    put(&device, DATA, &[0, 0, 0]);
    fill_ring(&device, &ring);
    until(|| device.reg_read(0x210) == 1 << 23);
    device.reg_write(0x43, 1);
    until(|| device.reg_read(0x210) == 0);
    assert_eq!(read32(&device, DATA + 8), 0);
}

#[test]
fn held_before_the_next_packet() {
    let device = threaded(bypass_device());
    device.board.settings.hold_cp.store(true, Relaxed);
    fill_ring(&device, &pkt7(op::MEM_WRITE, &[low(DATA), 0, 9]));
    until(|| crate::ctl::read(&device, ctl::CP_STATE) == ctl::cp_state::HELD);
    assert_eq!(read32(&device, DATA), 0);
    crate::ctl::write(&device, ctl::HOLD_CP, 0);
    until(|| read32(&device, DATA) == 9);
}

/// A translating device with ring and data mapped one to one.
fn mapped_device() -> Device {
    let device = translating_device();
    map(&device, RING, RING, PAGE);
    map(&device, DATA, DATA, PAGE);
    device
}

const CFCFG: u32 = 1 << 7;

#[test]
fn fault_stalls_until_terminated() {
    let device = threaded(mapped_device());
    device.bar0_write(BANK, 0x61 | CFCFG);
    let far = 0x1234_5000u64;
    let mut ring = pkt7(op::MEM_WRITE, &[low(far), 0, 9]);
    ring.extend(pkt7(op::MEM_WRITE, &[low(DATA), 0, 1]));
    fill_ring(&device, &ring);
    until(|| device.reg_read(0x213) == 1 << 24);
    assert_eq!(device.bar0_read(BANK + 0x58), (1 << 30) | (1 << 1));
    assert_eq!(device.bar0_read(BANK + 0x60), low(far));
    assert_eq!(device.bar0_read(BANK + 0x64), high(far));
    // A write, at the level where the walk ended.
    assert_eq!(device.bar0_read(BANK + 0x68), (1 << 4) | 1);
    device.bar0_write(BANK + 0x58, u32::MAX);
    device.bar0_write(BANK + 0x8, 1);
    until(|| read32(&device, DATA) == 1);
    assert_eq!(device.reg_read(0x213), 0);
    assert_eq!(count(&device, ctl::counter::FAULTS), 1);
}

#[test]
fn halted_while_stalled_is_a_hang() {
    let device = threaded(mapped_device());
    device.bar0_write(BANK, 0x61 | CFCFG);
    fill_ring(&device, &pkt7(op::MEM_WRITE, &[0x1234_5000, 0, 9]));
    until(|| device.reg_read(0x213) == 1 << 24);
    device.reg_write(0x808, 3);
    device.bar0_write(BANK + 0x8, 1);
    until(|| device.reg_read(0x201) == 1 << int::HANG_DETECT);
    assert_eq!(
        crate::ctl::read(&device, ctl::CP_STATE),
        ctl::cp_state::HUNG
    );
}

#[test]
fn resumed_with_retry() {
    let device = threaded(mapped_device());
    device.bar0_write(BANK, 0x61 | CFCFG);
    fill_ring(&device, &pkt7(op::MEM_WRITE, &[low(DATA) + 0x1000, 0, 9]));
    until(|| device.reg_read(0x213) == 1 << 24);
    map(&device, DATA + 0x1000, DATA + 0x1000, PAGE);
    device.bar0_write(BANK + 0x58, u32::MAX);
    device.bar0_write(BANK + 0x8, 0);
    until(|| read32(&device, DATA + 0x1000) == 9);
}

#[test]
fn faults_without_stall_drop_the_access_and_latch_the_first() {
    let device = mapped_device();
    map(&device, DATA + 0x1000, DATA + 0x1000, PAGE | READ_ONLY);
    let mut ring = pkt7(op::MEM_WRITE, &[low(DATA) + 0x1000, 0, 9]);
    ring.extend(pkt7(op::MEM_TO_MEM, &[0, low(DATA), 0, 0x7000, 0]));
    write32(&device, DATA, 5);
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!(read32(&device, DATA + 0x1000), 0);
    assert_eq!(read32(&device, DATA), 0);
    assert_eq!(device.bar0_read(BANK + 0x58), (1 << 31) | (1 << 3));
    assert_eq!(device.bar0_read(BANK + 0x60), low(DATA) + 0x1000);
    assert_eq!(count(&device, ctl::counter::FAULTS), 2);
}

/// What only privileged accesses may reach: for the ring as CP_APRIV_CNTL says, not for an IB.
#[test]
fn privilege() {
    const UNPRIVILEGED: u64 = 1 << 6;
    let (ib, kernels) = (DATA, DATA + 0x1000);
    let device = mapped_device();
    map(&device, kernels, kernels, PAGE & !UNPRIVILEGED);
    let write = |value| pkt7(op::MEM_WRITE, &[low(kernels), 0, value]);
    let from_ib = write(3);
    let ib = pkt7(op::INDIRECT_BUFFER, &[low(ib), 0, from_ib.len() as u32]);
    let run = |ring: &[u32]| {
        put(&device, DATA, &from_ib);
        assert_eq!(run_dwords(&device, ring), Ok(()));
        let status = device.bar0_read(BANK + 0x58);
        device.bar0_write(BANK + 0x58, u32::MAX);
        (read32(&device, kernels), status)
    };
    let refused = 1 << 3;
    assert_eq!(run(&write(1)), (0, refused));
    device.reg_write(gpu::CP_APRIV_CNTL, apriv::RING);
    assert_eq!(run(&write(2)), (2, 0));
    assert_eq!(run(&ib), (2, refused));
    // The ring's packets are privileged again behind it.
    let mut both = ib.clone();
    both.extend(write(4));
    assert_eq!(run(&both), (4, refused));

    // The ring itself, and where rptr goes.
    map(&device, RING, RING, PAGE & !UNPRIVILEGED);
    device.reg_write(gpu::CP_APRIV_CNTL, apriv::RING | apriv::RING_FETCH);
    device.bar0_write(BANK + 0x618, 0);
    device.bar0_write(BANK + 0x7f0, 0);
    assert_eq!(run(&write(5)), (5, 0));
    device.reg_write(gpu::CP_RB_RPTR_ADDR, low(kernels) + 4);
    assert_eq!(run(&write(6)), (6, refused));
    device.reg_write(
        gpu::CP_APRIV_CNTL,
        apriv::RING | apriv::RING_FETCH | apriv::RPTR,
    );
    assert_eq!(run(&write(7)), (7, 0));
    assert_eq!(read32(&device, kernels + 4), 4);
}

#[test]
fn unmatched_stream_is_a_global_fault() {
    let device = mapped_device();
    device.bar0_write(SMMU + 0x800, 0);
    let _ = run_dwords(&device, &pkt7(op::NOP, &[]));
    assert_eq!(device.bar0_read(SMMU + 0x48) & 2, 2);
    assert!(count(&device, ctl::counter::FAULTS) > 0);
}

fn sync(device: &Device) {
    device.bar0_write(BANK + 0x7f0, 0);
    assert_eq!(device.bar0_read(BANK + 0x7f4), 0);
}

#[test]
fn an_entry_is_taken_away_and_given_back() {
    use ctl::translate::*;
    let device = mapped_device();
    let (iova, pa) = (0x5_0000_0000u64, DATA + 0x1000);
    let write = |value| pkt7(op::MEM_WRITE, &[low(iova), high(iova), value]);
    let go = || {
        crate::ctl::write(&device, IOVA, iova);
        crate::ctl::write(&device, GO, READ);
        crate::ctl::read(&device, STATUS)
    };
    // A store that no walk went ahead of changes nothing.
    crate::ctl::write(&device, STORE, u64::MAX);
    map(&device, iova, pa, PAGE);
    assert_eq!(run_dwords(&device, &write(1)), Ok(()));
    assert_eq!(go(), OK);
    crate::ctl::write(&device, STORE, 0);
    // The TLB has forgotten it too.
    assert_eq!(run_dwords(&device, &write(2)), Ok(()));
    assert_eq!(count(&device, ctl::counter::FAULTS), 1);
    assert_eq!(read32(&device, pa), 1);
    assert_eq!(go(), TRANSLATION);
    crate::ctl::write(&device, STORE, pa | PAGE);
    assert_eq!(go(), OK);
    assert_eq!(run_dwords(&device, &write(3)), Ok(()));
    assert_eq!(read32(&device, pa), 3);
}

#[test]
fn stale_until_invalidated_and_synced() {
    let device = mapped_device();
    let (iova, old, new) = (0x5_0000_0000u64, DATA + 0x1000, DATA + 0x2000);
    let write = |value| pkt7(op::MEM_WRITE, &[low(iova), high(iova), value]);
    map(&device, iova, old, PAGE);
    assert_eq!(run_dwords(&device, &write(1)), Ok(()));
    map(&device, iova, new, PAGE);
    let stale = |device: &Device| count(device, ctl::counter::STALE_HITS);

    assert_eq!(run_dwords(&device, &write(2)), Ok(()));
    assert_eq!((read32(&device, old), read32(&device, new)), (2, 0));
    assert_eq!(stale(&device), 1);
    assert_eq!(crate::ctl::read(&device, ctl::stale::IOVA), iova);
    assert_eq!(crate::ctl::read(&device, ctl::stale::OLD_PTE), old | PAGE);
    assert_eq!(crate::ctl::read(&device, ctl::stale::NEW_PTE), new | PAGE);

    // Another ASID, or no sync: still stale.
    device.bar0_write(BANK + 0x610, 5);
    sync(&device);
    device.bar0_write(BANK + 0x610, 0);
    assert_eq!(run_dwords(&device, &write(3)), Ok(()));
    assert_eq!(stale(&device), 2);
    sync(&device);
    assert_eq!(run_dwords(&device, &write(4)), Ok(()));
    assert_eq!((read32(&device, old), read32(&device, new)), (3, 4));
    assert_eq!(stale(&device), 2);

    // By address, as 64 bits.
    map(&device, iova, old, PAGE);
    device.bar0_write(BANK + 0x620, (iova >> 12) as u32);
    device.bar0_write(BANK + 0x624, 0);
    sync(&device);
    assert_eq!(run_dwords(&device, &write(5)), Ok(()));
    assert_eq!(read32(&device, old), 5);
    assert_eq!(stale(&device), 2);

    // The negative control.
    device.board.settings.ignore_tlbi.store(true, Relaxed);
    map(&device, iova, new, PAGE);
    device.bar0_write(SMMU + 0x68, 0);
    device.bar0_write(SMMU + 0x70, 0);
    assert_eq!(run_dwords(&device, &write(6)), Ok(()));
    assert_eq!(read32(&device, old), 6);
    assert_eq!(stale(&device), 3);
}

#[test]
fn freed_table_is_seen_through_the_walk_cache() {
    let device = mapped_device();
    // In a table of its own at each level.
    let iova = 3u64 << 39;
    map(&device, iova, DATA, PAGE);
    let write = |at: u64| pkt7(op::MEM_WRITE, &[low(at), high(at), 7]);
    assert_eq!(run_dwords(&device, &write(iova)), Ok(()));
    // All its tables are unlinked; a neighbour that it still maps is found through the cache.
    map(&device, iova + 0x1000, DATA + 0x1000, PAGE);
    let root = RAM + 8 * (iova >> 39);
    write64(&device, root, 0);
    device.bar0_write(BANK + 0x620, (iova >> 12) as u32);
    device.bar0_write(BANK + 0x624, 0);
    sync(&device);
    assert_eq!(run_dwords(&device, &write(iova + 0x1000)), Ok(()));
    assert_eq!(read32(&device, DATA + 0x1000), 7);
    assert_eq!(count(&device, ctl::counter::STALE_HITS), 1);
    device.bar0_write(BANK + 0x610, 0);
    sync(&device);
    assert_eq!(run_dwords(&device, &write(iova + 0x1000)), Ok(()));
    assert!(count(&device, ctl::counter::FAULTS) > 0);
}

#[test]
fn roots_that_wait_in_the_ring() {
    let device = mapped_device();
    let (a, b) = (RAM + 0x10_0000, RAM + 0x10_1000);
    let mut ring = pkt7(op::SMMU_TABLE_UPDATE, &[low(a), 5 << 16, 0, 0]);
    ring.extend(pkt7(op::MEM_WRITE, &[low(DATA), 0, 1]));
    ring.extend(pkt7(op::SMMU_TABLE_UPDATE, &[low(b), 0, 0, 0]));
    fill_ring(&device, &ring);
    assert_eq!(crate::pending::roots(&device), [a, b]);
    device.gpu.control().rptr = 5;
    assert_eq!(crate::pending::roots(&device), [b]);
    device.gpu.control().rptr = ring.len() as u32;
    assert!(crate::pending::roots(&device).is_empty());
}

/// What the guest's kernel asks when it frees pages.
#[test]
fn freed_pages() {
    let device = mapped_device();
    let (root, list) = (RAM + 0x10_0000, RAM + 0x18_0000);
    let (page, iova) = (DATA + 0x3000, 5u64 << 39);
    write64(&device, root + 40, (RAM + 0x10_1000) | 3);
    write64(&device, RAM + 0x10_1000, (RAM + 0x10_2000) | 3);
    write64(&device, RAM + 0x10_2000, (RAM + 0x10_3000) | 3);
    write64(&device, RAM + 0x10_3000, page | PAGE);
    let mut ring = pkt7(op::SMMU_TABLE_UPDATE, &[low(root), 0, 0, 0]);
    ring.extend(pkt7(op::MEM_WRITE, &[0, high(iova), 2]));
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    device.gpu.control().rptr = ring.len() as u32;

    crate::ctl::write(&device, ctl::freed::LIST, list);
    let ask = |pages: &[u64]| {
        write64(&device, list, pages.len() as u64);
        for (at, page) in (list + 8..).step_by(8).zip(pages) {
            write64(&device, at, *page);
        }
        crate::ctl::read(&device, ctl::freed::CHECK)
    };
    let answer = || {
        use ctl::freed::*;
        [PAGE, HOW, IOVA, TTBR0].map(|at| crate::ctl::read(&device, at))
    };
    let (by_table, by_tlb, is_table, in_tlb) = (
        ctl::watch::BY_TABLE,
        ctl::watch::BY_TLB,
        ctl::watch::IS_TABLE,
        ctl::freed::TABLE_IN_TLB,
    );
    assert_eq!(ask(&[DATA + 0x5000, page, DATA + 0x6000]), 2);
    assert_eq!(answer(), [page, by_table | by_tlb, iova, root]);
    assert_eq!(ask(&[RAM + 0x10_3000]), 1);
    assert_eq!(answer()[1], is_table | in_tlb);

    // Unmapped, but not flushed; then flushed; a TLB that was told to ignore that says nothing.
    write64(&device, root + 40, 0);
    assert_eq!(ask(&[page]), 1);
    assert_eq!(answer(), [page, by_tlb, iova, 0]);
    assert_eq!(ask(&[RAM + 0x10_3000]), 1);
    assert_eq!(answer()[1], in_tlb);
    crate::ctl::write(&device, ctl::IGNORE_TLBI, 1);
    device.bar0_write(BANK + 0x610, 0);
    device.bar0_write(BANK + 0x7f0, 0);
    assert_eq!(ask(&[page]), 0);
    crate::ctl::write(&device, ctl::IGNORE_TLBI, 0);
    device.bar0_write(BANK + 0x610, 0);
    device.bar0_write(BANK + 0x7f0, 0);
    assert_eq!(ask(&[page, RAM + 0x10_3000]), 0);

    // The root goes while it is loaded, which the stock module may; then it is nobody's any more.
    crate::ctl::write(&device, ctl::freed::LENIENT, 1);
    assert_eq!(ask(&[root]), 0);
    crate::ctl::write(&device, ctl::freed::LENIENT, 0);
    assert_eq!(crate::ctl::read(&device, ctl::freed::DEAD_ROOTS), 1);
    write64(&device, root + 40, (RAM + 0x10_1000) | 3);
    assert_eq!(ask(&[page]), 0);
    assert_eq!(crate::ctl::read(&device, ctl::freed::CHECKED), 11);
}

#[test]
fn table_update_switches_contexts() {
    let device = mapped_device();
    // A second root with the same tables but for one page.
    let root = RAM + 0x10_0000;
    write64(&device, root, u64::from(read32(&device, RAM)));
    let other = DATA + 0x3000;
    let iova = 2u64 << 39;
    map(&device, iova, DATA, PAGE);
    assert_eq!(
        run_dwords(&device, &pkt7(op::MEM_WRITE, &[0, high(iova), 1])),
        Ok(())
    );
    write64(&device, root + 16, (RAM + 0x10_1000) | 3);
    write64(&device, RAM + 0x10_1000, (RAM + 0x10_2000) | 3);
    write64(&device, RAM + 0x10_2000, (RAM + 0x10_3000) | 3);
    write64(&device, RAM + 0x10_3000, other | PAGE);
    let mut ring = pkt7(op::SMMU_TABLE_UPDATE, &[low(root), 0, 0, 0]);
    ring.extend(pkt7(op::MEM_WRITE, &[0, high(iova), 2]));
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!((read32(&device, DATA), read32(&device, other)), (1, 2));
    assert_eq!(count(&device, ctl::counter::STALE_HITS), 0);
    assert_eq!(crate::ctl::read(&device, ctl::current::TTBR0), root);

    // The page watch finds it, by table and in the TLB.
    crate::ctl::write(&device, ctl::watch::PAGE, other + 0x123);
    assert_eq!(
        crate::ctl::read(&device, ctl::watch::REACHABLE),
        ctl::watch::BY_TABLE | ctl::watch::BY_TLB
    );
    assert_eq!(crate::ctl::read(&device, ctl::watch::IOVA), iova);
    assert_eq!(crate::ctl::read(&device, ctl::watch::TTBR0), root);
    assert_eq!(crate::ctl::read(&device, ctl::watch::MAPPINGS), 1);
    crate::ctl::write(&device, ctl::watch::PAGE, RAM + 0x10_2000);
    assert_eq!(
        crate::ctl::read(&device, ctl::watch::REACHABLE),
        ctl::watch::IS_TABLE
    );
    // Unmapped but not invalidated.
    write64(&device, RAM + 0x10_3000, 0);
    crate::ctl::write(&device, ctl::watch::PAGE, other);
    assert_eq!(
        crate::ctl::read(&device, ctl::watch::REACHABLE),
        ctl::watch::BY_TLB
    );
    crate::ctl::write(&device, ctl::watch::ADD, other);
    let ring = pkt7(op::MEM_WRITE, &[0, high(iova), 3]);
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!(count(&device, ctl::counter::WATCH_HITS), 1);
    assert_eq!(crate::ctl::read(&device, ctl::watch::HIT_PAGE), other);
    device.bar0_write(BANK + 0x610, 0);
    sync(&device);
    crate::ctl::write(&device, ctl::watch::PAGE, other);
    assert_eq!(crate::ctl::read(&device, ctl::watch::REACHABLE), 0);

    // After each job, what is watched must not be mapped.
    let job = pkt7(op::EVENT_WRITE, &[4 | (1 << 31), low(DATA), 0, 1]);
    assert_eq!(run_dwords(&device, &job), Ok(()));
    assert_eq!(count(&device, ctl::counter::WATCH_LIVE), 0);
    write64(&device, RAM + 0x10_3000, other | PAGE);
    assert_eq!(run_dwords(&device, &job), Ok(()));
    assert_eq!(count(&device, ctl::counter::WATCH_LIVE), 1);
}

#[test]
fn prr_page_reads_and_drops_writes() {
    let device = mapped_device();
    let (iova, page) = (0x5_0000_0000u64, DATA + 0x4000);
    map(&device, iova, page, PAGE);
    device.bar0_write(SMMU + 0x6008, low(page));
    device.bar0_write(BANK + 0x4, 1 << 5);
    write32(&device, page, 3);
    let mut ring = pkt7(op::MEM_WRITE, &[low(iova), high(iova), 9]);
    ring.extend(pkt7(
        op::MEM_TO_MEM,
        &[0, low(DATA), 0, low(iova), high(iova)],
    ));
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!((read32(&device, page), read32(&device, DATA)), (3, 3));
    // A suspend keeps it, and nothing else.
    device.set_power(0);
    assert_eq!(device.bar0_read(BANK), 0);
    device.set_power(ctl::power::ALL);
    assert_eq!(device.bar0_read(BANK), 0);
    assert_eq!(device.bar0_read(BANK + 0x4), 1 << 5);
    assert_eq!(device.reg_read(gpu::CP_RB_BASE), 0);
    assert_eq!(count(&device, ctl::counter::OFF_ACCESSES), 1);
}

#[test]
fn runs_of_memory() {
    let device = mapped_device();
    for (iova, page) in [(0x5000, 1), (0x6000, 2), (0x7000, 4), (0x8000, 3)] {
        map(&device, iova, DATA + page * 0x1000, PAGE);
    }
    let runs = |iova: u64, length| {
        crate::ctl::write(&device, ctl::translate::IOVA, iova);
        crate::ctl::write(&device, ctl::translate::TTBR0, 0);
        crate::ctl::write(&device, ctl::translate::RUNS, length);
        crate::ctl::read(&device, ctl::translate::RUNS)
    };
    assert_eq!(runs(0x5000, 0x2000), 1);
    assert_eq!(runs(0x5000, 0x4000), 3);
    assert_eq!(runs(0x7000, 0x2000), 2);
    // One that isn't mapped, and too many.
    assert_eq!(runs(0x5000, 0x5000), 0);
    assert_eq!(runs(0x5000, ctl::translate::RUNS_MAX + 1), 0);
}

#[test]
fn translate_mailbox() {
    let device = mapped_device();
    let ask = |iova: u64, go| {
        crate::ctl::write(&device, ctl::translate::IOVA, iova);
        crate::ctl::write(&device, ctl::translate::TTBR0, 0);
        crate::ctl::write(&device, ctl::translate::GO, go);
        (
            crate::ctl::read(&device, ctl::translate::STATUS),
            crate::ctl::read(&device, ctl::translate::PA),
        )
    };
    map(&device, 0x5000, DATA + 0x1000, PAGE | READ_ONLY);
    assert_eq!(
        ask(0x5010, ctl::translate::READ),
        (ctl::translate::OK, DATA + 0x1010)
    );
    assert_eq!(
        ask(0x5010, ctl::translate::WRITE).0,
        ctl::translate::PERMISSION
    );
    assert_eq!(
        ask(0x6000, ctl::translate::READ).0,
        ctl::translate::TRANSLATION
    );
    device.bar0_write(BANK, 0);
    assert_eq!(ask(0x5010, ctl::translate::READ).0, ctl::translate::OFF);
}

#[test]
fn speculation_fills_the_tlb() {
    let device = mapped_device();
    for _ in 0..64 {
        device.smmu.speculate(&device.board);
    }
    crate::ctl::write(&device, ctl::tlb::ASID, ctl::tlb::ANY);
    assert_eq!(crate::ctl::read(&device, ctl::tlb::COUNT), 2);
    assert!(crate::ctl::read(&device, ctl::tlb::TABLES) >= 3);
    assert_eq!(count(&device, ctl::counter::FAULTS), 0);
}

/// A packet that is well formed but says anything.
#[test]
fn speculation_needs_no_job_but_a_translating_smmu() {
    let device = Arc::new(mapped_device());
    device.board.settings.speculate.store(100_000, Relaxed);
    thread::spawn({
        let device = device.clone();
        move || crate::speculate::run(&device)
    });
    until(|| count(&device, counter::SPECULATIVE) > 10);
    assert_eq!(device.gpu.control().activity, Activity::Idle);
    device.bar0_write(BANK, 0);
    // One may have been under way.
    let mut last = count(&device, counter::SPECULATIVE);
    until(|| {
        thread::sleep(Duration::from_millis(20));
        last == std::mem::replace(&mut last, count(&device, counter::SPECULATIVE))
    });
}

fn any_packet() -> impl Strategy<Value = Vec<u32>> {
    let payload = prop::collection::vec(
        prop_oneof![
            any::<u32>(),
            Just(0),
            (0u32..0x40).prop_map(|n| low(DATA) + 4 * n),
            0u32..0x4_0000,
        ],
        0..9,
    );
    prop_oneof![
        (0u8..0x80, payload.clone()).prop_map(|(op, payload)| pkt7(op, &payload)),
        (0u32..0x4_0000, payload.clone()).prop_map(|(reg, payload)| {
            let count = payload.len() as u32;
            let mut packet = vec![Header::Write { reg, count }.encode()];
            packet.extend(payload);
            packet
        }),
        payload,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a guest puts into the ring, the CP neither panics nor outlives a reset.
    #[test]
    fn any_commands(packets in prop::collection::vec(any_packet(), 1..20), translating: bool) {
        let device = Arc::new(if translating { mapped_device() } else { bypass_device() });
        let ring: Vec<u32> = packets.concat();
        fill_ring(&device, &ring);
        let runner = thread::spawn({
            let device = device.clone();
            move || {
                let cp = Cp::new(&device);
                match cp.run_ring(0, ring.len() as u32) {
                    Err(Stop::Hang(why)) => cp.hang(why),
                    Ok(()) | Err(Stop::Reset) => {}
                }
            }
        });
        thread::sleep(Duration::from_micros(500));
        while !runner.is_finished() {
            device.reg_write(0x43, 1);
            device.gpu.resume(Resume::Terminate);
            thread::sleep(Duration::from_micros(200));
        }
        prop_assert!(runner.join().is_ok());
    }

    /// Neither does any register write or read harm.
    #[test]
    fn any_registers(writes in prop::collection::vec((0u64..0x10_0000, any::<u32>()), 0..200)) {
        let device = mapped_device();
        for (offset, value) in writes {
            device.bar0_write(offset & !3, value);
            device.bar0_read(offset & !3);
            crate::ctl::write(&device, (offset & 0xfff8) as usize, value.into());
            crate::ctl::read(&device, (offset & 0xfff8) as usize);
        }
        device.set_power(ctl::power::ALL);
        let _ = device.smmu.access(&device.board, CP, DATA, Access::Read(&mut [0; 4]));
    }
}

#[test]
fn where_am_i_is_behind_itself() {
    let device = bypass_device();
    let mut ring = pkt7(op::NOP, &[0]);
    ring.extend(pkt7(op::WHERE_AM_I, &[low(DATA), 0]));
    ring.extend(pkt7(op::NOP, &[]));
    assert_eq!(run_dwords(&device, &ring), Ok(()));
    assert_eq!(read32(&device, DATA), 5);
}

/// Puts a record and an SMMU info without tables at an address, for a ring at another one.
fn record(device: &Device, at: u64, ring: u64, rptr: u32, wptr: u32) {
    put(device, at, &[0xae39_9d6e, 0, 0, 0, 9, rptr, wptr, 0]);
    put(device, at + 32, &[low(DATA) + 0x800, 0, low(ring), 0]);
    put(device, at + 0x100, &[0x2413_50d5, 0, 0, 0, 0, 0]);
}

#[test]
fn preempted_where_the_ring_yields() {
    const OTHER: u64 = RING + 0x1000;
    const FIRST: u64 = DATA + 0x1000;
    const SECOND: u64 = DATA + 0x2000;
    let write = |value| pkt7(op::MEM_WRITE, &[low(DATA), 0, value]);
    let yields = pkt7(op::CONTEXT_SWITCH_YIELD, &[0, 0, 1, 0]);
    let device = bypass_device();
    let ask = |record: u64| {
        for (reg, value) in [
            (0x8a1, low(record) + 0x100),
            (0x8a3, low(record)),
            (0x8a0, 1),
        ] {
            device.reg_write(reg, value);
        }
    };
    // The one goes on behind its yield only when it has its turn again.
    let mut ring = pkt7(op::SET_PSEUDO_REG, &[1, low(FIRST), 0]);
    ring.extend(write(1).into_iter().chain(yields));
    let yielded = ring.len() as u32;
    ring.extend(write(3));
    put(&device, OTHER + 8, &write(2));
    record(&device, FIRST, RING, 0, 0);
    record(&device, SECOND, OTHER, 2, 6);
    fill_ring(&device, &ring);
    ask(SECOND);
    run_once(&device);
    assert_eq!(read32(&device, DATA), 1);
    assert_eq!(device.reg_read(0x8a0), 0);
    assert_eq!(device.reg_read(0x201), 1 << int::CP_SW);
    let saved: Vec<u32> = (4..7).map(|n| read32(&device, FIRST + 4 * n)).collect();
    assert_eq!(saved, [9, yielded, ring.len() as u32]);
    run_once(&device);
    assert_eq!(read32(&device, DATA), 2);
    // And a ring without work is left at once.
    ask(FIRST);
    run_once(&device);
    assert_eq!(read32(&device, SECOND + 20), 6);
    run_once(&device);
    assert_eq!(read32(&device, DATA), 3);
}

#[test]
fn a_bad_record_hangs() {
    let device = bypass_device();
    fill_ring(&device, &pkt7(op::NOP, &[]));
    let cp = Cp::new(&device);
    device.reg_write(0x8a3, low(DATA));
    device.reg_write(0x8a0, 1);
    assert_eq!(cp.preempt(), Err(Stop::Hang(Hang::BadRecord)));
}
