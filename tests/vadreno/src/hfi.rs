// SPDX-License-Identifier: GPL-2.0-only

//! HFI: the messages between the kernel and the GMU, in queues in the kernel's memory, which the
//! GMU reaches by its own stream of the SMMU.
//!
//! A table names the queues: 0 has the kernel's commands, 1 the GMU's answers. Facts: Linux's
//! `a6xx_hfi.c` and `a6xx_hfi.h`.

use crate::device::Device;
use crate::smmu::{Access, Client, Fault, Origin};
use crate::trace;

/// Commands that the firmware of a GMU knows, and how it speaks.
#[derive(Debug)]
pub struct Protocol {
    /// Number, name and dwords of each command.
    pub commands: &'static [(u32, &'static str, usize)],
    /// The type that answers have.
    pub answer: u32,
    /// Messages begin at a multiple of so many dwords.
    pub align: u32,
    /// What answers FW_VERSION.
    pub version: u32,
}

/// FW_VERSION, which has more of an answer than others.
const FW_VERSION: u32 = 1;
/// Orders how fast the GPU is to be, and with it that it has power.
pub const GX_BW_PERF_VOTE: u32 = 30;
/// Orders that the GPU loses power.
pub const PREPARE_SLUMBER: u32 = 33;

/// Of GMUs whose power is managed by OOBs.
pub const V1: Protocol = Protocol {
    commands: &[
        (0, "init", 5),
        (FW_VERSION, "fw-version", 2),
        (3, "bw-table", 160),
        (4, "perf-table", 43),
        (5, "test", 1),
    ],
    answer: 2,
    align: 1,
    version: (1 << 28) | (10 << 16),
};

/// Of later ones, whose power the messages manage.
pub const V2: Protocol = Protocol {
    commands: &[
        (3, "bw-table", 160),
        (4, "perf-table", 59),
        (7, "acd-table", 37),
        (10, "start", 1),
        (11, "feature", 4),
        (14, "core-fw-start", 2),
        (GX_BW_PERF_VOTE, "vote", 4),
        (PREPARE_SLUMBER, "prepare-slumber", 3),
    ],
    answer: 1,
    align: 4,
    version: 0,
};

/// Number of an answer.
const F2H_ACK: u32 = 126;
/// What a command gets that isn't known, or has another size.
const REFUSED: u32 = 1;

/// Why the GMU can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Its memory is out of reach.
    Fault(Fault),
    /// The table or a queue makes no sense.
    Queue,
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn access(device: &Device, iova: u32, privileged: bool, access: Access<'_>) -> Result<(), Fault> {
    let origin = Origin {
        client: Client::Gmu,
        privileged,
    };
    let iova = u64::from(iova & !3);
    device.smmu.access(&device.board, origin, iova, access)
}

fn read(device: &Device, iova: u32) -> Result<u32, Fault> {
    let mut word = [0; 4];
    access(device, iova, false, Access::Read(&mut word))?;
    Ok(u32::from_le_bytes(word))
}

/// The GMU fetches an instruction, with privilege.
pub fn fetch(device: &Device, iova: u32) -> Result<u32, Fault> {
    let mut word = [0; 4];
    access(device, iova, true, Access::Read(&mut word))?;
    Ok(u32::from_le_bytes(word))
}

/// The GMU writes to memory.
pub fn write(device: &Device, iova: u32, value: u32) -> Result<(), Fault> {
    access(device, iova, false, Access::Write(&value.to_le_bytes()))
}

/// A queue, from its header.
#[derive(Debug)]
struct Queue {
    header: u32,
    base: u32,
    /// In dwords.
    size: u32,
    read: u32,
    write: u32,
}

impl Queue {
    const BASE: u32 = 4;
    const SIZE: u32 = 12;
    const READ: u32 = 40;
    const WRITE: u32 = 44;

