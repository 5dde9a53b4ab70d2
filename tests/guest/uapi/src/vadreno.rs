// SPDX-License-Identifier: GPL-2.0-only

//! The virtual Adreno's control BAR, where there is one. See the crate `vadreno-ctl` for what its
//! registers do.

use crate::{Errno, Result};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File, OpenOptions},
    io,
    marker::PhantomData,
};
use vadreno_ctl as ctl;

/// The control BAR.
///
/// While it is open the GPU stays awake: asleep, its SMMU translates nothing.
#[derive(Debug)]
pub struct Vadreno {
    bar: MmapRaw,
    file: File,
    _awake: Awake,
}

/// Lets the GPU sleep when it is idle, or not.
fn keep_awake(awake: bool) -> io::Result<()> {
    for card in fs::read_dir("/sys/class/drm")? {
        let control = card?.path().join("device/power/control");
        let msm = control
            .parent()
            .and_then(|power| fs::canonicalize(power.join("../driver")).ok())
            .is_some_and(|driver| driver.ends_with("adreno"));
        if msm {
            fs::write(control, if awake { "on" } else { "auto" })?;
        }
    }
    Ok(())
}

/// While this lives, the GPU doesn't fall asleep, be it a virtual one or not.
#[derive(Debug)]
pub struct Awake(());

impl Awake {
    /// Wakes it.
    pub fn new() -> io::Result<Self> {
        keep_awake(true)?;
        Ok(Self(()))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        let _ = keep_awake(false);
    }
}

/// Has a page-table entry lead to the physical page `page`.
fn leading_to(page: u64) -> impl FnOnce(u64) -> u64 {
    const ADDRESS: u64 = 0xffff_ffff_f000;
    move |entry| (entry & !ADDRESS) | (page & ADDRESS)
}

/// What a page-table walk finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// This physical address.
    Mapped(u64),
    /// Nothing.
    Unmapped,
    /// A mapping that doesn't allow the access.
    Denied,
    /// Something that ends the walk otherwise: the `STATUS` register.
    Other(u64),
}

/// How the GPU can reach a physical page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// A combination of the `watch` bits; 0 when it can't.
    pub how: u64,
    /// The first address that leads there.
    pub iova: u64,
    /// The context of that address; 0 when it was found in the TLB, or is the kernel's.
    pub ttbr0: u64,
}

/// What a row of pages looks like; bit n is page n's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The tables lead somewhere.
    pub mapped: u64,
    /// … and allow writes.
    pub writable: u64,
    /// The TLB has an entry that the tables don't agree with.
    pub stale: u64,
}

