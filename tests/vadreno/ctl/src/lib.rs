// SPDX-License-Identifier: GPL-2.0-only

//! The control BAR of the virtual Adreno (BAR4, 64 KiB): what a test program that runs in the
//! guest may ask of the device, and what it may tell it.
//!
//! A program finds the PCI device [`PCI_VENDOR`]:[`PCI_DEVICE`], opens its `resource4` in sysfs and
//! maps [`BAR_SIZE`] bytes of it. Every register is 64 bits wide, little endian and naturally
//! aligned; the low half may also be accessed alone, with 32 bits. Use volatile accesses. A write
//! takes effect before a later access to the BAR by the same CPU.
//!
//! The mailboxes ([`translate`], [`tlb`], [`watch`], [`row`]) hold one question at a time: programs
//! that run side by side take turns, for instance with `flock` on `resource4`.
//!
//! A register marked *read-only* ignores writes; an offset that is not listed reads as 0.

#![no_std]

/// PCI vendor of the virtual Adreno.
pub const PCI_VENDOR: u16 = 0x1d1d;
/// PCI device id of the virtual Adreno.
pub const PCI_DEVICE: u16 = 0x0702;
/// The BAR that holds the registers below.
pub const BAR: u32 = 4;
/// Size of that BAR in bytes.
pub const BAR_SIZE: usize = 0x1_0000;

/// Read-only: [`ID_VALUE`].
pub const ID: usize = 0x000;
/// What [`ID`] reads: "vadreno" in ASCII, padded with a zero byte.
pub const ID_VALUE: u64 = u64::from_le_bytes(*b"vadreno\0");
/// Read-only: version of this register map, [`VERSION_VALUE`]. It changes when a register's
/// meaning does; new registers do not change it.
pub const VERSION: usize = 0x008;
/// What [`VERSION`] reads.
pub const VERSION_VALUE: u64 = 1;

/// While not 0, the CP stops before its next packet, so that the job it is running stays
/// unfinished. Writing 0 lets it go on. It does not outlive the device's reset.
pub const HOLD_CP: usize = 0x100;

/// What the CP does: one of the [`cp_state`] values. Read-only.
pub const CP_STATE: usize = 0x108;

/// Values of [`CP_STATE`].
pub mod cp_state {
    /// The ring is empty, or the SQE is halted.
    pub const IDLE: u64 = 0;
    /// Running packets.
    pub const BUSY: u64 = 1;
    /// Stopped by [`HOLD_CP`](super::HOLD_CP) before a packet.
    pub const HELD: u64 = 2;
    /// An access faulted and waits for RESUME.
    pub const STALLED: u64 = 3;
    /// Hung until the next reset.
    pub const HUNG: u64 = 4;
}

/// Power domains and clocks that are on: a combination of [`power`] bits, all after reset. The
/// guest's power-domain driver writes it; a bit that goes from 1 to 0 makes the registers in that
/// domain lose their state.
pub const POWER: usize = 0x110;

/// Bits of [`POWER`].
pub mod power {
    /// CX: the GMU wrapper's and the SMMU's registers. The TLB is kept: architecturally its
    /// contents are unknown after reset, so the SMMU driver has to invalidate it.
    pub const CX: u64 = 1 << 0;
    /// GX: the GPU's registers and the CP.
    pub const GX: u64 = 1 << 1;
    /// The SMMU's clock. Without it its registers keep their state, and can't be reached.
    pub const SMMU_CLOCK: u64 = 1 << 2;
    /// Everything.
    pub const ALL: u64 = CX | GX | SMMU_CLOCK;
}

/// While not 0, every TLB invalidation is counted and then ignored (a negative control: a test
/// that checks results must fail).
pub const IGNORE_TLBI: usize = 0x118;

/// Delay before a job's completion becomes visible, and before an interrupt is raised, chosen at
/// random for each: least value in µs in bits 31:0, greatest in bits 63:32. 0: none.
pub const DELAY: usize = 0x120;

/// Speculative reads per second, at random pages that the loaded tables map, whether a job runs or
/// not: they fill the TLB and read. Where a context has ended and no other was loaded, what its
/// tables have become is what is read. 0: none.
pub const SPECULATE: usize = 0x128;

/// Writing any value restarts the device's random choices from that seed; reads give the last
/// seed.
pub const SEED: usize = 0x130;

/// Write 1: all counters become 0.
pub const COUNTERS_RESET: usize = 0x138;

