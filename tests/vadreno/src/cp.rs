// SPDX-License-Identifier: GPL-2.0-only

//! The command processor: a thread that fetches PM4 packets through the SMMU and carries them out.
//!
//! It blocks while an access is stalled, while it waits for memory or a register and while a test
//! holds it; registers stay readable meanwhile. A reset of the GPU is noticed at the next packet,
//! poll or wake-up, and drops what the CP was doing.

use crate::blit;
use crate::board::Board;
use crate::device::Device;
use crate::gpu::{self, apriv, int, Activity};
use crate::pm4::{condition, dword, op, qword, Header, UNSUPPORTED, WITHOUT_EFFECT};
use crate::preempt;
use crate::regs::RegFile;
use crate::smmu::{Access, Client, Fault, Origin, Resume};
use crate::trace;
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use vadreno_ctl::counter;

/// Why the CP stops what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The GPU was reset.
    Reset,
    /// It hangs, until the GPU is reset.
    Hang(Hang),
}

/// Why the CP hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hang {
    /// A packet that no hardware knows.
    BadPacket(u32),
    /// What is to be known of a ring isn't where the kernel says.
    BadRecord,
    /// IBs nested too deep.
    TooDeep,
    /// The SQE was halted while an access was stalled.
    HaltedOnFault,
}

/// IB levels below the ring.
const MAX_DEPTH: u32 = 3;

/// Dwords fetched at once.
const WINDOW: usize = 64;

/// A list of dwords in GPU memory: the ring or an IB.
struct Stream {
    base: u64,
    /// Dwords after which it starts again from its base.
    wrap: u32,
    /// Next dword.
    at: u32,
    /// Dwords not consumed.
    left: u32,
    window: [u32; WINDOW],
    /// Dwords of the window that were consumed, and that there are.
    used: usize,
    have: usize,
}

impl Stream {
    fn new(base: u64, wrap: u32, at: u32, left: u32) -> Self {
        Self {
            base,
            wrap: wrap.max(1),
            at,
            left,
            window: [0; WINDOW],
            used: 0,
            have: 0,
        }
    }

    fn next(&mut self, cp: &Cp<'_>) -> Result<u32, Stop> {
        if self.left == 0 {
            // The payload goes beyond the end.
            return Err(Stop::Hang(Hang::BadPacket(0)));
        }
        if self.used == self.have {
            let n = self.left.min(self.wrap - self.at).min(WINDOW as u32) as usize;
            let mut bytes = [0; 4 * WINDOW];
            let from = self.base.wrapping_add(4 * u64::from(self.at));
            // Don't touch a page before it is needed.
            let in_page = ((0x1000 - (from & 0xffc)) / 4) as usize;
            let n = n.min(in_page);
            cp.read_as(cp.fetcher(), from, &mut bytes[..4 * n])?;
            for (word, bytes) in self.window.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            (self.used, self.have) = (0, n);
        }
        let word = self.window[self.used];
        self.used += 1;
        self.advance(1);
        Ok(word)
    }

    fn skip(&mut self, n: u32) {
        let n = n.min(self.left);
        self.used = self.used.saturating_add(n as usize).min(self.have);
        self.advance(n);
    }

    fn advance(&mut self, n: u32) {
        self.at = ((u64::from(self.at) + u64::from(n)) % u64::from(self.wrap)) as u32;
        self.left -= n;
    }
}

/// The CP while it runs what is between rptr and wptr.
pub struct Cp<'a> {
    device: &'a Device,
    /// Resets of the GPU when it started.
    generation: u64,
    /// It runs the ring's packets, and not those of an IB.
    in_ring: Cell<bool>,
    /// The ring has said that it may be left.
    yielded: Cell<bool>,
    /// Mode of the last CP_SET_MARKER.
    marker: Cell<u32>,
    /// Predicate bits of CP_REG_TEST.
    predicate: Cell<u32>,
}

impl<'a> Cp<'a> {
    /// A CP that runs until the next reset of the GPU.
    pub fn new(device: &'a Device) -> Self {
        Self {
            device,
            generation: device.gpu.generation(),
            in_ring: Cell::new(true),
            yielded: Cell::new(false),
            marker: Cell::new(0),
            predicate: Cell::new(0),
        }
    }