impl Vadreno {
    /// Finds the device and maps its control BAR.
    ///
    /// # Errors
    /// `ENODEV`: this is not a virtual Adreno, or one with another register map.
    pub fn open() -> Result<Self> {
        let is = |path: &std::path::Path, name: &str, value: u16| {
            fs::read_to_string(path.join(name))
                .is_ok_and(|text| text.trim() == format!("{value:#06x}"))
        };
        let path = fs::read_dir("/sys/bus/pci/devices")
            .map_err(|_| Errno::ENODEV)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| is(path, "vendor", ctl::PCI_VENDOR) && is(path, "device", ctl::PCI_DEVICE))
            .ok_or(Errno::ENODEV)?;
        let errno = |e: io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.join(format!("resource{}", ctl::BAR)))
            .map_err(errno)?;
        let bar = MmapOptions::new()
            .len(ctl::BAR_SIZE)
            .map_raw(&file)
            .map_err(errno)?;
        let device = Self {
            bar,
            file,
            _awake: Awake::new().map_err(errno)?,
        };
        if device.read(ctl::ID) != ctl::ID_VALUE || device.read(ctl::VERSION) != ctl::VERSION_VALUE
        {
            return Err(Errno::ENODEV);
        }
        Ok(device)
    }

    /// Reads a register or a counter.
    pub fn read(&self, offset: usize) -> u64 {
        // SAFETY: inside the BAR, aligned; volatile since it is a register.
        unsafe { self.register(offset).read_volatile() }
    }

    /// Writes a register.
    pub fn write(&self, offset: usize, value: u64) {
        // SAFETY: as above.
        unsafe { self.register(offset).write_volatile(value) }
    }

    fn register(&self, offset: usize) -> *mut u64 {
        assert!(
            offset % 8 == 0 && offset < ctl::BAR_SIZE,
            "register {offset:#x}"
        );
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.bar.as_mut_ptr().add(offset).cast() }
    }

    /// Takes the mailboxes for as long as the closure runs.
    fn exclusively<T>(&self, ask: impl FnOnce() -> T) -> Result<T> {
        let file = self.file.try_clone().map_err(|_| Errno::EMFILE)?;
        let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
        Ok(ask())
    }

    /// Walks the page tables of the context that ran last, as they are now, without the TLB.
    pub fn translate(&self, iova: u64) -> Result<Translation> {
        self.translate_in(0, iova)
    }

    /// As [`translate`](Self::translate), by the tables of the context with that TTBR0, whichever
    /// ran last.
    pub fn translate_in(&self, ttbr0: u64, iova: u64) -> Result<Translation> {
        use ctl::translate::*;
        self.exclusively(|| {
            self.walk(iova, ttbr0);
            match self.read(STATUS) {
                OK => Translation::Mapped(self.read(PA)),
                TRANSLATION => Translation::Unmapped,
                PERMISSION => Translation::Denied,
                other => Translation::Other(other),
            }
        })
    }

    /// TTBR0 and ASID of the context that ran last.
    pub fn current(&self) -> (u64, u64) {
        (
            self.read(ctl::current::TTBR0),
            self.read(ctl::current::ASID),
        )
    }

    /// Looks at `count` pages (at most 64) from `iova` on in a context's page tables and in the
    /// TLB.
    pub fn row(&self, (ttbr0, asid): (u64, u64), iova: u64, count: u64) -> Result<Row> {
        use ctl::row::*;
        self.exclusively(|| {
            self.write(TTBR0, ttbr0);
            self.write(ASID, asid);
            self.write(COUNT, count);
            self.write(FIRST, iova);
            Row {
                mapped: self.read(MAPPED),
                writable: self.read(WRITABLE),
                stale: self.read(STALE),
            }
        })
    }

    /// The level of the last page-table entry that a walk for `iova` reads, in the context that ran
    /// last: 0 to 3. Tables down to that level exist.
    ///
    /// # Errors
    /// `EIO`: it reads none, as the SMMU is off or a table lies outside the memory.
    pub fn walk_level(&self, iova: u64) -> Result<u64> {
        use ctl::translate::*;
        self.exclusively(|| {
            self.write(IOVA, iova);
            self.write(TTBR0, 0);
            self.write(GO, READ);
            match self.read(STATUS) {
                OFF | EXTERNAL => Err(Errno::EIO),
                _ => Ok(self.read(LEVEL)),
            }
        })?
    }

    /// How many physically contiguous runs of pages `length` bytes at `iova` lead to in the context
    /// that ran last.
    ///
    /// # Errors
    /// `EFAULT`: a page isn't mapped, or there are more than a GiB.
    pub fn runs(&self, iova: u64, length: u64) -> Result<u64> {
        use ctl::translate::*;
        self.exclusively(|| {
            self.write(IOVA, iova);
            self.write(TTBR0, 0);
            self.write(RUNS, length);
            match self.read(RUNS) {
                0 => Err(Errno::EFAULT),
                runs => Ok(runs),
            }
        })?
    }

    /// How the GPU can reach a physical page: a combination of the `watch` bits, 0 when it can't.
    pub fn reachable(&self, page: u64) -> Result<u64> {
        Ok(self.reach(page)?.how)
    }

    /// How, and by which address, the GPU can reach a physical page.
    pub fn reach(&self, page: u64) -> Result<Reach> {
        self.exclusively(|| {
            self.write(ctl::watch::PAGE, page);
            Reach {
                how: self.read(ctl::watch::REACHABLE),
                iova: self.read(ctl::watch::IOVA),
                ttbr0: self.read(ctl::watch::TTBR0),
            }
        })
    }

    /// Takes a page-table entry of the context that ran last away, behind the kernel's back, until
    /// the guard is dropped.
    ///
    /// # Errors
    /// `ENOENT`: nothing is mapped there.
    pub fn lose(&self, iova: u64) -> Result<LostEntry<'_>> {
        self.change(self.read(ctl::current::TTBR0), iova, |_| 0)
    }

    /// Has a page-table entry of the context that ran last lead to the physical page `page`, until
    /// the guard is dropped.
    ///
    /// # Errors
    /// `ENOENT`: nothing is mapped there.
    pub fn divert(&self, iova: u64, page: u64) -> Result<LostEntry<'_>> {
        self.change(self.read(ctl::current::TTBR0), iova, leading_to(page))
    }

    /// … of the display's tables, at an offset of what is shown as the lowest layer.
    pub fn divert_shown(&self, offset: u64, page: u64) -> Result<LostEntry<'_>> {
        self.change_shown(offset, leading_to(page))
    }

    /// Has a kernel that loses the mapping of what is shown, at an offset, until the guard is
    /// dropped.
    ///
    /// # Errors
    /// `ENOENT`: nothing is mapped there.
    pub fn lose_shown(&self, offset: u64) -> Result<LostEntry<'_>> {
        self.change_shown(offset, |_| 0)
    }

    fn change_shown(&self, offset: u64, to: impl FnOnce(u64) -> u64) -> Result<LostEntry<'_>> {
        let base = self.read(ctl::display::BASE);
        self.change(self.read(ctl::display::TTBR0), base + offset, to)
    }

    fn change(&self, ttbr0: u64, iova: u64, to: impl FnOnce(u64) -> u64) -> Result<LostEntry<'_>> {
        use ctl::translate::*;
        self.exclusively(|| {
            self.walk(iova, ttbr0);
            if self.read(STATUS) != OK {
                return Err(Errno::ENOENT);
            }
            let entry = self.read(PTE);
            self.write(STORE, to(entry));
            Ok(LostEntry {
                device: self,
                iova,
                ttbr0,
                entry,
            })
        })?
    }

    fn walk(&self, iova: u64, ttbr0: u64) {
        use ctl::translate::*;
        self.write(IOVA, iova);
        self.write(TTBR0, ttbr0);
        self.write(GO, READ);
    }

    /// Forgets the context of a TTBR0 that is no more; [`reachable`](Self::reachable) doesn't look
    /// at its tables again, until a job loads it.
    pub fn forget(&self, ttbr0: u64) {
        self.write(ctl::watch::FORGET, ttbr0);
    }

    /// Forgets all contexts: those that go on are known again with their next job.
    pub fn forget_all(&self) {
        self.write(ctl::watch::FORGET, ctl::watch::ALL);
    }

    /// Watches a physical page: until the guard is dropped, accesses to it count as
    /// [`WATCH_HITS`](ctl::counter::WATCH_HITS), and addresses that lead to it when a job retires
    /// as [`WATCH_LIVE`](ctl::counter::WATCH_LIVE).
    pub fn watch(&self, page: u64) -> WatchedPage<'_> {
        self.write(ctl::watch::ADD, page);
        WatchedPage { device: self, page }
    }

    /// Reads at random so many times per second, until the guard is dropped.
    pub fn speculate(&self, rate: u64) -> Speculation<'_> {
        let before = self.read(ctl::SPECULATE);
        self.write(ctl::SPECULATE, rate);
        Speculation {
            device: self,
            before,
        }
    }

    /// Ignores TLB invalidations until the guard is dropped.
    pub fn ignore_tlbi(&self) -> IgnoredTlbi<'_> {
        let before = self.read(ctl::IGNORE_TLBI);
        self.write(ctl::IGNORE_TLBI, 1);
        IgnoredTlbi {
            device: self,
            before,
        }
    }

    /// Has the hang detector find the GPU hung. It doesn't recover while it isn't [allowed to
    /// sleep](Self::let_sleep).
    pub fn hang(&self) {
        self.write(ctl::HANG, 1);
    }

    /// Lets the GPU sleep when it is idle, until the guard is dropped.
    pub fn let_sleep(&self) -> io::Result<Sleepy<'_>> {
        keep_awake(false)?;
        Ok(Sleepy(PhantomData))
    }

    /// Stops the CP before its next packet until the guard is dropped.
    pub fn hold_cp(&self) -> HeldCp<'_> {
        self.write(ctl::HOLD_CP, 1);
        HeldCp { device: self }
    }
}