/// Write any value: the hang detector finds the GPU hung, whatever it does. A driver is told at
/// once, where the device's own hangs may have to wait for its next check.
pub const HANG: usize = 0x158;

/// Counters, each 64 bits, read-only, since start or [`COUNTERS_RESET`]. The JSON that the device
/// prints at exit names them as [`NAMES`](counter::NAMES) does.
pub mod counter {
    /// Byte offset of the first counter.
    pub const BASE: usize = 0x200;
    /// Invalidations of everything: TLBIALL of a context bank, TLBIALLNSNH, TLBIALLH, TLBIVMID.
    pub const TLBI_ALL: usize = BASE;
    /// Invalidations by ASID (TLBIASID).
    pub const TLBI_ASID: usize = BASE + 0x08;
    /// Invalidations by address (TLBIVA, TLBIVAA, TLBIVAL, TLBIVAAL).
    pub const TLBI_VA: usize = BASE + 0x10;
    /// All invalidations.
    pub const TLBI: usize = BASE + 0x18;
    /// TLB syncs (TLBSYNC of a context bank, sTLBGSYNC).
    pub const TLB_SYNC: usize = BASE + 0x20;
    /// Page-table walks made because the TLB had no entry.
    pub const WALKS: usize = BASE + 0x28;
    /// Accesses that found their translation in the TLB.
    pub const TLB_HITS: usize = BASE + 0x30;
    /// Accesses through a TLB entry which the page tables no longer agree with. See
    /// [`stale`](super::stale).
    pub const STALE_HITS: usize = BASE + 0x38;
    /// Jobs retired: CP_EVENT_WRITE packets that asked for an interrupt, as every submit ends with.
    pub const JOBS: usize = BASE + 0x40;
    /// Reads of GPU and GMU registers by the CPU.
    pub const GPU_READS: usize = BASE + 0x48;
    /// Writes of GPU and GMU registers by the CPU.
    pub const GPU_WRITES: usize = BASE + 0x50;
    /// Reads of SMMU registers by the CPU.
    pub const SMMU_READS: usize = BASE + 0x58;
    /// Writes of SMMU registers by the CPU.
    pub const SMMU_WRITES: usize = BASE + 0x60;
    /// Interrupts raised.
    pub const IRQS: usize = BASE + 0x68;
    /// Translation, permission and stream faults.
    pub const FAULTS: usize = BASE + 0x70;
    /// TTBR0 switches by CP_SMMU_TABLE_UPDATE.
    pub const SWITCHES: usize = BASE + 0x78;
    /// PM4 packets run.
    pub const PACKETS: usize = BASE + 0x80;
    /// Speculative reads made.
    pub const SPECULATIVE: usize = BASE + 0x88;
    /// Accesses that reached a watched page. See [`watch`](super::watch).
    pub const WATCH_HITS: usize = BASE + 0x90;
    /// Writes dropped and reads redirected because the page was the PRR page.
    pub const PRR: usize = BASE + 0x98;
    /// Packets that the CP does not know, and 2D operations it cannot do.
    pub const UNSUPPORTED: usize = BASE + 0xa0;
    /// Hangs: bad packets, endless waits and halts after a fault.
    pub const HANGS: usize = BASE + 0xa8;
    /// Crash dumper scripts run.
    pub const CRASH_DUMPS: usize = BASE + 0xb0;
    /// Watched pages that live tables led to when a job retired. See [`watch`](super::watch).
    pub const WATCH_LIVE: usize = BASE + 0xb8;
    /// Accesses by the CPU to registers whose power domain was off: dropped, and read as 0.
    pub const OFF_ACCESSES: usize = BASE + 0xc0;
    /// Of these, accesses to the SMMU's registers, without its power or its clock. On hardware they
    /// may stop the whole system, so each is a finding: the device says `BUG: …` on standard error.
    pub const SMMU_OFF: usize = BASE + 0xc8;
    /// Translations that jobs used and which became others without an invalidation between, where
    /// the architecture demands a break before make. Each is a finding.
    pub const UNBROKEN: usize = BASE + 0xd0;
    /// Writes of the ring's write pointer (CP_RB_WPTR): the driver has put something into the ring.
    pub const RING_WRITES: usize = BASE + 0xd8;
    /// Pages that were given back while the GPU had no power, and to which the TLB leads when the CP
    /// is started again. Each is a finding.
    pub const LEFT_IN_TLB: usize = BASE + 0xe0;
    /// Reads of the display's registers by the CPU.
    pub const DISPLAY_READS: usize = BASE + 0xe8;
    /// Writes of the display's registers by the CPU.
    pub const DISPLAY_WRITES: usize = BASE + 0xf0;
    /// Frames that the display has read to their end.
    pub const FRAMES: usize = BASE + 0xf8;
    /// Vsyncs at which what was flushed has become what is shown.
    pub const FLUSHES: usize = BASE + 0x100;
    /// Frames in which the display couldn't read something. Each is a finding.
    pub const UNDERRUNS: usize = BASE + 0x108;
    /// Walks that a TLB of limited size would have made for jobs.
    pub const FINITE_WALKS: usize = BASE + 0x110;
    /// Descriptors that those would have read, with a walk cache of limited size.
    pub const FINITE_READS: usize = BASE + 0x118;
    /// Number of counters.
    pub const COUNT: usize = 36;
    /// Names of the counters in the order of their offsets.
    pub const NAMES: [&str; COUNT] = [
        "tlbi_all",
        "tlbi_asid",
        "tlbi_va",
        "tlbi",
        "tlb_sync",
        "walks",
        "tlb_hits",
        "stale_hits",
        "jobs",
        "gpu_reads",
        "gpu_writes",
        "smmu_reads",
        "smmu_writes",
        "irqs",
        "faults",
        "switches",
        "packets",
        "speculative",
        "watch_hits",
        "prr",
        "unsupported",
        "hangs",
        "crash_dumps",
        "watch_live",
        "off_accesses",
        "smmu_off",
        "unbroken",
        "ring_writes",
        "left_in_tlb",
        "display_reads",
        "display_writes",
        "frames",
        "flushes",
        "underruns",
        "finite_walks",
        "finite_reads",
    ];
}