    /// Queue `number` of a table.
    fn open(device: &Device, table: u32, number: u32) -> Result<Self, Broken> {
        let field = |at: u32| read(device, table.wrapping_add(at));
        let (first, step) = (field(8)?.wrapping_mul(4), field(12)?.wrapping_mul(4));
        if number >= field(16)? || step < Self::WRITE + 4 {
            return Err(Broken::Queue);
        }
        let header = table
            .wrapping_add(first)
            .wrapping_add(step.wrapping_mul(number));
        let field = |at: u32| read(device, header.wrapping_add(at));
        let queue = Self {
            header,
            base: field(Self::BASE)?,
            size: field(Self::SIZE)?,
            read: field(Self::READ)?,
            write: field(Self::WRITE)?,
        };
        let sane = (1..1 << 16).contains(&queue.size)
            && queue.read < queue.size
            && queue.write < queue.size;
        sane.then_some(queue).ok_or(Broken::Queue)
    }

    fn at(&self, index: u32) -> u32 {
        self.base.wrapping_add(4 * (index % self.size))
    }

    /// The next message, of which the first dword says how many there are.
    fn take(&mut self, device: &Device, align: u32) -> Result<Option<Vec<u32>>, Broken> {
        if self.read == self.write {
            return Ok(None);
        }
        let filled = (self.write + self.size - self.read) % self.size;
        let count = (read(device, self.at(self.read))? >> 8) & 0xff;
        if count == 0 || count.next_multiple_of(align) > filled {
            return Err(Broken::Queue);
        }
        let message = (0..count)
            .map(|n| read(device, self.at(self.read + n)))
            .collect::<Result<_, _>>()?;
        self.read = (self.read + count.next_multiple_of(align)) % self.size;
        write(device, self.header.wrapping_add(Self::READ), self.read)?;
        Ok(Some(message))
    }

    fn put(&mut self, device: &Device, align: u32, message: &[u32]) -> Result<(), Broken> {
        let count = (message.len() as u32).next_multiple_of(align);
        let free = self.size - 1 - (self.write + self.size - self.read) % self.size;
        if count > free {
            return Err(Broken::Queue);
        }
        for (n, word) in (0..).zip(message) {
            write(device, self.at(self.write + n), *word)?;
        }
        self.write = (self.write + count) % self.size;
        let at = self.header.wrapping_add(Self::WRITE);
        Ok(write(device, at, self.write)?)
    }
}

/// Whether the table at an address has a queue for commands and one for answers.
pub fn check(device: &Device, table: u32) -> Result<(), Broken> {
    Queue::open(device, table, 0)?;
    Queue::open(device, table, 1)?;
    Ok(())
}