/// While this lives, the GPU may sleep.
#[derive(Debug)]
pub struct Sleepy<'a>(PhantomData<&'a Vadreno>);

impl Drop for Sleepy<'_> {
    fn drop(&mut self) {
        let _ = keep_awake(true);
    }
}

/// While this lives, a page-table entry is missing or another one. To be dropped before the kernel
/// looks for the entry.
#[derive(Debug)]
pub struct LostEntry<'a> {
    device: &'a Vadreno,
    iova: u64,
    ttbr0: u64,
    entry: u64,
}

impl Drop for LostEntry<'_> {
    fn drop(&mut self) {
        let _ = self.device.exclusively(|| {
            self.device.walk(self.iova, self.ttbr0);
            self.device.write(ctl::translate::STORE, self.entry);
        });
    }
}

/// While this lives, the CP doesn't start another packet.
#[derive(Debug)]
pub struct HeldCp<'a> {
    device: &'a Vadreno,
}

impl Drop for HeldCp<'_> {
    fn drop(&mut self) {
        self.device.write(ctl::HOLD_CP, 0);
    }
}

/// While this lives, accesses to the page are counted.
#[derive(Debug)]
pub struct WatchedPage<'a> {
    device: &'a Vadreno,
    page: u64,
}

impl Drop for WatchedPage<'_> {
    fn drop(&mut self) {
        self.device.write(ctl::watch::REMOVE, self.page);
    }
}

/// While this lives, the GPU reads at random.
#[derive(Debug)]
pub struct Speculation<'a> {
    device: &'a Vadreno,
    before: u64,
}

impl Drop for Speculation<'_> {
    fn drop(&mut self) {
        self.device.write(ctl::SPECULATE, self.before);
    }
}

/// While this lives, the TLB forgets nothing.
#[derive(Debug)]
pub struct IgnoredTlbi<'a> {
    device: &'a Vadreno,
    before: u64,
}

impl Drop for IgnoredTlbi<'_> {
    fn drop(&mut self) {
        self.device.write(ctl::IGNORE_TLBI, self.before);
    }
}