/// Read-only: the context that the CP last switched to.
pub mod current {
    /// Its TTBR0, without the ASID. A program whose submit was the last to run finds its own
    /// page table here.
    pub const TTBR0: usize = 0x400;
    /// Its ASID.
    pub const ASID: usize = 0x408;
}

/// Mailbox: translate an iova by walking the tables as they are now, without the TLB.
/// Write [`IOVA`](translate::IOVA) and [`TTBR0`](translate::TTBR0), then [`GO`](translate::GO);
/// the answer is there when that write is done.
pub mod translate {
    /// The address to translate.
    pub const IOVA: usize = 0x440;
    /// Physical address of the top-level table, or 0 for the current context. Addresses of the
    /// upper half always use TTBR1. That of the display's tables stands for the display's SMMU.
    pub const TTBR0: usize = 0x448;
    /// Write [`READ`] or [`WRITE`].
    pub const GO: usize = 0x450;
    /// Read-only: [`OK`], or the kind of fault.
    pub const STATUS: usize = 0x458;
    /// Read-only: the physical address, when the status is [`OK`].
    pub const PA: usize = 0x460;
    /// Read-only: the last descriptor that the walk read.
    pub const PTE: usize = 0x468;
    /// Read-only: the level of that descriptor (0 to 3).
    pub const LEVEL: usize = 0x470;
    /// Write a length in bytes: reads then give how many physically contiguous runs the pages of 4
    /// KiB have that the addresses from [`IOVA`] on lead to, in the order of addresses. 0 if one of
    /// them leads nowhere, or the length is above [`RUNS_MAX`].
    pub const RUNS: usize = 0x478;
    /// The greatest length that [`RUNS`] takes.
    pub const RUNS_MAX: u64 = 1 << 30;
    /// Write a descriptor: it takes the place of the one that the last walk read last, and the TLB
    /// forgets the address. So a test has a kernel that loses a mapping.
    pub const STORE: usize = 0x438;

    /// Value of [`GO`]: as a read.
    pub const READ: u64 = 1;
    /// Value of [`GO`]: as a write.
    pub const WRITE: u64 = 2;

    /// Value of [`STATUS`]: translated.
    pub const OK: u64 = 0;
    /// Value of [`STATUS`]: translation fault, nothing is mapped there.
    pub const TRANSLATION: u64 = 1;
    /// Value of [`STATUS`]: permission fault.
    pub const PERMISSION: u64 = 2;
    /// Value of [`STATUS`]: a table lies outside the guest's memory.
    pub const EXTERNAL: u64 = 3;
    /// Value of [`STATUS`]: the SMMU's context bank is off.
    pub const OFF: u64 = 4;
    /// Value of [`STATUS`]: the PTE has its access flag clear.
    pub const ACCESS_FLAG: u64 = 5;
}