/// Takes and answers all commands; what `order` returns for one is its error, 0 for none. Returns
/// how many there were.
pub fn serve(
    device: &Device,
    table: u32,
    protocol: &Protocol,
    mut order: impl FnMut(u32, &[u32]),
) -> Result<u32, Broken> {
    let mut commands = Queue::open(device, table, 0)?;
    let mut answers = Queue::open(device, table, 1)?;
    let mut served = 0;
    while let Some(message) = commands.take(device, protocol.align)? {
        let header = message[0];
        let id = header & 0xff;
        let known = protocol
            .commands
            .iter()
            .find(|(number, _, dwords)| *number == id && *dwords == message.len());
        trace!(
            device.board.trace,
            "hfi command={} id={id} dwords={} seq={}",
            known.map_or("unknown", |(_, name, _)| name),
            message.len(),
            header >> 20
        );
        let mut answer = vec![0, header, if known.is_some() { 0 } else { REFUSED }];
        if known.is_some() {
            order(id, &message);
            if id == FW_VERSION {
                answer.push(protocol.version);
            }
        }
        let dwords = answer.len() as u32;
        answer[0] = F2H_ACK | (dwords << 8) | (protocol.answer << 16) | (header & 0xfff0_0000);
        answers.put(device, protocol.align, &answer)?;
        served += 1;
    }
    Ok(served)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bypass_device, read32, write32, RAM};

    const TABLE: u32 = RAM as u32;
    const HEADERS: u64 = RAM + 24;
    const COMMANDS: u64 = RAM + 0x1000;
    const ANSWERS: u64 = RAM + 0x2000;
    const INIT: u32 = (7 << 20) | (5 << 8);

    /// A table of two queues of `size` dwords, as the kernel makes it.
    fn device(size: u32) -> Device {
        let device = bypass_device();
        for (n, word) in [0, 120, 6, 12, 2, 2].into_iter().enumerate() {
            write32(&device, RAM + 4 * n as u64, word);
        }
        for (header, base) in [(HEADERS, COMMANDS), (HEADERS + 48, ANSWERS)] {
            write32(&device, header + 4, base as u32);
            write32(&device, header + 12, size);
        }
        device
    }

    fn send(device: &Device, at: u32, words: &[u32]) {
        for (n, word) in (u64::from(at)..).zip(words) {
            write32(device, COMMANDS + 4 * n, *word);
        }
        write32(device, HEADERS + 44, at + words.len() as u32);
    }

    #[test]
    fn commands_are_answered_in_order() {
        let device = device(64);
        send(&device, 0, &[INIT, 0, 1, 2, 3, (8 << 20) | (2 << 8) | 1, 9]);
        let mut seen = Vec::new();
        let served = serve(&device, TABLE, &V1, |id, words| {
            seen.push((id, words.len()))
        });
        assert_eq!((served, seen), (Ok(2), vec![(0, 5), (1, 2)]));
        let answers: Vec<u32> = (0..7).map(|n| read32(&device, ANSWERS + 4 * n)).collect();
        assert_eq!(answers[..3], [0x0072_037e, INIT, 0]);
        assert_eq!(answers[3], 0x0082_047e);
        assert_eq!(answers[5..], [0, V1.version]);
        // Both queues have moved on.
        assert_eq!(read32(&device, HEADERS + 40), 7);
        assert_eq!(read32(&device, HEADERS + 48 + 44), 7);
        assert_eq!(serve(&device, TABLE, &V1, |_, _| panic!()), Ok(0));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let device = device(64);
        send(&device, 0, &[(1 << 8) | 99, 1 << 8]);
        assert_eq!(serve(&device, TABLE, &V1, |_, _| panic!()), Ok(2));
        assert_eq!(read32(&device, ANSWERS + 8), REFUSED);
        assert_eq!(read32(&device, ANSWERS + 20), REFUSED);
    }

    #[test]
    fn queues_wrap() {
        let device = device(8);
        for queue in [HEADERS, HEADERS + 48] {
            write32(&device, queue + 40, 6);
            write32(&device, queue + 44, 6);
        }
        send(&device, 6, &[INIT, 0]);
        for n in 0..3 {
            write32(&device, COMMANDS + 4 * n, 0);
        }
        write32(&device, HEADERS + 44, 3);
        assert_eq!(serve(&device, TABLE, &V1, |_, _| {}), Ok(1));
        assert_eq!(read32(&device, ANSWERS + 24), 0x0072_037e);
        assert_eq!(read32(&device, ANSWERS), 0);
        assert_eq!(read32(&device, HEADERS + 48 + 44), 1);
    }

    #[test]
    fn nonsense_breaks_it() {
        let serve = |device: &Device, table| serve(device, table, &V1, |_, _| panic!());
        // Without a queue, longer than what is there, of no length, without memory.
        let device = device(64);
        write32(&device, RAM + 16, 1);
        assert_eq!(check(&device, TABLE), Err(Broken::Queue));
        write32(&device, RAM + 16, 2);
        assert_eq!(check(&device, TABLE), Ok(()));
        send(&device, 0, &[INIT]);
        assert_eq!(serve(&device, TABLE), Err(Broken::Queue));
        send(&device, 0, &[0]);
        assert_eq!(serve(&device, TABLE), Err(Broken::Queue));
        write32(&device, HEADERS + 40, 64);
        assert_eq!(serve(&device, TABLE), Err(Broken::Queue));
        assert!(matches!(serve(&device, 0), Err(Broken::Fault(_))));
    }
}