    /// What all parts share.
    pub fn board(&self) -> &'a Board {
        &self.device.board
    }

    /// A plain register.
    pub fn reg(&self, reg: u32) -> u32 {
        self.device.gpu.regs.get(reg)
    }

    /// Two plain registers.
    pub fn reg64(&self, reg: u32) -> u64 {
        self.device.gpu.regs.get64(reg)
    }

    /// All plain registers.
    pub fn plain(&self) -> &'a RegFile {
        &self.device.gpu.regs
    }

    /// Raises an interrupt of the GPU.
    pub fn raise(&self, bit: u32) {
        self.device.gpu.raise(self.board(), bit);
    }

    /// Switches to another context's tables.
    pub fn load_tables(&self, ttbr0: u64, contextidr: u32) {
        self.device
            .smmu
            .table_update(self.board(), ttbr0, contextidr, 0);
    }

    fn check_reset(&self) -> Result<(), Stop> {
        if self.device.gpu.generation() == self.generation {
            Ok(())
        } else {
            Err(Stop::Reset)
        }
    }

    /// With which privilege packets access memory: those of an IB and the engines without, those of
    /// the ring as CP_APRIV_CNTL says.
    fn origin(&self, client: Client) -> Origin {
        Origin {
            client,
            privileged: client == Client::Cp && self.in_ring.get() && self.may(apriv::RING),
        }
    }

    /// With which privilege packets are fetched.
    fn fetcher(&self) -> Origin {
        Origin {
            client: Client::Cp,
            privileged: self.in_ring.get() && self.may(apriv::RING_FETCH),
        }
    }

    fn may(&self, bit: u32) -> bool {
        self.reg(gpu::CP_APRIV_CNTL) & bit != 0
    }

    /// Reads GPU memory for a packet; stalls on faults.
    pub fn read(&self, client: Client, iova: u64, buf: &mut [u8]) -> Result<(), Stop> {
        self.read_as(self.origin(client), iova, buf)
    }

    /// … as whoever it is for.
    pub fn read_as(&self, origin: Origin, mut iova: u64, mut buf: &mut [u8]) -> Result<(), Stop> {
        while !buf.is_empty() {
            let n = buf.len().min(0x1000 - (iova & 0xfff) as usize);
            let (now, later) = std::mem::take(&mut buf).split_at_mut(n);
            if !self.access(origin.client, || {
                self.device
                    .smmu
                    .access(self.board(), origin, iova, Access::Read(&mut *now))
            })? {
                now.fill(0);
            }
            buf = later;
            iova = iova.wrapping_add(n as u64);
        }
        Ok(())
    }

    /// Writes GPU memory for a packet; stalls on faults.
    pub fn write(&self, client: Client, iova: u64, buf: &[u8]) -> Result<(), Stop> {
        self.write_as(self.origin(client), iova, buf)
    }

    /// … as whoever it is for.
    pub fn write_as(&self, origin: Origin, mut iova: u64, mut buf: &[u8]) -> Result<(), Stop> {
        while !buf.is_empty() {
            let n = buf.len().min(0x1000 - (iova & 0xfff) as usize);
            let (now, later) = buf.split_at(n);
            self.access(origin.client, || {
                self.device
                    .smmu
                    .access(self.board(), origin, iova, Access::Write(now))
            })?;
            buf = later;
            iova = iova.wrapping_add(n as u64);
        }
        Ok(())
    }

    /// Tries an access until it is done (`true`) or dropped.
    fn access(
        &self,
        client: Client,
        mut attempt: impl FnMut() -> Result<(), Fault>,
    ) -> Result<bool, Stop> {
        loop {
            self.check_reset()?;
            match attempt() {
                Ok(()) => return Ok(true),
                Err(fault) => {
                    if client == Client::Tp {
                        // The kernel asks UCHE which of its clients it was: 7 is the TP.
                        self.device.gpu.regs.set(gpu::UCHE_CLIENT_PF, 7);
                    }
                    if self.fault(&fault)? == Resume::Terminate {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Reports a fault, and waits when the SMMU stalls the access.
    fn fault(&self, fault: &Fault) -> Result<Resume, Stop> {
        let gpu = &self.device.gpu;
        self.delay()?;
        let (vector, stalled) = {
            let mut control = gpu.control();
            self.check_reset()?;
            let (vector, stalled) = self.device.smmu.latch(self.board(), fault, true);
            if stalled {
                control.activity = Activity::Stalled;
                control.resume = None;
            }
            (vector, stalled)
        };
        self.board().trace.flush();
        if let Some(vector) = vector {
            self.board().irqs.raise(vector, &self.board().counters);
        }
        if !stalled {
            return Ok(Resume::Terminate);
        }
        let mut control = gpu.control();
        let resume = loop {
            self.check_reset()?;
            match control.resume.take() {
                Some(resume) => break resume,
                None => control = gpu.wait(control),
            }
        };
        control.activity = Activity::Busy;
        if gpu.halted() {
            return Err(Stop::Hang(Hang::HaltedOnFault));
        }
        Ok(resume)
    }

    /// Sleeps for `time`, unless the GPU is reset.
    fn sleep(&self, time: Duration) -> Result<(), Stop> {
        let until = Instant::now() + time;
        let gpu = &self.device.gpu;
        let mut control = gpu.control();
        loop {
            self.check_reset()?;
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            control = gpu.wait_for(control, until - now);
        }
    }

    fn delay(&self) -> Result<(), Stop> {
        self.board().delay().map_or(Ok(()), |time| self.sleep(time))
    }

    /// Before each packet: waits while a test holds the CP.
    fn hold(&self) -> Result<(), Stop> {
        self.check_reset()?;
        let held = || self.board().settings.hold_cp.load(Relaxed);
        if held() {
            let gpu = &self.device.gpu;
            let mut control = gpu.control();
            while held() {
                self.check_reset()?;
                control.activity = Activity::Held;
                control = gpu.wait(control);
            }
            self.check_reset()?;
            control.activity = Activity::Busy;
        }
        Ok(())
    }

    fn read32(&self, iova: u64) -> Result<u32, Stop> {
        let mut buf = [0; 4];
        self.read(Client::Cp, iova & !3, &mut buf)?;
        Ok(u32::from_le_bytes(buf))
    }

    fn write32(&self, iova: u64, value: u32) -> Result<(), Stop> {
        self.write(Client::Cp, iova & !3, &value.to_le_bytes())
    }

    /// Runs the ring from rptr to `wptr`.
    fn run_ring(&self, rptr: u32, wptr: u32) -> Result<(), Stop> {
        let size = gpu::ring_size(self.reg(gpu::CP_RB_CNTL));
        let left = wptr.wrapping_sub(rptr) % size;
        let base = self.reg64(gpu::CP_RB_BASE);
        let mut ring = Stream::new(base, size, rptr % size, left);
        while ring.left > 0 {
            self.run_packet(&mut ring, 0)?;
            let mut control = self.device.gpu.control();
            self.check_reset()?;
            control.rptr = if ring.left == 0 { wptr } else { ring.at };
            drop(control);
            if self.yielded.take() && preempt::wanted(self) {
                break;
            }
        }
        self.write_shadow()
    }

    /// Goes over to the ring that the kernel wants, if it does.
    fn preempt(&self) -> Result<(), Stop> {
        if !preempt::wanted(self) {
            return Ok(());
        }
        let (record, rptr) = {
            let control = self.device.gpu.control();
            (control.record, control.rptr)
        };
        let (rptr, record) = preempt::switch(self, record, rptr)?;
        {
            let mut control = self.device.gpu.control();
            self.check_reset()?;
            control.rptr = rptr;
            control.record = record;
        }
        preempt::done(self);
        Ok(())
    }

    /// Writes rptr to memory, for the kernel to see.
    fn write_shadow(&self) -> Result<(), Stop> {
        const NO_UPDATE: u32 = 1 << 27;
        let shadow = self.reg64(gpu::CP_RB_RPTR_ADDR);
        if shadow != 0 && self.reg(gpu::CP_RB_CNTL) & NO_UPDATE == 0 {
            let rptr = self.device.gpu.control().rptr;
            let origin = Origin {
                client: Client::Cp,
                privileged: self.may(apriv::RPTR),
            };
            self.write_as(origin, shadow & !3, &rptr.to_le_bytes())?;
        }
        Ok(())
    }

    fn run_ib(&self, base: u64, dwords: u32, depth: u32) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Hang(Hang::TooDeep));
        }
        // Progress, for the hang check and for the state capture.
        let progress = (depth <= 2).then(|| gpu::CP_IB1_BASE + 3 * (depth - 1));
        let mut ib = Stream::new(base & !3, u32::MAX, 0, dwords);
        let from = self.in_ring.replace(false);
        if let Some(reg) = progress {
            self.device.gpu.regs.set64(reg, base);
        }
        while ib.left > 0 {
            if let Some(reg) = progress {
                self.device.gpu.regs.set(reg + 2, ib.left);
            }
            self.run_packet(&mut ib, depth)?;
        }
        if let Some(reg) = progress {
            self.device.gpu.regs.set(reg + 2, 0);
        }
        self.in_ring.set(from);
        Ok(())
    }

    fn run_packet(&self, stream: &mut Stream, depth: u32) -> Result<(), Stop> {
        self.hold()?;
        let first = stream.next(self)?;
        let bad = Err(Stop::Hang(Hang::BadPacket(first)));
        let Some(header) = Header::decode(first) else {
            return bad;
        };
        let (Header::Op { count, .. } | Header::Write { count, .. }) = header;
        if count > stream.left {
            return bad;
        }
        self.board().counters.bump(counter::PACKETS);
        let mut payload = Vec::with_capacity(count as usize);
        for _ in 0..count {
            payload.push(stream.next(self)?);
        }
        match header {
            Header::Write { reg, .. } => {
                trace!(
                    self.board().trace,
                    "pkt4 depth={depth} reg={reg:#x} count={count}"
                );
                for (reg, value) in (reg..).zip(payload) {
                    self.device.reg_write(reg, value);
                }
                Ok(())
            }
            Header::Op { op, .. } => {
                trace!(
                    self.board().trace,
                    "pkt7 depth={depth} op={op:#x} count={count}"
                );
                match op {
                    op::COND_EXEC => {
                        let flag = self.read32(qword(&payload, 0))?;
                        let time = self.read32(qword(&payload, 2))?;
                        let ahead = dword(&payload, 4).wrapping_sub(time) < 0x8000_0000;
                        if flag == 0 || !ahead {
                            stream.skip(dword(&payload, 5));
                        }
                        Ok(())
                    }
                    op::COND_REG_EXEC => {
                        if !self.register_condition(&payload) {
                            stream.skip(payload.last().copied().unwrap_or(0) & 0xff_ffff);
                        }
                        Ok(())
                    }
                    op::WHERE_AM_I => {
                        let rptr = if self.in_ring.get() {
                            stream.at
                        } else {
                            self.device.gpu.control().rptr
                        };
                        // Privileged without CP_APRIV_CNTL: it is there for GPUs that have none.
                        let origin = Origin {
                            client: Client::Cp,
                            privileged: self.in_ring.get(),
                        };
                        self.write_as(origin, qword(&payload, 0) & !3, &rptr.to_le_bytes())
                    }
                    _ => self.run_op(first, op, &payload, depth),
                }
            }
        }
    }

    fn run_op(&self, header: u32, op: u8, p: &[u32], depth: u32) -> Result<(), Stop> {
        match op {
            op::MEM_WRITE => {
                let bytes: Vec<u8> = p.iter().skip(2).flat_map(|v| v.to_le_bytes()).collect();
                self.write(Client::Cp, qword(p, 0) & !3, &bytes)
            }
            op::MEM_TO_MEM => self.mem_to_mem(p),
            op::MEMCPY => self.memcpy(dword(p, 0), qword(p, 1), qword(p, 3)),
            op::MEM_TO_REG => {
                let first = dword(p, 0) & 0x3_ffff;
                let shift = if dword(p, 0) & (1 << 30) != 0 { 2 } else { 0 };
                for n in 0..((dword(p, 0) >> 19) & 0x7ff).max(1) {
                    let value = self.read32(qword(p, 1).wrapping_add(4 * u64::from(n)))?;
                    self.device.reg_write(first.wrapping_add(n), value << shift);
                }
                Ok(())
            }
            op::REG_TO_MEM => self.reg_to_mem(p),
            op::REG_WRITE => {
                self.device.reg_write(dword(p, 1) & 0x3_ffff, dword(p, 2));
                Ok(())
            }
            op::REG_RMW => {
                self.reg_rmw(p);
                Ok(())
            }
            op::REG_TEST => {
                let test = dword(p, 0);
                let value = (self.device.reg_read(test & 0x3_ffff) >> ((test >> 20) & 31)) & 1;
                let bit = (test >> 26) & 31;
                self.predicate
                    .set(self.predicate.get() & !(1 << bit) | (value << bit));
                Ok(())
            }
            op::SET_MARKER => {
                self.marker.set(dword(p, 0) & 0xf);
                Ok(())
            }
            op::SET_PSEUDO_REG => {
                const NON_SECURE_SAVE_ADDR: u32 = 1;
                for set in p.chunks_exact(3) {
                    if set[0] & 0x7ff == NON_SECURE_SAVE_ADDR {
                        self.device.gpu.control().record = qword(set, 1);
                    }
                }
                Ok(())
            }
            op::CONTEXT_SWITCH_YIELD => {
                self.yielded.set(self.in_ring.get());
                Ok(())
            }
            op::CONTEXT_REG_BUNCH => {
                for pair in p.chunks_exact(2) {
                    self.device.reg_write(pair[0] & 0x3_ffff, pair[1]);
                }
                Ok(())
            }
            op::WAIT_MEM_GTE => self.poll(|| Ok(self.read32(qword(p, 1))? >= dword(p, 3))),
            op::WAIT_REG_EQ => self.poll(|| {
                Ok(self.device.reg_read(dword(p, 0) & 0x3_ffff) & dword(p, 2) == dword(p, 1))
            }),
            op::WAIT_REG_MEM => self.poll(|| self.polled(p)),
            op::COND_WRITE5 => {
                if self.polled(p)? {
                    if dword(p, 0) & (1 << 8) != 0 {
                        self.write32(qword(p, 5), dword(p, 7))?;
                    } else {
                        self.device.reg_write(dword(p, 5) & 0x3_ffff, dword(p, 7));
                    }
                }
                Ok(())
            }
            op::EVENT_WRITE => self.event_write(p),
            op::INDIRECT_BUFFER | op::INDIRECT_BUFFER_PFD => {
                self.run_ib(qword(p, 0), dword(p, 2) & 0xf_ffff, depth + 1)
            }
            op::SMMU_TABLE_UPDATE => {
                self.device
                    .smmu
                    .table_update(self.board(), qword(p, 0), dword(p, 2), dword(p, 3));
                Ok(())
            }
            op::BLIT => {
                if !blit::run(self)? {
                    self.unsupported(op);
                }
                Ok(())
            }
            _ if WITHOUT_EFFECT.contains(&op) || self.device.model.opcodes.contains(&op) => Ok(()),
            _ if UNSUPPORTED.contains(&op) => {
                self.unsupported(op);
                Ok(())
            }
            _ => Err(Stop::Hang(Hang::BadPacket(header))),
        }
    }

    fn unsupported(&self, op: u8) {
        self.board().counters.bump(counter::UNSUPPORTED);
        trace!(self.board().trace, "unsupported op={op:#x}");
    }

    fn mem_to_mem(&self, p: &[u32]) -> Result<(), Stop> {
        let wide = dword(p, 0) & (1 << 29) != 0;
        let n = if wide { 8 } else { 4 };
        let mut sum = 0u64;
        for (i, source) in p.get(3..).unwrap_or(&[]).chunks_exact(2).enumerate() {
            let mut buf = [0; 8];
            let from = qword(source, 0) & !3;
            self.read(Client::Cp, from, &mut buf[..n])?;
            let value = u64::from_le_bytes(buf);
            let negate = i < 3 && dword(p, 0) & (1 << i) != 0;
            sum = if negate {
                sum.wrapping_sub(value)
            } else {
                sum.wrapping_add(value)
            };
        }
        self.write(Client::Cp, qword(p, 1) & !3, &sum.to_le_bytes()[..n])
    }

    fn memcpy(&self, dwords: u32, source: u64, destination: u64) -> Result<(), Stop> {
        let mut done = 0;
        let len = 4 * u64::from(dwords);
        let mut buf = [0; 0x1000];
        while done < len {
            let n = (len - done).min(buf.len() as u64) as usize;
            self.read(Client::Cp, (source & !3).wrapping_add(done), &mut buf[..n])?;
            self.write(Client::Cp, (destination & !3).wrapping_add(done), &buf[..n])?;
            done += n as u64;
        }
        Ok(())
    }

    fn reg_to_mem(&self, p: &[u32]) -> Result<(), Stop> {
        let first = dword(p, 0) & 0x3_ffff;
        let wide = dword(p, 0) & (1 << 30) != 0;
        let accumulate = dword(p, 0) & (1 << 31) != 0;
        let mut count = ((dword(p, 0) >> 18) & 0xfff).max(1);
        let width = if wide { 2 } else { 1 };
        count = count.next_multiple_of(width);
        for n in (0..count).step_by(width as usize) {
            let to = qword(p, 1).wrapping_add(4 * u64::from(n)) & !3;
            let reg = |i| self.device.reg_read(first.wrapping_add(n + i));
            let mut value = u64::from(reg(0));
            let len = 4 * width as usize;
            if wide {
                value |= u64::from(reg(1)) << 32;
            }
            if accumulate {
                let mut old = [0; 8];
                self.read(Client::Cp, to, &mut old[..len])?;
                value = value.wrapping_add(u64::from_le_bytes(old));
            }
            self.write(Client::Cp, to, &value.to_le_bytes()[..len])?;
        }
        Ok(())
    }

    fn reg_rmw(&self, p: &[u32]) {
        let control = dword(p, 0);
        let reg = control & 0x3_ffff;
        let source = |value: u32, is_reg: bool| {
            if is_reg {
                self.device.reg_read(value & 0x3_ffff)
            } else {
                value
            }
        };
        let masked = self.device.reg_read(reg) & source(dword(p, 1), control >> 31 != 0);
        let rotated = masked.rotate_left((control >> 24) & 31);
        let other = source(dword(p, 2), control & (1 << 30) != 0);
        let value = if control & (1 << 29) != 0 {
            rotated.wrapping_add(other)
        } else {
            rotated | other
        };
        self.device.reg_write(reg, value);
    }

    fn register_condition(&self, p: &[u32]) -> bool {
        const BINNING: u32 = 2;
        const DIRECT: u32 = 1;
        let test = dword(p, 0);
        match test >> 28 {
            1 => (self.predicate.get() >> ((test >> 18) & 31)) & 1 != 0,
            2 => {
                self.device.reg_read(test & 0x3_ffff)
                    == self.device.reg_read(dword(p, 1) & 0x3_ffff)
            }
            3 => {
                let bit = match self.marker.get() {
                    BINNING => 25,
                    DIRECT => 27,
                    _ => 26,
                };
                (test >> bit) & 1 != 0
            }
            _ => true,
        }
    }

    /// The comparison of CP_WAIT_REG_MEM and CP_COND_WRITE5.
    fn polled(&self, p: &[u32]) -> Result<bool, Stop> {
        let memory = (dword(p, 0) >> 4) & 3 == 1;
        let value = if memory {
            self.read32(qword(p, 1))?
        } else {
            self.device.reg_read(dword(p, 1) & 0x3_ffff)
        };
        let (mut value, mut reference) = (value & dword(p, 4), dword(p, 3));
        if dword(p, 0) & (1 << 3) != 0 {
            // Signed: moves the sign where an unsigned comparison orders it.
            value ^= 1 << 31;
            reference ^= 1 << 31;
        }
        Ok(condition(dword(p, 0), value, reference))
    }

    /// Waits until a condition holds.
    fn poll(&self, mut holds: impl FnMut() -> Result<bool, Stop>) -> Result<(), Stop> {
        let mut pause = Duration::from_micros(20);
        while !holds()? {
            self.sleep(pause)
                // Only a reset has ended the wait.
                .inspect_err(|_| self.board().counters.bump(counter::HANGS))?;
            pause = (pause * 2).min(Duration::from_millis(1));
        }
        Ok(())
    }

    fn event_write(&self, p: &[u32]) -> Result<(), Stop> {
        const TIMESTAMP: u32 = 1 << 30;
        const IRQ: u32 = 1 << 31;
        if p.len() < 4 {
            return Ok(());
        }
        let job = p[0] & IRQ != 0;
        if job {
            self.delay()?;
            self.board().counters.bump(counter::JOBS);
        }
        if p[0] & TIMESTAMP != 0 {
            let ticks = self.device.gpu.ticks().to_le_bytes();
            self.write(Client::Cp, qword(p, 1) & !3, &ticks)?;
        } else {
            self.write32(qword(p, 1), p[3])?;
        }
        if job {
            self.device.smmu.check_watched(self.board());
            trace!(
                self.board().trace,
                "job seqno={} ttbr0={:#x}",
                p[3],
                self.device.smmu.current().0
            );
            self.board().trace.flush();
            self.delay()?;
            self.device.gpu.raise(self.board(), int::CACHE_FLUSH_TS);
        }
        Ok(())
    }

    /// Hangs until the GPU is reset.
    fn hang(&self, why: Hang) {
        let board = self.board();
        let gpu = &self.device.gpu;
        board.counters.bump(counter::HANGS);
        trace!(board.trace, "hang why={why:?}");
        board.trace.flush();
        {
            let mut control = gpu.control();
            if self.check_reset().is_err() {
                return;
            }
            control.activity = Activity::Hung;
        }
        match why {
            Hang::BadPacket(header) => {
                const OPCODE_ERROR: u32 = 1 << 0;
                gpu.regs.set(gpu::CP_SQE_STAT_DATA, header);
                gpu.regs.set_bits(gpu::CP_INTERRUPT_STATUS, OPCODE_ERROR);
                gpu.raise(board, int::CP_HW_ERROR);
            }
            Hang::HaltedOnFault => gpu.raise(board, int::HANG_DETECT),
            Hang::TooDeep | Hang::BadRecord => {}
        }
        let mut control = gpu.control();
        while self.check_reset().is_ok() {
            control = gpu.wait(control);
        }
    }
}

/// The CP's thread: waits for the ring to fill and runs it, for ever.
pub fn run(device: &Device) {
    loop {
        run_once(device);
    }
}

/// Waits for the ring to fill and runs it once.
fn run_once(device: &Device) {
    let gpu = &device.gpu;
    let (cp, rptr, wptr) = {
        let mut control = gpu.control();
        loop {
            let wptr = gpu.regs.get(gpu::CP_RB_WPTR);
            let switch = gpu.regs.get(preempt::CNTL) & preempt::STOP != 0;
            if gpu.running() && (control.rptr != wptr || switch) {
                control.activity = Activity::Busy;
                // Under the lock, so that a reset after this is noticed.
                break (Cp::new(device), control.rptr, wptr);
            }
            control = gpu.wait(control);
        }
    };
    match cp.run_ring(rptr, wptr).and_then(|()| cp.preempt()) {
        Ok(()) => {
            let mut control = gpu.control();
            if cp.check_reset().is_ok() {
                control.activity = Activity::Idle;
            }
        }
        Err(Stop::Reset) => {}
        Err(Stop::Hang(why)) => cp.hang(why),
    }
}

#[cfg(test)]
mod tests;