/// Mailbox: what the TLB holds.
pub mod tlb {
    /// Write an ASID, or [`ANY`]: [`COUNT`] is then set.
    pub const ASID: usize = 0x480;
    /// Value of [`ASID`]: all entries.
    pub const ANY: u64 = u64::MAX;
    /// Read-only: page entries of that ASID.
    pub const COUNT: usize = 0x488;
    /// Read-only: table entries (walk cache) of that ASID.
    pub const TABLES: usize = 0x490;
}

/// Read-only: the last stale hit. All are 0 when there was none since
/// [`COUNTERS_RESET`].
pub mod stale {
    /// The address that was accessed.
    pub const IOVA: usize = 0x4c0;
    /// The descriptor that the TLB held.
    pub const OLD_PTE: usize = 0x4c8;
    /// The descriptor that a walk found at that moment (0: none).
    pub const NEW_PTE: usize = 0x4d0;
    /// The ASID.
    pub const ASID: usize = 0x4d8;
}

/// Mailbox: can the GPU reach a physical page?
///
/// The device remembers each TTBR0 that CP_SMMU_TABLE_UPDATE has loaded (the newest 4096). A query
/// walks all of these tables, and the TTBR1 table, from their roots as they are now, and looks
/// through the TLB. A process that ends gives its tables back to the guest's kernel: tell the
/// device with [`FORGET`](watch::FORGET), or a later query walks through what has become of that
/// memory.
pub mod watch {
    /// Write a physical address: asks about its 4 KiB page. The answer is there when the write is
    /// done.
    pub const PAGE: usize = 0x500;
    /// Read-only: how the page can be reached, a combination of [`BY_TABLE`], [`BY_TLB`] and
    /// [`IS_TABLE`]; 0 when it cannot.
    pub const REACHABLE: usize = 0x508;
    /// Read-only: the first iova that leads there.
    pub const IOVA: usize = 0x510;
    /// Read-only: the TTBR0 of that iova (0 when it was found in the TLB or by TTBR1).
    pub const TTBR0: usize = 0x518;
    /// Read-only: number of (context, iova) pairs that lead there by tables.
    pub const MAPPINGS: usize = 0x520;
    /// Write a TTBR0: forget it. Write [`ALL`]: forget all.
    pub const FORGET: usize = 0x528;
    /// Value of [`FORGET`] and [`REMOVE`]: all of them.
    pub const ALL: u64 = u64::MAX;
    /// Write a physical address: from now on each access of the GPU to that page is counted in
    /// [`WATCH_HITS`](super::counter::WATCH_HITS) and traced, and after each job each address at
    /// which a remembered context still maps it is counted in
    /// [`WATCH_LIVE`](super::counter::WATCH_LIVE). For pages that the guest has freed or unmapped.
    pub const ADD: usize = 0x530;
    /// Write a physical address: no longer watched. Write [`ALL`]: none is.
    pub const REMOVE: usize = 0x538;
    /// Read-only: how many TTBR0 the device remembers.
    pub const CONTEXTS: usize = 0x540;
    /// Read-only: the iova of the last access that reached a watched page.
    pub const HIT_IOVA: usize = 0x548;
    /// Read-only: the watched page which that access reached.
    pub const HIT_PAGE: usize = 0x550;

    /// Bit of [`REACHABLE`]: a live page table maps the page.
    pub const BY_TABLE: u64 = 1 << 0;
    /// Bit of [`REACHABLE`]: a TLB entry leads to the page.
    pub const BY_TLB: u64 = 1 << 1;
    /// Bit of [`REACHABLE`]: the page is a page table of a live context.
    pub const IS_TABLE: u64 = 1 << 2;
}

/// Mailbox of the guest's kernel: pages that it is about to give back. See
/// Documentation/testing.rst, "The watch".
///
/// The kernel writes the physical address of a page to [`LIST`](freed::LIST), once. Whenever pages
/// are freed it puts them there: their number, at most [`MAX`](freed::MAX), as a 64-bit word, then
/// a word for each, the physical address with the order (the number of pages as a power of two) in
/// the low 8 bits. Then it reads [`CHECK`](freed::CHECK).
pub mod freed {
    /// Write the physical address of the page for the lists.
    pub const LIST: usize = 0x600;
    /// Reading it looks up the pages of the list, in the tables as they are now and in the TLB. It
    /// gives 0, or the number, from 1 on, of the first entry to which something leads; the other
    /// registers then say what. A root of tables that is in the list ends them: they aren't looked
    /// at any more.
    pub const CHECK: usize = 0x608;
    /// Read-only: the page.
    pub const PAGE: usize = 0x610;
    /// Read-only: what leads there, a combination of [`watch::BY_TABLE`](super::watch::BY_TABLE),
    /// [`watch::BY_TLB`](super::watch::BY_TLB), [`watch::IS_TABLE`](super::watch::IS_TABLE) and
    /// [`TABLE_IN_TLB`].
    pub const HOW: usize = 0x618;
    /// Read-only: the first iova that leads there (0 for a table that only tables lead to).
    pub const IOVA: usize = 0x620;
    /// Read-only: the root of that iova's tables (0 for the TLB).
    pub const TTBR0: usize = 0x628;
    /// Not 0: a table may be freed while a table leads there, if no leaf is below it, and a root
    /// while it is loaded. The kernel's own msm.ko does that at the end of each context.
    pub const LENIENT: usize = 0x630;
    /// Read-only: how many pages were looked up.
    pub const CHECKED: usize = 0x638;
    /// Read-only: how many roots were freed while they were loaded, and let pass.
    pub const DEAD_ROOTS: usize = 0x640;
    /// Read-only: how many tables [`LENIENT`] has let pass, roots left out.
    pub const BARE_TABLES: usize = 0x648;

    /// Most entries of a list.
    pub const MAX: u64 = 511;

    /// Bit of [`HOW`]: the walk cache leads into the page, which is a table.
    pub const TABLE_IN_TLB: u64 = 1 << 3;
}

/// The display, if there is one.
pub mod display {
    /// Read-only: 0 without a display, 1 when its panel is off, 2 when it is on.
    pub const STATE: usize = 0x700;
    /// Read-only: the root of the tables that the display reads by, 0 if it doesn't translate.
    pub const TTBR0: usize = 0x708;
    /// Read-only: where the lowest layer's image is, as flushed; 0 without one.
    pub const BASE: usize = 0x710;
    /// Read-only: frames that were read to their end since start. Unlike the counter, it isn't
    /// reset.
    pub const FRAMES: usize = 0x718;
    /// Read-only: width of the last of these in bits 31:0, height in bits 63:32.
    pub const SIZE: usize = 0x720;
    /// Write x in bits 31:0, y in bits 63:32.
    pub const POINT: usize = 0x728;
    /// Read-only: the colour that this frame has there, 0xrrggbb.
    pub const COLOUR: usize = 0x730;

    /// Write any value: this frame, and no later one, is the screenshot that the device writes at
    /// its end.
    pub const KEEP: usize = 0x738;

    /// Value of [`STATE`]: there is no display.
    pub const NONE: u64 = 0;
    /// Value of [`STATE`]: the panel is off.
    pub const OFF: u64 = 1;
    /// Value of [`STATE`]: the panel is on.
    pub const ON: u64 = 2;
}

/// Mailbox: what a row of up to 64 pages of a context looks like, in one go.
///
/// Write [`TTBR0`](row::TTBR0), [`ASID`](row::ASID) and [`COUNT`](row::COUNT), then
/// [`FIRST`](row::FIRST); the answers are there when that write is done. In each, bit n is page
/// n's.
pub mod row {
    /// Write an iova: asks about the pages from there on.
    pub const FIRST: usize = 0x580;
    /// Physical address of the top-level table, or 0 for the current context.
    pub const TTBR0: usize = 0x588;
    /// The context's ASID; only [`STALE`] looks at it.
    pub const ASID: usize = 0x590;
    /// Number of pages, at most 64.
    pub const COUNT: usize = 0x598;
    /// Read-only: the tables lead somewhere.
    pub const MAPPED: usize = 0x5a0;
    /// Read-only: … and allow writes.
    pub const WRITABLE: usize = 0x5a8;
    /// Read-only: the TLB has an entry of that ASID which the tables don't agree with.
    pub const STALE: usize = 0x5b0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_one_name_each() {
        assert_eq!(
            counter::BASE + 8 * (counter::COUNT - 1),
            counter::FINITE_READS
        );
        for (i, name) in counter::NAMES.iter().enumerate() {
            assert!(!counter::NAMES[..i].contains(name), "{name} twice");
        }
    }
}
